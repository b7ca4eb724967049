//! Pods and nodes as the scheduler sees them: decoded once, with what the plugins ask for worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::v1::{Node, Pod, Taint, Toleration};
use apimachinery::quantity::Quantity;
use client::Key;
use kinds::pod::resources;

/// Amounts of resources: milli-CPUs, bytes, and whole units of everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    pub fn new(amounts: &BTreeMap<String, Quantity>) -> Resources {
        let mut all = Resources::default();
        for (name, amount) in amounts {
            match name.as_str() {
                "cpu" => all.milli_cpu = amount.milli_value(),
                "memory" => all.memory = amount.value(),
                "ephemeral-storage" => all.ephemeral_storage = amount.value(),
                "pods" => {}
                other => {
                    all.scalar.insert(other.to_owned(), amount.value());
                }
            }
        }
        all
    }

    fn change(&mut self, other: &Resources, sign: i64) {
        self.milli_cpu += sign * other.milli_cpu;
        self.memory += sign * other.memory;
        self.ephemeral_storage += sign * other.ephemeral_storage;
        for (name, amount) in &other.scalar {
            *self.scalar.entry(name.clone()).or_default() += sign * amount;
        }
    }
}

/// What a container without a request counts for when nodes are ranked, so that such containers spread too
/// (upstream's `util.DefaultMilliCPURequest` and `DefaultMemoryRequest`).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// A host port: protocol, address (`0.0.0.0` for all), port.
pub type HostPort = (String, String, i32);

/// A pod with what the plugins need.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub key: Key,
    pub uid: String,
    pub priority: i32,
    pub requests: Resources,
    /// The requests for ranking: containers without one count with a default.
    pub ranked: Resources,
    pub host_ports: Vec<HostPort>,
    pub gates: Vec<String>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> PodInfo {
        let empty = Default::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let requests = Resources::new(&resources::requests(spec));
        let mut ranked = requests.clone();
        let init = spec.init_containers.iter().flatten().filter(|container| resources::is_sidecar(container));
        for container in spec.containers.iter().chain(init) {
            let own = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let has = |name: &str| own.is_some_and(|own| own.contains_key(name));
            ranked.milli_cpu += if has("cpu") { 0 } else { DEFAULT_MILLI_CPU };
            ranked.memory += if has("memory") { 0 } else { DEFAULT_MEMORY };
        }
        let host_ports = spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                let number = port.host_port.filter(|number| *number > 0)?;
                let address = port.host_ip.clone().filter(|address| !address.is_empty());
                Some((
                    port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    address.unwrap_or_else(|| "0.0.0.0".to_owned()),
                    number,
                ))
            })
            .collect();
        PodInfo {
            key: client::key_of(pod.as_ref()),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            requests,
            ranked,
            host_ports,
            gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            pod,
        }
    }

    pub fn tolerations(&self) -> &[Toleration] {
        self.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }

    /// The node that the pod is bound to; empty when it has none.
    pub fn node_name(&self) -> &str {
        self.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
    }
}

/// A node with the pods on it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: String,
    /// None while pods are known to be on a node that is not (yet, or any more) known itself.
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub requested: Resources,
    pub ranked: Resources,
    pub pods: BTreeMap<String, Arc<PodInfo>>,
    pub used_ports: BTreeSet<HostPort>,
    /// Image reference → size in bytes.
    pub images: BTreeMap<String, i64>,
}

impl NodeInfo {
    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let amounts = allocatable.map(resources::parsed).unwrap_or_default();
        self.allowed_pods = amounts.get("pods").map_or(0, Quantity::value);
        self.allocatable = Resources::new(&amounts);
        let images = status.and_then(|status| status.images.as_deref()).unwrap_or_default();
        self.images = images
            .iter()
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            })
            .collect();
        self.name = node.metadata.name.clone().unwrap_or_default();
        self.node = Some(node);
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.change(&pod.requests, 1);
        self.ranked.change(&pod.ranked, 1);
        self.used_ports.extend(pod.host_ports.iter().cloned());
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove_pod(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.requested.change(&pod.requests, -1);
            self.ranked.change(&pod.ranked, -1);
            self.used_ports = self.pods.values().flat_map(|pod| pod.host_ports.iter().cloned()).collect();
        }
    }

    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.node.as_ref().and_then(|node| node.metadata.labels.as_ref())
    }

    pub fn unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }
}
