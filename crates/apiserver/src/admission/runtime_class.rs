//! A pod of a runtime class gets that class's overhead and goes where the class runs (upstream
//! `plugin/pkg/admission/runtimeclass`).

use std::sync::Arc;

use apimachinery::quantity::Quantity;
use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_pod, map_mut};

/// The class that the pod names.
fn class(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<Option<Arc<Value>>, Status> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(None) };
    let class = (view.kept)("node.k8s.io", "runtimeclasses", "", name);
    class.map(Some).ok_or_else(|| forbidden(a, pod, format!("pod rejected: RuntimeClass {name:?} not found")))
}

fn overhead(class: Option<&Value>) -> Option<&Value> {
    class?.pointer("/overhead").filter(|overhead| !overhead.is_null()).map(|overhead| &overhead["podFixed"])
}

/// The same amounts, however they are written.
fn same(a: &Value, b: &Value) -> bool {
    fn amounts(value: &Value) -> Vec<(&String, Option<Quantity>)> {
        let all = value.as_object().into_iter().flatten();
        all.map(|(name, amount)| (name, Quantity::from_value(amount).ok())).collect()
    }
    amounts(a) == amounts(b)
}

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(a) || a.operation != Operation::Create {
        return Ok(());
    }
    let Some(class) = class(view, a, pod)? else { return Ok(()) };
    if let Some(overhead) = overhead(Some(&class)) {
        let given = pod["spec"]["overhead"].as_object().is_some_and(|given| !given.is_empty());
        if given && !same(&pod["spec"]["overhead"], overhead) {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(forbidden(a, pod, why));
        }
        pod["spec"]["overhead"] = overhead.clone();
    }
    let scheduling = &class["scheduling"];
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        if let Some(own) = pod["spec"]["nodeSelector"].get(key).filter(|own| *own != value) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                own.as_str().unwrap_or_default(),
            );
            return Err(forbidden(a, pod, why));
        }
        if let Some(selector) = map_mut(&mut pod["spec"], "nodeSelector") {
            selector.insert(key.clone(), value.clone());
        }
    }
    if let Some(more) = scheduling["tolerations"].as_array().filter(|more| !more.is_empty()) {
        let own = pod["spec"]["tolerations"].as_array().into_iter().flatten();
        pod["spec"]["tolerations"] = merged(&own.chain(more).cloned().collect::<Vec<_>>()).into();
    }
    Ok(())
}

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    if !is_pod(a) || a.operation != Operation::Create {
        return Ok(());
    }
    let class = class(view, a, pod)?;
    let given = &pod["spec"]["overhead"];
    let why = match overhead(class.as_deref()) {
        Some(overhead) if !same(overhead, given) => {
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        }
        None if given.is_object() => {
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        }
        _ => return Ok(()),
    };
    Err(forbidden(a, pod, why))
}

/// The tolerations without those that another one includes; of equal ones the first stays.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (i, toleration) in all.iter().enumerate() {
        let before = kept.iter().any(|other| includes(other, toleration));
        let after = all.iter().skip(i + 1).any(|other| other != toleration && includes(other, toleration));
        if !before && !after {
            kept.push(toleration.clone());
        }
    }
    kept
}

/// Whether `wide` tolerates all that `narrow` does (upstream `pkg/util/tolerations`).
fn includes(wide: &Value, narrow: &Value) -> bool {
    let text = |toleration: &'_ Value, field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
    let exists = text(wide, "operator") == "Exists";
    let key = text(wide, "key");
    let effect = text(wide, "effect");
    if wide == narrow {
        return true;
    }
    if text(narrow, "key") != key && !(key.is_empty() && exists)
        || text(narrow, "effect") != effect && !effect.is_empty()
    {
        return false;
    }
    if effect == "NoExecute"
        && let Some(seconds) = wide["tolerationSeconds"].as_i64()
        && narrow["tolerationSeconds"].as_i64().is_none_or(|other| other > seconds)
    {
        return false;
    }
    match &*text(wide, "operator") {
        "" | "Equal" => text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value"),
        "Exists" => true,
        _ => false,
    }
}
