//! What is special about a kind, found through one table: [`strategy`].
//!
//! Everything works on `serde_json::Value` in normal form. The engine (crate `apiserver`) does what is the same
//! for all kinds: metadata, dropping or keeping `status`, generation, managed fields; a strategy only adds.

use apimachinery::field::ErrorList;
use apimachinery::names;
use serde_json::Value;

use crate::{
    admissionregistration, apiregistration, apps, autoscaling, batch, certificates, coordination, core,
    discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling, storage,
};

/// How names of a kind are checked: the faults of `name`; with `prefix` it is a `generateName`.
pub type NameRule = fn(name: &str, prefix: bool) -> Vec<String>;

/// Who deletes what an object owns when a client does not say (upstream's `DefaultGarbageCollectionPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GarbageCollection {
    Background,
    Orphan,
    /// The kind does not take part: finalizers for deletion policies are not set.
    Unsupported,
}

/// The rules of a kind. [`GENERIC`] is a kind without any.
#[derive(Clone, Copy)]
pub struct Strategy {
    /// The kind's `status` survives a create (Node, and kinds without a status subresource).
    pub keep_status_on_create: bool,
    /// After the generic preparation of a create.
    pub prepare_for_create: fn(&mut Value),
    /// After the generic preparation of an update: `(new, old, subresource)`; subresource `""` is the object.
    pub prepare_for_update: fn(&mut Value, &Value, &str),
    /// All faults of a new object, metadata aside.
    pub validate: fn(&Value, &mut ErrorList),
    /// All faults of a change, metadata aside: `(new, old, subresource)`. Includes what `validate` finds where
    /// upstream validates the whole new object again.
    pub validate_update: fn(&Value, &Value, &str, &mut ErrorList),
    /// After `prepare_for_create`, for what takes down when the object was made: `(new, now)`, `now` in RFC 3339.
    pub stamp_new: fn(&mut Value, &str),
    /// After `prepare_for_update`, for what takes down the time of a change: `(new, old, subresource, now)`, `now`
    /// in RFC 3339.
    pub stamp: fn(&mut Value, &Value, &str, &str),
    /// Warnings for the client: `(new, old, subresource)`.
    pub warnings: fn(&Value, Option<&Value>, &str) -> Vec<String>,
    pub name: NameRule,
    /// `metadata.generation` counts changes of everything outside metadata and status.
    pub generation: bool,
    pub allow_create_on_update: bool,
    pub allow_unconditional_update: bool,
    /// Fields besides `metadata.name` and `metadata.namespace` that field selectors may name, with the JSON
    /// pointer that each reads (several with `|` between them: the first that is not empty) and the value of an
    /// absent one.
    pub selectable: &'static [(&'static str, &'static str, &'static str)],
    /// What is said of another field, with the field for `{}` or, quoted, for `{:?}`.
    pub unknown_field: &'static str,
    pub garbage_collection: GarbageCollection,
    /// A deletion that is done answers with the object instead of a Status.
    pub returns_deleted: bool,
}

/// A kind without rules of its own: names are DNS subdomains, everything else is left to the schema.
pub const GENERIC: Strategy = Strategy {
    keep_status_on_create: false,
    prepare_for_create: |_| {},
    prepare_for_update: |_, _, _| {},
    validate: |_, _| {},
    validate_update: |_, _, _, _| {},
    stamp_new: |_, _| {},
    stamp: |_, _, _, _| {},
    warnings: |_, _, _| Vec::new(),
    name: subdomain,
    generation: false,
    allow_create_on_update: false,
    allow_unconditional_update: true,
    selectable: &[],
    unknown_field: "field label not supported: {}",
    garbage_collection: GarbageCollection::Background,
    returns_deleted: false,
};

/// Upstream's `NameIsDNSSubdomain`.
pub fn subdomain(name: &str, prefix: bool) -> Vec<String> {
    names::is_dns1123_subdomain(&masked(name, prefix))
}

/// Upstream's `NameIsDNSLabel`.
pub fn label(name: &str, prefix: bool) -> Vec<String> {
    names::is_dns1123_label(&masked(name, prefix))
}

/// Upstream's `NameIsDNS1035Label`.
pub fn label_1035(name: &str, prefix: bool) -> Vec<String> {
    names::is_dns1035_label(&masked(name, prefix))
}

/// Upstream's `path.ValidatePathSegmentName`, for RBAC's names.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { names::is_path_segment_prefix(name) } else { names::is_path_segment_name(name) }
}

/// A prefix may end with a dash, since something follows (upstream's `maskTrailingDash`).
fn masked(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(start) if prefix && !start.is_empty() => format!("{start}a"),
        _ => name.to_owned(),
    }
}

/// The rules of a kind; [`GENERIC`] for kinds without an entry.
pub fn strategy(group: &str, kind: &str) -> &'static Strategy {
    let found = match group {
        "" => core::strategy(kind),
        "admissionregistration.k8s.io" => admissionregistration::strategy(kind),
        "apiregistration.k8s.io" => apiregistration::strategy(kind),
        "apiextensions.k8s.io" => crate::apiextensions::strategy(kind),
        "authorization.k8s.io" => crate::authorization::strategy(kind),
        "internal.apiserver.k8s.io" => crate::internal::strategy(kind),
        "storagemigration.k8s.io" => crate::storagemigration::strategy(kind),
        "apps" => apps::strategy(kind),
        "batch" => batch::strategy(kind),
        "certificates.k8s.io" => certificates::strategy(kind),
        "coordination.k8s.io" => coordination::strategy(kind),
        "discovery.k8s.io" => discovery::strategy(kind),
        "events.k8s.io" => events::strategy(kind),
        "flowcontrol.apiserver.k8s.io" => flowcontrol::strategy(kind),
        "networking.k8s.io" => networking::strategy(kind),
        "node.k8s.io" => node::strategy(kind),
        "policy" => policy::strategy(kind),
        "rbac.authorization.k8s.io" => rbac::strategy(kind),
        "resource.k8s.io" => resource::strategy(kind),
        "scheduling.k8s.io" => scheduling::strategy(kind),
        "storage.k8s.io" => storage::strategy(kind),
        "autoscaling" => autoscaling::strategy(kind),
        _ => None,
    };
    found.unwrap_or(&GENERIC)
}
