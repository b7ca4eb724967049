//! The committed tables and what reads them. `cargo xtask derive` writes them from the reference data.

use std::sync::LazyLock;

use apimachinery::schema::{Resource, Resources, Schema, TypeId};

mod resources;
mod types;

const TYPES: &str = include_str!("../../tables/types.txt");
const RESOURCES: &str = include_str!("../../tables/resources.txt");

struct Builtin {
    schema: Schema,
    resources: Resources,
    /// Sorted by (group, version, kind).
    kinds: Vec<((&'static str, &'static str, &'static str), TypeId)>,
}

static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| {
    let (schema, kinds) = types::parse(TYPES).expect("the committed type table is well-formed");
    let resources =
        resources::parse(RESOURCES, &schema).expect("the committed resource table is well-formed");
    Builtin { schema, resources, kinds }
});

/// Every type of the built-in API. Parsed on first use (a few milliseconds); call it at start.
pub fn schema() -> &'static Schema {
    &BUILTIN.schema
}

/// Every built-in resource of every version, those that are off by default too
/// ([`Resource::default_on`](apimachinery::schema::Resource)).
pub fn resources() -> &'static Resources {
    &BUILTIN.resources
}

/// The built-in resource of this group (core is empty), version and plural name.
pub fn resource(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    BUILTIN.resources.get(group, version, plural)
}

/// The tables as they are committed, for a fingerprint of the API.
pub fn table_texts() -> [&'static str; 2] {
    [TYPES, RESOURCES]
}

/// The type of an object that calls itself this kind, whether or not a resource serves it (`Status`, `Scale`,
/// `PodList`, `DeleteOptions`).
pub fn object_type(group: &str, version: &str, kind: &str) -> Option<TypeId> {
    let kinds = &BUILTIN.kinds;
    let at = kinds.binary_search_by(|(key, _)| key.cmp(&(group, version, kind))).ok()?;
    Some(kinds[at].1)
}

#[cfg(test)]
mod tests;
