//! `corten kubelet`: the kubelet over HTTPS, beside any container runtime.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use kubelet::{Config, Kubelet};

use super::kubelet_certificates::{self as certificates, ClientCertificate};
use super::kubelet_configuration::Asked;
use super::{Common, Kubeconfig, execute, kubelet_configuration, node_name};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    /// Who asks for the first client certificate when --kubeconfig is not there yet, or has run out
    #[arg(long, value_name = "FILE")]
    bootstrap_kubeconfig: Option<PathBuf>,
    /// Renew the client certificate through requests that somebody signs
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    rotate_certificates: Option<bool>,
    /// Where the certificates lie that the kubelet is not given
    #[arg(long, value_name = "D", default_value = "/var/lib/kubelet/pki")]
    cert_dir: PathBuf,
    /// A KubeletConfiguration; flags come before what it says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// [default: unix:///run/containerd/containerd.sock]
    #[arg(long, value_name = "URL")]
    container_runtime_endpoint: Option<String>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The node's addresses: one, or one of each family
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// Labels of the node when it is made
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    node_labels: Vec<(String, String)>,
    #[arg(long, value_name = "D", default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// [default: 10250]
    #[arg(long, value_name = "P")]
    port: Option<u16>,
    /// 0 for none [default: 10248]
    #[arg(long, value_name = "P")]
    healthz_port: Option<u16>,
    /// [default: one that is made, in --cert-dir]
    #[arg(long, value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    tls_private_key_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    cluster_dns: Option<Vec<IpAddr>>,
    /// [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// [default: 110]
    #[arg(long, value_name = "N")]
    max_pods: Option<u32>,
    /// [default: /]
    #[arg(long, value_name = "GROUP")]
    cgroup_root: Option<String>,
    /// Manifests of static pods
    #[arg(long, value_name = "D")]
    pod_manifest_path: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("KEY=VALUE is wanted".to_owned()) } else { Ok((key.into(), value.into())) }
}

/// Flags come before the file, the file before upstream's defaults.
fn configure(flags: Flags) -> Result<(Config, Asked)> {
    let mut config = Config::new(&node_name(flags.hostname_override.as_deref())?);
    let mut asked = Asked::default();
    if let Some(path) = &flags.config {
        asked = kubelet_configuration::load(path, &mut config)?;
    }
    asked.rotate_certificates = flags.rotate_certificates.unwrap_or(asked.rotate_certificates);
    let set = |field: &mut PathBuf, given: Option<PathBuf>| {
        if let Some(given) = given {
            *field = given;
        }
    };
    set(&mut config.tls_cert_file, flags.tls_cert_file);
    set(&mut config.tls_private_key_file, flags.tls_private_key_file);
    if config.tls_cert_file.as_os_str().is_empty() != config.tls_private_key_file.as_os_str().is_empty() {
        bail!(
            "--tls-cert-file and --tls-private-key-file go together, as do tlsCertFile and tlsPrivateKeyFile"
        );
    }
    config.root_dir = flags.root_dir;
    config.container_runtime_endpoint =
        flags.container_runtime_endpoint.unwrap_or(config.container_runtime_endpoint);
    config.address = flags.address.unwrap_or(config.address);
    config.port = flags.port.unwrap_or(config.port);
    if let Some(port) = flags.healthz_port {
        let address = config.healthz.map_or(IpAddr::from([127, 0, 0, 1]), |at| at.ip());
        config.healthz = (port != 0).then(|| (address, port).into());
    }
    config.client_ca_file = flags.client_ca_file.or(config.client_ca_file);
    config.cluster_dns = flags.cluster_dns.unwrap_or(config.cluster_dns);
    config.cluster_domain = flags.cluster_domain.unwrap_or(config.cluster_domain);
    config.max_pods = flags.max_pods.unwrap_or(config.max_pods);
    config.cgroup_root = flags.cgroup_root.unwrap_or(config.cgroup_root);
    config.static_pod_path = flags.pod_manifest_path.or(config.static_pod_path);
    config.node_ips = flags.node_ip;
    config.node_labels = flags.node_labels.into_iter().collect();
    Ok((config, asked))
}

/// Who makes the control groups of pods, kubelet and runtime must agree on. A runtime that tells (`RuntimeConfig`,
/// containerd 2 on) decides, as with upstream's kubelet; the configuration counts for one that does not.
///
/// # Errors
/// When it would be systemd: then a runtime wants names of slices for parents, which this kubelet does not make.
async fn check_cgroup_driver(endpoint: &str, systemd: bool) -> Result<()> {
    use cri::v1::CgroupDriver;
    let told = match cri::Client::lazy(endpoint)?.runtime_config().await {
        Ok(answer) => answer.linux.map(|linux| linux.cgroup_driver),
        Err(error) => {
            tracing::debug!("asking the container runtime for its cgroup driver: {error}");
            None
        }
    };
    let runtime = told.map(|driver| driver == CgroupDriver::Systemd as i32);
    if runtime == Some(true) {
        bail!(
            "the container runtime at {endpoint} uses the systemd cgroup driver, and only cgroupfs is built: set \
             SystemdCgroup = false in its configuration"
        );
    }
    if systemd && runtime.is_none() {
        bail!(
            "cgroupDriver: systemd is not built: set cgroupDriver: cgroupfs, and SystemdCgroup = false in the \
             configuration of containerd"
        );
    }
    if systemd {
        tracing::info!("cgroupDriver: the container runtime uses cgroupfs, and so does the kubelet");
    }
    Ok(())
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let (kubeconfig, cert_dir) = (flags.kubeconfig.kubeconfig.clone(), flags.cert_dir.clone());
        let bootstrap = flags.bootstrap_kubeconfig.clone();
        let (mut config, asked) = configure(flags)?;
        check_cgroup_driver(&config.container_runtime_endpoint, asked.systemd).await?;

        let own = ClientCertificate::new(cert_dir.clone(), &config.node_name, world.clone());
        if let Some(bootstrap) = bootstrap.filter(|file| file.exists() || !kubeconfig.exists()) {
            own.bootstrap(&bootstrap, &kubeconfig, &shutdown).await?;
        }
        let access = super::access(&kubeconfig)?;
        let client = if asked.rotate_certificates {
            let client = certificates::client_of(own.adopt(access)?)?;
            tokio::spawn(own.rotate(client.clone(), shutdown.clone()));
            client
        } else {
            certificates::client_of(access)?
        };
        if config.tls_cert_file.as_os_str().is_empty() {
            let (node, addresses) = (config.node_name.clone(), config.node_ips.clone());
            (config.tls_cert_file, config.tls_private_key_file) =
                certificates::serving(&cert_dir, &node, &addresses, world.clock.now())?;
            let (world, shutdown) = (world.clone(), shutdown.clone());
            tokio::spawn(certificates::keep_serving(cert_dir, node, addresses, world, shutdown));
        }
        let kubelet = Kubelet::build(config, client, world.clock.clone(), world.entropy.clone())
            .await
            .context("starting the kubelet")?;
        kubelet.run(shutdown).await;
        Ok(())
    })
}
