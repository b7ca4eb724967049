//! A Deployment's status and conditions. `kubectl rollout status` reads the reasons, `describe` prints them.

use api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use api::meta::v1::Time;
use jiff::Timestamp;

use super::size::{available, max_unavailable, total, wanted};
use crate::context::{name, unless_zero};

pub(super) const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";
pub(super) const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const PAUSED: &str = "DeploymentPaused";
pub(super) const RESUMED: &str = "DeploymentResumed";

/// A condition that begins now.
pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: &Time,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

/// A condition of a status by its type.
pub(super) fn find<'a>(status: Option<&'a DeploymentStatus>, kind: &str) -> Option<&'a DeploymentCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Sets a condition, unless one of the same status and reason is there; the time of the last transition
/// changes only with the status.
pub(super) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = find(Some(status), &condition.type_)
        && current.status == condition.status
    {
        if current.reason == condition.reason {
            return;
        }
        condition.last_transition_time = current.last_transition_time.clone();
    }
    remove(status, &condition.type_.clone());
    status.conditions.get_or_insert_default().push(condition);
}

/// Removes a condition.
pub(super) fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// Seconds without progress after which a rollout counts as stuck, if there is such a limit.
pub(super) fn deadline(d: &Deployment) -> Option<i32> {
    d.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).filter(|seconds| *seconds != i32::MAX)
}

/// The numbers, and whether enough is available. `all` includes the new ReplicaSet.
pub(super) fn calculate(
    d: &Deployment,
    all: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: &Time,
) -> DeploymentStatus {
    let old = d.status.clone().unwrap_or_default();
    let statuses = || all.iter().filter_map(|rs| rs.status.as_ref());
    let all_available: i32 = all.iter().map(|rs| available(rs)).sum();
    let unavailable = (total(all.iter().copied()) - all_available).max(0);
    let mut terminating = Some(0);
    for status in statuses() {
        terminating = match (terminating, status.terminating_replicas) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, None) if status.observed_generation.unwrap_or_default() == 0 => sum,
            _ => None,
        };
    }
    let mut status = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: unless_zero(statuses().map(|s| s.replicas).sum()),
        updated_replicas: unless_zero(new.and_then(|rs| rs.status.as_ref()).map_or(0, |s| s.replicas)),
        ready_replicas: unless_zero(statuses().map(|s| s.ready_replicas.unwrap_or_default()).sum()),
        available_replicas: unless_zero(all_available),
        unavailable_replicas: unless_zero(unavailable),
        terminating_replicas: terminating,
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let enough = all_available >= wanted(d) - max_unavailable(d);
    let (is, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition(AVAILABLE, is, reason, message.into(), now));
    status
}

/// All pods are of the newest template and available.
pub(super) fn is_complete(d: &Deployment, status: &DeploymentStatus) -> bool {
    let is_all = |count: Option<i32>| count.unwrap_or_default() == wanted(d);
    is_all(status.updated_replicas)
        && is_all(status.replicas)
        && is_all(status.available_replicas)
        && status.observed_generation.unwrap_or_default() >= d.metadata.generation.unwrap_or_default()
}

/// There are more new, fewer old, more ready or more available pods than before.
fn is_progressing(d: &Deployment, status: &DeploymentStatus) -> bool {
    let before = d.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| number.unwrap_or_default();
    let old = |s: &DeploymentStatus| count(s.replicas) - count(s.updated_replicas);
    count(status.updated_replicas) > count(before.updated_replicas)
        || old(status) < old(&before)
        || count(status.ready_replicas) > count(before.ready_replicas)
        || count(status.available_replicas) > count(before.available_replicas)
}

