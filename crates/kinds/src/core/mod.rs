//! The core group.

pub mod claim;
mod data;
mod diff;
mod endpoints;
pub mod event;
mod limit_range;
mod namespace;
pub mod node;
pub mod pod;
mod resource_quota;
pub mod resources;
mod service;
mod service_account;
pub mod volume;

use apimachinery::field::{ErrorList, Path};
use serde_json::Value;

use crate::strategy::{GENERIC, GarbageCollection, Strategy};
use crate::workload;

/// The rules of a core kind.
pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "ConfigMap" => &data::CONFIG_MAP,
        "Endpoints" => &endpoints::STRATEGY,
        "Event" => &event::STRATEGY,
        "LimitRange" => &limit_range::STRATEGY,
        "Namespace" => &namespace::STRATEGY,
        "Node" => &node::STRATEGY,
        "PersistentVolume" => &volume::STRATEGY,
        "PersistentVolumeClaim" => &claim::STRATEGY,
        "Pod" => &pod::STRATEGY,
        "PodTemplate" => &POD_TEMPLATE,
        "ReplicationController" => &REPLICATION_CONTROLLER,
        "ResourceQuota" => &resource_quota::STRATEGY,
        "Secret" => &data::SECRET,
        "Service" => &service::STRATEGY,
        "ServiceAccount" => &service_account::STRATEGY,
        _ => return None,
    })
}

const POD_TEMPLATE: Strategy = Strategy {
    generation: true,
    returns_deleted: true,
    prepare_for_create: |object| pod::disabled::template(&mut object["template"], &Value::Null),
    prepare_for_update: |new, old, _| pod::disabled::template(&mut new["template"], &old["template"]),
    validate: |object, errors| pod::validate::template(&object["template"], &Path::new("template"), errors),
    validate_update: |new, old, _, errors| {
        let path = Path::new("template");
        pod::validate::template_update(&new["template"], &old["template"], &path, errors);
    },
    warnings: |new, old, _| {
        let changed = old.is_none_or(|old| old["template"] != new["template"]);
        let warnings = || pod::warnings::template(&new["template"], &Path::new("template"));
        changed.then(warnings).unwrap_or_default()
    },
    ..GENERIC
};

const REPLICATION_CONTROLLER: Strategy = Strategy {
    generation: true,
    garbage_collection: GarbageCollection::Orphan,
    prepare_for_create: |new| prepare_controller(new, &Value::Null),
    prepare_for_update: |new, old, subresource| {
        if subresource.is_empty() {
            prepare_controller(new, old);
        }
    },
    validate: workload::replication_controller,
    validate_update: controller_update,
    warnings: controller_warnings,
    selectable: &[("status.replicas", "/status/replicas", "0")],
    ..GENERIC
};

fn prepare_controller(new: &mut Value, old: &Value) {
    if let Some(template) = new.pointer_mut("/spec/template").filter(|template| template.is_object()) {
        let none = Value::Null;
        pod::disabled::template(template, old.pointer("/spec/template").unwrap_or(&none));
    }
}

/// Selectors of ReplicaSets that no controller of this kind can have were noted in annotations once.
fn controller_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    use apimachinery::field::{Error, ErrorType};
    workload::replication_controller_update(new, old, subresource, errors);
    let notes = old["metadata"]["annotations"].as_object().into_iter().flatten();
    let broken = notes.filter_map(|(key, value)| {
        Some((key.strip_prefix("non-convertible.kubernetes.io")?.strip_prefix('/')?, value))
    });
    for (field, value) in broken.filter(|(field, _)| subresource.is_empty() && !field.contains('/')) {
        let (now, was) = (&new["spec"]["selector"], &old["spec"]["selector"]);
        if !field.contains("selector") {
            let kind = ErrorType::NotFound;
            let detail = "unknown non-convertible field".to_owned();
            errors.push(Error { kind, field: field.to_owned(), bad_value: Some(value.clone()), detail });
        } else if now != was {
            let why = "cannot update non-convertible selector";
            errors.push(Error::invalid(&Path::new("spec.selector"), now.clone(), why));
        }
    }
}

/// Upstream warns of the old template when the new one differs.
fn controller_warnings(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    let path = Path::new("spec.template");
    let mut warnings = Vec::new();
    match old {
        _ if !subresource.is_empty() => {}
        None => {
            let name = new["metadata"]["name"].as_str().unwrap_or_default();
            pod::warnings::host_name(name, "Pod names and hostnames", &mut warnings);
            warnings.extend(pod::warnings::template(&new["spec"]["template"], &path));
        }
        Some(old) if old["spec"] != new["spec"] => {
            warnings.extend(pod::warnings::template(&old["spec"]["template"], &path));
        }
        Some(_) => {}
    }
    warnings
}
