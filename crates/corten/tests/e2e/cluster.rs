//! A cluster for one test, and programs run against it.

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const CORTEN: &str = env!("CARGO_BIN_EXE_corten");
/// The image that all pods of these tests run.
pub const IMAGE: &str = "e2e.local/busybox:1";
/// The same with another name, for updates.
pub const IMAGE_2: &str = "e2e.local/busybox:2";

/// How long a command may take before it counts as hanging.
const COMMAND: Duration = Duration::from_secs(120);
/// How long [`eventually`] waits. Far beyond what anything takes: it ends hanging tests, it measures nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Says where the test is; the last of these lines before a failure names the step that failed.
pub fn step(name: &str) {
    eprintln!("--- {name}");
}

/// Asks again and again until it is so.
#[track_caller]
pub fn eventually<T, E: Display>(what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(error) if begin.elapsed() > PATIENCE => {
                panic!("{what}: not so after {} s; at last: {error}", PATIENCE.as_secs())
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// What a program has said, and how it ended.
#[derive(Debug)]
pub struct Said {
    command: String,
    /// -1 when a signal or this suite's time limit ended it.
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ended with {}\n{}{}", self.command, self.code, self.out, self.err)
    }
}

impl Said {
    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Said {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// It must have failed with an exit code of its own.
    #[track_caller]
    pub fn fails(self) -> Said {
        assert!(self.code > 0, "{self}");
        self
    }

    /// Each of these must be among what it said.
    #[track_caller]
    pub fn has(self, words: &[&str]) -> Said {
        for word in words {
            assert!(self.out.contains(word) || self.err.contains(word), "lacks {word:?}: {self}");
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// For [`eventually`]: success, or everything it said as the error.
    pub fn done(self) -> Result<Said, Said> {
        if self.code == 0 { Ok(self) } else { Err(self) }
    }

    /// For [`eventually`]: done, and with exactly this output.
    pub fn is(self, expect: &str) -> Result<Said, Said> {
        if self.code == 0 && self.out.trim() == expect { Ok(self) } else { Err(self) }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, std::thread::JoinHandle<()>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = all.clone();
    let thread = std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut part) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&part[..length]);
        }
    });
    (all, thread)
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Runs a program to its end; one that hangs is killed.
pub fn run(command: &mut Command, input: &str) -> Said {
    let name =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = command.get_args().fold(name, |name, arg| format!("{name} {}", arg.to_string_lossy()));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("starting {name}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program may end without reading all its input.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let (out, out_thread) = collect(child.stdout.take().unwrap());
    let (err, err_thread) = collect(child.stderr.take().unwrap());
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begin.elapsed() > COMMAND {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if status.is_some() {
        for thread in [out_thread, err_thread] {
            let _ = thread.join();
        }
        let _ = writer.join();
    }
    let mut err = text(&err);
    if status.is_none() {
        err.push_str("\n(killed: it did not end)");
    }
    Said { command: name, code: status.and_then(|status| status.code()).unwrap_or(-1), out: text(&out), err }
}

/// A program that goes on until this is dropped.
pub struct Background {
    child: Mutex<Child>,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

impl Background {
    pub fn start(command: &mut Command) -> Background {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let (out, _) = collect(child.stdout.take().unwrap());
        let (err, _) = collect(child.stderr.take().unwrap());
        Background { child: Mutex::new(child), out, err }
    }

    pub fn out(&self) -> String {
        text(&self.out)
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child().id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// For [`eventually`]: its end, or what it has said instead.
    pub fn ended(&self) -> Result<std::process::ExitStatus, String> {
        let ended = self.child().try_wait().unwrap();
        ended.ok_or_else(|| format!("{}{}", self.out(), text(&self.err)))
    }

    /// Waits until its output is as wanted.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(what, || {
            let out = self.out();
            if wanted(&out) { Ok(out) } else { Err(format!("{out}{}", text(&self.err))) }
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child().kill();
        let _ = self.child().wait();
    }
}

/// The program of this name on the path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The other versions of kubectl that lie beside the path's one, oldest first.
pub fn kubectls() -> Vec<PathBuf> {
    let Some(first) = find("kubectl").and_then(|path| path.canonicalize().ok()) else { return Vec::new() };
    let beside = first.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = beside
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("kubectl.1."))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whether this machine can run a cluster. Where it must (`CI` is set), what is missing is a failure.
pub fn able() -> bool {
    let mut missing: Vec<&str> = ["kubectl", "containerd", "runc", "nft", "busybox", "curl"]
        .into_iter()
        .filter(|program| find(program).is_none())
        .collect();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root");
    }
    // The kubelet's threshold for DiskPressure: its node would take no pods.
    if linux::mount::usage(Path::new("/tmp")).is_ok_and(|disk| disk.available < disk.capacity / 10) {
        missing.push("a tenth of its disk free");
    }
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "this machine lacks {missing:?}");
    if !missing.is_empty() {
        eprintln!("skipped: this machine lacks {missing:?}");
    }
    missing.is_empty()
}

/// The processes of a container, which its control groups name.
pub fn container_processes(id: &str) -> Vec<i32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<i32> = all
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(id))
        })
        .collect();
    found.sort_unstable();
    found
}

