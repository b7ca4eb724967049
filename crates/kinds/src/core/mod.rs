//! The core group.

mod data;
pub mod node;
pub mod pod;
mod service;

use apimachinery::field::{ErrorList, Path};
use serde_json::Value;

use crate::strategy::{GENERIC, GarbageCollection, Strategy, label};
use crate::workload;

/// The rules of a core kind.
pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "ConfigMap" => &data::CONFIG_MAP,
        "Endpoints" => &ENDPOINTS,
        "Event" => &EVENT,
        "LimitRange" => &LIMIT_RANGE,
        "Namespace" => &NAMESPACE,
        "Node" => &node::STRATEGY,
        "PersistentVolume" | "PersistentVolumeClaim" | "ResourceQuota" | "ServiceAccount" => &SHOWS_DELETED,
        "Pod" => &pod::STRATEGY,
        "PodTemplate" => &POD_TEMPLATE,
        "ReplicationController" => &REPLICATION_CONTROLLER,
        "Secret" => &data::SECRET,
        "Service" => &service::STRATEGY,
        _ => return None,
    })
}

const SHOWS_DELETED: Strategy = Strategy { returns_deleted: true, ..GENERIC };

const ENDPOINTS: Strategy = Strategy { allow_create_on_update: true, ..GENERIC };

const EVENT: Strategy = Strategy {
    allow_create_on_update: true,
    garbage_collection: GarbageCollection::Unsupported,
    selectable: &[
        ("involvedObject.kind", "/involvedObject/kind", ""),
        ("involvedObject.namespace", "/involvedObject/namespace", ""),
        ("involvedObject.name", "/involvedObject/name", ""),
        ("involvedObject.uid", "/involvedObject/uid", ""),
        ("involvedObject.apiVersion", "/involvedObject/apiVersion", ""),
        ("involvedObject.resourceVersion", "/involvedObject/resourceVersion", ""),
        ("involvedObject.fieldPath", "/involvedObject/fieldPath", ""),
        ("reason", "/reason", ""),
        ("reportingComponent", "/reportingComponent", ""),
        ("source", "/source/component", ""),
        ("type", "/type", ""),
    ],
    ..GENERIC
};

const LIMIT_RANGE: Strategy = Strategy { allow_create_on_update: true, ..GENERIC };

const NAMESPACE: Strategy = Strategy {
    name: label,
    returns_deleted: true,
    prepare_for_create: namespace_on_create,
    prepare_for_update: namespace_on_update,
    selectable: &[("status.phase", "/status/phase", ""), ("name", "/metadata/name", "")],
    ..GENERIC
};

/// Every namespace starts active, holds itself until it is empty, and is labelled with its name.
fn namespace_on_create(object: &mut Value) {
    object["status"] = serde_json::json!({"phase": "Active"});
    object["spec"] = serde_json::json!({"finalizers": ["kubernetes"]});
    label_with_name(object);
}

/// The finalizers of the spec belong to the `finalize` subresource.
fn namespace_on_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource != "finalize" {
        match old.get("spec") {
            Some(spec) => new["spec"] = spec.clone(),
            None => {
                if let Some(object) = new.as_object_mut() {
                    object.remove("spec");
                }
            }
        }
    }
    label_with_name(new);
}

fn label_with_name(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

const POD_TEMPLATE: Strategy = Strategy {
    generation: true,
    returns_deleted: true,
    validate: pod_template,
    validate_update: |new, _, _, errors| pod_template(new, errors),
    ..GENERIC
};

fn pod_template(object: &Value, errors: &mut ErrorList) {
    pod::validate::template(&object["template"], &Path::new("template"), errors);
}

const REPLICATION_CONTROLLER: Strategy = Strategy {
    generation: true,
    garbage_collection: GarbageCollection::Orphan,
    validate: workload::replication_controller,
    validate_update: workload::replication_controller_update,
    selectable: &[("status.replicas", "/status/replicas", "0")],
    ..GENERIC
};
