//! A pod learns the zone and region of its node, at its binding or when it is made for a node (upstream
//! `plugin/pkg/admission/podtopologylabels`, KEP-4742).

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, is_about, map_mut, text};

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &mut Value) -> Result<(), Status> {
    if a.operation != Operation::Create {
        return Ok(());
    }
    let node = if is_about(a, "", "pods", "") {
        text(object, "/spec/nodeName")
    } else if is_about(a, "", "pods", "binding") && text(object, "/target/kind") == "Node" {
        text(object, "/target/name")
    } else {
        return Ok(());
    };
    if node.is_empty() {
        return Ok(());
    }
    let mut known = (view.labels)("", "nodes", "", node).unwrap_or_default();
    for key in LABELS {
        if let Some(value) = known.remove(key)
            && map_mut(object, "metadata").is_some()
            && let Some(labels) = map_mut(&mut object["metadata"], "labels")
        {
            labels.insert(key.to_owned(), value.into());
        }
    }
    Ok(())
}
