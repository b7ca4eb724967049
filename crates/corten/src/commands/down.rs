//! `corten down`: the process first, then its containers, then what it laid on the machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Which, process};
use crate::cluster::Directory;
use crate::wiring;

/// How long the process may take to stop by itself.
const STOP_WITHIN: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    /// Also delete the data directory: every object, image and volume of this cluster
    #[arg(long)]
    purge: bool,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    let directory = flags.which.directory()?;
    let Some(settings) = directory.settings()? else {
        println!("no cluster in {}", directory.root.display());
        return Ok(ExitCode::SUCCESS);
    };
    if !nix::unistd::geteuid().is_root() {
        bail!("stopping containers needs root; run it with sudo");
    }
    stop(&directory)?;
    let _claim = match process::claim(&directory.pid_file())? {
        Ok(claim) => claim,
        Err(pid) => bail!("process {pid} has taken the data directory meanwhile"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(wiring::teardown::run(&directory, &settings))?;
    println!("stopped; nothing of the cluster runs any more");
    if flags.purge {
        std::fs::remove_dir_all(&directory.root)
            .with_context(|| format!("deleting {}", directory.root.display()))?;
        println!("deleted {}", directory.root.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn stop(directory: &Directory) -> Result<()> {
    let Some(pid) = process::running(&directory.pid_file())? else { return Ok(()) };
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("stopping process {pid}"))?;
    let begin = Instant::now();
    while process::running(&directory.pid_file())?.is_some() {
        if begin.elapsed() > STOP_WITHIN {
            bail!(
                "process {pid} has not stopped within {} s; its log is {}",
                STOP_WITHIN.as_secs(),
                directory.log_file().display()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
