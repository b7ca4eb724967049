//! The one process of a cluster: `D/corten.pid` is locked while it runs.

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// Held as long as the process runs; the lock goes with it, however it ends.
#[derive(Debug)]
pub struct Claim {
    _lock: Flock<std::fs::File>,
}

fn open(path: &Path) -> Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// Claims the directory for this process, or names the process that has it.
pub fn claim(path: &Path) -> Result<Result<Claim, i32>> {
    match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(Ok(Claim { _lock: lock }))
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Err(text.trim().parse().unwrap_or(0)))
        }
        Err((_, errno)) => Err(errno).with_context(|| format!("locking {}", path.display())),
    }
}

/// Waits for a turn that one process of the machine has at a time, and goes on without it after a while or where
/// there is no place for the lock.
pub fn turn(path: &str, within: Duration) -> Option<Flock<std::fs::File>> {
    let begin = Instant::now();
    let mut file = open(Path::new(path)).ok()?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) if begin.elapsed() < within => file = back,
            Err(_) => return None,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process that runs the cluster, if one does.
pub fn running(path: &Path) -> Result<Option<i32>> {
    if !path.exists() {
        return Ok(None);
    }
    // A claim that succeeds is given back at once: nobody has the directory.
    Ok(claim(path)?.err())
}
