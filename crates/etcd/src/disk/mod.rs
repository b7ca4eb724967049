//! The directory that the store writes to, as the few operations it needs.
//!
//! [`RealDisk`] is files; [`SimDisk`] keeps everything in memory and can lose, tear and reorder whatever was
//! not synced.

mod real;
mod sim;

use std::io;
use std::sync::Arc;

pub use real::RealDisk;
pub use sim::{Faults, SimDisk};

/// One flat directory. Names made, renamed or removed are durable only after `sync_dir`.
pub trait Disk: Send + Sync {
    /// Takes the directory for this process, for as long as the disk lives; false if another has it.
    /// Whoever shares this disk shares the lock.
    fn lock(&self) -> io::Result<bool>;
    /// The names in the directory, in order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// For reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// An empty file, in place of one that has this name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Replaces `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_dir(&self) -> io::Result<()>;
}

/// One file. Writes are durable only after `sync`. Readable from many threads while one writes.
pub trait File: Send + Sync {
    fn size(&self) -> io::Result<u64>;
    /// Fills `into` from `offset` on; less only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file `size` long and sets its room aside, so that writing within it needs none.
    fn allocate(&self, size: u64) -> io::Result<()>;
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Returns when everything written is durable (`fdatasync`). After an error nothing is known about what
    /// was written before, and trying again would tell nothing.
    fn sync(&self) -> io::Result<()>;
}
