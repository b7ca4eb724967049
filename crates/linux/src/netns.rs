//! Network namespaces. A thread that entered one never comes back: work in a namespace runs in a thread of its
//! own, which ends with the work.

use crate::{Error, Result};
use nix::sched::CloneFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

/// A network namespace, held open. It lives until nobody holds it and no process is in it.
#[derive(Debug)]
pub struct Namespace(File);

const THREAD_NS: &str = "/proc/thread-self/ns/net";

impl Namespace {
    /// Makes an empty one with its loopback interface switched off.
    pub fn new() -> Result<Self> {
        on_thread("making a network namespace", || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::new("making a network namespace", e))?;
            Self::current()
        })?
    }

    /// The calling thread's.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(THREAD_NS))
    }

    /// One that has a name in the file system: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self> {
        File::open(path)
            .map(Namespace)
            .map_err(|e| Error::new(format!("opening the network namespace {}", path.display()), e))
    }

    pub fn try_clone(&self) -> Result<Self> {
        self.0.try_clone().map(Namespace).map_err(|e| Error::new("duplicating a network namespace handle", e))
    }

    /// Moves the calling thread into the namespace, for good.
    pub fn enter(&self) -> Result<()> {
        nix::sched::setns(&self.0, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::new("entering a network namespace", e))
    }

    /// Runs `work` in the namespace, in a thread of its own, and waits for it. Sockets that it makes stay in
    /// the namespace and can be handed out; child processes that it starts begin there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread("working in a network namespace", || self.enter().map(|()| work()))?
    }

    /// [`Namespace::run`] with a tokio runtime of one thread around `work`.
    pub fn run_async<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> Result<T> {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| Error::new("starting a runtime in a network namespace", e))?;
            Ok(runtime.block_on(work()))
        })?
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A panic of `work` goes on in the caller.
fn on_thread<T: Send>(doing: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(|e| Error::new(doing, io::Error::other(e)))?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_a_namespace_stays_there() {
        if !crate::testing::root_or_skip("network namespaces") {
            return;
        }
        let read = || std::fs::read_link(THREAD_NS).unwrap();
        let outside = read();
        let namespace = Namespace::new().unwrap();
        let inside = namespace.run(read).unwrap();
        assert_ne!(inside, outside);
        assert_eq!(namespace.try_clone().unwrap().run(read).unwrap(), inside);
        assert_eq!(read(), outside);
        // Its loopback is off, so nothing can be reached.
        let connect = || std::net::TcpStream::connect("127.0.0.1:1").unwrap_err().raw_os_error();
        assert_eq!(namespace.run(connect).unwrap(), Some(nix::libc::ENETUNREACH));
        assert!(Namespace::open(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
