//! NodeUnschedulable: cordoned nodes take only pods that tolerate it.

use api::core::v1::Taint;
use kinds::pod::scheduling::tolerates;

use crate::framework::{ClusterEvent, Plugin, Rejection};
use crate::types::{NodeInfo, PodInfo};

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taint = || Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if !node.unschedulable() || pod.tolerations().iter().any(|toleration| tolerates(toleration, &taint()))
        {
            return Ok(());
        }
        Err(Rejection::new(self.name(), "node(s) were unschedulable"))
    }

    fn unblocked_by(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::*;
        matches!(event, NodeAdded | NodeUnschedulable | PodUpdated)
    }
}
