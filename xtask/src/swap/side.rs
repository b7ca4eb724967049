//! One side of the swap: an API server, a gate before it, upstream's components and hollow nodes behind the gate.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Options;
use crate::bench::bed::{memory_mib, processor_seconds};
use crate::run::{command, output, run as execute};

/// How many hollow nodes there are.
pub const NODES: usize = 10;
/// Connections through the gate are cut this often.
const CUT: Duration = Duration::from_secs(150);
const READY: Duration = Duration::from_secs(120);
/// The Service `kubernetes` gets this address; no loopback address, which upstream refuses.
const ADVERTISED: &str = "192.0.2.1";

/// Whose API server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Corten,
    Upstream,
}

impl Make {
    pub fn name(self) -> &'static str {
        match self {
            Make::Corten => "corten",
            Make::Upstream => "upstream",
        }
    }
}

pub struct Side {
    pub make: Make,
    directory: PathBuf,
    options: Options,
    server: u16,
    gate: u16,
    etcd: u16,
    processes: Vec<Process>,
    /// What happened, with the seconds that it took.
    figures: Vec<Value>,
    begun: Instant,
}

/// A process that is started again when it ends by itself.
struct Process {
    name: &'static str,
    words: Vec<String>,
    child: Child,
    /// Processor time of those that ran before this one, and of this one when it was last looked at.
    used: f64,
    seen: f64,
    /// How the earlier ones ended by themselves.
    ended: Vec<String>,
}

