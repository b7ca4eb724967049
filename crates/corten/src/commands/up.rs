//! `corten up`: a one-node cluster in this process, or in one of its own with `--detach`.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Which, process};
use crate::cluster::ranges::Range;
use crate::cluster::{Directory, preflight, settings};
use crate::{logging, wiring};

/// Clusters of one machine start one after the other: two that look for free ports and address ranges at the same
/// moment would find the same ones.
const STARTS: &str = "/run/corten-start.lock";
/// One that cannot become Ready does not keep the others waiting for longer.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// Marks the process that `--detach` leaves behind.
const DETACHED: &str = "CORTEN_DETACHED";

#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub which: Which,
    /// The API server's port [default: 6443, kept from the first start]
    #[arg(long, value_name = "P")]
    pub secure_port: Option<u16>,
    /// Return once the node is Ready, and leave the cluster running
    #[arg(long)]
    pub detach: bool,
    /// Write the administrator's kubeconfig here [default: D/admin.conf]
    #[arg(long, value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Use this container runtime instead of starting a containerd: unix:///run/containerd/containerd.sock
    #[arg(long, value_name = "URL")]
    pub container_runtime_endpoint: Option<String>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The node's address [default: the first one of this machine that is not loopback]
    #[arg(long, value_name = "ADDRESS")]
    pub node_ip: Option<IpAddr>,
    /// The range of pod addresses [default: a free one, 10.244.0.0/16 first]
    #[arg(long, value_name = "RANGE")]
    pub cluster_cidr: Option<Range>,
    /// The range of Service addresses [default: a free one, 10.96.0.0/16 first]
    #[arg(long, value_name = "RANGE")]
    pub service_cluster_ip_range: Option<Range>,
    /// The cluster's DNS domain [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Answer requests without credentials as system:anonymous [default: true, kept once given]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub anonymous_auth: Option<bool>,
    /// Pull images of a registry from here: docker.io=http://127.0.0.1:5000 ("_default" for all others); kept from
    /// start to start, and forgotten by an empty one
    #[arg(long, value_name = "REGISTRY=URL")]
    pub registry_mirror: Vec<String>,
    /// How long the cluster's certificates live; each is renewed when a third of that is left [default: 8760h, kept
    /// once given]
    #[arg(long, value_name = "DURATION", value_parser = validity)]
    pub certificate_validity_period: Option<Duration>,
    /// Log more: 0 to 5
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub v: u8,
}

/// From what a renewal takes on a busy machine up to the life of the authority that signs.
fn validity(text: &str) -> Result<Duration, String> {
    let given = crate::components::duration(text)?;
    let longest = Duration::from_secs(crate::certificates::issue::AUTHORITY_DAYS.unsigned_abs() * 86_400 / 3);
    if given < Duration::from_secs(15) || given > longest {
        return Err(format!("from 15s to {}h is wanted", longest.as_secs() / 3600));
    }
    Ok(given)
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    preflight::check(nix::unistd::geteuid().is_root(), flags.container_runtime_endpoint.is_none())?;
    flags.container_runtime_endpoint.as_deref().map_or(Ok(()), preflight::answers)?;
    let directory = flags.which.directory()?;
    if let Some(pid) = process::running(&directory.pid_file())? {
        bail!("the cluster in {} runs already, as process {pid}", directory.root.display());
    }
    if flags.detach { detach(&directory) } else { serve(&flags, &directory) }
}

/// Starts the same command in a process of its own, passes on what it says until the node is Ready, and leaves.
fn detach(directory: &Directory) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let program = std::env::current_exe().context("finding this program")?;
    directory.create()?;
    let errors = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.log_file())
        .with_context(|| format!("opening {}", directory.log_file().display()))?;
    let before = errors.metadata().map_or(0, |log| log.len());
    let mut child = std::process::Command::new(program)
        .args(std::env::args_os().skip(1).filter(|arg| arg != "--detach"))
        .env(DETACHED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .context("starting the cluster's process")?;
    pass_on_signals(child.id())?;
    let said = child.stdout.take().context("reading what the cluster's process says")?;
    for line in BufReader::new(said).lines() {
        let line = line.context("reading what the cluster's process says")?;
        println!("{line}");
        if line.starts_with(READY) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let status = child.wait().context("waiting for the cluster's process")?;
    let why = std::fs::read(directory.log_file()).unwrap_or_default();
    let why = why.get(usize::try_from(before)?..).and_then(reason);
    let log = directory.log_file();
    match why {
        Some(why) => bail!("{why}\n(the cluster did not start; its log is {})", log.display()),
        None => bail!("the cluster did not start ({status}); see {}", log.display()),
    }
}

/// Ctrl-C while waiting for a detached start ends that start.
fn pass_on_signals(child: u32) -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    let child = nix::unistd::Pid::from_raw(i32::try_from(child)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        let told = CancellationToken::new();
        runtime.block_on(cancel_on_signal(told.clone()));
        if told.is_cancelled() {
            // It may have ended by itself.
            let _ = kill(child, Signal::SIGTERM);
        }
    });
    Ok(())
}

