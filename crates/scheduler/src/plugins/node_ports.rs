//! NodePorts: two pods cannot have the same host port on the same address.

use crate::framework::{ClusterEvent, Plugin, Rejection};
use crate::types::{HostPort, NodeInfo, PodInfo};

pub struct NodePorts;

/// The same port of the same protocol, on the same address or one of them on all addresses.
fn conflict(one: &HostPort, other: &HostPort) -> bool {
    let all = "0.0.0.0";
    one.0 == other.0 && one.2 == other.2 && (one.1 == other.1 || one.1 == all || other.1 == all)
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = |wanted: &HostPort| node.used_ports.iter().any(|used| conflict(wanted, used));
        if pod.host_ports.iter().any(taken) {
            return Err(Rejection::new(
                self.name(),
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }

    fn unblocked_by(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::*;
        matches!(event, NodeAdded | AssignedPodFreed)
    }
}
