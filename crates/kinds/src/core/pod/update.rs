//! What of a pod may change after its creation: hardly anything.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::options::Options;
use super::{annotations, container, validate};
use crate::check::{int, items, present, text};
use crate::core::diff;
use crate::meta::same;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What the old pod lets its next form keep.
pub fn options(old: &Value) -> Options {
    Options::update(true, &old["spec"], &old["metadata"])
}

/// An update of the pod itself.
pub fn update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let options = options(old);
    validate::whole(new, options, errors);
    annotations::update(new, old, options, &Path::new("metadata.annotations"), errors);
    let path = Path::new("spec");
    let (after, before) = (&new["spec"], &old["spec"]);
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        if items(after, list).len() != items(before, list).len() {
            errors.push(Error::forbidden(&at, "pod updates may not add or remove containers"));
            return;
        }
        for (index, own) in items(after, list).iter().enumerate() {
            if text(own, "image").is_empty() {
                errors.push(Error::required(&at.index(index).child("image"), ""));
            }
            container::image(own, &at.index(index), errors);
        }
    }
    if !deadline(after, before, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    tolerations(after, before, options, &path.child("tolerations"), errors);
    let list = path.child("schedulingGates");
    for (index, gate) in items(after, "schedulingGates").iter().enumerate() {
        if !items(before, "schedulingGates").contains(gate) {
            let why =
                format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "name"));
            errors.push(Error::forbidden(&list.index(index).child("name"), why));
        }
    }
    if after == before {
        return;
    }
    let masked = masked(after, before, &path, errors);
    if !equal(&masked, before) {
        let why = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            diff::diff(before, &masked)
        );
        errors.push(Error::forbidden(&path, why));
    }
}

/// Equal but for lists that are absent in one and empty in the other.
pub fn equal(a: &Value, b: &Value) -> bool {
    let (Some(first), Some(second)) = (a.as_object(), b.as_object()) else { return a == b };
    first.keys().chain(second.keys()).all(|key| same(&a[key], &b[key]))
}

fn tolerations(after: &Value, before: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let now = items(after, "tolerations");
    for toleration in items(before, "tolerations") {
        let same = |candidate: &&Value| {
            ["key", "operator", "value", "effect"]
                .iter()
                .all(|field| text(candidate, field) == text(toleration, field))
        };
        if now.iter().find(same).is_none() {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(Error::forbidden(path, why));
            return;
        }
    }
    validate::pod_tolerations(now, options, path, errors);
}

fn deadline(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let field = "activeDeadlineSeconds";
    match (int(after, field), int(before, field)) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            let why = names::inclusive_range_error(0, i64::from(i32::MAX));
            errors.push(Error::invalid(path, seconds, why));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.push(Error::invalid(path, seconds, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(path, Value::Null, why));
            true
        }
        _ => true,
    }
}

/// Puts a field back as it was.
pub fn restore(object: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => object[field] = value.clone(),
        None => drop(object.as_object_mut().map(|object| object.remove(field))),
    }
}

/// The new spec with everything as it was that may change.
fn masked(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) -> Value {
    let mut masked = after.clone();
    for list in ["containers", "initContainers"] {
        if let Some(containers) = masked.get_mut(list).and_then(Value::as_array_mut) {
            for (container, old) in containers.iter_mut().zip(items(before, list)) {
                restore(container, old, "image");
            }
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(&mut masked, before, field);
    }
    let grace = |spec: &Value| int(spec, "terminationGracePeriodSeconds");
    if grace(before).is_some_and(|grace| grace < 0) && grace(after) == Some(1) {
        restore(&mut masked, before, "terminationGracePeriodSeconds");
    }
    // A pod that waits for its gates may still be told more about where to go (KEP-3838).
    if !items(before, "schedulingGates").is_empty() {
        node_selector(after, before, &path.child("nodeSelector"), errors);
        restore(&mut masked, before, "nodeSelector");
        let at = path.child("affinity.nodeAffinity");
        node_affinity(&mut masked, before, &at, errors);
    }
    masked
}

fn node_selector(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let old = before["nodeSelector"].as_object().into_iter().flatten();
    if old.into_iter().any(|(key, value)| after["nodeSelector"].get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(Error::invalid(path, after["nodeSelector"].clone(), why));
    }
}

/// Checks the change and takes it out of the spec.
fn node_affinity(masked: &mut Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |spec: &Value| present(&spec["affinity"], "nodeAffinity").cloned();
    let (new, old) = (of(masked), of(before));
    if new == old {
        return;
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |affinity: &Option<Value>| {
        let required = affinity.as_ref().and_then(|affinity| present(affinity, required));
        required.map(|required| items(required, "nodeSelectorTerms").to_vec()).unwrap_or_default()
    };
    let at = path.child(required);
    let at = at.child("nodeSelectorTerms");
    let (now, was) = (terms(&new), terms(&old));
    if !was.is_empty() && was.len() != now.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(Error::invalid(&at, now, why));
    } else {
        for (index, (now, was)) in now.iter().zip(&was).enumerate() {
            if !only_adds(now, was) {
                let why = "only additions are allowed (no mutations or deletions)";
                errors.push(Error::invalid(&at.index(index), now.clone(), why));
            }
        }
    }
    match old {
        Some(old) => masked["affinity"]["nodeAffinity"] = old,
        None => {
            if let Some(affinity) = masked.get_mut("affinity").and_then(Value::as_object_mut) {
                affinity.remove("nodeAffinity");
                if affinity.is_empty() {
                    restore(masked, before, "affinity");
                }
            }
        }
    }
}

/// The requirements of a term still stand, at its start. A term without any matches nothing, and must go on so.
fn only_adds(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    if fields.iter().all(|field| items(old, field).is_empty()) {
        return fields.iter().all(|field| items(new, field).is_empty());
    }
    fields.iter().all(|field| items(new, field).starts_with(items(old, field)))
}

/// An update of `ephemeralcontainers`: containers are added, never changed or taken away.
pub fn ephemeral_containers(new: &Value, old: &Value, errors: &mut ErrorList) {
    if old["metadata"]["annotations"].get(annotations::MIRROR).is_some() {
        errors.push(Error::forbidden(&Path::new(""), "static pods do not support ephemeral containers"));
        return;
    }
    let options = options(old);
    validate::whole(new, options, errors);
    annotations::update(new, old, options, &Path::new("metadata.annotations"), errors);
    let path = Path::new("spec.ephemeralContainers");
    let now = items(&new["spec"], "ephemeralContainers");
    for was in items(&old["spec"], "ephemeralContainers") {
        let name = text(was, "name");
        match now.iter().rev().find(|container| text(container, "name") == name) {
            None => {
                let why = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(Error::forbidden(&path, why));
            }
            Some(now) if now != was => {
                let why = format!(
                    "existing ephemeral containers \"{name}\" may not be changed\n{}",
                    diff::diff(was, now)
                );
                errors.push(Error::forbidden(&path, why));
            }
            Some(_) => {}
        }
    }
}
