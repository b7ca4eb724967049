//! What is done to an object, and asked of it, before it is written.
//!
//! [`Chain`] holds the built-in plugins as plain functions in two visible lists, in upstream's order: first all
//! that change the object, then all that only look. One file per plugin, with upstream's name.
//!
//! Not here yet: LimitRanger, ResourceQuota, PodSecurity, webhooks and policies; their places in the lists are
//! marked. StorageObjectInUseProtection comes with the controllers that take its finalizers off again.

pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod priority;
pub mod runtime_class;
pub mod service_account;
pub mod taint_nodes_by_condition;

use apimachinery::clock::Entropy;
use apimachinery::status::Status;
use serde_json::Value;

use crate::authorization;
pub use crate::request::{AdmissionAttributes, Operation};

/// What plugins may look at besides the request.
pub struct View<'a> {
    /// The newest stored object: `(group, resource, namespace, name)`.
    pub get: &'a (dyn Fn(&str, &str, &str, &str) -> Option<Value> + Send + Sync),
    /// A namespace's phase; `None` if there is no such namespace. Asked at every write, so it decodes nothing.
    pub phase: &'a (dyn Fn(&str) -> Option<String> + Send + Sync),
    /// Every stored object of a kind: `(group, resource)`.
    pub list: &'a (dyn Fn(&str, &str) -> Vec<Value> + Send + Sync),
    /// Whether the user of the request might do something else.
    pub may: &'a (dyn Fn(&authorization::Attributes<'_>) -> bool + Send + Sync),
    pub entropy: &'a dyn Entropy,
}

/// A plugin that may change the object.
type Mutate = fn(&View<'_>, &AdmissionAttributes<'_>, &mut Value) -> Result<(), Status>;
/// A plugin that only looks; on delete and connect the object is `Null`.
type Validate = fn(&View<'_>, &AdmissionAttributes<'_>, &Value) -> Result<(), Status>;

/// Upstream's names (`--disable-admission-plugins`) and the functions, in order.
const MUTATING: &[(&str, Mutate)] = &[
    ("NamespaceLifecycle", namespace_lifecycle::mutate),
    // LimitRanger
    ("ServiceAccount", service_account::mutate),
    ("NodeRestriction", node_restriction::mutate),
    ("TaintNodesByCondition", taint_nodes_by_condition::mutate),
    // PodSecurity
    ("Priority", priority::mutate),
    ("DefaultTolerationSeconds", default_toleration_seconds::mutate),
    ("DefaultStorageClass", default_storage_class::mutate),
    ("RuntimeClass", runtime_class::mutate),
    ("DefaultIngressClass", default_ingress_class::mutate),
    // MutatingAdmissionPolicy, MutatingAdmissionWebhook
];

const VALIDATING: &[(&str, Validate)] = &[
    // LimitRanger
    ("ServiceAccount", service_account::validate),
    // PodSecurity
    ("Priority", priority::validate),
    // ValidatingAdmissionPolicy, ValidatingAdmissionWebhook, ResourceQuota
];

/// Upstream's names of the plugins that are built, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    let only_looks = |name: &&str| !MUTATING.iter().any(|(mutating, _)| mutating == name);
    MUTATING.iter().map(|(name, _)| *name).chain(VALIDATING.iter().map(|(name, _)| *name).filter(only_looks))
}

/// The plugins that are on.
pub struct Chain {
    mutating: Vec<(&'static str, Mutate)>,
    validating: Vec<(&'static str, Validate)>,
}

impl Chain {
    /// Every plugin but those named.
    pub fn without(disabled: &[&str]) -> Self {
        Self {
            mutating: MUTATING.iter().filter(|(name, _)| !disabled.contains(name)).copied().collect(),
            validating: VALIDATING.iter().filter(|(name, _)| !disabled.contains(name)).copied().collect(),
        }
    }

    /// Lets every mutating plugin at the object, in order; the first refusal ends it.
    pub fn mutate_with(
        &self,
        view: &View<'_>,
        a: &AdmissionAttributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        self.mutating.iter().try_for_each(|(_, plugin)| plugin(view, a, object))
    }

    /// Asks every validating plugin.
    pub fn validate_with(
        &self,
        view: &View<'_>,
        a: &AdmissionAttributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        self.validating.iter().try_for_each(|(_, plugin)| plugin(view, a, object))
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::without(&[])
    }
}

/// Upstream's `admission.NewForbidden`: 403 that names the object as far as it has a name yet.
pub fn forbidden(a: &AdmissionAttributes<'_>, object: &Value, why: impl std::fmt::Display) -> Status {
    let metadata = |key: &str| object["metadata"][key].as_str().filter(|s| !s.is_empty());
    let name = match a.name {
        "" => metadata("name").or_else(|| metadata("generateName")).unwrap_or("Unknown"),
        name => name,
    };
    Status::forbidden(a.group, a.resource, name, why)
}

/// Whether the request is about pods themselves, no subresource.
fn is_pod(a: &AdmissionAttributes<'_>) -> bool {
    a.group.is_empty() && a.resource == "pods" && a.subresource.is_empty()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The list in a field of an object, made if it is missing.
fn list_mut<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let slot = object.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}

fn has_annotation(object: &Value, key: &str) -> bool {
    object["metadata"]["annotations"].get(key).is_some()
}

#[cfg(test)]
mod tests;
