//! [kube-rs](https://kube.rs) as a client under test: an API server of our own, a process with upstream's flags, for
//! the tests in `tests/` to speak to.
//!
//! This is a package of its own, since what kube-rs asks of shared dependencies would otherwise have them built a
//! second time for every test of the binary. The binary is the one beside the tests in the target directory:
//! `cargo build -p corten` makes it, and so do the tests of the whole workspace.

#[path = "../../../crates/corten/src/certificates/issue.rs"]
mod issue;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use issue::{Authority, Subject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long anything may take before it counts as hanging. It ends hanging tests, it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A `corten kube-apiserver` with a store, certificates and a port of its own. Dropping it ends it.
pub struct Server {
    dir: tempfile::TempDir,
    port: u16,
    authority: Authority,
    child: Option<Child>,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub async fn start() -> Result<Server> {
        let now = jiff::Timestamp::now();
        let port = TcpListener::bind((ADDRESS, 0))?.local_addr()?.port();
        let authority = Authority::new("kubernetes", None, now)?;
        let mut server = Server { dir: tempfile::tempdir()?, port, authority, child: None };
        server.write("ca.crt", &server.authority.pair.certificate)?;
        server.write("sa.key", &issue::service_account_key()?.0)?;
        let names = vec!["kubernetes".to_owned(), "localhost".to_owned()];
        let subject = Subject::server("kube-apiserver", names, vec![ADDRESS]);
        let pair = server.authority.sign(&subject, now)?;
        server.write("apiserver.crt", &pair.certificate)?;
        server.write("apiserver.key", &pair.key)?;
        server.resume().await?;
        Ok(server)
    }

    /// Ends the process as an operator would, with its store left behind.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let begin = Instant::now();
        while child.try_wait()?.is_none() {
            if begin.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("the API server did not end by itself");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts the process again, on the same port and store.
    pub async fn resume(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let path = |name: &str| self.path(name).display().to_string();
        let mut command = Command::new(corten()?);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.arg("kube-apiserver").args([
            format!("--data-dir={}", path("store")),
            format!("--bind-address={ADDRESS}"),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", path("apiserver.crt")),
            format!("--tls-private-key-file={}", path("apiserver.key")),
            format!("--client-ca-file={}", path("ca.crt")),
            format!("--service-account-key-file={}", path("sa.key")),
            format!("--service-account-signing-key-file={}", path("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--etcd-compaction-interval=1s".to_owned(),
        ]);
        self.child = Some(command.spawn().context("starting the API server")?);
        let client = self.client().await?;
        let begin = Instant::now();
        loop {
            let ready = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(ready).await.is_ok() {
                return Ok(());
            }
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || begin.elapsed() > PATIENCE {
                bail!("the API server is not ready:\n{}", std::fs::read_to_string(self.path("log"))?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A client that may do everything, with a connection of its own.
    pub async fn client(&self) -> Result<Client> {
        self.client_of("kubernetes-admin", &["system:masters"]).await
    }

    /// A client with a certificate for this user and these groups.
    pub async fn client_of(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let pair = self.authority.sign(&Subject::client(user, groups), jiff::Timestamp::now())?;
        let (certificate, key) = (format!("{user}.crt"), format!("{user}.key"));
        self.write(&certificate, &pair.certificate)?;
        self.write(&key, &pair.key)?;
        let (certificate, key) = (self.path(&certificate), self.path(&key));
        let files = format!("client-certificate: {}, client-key: {}", certificate.display(), key.display());
        self.connect(&files).await
    }

    /// A client with a bearer token and no certificate.
    pub async fn client_with_token(&self, token: &str) -> Result<Client> {
        self.connect(&format!("token: {token}")).await
    }

    /// As a user would: by a kubeconfig, with `user` in it.
    async fn connect(&self, user: &str) -> Result<Client> {
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c,\n\
             clusters: [{{name: c, cluster: {{server: 'https://{ADDRESS}:{}', certificate-authority: {}}}}}],\n\
             contexts: [{{name: c, context: {{cluster: c, user: u, namespace: default}}}}],\n\
             users: [{{name: u, user: {{{user}}}}}]}}\n",
            self.port,
            self.path("ca.crt").display(),
        );
        let kubeconfig = Kubeconfig::from_yaml(&text)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // a refusal with Retry-After is an answer here
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.path(name), text).with_context(|| format!("writing {name}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.stop();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("=== kube-apiserver\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        } else {
            stopped.expect("the API server ends when it is told to");
        }
    }
}

/// The program: `CORTEN` in the environment, or the one beside the directory of the tests.
pub fn corten() -> Result<PathBuf> {
    let path = match std::env::var_os("CORTEN") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe()?;
            test.parent()
                .and_then(Path::parent)
                .context("a test outside of a target directory")?
                .join("corten")
        }
    };
    ensure!(path.is_file(), "{} is not there: cargo build -p corten", path.display());
    Ok(path)
}
