//! Where kinds differ in ways that need storage. Everything else about a kind is in crate `kinds`; everything
//! that kinds have in common is in [`generic`].
//!
//! [`hooks`] is the one table. One folder per group, one file per kind.

mod admissionregistration;
pub mod authentication;
pub mod authorization;
pub mod certificates;
pub mod core;
pub mod definition;
pub mod deletion;
pub mod generic;
pub mod managed_fields;
pub mod meta;
mod privileged;
pub mod resource;
pub mod scale;
pub mod strategy;
pub mod validate_meta;

use std::sync::Arc;

use apimachinery::{field::ErrorList, schema::Resource, status::Status};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use self::{core::service::Reservation, deletion::Deletion, generic::Scope};
use crate::{
    handlers::options::{DeleteOptions, WriteOptions},
    server::ApiServer,
    storage::Beside,
};

/// What a kind does besides what all do.
pub struct Hooks {
    /// Before a write of the object itself: `(scope, new, old, dry run)`. What it reserves is given back unless
    /// the write succeeds.
    pub begin_write: BeginWrite,
    /// `begin_write` may reserve something.
    pub reserves: bool,
    /// What is written together with the object, for what was reserved: all of it or none.
    pub beside_write: BesideWrite,
    /// What goes together with the object.
    pub beside_delete: fn(&Value) -> Vec<Bytes>,
    /// Faults that only the server can find, since they depend on other objects: `(scope, new, old)`.
    pub faults: Faults,
    /// An update may not delete an object that this refuses, even if its last finalizer is gone.
    pub may_delete_on_update: fn(&Value) -> bool,
    /// After the object is gone.
    pub after_delete: fn(&Arc<ApiServer>, &Value),
    /// A way of being deleted of its own; `None` from it: the general one.
    pub deletion: Option<PlanDeletion>,
    /// Deletion in grace, and how much of it.
    pub grace: Option<meta::Grace>,
    /// Objects go by themselves after a while (`--event-ttl`).
    pub expires: bool,
}

type PlanDeletion = fn(&Value, &DeleteOptions, Timestamp) -> Option<Deletion>;
type BeginWrite = fn(&Scope<'_>, &mut Value, Option<&Value>, bool) -> Result<Option<Reservation>, Status>;
type BesideWrite = fn(&Scope<'_>, &Value, &Reservation) -> Result<Beside, Status>;
type Faults = fn(&Scope<'_>, &Value, Option<&Value>) -> ErrorList;

const NONE: Hooks = Hooks {
    begin_write: |_, _, _, _| Ok(None),
    reserves: false,
    beside_write: |_, _, _| Ok(Beside::default()),
    beside_delete: |_| Vec::new(),
    faults: |_, _, _| ErrorList::new(),
    may_delete_on_update: |_| true,
    after_delete: |_, _| {},
    deletion: None,
    grace: None,
    expires: false,
};

static PLAIN: Hooks = NONE;
static SERVICES: Hooks = Hooks {
    begin_write: core::service_hooks::begin_write,
    reserves: true,
    beside_write: core::service_hooks::beside_write,
    beside_delete: core::service_hooks::beside_delete,
    after_delete: core::service_hooks::after_delete,
    ..NONE
};
static NAMESPACES: Hooks = Hooks {
    may_delete_on_update: core::namespace::is_finalized,
    deletion: Some(core::namespace::deletion),
    ..NONE
};
static PODS: Hooks = Hooks { grace: Some(core::pod::grace), ..NONE };
static ROLES: Hooks = Hooks { begin_write: authorization::escalation::role, ..NONE };
static ROLE_BINDINGS: Hooks = Hooks { begin_write: authorization::escalation::binding, ..NONE };
static CERTIFICATE_REQUESTS: Hooks = Hooks { begin_write: certificates::begin_write, ..NONE };
static POLICIES: Hooks = Hooks { faults: admissionregistration::policy, ..NONE };
static POLICY_BINDINGS: Hooks = Hooks { faults: admissionregistration::binding, ..NONE };
static CLAIMS: Hooks = Hooks { faults: resource::faults, ..NONE };
static DEFINITIONS: Hooks = Hooks { deletion: Some(definition::deletion), ..NONE };
static EVENTS: Hooks = Hooks { expires: true, ..NONE };

/// The table.
pub fn hooks(resource: &Resource) -> &'static Hooks {
    match (&*resource.group, &*resource.plural) {
        ("", "services") => &SERVICES,
        ("", "namespaces") => &NAMESPACES,
        ("", "pods") => &PODS,
        ("" | "events.k8s.io", "events") => &EVENTS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies" | "mutatingadmissionpolicies") => {
            &POLICIES
        }
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => &POLICY_BINDINGS,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &DEFINITIONS,
        ("certificates.k8s.io", "certificatesigningrequests") => &CERTIFICATE_REQUESTS,
        ("resource.k8s.io", "resourceclaims" | "resourceclaimtemplates") => &CLAIMS,
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => &ROLES,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => &ROLE_BINDINGS,
        _ => &PLAIN,
    }
}

/// A version in which a body may come besides the one that is served, since nothing in it differs.
pub fn accepts(group: &str, kind: &str, version: &str) -> bool {
    matches!((group, kind, version), ("policy", "Eviction", "v1beta1"))
}

/// Answers a create of a kind that is never stored: reviews, bindings.
pub async fn create_virtual(
    scope: &Scope<'_>,
    object: Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    match (&*scope.resource.group, &*scope.resource.plural) {
        ("", "bindings") => core::pod::bind(scope, object, options).await,
        ("authentication.k8s.io", _) => authentication::create(scope, object, options).await,
        ("authorization.k8s.io", _) => authorization::create(scope, object, options).await,
        _ => Err(Status::method_not_supported(&scope.resource.group, &scope.resource.plural, "create")),
    }
}

/// Answers a create of a subresource: `pods/binding`, `pods/eviction`, `serviceaccounts/token`.
pub async fn create_subresource(
    scope: &Scope<'_>,
    object: Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    match (&*scope.resource.plural, scope.subresource) {
        ("pods", "binding") => core::pod::bind(scope, object, options).await,
        ("pods", "eviction") => core::eviction::evict(scope, object, options).await,
        ("serviceaccounts", "token") => authentication::token_request(scope, object, options).await,
        _ => Err(Status::method_not_supported(&scope.resource.group, &scope.resource.plural, "create")),
    }
}

/// At start: what the hooks keep in memory, from what is stored.
pub fn restore(server: &Arc<ApiServer>) {
    if let Some(services) = api::resource("", "v1", "services") {
        for service in server.storage.read_all(services, "") {
            let listed = |address: &_| core::service::addresses::is_listed(server, address);
            server.allocators.restore(&service, listed);
        }
    }
}
