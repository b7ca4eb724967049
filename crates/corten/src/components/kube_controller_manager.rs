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
use super::{Common, Kubeconfig, Leadership, duration, execute, measured, read};

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
    #[command(flatten)]
    absent: Absent,
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
    /// The range of Service addresses, which nodes get no part of
    #[arg(long, value_name = "RANGE", default_value = "")]
    service_cluster_ip_range: String,
}

/// Flags that kubeadm writes for controllers that are not built: taken, so that its manifests start, and said aloud.
#[derive(Args, Clone, Debug)]
struct Absent {
    /// Taken, without effect: certificate requests are not signed yet
    #[arg(long, value_name = "FILE")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Taken, without effect: certificate requests are not signed yet
    #[arg(long, value_name = "FILE")]
    cluster_signing_key_file: Option<PathBuf>,
    /// Taken, without effect: certificate requests are not signed yet
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    cluster_signing_duration: Option<Duration>,
    /// Taken, without effect: secrets of type service-account-token get no token yet
    #[arg(long, value_name = "FILE")]
    service_account_private_key_file: Option<PathBuf>,
    /// Taken, without effect: only clouds ask for it
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    cluster_name: String,
}

impl Absent {
    fn say(&self) {
        let signing = self.cluster_signing_cert_file.is_some() || self.cluster_signing_key_file.is_some();
        if signing || self.cluster_signing_duration.is_some() {
            tracing::warn!(
                "--cluster-signing-*: the controller that signs certificates is not built; CertificateSigningRequests \
                 stay unsigned"
            );
        }
        if self.service_account_private_key_file.is_some() {
            tracing::warn!(
                "--service-account-private-key-file: the controller that fills Secrets of type \
                 kubernetes.io/service-account-token is not built; pods get their tokens from the API server"
            );
        }
        if self.cluster_name != "kubernetes" {
            tracing::warn!("--cluster-name: no cloud is built that would ask for it");
        }
    }
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        flags.absent.say();
        let (client, registry) = measured(flags.kubeconfig.client(NAME)?, &flags.kubeconfig.kubeconfig)?;
        let config = controllers::Config {
            controllers: flags.controllers.clone(),
            root_ca: flags.root_ca_file.as_deref().map(read).transpose()?.unwrap_or_default(),
            cluster_cidr: if flags.allocate_node_cidrs { flags.cluster_cidr.clone() } else { String::new() },
            service_cluster_ip_range: flags.service_cluster_ip_range.clone(),
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
            let counted = client.clone();
            let accounts = ServiceAccounts::new(client.clone(), flags.kubeconfig.access()?, world.clone())?;
            controllers = controllers.with_identities(move |account| {
                accounts.client(account, &format!("{NAME}/{account}")).counting_as(&counted)
            });
        }
        let leads = Arc::new(AtomicBool::new(!flags.leadership.leader_elect));
        let pages = health::leader_pages(NAME, leads.clone(), registry, || ());
        flags.serving.start(NAME, 10257, pages, &world, &shutdown).await?;
        flags.leadership.run(NAME, client, &world, shutdown, &leads, |leading| controllers.run(leading)).await
    })
}
