//! Container images as files, without a registry and without a daemon.
//!
//! Start at [`Image`]: it collects files and writes a docker-archive, which containerd imports. [`pause`] makes
//! the image that holds a pod's namespaces open. [`program`] adds a host program with the shared libraries that
//! it needs, which is how the sample application and the tests come by images of real programs.
//!
//! It does not pull, push or unpack: containerd does.

pub mod archive;
pub mod pause;
pub mod program;

pub use archive::Image;
pub use pause::pause;

/// What can go wrong while an image is put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading {path} for an image")]
    Read { path: String, source: std::io::Error },
    #[error("writing the image archive {path}")]
    Write { path: String, source: std::io::Error },
    #[error("listing the shared libraries of {program}: {detail}")]
    Libraries { program: String, detail: String },
    #[error("no pause program for the {0} architecture is built in")]
    Architecture(String),
}
