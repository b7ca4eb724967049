//! Pod.

pub mod affinity;
pub mod container;
mod security;
mod update;
pub mod validate;
mod volumes;

use apimachinery::field::ErrorList;
use serde_json::{Value, json};

use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    returns_deleted: true,
    prepare_for_create: on_create,
    prepare_for_update: on_update,
    validate: validate::create,
    validate_update,
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

/// A new pod is pending, and its quality of service is known from its requests and limits. A pod that waits for
/// scheduling gates says so.
fn on_create(object: &mut Value) {
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(&object["spec"])});
    let gated = object["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null,
        }]);
    }
    object["status"] = status;
}

/// The class does not change with the life of a pod, whatever a status writer leaves out.
fn on_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        let class = &old["status"]["qosClass"];
        if class.is_string() && !new["status"]["qosClass"].is_string() {
            new["status"]["qosClass"] = class.clone();
        }
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "" => update::update(new, old, errors),
        "status" => update::status(new, old, errors),
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
    use apimachinery::quantity::Quantity;
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
mod tests {
    use super::*;

    #[test]
    fn quality_of_service() {
        let check = |resources: &[Value], expect: &str| {
            let containers: Vec<Value> =
                resources.iter().map(|resources| json!({"resources": resources})).collect();
            assert_eq!(qos_class(&json!({"containers": containers})), expect, "{resources:?}");
        };
        let full =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        check(&[json!({})], "BestEffort");
        check(&[json!({"requests": {"cpu": "0"}})], "BestEffort");
        check(&[json!({"requests": {"cpu": "1"}})], "Burstable");
        check(&[json!({"limits": {"example.com/x": "1"}})], "BestEffort");
        check(std::slice::from_ref(&full), "Guaranteed");
        check(&[full.clone(), json!({})], "Burstable");
        check(
            &[json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})],
            "Burstable",
        );
        assert_eq!(qos_class(&json!({"containers": [{}], "resources": full})), "Guaranteed");
    }
}
