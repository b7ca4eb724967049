//! The process: start or take over, wait until it answers, watch, start again, stop.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Config, Error};
use crate::Client;

/// How long a containerd may take to answer. A cold disk with many snapshots needs its time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// A log beyond this size is moved aside at start.
const MAX_LOG: u64 = 16 << 20;

#[derive(Debug, Clone)]
enum State {
    Starting,
    Ready,
    Failed(String),
    Stopped,
}

/// A containerd about to be run.
#[derive(Debug)]
pub struct Containerd {
    config: Config,
    binary: PathBuf,
    /// Whether the configuration on disk is new, so that a running process has to be replaced.
    changed: bool,
    state: watch::Sender<State>,
    handle: Handle,
}

/// What others need of a running containerd.
#[derive(Debug, Clone)]
pub struct Handle {
    state: watch::Receiver<State>,
    client: Client,
}

impl Handle {
    /// Waits until the CRI answers. Errors with the last fault when the process keeps dying, or was stopped.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut state = self.state.clone();
        let answer = match state.wait_for(|s| !matches!(s, State::Starting)).await {
            Ok(now) => match &*now {
                State::Ready => Ok(()),
                State::Failed(why) => Err(Some(why.clone())),
                State::Starting | State::Stopped => Err(None),
            },
            Err(_) => Err(None),
        };
        answer.map_err(|why| match why {
            Some(why) => Error::Failed(why),
            None => Error::Stopped,
        })
    }

    /// A client of its CRI; usable before it is ready, and across restarts.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

enum Process {
    Child(tokio::process::Child),
    /// Started by an earlier run: not our child.
    Adopted(Pid),
}

impl Process {
    fn pid(&self) -> Option<Pid> {
        match self {
            Process::Child(child) => child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw),
            Process::Adopted(pid) => Some(*pid),
        }
    }
}

impl Containerd {
    /// Checks that the programs exist and writes the configuration. Must be called within a tokio runtime.
    pub fn build(config: Config) -> Result<Containerd, Error> {
        let missing = |program, binary: &Path, package| Error::NotInstalled {
            program,
            binary: binary.to_owned(),
            package,
        };
        let binary =
            find(&config.binary).ok_or_else(|| missing("containerd", &config.binary, "containerd"))?;
        for runtime in &config.runtimes {
            let path = Path::new(&runtime.binary);
            find(path).ok_or_else(|| missing("the container runtime", path, "runc"))?;
        }
        if config.socket.as_os_str().len() > 101 {
            return Err(Error::SocketPath { path: config.socket.clone() });
        }
        let changed = write_all(&config)?;
        let (state, receiver) = watch::channel(State::Starting);
        let handle = Handle { state: receiver, client: Client::lazy(&config.endpoint())? };
        Ok(Containerd { config, binary, changed, state, handle })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs containerd until `shutdown`: takes over one that is left from an earlier run, starts it again with
    /// back-off (0.2 s doubling to 10 s) when it ends. At `shutdown` the process is stopped; containers stay.
    /// Errors only when it cannot be started at all at the first attempt.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut backoff = Duration::from_millis(200);
        let mut first = true;
        loop {
            let started = tokio::time::Instant::now();
            let outcome = self.once(&shutdown).await;
            if shutdown.is_cancelled() {
                let _ = self.state.send(State::Stopped);
                return Ok(());
            }
            match outcome {
                Ok(how) => {
                    tracing::warn!("containerd ended ({how}); its containers go on; starting it again");
                    self.state.send_replace(State::Starting);
                }
                Err(error) if first => {
                    self.state.send_replace(State::Failed(error.to_string()));
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!("{error}");
                    self.state.send_replace(State::Failed(error.to_string()));
                }
            }
            first = false;
            if started.elapsed() > Duration::from_secs(60) {
                backoff = Duration::from_millis(200);
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(Duration::from_secs(10));
        }
    }

    /// One life of the process; the answer says how it ended.
    async fn once(&mut self, shutdown: &CancellationToken) -> Result<String, Error> {
        let mut process = self.start().await?;
        let ready = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            r = self.await_ready(&mut process) => r,
        };
        if let Err(error) = ready {
            stop(&mut process).await;
            return Err(error);
        }
        self.state.send_replace(State::Ready);
        let how = tokio::select! {
            biased;
            () = shutdown.cancelled() => {
                stop(&mut process).await;
                let _ = fs::remove_file(self.config.pid_file());
                "shut down".to_owned()
            }
            how = ended(&mut process, &self.config.socket) => how,
        };
        Ok(how)
    }

