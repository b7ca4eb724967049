//! `KubeletConfiguration`, as far as its fields are built; any other field is an error, since what it asks for would
//! not happen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::core::v1::Taint;
use kubelet::Config;
use kubelet::config::{Authorization, Eviction};
use serde::Deserialize;

use super::configuration::decode;
use super::{duration, read};

/// Upstream's other fields.
const UNBUILT: &[&str] = &[
    "enableServer",
    "httpCheckFrequency",
    "staticPodURL",
    "staticPodURLHeader",
    "readOnlyPort",
    "tlsCipherSuites",
    "tlsCurvePreferences",
    "tlsMinVersion",
    "serverTLSBootstrap",
    "registryPullQPS",
    "registryBurst",
    "imagePullCredentialsVerificationPolicy",
    "preloadedImagesVerificationAllowlist",
    "eventRecordQPS",
    "eventBurst",
    "enableDebuggingHandlers",
    "enableContentionProfiling",
    "oomScoreAdj",
    "streamingConnectionIdleTimeout",
    "imageMinimumGCAge",
    "imageMaximumGCAge",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "volumeStatsAggPeriod",
    "kubeletCgroups",
    "systemCgroups",
    "cpuManagerPolicy",
    "singleProcessOOMKill",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "memoryManagerPolicy",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "topologyManagerPolicyOptions",
    "qosReserved",
    "runtimeRequestTimeout",
    "hairpinMode",
    "podCIDR",
    "podPidsLimit",
    "runOnce",
    "cpuCFSQuotaPeriod",
    "maxOpenFiles",
    "contentType",
    "kubeAPIQPS",
    "kubeAPIBurst",
    "maxParallelImagePulls",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "evictionPressureTransitionPeriod",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "mergeDefaultEvictionSettings",
    "podsPerCore",
    "enableControllerAttachDetach",
    "protectKernelDefaults",
    "makeIPTablesUtilChains",
    "iptablesMasqueradeBit",
    "iptablesDropBit",
    "featureGates",
    "failSwapOn",
    "memorySwap",
    "containerLogMaxSize",
    "containerLogMaxFiles",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "configMapAndSecretChangeDetectionStrategy",
    "systemReserved",
    "kubeReserved",
    "reservedSystemCPUs",
    "showHiddenMetricsForVersion",
    "systemReservedCgroup",
    "kubeReservedCgroup",
    "enforceNodeAllocatable",
    "allowedUnsafeSysctls",
    "volumePluginDir",
    "kernelMemcgNotification",
    "logging",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "shutdownGracePeriodByPodPriority",
    "crashLoopBackOff",
    "reservedMemory",
    "enableProfilingHandler",
    "enableDebugFlagsHandler",
    "memoryThrottlingFactor",
    "memoryReservationPolicy",
    "tracing",
    "localStorageCapacityIsolation",
    "imageServiceEndpoint",
    "failCgroupV1",
    "userNamespaces",
];

