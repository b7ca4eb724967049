//! Which controllers there are, and which of them run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::clock::{Clock, Entropy};
use client::{Client, SharedInformers};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::{
    clusterroleaggregation, deployment, endpoint, endpointslice, garbagecollector, namespace, nodeipam,
    nodelifecycle, podgc, replicaset, resourcequota, rootcacertpublisher, serviceaccount, servicecidrs,
    tainteviction, validatingadmissionpolicystatus,
};

/// A controller: upstream's name, upstream's older name, its service account in kube-system, and how it begins.
struct Entry {
    name: &'static str,
    alias: &'static str,
    account: &'static str,
    start: fn(&Context),
}

const ALL: &[Entry] = &[
    Entry {
        name: "endpoints-controller",
        alias: "endpoint",
        account: "endpoint-controller",
        start: endpoint::start,
    },
    Entry {
        name: "endpointslice-controller",
        alias: "endpointslice",
        account: "endpointslice-controller",
        start: endpointslice::start,
    },
    Entry {
        name: "pod-garbage-collector-controller",
        alias: "podgc",
        account: "pod-garbage-collector",
        start: podgc::start,
    },
    Entry {
        name: "namespace-controller",
        alias: "namespace",
        account: "namespace-controller",
        start: namespace::start,
    },
    Entry {
        name: "serviceaccount-controller",
        alias: "serviceaccount",
        account: "service-account-controller",
        start: serviceaccount::start,
    },
    Entry {
        name: "garbage-collector-controller",
        alias: "garbagecollector",
        account: "generic-garbage-collector",
        start: garbagecollector::start,
    },
    Entry {
        name: "deployment-controller",
        alias: "deployment",
        account: "deployment-controller",
        start: deployment::start,
    },
    Entry {
        name: "replicaset-controller",
        alias: "replicaset",
        account: "replicaset-controller",
        start: replicaset::start,
    },
    Entry {
        name: "resourcequota-controller",
        alias: "resourcequota",
        account: "resourcequota-controller",
        start: resourcequota::start,
    },
    Entry {
        name: "replicationcontroller-controller",
        alias: "replicationcontroller",
        account: "replication-controller",
        start: replicaset::start_old,
    },
    Entry {
        name: "service-cidr-controller",
        alias: "service-cidr",
        account: "service-cidrs-controller",
        start: servicecidrs::start,
    },
    Entry {
        name: "node-ipam-controller",
        alias: "nodeipam",
        account: "node-controller",
        start: nodeipam::start,
    },
    Entry {
        name: "node-lifecycle-controller",
        alias: "nodelifecycle",
        account: "node-controller",
        start: nodelifecycle::start,
    },
    Entry {
        name: "taint-eviction-controller",
        alias: "taint-eviction",
        account: "node-controller",
        start: tainteviction::start,
    },
    Entry {
        name: "clusterrole-aggregation-controller",
        alias: "clusterrole-aggregation",
        account: "clusterrole-aggregation-controller",
        start: clusterroleaggregation::start,
    },
    Entry {
        name: "root-ca-certificate-publisher-controller",
        alias: "root-ca-cert-publisher",
        account: "root-ca-cert-publisher",
        start: rootcacertpublisher::start,
    },
    Entry {
        name: "validatingadmissionpolicy-status-controller",
        alias: "validatingadmissionpolicy-status-controller",
        account: "validatingadmissionpolicy-status-controller",
        start: validatingadmissionpolicystatus::start,
    },
];

