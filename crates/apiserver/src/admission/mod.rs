//! What is done to an object, and asked of it, before it is written.
//!
//! [`Chain`] holds the built-in plugins as plain functions in one visible list, in upstream's order
//! (`pkg/kubeapiserver/options/plugins.go`): first every plugin may change the object, then every plugin looks at
//! what has become of it. One file per plugin, with upstream's name. [`configuration`] is what can be set.
//!
//! [`policy`] holds the cluster owner's own rules, [`webhook`] asks programs of users.

pub mod always_pull_images;
pub mod certificates;
pub mod configuration;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod deny_service_external_ips;
pub mod expression;
pub mod extended_resource_toleration;
pub mod limit_pod_hard_anti_affinity_topology;
pub mod limit_ranger;
pub mod matching;
pub mod namespace_lifecycle;
pub mod node_declared_feature_validator;
pub mod node_restriction;
pub mod owner_references_permission_enforcement;
pub mod persistent_volume_claim_resize;
pub mod pod_resize_validator;
pub mod pod_security;
pub mod pod_topology_labels;
pub mod policy;
pub mod priority;
pub mod reinvocation;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
pub mod version;
pub mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::clock::Entropy;
use apimachinery::status::Status;
use serde_json::Value;

use self::reinvocation::Rounds;
use crate::authorization;
use crate::registry::generic::Scope;
pub use crate::request::{AdmissionAttributes, Operation, Options};

/// Looks an object up by group, resource, namespace and name.
type Find<'a, T> = &'a (dyn Fn(&str, &str, &str, &str) -> Option<T> + Send + Sync);
/// Lists the objects of a group and resource in a namespace, or in all of them if it is empty.
type List<'a, T> = &'a (dyn Fn(&str, &str, &str) -> Vec<T> + Send + Sync);

/// What plugins may look at besides the request.
pub struct View<'a> {
    /// The newest stored object.
    pub get: Find<'a, Value>,
    /// The same, decoded once for all requests: for kinds of which there are few objects, and which many writes
    /// look at.
    pub kept: Find<'a, Arc<Value>>,
    /// Every stored object of such a kind, in order.
    pub list: List<'a, Arc<Value>>,
    /// The pods of a namespace.
    pub pods: &'a (dyn Fn(&str) -> Vec<Value> + Send + Sync),
    /// A namespace's phase; `None` if there is no such namespace. Asked at every write, so it decodes nothing.
    pub phase: &'a (dyn Fn(&str) -> Option<String> + Send + Sync),
    /// The labels of a stored object, which decodes nothing either; `None` if it is not there.
    pub labels: Find<'a, BTreeMap<String, String>>,
    /// Whether the user of the request might do something else.
    pub may: &'a (dyn Fn(&authorization::Attributes<'_>) -> bool + Send + Sync),
    /// Adds a warning to the answer.
    pub warn: &'a (dyn Fn(String) + Send + Sync),
    pub entropy: &'a dyn Entropy,
    pub configuration: &'a configuration::Configuration,
    /// What policies look at.
    pub policies: policy::Around<'a>,
}

/// Changes the object. `Null` on delete and connect.
type Mutate = fn(&View<'_>, &AdmissionAttributes<'_>, &mut Value) -> Result<(), Status>;
/// Looks at the object. `Null` on delete and connect.
type Validate = fn(&View<'_>, &AdmissionAttributes<'_>, &Value) -> Result<(), Status>;

struct Plugin {
    /// Upstream's, for `--enable-admission-plugins` and `--disable-admission-plugins`.
    name: &'static str,
    is_default: bool,
    mutate: Option<Mutate>,
    validate: Option<Validate>,
}

const fn on(name: &'static str, mutate: Option<Mutate>, validate: Option<Validate>) -> Plugin {
    Plugin { name, is_default: true, mutate, validate }
}

const fn off(name: &'static str, mutate: Option<Mutate>, validate: Option<Validate>) -> Plugin {
    Plugin { name, is_default: false, mutate, validate }
}

/// In order. NodeRestriction, which upstream's installers turn on, is on here.
const PLUGINS: &[Plugin] = &[
    off("AlwaysAdmit", None, None),
    on("NamespaceLifecycle", Some(namespace_lifecycle::mutate), None),
    off("NamespaceExists", None, Some(namespace_lifecycle::exists)),
    off("LimitPodHardAntiAffinityTopology", None, Some(limit_pod_hard_anti_affinity_topology::validate)),
    on("LimitRanger", Some(limit_ranger::mutate), Some(limit_ranger::validate)),
    on("ServiceAccount", Some(service_account::mutate), Some(service_account::validate)),
    on("NodeRestriction", Some(node_restriction::mutate), None),
    on("TaintNodesByCondition", Some(taint_nodes_by_condition::mutate), None),
    off("AlwaysPullImages", Some(always_pull_images::mutate), Some(always_pull_images::validate)),
    on("PodSecurity", None, Some(pod_security::validate)),
    on("Priority", Some(priority::mutate), Some(priority::validate)),
    on("DefaultTolerationSeconds", Some(default_toleration_seconds::mutate), None),
    off("ExtendedResourceToleration", Some(extended_resource_toleration::mutate), None),
    on("DefaultStorageClass", Some(default_storage_class::mutate), None),
    on("StorageObjectInUseProtection", Some(storage_object_in_use_protection::mutate), None),
    off(
        "OwnerReferencesPermissionEnforcement",
        None,
        Some(owner_references_permission_enforcement::validate),
    ),
    on("PersistentVolumeClaimResize", None, Some(persistent_volume_claim_resize::validate)),
    on("RuntimeClass", Some(runtime_class::mutate), Some(runtime_class::validate)),
    on("CertificateApproval", None, Some(certificates::approval)),
    on("CertificateSigning", None, Some(certificates::signing)),
    on("ClusterTrustBundleAttest", None, Some(certificates::attest)),
    on("CertificateSubjectRestriction", None, Some(certificates::subject_restriction)),
    on("DefaultIngressClass", Some(default_ingress_class::mutate), None),
    off("DenyServiceExternalIPs", None, Some(deny_service_external_ips::validate)),
    on("PodTopologyLabels", Some(pod_topology_labels::mutate), None),
    on("NodeDeclaredFeatureValidator", None, Some(node_declared_feature_validator::validate)),
    on("PodResizeValidator", None, Some(pod_resize_validator::validate)),
    // Remembers what it did: see `Chain::mutate_with`.
    on(policy::mutating::NAME, None, None),
    // Waits: see `webhook::mutate` and `webhook::validate`.
    on(webhook::MUTATING, None, None),
    on(policy::validating::NAME, None, Some(policy::validating::validate)),
    on(webhook::VALIDATING, None, None),
    // Writes, and therefore waits: see `Chain::charge`.
    on(resource_quota::NAME, None, None),
    off(
        "AlwaysDeny",
        None,
        Some(|_, a, object| Err(forbidden(a, object, "admission control is denying all modifications"))),
    ),
];

