//! Removes pods that nobody else removes: of nodes that are gone, never bound but deleted, and ended ones
//! beyond a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Pod};
use api::meta::v1::DeleteOptions;
use client::{Client, Store, with_grace};
use tokio::time::Instant;

use crate::context::{Context, name, namespace};
use crate::disruption::{self, Disruption};
use crate::error::Doing;
use crate::{Result, pods};

const PERIOD: Duration = Duration::from_secs(20);
/// A pod's node must have been missing for so long.
const QUARANTINE: Duration = Duration::from_secs(40);

pub(crate) fn start(context: &Context) {
    let controller = Controller {
        client: context.client.clone(),
        context: context.clone(),
        pods: context.informers.get::<Pod>().store().clone(),
        nodes: context.informers.get::<Node>().store().clone(),
        missing: BTreeMap::new(),
    };
    let wait = context.clone();
    context.spawn(async move {
        if wait.informers.wait_for_sync(&wait.shutdown).await {
            controller.run().await;
        }
    });
}

struct Controller {
    client: Client,
    context: Context,
    pods: Store<Pod>,
    nodes: Store<Node>,
    /// Since when pods have been seen that are bound to a node which is not there.
    missing: BTreeMap<String, Instant>,
}

/// What is to be removed, and why.
#[derive(Debug, PartialEq)]
enum Reason {
    Orphaned,
    Unscheduled,
    OutOfService,
    Surplus,
}

impl Controller {
    async fn run(mut self) {
        loop {
            let all = self.pods.list();
            let gone = self.gone_nodes(&all).await;
            let plan = plan(&all, &self.nodes.list(), &gone, self.context.config.terminated_pod_gc_threshold);
            for (pod, reason) in plan {
                if let Err(error) = self.remove(&pod, &reason).await {
                    tracing::warn!(pod = name(&*pod), error = %error.chain(), "pod not collected");
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Nodes that have been missing for long enough, and that the API server does not know either.
    async fn gone_nodes(&mut self, all: &[Arc<Pod>]) -> BTreeSet<String> {
        let names: BTreeSet<&str> = all.iter().map(|pod| pods::node_name(pod)).collect();
        let missing: BTreeSet<&str> =
            names.into_iter().filter(|name| !name.is_empty() && self.nodes.get("", name).is_none()).collect();
        self.missing.retain(|name, _| missing.contains(name.as_str()));
        let mut gone = BTreeSet::new();
        for name in missing {
            let since = self.missing.entry(name.to_owned()).or_insert_with(Instant::now);
            if since.elapsed() >= QUARANTINE
                && self.client.get::<Node>("", name).await.is_err_and(|error| error.is_not_found())
            {
                gone.insert(name.to_owned());
            }
        }
        gone
    }

    async fn remove(&self, pod: &Pod, reason: &Reason) -> Result<()> {
        if !pods::is_terminal(pod) {
            let why = (*reason == Reason::Orphaned)
                .then_some(Disruption { reason: "DeletionByPodGC", message: "PodGC: node no longer exists" });
            disruption::mark(&self.client, pod, why, true, self.context.now()).await?;
        }
        let options = with_grace(DeleteOptions::default(), 0);
        match self.client.delete::<Pod>(namespace(pod), name(pod), &options).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.doing(|| format!("deleting pod {}", name(pod))),
        }
    }
}

fn plan(
    all: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    gone: &BTreeSet<String>,
    limit: usize,
) -> Vec<(Arc<Pod>, Reason)> {
    let out_of_service: BTreeSet<&str> = nodes
        .iter()
        .filter(|node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            !ready && taints.into_iter().any(|taint| taint.key == "node.kubernetes.io/out-of-service")
        })
        .map(|node| name(&**node))
        .collect();
    let mut plan = Vec::new();
    let mut ended: Vec<&Arc<Pod>> = Vec::new();
    for pod in all {
        let (node, deleted) = (pods::node_name(pod), pod.metadata.deletion_timestamp.is_some());
        if gone.contains(node) {
            plan.push((pod.clone(), Reason::Orphaned));
        } else if deleted && node.is_empty() {
            plan.push((pod.clone(), Reason::Unscheduled));
        } else if deleted && out_of_service.contains(node) {
            plan.push((pod.clone(), Reason::OutOfService));
        } else if pods::is_terminal(pod) {
            ended.push(pod);
        }
    }
    if limit > 0 && ended.len() > limit {
        ended.sort_by_key(|pod| {
            let evicted = pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted");
            (!evicted, pod.metadata.creation_timestamp.as_ref().map(|time| time.0), name(&***pod).to_owned())
        });
        let surplus = ended.len() - limit;
        plan.extend(ended.into_iter().take(surplus).map(|pod| (pod.clone(), Reason::Surplus)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_collected() {
        let pod = |name: &str, node: &str, phase: &str, age: i64, deleted: bool| -> Arc<Pod> {
            let mut meta = json!({"name": name, "creationTimestamp":
                jiff::Timestamp::from_second(1000 - age).unwrap().to_string()});
            if deleted {
                meta["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
            }
            let pod = json!({"metadata": meta, "spec": {"nodeName": node, "containers": []},
                "status": {"phase": phase}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let all = [
            pod("runs", "n", "Running", 1, false),
            pod("ends", "n", "Running", 1, true),
            pod("orphan", "gone", "Running", 1, false),
            pod("unbound", "", "Pending", 1, false),
            pod("unbound-deleted", "", "Pending", 1, true),
            pod("old", "n", "Succeeded", 9, false),
            pod("older", "n", "Failed", 10, false),
            pod("young", "n", "Failed", 2, false),
        ];
        let gone = BTreeSet::from(["gone".to_owned()]);
        let got: Vec<_> = plan(&all, &[], &gone, 1)
            .into_iter()
            .map(|(pod, why)| format!("{} {why:?}", name(&*pod)))
            .collect();
        assert_eq!(got, ["orphan Orphaned", "unbound-deleted Unscheduled", "older Surplus", "old Surplus"]);
        assert_eq!(plan(&all, &[], &BTreeSet::new(), 0).len(), 1);
    }
}
