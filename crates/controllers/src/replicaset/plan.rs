//! Which pods a ReplicaSet wants made or deleted, and what its status is.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use api::core::v1::Pod;
use api::meta::v1::{ObjectMeta, OwnerReference};
use jiff::Timestamp;

use crate::context::{name, unless_zero, whole_seconds};
use crate::pods;

/// So many pods at most are made or deleted in one sync.
const BURST: usize = 500;

/// What to do about the number of pods.
#[derive(Debug)]
pub(crate) enum Scale {
    /// There are as many as there should be.
    Right,
    /// So many are missing.
    Create(usize),
    /// These are too many.
    Delete(Vec<Arc<Pod>>),
}

/// `active` are the ReplicaSet's own active pods, `related` all pods of all ReplicaSets of the same owner.
pub(crate) fn scale(rs: &ReplicaSet, active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Scale {
    let wanted = usize::try_from(wanted(rs)).unwrap_or_default();
    if active.len() == wanted {
        return Scale::Right;
    }
    if active.len() < wanted {
        return Scale::Create((wanted - active.len()).min(BURST));
    }
    let mut companions: BTreeMap<String, usize> = BTreeMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        *companions.entry(pods::node_name(pod).to_owned()).or_default() += 1;
    }
    let mut chosen = active.to_vec();
    pods::sort_for_deletion(&mut chosen, &companions, now);
    chosen.truncate((active.len() - wanted).min(BURST));
    Scale::Delete(chosen)
}

/// `spec.replicas`.
pub(crate) fn wanted(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `spec.minReadySeconds`.
pub(crate) fn min_ready(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
}

/// The status as it should be; `failure` is why pods could not be made or deleted.
pub(crate) fn status(
    rs: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template = rs.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let labels = template.and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
    let labeled = |pod: &&Arc<Pod>| {
        labels.is_none_or(|labels| crate::context::matches_set(labels, pod.metadata.labels.as_ref()))
    };
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let old = rs.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.unwrap_or_default();
    let failed = conditions.iter().position(|condition| condition.type_ == "ReplicaFailure");
    match (failure, failed) {
        (Some(message), None) => {
            let reason = match count(active.len()).cmp(&wanted(rs)) {
                std::cmp::Ordering::Less => "FailedCreate",
                std::cmp::Ordering::Greater => "FailedDelete",
                std::cmp::Ordering::Equal => "",
            };
            conditions.push(ReplicaSetCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                reason: Some(reason.into()),
                message: Some(message.into()),
                last_transition_time: Some(whole_seconds(now)),
            });
        }
        (None, Some(place)) => {
            conditions.remove(place);
        }
        _ => {}
    }
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: unless_zero(count(active.iter().filter(labeled).count())),
        ready_replicas: unless_zero(count(active.iter().filter(|pod| pods::is_ready(pod)).count())),
        available_replicas: unless_zero(count(
            active.iter().filter(|pod| pods::is_available(pod, min_ready(rs), now)).count(),
        )),
        terminating_replicas: Some(count(terminating)),
        observed_generation: rs.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

/// A pod from the template.
pub(crate) fn pod(rs: &ReplicaSet, owner: OwnerReference) -> Pod {
    let template = rs.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(generate_prefix(name(rs))),
            namespace: rs.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// `name-`, or the bare name where a dash would make it invalid.
fn generate_prefix(name: &str) -> String {
    let prefix = format!("{name}-");
    // A generated name is cut to fit, so only what stands before the suffix must be valid.
    if apimachinery::names::is_dns1123_subdomain(&format!("{name}-x")).is_empty() {
        prefix
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rs(replicas: i32, min_ready: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "rs", "namespace": "n", "uid": "u", "generation": 2},
            "spec": {"replicas": replicas, "minReadySeconds": min_ready,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    /// `name node phase ready-since restarts`
    fn pod(text: &str) -> Arc<Pod> {
        let parts: Vec<&str> = text.split(' ').collect();
        let ready: i64 = parts[3].parse().unwrap();
        let status = if ready > 0 { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": parts[0], "namespace": "n", "uid": parts[0], "labels": {"a": "b"},
                    "creationTimestamp": "1970-01-01T00:00:01Z"},
                "spec": {"nodeName": parts[1].trim_start_matches('_'), "containers": []},
                "status": {"phase": parts[2],
                    "conditions": [{"type": "Ready", "status": status,
                        "lastTransitionTime": Timestamp::from_second(ready).unwrap().to_string()}],
                    "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true,
                        "restartCount": parts[4].parse::<i32>().unwrap()}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn deletion_order() {
        let check = |pods: &[&str], expect: &[&str]| {
            let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
            let Scale::Delete(chosen) = scale(&rs(0, 0), &pods, &pods, at(1_000_000)) else { panic!() };
            let names: Vec<_> = chosen.iter().map(|pod| name(&**pod)).collect();
            assert_eq!(names, expect);
        };
        check(&["a n1 Running 5 0", "b _ Pending 0 0"], &["b", "a"]);
        check(&["a n1 Running 5 0", "b n1 Pending 0 0"], &["b", "a"]);
        check(&["a n1 Running 5 0", "b n1 Running 0 0"], &["b", "a"]);
        check(&["a n1 Running 5 0", "b n2 Running 5 0", "c n2 Running 5 0"], &["b", "c", "a"]);
        check(&["a n1 Running 5 0", "b n1 Running 5 3"], &["b", "a"]);
        // Ready for a shorter time by an order of magnitude goes first; within one the uid decides.
        check(&["a n1 Running 10 0", "b n1 Running 999990 0"], &["b", "a"]);
        check(&["b n1 Running 100000 0", "a n1 Running 10 0"], &["a", "b"]);
    }

    #[test]
    fn numbers() {
        let two = [pod("a n Running 5 0"), pod("b n Running 5 0")];
        assert!(matches!(scale(&rs(2, 0), &two, &two, at(9)), Scale::Right));
        assert!(matches!(scale(&rs(5, 0), &two, &two, at(9)), Scale::Create(3)));
        assert!(matches!(scale(&rs(5000, 0), &two, &two, at(9)), Scale::Create(500)));
        assert!(matches!(scale(&rs(1, 0), &two, &two, at(9)), Scale::Delete(pods) if pods.len() == 1));
    }

    #[test]
    fn statuses() {
        let pods = [pod("a n Running 5 0"), pod("b n Running 95 0"), pod("c n Pending 0 0")];
        let status_now = status(&rs(3, 10), &pods, 1, None, at(100));
        assert_eq!(
            serde_json::to_value(&status_now).unwrap(),
            json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1,
                "terminatingReplicas": 1, "observedGeneration": 2})
        );
        let failed = status(&rs(4, 0), &pods, 0, Some("no quota"), at(100));
        let condition = &failed.conditions.as_ref().unwrap()[0];
        assert_eq!(
            (condition.reason.as_deref(), condition.message.as_deref()),
            (Some("FailedCreate"), Some("no quota"))
        );
        let again = ReplicaSet { status: Some(failed), ..rs(4, 0) };
        assert_eq!(status(&again, &pods, 0, None, at(101)).conditions, None);
    }
}