/// Upstream's other controllers, by both of their names: asking for one is no mistake, and starts nothing.
const UNBUILT: &[(&str, &str)] = &[
    ("bootstrap-signer-controller", "bootstrapsigner"),
    ("certificatesigningrequest-approving-controller", "csrapproving"),
    ("certificatesigningrequest-cleaner-controller", "csrcleaner"),
    ("certificatesigningrequest-signing-controller", "csrsigning"),
    ("cronjob-controller", "cronjob"),
    ("daemonset-controller", "daemonset"),
    ("disruption-controller", "disruption"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring"),
    ("ephemeral-volume-controller", "ephemeral-volume"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling"),
    ("job-controller", "job"),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-binder-controller", "persistentvolume-binder"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("persistentvolume-protection-controller", "pv-protection"),
    ("persistentvolumeclaim-protection-controller", "pvc-protection"),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("serviceaccount-token-controller", "serviceaccount-token"),
    ("statefulset-controller", "statefulset"),
    ("token-cleaner-controller", "tokencleaner"),
    ("ttl-after-finished-controller", "ttl-after-finished"),
    ("ttl-controller", "ttl"),
];

/// What the controllers need to know. The values of [`Config::default`] are upstream's.
#[derive(Clone, Debug)]
pub struct Config {
    /// As `--controllers`: names, `-name` to leave one out, `*` for all that are on by default.
    pub controllers: Vec<String>,
    /// PEM certificates that `kube-root-ca.crt` carries into every namespace; empty leaves that controller out.
    pub root_ca: String,
    /// The address range of all pods, such as `10.244.0.0/16`; empty leaves node IPAM out.
    pub cluster_cidr: String,
    /// The address ranges of Services, of which nodes get no part.
    pub service_cluster_ip_range: String,
    /// The prefix length of a node's part of it.
    pub node_cidr_mask_size: u8,
    /// How often the nodes are looked at.
    pub node_monitor_period: Duration,
    /// A node that has not been heard from for this long is taken for lost.
    pub node_monitor_grace_period: Duration,
    /// Evictions per second and zone while the zone is healthy.
    pub node_eviction_rate: f64,
    /// How long a namespace's content is left alone after its deletion, until every API server has seen it;
    /// may be zero where there is only one.
    pub namespace_deletion_delay: Duration,
    /// Ended pods above this number are deleted, the oldest first; 0 keeps them all.
    pub terminated_pod_gc_threshold: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            controllers: vec!["*".into()],
            root_ca: String::new(),
            cluster_cidr: String::new(),
            service_cluster_ip_range: String::new(),
            node_cidr_mask_size: 24,
            node_monitor_period: Duration::from_secs(5),
            node_monitor_grace_period: Duration::from_secs(50),
            node_eviction_rate: 0.1,
            namespace_deletion_delay: Duration::from_secs(5),
            terminated_pod_gc_threshold: 12500,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The names of all controllers, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|entry| entry.name)
}

/// Makes the client that acts as a service account of kube-system.
type Identities = Box<dyn Fn(&'static str) -> Client + Send>;

/// Controllers ready to run.
pub struct Controllers {
    context: Context,
    chosen: Vec<&'static Entry>,
    identities: Option<Identities>,
}

impl Controllers {
    /// Checks the configuration. Nothing is asked of the API server yet. Queues count where the client does.
    pub fn build(
        config: Config,
        client: Client,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Controllers, ConfigError> {
        let chosen = choose(&config.controllers)?;
        if !config.cluster_cidr.is_empty() {
            nodeipam::Pools::parse(&config.cluster_cidr, config.node_cidr_mask_size).map_err(ConfigError)?;
        }
        let context = Context {
            informers: SharedInformers::new(client.clone(), entropy.clone()),
            metrics: client.metrics().cloned(),
            client,
            clock,
            entropy,
            config: Arc::new(config),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Ok(Controllers { context, chosen, identities: None })
    }

    /// Lets every controller act under an identity of its own, as upstream's
    /// `--use-service-account-credentials` does. `make` gets the name of a service account in kube-system,
    /// upstream's for that controller (`deployment-controller`; several controllers may share one), and answers
    /// with a client of that identity. What all controllers share, the informers, stays with the client that
    /// [`Controllers::build`] got.
    pub fn with_identities(mut self, make: impl Fn(&'static str) -> Client + Send + 'static) -> Controllers {
        self.identities = Some(Box::new(make));
        self
    }

    /// The names of those that will run.
    pub fn chosen(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.chosen.iter().map(|entry| entry.name)
    }

    /// Runs until `shutdown`, then until every task has ended.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.context.shutdown = shutdown.clone();
        for entry in &self.chosen {
            let client = match &self.identities {
                Some(make) => make(entry.account),
                None => self.context.client.clone(),
            };
            (entry.start)(&Context { client, ..self.context.clone() });
        }
        self.context.informers.start(&shutdown);
        shutdown.cancelled().await;
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }
}

fn choose(selection: &[String]) -> Result<Vec<&'static Entry>, ConfigError> {
    let find = |name: &str| ALL.iter().position(|entry| entry.name == name || entry.alias == name);
    let (mut on, mut off, mut all) = (BTreeSet::new(), BTreeSet::new(), false);
    for text in selection {
        let (set, name) = match text.strip_prefix('-') {
            Some(name) => (&mut off, name),
            None => (&mut on, text.as_str()),
        };
        if text == "*" {
            all = true;
        } else {
            match find(name) {
                Some(index) => {
                    set.insert(index);
                }
                None if UNBUILT.iter().any(|(new, old)| [*new, *old].contains(&name)) => {
                    if !text.starts_with('-') {
                        tracing::warn!(
                            controller = name,
                            "this controller is not built: what it does is not done"
                        );
                    }
                }
                None => return Err(ConfigError(format!("{name:?} is not in the list of known controllers"))),
            }
        }
    }
    let chosen = ALL.iter().enumerate().filter(|(i, _)| on.contains(i) || (all && !off.contains(i)));
    Ok(chosen.map(|(_, entry)| entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection() {
        let check = |selection: &[&str], expect: Option<&[&str]>| {
            let selection: Vec<String> = selection.iter().map(ToString::to_string).collect();
            let got = choose(&selection).ok().map(|all| all.iter().map(|e| e.name).collect::<Vec<_>>());
            assert_eq!(got.as_deref(), expect);
        };
        check(
            &["replicaset", "deployment-controller"],
            Some(&["deployment-controller", "replicaset-controller"]),
        );
        let all: Vec<_> = names().collect();
        check(&["*"], Some(&all));
        let rest: Vec<_> = names().filter(|name| *name != "namespace-controller").collect();
        check(&["*", "-namespace"], Some(&rest));
        check(&["*", "bootstrapsigner", "-token-cleaner-controller"], Some(&all));
        check(&["nonsense"], None);
        check(&["-nonsense", "*"], None);
    }
}
