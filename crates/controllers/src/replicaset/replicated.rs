//! What a ReplicaSet and a ReplicationController have in common: nearly all (upstream's controller wraps the older
//! kind likewise).

use std::borrow::Cow;

use api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use api::core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use api::meta::v1::LabelSelector;
use client::Kind;

/// A kind that asks for a number of pods.
pub(crate) trait Replicated: Kind {
    /// Who its events are from.
    const CONTROLLER: &'static str;

    fn as_set(&self) -> Cow<'_, ReplicaSet>;

    /// The same with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;

    /// What of a status this kind has.
    fn of_its(status: ReplicaSetStatus) -> ReplicaSetStatus;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicaSet { status: Some(status), ..self.clone() }
    }

    fn of_its(status: ReplicaSetStatus) -> ReplicaSetStatus {
        status
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().map(|status| ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        });
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: Some(ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: spec.replicas,
                selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
                template: spec.template,
            }),
            status,
        })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(old_condition).collect()),
        };
        ReplicationController { status: Some(status), ..self.clone() }
    }

    fn of_its(status: ReplicaSetStatus) -> ReplicaSetStatus {
        ReplicaSetStatus { terminating_replicas: None, ..status }
    }
}

fn condition(old: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: old.type_,
        status: old.status,
        last_transition_time: old.last_transition_time,
        reason: old.reason,
        message: old.message,
    }
}

fn old_condition(new: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        type_: new.type_,
        status: new.status,
        last_transition_time: new.last_transition_time,
        reason: new.reason,
        message: new.message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_older_kind_is_a_set_and_back() {
        let rc: ReplicationController = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "generation": 3},
            "spec": {"replicas": 2, "minReadySeconds": 4, "selector": {"x": "y"}, "template": {"spec": null}},
            "status": {"replicas": 1, "readyReplicas": 1, "observedGeneration": 2, "conditions": [
                {"type": "ReplicaFailure", "status": "True", "reason": "r", "message": "m"}]},
        }))
        .unwrap();
        let set = rc.as_set().into_owned();
        let spec = set.spec.as_ref().unwrap();
        assert_eq!((spec.replicas, spec.min_ready_seconds), (Some(2), Some(4)));
        assert_eq!(spec.selector.match_labels.as_ref().unwrap()["x"], "y");
        let mut status = set.status.clone().unwrap();
        assert_eq!(rc.with_status(status.clone()), rc);
        status.terminating_replicas = Some(1);
        assert_eq!(ReplicationController::of_its(status).terminating_replicas, None);
    }
}
