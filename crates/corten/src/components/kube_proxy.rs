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
use super::{Common, client_of, execute, node_name};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    /// The kubeconfig that says where the API server is and who this is
    #[arg(long, value_name = "FILE", required_unless_present = "cleanup")]
    kubeconfig: Option<PathBuf>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// Ranges of all pods
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    cluster_cidr: Vec<String>,
    /// nftables is the only mode built
    #[arg(long, value_name = "MODE", default_value = "nftables")]
    proxy_mode: String,
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    masquerade_all: bool,
    /// Where the health pages are; port 0 for nowhere
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:10256")]
    healthz_bind_address: SocketAddr,
    /// Where the metrics are; port 0 for nowhere
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:10249")]
    metrics_bind_address: SocketAddr,
    /// Remove this proxy's rules and leave
    #[arg(long)]
    cleanup: bool,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        if flags.proxy_mode != "nftables" {
            bail!("--proxy-mode {}: only nftables is built", flags.proxy_mode);
        }
        let parse =
            |range: &String| range.parse::<Prefix>().with_context(|| format!("--cluster-cidr {range}"));
        let config = Config {
            table: "kube-proxy".to_owned(),
            cluster_cidrs: flags.cluster_cidr.iter().map(parse).collect::<Result<_>>()?,
            masquerade_all: flags.masquerade_all,
            masquerade_pods: false,
            ..Config::new(&node_name(flags.hostname_override.as_deref())?)
        };
        if flags.cleanup {
            return network::proxy::cleanup(&config).await.context("removing the rules");
        }
        let kubeconfig = flags.kubeconfig.as_deref().context("--kubeconfig is needed")?;
        let client = client_of(kubeconfig, "kube-proxy")?;
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
        health::start_plain(flags.healthz_bind_address, Arc::new(healthz), &shutdown).await?;
        health::start_plain(flags.metrics_bind_address, Arc::new(pages), &shutdown).await?;
        proxy.run(shutdown).await;
        Ok(())
    })
}
