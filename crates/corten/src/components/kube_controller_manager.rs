//! `corten kube-controller-manager`: the controllers over HTTPS.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use controllers::Controllers;

use super::health::{self, Serving};
use super::service_accounts::ServiceAccounts;
use super::{Common, Kubeconfig, Leadership, duration, execute, read};

const NAME: &str = "kube-controller-manager";

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    #[command(flatten)]
    leadership: Leadership,
    #[command(flatten)]
    serving: Serving,
    /// Let every controller act as its own service account of kube-system
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    use_service_account_credentials: bool,
    /// Which controllers run: names, -name to leave one out, * for all
    #[arg(long, value_name = "LIST", default_value = "*", value_delimiter = ',', allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// The certificates that kube-root-ca.crt carries into every namespace
    #[arg(long, value_name = "FILE")]
    root_ca_file: Option<PathBuf>,
    /// Give nodes their parts of the cluster's range
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allocate_node_cidrs: bool,
    #[arg(long, value_name = "RANGE", default_value = "")]
    cluster_cidr: String,
    #[arg(long, value_name = "BITS", default_value_t = 24)]
    node_cidr_mask_size: u8,
    /// How long a node may be silent before it is taken for lost, in seconds
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = duration)]
    node_monitor_grace_period: Duration,
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    node_monitor_period: Duration,
    /// Nodes per second and zone whose pods are evicted while the zone is healthy
    #[arg(long, value_name = "RATE", default_value_t = 0.1)]
    node_eviction_rate: f64,
    #[arg(long, value_name = "N", default_value_t = 12500)]
    terminated_pod_gc_threshold: usize,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let client = flags.kubeconfig.client(NAME)?;
        let config = controllers::Config {
            controllers: flags.controllers.clone(),
            root_ca: flags.root_ca_file.as_deref().map(read).transpose()?.unwrap_or_default(),
            cluster_cidr: if flags.allocate_node_cidrs { flags.cluster_cidr.clone() } else { String::new() },
            node_cidr_mask_size: flags.node_cidr_mask_size,
            node_monitor_period: flags.node_monitor_period,
            node_monitor_grace_period: flags.node_monitor_grace_period,
            node_eviction_rate: flags.node_eviction_rate,
            terminated_pod_gc_threshold: flags.terminated_pod_gc_threshold,
            ..controllers::Config::default()
        };
        let mut controllers =
            Controllers::build(config, client.clone(), world.clock.clone(), world.entropy.clone())
                .context("configuring the controllers")?;
        if flags.use_service_account_credentials {
            let accounts = ServiceAccounts::new(client.clone(), flags.kubeconfig.access()?, world.clone())?;
            controllers = controllers
                .with_identities(move |account| accounts.client(account, &format!("{NAME}/{account}")));
        }
        let leads = Arc::new(AtomicBool::new(!flags.leadership.leader_elect));
        let pages = health::leader_pages(NAME, leads.clone());
        flags.serving.start(NAME, 10257, pages, &world, &shutdown).await?;
        flags.leadership.run(NAME, client, &world, shutdown, &leads, |leading| controllers.run(leading)).await
    })
}
