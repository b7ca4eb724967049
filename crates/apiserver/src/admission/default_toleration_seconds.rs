//! A pod stays five minutes on a node that is not ready or not reachable, unless it says otherwise (upstream
//! `plugin/pkg/admission/defaulttolerationseconds`).

use apimachinery::status::Status;
use serde_json::{Value, json};

use super::{AdmissionAttributes, Operation, View, is_pod, items, list_mut, text};

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(a) || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let taints = [
        ("node.kubernetes.io/not-ready", view.configuration.not_ready_seconds),
        ("node.kubernetes.io/unreachable", view.configuration.unreachable_seconds),
    ];
    for (taint, seconds) in taints {
        let tolerated = items(pod, "/spec/tolerations").any(|t| {
            matches!(text(t, "/key"), key if key.is_empty() || key == taint)
                && matches!(text(t, "/effect"), "" | "NoExecute")
        });
        if !tolerated && let Some(tolerations) = list_mut(&mut pod["spec"], "tolerations") {
            tolerations.push(
                json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}),
            );
        }
    }
    Ok(())
}
