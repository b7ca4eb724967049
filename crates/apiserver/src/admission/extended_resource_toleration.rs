//! A pod that asks for an extended resource goes where only such pods go (upstream
//! `plugin/pkg/admission/extendedresourcetoleration`). Off by default.

use std::collections::BTreeSet;

use apimachinery::status::Status;
use serde_json::{Value, json};

use super::{AdmissionAttributes, Operation, View, is_pod, items, list_mut};

pub fn mutate(_: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(a) || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let containers = items(pod, "/spec/containers").chain(items(pod, "/spec/initContainers"));
    let requests = containers.filter_map(|container| container.pointer("/resources/requests")?.as_object());
    let is_extended = |name: &&String| {
        name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
    };
    let names: BTreeSet<String> = requests.flat_map(|r| r.keys()).filter(is_extended).cloned().collect();
    for name in names {
        let toleration = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
        let Some(all) = list_mut(&mut pod["spec"], "tolerations") else { continue };
        // A toleration of the same taint, however it is written, becomes this one.
        let same = |t: &Value| ["key", "effect", "operator", "value"].iter().all(|f| t[f] == toleration[f]);
        match all.iter_mut().find(|t| same(t)) {
            Some(known) => *known = toleration,
            None => all.push(toleration),
        }
    }
    Ok(())
}