/// Upstream's names of the plugins that are built, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|plugin| plugin.name)
}

/// The plugins that are on, and how they are set.
pub struct Chain {
    plugins: Vec<&'static Plugin>,
    configuration: configuration::Configuration,
    ledger: Option<resource_quota::Ledger>,
    /// Whether policies may change objects.
    mutating_policies: bool,
    pub policies: policy::Policies,
    webhooks: webhook::Webhooks,
}

impl Chain {
    /// The plugins that are on by default and those in `enabled`, without those in `disabled`.
    pub fn new(enabled: &[&str], disabled: &[&str], configuration: configuration::Configuration) -> Self {
        let is_on = |plugin: &&Plugin| {
            (plugin.is_default || enabled.contains(&plugin.name)) && !disabled.contains(&plugin.name)
        };
        let plugins: Vec<&Plugin> = PLUGINS.iter().filter(is_on).collect();
        let has = |name: &str| plugins.iter().any(|plugin| plugin.name == name);
        let ledger = has(resource_quota::NAME).then(resource_quota::Ledger::default);
        let mutating_policies = has(policy::mutating::NAME);
        let webhooks = webhook::Webhooks::new(has(webhook::MUTATING), has(webhook::VALIDATING));
        let policies = policy::Policies::default();
        Self { plugins, configuration, ledger, mutating_policies, policies, webhooks }
    }

    pub fn configuration(&self) -> &configuration::Configuration {
        &self.configuration
    }

    pub(crate) fn webhooks(&self) -> &webhook::Webhooks {
        &self.webhooks
    }

    /// Lets every plugin at the object, in order, policies last; the first refusal ends it.
    pub fn mutate_with(
        &self,
        view: &View<'_>,
        a: &AdmissionAttributes<'_>,
        object: &mut Value,
        rounds: &mut Rounds,
    ) -> Result<(), Status> {
        let mut steps = self.plugins.iter().filter_map(|plugin| plugin.mutate);
        steps.try_for_each(|mutate| mutate(view, a, object))?;
        if self.mutating_policies {
            policy::mutating::mutate(view, a, object, rounds)?;
        }
        Ok(())
    }

    /// Asks every plugin.
    pub fn validate_with(
        &self,
        view: &View<'_>,
        a: &AdmissionAttributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let mut steps = self.plugins.iter().filter_map(|plugin| plugin.validate);
        steps.try_for_each(|validate| validate(view, a, object))
    }

    /// Takes from the namespace's quotas what the write will use: the last thing before it.
    pub async fn charge(
        &self,
        scope: &Scope<'_>,
        a: &AdmissionAttributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        match &self.ledger {
            Some(ledger) => ledger.charge(scope, a, object, &self.configuration.limited_resources).await,
            None => Ok(()),
        }
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new(&[], &[], configuration::Configuration::default())
    }
}

/// Upstream's `admission.NewForbidden`: 403 that names the object as far as it has a name yet.
pub fn forbidden(a: &AdmissionAttributes<'_>, object: &Value, why: impl std::fmt::Display) -> Status {
    Status::forbidden(a.group, a.resource, name_of(a, object), why)
}

/// The name, or the beginning of one, or a word for none.
fn name_of<'a>(a: &AdmissionAttributes<'a>, object: &'a Value) -> &'a str {
    let metadata = |key: &str| object["metadata"][key].as_str().filter(|s| !s.is_empty());
    match a.name {
        "" => metadata("name").or_else(|| metadata("generateName")).unwrap_or("Unknown"),
        name => name,
    }
}

/// Whether the request is about objects of a resource, or this subresource of them.
fn is_about(a: &AdmissionAttributes<'_>, group: &str, resource: &str, subresource: &str) -> bool {
    a.group == group && a.resource == resource && a.subresource == subresource
}

/// Whether the request is about pods themselves, no subresource.
fn is_pod(a: &AdmissionAttributes<'_>) -> bool {
    is_about(a, "", "pods", "")
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

/// The map in a field of an object, made if it is missing.
fn map_mut<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut serde_json::Map<String, Value>> {
    let slot = object.as_object_mut()?.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(serde_json::Map::new());
    }
    slot.as_object_mut()
}

fn has_annotation(object: &Value, key: &str) -> bool {
    object["metadata"]["annotations"].get(key).is_some()
}

#[cfg(test)]
mod tests;
