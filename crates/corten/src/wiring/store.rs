//! The store with its thread.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use etcd::Store;

use super::World;

/// An open store. [`Opened::close`] writes what is queued and ends its thread.
pub struct Opened {
    pub store: Store,
    writer: JoinHandle<()>,
}

/// Opens the directory and starts the writer's thread.
pub fn open(directory: &Path, world: &World) -> Result<Opened> {
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let mut id = [0; 8];
    world.entropy.fill(&mut id);
    let config = etcd::Config { cluster_id: u64::from_le_bytes(id), ..etcd::Config::default() };
    let disk = Arc::new(etcd::disk::RealDisk::new(directory));
    let (store, writer) =
        Store::open(config, disk).with_context(|| format!("opening the store in {}", directory.display()))?;
    let begin = Instant::now();
    let writer = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer.run(move || begin.elapsed()))
        .context("starting the store's thread")?;
    Ok(Opened { store, writer })
}

impl Opened {
    pub fn close(self) {
        self.store.stop();
        if self.writer.join().is_err() {
            tracing::error!("the store's thread has panicked");
        }
    }
}