/// A port that nobody uses at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// Writes an archive with busybox, and with curl: a static busybox cannot look names up.
pub fn busybox_archive(name: &str, to: &Path) {
    oci::Image::new(name)
        .busybox(&find("busybox").unwrap())
        .unwrap()
        .program(&find("curl").unwrap(), "/bin/curl")
        .unwrap()
        .env("PATH", "/bin:/usr/bin")
        .write_to(to)
        .unwrap();
}

/// A cluster in a data directory of its own. Dropping it stops it and removes everything.
pub struct Cluster {
    _temporary: TempDir,
    pub dir: PathBuf,
    /// What kubectl keeps and what the test writes; survives `down --purge`.
    pub home: PathBuf,
    pub port: u16,
    flags: Vec<String>,
}

impl Cluster {
    /// Starts a cluster with the test's images; `None` where this machine cannot.
    #[track_caller]
    pub fn start() -> Option<Cluster> {
        Cluster::with(&[])
    }

    #[track_caller]
    pub fn with(flags: &[&str]) -> Option<Cluster> {
        let cluster = Cluster::prepare(flags)?;
        step("corten up --detach");
        cluster.up().ok().has(&["API server on port", "ready after"]);
        Some(cluster)
    }

    /// The data directory with images, nothing started.
    pub fn prepare(flags: &[&str]) -> Option<Cluster> {
        if !able() {
            return None;
        }
        let temporary = tempfile::Builder::new().prefix("e2e").rand_bytes(5).tempdir_in("/tmp").unwrap();
        let (dir, home) = (temporary.path().join("d"), temporary.path().join("h"));
        std::fs::create_dir_all(dir.join("images")).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        busybox_archive(IMAGE, &dir.join("images/busybox.tar"));
        busybox_archive(IMAGE_2, &dir.join("images/busybox2.tar"));
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Some(Cluster { _temporary: temporary, dir, home, port: free_port(), flags })
    }

    /// `corten COMMAND --data-dir D ARGS`.
    pub fn corten(&self, command: &[&str], args: &[&str]) -> Said {
        run(Command::new(CORTEN).args(command).arg("--data-dir").arg(&self.dir).args(args), "")
    }

    pub fn up(&self) -> Said {
        let port = self.port.to_string();
        let mut args = vec!["--secure-port", &port, "--detach"];
        args.extend(self.flags.iter().map(String::as_str));
        self.corten(&["up"], &args)
    }

