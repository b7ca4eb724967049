//! A pod's priority is worked out from its class (upstream `plugin/pkg/admission/priority`).

use std::sync::Arc;

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_pod, text};

const GROUP: &str = "scheduling.k8s.io";

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(a) {
        return Ok(());
    }
    match a.operation {
        Operation::Create => establish(view, a, pod),
        Operation::Update => {
            // A client of old may not know these fields and leave them out.
            for field in ["priority", "preemptionPolicy"] {
                let old = a.old.map_or(&Value::Null, |old| &old["spec"][field]);
                if !old.is_null() && pod["spec"][field].is_null() {
                    pod["spec"][field] = old.clone();
                }
            }
            Ok(())
        }
        Operation::Delete | Operation::Connect => Ok(()),
    }
}

fn establish(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let wanted = text(pod, "/spec/priorityClassName");
    let class = if wanted.is_empty() {
        default_class(view)
    } else {
        let class = (view.kept)(GROUP, "priorityclasses", "", wanted);
        let missing = || forbidden(a, pod, format!("no PriorityClass with name {wanted} was found"));
        Some(class.ok_or_else(missing)?)
    };
    let (name, priority, policy) = match &class {
        Some(class) => (
            text(class, "/metadata/name"),
            class["value"].as_i64().unwrap_or(0),
            class.get("preemptionPolicy").and_then(Value::as_str),
        ),
        None => ("", 0, Some("PreemptLowerPriority")),
    };
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|p| *p != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
             controller computed {priority} from the given PriorityClass name"
        );
        return Err(forbidden(a, pod, why));
    }
    if let (Some(policy), Some(given)) = (policy, pod["spec"]["preemptionPolicy"].as_str())
        && given != policy
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(a, pod, why));
    }
    let spec = &mut pod["spec"];
    if !name.is_empty() {
        spec["priorityClassName"] = name.into();
    }
    spec["priority"] = priority.into();
    if let Some(policy) = policy {
        spec["preemptionPolicy"] = policy.into();
    }
    Ok(())
}

/// The global default; should there be several, the lowest.
fn default_class(view: &View<'_>) -> Option<Arc<Value>> {
    let classes = (view.list)(GROUP, "priorityclasses", "").into_iter();
    classes.filter(|c| c["globalDefault"] == true).min_by_key(|c| c["value"].as_i64())
}

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, class: &Value) -> Result<(), Status> {
    if a.group != GROUP
        || a.resource != "priorityclasses"
        || !a.subresource.is_empty()
        || !matches!(a.operation, Operation::Create | Operation::Update)
        || class["globalDefault"] != true
    {
        return Ok(());
    }
    let Some(default) = default_class(view) else { return Ok(()) };
    let name = text(&default, "/metadata/name");
    if a.operation == Operation::Create || name != text(class, "/metadata/name") {
        let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
        return Err(forbidden(a, class, why));
    }
    Ok(())
}
