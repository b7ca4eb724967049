//! `corten kube-proxy`: the Service proxy over HTTPS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use client::SharedInformers;
use linux::netlink::Prefix;
use network::proxy::{Config, Proxy};

use super::health::{self, Page};
use super::kube_proxy_configuration::load;
use super::{Common, client_of, execute, node_name};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    /// A KubeProxyConfiguration; flags come before what it says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The kubeconfig that says where the API server is and who this is
    #[arg(long, value_name = "FILE", required_unless_present_any = ["cleanup", "config"])]
    kubeconfig: Option<PathBuf>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// Ranges of all pods
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    cluster_cidr: Option<Vec<String>>,
    /// nftables is the only mode built
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<String>,
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    masquerade_all: Option<bool>,
    /// Where the health pages are; port 0 for nowhere [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDRESS:PORT")]
    healthz_bind_address: Option<SocketAddr>,
    /// Where the metrics are; port 0 for nowhere [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_bind_address: Option<SocketAddr>,
    /// Remove this proxy's rules and leave
    #[arg(long)]
    cleanup: bool,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let said = flags.config.as_deref().map(load).transpose()?.unwrap_or_default();
        let mode = flags.proxy_mode.or(said.mode).unwrap_or_else(|| "nftables".to_owned());
        if mode != "nftables" {
            bail!("--proxy-mode {mode}: only nftables is built");
        }
        let parse =
            |range: &String| range.parse::<Prefix>().with_context(|| format!("--cluster-cidr {range}"));
        let ranges = flags.cluster_cidr.or(said.cluster_cidrs).unwrap_or_default();
        let defaults =
            Config::new(&node_name(flags.hostname_override.or(said.hostname_override).as_deref())?);
        let config = Config {
            table: "kube-proxy".to_owned(),
            cluster_cidrs: ranges.iter().map(parse).collect::<Result<_>>()?,
            masquerade_all: flags.masquerade_all.or(said.masquerade_all).unwrap_or(false),
            masquerade_pods: false,
            sync_period: said.sync_period.unwrap_or(defaults.sync_period),
            min_sync_period: said.min_sync_period.unwrap_or(defaults.min_sync_period),
            ..defaults
        };
        if flags.cleanup {
            return network::proxy::cleanup(&config).await.context("removing the rules");
        }
        let kubeconfig = flags.kubeconfig.or(said.kubeconfig);
        let kubeconfig = kubeconfig.context("--kubeconfig is needed, or clientConnection.kubeconfig")?;
        let client = client_of(&kubeconfig, "kube-proxy")?;
        let informers = SharedInformers::new(client, world.entropy.clone());
        let proxy = Proxy::build(config, &informers, world.entropy.clone());
        let (health, metrics) = (proxy.handle(), proxy.handle());
        let clock = world.clock.clone();
        let healthz = move |path: &str| {
            let healthy = health.health().healthy;
            let now = clock.now();
            let text = serde_json::json!({"lastUpdated": now, "currentTime": now, "nodeEligible": healthy});
            matches!(path, "/healthz" | "/livez").then(|| Page::json(healthy, text))
        };
        let pages = move |path: &str| match path {
            "/healthz" => Some(Page::text("ok")),
            "/proxyMode" => Some(Page::text("nftables")),
            "/metrics" => Some(Page::metrics(metrics.metrics())),
            _ => None,
        };
        let at = flags.healthz_bind_address.or(said.healthz).unwrap_or(([0, 0, 0, 0], 10256).into());
        health::start_plain(at, Arc::new(healthz), &shutdown).await?;
        let at = flags.metrics_bind_address.or(said.metrics).unwrap_or(([127, 0, 0, 1], 10249).into());
        health::start_plain(at, Arc::new(pages), &shutdown).await?;
        proxy.run(shutdown).await;
        Ok(())
    })
}
