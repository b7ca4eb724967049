//! A new node takes no pods before it was ready once (upstream `plugin/pkg/admission/nodetaint`).

use apimachinery::status::Status;
use serde_json::{Value, json};

use super::{AdmissionAttributes, Operation, View, items, list_mut, text};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub fn mutate(_: &View<'_>, a: &AdmissionAttributes<'_>, node: &mut Value) -> Result<(), Status> {
    if !a.group.is_empty()
        || a.resource != "nodes"
        || !a.subresource.is_empty()
        || a.operation != Operation::Create
        || items(node, "/spec/taints")
            .any(|t| text(t, "/key") == NOT_READY && text(t, "/effect") == "NoSchedule")
    {
        return Ok(());
    }
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    if let Some(taints) = list_mut(&mut node["spec"], "taints") {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
    Ok(())
}
