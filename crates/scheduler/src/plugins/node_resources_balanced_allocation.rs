//! NodeResourcesBalancedAllocation: prefers nodes whose cpu and memory the pod would use to a like share.

use crate::framework::{Cluster, MAX_NODE_SCORE, Plugin};
use crate::types::{NodeInfo, PodInfo, Resources};

pub struct NodeResourcesBalancedAllocation;

/// 100 when all shares are the same, less the more they differ (one minus the standard deviation).
fn balance(used: &Resources, all: &Resources) -> i64 {
    let share = |used: i64, all: i64| (all > 0).then(|| (used as f64 / all as f64).min(1.0));
    let shares = [share(used.milli_cpu, all.milli_cpu), share(used.memory, all.memory)];
    let deviation = match shares {
        [Some(cpu), Some(memory)] => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    /// A pod without any request is skipped, as upstream does for best-effort pods.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster<'_>) -> Option<i64> {
        if pod.requests.milli_cpu == 0 && pod.requests.memory == 0 {
            return None;
        }
        let mut with = node.requested.clone();
        with.milli_cpu += pod.requests.milli_cpu;
        with.memory += pod.requests.memory;
        let (with, without) =
            (balance(&with, &node.allocatable), balance(&node.requested, &node.allocatable));
        Some(MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + with - without) / 2)
    }
}