    /// The process that is the cluster.
    pub fn pid(&self) -> i32 {
        std::fs::read_to_string(self.dir.join("corten.pid")).unwrap().trim().parse().unwrap()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.conf")
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &self.home)
            .current_dir(&self.home)
            .args(args);
        // A proxy of the machine's has no business between kubectl and a cluster on it.
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "KUBECTL_EXTERNAL_DIFF"] {
            command.env_remove(name);
        }
        command
    }

    /// The path's kubectl as administrator.
    pub fn kubectl(&self, args: &[&str]) -> Said {
        self.kubectl_with(args, "")
    }

    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Said {
        run(&mut self.command(Path::new("kubectl"), args), input)
    }

    /// Another kubectl.
    pub fn other_kubectl(&self, program: &Path, args: &[&str], input: &str) -> Said {
        run(&mut self.command(program, args), input)
    }

    /// Another kubectl, with variables in its environment.
    pub fn kubectl_in(&self, program: &Path, variables: &[(&str, &str)], args: &[&str], input: &str) -> Said {
        run(self.command(program, args).envs(variables.iter().copied()), input)
    }

    /// The same, left running.
    pub fn background_in(&self, program: &Path, variables: &[(&str, &str)], args: &[&str]) -> Background {
        Background::start(self.command(program, args).envs(variables.iter().copied()))
    }

    /// kubectl, left running.
    pub fn background(&self, args: &[&str]) -> Background {
        Background::start(&mut self.command(Path::new("kubectl"), args))
    }

    #[track_caller]
    pub fn apply(&self, manifest: &str) -> Said {
        self.kubectl_with(&["apply", "-f", "-"], manifest).ok()
    }

    /// One field of one object.
    pub fn field(&self, namespace: &str, object: &str, path: &str) -> Said {
        self.kubectl(&["get", "-n", namespace, object, "-o", &format!("jsonpath={path}")])
    }

    /// Waits until a field is this.
    #[track_caller]
    pub fn until_field(&self, namespace: &str, object: &str, path: &str, expect: &str) {
        eventually(&format!("{object} {path} is {expect:?}"), || {
            self.field(namespace, object, path).is(expect)
        });
    }

    /// The words of a jsonpath over a list of objects, sorted.
    #[track_caller]
    pub fn words(&self, namespace: &str, what: &str, path: &str) -> Vec<String> {
        let path = format!("jsonpath={path}");
        let args = ["get", "-n", namespace, "-o", &path].into_iter().chain(what.split_whitespace());
        let said = self.kubectl(&args.collect::<Vec<_>>()).ok();
        let mut words: Vec<String> = said.out.split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    }

    /// Executes a shell command in a pod.
    pub fn sh(&self, namespace: &str, pod: &str, script: &str) -> Said {
        self.kubectl(&["exec", "-n", namespace, pod, "--", "sh", "-c", script])
    }

    /// A plain request to the API server: the status, and the body.
    #[track_caller]
    pub fn curl(&self, path: &str, args: &[&str]) -> (u16, String) {
        let said = run(
            Command::new("curl")
                // Over HTTP/2, curl 7.88 takes an answer that comes before the body was read for an error.
                .args([
                    "--http1.1",
                    "-sS",
                    "--noproxy",
                    "*",
                    "--max-time",
                    "60",
                    "-w",
                    "\n%{http_code}",
                    "--cacert",
                ])
                .arg(self.dir.join("pki/ca.crt"))
                .args(args)
                .arg(format!("https://127.0.0.1:{}{path}", self.port)),
            "",
        )
        .ok();
        let (body, code) = said.out.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), body.to_owned())
    }

    /// As [`Cluster::curl`], with the administrator's certificate.
    #[track_caller]
    pub fn admin_curl(&self, path: &str, args: &[&str]) -> (u16, String) {
        let file = |name: &str| self.dir.join("pki").join(name).display().to_string();
        let (cert, key) = (file("admin.crt"), file("admin.key"));
        let mut all = vec!["--cert", &cert, "--key", &key];
        all.extend(args);
        self.curl(path, &all)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let taints =
                "jsonpath={range .items[*]}{.metadata.name} {.spec.taints} {.status.conditions}{end}";
            for args in [
                &["get", "pods", "-A", "-o", "wide"][..],
                &["get", "events", "-A"],
                &["get", "nodes", "-o", taints],
            ] {
                if self.kubeconfig().exists() {
                    eprintln!("{}", self.kubectl(args));
                }
            }
            for log in ["logs/corten.log", "containerd/containerd.log"] {
                let mut text = String::new();
                let read = File::open(self.dir.join(log)).and_then(|mut file| file.read_to_string(&mut text));
                if read.is_ok() {
                    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("level=info")).collect();
                    eprintln!("=== the end of {log}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
                }
            }
        }
        let said = self.corten(&["down"], &["--purge"]);
        if said.code != 0 {
            eprintln!("{said}");
            assert!(std::thread::panicking(), "the cluster could not be removed: {said}");
        }
    }
}
