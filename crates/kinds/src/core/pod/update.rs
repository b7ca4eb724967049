//! What of a pod may change after its creation: hardly anything.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::validate;
use crate::check::{immutable, int, items, present, text};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the pod itself.
pub fn update(new: &Value, old: &Value, errors: &mut ErrorList) {
    validate::whole(new, errors);
    let path = Path::new("spec");
    let (after, before) = (&new["spec"], &old["spec"]);
    for list in ["containers", "initContainers"] {
        if items(after, list).len() != items(before, list).len() {
            errors.push(Error::forbidden(&path.child(list), "pod updates may not add or remove containers"));
            return;
        }
    }
    if !deadline(after, before, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    for toleration in items(before, "tolerations") {
        let same = |candidate: &Value| {
            let mut candidate = candidate.clone();
            candidate["tolerationSeconds"] = toleration["tolerationSeconds"].clone();
            let mut toleration = toleration.clone();
            toleration["tolerationSeconds"] = candidate["tolerationSeconds"].clone();
            candidate == toleration
        };
        if !items(after, "tolerations").iter().any(same) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(Error::forbidden(&path.child("tolerations"), why));
            break;
        }
    }
    for (index, gate) in items(after, "schedulingGates").iter().enumerate() {
        if !items(before, "schedulingGates").contains(gate) {
            let list = path.child("schedulingGates");
            let why =
                format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "name"));
            errors.push(Error::forbidden(&list.index(index).child("name"), why));
        }
    }
    let masked = masked(after, before);
    let changed: Vec<&str> = changed(&masked, before);
    if !changed.is_empty() {
        let why = format!(
            "pod updates may not change fields other than {UPDATABLE}\n  changed: {}",
            changed.join(", ")
        );
        errors.push(Error::forbidden(&path, why));
    }
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

/// The new spec with everything as it was that may change.
fn masked(after: &Value, before: &Value) -> Value {
    let mut masked = after.clone();
    for list in ["containers", "initContainers"] {
        if let Some(containers) = masked.get_mut(list).and_then(Value::as_array_mut) {
            for (container, old) in containers.iter_mut().zip(items(before, list)) {
                container["image"] = old["image"].clone();
            }
        }
    }
    let mut restore = |field: &str| match (before.get(field), masked.as_object_mut()) {
        (Some(value), Some(fields)) => drop(fields.insert(field.to_owned(), value.clone())),
        (None, Some(fields)) => drop(fields.remove(field)),
        _ => {}
    };
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(field);
    }
    let grace = |spec: &Value| int(spec, "terminationGracePeriodSeconds");
    if grace(before).is_some_and(|grace| grace < 0) && grace(after) == Some(1) {
        restore("terminationGracePeriodSeconds");
    }
    // A pod that waits for its gates may still be told more about where to go.
    if !items(before, "schedulingGates").is_empty() {
        let kept = |spec: &Value| {
            before["nodeSelector"]
                .as_object()
                .into_iter()
                .flatten()
                .all(|(key, value)| spec["nodeSelector"].get(key) == Some(value))
        };
        if kept(after) {
            restore("nodeSelector");
        }
        if present(before, "affinity").is_none_or(|affinity| present(affinity, "nodeAffinity").is_none()) {
            restore("affinity");
        }
    }
    masked
}

/// The names of the fields of the spec that differ.
fn changed<'a>(after: &'a Value, before: &'a Value) -> Vec<&'a str> {
    let (Some(new), Some(old)) = (after.as_object(), before.as_object()) else { return Vec::new() };
    let mut names: Vec<&str> = new.keys().chain(old.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| new.get(*name) != old.get(*name));
    names
}

/// An update of the status.
pub fn status(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let list = path.child("conditions");
    for (index, condition) in items(&new["status"], "conditions").iter().enumerate() {
        crate::check::qualified(text(condition, "type"), &list.index(index).child("type"), errors);
    }
    if text(&new["spec"], "nodeName") != text(&old["spec"], "nodeName") {
        errors.push(Error::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    immutable(&new["status"]["qosClass"], &old["status"]["qosClass"], &path.child("qosClass"), errors);
}
