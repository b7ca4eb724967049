//! Revisions: which ReplicaSet is a Deployment's newest, and the annotations that tell.

use api::apps::v1::{Deployment, ReplicaSet};
use kinds::pod_template::equal_ignoring_hash;

use super::size::{age_key, max_surge, wanted};

/// The revision of a ReplicaSet, and of the Deployment that it is the newest of.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions that a ReplicaSet had before, separated by commas.
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when the ReplicaSet was last sized.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with surge.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Characters that the history may have.
const HISTORY: usize = 2000;

/// The new ReplicaSet (the oldest whose template is the Deployment's) and the others.
pub(super) fn split(d: &Deployment, mut sets: Vec<ReplicaSet>) -> (Option<ReplicaSet>, Vec<ReplicaSet>) {
    sets.sort_by_key(age_key);
    let Some(spec) = &d.spec else { return (None, sets) };
    let place = sets.iter().position(|rs| {
        let template = rs.spec.as_ref().and_then(|spec| spec.template.as_ref());
        template.is_some_and(|template| equal_ignoring_hash(template, &spec.template))
    });
    (place.map(|place| sets.remove(place)), sets)
}

/// A ReplicaSet's revision; 0 if it has none, `None` if it is no number.
pub(super) fn revision(rs: &ReplicaSet) -> Option<i64> {
    match rs.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION)) {
        None => Some(0),
        Some(text) => text.parse().ok(),
    }
}

/// The highest revision.
pub(super) fn max_revision(sets: &[ReplicaSet]) -> i64 {
    sets.iter().filter_map(revision).max().unwrap_or_default().max(0)
}

/// Gives the newest ReplicaSet the Deployment's annotations, its revision and (if it is being made) its sizes.
/// Answers whether anything changed.
pub(super) fn annotate_new(d: &Deployment, rs: &mut ReplicaSet, new_revision: i64, exists: bool) -> bool {
    let annotations = rs.metadata.annotations.get_or_insert_default();
    let before = annotations.clone();
    for (key, value) in d.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let Ok(old_number) = old.as_deref().filter(|text| !text.is_empty()).unwrap_or("0").parse::<i64>() else {
        return false;
    };
    if old_number < new_revision {
        annotations.insert(REVISION.into(), new_revision.to_string());
        if let Some(old) = old {
            let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
            if let Some(history) = extend_history(&history, &old) {
                annotations.insert(REVISION_HISTORY.into(), history);
            }
        }
    }
    let changed = *annotations != before;
    let resized = !exists && annotate_size(d, rs);
    changed || resized
}

fn extend_history(history: &str, revision: &str) -> Option<String> {
    let mut parts: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
    parts.push(revision);
    let length = |parts: &[&str]| parts.iter().map(|part| part.len() + 1).sum::<usize>().saturating_sub(1);
    while length(&parts) > HISTORY && parts.len() > 1 {
        parts.remove(0);
    }
    (length(&parts) <= HISTORY).then(|| parts.join(","))
}

/// Notes the Deployment's size on a ReplicaSet. Answers whether anything changed.
pub(super) fn annotate_size(d: &Deployment, rs: &mut ReplicaSet) -> bool {
    let annotations = rs.metadata.annotations.get_or_insert_default();
    let sizes = [(DESIRED_REPLICAS, wanted(d)), (MAX_REPLICAS, wanted(d) + max_surge(d))];
    let mut changed = false;
    for (key, size) in sizes {
        let size = size.to_string();
        if annotations.get(key) != Some(&size) {
            annotations.insert(key.into(), size);
            changed = true;
        }
    }
    changed
}

/// Old ReplicaSets that the history limit leaves no place for, and that hold nothing any more.
pub(super) fn superfluous<'a>(d: &Deployment, old: &'a [ReplicaSet]) -> Vec<&'a ReplicaSet> {
    let limit = d.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(i32::MAX);
    if limit == i32::MAX {
        return Vec::new();
    }
    let mut cleanable: Vec<&ReplicaSet> =
        old.iter().filter(|rs| rs.metadata.deletion_timestamp.is_none()).collect();
    let excess = cleanable.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    cleanable.sort_by_key(|rs| (revision(rs), age_key(rs)));
    cleanable.truncate(excess);
    cleanable.retain(|rs| {
        let status = rs.status.clone().unwrap_or_default();
        let seen =
            status.observed_generation.unwrap_or_default() >= rs.metadata.generation.unwrap_or_default();
        status.replicas == 0 && super::size::size(rs) == 0 && seen
    });
    cleanable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::name;
    use serde_json::{Value, json};

    fn deployment(annotations: Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d", "annotations": annotations},
            "spec": {"replicas": 3, "revisionHistoryLimit": 2, "selector": {},
                "template": {"metadata": {"labels": {"v": "2"}}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}))
        .unwrap()
    }

    fn set(name: &str, version: &str, revision: &str) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": name, "annotations": {REVISION: revision}},
            "spec": {"replicas": 0, "selector": {}, "template": {"metadata": {"labels":
                {"v": version, "pod-template-hash": name}}}}}))
        .unwrap()
    }

    #[test]
    fn the_new_set_is_known_by_its_template() {
        let sets = vec![set("c", "1", "1"), set("b", "2", "2"), set("a", "3", "x")];
        let (new, old) = split(&deployment(json!({})), sets);
        assert_eq!(name(&new.unwrap()), "b");
        assert_eq!(max_revision(&old), 1);
    }

    #[test]
    fn annotations_of_the_new_set() {
        let d = deployment(
            json!({"a": "b", REVISION: "1", "kubectl.kubernetes.io/last-applied-configuration": "{}"}),
        );
        let mut rs = set("x", "2", "2");
        assert!(annotate_new(&d, &mut rs, 5, true));
        let expect = json!({"a": "b", REVISION: "5", REVISION_HISTORY: "2"});
        assert_eq!(serde_json::to_value(&rs.metadata.annotations).unwrap(), expect);
        assert!(!annotate_new(&d, &mut rs, 5, true));
        assert!(!annotate_new(&d, &mut rs, 4, true));
        assert!(annotate_new(&d, &mut rs, 6, false));
        let expect = json!({"a": "b", REVISION: "6", REVISION_HISTORY: "2,5",
            DESIRED_REPLICAS: "3", MAX_REPLICAS: "4"});
        assert_eq!(serde_json::to_value(&rs.metadata.annotations).unwrap(), expect);
    }

    #[test]
    fn history_is_bounded() {
        let long = (1000..1400).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let next = extend_history(&long, "1400").unwrap();
        assert_eq!(next.len(), 1999);
        assert!(next.starts_with("1001,") && next.ends_with(",1400"));
    }

    #[test]
    fn only_empty_sets_beyond_the_limit_go() {
        let mut sets = vec![set("c", "1", "4"), set("b", "1", "2"), set("a", "1", "3"), set("d", "1", "1")];
        let names = |sets: &[ReplicaSet]| -> Vec<String> {
            superfluous(&deployment(json!({})), sets).iter().map(|rs| name(*rs).to_owned()).collect()
        };
        assert_eq!(names(&sets), ["d", "b"]);
        sets[3].spec.as_mut().unwrap().replicas = Some(1);
        assert_eq!(names(&sets), ["b"]);
    }
}
