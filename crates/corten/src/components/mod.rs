//! One upstream program each, with upstream's flag names. Flags that do not apply are not accepted silently:
//! what is not listed is refused.

mod configuration;
mod health;
pub mod kube_apiserver;
mod kube_apiserver_access;
mod kube_apiserver_admission;
mod kube_apiserver_other;
mod kube_apiserver_reload;
mod kube_apiserver_tls;
pub mod kube_controller_manager;
pub mod kube_proxy;
mod kube_proxy_configuration;
pub mod kube_scheduler;
mod kube_scheduler_configuration;
pub mod kubelet;
mod kubelet_certificates;
mod kubelet_configuration;
mod service_accounts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use client::{Access, Client, HttpTransport, LeaderConfig, LeaderElector};
use prometheus_client::registry::Registry;
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
    fn access(&self) -> Result<Access> {
        access(&self.kubeconfig)
    }

    fn client(&self, agent: &str) -> Result<Client> {
        client_of(&self.kubeconfig, agent)
    }
}

fn access(kubeconfig: &Path) -> Result<Access> {
    Access::from_kubeconfig(kubeconfig, None).with_context(|| format!("reading {}", kubeconfig.display()))
}

fn client_of(kubeconfig: &Path, agent: &str) -> Result<Client> {
    let transport = HttpTransport::new(access(kubeconfig)?).context("preparing the way to the API server")?;
    Ok(Client::new(Arc::new(transport), agent))
}

/// A client that counts its requests, and the registry of what is counted.
fn measured(client: Client, kubeconfig: &Path) -> Result<(Client, Registry)> {
    let (metrics, mut registry) = (client::Metrics::default(), Registry::default());
    metrics.register(&mut registry);
    let server = access(kubeconfig)?.server;
    let host = server.split("://").nth(1).unwrap_or(&server).split('/').next().unwrap_or_default();
    Ok((client.with_metrics(&metrics, host), registry))
}

/// Leader election among several instances of one component.
#[derive(Args, Clone, Debug)]
pub struct Leadership {
    /// Work only while holding the lease
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// How long others wait after the last renewal that they saw
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it gives up
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,
    /// How long to wait between tries
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
    /// The lease [default: the program's name]
    #[arg(long, value_name = "NAME")]
    pub leader_elect_resource_name: Option<String>,
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
}

impl Leadership {
    /// Runs `work` at once, or once this instance leads, which `leads` tells others. An instance that loses the
    /// lease ends with an error, as upstream's.
    async fn run<F>(
        &self,
        name: &str,
        client: Client,
        world: &World,
        shutdown: CancellationToken,
        leads: &AtomicBool,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if !self.leader_elect {
            work(shutdown).await;
            return Ok(());
        }
        if self.leader_elect_lease_duration <= self.leader_elect_renew_deadline
            || self.leader_elect_renew_deadline <= self.leader_elect_retry_period
        {
            bail!(
                "--leader-elect-lease-duration > --leader-elect-renew-deadline > --leader-elect-retry-period is wanted"
            );
        }
        let host = nix::unistd::gethostname().unwrap_or_default();
        let mut random = [0; 8];
        world.entropy.fill(&mut random);
        let identity = format!("{}_{:x}", host.to_string_lossy(), u64::from_le_bytes(random));
        let name = self.leader_elect_resource_name.as_deref().unwrap_or(name);
        let config = LeaderConfig {
            lease_duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
            ..LeaderConfig::new(&self.leader_elect_resource_namespace, name, &identity)
        };
        let lead = |token| {
            leads.store(true, Ordering::Relaxed);
            work(token)
        };
        LeaderElector::new(config, client, world.clock.clone(), world.entropy.clone())
            .run(shutdown.clone(), lead)
            .await;
        leads.store(false, Ordering::Relaxed);
        if !shutdown.is_cancelled() {
            bail!("leaderelection lost");
        }
        Ok(())
    }
}

/// Go's durations as far as they are used here: `40s`, `1m30s`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(span).map_err(|error| format!("{error}"))
}

/// Runs a component until it ends or is told to.
fn execute<F>(common: &Common, work: impl FnOnce(World, CancellationToken) -> F) -> Result<ExitCode>
where
    F: Future<Output = Result<()>>,
{
    logging::start(logging::level(common.v), None)?;
    let runtime = crate::wiring::runtime()?;
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

#[cfg(test)]
mod tests {
    #[test]
    fn durations() {
        for (text, expect) in [("40s", 40), ("1m30s", 90), ("2h", 7200)] {
            assert_eq!(super::duration(text).unwrap().as_secs(), expect, "{text}");
        }
        assert!(super::duration("-1s").is_err());
        assert!(super::duration("soon").is_err());
    }
}
