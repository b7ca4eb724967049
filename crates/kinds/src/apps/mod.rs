//! The group `apps`.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

use crate::strategy::Strategy;

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "ControllerRevision" => &controller_revision::STRATEGY,
        "DaemonSet" => &daemon_set::STRATEGY,
        "Deployment" => &deployment::STRATEGY,
        "ReplicaSet" => &replica_set::STRATEGY,
        "StatefulSet" => &stateful_set::STRATEGY,
        _ => return None,
    })
}
