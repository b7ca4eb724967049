//! A pod of a runtime class gets that class's overhead and goes where the class runs (upstream
//! `plugin/pkg/admission/runtimeclass`).

use apimachinery::status::Status;
use serde_json::{Value, json};

use super::{AdmissionAttributes, Operation, View, forbidden, is_pod, list_mut};

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(a) || a.operation != Operation::Create {
        return Ok(());
    }
    let given = pod["spec"].get("overhead").filter(|o| o.as_object().is_some_and(|o| !o.is_empty()));
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else {
        return match given {
            Some(_) => Err(forbidden(
                a,
                pod,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            None => Ok(()),
        };
    };
    let Some(class) = (view.get)("node.k8s.io", "runtimeclasses", "", name) else {
        return Err(forbidden(a, pod, format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    let overhead = class.pointer("/overhead/podFixed").filter(|o| !o.is_null());
    match (overhead, given) {
        (Some(own), Some(given)) if own != given => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(forbidden(a, pod, why));
        }
        (None, Some(_)) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(forbidden(a, pod, why));
        }
        (Some(own), _) => pod["spec"]["overhead"] = own.clone(),
        (None, None) => {}
    }
    let scheduling = &class["scheduling"];
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let own = &pod["spec"]["nodeSelector"];
        if own.get(key).is_some_and(|v| v != value) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                own[key].as_str().unwrap_or_default(),
            );
            return Err(forbidden(a, pod, why));
        }
        if !own.is_object() {
            pod["spec"]["nodeSelector"] = json!({});
        }
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    for toleration in scheduling["tolerations"].as_array().into_iter().flatten() {
        if let Some(own) = list_mut(&mut pod["spec"], "tolerations")
            && !own.contains(toleration)
        {
            own.push(toleration.clone());
        }
    }
    Ok(())
}