    async fn start(&mut self) -> Result<Process, Error> {
        if let Some(pid) = left_over(&self.config) {
            if !self.changed {
                tracing::info!(pid = pid.as_raw(), "taking over the containerd of an earlier run");
                return Ok(Process::Adopted(pid));
            }
            tracing::info!(
                pid = pid.as_raw(),
                "replacing the containerd of an earlier run: new configuration"
            );
            stop(&mut Process::Adopted(pid)).await;
        }
        self.changed = false;
        let config = &self.config;
        let log = open_log(&config.log).map_err(|source| Error::Io {
            doing: "opening containerd's log",
            path: config.log.clone(),
            source,
        })?;
        let again = log.try_clone().map_err(|source| Error::Io {
            doing: "opening containerd's log",
            path: config.log.clone(),
            source,
        })?;
        let _ = fs::remove_file(&config.socket);
        // In a process group of its own, so that Ctrl-C in a terminal does not reach it: it is stopped in order.
        let child = tokio::process::Command::new(&self.binary)
            .arg("--config")
            .arg(config.path())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(again))
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Io { doing: "starting", path: self.binary.clone(), source })?;
        if let Some(id) = child.id() {
            let path = config.pid_file();
            fs::write(&path, id.to_string()).map_err(|source| Error::Io {
                doing: "writing the pid file",
                path,
                source,
            })?;
        }
        Ok(Process::Child(child))
    }

    async fn await_ready(&self, process: &mut Process) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        let mut last = "no answer".to_owned();
        let mut pause = Duration::from_millis(10);
        while tokio::time::Instant::now() < deadline {
            if self.config.socket.exists() {
                match self.handle.client.condition("RuntimeReady").await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(message)) => last = message,
                    Err(error) if error.is_unimplemented() => {
                        let log = self.config.log.clone();
                        return Err(Error::NoCri { tail: tail(&log), log });
                    }
                    Err(error) => last = error.to_string(),
                }
            }
            let status = match process {
                Process::Child(child) => child.try_wait().ok().flatten().map(|s| s.to_string()),
                Process::Adopted(pid) => (!alive(*pid)).then(|| "gone".to_owned()),
            };
            if let Some(status) = status {
                let log = self.config.log.clone();
                return Err(Error::Ended { status, tail: tail(&log), log });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(250));
        }
        Err(Error::NotReady { seconds: READY_WITHIN.as_secs(), last, log: self.config.log.clone() })
    }
}

/// Ends a containerd that an earlier run left, with all its sandboxes and containers, and removes what it keeps
/// below its state directory. For taking a cluster down for good; the root directory is the caller's to delete.
pub async fn remove_all(config: &Config) -> Result<(), Error> {
    let shutdown = CancellationToken::new();
    let containerd = Containerd::build(config.clone())?;
    let handle = containerd.handle();
    let work = async {
        handle.ready().await?;
        let client = handle.client();
        for sandbox in client.list_pod_sandboxes(None).await? {
            client.stop_pod_sandbox(&sandbox.id).await?;
            client.remove_pod_sandbox(&sandbox.id).await?;
        }
        Ok::<(), Error>(())
    };
    let running = containerd.run(shutdown.clone());
    let (ran, worked) = tokio::join!(running, async {
        let worked = work.await;
        shutdown.cancel();
        worked
    });
    ran?;
    worked
}

/// A program by path or in the search path; system directories are searched too, since a user's path may lack
/// them.
fn find(program: &Path) -> Option<PathBuf> {
    let runs = |p: &Path| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if program.components().count() > 1 {
        return runs(program).then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|d| d.join(program)).find(|p| runs(p))
}

/// Writes the configuration; answers whether containerd's own file differs from what was there.
fn write_all(config: &Config) -> Result<bool, Error> {
    let make = |path: &Path| {
        fs::create_dir_all(path).map_err(|source| Error::Io {
            doing: "making the directory",
            path: path.to_owned(),
            source,
        })
    };
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|source| Error::Io { doing: "writing", path: path.to_owned(), source })
    };
    for dir in [&config.root, &config.state, &config.cni_conf_dir, &config.certs_dir()] {
        make(dir)?;
    }
    for path in [&config.socket, &config.log] {
        if let Some(dir) = path.parent() {
            make(dir)?;
        }
    }
    // Read by containerd at each pull: no restart needed when they change.
    for mirror in &config.mirrors {
        let dir = config.certs_dir().join(&mirror.registry);
        make(&dir)?;
        write(&dir.join("hosts.toml"), &mirror.hosts_toml())?;
    }
    let (path, text) = (config.path(), config.toml());
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    write(&path, &text)?;
    Ok(true)
}

fn open_log(path: &Path) -> io::Result<fs::File> {
    if fs::metadata(path).is_ok_and(|m| m.len() > MAX_LOG) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of a log, for an error.
fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(1000)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

fn alive(pid: Pid) -> bool {
    // A process that nobody has waited for still has its number.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// The containerd of an earlier run with this very configuration file, when it still runs.
fn left_over(config: &Config) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(config.pid_file()).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let path = config.path();
    let ours = line.split(|b| *b == 0).any(|arg| arg == path.as_os_str().as_encoded_bytes());
    (ours && alive(Pid::from_raw(pid))).then(|| Pid::from_raw(pid))
}

/// Waits for the end of the process.
async fn ended(process: &mut Process, socket: &Path) -> String {
    let pid = match process {
        Process::Child(child) => {
            return match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
        }
        Process::Adopted(pid) => *pid,
    };
    // Not our child: a connection that breaks tells of its end, without a timer. containerd itself closes
    // connections on which nothing is said, every two minutes.
    while alive(pid) {
        if let Ok(mut connection) = tokio::net::UnixStream::connect(socket).await {
            let mut buffer = [0; 64];
            while matches!(connection.read(&mut buffer).await, Ok(n) if n > 0) {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    "gone".to_owned()
}

/// SIGTERM, and SIGKILL when that does not help.
async fn stop(process: &mut Process) {
    let Some(pid) = process.pid() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let _ = kill(pid, signal);
        let gone = async {
            match process {
                Process::Child(child) => {
                    let _ = child.wait().await;
                }
                Process::Adopted(_) => {
                    while alive(pid) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        };
        if tokio::time::timeout(STOP_WITHIN, gone).await.is_ok() {
            return;
        }
    }
    tracing::warn!(pid = pid.as_raw(), "containerd does not end");
}
