//! TaintToleration: NoSchedule and NoExecute taints keep pods away that do not tolerate them; PreferNoSchedule
//! ones make a node less welcome.

use kinds::pod::scheduling::{tolerates, untolerated};

use crate::framework::{Cluster, ClusterEvent, Plugin, Rejection, scale};
use crate::types::{NodeInfo, PodInfo};

pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn weight(&self) -> i64 {
        3
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match untolerated(node.taints(), pod.tolerations(), &["NoSchedule", "NoExecute"]) {
            None => Ok(()),
            Some(_) => Err(Rejection::new(self.name(), "node(s) had untolerated taint(s)")),
        }
    }

    /// Counts the PreferNoSchedule taints that are not tolerated.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster<'_>) -> Option<i64> {
        let intolerable = node.taints().iter().filter(|taint| {
            taint.effect == "PreferNoSchedule"
                && !pod.tolerations().iter().any(|toleration| tolerates(toleration, taint))
        });
        Some(intolerable.count() as i64)
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, true);
    }

    fn unblocked_by(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::*;
        matches!(event, NodeAdded | NodeTaints | PodUpdated)
    }
}
