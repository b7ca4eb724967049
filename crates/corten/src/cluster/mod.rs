//! What a cluster on this machine consists of: its directory, its ranges, what it needs, its kubeconfig.

pub mod directory;
pub mod kubeconfig;
pub mod preflight;
pub mod ranges;
pub mod settings;

pub use directory::Directory;
