//! `corten kube-proxy`: the Service proxy over HTTPS.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use client::SharedInformers;
use linux::netlink::Prefix;
use network::proxy::{Config, Proxy};

use super::{Common, Kubeconfig, execute, node_name};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    kubeconfig: Kubeconfig,
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
        let client = flags.kubeconfig.client("kube-proxy")?;
        let informers = SharedInformers::new(client, world.entropy.clone());
        Proxy::build(config, &informers, world.entropy.clone()).run(shutdown).await;
        Ok(())
    })
}
