//! How the components are put together: in one process for `up`, or one by one under their upstream names.

pub mod api_server;
pub mod cluster;
pub mod node;
pub mod store;
pub mod teardown;
pub mod transport;

use std::sync::Arc;

use anyhow::Context as _;
use apimachinery::clock::{Clock, Entropy};

/// The threads of a program: as many workers as processors, eight at most.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().min(8)))
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// The real clock and entropy.
#[derive(Clone)]
pub struct World {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

impl World {
    pub fn real() -> World {
        World {
            clock: Arc::new(linux::time::SystemClock),
            entropy: Arc::new(linux::time::SystemEntropy::new()),
        }
    }
}
