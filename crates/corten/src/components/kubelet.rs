//! `corten kubelet`: the kubelet over HTTPS, beside any container runtime.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use kubelet::{Config, Kubelet};

use super::{Common, Kubeconfig, execute, node_name};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    #[arg(long, value_name = "URL", default_value = "unix:///run/containerd/containerd.sock")]
    container_runtime_endpoint: String,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<IpAddr>,
    #[arg(long, value_name = "D", default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    address: IpAddr,
    #[arg(long, value_name = "P", default_value_t = 10250)]
    port: u16,
    /// 0 for none
    #[arg(long, value_name = "P", default_value_t = 10248)]
    healthz_port: u16,
    #[arg(long, value_name = "FILE")]
    tls_cert_file: PathBuf,
    #[arg(long, value_name = "FILE")]
    tls_private_key_file: PathBuf,
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    #[arg(long, value_name = "N", default_value_t = 110)]
    max_pods: u32,
    #[arg(long, value_name = "GROUP", default_value = "/")]
    cgroup_root: String,
    /// Manifests of static pods
    #[arg(long, value_name = "D")]
    pod_manifest_path: Option<PathBuf>,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let client = flags.kubeconfig.client("kubelet")?;
        let mut config = Config::new(&node_name(flags.hostname_override.as_deref())?);
        config.container_runtime_endpoint = flags.container_runtime_endpoint;
        config.root_dir = flags.root_dir;
        config.address = flags.address;
        config.port = flags.port;
        config.healthz = (flags.healthz_port != 0).then(|| ([127, 0, 0, 1], flags.healthz_port).into());
        config.tls_cert_file = flags.tls_cert_file;
        config.tls_private_key_file = flags.tls_private_key_file;
        config.client_ca_file = flags.client_ca_file;
        config.cluster_dns = flags.cluster_dns;
        config.cluster_domain = flags.cluster_domain;
        config.max_pods = flags.max_pods;
        config.cgroup_root = flags.cgroup_root;
        config.static_pod_path = flags.pod_manifest_path;
        config.node_ips = flags.node_ip.into_iter().collect();
        let kubelet = Kubelet::build(config, client, world.clock.clone(), world.entropy.clone())
            .await
            .context("starting the kubelet")?;
        kubelet.run(shutdown).await;
        Ok(())
    })
}