/// What the file asks for beside the kubelet's own configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub rotate_certificates: bool,
    /// Control groups through systemd.
    pub systemd: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    address: Option<IpAddr>,
    port: Option<u16>,
    healthz_bind_address: Option<IpAddr>,
    healthz_port: Option<u16>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    authentication: Authentication,
    authorization: AuthorizationFile,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Option<Vec<IpAddr>>,
    cluster_domain: Option<String>,
    container_runtime_endpoint: Option<String>,
    static_pod_path: Option<PathBuf>,
    pod_logs_dir: Option<PathBuf>,
    resolv_conf: Option<String>,
    max_pods: Option<u32>,
    cgroup_root: Option<String>,
    cgroup_driver: Option<String>,
    rotate_certificates: Option<bool>,
    #[serde(rename = "cgroupsPerQOS")]
    cgroups_per_qos: Option<bool>,
    #[serde(rename = "cpuCFSQuota")]
    cpu_cfs_quota: Option<bool>,
    register_node: Option<bool>,
    register_with_taints: Option<Vec<Taint>>,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    eviction_hard: Option<BTreeMap<String, String>>,
    seccomp_default: Option<bool>,
    serialize_image_pulls: Option<bool>,
    node_status_update_frequency: Option<String>,
    node_status_report_frequency: Option<String>,
    node_lease_duration_seconds: Option<u64>,
    node_status_max_images: Option<usize>,
    sync_frequency: Option<String>,
    file_check_frequency: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Authentication {
    x509: X509,
    webhook: WebhookAuthentication,
    anonymous: Anonymous,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WebhookAuthentication {
    enabled: Option<bool>,
    #[serde(rename = "cacheTTL")]
    cache_ttl: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Anonymous {
    enabled: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AuthorizationFile {
    mode: Option<String>,
    webhook: WebhookAuthorization,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    cache_authorized_ttl: Option<String>,
    #[serde(rename = "cacheUnauthorizedTTL")]
    cache_unauthorized_ttl: Option<String>,
}

/// Sets in `config` what the file sets. Relative paths are relative to the file's directory, as upstream's.
pub fn load(path: &Path, config: &mut Config) -> Result<Asked> {
    apply(&read(path)?, path.parent().unwrap_or(Path::new("")), config)
        .with_context(|| format!("reading the kubelet's configuration {}", path.display()))
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// Empty and zero durations are upstream's defaults.
fn set_duration(field: &mut Duration, given: Option<&str>, name: &str) -> Result<()> {
    if let Some(text) = given {
        let given = duration(text).map_err(|error| anyhow::anyhow!("{name} {text:?}: {error}"))?;
        if !given.is_zero() {
            *field = given;
        }
    }
    Ok(())
}

fn apply(text: &str, directory: &Path, config: &mut Config) -> Result<Asked> {
    let file: File = decode(text, "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", UNBUILT)?;
    let systemd = match file.cgroup_driver.as_deref() {
        None | Some("" | "cgroupfs") => false,
        Some("systemd") => true,
        Some(other) => bail!("cgroupDriver {other:?}: cgroupfs or systemd is wanted"),
    };
    let times = [
        file.authentication.webhook.cache_ttl.as_deref(),
        file.authorization.webhook.cache_authorized_ttl.as_deref(),
        file.authorization.webhook.cache_unauthorized_ttl.as_deref(),
    ];
    // Upstream's defaults, which the server has.
    for (given, built) in times.into_iter().zip(["2m0s", "5m0s", "30s"]) {
        if given.is_some_and(|given| !["", "0s", built].contains(&given)) {
            bail!("the webhooks' cache times: only {built} is built here");
        }
    }
    let whole = |path: PathBuf| directory.join(path);
    set(&mut config.address, file.address);
    set(&mut config.port, file.port.filter(|port| *port != 0));
    let (address, port) = match config.healthz {
        Some(at) => (at.ip(), at.port()),
        None => (IpAddr::from([127, 0, 0, 1]), 0),
    };
    let at = SocketAddr::new(file.healthz_bind_address.unwrap_or(address), file.healthz_port.unwrap_or(port));
    config.healthz = (at.port() != 0).then_some(at);
    set(&mut config.tls_cert_file, file.tls_cert_file.map(whole));
    set(&mut config.tls_private_key_file, file.tls_private_key_file.map(whole));
    if let Some(path) = file.authentication.x509.client_ca_file {
        config.client_ca_file = Some(whole(path));
    }
    if file.authentication.webhook.enabled == Some(false) {
        bail!("authentication.webhook.enabled: only true is built");
    }
    set(&mut config.anonymous_auth, file.authentication.anonymous.enabled);
    match file.authorization.mode.as_deref() {
        None | Some("Webhook") => {}
        Some("AlwaysAllow") => config.authorization = Authorization::AlwaysAllow,
        Some(other) => bail!("authorization.mode {other:?}: AlwaysAllow or Webhook is wanted"),
    }
    set(&mut config.cluster_dns, file.cluster_dns);
    set(&mut config.cluster_domain, file.cluster_domain);
    set(
        &mut config.container_runtime_endpoint,
        file.container_runtime_endpoint.filter(|endpoint| !endpoint.is_empty()),
    );
    if let Some(path) = file.static_pod_path {
        config.static_pod_path = Some(whole(path));
    }
    set(&mut config.pod_logs_dir, file.pod_logs_dir.map(whole));
    set(&mut config.resolver_config, file.resolv_conf);
    set(&mut config.max_pods, file.max_pods);
    set(&mut config.cgroup_root, file.cgroup_root.filter(|root| !root.is_empty()));
    set(&mut config.cgroups_per_qos, file.cgroups_per_qos);
    set(&mut config.cpu_cfs_quota, file.cpu_cfs_quota);
    set(&mut config.register_node, file.register_node);
    set(&mut config.register_with_taints, file.register_with_taints);
    set(&mut config.provider_id, file.provider_id);
    if let Some(thresholds) = file.eviction_hard {
        let text: Vec<String> =
            thresholds.iter().map(|(signal, value)| format!("{signal}<{value}")).collect();
        config.eviction_hard = Eviction::parse(&text.join(",")).map_err(anyhow::Error::msg)?;
    }
    set(&mut config.seccomp_default, file.seccomp_default);
    set(&mut config.serialize_image_pulls, file.serialize_image_pulls);
    set_duration(
        &mut config.node_status_update_frequency,
        file.node_status_update_frequency.as_deref(),
        "nodeStatusUpdateFrequency",
    )?;
    set_duration(
        &mut config.node_status_report_frequency,
        file.node_status_report_frequency.as_deref(),
        "nodeStatusReportFrequency",
    )?;
    set_duration(&mut config.sync_frequency, file.sync_frequency.as_deref(), "syncFrequency")?;
    set_duration(
        &mut config.file_check_frequency,
        file.file_check_frequency.as_deref(),
        "fileCheckFrequency",
    )?;
    if let Some(seconds) = file.node_lease_duration_seconds.filter(|seconds| *seconds != 0) {
        config.node_lease_duration = Duration::from_secs(seconds);
    }
    set(&mut config.node_status_max_images, file.node_status_max_images);
    Ok(Asked { rotate_certificates: file.rotate_certificates.unwrap_or(false), systemd })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    fn check(body: &str, expect: Result<fn(&Config) -> bool, &str>) {
        let mut config = Config::new("n");
        match (apply(&format!("{HEAD}{body}"), Path::new("/etc/k"), &mut config), expect) {
            (Ok(_), Ok(is)) => assert!(is(&config), "{body}: {config:?}"),
            (Err(error), Err(words)) => {
                let said = format!("{error:#}");
                assert!(said.contains(words), "{body}: {said}");
            }
            (got, _) => panic!("{body}: {got:?}"),
        }
    }

    /// All that kubeadm writes for a node.
    const KUBEADM: &str = "
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ''
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options: {json: {infoBufferSize: '0'}, text: {infoBufferSize: '0'}}
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";

    #[test]
    fn what_kubeadm_writes() {
        let mut config = Config::new("n");
        let asked = apply(&format!("{HEAD}{KUBEADM}"), Path::new("/var/lib/kubelet"), &mut config).unwrap();
        assert_eq!(asked, Asked { rotate_certificates: true, systemd: true });
        let fresh = Config::new("n");
        // What is empty or zero is the default.
        assert_eq!(config.container_runtime_endpoint, fresh.container_runtime_endpoint);
        assert_eq!(config.node_status_update_frequency, fresh.node_status_update_frequency);
        assert_eq!(config.static_pod_path.as_deref(), Some(Path::new("/etc/kubernetes/manifests")));
    }

    #[test]
    fn fields() {
        check("", Ok(|c| c.port == 10250 && c.healthz.is_some_and(|at| at.port() == 10248)));
        check("healthzPort: 0", Ok(|c| c.healthz.is_none()));
        check("healthzBindAddress: 0.0.0.0", Ok(|c| c.healthz == Some(([0, 0, 0, 0], 10248).into())));
        check("clusterDNS: [10.96.0.10]\nmaxPods: 7", Ok(|c| c.cluster_dns.len() == 1 && c.max_pods == 7));
        check("staticPodPath: m", Ok(|c| c.static_pod_path.as_deref() == Some(Path::new("/etc/k/m"))));
        check(
            "authentication: {x509: {clientCAFile: /ca.crt}, anonymous: {enabled: true}}",
            Ok(|c| c.anonymous_auth && c.client_ca_file.as_deref() == Some(Path::new("/ca.crt"))),
        );
        check("authorization: {mode: AlwaysAllow}", Ok(|c| c.authorization == Authorization::AlwaysAllow));
        check(
            "evictionHard: {memory.available: 1Gi}",
            Ok(|c| c.eviction_hard.memory_available.of(u64::MAX) == 1 << 30),
        );
        check("syncFrequency: 1m30s", Ok(|c| c.sync_frequency == Duration::from_secs(90)));
        check("syncFrequency: 0s", Ok(|c| c.sync_frequency == Duration::from_secs(60)));
        // What kubeadm writes without meaning anything.
        check(
            "memorySwap: {}\nimageMinimumGCAge: 0s\nlogging: {verbosity: 0}\ncgroupDriver: cgroupfs",
            Ok(|_| true),
        );
        check("authorization: {webhook: {cacheAuthorizedTTL: 0s}}", Ok(|_| true));
        check("authorization: {webhook: {cacheAuthorizedTTL: 1s}}", Err("only 5m0s"));
        check("cgroupDriver: runc", Err("cgroupDriver \"runc\""));
        check("serverTLSBootstrap: true", Err("serverTLSBootstrap is not built"));
        check("cgroupDrivr: cgroupfs", Err("cgroupDrivr"));
        check("authentication: {x509: {ca: x}}", Err("ca"));
        check("authentication: {webhook: {enabled: false}}", Err("only true is built"));
        check("syncFrequency: soon", Err("syncFrequency \"soon\""));
        let mut config = Config::new("n");
        let asked =
            |body: &str| apply(&format!("{HEAD}{body}"), Path::new(""), &mut Config::new("n")).unwrap();
        assert_eq!(asked("cgroupDriver: cgroupfs"), Asked::default());
        let both = Asked { rotate_certificates: true, systemd: true };
        assert_eq!(asked("rotateCertificates: true\ncgroupDriver: systemd"), both);
        assert!(apply("kind: Pod\napiVersion: v1\n", Path::new(""), &mut config).is_err());
    }
}
