//! What a kubelet is told. Names and defaults are upstream's (`KubeletConfiguration` and flags); parsing has no
//! effects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::core::v1::Taint;

/// Everything about one kubelet.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of its Node object (`--hostname-override`, else the host's name in lower case).
    pub node_name: String,
    /// The address of type Hostname.
    pub hostname: String,
    /// Pods' directories (`--root-dir`).
    pub root_dir: PathBuf,
    /// Pods' logs (`podLogsDir`).
    pub pod_logs_dir: PathBuf,
    /// Links to containers' logs under their legacy names; `None` for none.
    pub container_logs_dir: Option<PathBuf>,
    /// `unix:///…` (`containerRuntimeEndpoint`).
    pub container_runtime_endpoint: String,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The resolv.conf that pods inherit from; empty for none.
    pub resolver_config: String,
    /// Where the HTTPS server listens; port 0 picks one.
    pub address: IpAddr,
    pub port: u16,
    /// Plain and without authentication; 0 for none, which is the only value served.
    pub read_only_port: u16,
    /// `None` for no health endpoint.
    pub healthz: Option<std::net::SocketAddr>,
    /// The server's certificate and key; both are read again when they change.
    pub tls_cert_file: PathBuf,
    pub tls_private_key_file: PathBuf,
    /// Who signs clients' certificates; `None` accepts none.
    pub client_ca_file: Option<PathBuf>,
    /// Whether requests without credentials are asked about as `system:anonymous`.
    pub anonymous_auth: bool,
    /// `Webhook` asks the API server, `AlwaysAllow` nobody.
    pub authorization: Authorization,
    pub max_pods: u32,
    /// The group below which all of this kubelet's pods live (`cgroupRoot`).
    pub cgroup_root: String,
    /// Whether pods get groups of their own (`cgroupsPerQOS`).
    pub cgroups_per_qos: bool,
    pub cpu_cfs_quota: bool,
    /// Manifests of static pods; `None` for none.
    pub static_pod_path: Option<PathBuf>,
    /// The node's addresses, the primary one first; empty to find one.
    pub node_ips: Vec<IpAddr>,
    /// Whether to make the Node object.
    pub register_node: bool,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<Taint>,
    pub provider_id: String,
    pub eviction_hard: Eviction,
    /// Held back from Allocatable, by resource: quantities as text.
    pub reserved: BTreeMap<String, String>,
    pub seccomp_default: bool,
    pub serialize_image_pulls: bool,
    pub node_status_update_frequency: Duration,
    pub node_status_report_frequency: Duration,
    pub node_lease_duration: Duration,
    pub sync_frequency: Duration,
    pub file_check_frequency: Duration,
    pub node_status_max_images: usize,
    /// How long a deleted container's newest dead predecessors are kept for `logs --previous`: how many.
    pub max_dead_containers_per_container: usize,
    /// Whether this kubelet speaks of itself under this version.
    pub version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    Webhook,
    AlwaysAllow,
}

/// Hard eviction thresholds; upstream's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Eviction {
    pub memory_available: Threshold,
    pub nodefs_available: Threshold,
    pub nodefs_inodes_free: Threshold,
    pub pid_available: Threshold,
}

/// A bound on what must be left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    Bytes(u64),
    /// Of the whole, 0 to 1.
    Share(f64),
}

impl Threshold {
    /// How much must be left of `capacity`.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Threshold::Bytes(bytes) => bytes,
            Threshold::Share(share) => (capacity as f64 * share) as u64,
        }
    }

    /// Reads `100Mi` or `10%`.
    pub fn parse(text: &str) -> Result<Threshold, String> {
        let invalid = || format!("invalid eviction threshold {text:?}: a quantity or a percentage is wanted");
        if let Some(percent) = text.strip_suffix('%') {
            let share = percent.parse::<f64>().map_err(|_| invalid())? / 100.0;
            return if (0.0..=1.0).contains(&share) { Ok(Threshold::Share(share)) } else { Err(invalid()) };
        }
        let quantity = apimachinery::quantity::Quantity::parse(text).map_err(|_| invalid())?;
        u64::try_from(quantity.value()).map(Threshold::Bytes).map_err(|_| invalid())
    }
}

impl Default for Eviction {
    fn default() -> Eviction {
        Eviction {
            memory_available: Threshold::Bytes(100 << 20),
            nodefs_available: Threshold::Share(0.10),
            nodefs_inodes_free: Threshold::Share(0.05),
            pid_available: Threshold::Share(0.0),
        }
    }
}

impl Eviction {
    /// Sets signals as `--eviction-hard` names them: `memory.available<100Mi,nodefs.available<10%`.
    pub fn parse(text: &str) -> Result<Eviction, String> {
        let none = Threshold::Bytes(0);
        let mut out = Eviction {
            memory_available: none,
            nodefs_available: none,
            nodefs_inodes_free: none,
            pid_available: none,
        };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (signal, value) = part.split_once('<').ok_or_else(|| {
                format!("invalid eviction threshold syntax {part:?}, expected <signal><operator><value>")
            })?;
            let threshold = Threshold::parse(value)?;
            match signal {
                "memory.available" => out.memory_available = threshold,
                "nodefs.available" => out.nodefs_available = threshold,
                "nodefs.inodesFree" => out.nodefs_inodes_free = threshold,
                "pid.available" => out.pid_available = threshold,
                // One file system holds everything here.
                "imagefs.available"
                | "imagefs.inodesFree"
                | "containerfs.available"
                | "containerfs.inodesFree" => {}
                other => return Err(format!("invalid eviction signal {other:?}")),
            }
        }
        Ok(out)
    }
}

impl Config {
    /// Upstream's defaults for a node of this name, with everything below `root_dir` where upstream has it.
    pub fn new(node_name: &str) -> Config {
        Config {
            node_name: node_name.to_owned(),
            hostname: node_name.to_owned(),
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            container_logs_dir: Some("/var/log/containers".into()),
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolver_config: "/etc/resolv.conf".into(),
            address: IpAddr::from([0, 0, 0, 0]),
            port: 10250,
            read_only_port: 0,
            healthz: Some(([127, 0, 0, 1], 10248).into()),
            tls_cert_file: PathBuf::new(),
            tls_private_key_file: PathBuf::new(),
            client_ca_file: None,
            anonymous_auth: false,
            authorization: Authorization::Webhook,
            max_pods: 110,
            cgroup_root: "/".into(),
            cgroups_per_qos: true,
            cpu_cfs_quota: true,
            static_pod_path: None,
            node_ips: Vec::new(),
            register_node: true,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            provider_id: String::new(),
            eviction_hard: Eviction::default(),
            reserved: BTreeMap::new(),
            seccomp_default: false,
            serialize_image_pulls: true,
            node_status_update_frequency: Duration::from_secs(10),
            node_status_report_frequency: Duration::from_secs(300),
            node_lease_duration: Duration::from_secs(40),
            sync_frequency: Duration::from_secs(60),
            file_check_frequency: Duration::from_secs(20),
            node_status_max_images: 50,
            max_dead_containers_per_container: 1,
            version: "v1.36.2".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let got = Eviction::parse("memory.available<1Gi, nodefs.available<5%").expect("thresholds");
        assert_eq!(got.memory_available.of(u64::MAX), 1 << 30);
        assert_eq!(got.nodefs_available.of(1000), 50);
        assert_eq!(got.pid_available.of(1000), 0);
        for bad in ["memory.available", "odd<1", "memory.available<x", "memory.available<200%"] {
            assert!(Eviction::parse(bad).is_err(), "{bad}");
        }
    }
}
