//! SchedulingGates: a pod waits outside the queue until its gates are gone (KEP-3521).

use crate::framework::{ClusterEvent, Plugin, Rejection};
use crate::types::PodInfo;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        Err(Rejection::new(self.name(), format!("waiting for scheduling gates: [{}]", pod.gates.join(" "))))
    }

    fn unblocked_by(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::PodUpdated
    }
}
