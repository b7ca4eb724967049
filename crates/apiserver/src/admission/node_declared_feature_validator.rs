//! A pod that runs is not changed in a way that its node does not know (upstream
//! `plugin/pkg/admission/nodedeclaredfeatures`, `component-helpers/nodedeclaredfeatures`, KEP-5328).

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_about, items, text};

/// Whether the change from one spec to another needs a feature.
type Needs = fn(&Value, &Value) -> bool;

/// The features that an update can need, by name.
const FEATURES: [(&str, Needs); 2] = [
    ("InPlacePodLevelResourcesVerticalScaling", resizes_pod),
    ("InPlacePodVerticalScalingInitContainers", resizes_init_containers),
];

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    let about = matches!(a.subresource, "" | "resize") && is_about(a, "", "pods", a.subresource);
    let Some(old) = a.old.filter(|_| about && a.operation == Operation::Update) else { return Ok(()) };
    let node = text(pod, "/spec/nodeName");
    if node.is_empty() || old["metadata"]["generation"] == pod["metadata"]["generation"] {
        return Ok(());
    }
    let mut needed: Vec<&str> = FEATURES
        .iter()
        .filter(|(_, needs)| needs(&old["spec"], &pod["spec"]))
        .map(|(name, _)| *name)
        .collect();
    if needed.is_empty() {
        return Ok(());
    }
    let Some(declared) = (view.get)("", "nodes", "", node) else {
        return Err(forbidden(a, pod, format!("node {node:?} not found")));
    };
    needed.retain(|name| !items(&declared, "/status/declaredFeatures").any(|feature| feature == name));
    if needed.is_empty() {
        return Ok(());
    }
    let needed = needed.join(", ");
    let why = format!("pod update requires features {needed} which are not available on node {node:?}");
    Err(forbidden(a, pod, why))
}

/// The pod asks for other resources as a whole.
fn resizes_pod(old: &Value, new: &Value) -> bool {
    let resources = |spec: &Value| spec.get("resources").filter(|r| !r.is_null()).cloned();
    resources(old) != resources(new)
}

/// An init container that is no sidecar asks for other resources.
fn resizes_init_containers(old: &Value, new: &Value) -> bool {
    let mut pairs = items(old, "/initContainers").zip(items(new, "/initContainers"));
    pairs.any(|(old, new)| old["restartPolicy"] != "Always" && old["resources"] != new["resources"])
}
