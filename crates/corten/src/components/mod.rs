//! One upstream program each, with upstream's flag names. Flags that do not apply are not accepted silently:
//! what is not listed is refused.

pub mod kube_apiserver;
pub mod kube_controller_manager;
pub mod kube_proxy;
pub mod kube_scheduler;
pub mod kubelet;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use client::{Access, Client, HttpTransport, LeaderConfig, LeaderElector};
use tokio_util::sync::CancellationToken;

use crate::commands::up::cancel_on_signal;
use crate::logging;
use crate::wiring::World;

/// Flags of every component.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Log more: 0 to 5
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub v: u8,
}

/// How a component finds the API server.
#[derive(Args, Clone, Debug)]
pub struct Kubeconfig {
    /// The kubeconfig that says where the API server is and who this is
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
}

impl Kubeconfig {
    fn client(&self, agent: &str) -> Result<Client> {
        let access = Access::from_kubeconfig(&self.kubeconfig, None)
            .with_context(|| format!("reading {}", self.kubeconfig.display()))?;
        let transport = HttpTransport::new(access).context("preparing the way to the API server")?;
        Ok(Client::new(Arc::new(transport), agent))
    }
}

/// Leader election among several instances of one component.
#[derive(Args, Clone, Debug)]
pub struct Leadership {
    /// Work only while holding the lease
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
}

impl Leadership {
    /// Runs `work` at once, or once this instance leads. An instance that loses the lease ends, as upstream's.
    async fn run<F>(
        &self,
        name: &str,
        client: Client,
        world: &World,
        shutdown: CancellationToken,
        work: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        if !self.leader_elect {
            return work(shutdown).await;
        }
        let host = nix::unistd::gethostname().unwrap_or_default();
        let mut random = [0; 8];
        world.entropy.fill(&mut random);
        let identity = format!("{}_{:x}", host.to_string_lossy(), u64::from_le_bytes(random));
        let config = LeaderConfig::new("kube-system", name, &identity);
        LeaderElector::new(config, client, world.clock.clone(), world.entropy.clone())
            .run(shutdown, work)
            .await;
    }
}

/// Runs a component until it ends or is told to.
fn execute<F>(common: &Common, work: impl FnOnce(World, CancellationToken) -> F) -> Result<ExitCode>
where
    F: Future<Output = Result<()>>,
{
    logging::start(logging::level(common.v), None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().min(8)))
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        work(World::real(), shutdown).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ended.map(|()| ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// The node's name: what was given, else the host's name in lower case.
fn node_name(given: Option<&str>) -> Result<String> {
    match given {
        Some(name) => Ok(name.to_lowercase()),
        None => Ok(nix::unistd::gethostname()
            .context("reading the host name")?
            .to_string_lossy()
            .trim()
            .to_lowercase()),
    }
}
