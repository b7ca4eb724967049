//! Child processes that do not outlive us, handles that cannot hit the wrong process, limits.

use crate::{Error, Result};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

pub use nix::sys::signal::Signal as UnixSignal;

/// Has the kernel send `signal` to the child when the thread that starts it ends, so also when we are killed.
///
/// It is the *thread* that counts (prctl(2), PR_SET_PDEATHSIG): start the child from one that lives as long as
/// the process, such as the main thread or a worker of the main runtime. A change of credentials in the child
/// clears it.
pub fn die_with_parent(command: &mut std::process::Command, signal: Signal) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure only makes the system calls prctl and getppid, which are
    // async-signal-safe; it takes no lock and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before prctl: then nobody would tell us.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Starts the child in a process group of its own, so that a Ctrl-C at the terminal does not reach it.
pub fn own_process_group(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

/// A process, by a handle that stays its own even when the number is used again (pidfd_open(2)).
#[derive(Debug)]
pub struct Pidfd {
    fd: AsyncFd<OwnedFd>,
    pid: i32,
}

impl Pidfd {
    /// Within a tokio runtime. A process that is gone is `ESRCH`.
    pub fn open(pid: i32) -> Result<Self> {
        let doing = || format!("opening process {pid}");
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(Error::new(doing(), io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just returned this descriptor to us and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: an `OwnedFd` keeps its descriptor number, and keeps it open, for as long as it lives.
        let fd = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }
            .map_err(|e| Error::new(doing(), io::Error::other(e.to_string())))?;
        Ok(Pidfd { fd, pid })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// `false` when the process has already ended.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        // SAFETY: the descriptor is open for as long as `self`; a null siginfo is allowed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.get_ref().as_raw_fd(),
                signal as i32,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            e => Err(Error::new(format!("sending {signal} to process {}", self.pid), e)),
        }
    }

    /// Returns when the process has ended. Works for processes that are not our children; ours still have to
    /// be waited for.
    pub async fn ended(&self) -> Result<()> {
        self.fd
            .readable()
            .await
            .map(|_| ())
            .map_err(|e| Error::new(format!("waiting for process {} to end", self.pid), e))
    }
}

/// Makes orphaned descendants ours to reap instead of init's (PR_SET_CHILD_SUBREAPER).
pub fn become_subreaper() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|e| Error::new("becoming the reaper of descendants", e))
}

/// Raises the soft limit of open files to the hard one, and returns it. The hard one is not touched.
pub fn raise_open_files() -> Result<u64> {
    let doing = "raising the limit of open files";
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| Error::new(doing, e))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|e| Error::new(doing, e))?;
    }
    Ok(hard)
}

/// How eagerly the kernel kills this process for memory, -1000 (never) to 1000. Lowering it needs
/// CAP_SYS_RESOURCE: without it the error is `EACCES`.
pub fn set_oom_score_adj(pid: Option<u32>, score: i32) -> Result<()> {
    let file = match pid {
        Some(pid) => format!("/proc/{pid}/oom_score_adj"),
        None => "/proc/self/oom_score_adj".to_owned(),
    };
    fs::write(&file, score.to_string()).map_err(|e| Error::new(format!("writing {score} to {file}"), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn pidfd_signals_and_sees_the_end() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Pidfd::open(child.id() as i32).unwrap();
        assert!(process.signal(Signal::SIGTERM).unwrap());
        process.ended().await.unwrap();
        child.wait().unwrap();
        assert!(!process.signal(Signal::SIGTERM).unwrap());
    }

    #[tokio::test]
    async fn child_dies_with_the_thread_that_started_it() {
        let (mut child, process) = std::thread::scope(|scope| {
            let runtime = tokio::runtime::Handle::current();
            scope
                .spawn(move || {
                    let _runtime = runtime.enter();
                    let mut command = Command::new("sleep");
                    command.arg("60").stdin(Stdio::null());
                    die_with_parent(&mut command, Signal::SIGKILL);
                    own_process_group(&mut command);
                    let child = command.spawn().unwrap();
                    let process = Pidfd::open(child.id() as i32).unwrap();
                    (child, process)
                })
                .join()
                .unwrap()
        });
        process.ended().await.unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn limits() {
        assert!(raise_open_files().unwrap() > 0);
    }
}
