//! The kernel's interfaces, one module each, and the real clock and entropy. The only crate with `unsafe`.
//!
//! Start with the module whose name says what you want: [`cgroup`], [`conntrack`], [`mount`], [`netlink`], [`netns`],
//! [`nftables`], [`process`], [`sysctl`], [`sysinfo`], [`time`]. Each is thin: it turns one intention into
//! kernel calls and says in its error what it was doing. What can be decided without the kernel (which files
//! a limit touches, what a mount table says) is a pure function beside it.
//!
//! It knows no Kubernetes: no pods, no Services, no quality-of-service classes.

pub mod cgroup;
pub mod conntrack;
pub mod disk;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nftables;
pub mod process;
pub mod sysctl;
pub mod sysinfo;
pub mod time;

use std::io;

/// A kernel call or a kernel file that did not do what was asked.
///
/// `Display` says what was being done; the system's reason is the `source()`.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Error {
    doing: String,
    #[source]
    source: io::Error,
}

impl Error {
    /// `doing` is lower case and reads as "doing this: reason".
    pub fn new(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error { doing: doing.into(), source: source.into() }
    }

    /// What was being done and why it failed, in one line, for places that do not follow `source()`.
    pub fn chain(&self) -> String {
        format!("{}: {}", self.doing, self.source)
    }

    /// The system's kind of failure, such as `NotFound`.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The errno, when the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether this process may configure the kernel (effective user id 0).
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod testing {
    /// Whether a test that needs root may go on. Without root it is skipped with a word, but fails under `CI`.
    pub(crate) fn root_or_skip(what: &str) -> bool {
        if crate::is_root() {
            return true;
        }
        assert!(std::env::var_os("CI").is_none(), "{what}: this test needs root");
        eprintln!("skipped: {what} needs root");
        false
    }
}
