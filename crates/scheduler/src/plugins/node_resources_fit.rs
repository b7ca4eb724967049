//! NodeResourcesFit: the node has room for the requests; emptier nodes are better (LeastAllocated).

use crate::framework::{Cluster, ClusterEvent, MAX_NODE_SCORE, Plugin, Rejection};
use crate::types::{NodeInfo, PodInfo};

pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    /// All that is short at once. What a pod does not ask for cannot be short.
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut reasons = Vec::new();
        if node.pods.len() as i64 + 1 > node.allowed_pods {
            reasons.push("Too many pods".to_owned());
        }
        let (wanted, used, all) = (&pod.requests, &node.requested, &node.allocatable);
        let mut check = |name: &str, wanted: i64, used: i64, all: i64| {
            if wanted > 0 && wanted > all - used {
                reasons.push(format!("Insufficient {name}"));
            }
        };
        check("cpu", wanted.milli_cpu, used.milli_cpu, all.milli_cpu);
        check("memory", wanted.memory, used.memory, all.memory);
        check("ephemeral-storage", wanted.ephemeral_storage, used.ephemeral_storage, all.ephemeral_storage);
        for (name, amount) in &wanted.scalar {
            let of =
                |amounts: &std::collections::BTreeMap<String, i64>| amounts.get(name).copied().unwrap_or(0);
            check(name, *amount, of(&used.scalar), of(&all.scalar));
        }
        if reasons.is_empty() { Ok(()) } else { Err(Rejection { plugin: self.name(), reasons }) }
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster<'_>) -> Option<i64> {
        let free = |wanted: i64, used: i64, all: i64| {
            (all > 0).then(|| (all - wanted - used).max(0) * MAX_NODE_SCORE / all)
        };
        let scores = [
            free(pod.ranked.milli_cpu, node.ranked.milli_cpu, node.allocatable.milli_cpu),
            free(pod.ranked.memory, node.ranked.memory, node.allocatable.memory),
        ];
        let known: Vec<i64> = scores.into_iter().flatten().collect();
        Some(known.iter().sum::<i64>() / (known.len() as i64).max(1))
    }

    fn unblocked_by(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::*;
        matches!(event, NodeAdded | NodeAllocatable | AssignedPodFreed | PodUpdated)
    }
}
