//! Custom resources: what a CustomResourceDefinition says becomes a [`Resource`] like any built-in one, and the engine
//! treats it alike. What only custom ones have (a schema made at run time, objects stored as JSON, columns and scale
//! by paths) hangs on [`Resource::custom`] and is asked for with [`of`].
//!
//! [`Catalog`] follows the definitions; [`definition`] is what is read of one at once, [`compiled`] what is worked out
//! when a version is first used (most never are), [`object`] how objects are read and written, [`validate`] what is
//! asked of them, [`controller`] keeps the definitions' status and cleans up behind them.

mod catalog;
mod columns;
mod compiled;
pub mod controller;
mod conversion;
mod definition;
mod object;
mod scale;
mod types;
mod validate;

use apimachinery::schema::{Name, Resource, Schema, TypeId};

pub use self::{
    catalog::Catalog,
    compiled::Compiled,
    conversion::needs_webhook,
    definition::{Definition, Version},
    object::write,
};

/// What a custom resource is, in one version; `None` for built-in ones.
pub fn of(resource: &Resource) -> Option<&Custom> {
    resource.custom.as_deref()?.downcast_ref()
}

/// The type of a resource's objects, and the schema it is of.
pub fn schema_of(resource: &Resource) -> (&Schema, TypeId) {
    match of(resource) {
        Some(custom) => custom.definition.types().of(custom.version),
        None => (api::schema(), resource.object),
    }
}

/// The verbs that clients are told of: nothing new comes into what is going.
pub fn shown_verbs(resource: &Resource) -> Vec<Name> {
    let mut verbs = resource.verbs.clone();
    if of(resource).is_some_and(|custom| custom.definition.terminating) {
        verbs.retain(|verb| !matches!(&**verb, "create" | "patch" | "update"));
    }
    verbs
}

/// The kind of lists of a resource.
pub fn list_kind(resource: &Resource) -> String {
    match of(resource) {
        Some(custom) => custom.definition.list_kind.to_string(),
        None => format!("{}List", resource.kind),
    }
}

/// One version of a definition, as its [`Resource`] carries it.
#[derive(Debug)]
pub struct Custom {
    pub definition: std::sync::Arc<Definition>,
    /// Which of [`Definition::versions`].
    pub version: usize,
    /// No other record has it: what was made of objects for this one is not taken for another's.
    pub tag: u64,
}

impl Custom {
    /// What the version says.
    pub fn facts(&self) -> &Version {
        &self.definition.versions[self.version]
    }

    pub fn compiled(&self) -> &Compiled {
        self.definition.compiled(self.version)
    }

    /// `group/version`
    pub fn api_version(&self) -> String {
        self.definition.api_version(self.version)
    }
}

/// The type of every object's metadata.
pub(crate) fn metadata_type() -> (&'static Schema, TypeId) {
    let schema = api::schema();
    let found = schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    (schema, found.unwrap_or_else(|| unreachable!("the tables hold the type of metadata")))
}
