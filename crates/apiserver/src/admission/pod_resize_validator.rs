//! A pod is not resized beyond its node (upstream `plugin/pkg/admission/podresize`).

use api::core::v1::PodSpec;
use apimachinery::quantity::Quantity;
use apimachinery::status::{Cause, Status};
use kinds::pod::resources;
use serde::Deserialize;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_about, text};

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    let about = a.operation == Operation::Update && is_about(a, "", "pods", "resize");
    let Some(old) = a.old.filter(|_| about) else { return Ok(()) };
    let name = text(pod, "/spec/nodeName");
    if name.is_empty() || old["metadata"]["generation"] == pod["metadata"]["generation"] {
        return Ok(());
    }
    let Some(node) = (view.get)("", "nodes", "", name) else {
        return Err(forbidden(a, pod, format!("node {name:?} not found")));
    };
    let refuse = |why: String, kind: &'static str| {
        Err(forbidden(a, pod, why).with_cause(Cause { kind: kind.into(), ..Cause::default() }))
    };
    let os = node["metadata"]["labels"]["kubernetes.io/os"].as_str();
    if let Some(os) = os.filter(|os| *os != "linux") {
        let why = format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
        return refuse(why, "UnsupportedPlatform");
    }
    let spec = PodSpec::deserialize(&pod["spec"]).map_err(|e| Status::bad_request(e.to_string()))?;
    let requests = resources::requests(&spec);
    let none = Quantity::zero();
    let mut short = Vec::new();
    for (resource, value) in
        [("cpu", Quantity::milli_value as fn(&Quantity) -> i64), ("memory", Quantity::value)]
    {
        let has = Quantity::from_value(&node["status"]["allocatable"][resource]);
        let (wanted, has) =
            (requests.get(resource).unwrap_or(&none), has.unwrap_or_else(|_| Quantity::zero()));
        if *wanted > has {
            short.push(format!("{resource}, requested: {}, allocatable: {}", value(wanted), value(&has)));
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", short.join("; "));
    refuse(why, "NodeCapacity")
}
