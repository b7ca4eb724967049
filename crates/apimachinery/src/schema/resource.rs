//! What is served: one record per group, version and resource. Custom resources make the same records.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;

use super::{Name, TypeId};
use crate::gvk::{GroupVersion, GroupVersionKind};

/// One resource of one version, as discovery shows it and as it is stored.
#[derive(Clone, Debug)]
pub struct Resource {
    pub group: Name,
    pub version: Name,
    /// `deployments`
    pub plural: Name,
    /// `deployment`; empty for a few review kinds.
    pub singular: Name,
    pub kind: Name,
    pub namespaced: bool,
    pub short_names: Vec<Name>,
    pub categories: Vec<Name>,
    pub verbs: Vec<Name>,
    /// Served without being asked for: stable versions are, alpha and beta ones are not.
    pub default_on: bool,
    /// The type of one object. A custom resource's is in a schema of its own, which is with [`Resource::custom`].
    pub object: TypeId,
    /// The type of a list (`DeploymentList`), for resources that can be listed.
    pub list: Option<TypeId>,
    pub subresources: Vec<Subresource>,
    /// `None`: answers are computed and nothing is stored (reviews, bindings, component statuses).
    pub storage: Option<Storage>,
    /// What whoever serves a custom resource keeps with its record. Built-in ones have nothing here.
    pub custom: Option<Arc<dyn Any + Send + Sync>>,
}

/// A resource that somebody holds on to: built-in, or made at run time.
#[derive(Clone, Debug)]
pub enum ResourceRef {
    BuiltIn(&'static Resource),
    Custom(Arc<Resource>),
}

impl Deref for ResourceRef {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            ResourceRef::BuiltIn(resource) => resource,
            ResourceRef::Custom(resource) => resource,
        }
    }
}

impl From<&'static Resource> for ResourceRef {
    fn from(resource: &'static Resource) -> ResourceRef {
        ResourceRef::BuiltIn(resource)
    }
}

impl Resource {
    /// `v1`, `apps/v1`
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }

    /// `deployments`, `deployments.apps`: the resource as error texts and RBAC name it.
    pub fn qualified(&self) -> String {
        match &*self.group {
            "" => self.plural.to_string(),
            group => format!("{}.{group}", self.plural),
        }
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }
}

/// `pods/log`, `deployments/scale`, …
#[derive(Clone, Debug)]
pub struct Subresource {
    /// `log`
    pub name: Name,
    /// The kind that it takes and answers.
    pub kind: GroupVersionKind,
    pub verbs: Vec<Name>,
    /// The type of that kind.
    pub object: Option<TypeId>,
}

/// Where and how a resource's objects lie in the store.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Below the root (`/registry`), without slashes at the ends: `pods`, `minions`, `services/specs`.
    pub prefix: Name,
    /// The version (and group: Events are stored as core) that objects are encoded in.
    pub group: Name,
    pub version: Name,
    /// The type they are encoded as; differs from [`Resource::object`] where `converts`.
    pub object: TypeId,
    /// This version is not the stored one, or another version or group shares the same keys: objects must be
    /// converted between them.
    pub converts: bool,
    /// `storageVersionHash` of discovery.
    pub hash: Name,
}

/// Resources in the order of preference that discovery lists them in, and found by name.
#[derive(Debug, Default)]
pub struct Resources {
    all: Vec<Resource>,
    /// Positions in `all`, sorted by (plural, group, version).
    by_name: Vec<usize>,
    /// Positions in `all`, sorted by (kind, group, version).
    by_kind: Vec<usize>,
}

impl Resources {
    pub fn new(all: Vec<Resource>) -> Resources {
        let mut by_name: Vec<usize> = (0..all.len()).collect();
        let mut by_kind = by_name.clone();
        by_name.sort_by(|a, b| name_key(&all[*a]).cmp(&name_key(&all[*b])));
        by_kind.sort_by(|a, b| kind_key(&all[*a]).cmp(&kind_key(&all[*b])));
        Resources { all, by_name, by_kind }
    }

    /// Core first, then groups by preference; in a group, versions by preference; in a version, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.all.iter()
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// By group, version and plural name.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        let wanted = (plural, group, version);
        let found = self.by_name.binary_search_by(|at| name_key(&self.all[*at]).cmp(&wanted)).ok()?;
        self.all.get(self.by_name[found])
    }

    /// By group, version and kind. Review kinds and `Scale` have no resource of their own.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        let wanted = (kind, group, version);
        let found = self.by_kind.binary_search_by(|at| kind_key(&self.all[*at]).cmp(&wanted)).ok()?;
        self.all.get(self.by_kind[found])
    }

    /// Groups with their versions, both in order of preference.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for r in &self.all {
            match groups.iter_mut().find(|(group, _)| *group == r.group) {
                Some((_, versions)) if versions.contains(&&*r.version) => {}
                Some((_, versions)) => versions.push(&r.version),
                None => groups.push((&r.group, vec![&r.version])),
            }
        }
        groups
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = std::slice::Iter<'a, Resource>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

fn name_key(r: &Resource) -> (&str, &str, &str) {
    (&r.plural, &r.group, &r.version)
}

fn kind_key(r: &Resource) -> (&str, &str, &str) {
    (&r.kind, &r.group, &r.version)
}