/// What a process of ours said last before it failed, out of what it logged.
fn reason(log: &[u8]) -> Option<String> {
    let log = String::from_utf8_lossy(log);
    let from =
        log.rfind("\ncorten: ").map(|at| at + 1).or_else(|| log.starts_with("corten: ").then_some(0))?;
    Some(log.get(from..)?.trim_start_matches("corten: ").trim_end().to_owned())
}

/// How the line begins that says that the cluster can be used.
const READY: &str = "ready";

/// After this long somebody who waits is told for what; then again and again.
const PATIENCE: Duration = Duration::from_secs(5);
const TOLD_EVERY: Duration = Duration::from_secs(15);
/// Nobody looks at a detached start: it fails when its node is not Ready after this long.
const DETACHED_WITHIN: Duration = Duration::from_secs(300);

/// Steps with the seconds since the start, for people who wait.
pub struct Progress {
    begin: Instant,
    /// How long to wait for a node to be Ready; `None` for people who see why it is not and can press Ctrl-C.
    pub ready_within: Option<Duration>,
}

impl Progress {
    /// Waits for something that may take long or never come about, saying what it is and, in the words of `why`,
    /// what holds it up at this moment.
    ///
    /// # Errors
    /// When it takes longer than `within`.
    pub async fn patiently<T>(
        &self,
        what: &str,
        why: impl Fn() -> String,
        within: Option<Duration>,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        tokio::pin!(work);
        let (begin, mut pause) = (Instant::now(), PATIENCE);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(pause) => {}
            }
            if within.is_some_and(|within| begin.elapsed() > within) {
                bail!("waited {} s for {what}: {}", begin.elapsed().as_secs(), why());
            }
            self.say(&format!("still waiting for {what}: {}", why()));
            pause = TOLD_EVERY;
        }
    }

    pub fn say(&self, what: &str) {
        // Nobody may be listening any more.
        let _ = writeln!(std::io::stdout(), "{:>6.2} s  {what}", self.begin.elapsed().as_secs_f64());
    }
}

fn serve(flags: &Flags, directory: &Directory) -> Result<ExitCode> {
    let log = std::env::var_os(DETACHED).map(|_| directory.log_file());
    let progress = Progress { begin: Instant::now(), ready_within: log.as_ref().map(|_| DETACHED_WITHIN) };
    directory.create()?;
    let _claim = match process::claim(&directory.pid_file())? {
        Ok(claim) => claim,
        Err(pid) => bail!("the cluster in {} runs already, as process {pid}", directory.root.display()),
    };
    logging::start(
        if flags.v == 0 && log.is_none() { "warn" } else { logging::level(flags.v) },
        log.as_deref(),
    )?;
    let turn = process::turn(STARTS, STARTS_WITHIN);
    let settings = settings::decide(directory, flags)?;
    settings.container_runtime_endpoint.as_deref().map_or(Ok(()), preflight::answers)?;

    let runtime = wiring::runtime()?;
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        let cluster = wiring::cluster::start(directory, &settings, &progress, &shutdown).await?;
        drop(turn);
        let kubeconfig = settings.kubeconfig.clone().unwrap_or_else(|| directory.admin_conf());
        if !shutdown.is_cancelled() {
            let _ = writeln!(
                std::io::stdout(),
                "{READY} after {:.2} s; use it with: export KUBECONFIG={}",
                progress.begin.elapsed().as_secs_f64(),
                kubeconfig.display()
            );
        }
        cluster.run(&shutdown).await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    let _ = writeln!(
        std::io::stdout(),
        "stopped; containers go on running (corten down --data-dir {} ends them)",
        directory.root.display()
    );
    ended.map(|()| ExitCode::SUCCESS)
}

/// The first SIGINT or SIGTERM asks for an orderly end.
pub async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    shutdown.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_process() {
        for (log, expect) in [
            ("", None),
            ("2026 INFO corten::x: corten: no\n", None),
            ("corten: old\n2026 INFO x\ncorten: new\n- two\n", Some("new\n- two")),
            ("corten: only\n", Some("only")),
        ] {
            assert_eq!(reason(log.as_bytes()).as_deref(), expect);
        }
    }
}
