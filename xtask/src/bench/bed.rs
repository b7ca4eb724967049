//! Where measures run: a data directory of their own, the cluster in it, single components over its
//! certificates, and the load generator.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{command, output, run as execute};

const BINARY: &str = "target/release/corten";
const LOAD: &str = "target/release/load";
/// Hundredths of a second, on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

pub struct Bed {
    directory: PathBuf,
    port: u16,
}

impl Bed {
    pub fn new() -> Result<Bed> {
        let directory = std::env::temp_dir().join(format!("corten-bench-{}", std::process::id()));
        let port = TcpListener::bind("127.0.0.1:0").context("finding a free port")?.local_addr()?.port();
        Ok(Bed { directory, port })
    }

    /// A path in the data directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn data_dir(&self) -> String {
        self.directory.to_string_lossy().into_owned()
    }

    /// Starts the cluster.
    ///
    /// # Returns
    /// The seconds from the command's start until it says that the node is Ready.
    pub fn up(&self) -> Result<f64> {
        let (data, port) = (self.data_dir(), self.port.to_string());
        let begin = Instant::now();
        let said =
            output(&mut command(BINARY, &["up", "--data-dir", &data, "--secure-port", &port, "--detach"]))?;
        let taken = begin.elapsed().as_secs_f64();
        print!("{said}");
        Ok(taken)
    }

    /// Ends the cluster's process, and leaves its containers.
    pub fn stop(&self) -> Result<()> {
        end(self.cluster_pid()?)
    }

    /// Ends the cluster and its containers; certificates and images stay.
    pub fn down(&self) -> Result<()> {
        execute(&mut command(BINARY, &["down", "--data-dir", &self.data_dir()]))
    }

    /// Ends the cluster if it runs, and forgets everything.
    pub fn clear(&self) -> Result<()> {
        execute(&mut command(BINARY, &["down", "--data-dir", &self.data_dir(), "--purge"]))?;
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }

    pub fn cluster_pid(&self) -> Result<u32> {
        let path = self.path("corten.pid");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{} holds no process id", path.display()))
    }

    /// An image that sleeps, made of this machine's `sleep`.
    pub fn import_image(&self) -> Result<&'static str> {
        const NAME: &str = "bench.local/sleep:1";
        let file = self.path("sleep.tar");
        let program = Path::new("/usr/bin/sleep");
        oci::Image::new(NAME)
            .program(program, "/sleep")?
            .entrypoint(&["/sleep", "1000000"])
            .write_to(&file)?;
        execute(command(BINARY, &["image", "import", "--data-dir", &self.data_dir()]).arg(&file))?;
        Ok(NAME)
    }

    fn server(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Runs the load generator to its end and gives its result.
    pub fn load(&self, args: &[&str]) -> Result<Value> {
        let mut load = command(LOAD, &["--server", &self.server().to_string(), "--pki"]);
        load.arg(self.path("pki")).args(args);
        let said = output(&mut load)?;
        serde_json::from_str(&said).with_context(|| format!("reading the load generator's result: {said}"))
    }

    /// The API server alone, over the named store, with the cluster's certificates.
    pub fn api_server_command(&self, store: &str) -> Vec<String> {
        let pki = |name: &str| self.path("pki").join(name).to_string_lossy().into_owned();
        let port = self.port.to_string();
        let store = self.path(store).to_string_lossy().into_owned();
        let pairs = [
            ("--data-dir", store),
            ("--bind-address", "127.0.0.1".to_owned()),
            ("--secure-port", port),
            ("--tls-cert-file", pki("apiserver.crt")),
            ("--tls-private-key-file", pki("apiserver.key")),
            ("--client-ca-file", pki("ca.crt")),
            ("--service-account-signing-key-file", pki("sa.key")),
            ("--service-account-key-file", pki("sa.pub")),
        ];
        let mut words = vec![BINARY.to_owned(), "kube-apiserver".to_owned()];
        words.extend(pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        words
    }

    /// Starts the API server and waits until it is ready.
    pub fn api_server(&self, store: &str) -> Result<Process> {
        let words = self.api_server_command(store);
        let process = self.spawn("kube-apiserver", &words[1..])?;
        self.load(&["ready"])?;
        Ok(process)
    }

    /// Starts a component that works with the API server, under its upstream name.
    pub fn component(&self, name: &str) -> Result<Process> {
        let kubeconfig = self.path("admin.conf").to_string_lossy().into_owned();
        let mut words = vec![name.to_owned(), "--kubeconfig".to_owned(), kubeconfig];
        if name == "kube-controller-manager" {
            words.push("--root-ca-file".to_owned());
            words.push(self.path("pki/ca.crt").to_string_lossy().into_owned());
        }
        self.spawn(name, &words)
    }

    fn spawn(&self, name: &str, args: &[String]) -> Result<Process> {
        let log = self.path(&format!("bench-{name}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let child = command(BINARY, &[])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Process(child))
    }
}

/// A component in a process of its own; killed if it is not stopped.
pub struct Process(Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The process id as an argument.
    pub fn pid(&self) -> String {
        self.id().to_string()
    }

    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.0.try_wait()? {
            bail!("a component has ended by itself: {status}");
        }
        execute(&mut command("kill", &[&self.pid()]))?;
        self.0.wait().context("waiting for a component's end")?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Harmless after `stop`: the handle knows that the process was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks a process to end and waits for it.
fn end(pid: u32) -> Result<()> {
    execute(&mut command("kill", &[&pid.to_string()]))?;
    let begin = Instant::now();
    while runs(pid) {
        if begin.elapsed() > Duration::from_secs(30) {
            bail!("process {pid} has not ended within 30 s");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether a process is there and more than an entry that nobody has waited for.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|text| text.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
}

/// VmRSS and RssAnon, in MiB.
pub fn memory_mib(pid: u32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 =
            word.and_then(|word| word.parse().ok()).with_context(|| format!("no {name} in {path}"))?;
        Ok(kib / 1024.0)
    };
    Ok((field("VmRSS:")?, field("RssAnon:")?))
}

/// utime and stime of a process with all its threads, ended ones too.
pub fn processor_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name in parentheses may hold anything; utime is the 14th field, and the 12th after the name.
    let (_, fields) = text.rsplit_once(')').with_context(|| format!("reading {path}"))?;
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    let [user, system] = ticks[..] else { bail!("reading {path}: no times") };
    Ok((user + system) / TICKS)
}

/// The machine, and how busy it is with other things.
pub fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let kernel =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's version")?;
    let load = std::fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    Ok(format!("machine: {cores} cores, {model}, Linux {}; load average {}", kernel.trim(), load.trim()))
}
