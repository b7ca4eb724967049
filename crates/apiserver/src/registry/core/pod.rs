//! Pods: their grace, and how they get a node.

use apimachinery::{
    field::{self, Path, quote},
    status::Status,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    handlers::options::WriteOptions,
    registry::{generic::Scope, meta},
    request::Operation,
    storage,
};

/// Seconds that a pod gets to end (upstream's `CheckGracefulDelete`): none when no node runs it or it has ended.
pub fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if unscheduled || ended {
        return 0;
    }
    let own = || pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0);
    match asked.unwrap_or_else(own) {
        negative if negative < 0 => 1,
        period => period,
    }
}

/// Binds a pod to a node: `pods/NAME/binding`, or a Binding of that name.
pub async fn bind(scope: &Scope<'_>, binding: Value, options: &WriteOptions) -> Result<Value, Status> {
    let name = meta::name(&binding).to_owned();
    // A Binding posted by itself has its name from nowhere else.
    if scope.name != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let mut binding = binding;
    scope.admit(Operation::Create, &mut binding, None, options.into()).await?;
    let faults = validate(&binding);
    if let Some(text) = field::aggregate(&faults) {
        return Err(Status::failure(500, "", text));
    }
    scope.check(Operation::Create, &binding, None, options.into()).await?;
    let pods = api::resource("", "v1", "pods").ok_or_else(|| Status::internal("pods are not served"))?;
    let pod_scope = Scope { resource: pods, subresource: "binding", kind: "Pod", name: &name, ..*scope };
    let now = scope.server.clock.now();
    let key = storage::key(pods, scope.namespace, &name)?;
    let change = |pod: Option<&Value>| {
        let pod = pod.ok_or_else(|| pod_scope.not_found())?;
        for (field, ours) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let (wanted, has) = (meta::text(&binding, field), meta::text(pod, field));
            if !wanted.is_empty() && wanted != has {
                return Err(pod_scope.conflict(format_args!(
                    "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: \
                     Precondition failed: {ours} in precondition: {wanted}, {ours} in object meta: {has}",
                    String::from_utf8_lossy(&key)
                )));
            }
        }
        let conflict = |why: String| Status::conflict("", "pods/binding", &name, why);
        bound(pod, &binding, now).map_err(conflict)
    };
    pod_scope.put(options.dry_run, &change).await?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

fn validate(binding: &Value) -> Vec<field::Error> {
    let path = Path::new("target");
    let mut errors = Vec::new();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(field::Error::not_supported(&path.child("kind"), kind, ["Node", "<empty>"]));
    }
    if binding["target"]["name"].as_str().unwrap_or_default().is_empty() {
        errors.push(field::Error::required(&path.child("name"), ""));
    }
    errors
}

/// The pod on its node.
fn bound(pod: &Value, binding: &Value, now: Timestamp) -> Result<Value, String> {
    let name = meta::name(pod);
    if meta::is_being_deleted(pod) {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !node.is_empty() {
        return Err(format!("pod {name} is already assigned to node {}", quote(node)));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    for field in ["annotations", "labels"] {
        let Some(added) = binding["metadata"][field].as_object().filter(|m| !m.is_empty()) else { continue };
        let metadata = meta::of(&mut pod);
        match metadata.get_mut(field).and_then(Value::as_object_mut) {
            Some(own) => own.extend(added.clone()),
            None => drop(metadata.insert(field.into(), Value::Object(added.clone()))),
        }
    }
    set_condition(&mut pod, json!({"type": "PodScheduled", "status": "True"}), now);
    Ok(pod)
}

/// Sets a condition; its time changes only with its status.
pub(super) fn set_condition(pod: &mut Value, mut condition: Value, now: Timestamp) {
    let generation = pod["metadata"]["generation"].clone();
    let observed = pod["status"]["observedGeneration"].is_number();
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = meta::time(now);
    if observed {
        condition["observedGeneration"] = generation;
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else {
        return;
    };
    match conditions.iter_mut().find(|known| known["type"] == condition["type"]) {
        Some(known) => {
            if known["status"] == condition["status"] {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graces() {
        let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
        for (pod, asked, expect) in [
            (pod("n", "Running"), None, 30),
            (pod("n", "Running"), Some(5), 5),
            (pod("n", "Running"), Some(-1), 1),
            (pod("n", "Succeeded"), Some(5), 0),
            (pod("", "Pending"), None, 0),
        ] {
            assert_eq!(grace(&pod, asked), expect, "{pod} {asked:?}");
        }
    }

    #[test]
    fn binding_once() {
        let binding = json!({"target": {"name": "n1"}});
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending", "nominatedNodeName": "n0"}});
        let now = Timestamp::from_second(0).unwrap();
        let bound_pod = bound(&pod, &binding, now).unwrap();
        assert_eq!(bound_pod["spec"]["nodeName"], "n1");
        assert_eq!(bound_pod["status"]["conditions"][0]["type"], "PodScheduled");
        assert!(bound_pod["status"].get("nominatedNodeName").is_none());
        let again = bound(&bound_pod, &binding, now).unwrap_err();
        assert_eq!(again, r#"pod p is already assigned to node "n1""#);
        assert_eq!(validate(&json!({"target": {"kind": "Pod"}})).len(), 2);
    }
}
