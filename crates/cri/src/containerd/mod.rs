//! A containerd of our own: its configuration as pure text ([`Config::toml`]), its process ([`Containerd`]) and
//! the import of image archives ([`Images`]).
//!
//! **Invariants.** Containers outlive everything here: the process that supervises containerd, and containerd.
//! A containerd that an earlier run left behind is taken over when its configuration still fits, and replaced
//! when not. Two of them with different directories never touch each other.

mod config;
mod images;
mod process;

pub use config::{Config, Mirror, Runtime};
pub use images::Images;
pub use process::{Containerd, Handle, remove_all};

use std::path::PathBuf;

/// What can go wrong with containerd.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error("{program} is not installed: no {} in the search path; on Debian: apt-get install {package}", binary.display())]
    NotInstalled { program: &'static str, binary: PathBuf, package: &'static str },
    /// A unix socket's path may have 107 bytes, and containerd makes a second one with six more.
    #[error("the path of containerd's socket is {} bytes long, and 101 are possible: {}", path.as_os_str().len(), path.display())]
    SocketPath { path: PathBuf },
    /// A file could not be written or read.
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// The process ended before it answered.
    #[error("containerd ended ({status}) before it was ready; the end of {}: {tail}", log.display())]
    Ended { status: String, log: PathBuf, tail: String },
    /// The process runs but does not answer.
    #[error("containerd has not become ready within {seconds} s ({last}); its log is {}", log.display())]
    NotReady { seconds: u64, last: String, log: PathBuf },
    /// The process runs, without the interface.
    #[error("containerd runs without its CRI plugin; the end of {}: {tail}", log.display())]
    NoCri { log: PathBuf, tail: String },
    /// What the supervisor last met.
    #[error("{0}")]
    Failed(String),
    /// The supervisor has ended.
    #[error("containerd has been stopped")]
    Stopped,
    /// An archive was refused.
    #[error("importing {}: {message}", path.display())]
    Import { path: PathBuf, message: String },
    /// A call to the runtime failed.
    #[error(transparent)]
    Cri(#[from] crate::Error),
}
