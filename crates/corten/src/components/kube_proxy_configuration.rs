//! `KubeProxyConfiguration`, as far as its fields are built.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::configuration::{ClientConnection, decode};
use super::{duration, read};

/// Upstream's fields of other modes and of what is not built.
const UNBUILT: &[&str] = &[
    "bindAddressHardFail",
    "conntrack",
    "detectLocal",
    "featureGates",
    "ipvs",
    "iptables",
    "logging",
    "nodePortAddresses",
    "oomScoreAdj",
    "portRange",
    "showHiddenMetricsForVersion",
    "windowsRunAsService",
    "winkernel",
];

/// What a file says; what it leaves out is `None`.
#[derive(Debug, Default)]
pub struct Said {
    pub kubeconfig: Option<PathBuf>,
    pub hostname_override: Option<String>,
    pub cluster_cidrs: Option<Vec<String>>,
    pub mode: Option<String>,
    pub masquerade_all: Option<bool>,
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub sync_period: Option<std::time::Duration>,
    pub min_sync_period: Option<std::time::Duration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    client_connection: ClientConnection,
    hostname_override: String,
    bind_address: String,
    healthz_bind_address: String,
    metrics_bind_address: String,
    enable_profiling: bool,
    mode: String,
    nftables: Nftables,
    detect_local_mode: String,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: String,
    config_sync_period: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Nftables {
    masquerade_all: bool,
    masquerade_bit: Option<u8>,
    sync_period: String,
    min_sync_period: String,
}

pub fn load(path: &Path) -> Result<Said> {
    parse(&read(path)?, path.parent().unwrap_or(Path::new("")))
        .with_context(|| format!("reading the proxy's configuration {}", path.display()))
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn address(text: String, port: u16) -> Result<Option<SocketAddr>> {
    let Some(text) = given(text) else { return Ok(None) };
    let at = text.parse::<SocketAddr>();
    let at = at.or_else(|_| text.parse().map(|ip: std::net::IpAddr| SocketAddr::new(ip, port)));
    at.map(Some).with_context(|| format!("{text:?} is no address with a port"))
}

fn period(text: String) -> Result<Option<std::time::Duration>> {
    let Some(text) = given(text).filter(|text| text != "0s") else { return Ok(None) };
    duration(&text).map(Some).map_err(|error| anyhow::anyhow!("{text:?}: {error}"))
}

fn parse(text: &str, directory: &Path) -> Result<Said> {
    let file: File = decode(text, "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", UNBUILT)?;
    file.client_connection.check()?;
    if file.enable_profiling {
        bail!("enableProfiling is not built");
    }
    if file.nftables.masquerade_bit.is_some_and(|bit| bit != 14) {
        bail!("nftables.masqueradeBit: only 14 is built");
    }
    if !matches!(file.detect_local_mode.as_str(), "" | "ClusterCIDR") {
        bail!("detectLocalMode {:?}: only ClusterCIDR is built", file.detect_local_mode);
    }
    // It decides the family that comes first, which the Services' own addresses do here.
    if !matches!(file.bind_address.as_str(), "" | "0.0.0.0" | "::") {
        bail!("bindAddress {:?}: only the unspecified address is built", file.bind_address);
    }
    // How often everything is told again; here nothing is forgotten.
    period(file.config_sync_period).context("configSyncPeriod")?;
    Ok(Said {
        kubeconfig: given(file.client_connection.kubeconfig).map(|path| directory.join(path)),
        hostname_override: given(file.hostname_override),
        cluster_cidrs: given(file.cluster_cidr).map(|text| text.split(',').map(str::to_owned).collect()),
        mode: given(file.mode),
        masquerade_all: Some(file.nftables.masquerade_all),
        healthz: address(file.healthz_bind_address, 10256).context("healthzBindAddress")?,
        metrics: address(file.metrics_bind_address, 10249).context("metricsBindAddress")?,
        sync_period: period(file.nftables.sync_period).context("nftables.syncPeriod")?,
        min_sync_period: period(file.nftables.min_sync_period).context("nftables.minSyncPeriod")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: Result<fn(&Said) -> bool, &str>) {
        let text =
            format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{body}");
        match (parse(&text, Path::new("/d")), expect) {
            (Ok(said), Ok(is)) => assert!(is(&said), "{body}: {said:?}"),
            (Err(error), Err(words)) => assert!(format!("{error:#}").contains(words), "{body}: {error:#}"),
            (got, _) => panic!("{body}: {got:?}"),
        }
    }

    #[test]
    fn fields() {
        // As kubeadm writes it, with the mode changed.
        check(
            "bindAddress: 0.0.0.0\nclientConnection: {acceptContentTypes: '', burst: 0, contentType: '', \
             kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}\nclusterCIDR: 10.244.0.0/16\n\
             configSyncPeriod: 0s\nconntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null}\n\
             detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}\ndetectLocalMode: ''\n\
             enableProfiling: false\nhealthzBindAddress: ''\nhostnameOverride: ''\n\
             iptables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s}\n\
             ipvs: {excludeCIDRs: null, scheduler: '', strictARP: false}\nlogging: {verbosity: 0}\n\
             metricsBindAddress: ''\nmode: nftables\nnftables: {masqueradeAll: false, masqueradeBit: null, \
             minSyncPeriod: 0s, syncPeriod: 0s}\nnodePortAddresses: null\noomScoreAdj: null\nportRange: ''\n\
             showHiddenMetricsForVersion: ''\nwinkernel: {enableDSR: false, networkName: ''}\n",
            Ok(|said| {
                said.mode.as_deref() == Some("nftables")
                    && said.cluster_cidrs.as_deref() == Some(&["10.244.0.0/16".to_owned()])
                    && said.healthz.is_none()
                    && said.kubeconfig.as_deref() == Some(Path::new("/var/lib/kube-proxy/kubeconfig.conf"))
            }),
        );
        check("clientConnection: {kubeconfig: k}", Ok(|s| s.kubeconfig == Some("/d/k".into())));
        check("metricsBindAddress: 0.0.0.0:1", Ok(|s| s.metrics == Some(([0, 0, 0, 0], 1).into())));
        check("healthzBindAddress: 127.0.0.1", Ok(|s| s.healthz == Some(([127, 0, 0, 1], 10256).into())));
        check("nftables: {minSyncPeriod: 2s}", Ok(|s| s.min_sync_period.is_some_and(|p| p.as_secs() == 2)));
        check("iptables: {masqueradeAll: true}", Err("iptables is not built"));
        check("detectLocalMode: NodeCIDR", Err("only ClusterCIDR"));
        check("metricsBindAdress: ''", Err("metricsBindAdress"));
    }
}
