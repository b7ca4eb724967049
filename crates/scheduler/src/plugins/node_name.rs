//! NodeName: a pod that names its node goes there or nowhere.

use crate::framework::{ClusterEvent, Plugin, Rejection};
use crate::types::{NodeInfo, PodInfo};

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.node_name().is_empty() || pod.node_name() == node.name {
            return Ok(());
        }
        Err(Rejection::new(self.name(), "node(s) didn't match the requested node name"))
    }

    fn unblocked_by(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::NodeAdded
    }
}