fn is_timed_out(d: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let (Some(seconds), Some(current)) = (deadline(d), find(Some(status), PROGRESSING)) else { return false };
    match current.reason.as_deref() {
        Some(NEW_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => {
            let since = current.last_update_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            now.duration_since(since) > jiff::SignedDuration::from_secs(i64::from(seconds))
        }
    }
}

/// [`calculate`] in a rollout: with how it goes on, and what the ReplicaSets fail at.
pub(super) fn rollout(
    d: &Deployment,
    all: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: &Time,
) -> DeploymentStatus {
    let mut status = calculate(d, all, new, now);
    if deadline(d).is_none() {
        remove(&mut status, PROGRESSING);
    }
    let current = find(d.status.as_ref(), PROGRESSING);
    let settled = status.replicas == status.updated_replicas
        && current.is_some_and(|c| c.reason.as_deref() == Some(NEW_AVAILABLE));
    if deadline(d).is_some() && !settled {
        let who = match new {
            Some(rs) => format!("ReplicaSet {:?}", name(rs)),
            None => format!("Deployment {:?}", name(d)),
        };
        if is_complete(d, &status) {
            let message = format!("{who} has successfully progressed.");
            set(&mut status, condition(PROGRESSING, "True", NEW_AVAILABLE, message, now));
        } else if is_progressing(d, &status) {
            let message = format!("{who} is progressing.");
            let mut progress = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            // Here the time of the last update must move although status and reason stay the same.
            if let Some(current) = current.filter(|current| current.status == "True") {
                progress.last_transition_time = current.last_transition_time.clone();
            }
            remove(&mut status, PROGRESSING);
            set(&mut status, progress);
        } else if is_timed_out(d, &status, now.0) {
            let message = format!("{who} has timed out progressing.");
            set(&mut status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
        }
    }
    match failure(all, new) {
        Some(failed) => set(&mut status, failed),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

/// The failure of the new ReplicaSet, or else of any.
fn failure(all: &[&ReplicaSet], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    new.into_iter().chain(all.iter().copied()).find_map(|rs| {
        let conditions = rs.status.as_ref()?.conditions.as_ref()?;
        let failed = conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)?;
        Some(DeploymentCondition {
            type_: REPLICA_FAILURE.into(),
            status: failed.status.clone(),
            reason: failed.reason.clone(),
            message: failed.message.clone(),
            last_update_time: failed.last_transition_time.clone(),
            last_transition_time: failed.last_transition_time.clone(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn deployment(status: Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 4},
            "spec": {"replicas": 4, "progressDeadlineSeconds": 60, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}},
            "status": status}))
        .unwrap()
    }

    /// `name replicas ready available`
    fn set_of(text: &str) -> ReplicaSet {
        let parts: Vec<&str> = text.split(' ').collect();
        let number = |i: usize| parts[i].parse::<i32>().unwrap();
        serde_json::from_value(json!({"metadata": {"name": parts[0]},
            "spec": {"replicas": number(1), "selector": {}},
            "status": {"replicas": number(1), "readyReplicas": number(2), "availableReplicas": number(3),
                "terminatingReplicas": 1, "observedGeneration": 1}}))
        .unwrap()
    }

    fn progressing(reason: &str, second: i64) -> Value {
        let time = at(second).0.to_string();
        json!([{"type": "Progressing", "status": "True", "reason": reason, "message": "m",
            "lastUpdateTime": time, "lastTransitionTime": time}])
    }

    #[test]
    fn conditions_in_a_rollout() {
        let check = |status: Value, new: &str, old: &str, second: i64, expect: &[&str]| {
            let d = deployment(status);
            let (new, old) = (set_of(new), set_of(old));
            let got = rollout(&d, &[&old, &new], Some(&new), &at(second));
            let got: Vec<String> = got
                .conditions
                .iter()
                .flatten()
                .map(|c| {
                    let updated = c.last_update_time.as_ref().unwrap().0.as_second();
                    format!("{}={} {}@{updated}", c.type_, c.status, c.reason.as_deref().unwrap())
                })
                .collect();
            assert_eq!(got, expect);
        };
        // Progress moves the time.
        check(
            json!({"replicas": 5, "updatedReplicas": 1, "conditions": progressing("ReplicaSetUpdated", 10)}),
            "n 2 1 1",
            "o 3 3 3",
            20,
            &["Available=True MinimumReplicasAvailable@20", "Progressing=True ReplicaSetUpdated@20"],
        );
        // No progress, but still in time.
        let stuck = json!({"replicas": 5, "updatedReplicas": 2, "readyReplicas": 4, "availableReplicas": 4,
            "conditions": progressing("ReplicaSetUpdated", 10)});
        check(
            stuck.clone(),
            "n 2 1 1",
            "o 3 3 3",
            70,
            &["Progressing=True ReplicaSetUpdated@10", "Available=True MinimumReplicasAvailable@70"],
        );
        check(
            stuck,
            "n 2 1 1",
            "o 3 1 1",
            71,
            &[
                "Available=False MinimumReplicasUnavailable@71",
                "Progressing=False ProgressDeadlineExceeded@71",
            ],
        );
        check(
            json!({"replicas": 4, "updatedReplicas": 4, "readyReplicas": 3, "availableReplicas": 3,
                "conditions": progressing("ReplicaSetUpdated", 10)}),
            "n 4 4 4",
            "o 0 0 0",
            20,
            &["Available=True MinimumReplicasAvailable@20", "Progressing=True NewReplicaSetAvailable@20"],
        );
        // A finished rollout stays so when a pod fails later.
        check(
            json!({"replicas": 4, "updatedReplicas": 4, "conditions": progressing(NEW_AVAILABLE, 10)}),
            "n 4 1 1",
            "o 0 0 0",
            9999,
            &[
                "Progressing=True NewReplicaSetAvailable@10",
                "Available=False MinimumReplicasUnavailable@9999",
            ],
        );
    }

    #[test]
    fn numbers() {
        let d = deployment(json!({}));
        let (new, old) = (set_of("n 2 1 1"), set_of("o 3 3 3"));
        let mut got = serde_json::to_value(calculate(&d, &[&old, &new], Some(&new), &at(1))).unwrap();
        got.as_object_mut().unwrap().remove("conditions");
        assert_eq!(
            got,
            json!({"observedGeneration": 4, "replicas": 5, "updatedReplicas": 2, "readyReplicas": 4,
                "availableReplicas": 4, "unavailableReplicas": 1, "terminatingReplicas": 2})
        );
    }
}
