//! What all parts of one kubelet share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use api::core::v1::{Pod, Service};
use apimachinery::clock::{Clock, Entropy};
use client::{Client, Informer};
use linux::cgroup::Cgroups;
use tokio::sync::watch;

use crate::config::Config;
use crate::events::Events;
use crate::images::Images;
use crate::objects::Objects;
use crate::pod::cgroups::Tree;
use crate::pod::fields::Facts;
use crate::pod::{dns, spec};
use crate::probe::Probes;
use crate::runtime::Runtime;
use crate::volumes::tokens::Tokens;

/// Sizes of this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// Thousandths of processors.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system that holds the root directory.
    pub disk: i64,
}

/// Whether the runtime can run pods; errors are texts for the node's Ready condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub runtime: Result<(), String>,
    pub network: Result<(), String>,
}

impl Readiness {
    /// Nothing can be run, for this reason.
    pub fn down(why: &str) -> Readiness {
        let why = Err(format!("container runtime is down: {why}"));
        Readiness { runtime: why.clone(), network: why }
    }
}

pub struct Context {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub client: Client,
    pub runtime: Runtime,
    pub images: Images,
    pub objects: Objects,
    pub tokens: Tokens,
    pub probes: Arc<Probes>,
    pub events: Events,
    pub cgroups: Option<Cgroups>,
    pub tree: Tree,
    pub services: Informer<Service>,
    pub machine: Machine,
    /// Allocatable, as the downward API tells it.
    pub allocatable: [i64; 3],
    pub host_ips: Vec<String>,
    pub readiness: watch::Receiver<Readiness>,
}

impl Context {
    pub fn facts(&self, pod_ips: Vec<String>) -> Facts {
        Facts { pod_ips, host_ips: self.host_ips.clone(), allocatable: self.allocatable }
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        crate::volumes::pod_dir(&self.config.root_dir, uid)
    }

    /// Where a pod's logs go.
    pub fn log_dir(&self, pod: &Pod) -> PathBuf {
        self.config.pod_logs_dir.join(crate::pod::sandbox::log_directory(pod))
    }

    /// What marks sandboxes as this kubelet's.
    pub fn owner(&self) -> String {
        self.config.root_dir.to_string_lossy().into_owned()
    }

    /// A pod's DNS settings, with warnings.
    pub fn dns(&self, pod: &Pod) -> Result<(cri::v1::DnsConfig, Vec<String>), String> {
        let config = &self.config;
        let host = match config.resolver_config.as_str() {
            "" => None,
            path => match std::fs::read_to_string(path) {
                Ok(text) => Some(dns::parse(&text)),
                // A machine without a resolver: pods have the cluster's.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(Default::default()),
                Err(e) => return Err(format!("reading {path}: {e}")),
            },
        };
        let cluster = dns::Cluster {
            servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
            domain: config.cluster_domain.clone(),
        };
        Ok(dns::pod_dns(pod, host.as_ref(), &cluster))
    }

    /// The variables that tell a pod about services.
    pub fn service_variables(&self, pod: &Pod) -> Result<BTreeMap<String, String>, String> {
        if !spec::is_static(pod) && !self.services.has_synced() {
            return Err("services have not yet been read at least once, cannot construct envvars".into());
        }
        let links = spec::spec(pod).enable_service_links.unwrap_or(true);
        Ok(crate::pod::env::service_variables(&self.services.store().list(), spec::namespace(pod), links))
    }

    /// A few random hexadecimal digits.
    pub fn random_name(&self) -> String {
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
}