impl Side {
    /// Makes certificates and starts everything.
    pub fn start(make: Make, options: &Options) -> Result<Side> {
        let directory = options.out.join(make.name());
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("removing {}", directory.display()))?;
        }
        std::fs::create_dir_all(directory.join("pki")).context("making the directory")?;
        let (server, gate, etcd) = (port()?, port()?, port()?);
        let mut side = Side {
            make,
            directory,
            options: options.clone(),
            server,
            gate,
            etcd,
            processes: Vec::new(),
            figures: Vec::new(),
            begun: Instant::now(),
        };
        side.certificates()?;
        if make == Make::Upstream {
            let words = side.etcd_words()?;
            side.spawn("etcd", words)?;
        }
        let words = side.api_server();
        side.spawn("kube-apiserver", words)?;
        side.ready()?;
        let hollow = side.options.hollow.to_string_lossy().into_owned();
        let (listen, to) = (format!("127.0.0.1:{gate}"), format!("127.0.0.1:{server}"));
        let every = CUT.as_secs().to_string();
        side.spawn("gate", strings(&[&hollow, "gate", "--listen", &listen, "--to", &to, "--every", &every]))?;
        let mut nodes = vec![hollow, "nodes".to_owned()];
        nodes.extend((1..=NODES).map(|number| side.path(&format!("hollow-{number}.conf"))));
        side.spawn("nodes", nodes)?;
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let words = side.component(name)?;
            side.spawn(name, words)?;
        }
        Ok(side)
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    fn pki(&self, name: &str) -> String {
        self.path(&format!("pki/{name}"))
    }

    /// Two CAs, the server's certificate, the key of service account tokens, and a kubeconfig for each client.
    fn certificates(&self) -> Result<()> {
        for name in ["ca", "front-proxy-ca"] {
            self.authority(name)?;
        }
        self.key("sa")?;
        openssl(&mut command(
            "openssl",
            &["pkey", "-in", &self.pki("sa.key"), "-pubout", "-out", &self.pki("sa.pub")],
        ))?;
        let names =
            format!("subjectAltName=IP:127.0.0.1,IP:10.96.0.1,IP:{ADVERTISED},DNS:localhost,DNS:kubernetes");
        self.certificate("apiserver", "/CN=kube-apiserver", &names)?;
        self.client("admin", "/O=system:masters/CN=admin", self.server)?;
        for name in ["kube-controller-manager", "kube-scheduler"] {
            self.client(name, &format!("/CN=system:{name}"), self.gate)?;
        }
        for number in 1..=NODES {
            let name = format!("hollow-{number}");
            self.client(&name, &format!("/O=system:nodes/CN=system:node:{name}"), self.gate)?;
        }
        Ok(())
    }

    fn authority(&self, name: &str) -> Result<()> {
        self.key(name)?;
        let (key, file) = (self.pki(&format!("{name}.key")), self.pki(&format!("{name}.crt")));
        let subject = format!("/CN={name}");
        let mut made = command("openssl", &["req", "-x509", "-new", "-days", "2", "-subj", &subject]);
        made.args(["-addext", "keyUsage=critical,keyCertSign,digitalSignature", "-key", &key, "-out", &file]);
        openssl(&mut made)
    }

    fn key(&self, name: &str) -> Result<()> {
        let file = self.pki(&format!("{name}.key"));
        let curve = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &file];
        openssl(&mut command("openssl", &curve))
    }

    fn certificate(&self, name: &str, subject: &str, extension: &str) -> Result<()> {
        self.key(name)?;
        let mut made = command("openssl", &["req", "-x509", "-new", "-days", "2", "-subj", subject]);
        made.args(["-addext", extension, "-addext", "basicConstraints=critical,CA:FALSE"]);
        made.args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"]);
        made.args(["-CA", &self.pki("ca.crt"), "-CAkey", &self.pki("ca.key")]);
        made.args(["-key", &self.pki(&format!("{name}.key")), "-out", &self.pki(&format!("{name}.crt"))]);
        openssl(&mut made)
    }

    /// A certificate and a kubeconfig that names it and the port.
    fn client(&self, name: &str, subject: &str, port: u16) -> Result<()> {
        self.certificate(name, subject, "keyUsage=critical,digitalSignature")?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "swap",
            "clusters": [{"name": "swap", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "certificate-authority": self.pki("ca.crt"),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate": self.pki(&format!("{name}.crt")), "client-key": self.pki(&format!("{name}.key")),
            }}],
            "contexts": [{"name": "swap", "context": {"cluster": "swap", "user": name}}],
        });
        std::fs::write(self.path(&format!("{name}.conf")), config.to_string()).context("writing a kubeconfig")
    }

    fn etcd_words(&self) -> Result<Vec<String>> {
        let (clients, peers) = (self.etcd_url(), format!("http://127.0.0.1:{}", port()?));
        let program = self.options.etcd.to_string_lossy().into_owned();
        let mut words =
            vec![program, format!("--data-dir={}", self.path("etcd")), format!("--listen-peer-urls={peers}")];
        words.push(format!("--listen-client-urls={clients}"));
        words.push(format!("--advertise-client-urls={clients}"));
        words.push("--listen-metrics-urls=".to_owned());
        Ok(words)
    }

    fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }

    /// The same flags for both makes, as kubeadm sets them, but for where the data lies.
    fn api_server(&self) -> Vec<String> {
        let mut words = match self.make {
            Make::Corten => {
                let program = self.options.corten.to_string_lossy().into_owned();
                vec![program, "kube-apiserver".to_owned(), format!("--data-dir={}", self.path("store"))]
            }
            Make::Upstream => {
                let program = self.options.upstream.join("kube-apiserver").to_string_lossy().into_owned();
                vec![program, format!("--etcd-servers={}", self.etcd_url())]
            }
        };
        for (flag, value) in [
            ("bind-address", "127.0.0.1".to_owned()),
            ("advertise-address", ADVERTISED.to_owned()),
            ("secure-port", self.server.to_string()),
            ("tls-cert-file", self.pki("apiserver.crt")),
            ("tls-private-key-file", self.pki("apiserver.key")),
            ("client-ca-file", self.pki("ca.crt")),
            ("requestheader-client-ca-file", self.pki("front-proxy-ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".to_owned()),
            ("requestheader-username-headers", "X-Remote-User".to_owned()),
            ("requestheader-group-headers", "X-Remote-Group".to_owned()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("service-cluster-ip-range", "10.96.0.0/12".to_owned()),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
            ("service-account-key-file", self.pki("sa.pub")),
            ("service-account-signing-key-file", self.pki("sa.key")),
        ] {
            words.push(format!("--{flag}={value}"));
        }
        words
    }

    /// As kubeadm starts it: nothing set that says how it works, only where things lie.
    fn component(&self, name: &str) -> Result<Vec<String>> {
        let config = self.path(&format!("{name}.conf"));
        let mut words = vec![self.options.upstream.join(name).to_string_lossy().into_owned()];
        for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            words.push(format!("--{flag}={config}"));
        }
        words.push("--bind-address=127.0.0.1".to_owned());
        words.push("--leader-elect=true".to_owned());
        words.push(format!("--secure-port={}", port()?));
        if name == "kube-controller-manager" {
            words.push("--use-service-account-credentials=true".to_owned());
            words.push(format!("--controllers={}", self.options.controllers));
            for (flag, file) in [
                ("root-ca-file", "ca.crt"),
                ("service-account-private-key-file", "sa.key"),
                ("cluster-signing-cert-file", "ca.crt"),
                ("cluster-signing-key-file", "ca.key"),
            ] {
                words.push(format!("--{flag}={}", self.pki(file)));
            }
        }
        Ok(words)
    }

    fn log(&self, name: &str) -> Result<File> {
        let path = self.path(&format!("{name}.log"));
        OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("opening {path}"))
    }

    fn launch(&self, name: &str, words: &[String]) -> Result<Child> {
        let [program, args @ ..] = words else { bail!("{name} has no program") };
        let log = self.log(name)?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("starting {program}"))
    }

    fn spawn(&mut self, name: &'static str, words: Vec<String>) -> Result<()> {
        let child = self.launch(name, &words)?;
        self.processes.push(Process { name, words, child, used: 0.0, seen: 0.0, ended: Vec::new() });
        Ok(())
    }

    /// Starts again what has ended by itself, and notes it. Called while the script waits.
    fn tend(&mut self) -> Result<()> {
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            if let Some(status) = process.child.try_wait()? {
                process.used += std::mem::take(&mut process.seen);
                process.ended.push(format!("{status} after {} s", self.begun.elapsed().as_secs()));
                let (name, words) = (process.name, process.words.clone());
                self.say(&format!("{name} has ended by itself: {status}"));
                let child = self.launch(name, &words)?;
                self.processes[index].child = child;
            } else if let Ok(seen) = processor_seconds(process.child.id()) {
                process.seen = seen;
            }
        }
        Ok(())
    }

    /// Ends the API server, by the signal, and starts it again.
    pub fn restart_server(&mut self, signal: &str) -> Result<()> {
        let begin = Instant::now();
        let index = self.processes.iter().position(|process| process.name == "kube-apiserver");
        let index = index.context("there is no API server")?;
        let process = &mut self.processes[index];
        let id = process.child.id();
        process.used += processor_seconds(id)?;
        execute(&mut command("kill", &["-s", signal, &id.to_string()]))?;
        process.child.wait().context("waiting for the API server's end")?;
        let down = begin.elapsed();
        let words = process.words.clone();
        let child = self.launch("kube-apiserver", &words)?;
        self.processes[index].child = child;
        self.ready()?;
        self.figure(&format!("API server ended by {signal}"), down);
        self.figure(&format!("API server ready again after {signal}"), begin.elapsed());
        Ok(())
    }

    /// Waits until the API server says that it is ready.
    fn ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        while self.kubectl(&["get", "--raw", "/readyz"]).is_err() {
            if begin.elapsed() > READY {
                bail!("the API server is not ready after {} s", READY.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Waits, and keeps everything running meanwhile.
    pub fn rest(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        self.tend()?;
        while let Some(left) = time.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(Duration::from_secs(1)));
            self.tend()?;
        }
        Ok(())
    }

    /// What kubectl prints.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        output(self.kubectl_command().args(args))
    }

    fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.options.kubectl);
        command.args(["--kubeconfig", &self.path("admin.conf"), "--cache-dir", &self.path("cache")]);
        command
    }

    /// Reads something as JSON.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let mut words = vec!["get", "-o", "json"];
        words.extend(args);
        serde_json::from_str(&self.kubectl(&words)?).context("reading what kubectl printed")
    }

    /// `kubectl apply` of a few objects.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let mut command = self.kubectl_command();
        command
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting kubectl")?;
        child.stdin.take().context("kubectl takes nothing")?.write_all(list.as_bytes())?;
        let said = child.wait_with_output().context("waiting for kubectl")?;
        if !said.status.success() {
            bail!("kubectl apply: {}", String::from_utf8_lossy(&said.stderr));
        }
        Ok(())
    }

    /// A CertificateSigningRequest with a new key.
    pub fn certificate_request(&self) -> Result<Value> {
        self.key("request")?;
        let mut made = command("openssl", &["req", "-new", "-subj", "/CN=swap-client"]);
        let text = output(made.args(["-key", &self.pki("request.key")]))?;
        Ok(json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "swap"},
            "spec": {
                "request": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text),
                "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            },
        }))
    }

    pub fn say(&self, what: &str) {
        println!("[{:>8} {:>4} s] {what}", self.make.name(), self.begun.elapsed().as_secs());
    }

    /// Notes how long something took.
    pub fn figure(&mut self, what: &str, time: Duration) {
        self.say(&format!("{what}: {:.1} s", time.as_secs_f64()));
        self.figures.push(json!({"what": what, "seconds": time.as_secs_f64()}));
    }

    /// Writes down the state of everything and what each process has used.
    pub fn keep(&mut self) -> Result<()> {
        let mut used = Vec::new();
        for process in &self.processes {
            let id = process.child.id();
            let (resident, anonymous) = memory_mib(id)?;
            used.push(json!({
                "name": process.name, "processorSeconds": process.used + processor_seconds(id)?,
                "residentMiB": resident, "anonymousMiB": anonymous, "ended": process.ended,
            }));
        }
        let kinds = self.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
        let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "events.events.k8s.io").collect();
        let state = self.get(&[&kinds.join(","), "--all-namespaces", "--show-managed-fields"])?;
        let figures = json!({"processes": used, "figures": self.figures, "resources": kinds});
        self.write("figures.json", &figures)?;
        self.write("state.json", &state)
    }

    fn write(&self, name: &str, value: &Value) -> Result<()> {
        let path = self.path(name);
        std::fs::write(&path, serde_json::to_string_pretty(value)?).with_context(|| format!("writing {path}"))
    }

    /// Ends everything, the last started first.
    pub fn stop(&mut self) {
        while let Some(mut process) = self.processes.pop() {
            // It may have ended by itself; then there is nothing to end.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.stop();
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("finding a free port")?.local_addr()?.port())
}

fn openssl(command: &mut Command) -> Result<()> {
    output(command.stderr(Stdio::piped())).map(drop)
}

/// The log of a component on a side.
pub fn log_of(out: &Path, make: Make, name: &str) -> Result<String> {
    let path = out.join(make.name()).join(format!("{name}.log"));
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}
