//! Pod. Start at [`STRATEGY`]; [`validate`] has the rules for pods and templates as a whole, the other modules
//! those of parts.

pub(crate) mod affinity;
mod annotations;
pub mod container;
pub(crate) mod disabled;
mod env;
mod mounts;
mod options;
mod overlaps;
mod probes;
mod resize;
pub(crate) mod resources;
mod security;
mod status;
mod update;
pub mod validate;
mod volumes;
pub(crate) mod warnings;

use apimachinery::field::{ErrorList, Path};
use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use crate::check::items;
use crate::meta;
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    returns_deleted: true,
    prepare_for_create,
    prepare_for_update,
    validate: validate::create,
    validate_update,
    warnings: warnings::pod,
    selectable: &[
        ("spec.nodeName", "/spec/nodeName", ""),
        ("spec.restartPolicy", "/spec/restartPolicy", ""),
        ("spec.schedulerName", "/spec/schedulerName", ""),
        ("spec.serviceAccountName", "/spec/serviceAccountName", ""),
        ("spec.hostNetwork", "/spec/hostNetwork", "false"),
        ("status.phase", "/status/phase", ""),
        ("status.podIP", "/status/podIP", ""),
        ("status.nominatedNodeName", "/status/nominatedNodeName", ""),
    ],
    ..GENERIC
};

/// What taints do to pods.
pub const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Calls `each` with every container of a spec and its path, in the order in which they start.
pub fn visit<'a>(spec: &'a Value, path: &Path<'_>, mut each: impl FnMut(&'a Value, &Path<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let at = path.child(list);
        for (index, container) in items(spec, list).iter().enumerate() {
            each(container, &at.index(index));
        }
    }
}

/// A new pod is pending, and its quality of service is known from its requests and limits. A pod that waits for
/// scheduling gates says so.
fn prepare_for_create(object: &mut Value) {
    let made = object["metadata"]["creationTimestamp"].clone();
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(&object["spec"])});
    let gated = object["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": made,
        }]);
    }
    object["status"] = status;
    if let Some(spec) = object.get_mut("spec") {
        disabled::spec(spec, None);
    }
    // A create is prepared before and after admission; labels are looked at only before.
    if made.is_null() {
        add_label_keys(object);
    }
    annotations::fill_app_armor(object);
}

/// Selectors of a new pod get the pod's own values of the labels that their owners name (KEP-3633, KEP-3243).
fn add_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let extend = |owner: &mut Value| {
        let mut added = Vec::new();
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            for key in meta::texts(owner, field) {
                if let Some(value) = labels.get(key) {
                    added.push(json!({"key": key, "operator": operator, "values": [value]}));
                }
            }
        }
        let Some(selector) = owner.get_mut("labelSelector").filter(|selector| selector.is_object()) else {
            return;
        };
        if added.is_empty() {
            return;
        }
        match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
            Some(expressions) => expressions.extend(added),
            None => selector["matchExpressions"] = added.into(),
        }
    };
    let spec = &mut pod["spec"];
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.pointer_mut("/affinity").and_then(|affinity| affinity.get_mut(kind)) else {
            continue;
        };
        let list = |affinity: &mut Value, list: &str| -> Vec<Value> {
            affinity.get_mut(list).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default()
        };
        for field in [
            "preferredDuringSchedulingIgnoredDuringExecution",
            "requiredDuringSchedulingIgnoredDuringExecution",
        ] {
            let mut terms = list(affinity, field);
            if terms.is_empty() {
                continue;
            }
            for term in &mut terms {
                match field.starts_with("preferred") {
                    true => term.get_mut("podAffinityTerm").into_iter().for_each(extend),
                    false => extend(term),
                }
            }
            affinity[field] = terms.into();
        }
    }
    let constraints = spec.get_mut("topologySpreadConstraints").and_then(Value::as_array_mut);
    constraints.into_iter().flatten().for_each(extend);
}

fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    match subresource {
        "status" => return status::prepare(new, old),
        "ephemeralcontainers" => {
            let added = new["spec"].get_mut("ephemeralContainers").map(Value::take);
            new["spec"] = old["spec"].clone();
            match added {
                Some(added) => new["spec"]["ephemeralContainers"] = added,
                None => drop(new["spec"].as_object_mut().map(|spec| spec.remove("ephemeralContainers"))),
            }
            keep_status_and_metadata(new, old);
        }
        "resize" => resize::prepare(new, old),
        _ => {}
    }
    if let Some(spec) = new.get_mut("spec") {
        disabled::spec(spec, old.get("spec"));
    }
}

/// For subresources that change a part of the spec alone.
fn keep_status_and_metadata(new: &mut Value, old: &Value) {
    update::restore(new, old, "status");
    meta::keep_for_status(new, old);
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "" => update::update(new, old, errors),
        "status" => status::check(new, old, errors),
        "ephemeralcontainers" => update::ephemeral_containers(new, old, errors),
        "resize" => resize::check(new, old, errors),
        _ => {}
    }
}

/// `Guaranteed` when every container limits cpu and memory and asks for just that, `BestEffort` when none asks
/// for or limits anything, else `Burstable` (upstream's `qos.ComputePodQOS`). Pod-level resources decide alone
/// where they are given.
pub fn qos_class(spec: &Value) -> &'static str {
    let level = &spec["resources"];
    if level.get("requests").is_some() || level.get("limits").is_some() {
        return class_of(std::iter::once(level));
    }
    let containers = ["containers", "initContainers"].into_iter();
    let all = containers.flat_map(|list| spec[list].as_array().into_iter().flatten());
    class_of(all.map(|container| &container["resources"]))
}

fn class_of<'a>(all: impl Iterator<Item = &'a Value>) -> &'static str {
    let amount = |value: &Value| Quantity::from_value(value).ok().filter(|amount| !amount.is_zero());
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in ["cpu", "memory"] {
            let request = amount(&resources["requests"][name]);
            let limit = amount(&resources["limits"][name]);
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests;
