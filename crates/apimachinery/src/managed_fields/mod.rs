//! Which manager set which field: `metadata.managedFields`, written at every write, and server-side apply,
//! which lives by it.
//!
//! [`Writer`] is one write: [`Writer::update`] is the path of every writer that does not apply,
//! [`Writer::apply`] that of those that do. [`FieldSet`] is a set of paths and its JSON form, [`compare()`] finds
//! what a write changed, [`decode`] and [`encode`] read and write the list, [`scale`] carries it over to the
//! `scale` subresource and back. What changes here follows upstream's `apimachinery/pkg/util/managedfields`,
//! structured-merge-diff and KEP-555.
//!
//! Here is no I/O and nothing is known of a kind: versions are converted by whoever calls.

mod apply;
mod check;
mod compare;
mod conflict;
mod entries;
mod last_applied;
mod merge;
mod overlay;
mod plan;
mod recorded;
mod remove;
pub mod scale;
mod set;
mod slot;
mod text;
mod update;

use std::borrow::Cow;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::codec::json;
use crate::field::is_print;
use crate::schema::{Name, Schema, TypeId};

pub use apply::{Applied, ApplyError, unreadable};
pub use compare::{Comparison, compare, set_of};
pub use conflict::Conflict;
pub use entries::{Entry, Error, Operation, decode, encode};
pub use overlay::overlay;
pub use set::{FieldSet, PathElement};

/// Fields that nobody owns, besides apiVersion and kind.
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// One write.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    pub schema: &'a Schema,
    /// The type of the objects.
    pub ty: TypeId,
    /// The version that the request speaks: `v1`, `apps/v1`.
    pub api_version: &'a str,
    /// From [`manager_name`]; empty is written as `unknown`.
    pub manager: &'a str,
    /// Empty for writes to the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
    pub reset: &'a Reset,
    pub convert: Convert<'a>,
}

/// An object of one version as another has it, and its type there: `(object, from, to)`. `None`: no such version
/// is served.
pub type Convert<'a> = &'a (dyn Fn(&Value, &str, &str) -> Option<(TypeId, Value)> + Sync);

/// What an endpoint does not let be written, and what its writers therefore do not own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reset {
    /// These fields and all below them.
    Fields(FieldSet),
    /// All but what is at or below these paths, in which `None` stands for any element.
    AllBut(&'static [&'static [Option<&'static str>]]),
}

impl Reset {
    /// Fields by their names: `[["status"], ["metadata", "labels"]]`.
    pub fn of_fields(paths: &[&[&str]]) -> Reset {
        Reset::Fields(FieldSet::of_fields(paths))
    }

    fn filter(&self, set: &mut FieldSet) {
        match self {
            Reset::Fields(fields) => set.subtract_trees(fields),
            Reset::AllBut(patterns) => set.retain_matching(patterns),
        }
    }

    /// What is left of a comparison.
    fn filter_all(&self, mut diff: Comparison) -> Comparison {
        for set in [&mut diff.added, &mut diff.modified, &mut diff.removed] {
            self.filter(set);
        }
        diff
    }
}

/// Who is writing: the `fieldManager` parameter, or the program's name in the User-Agent.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_string();
    }
    let program = user_agent.split('/').next().unwrap_or_default();
    let mut name = String::with_capacity(program.len().min(128));
    for c in program.chars().filter(|c| is_print(*c)) {
        if name.len() + c.len_utf8() > 128 {
            break;
        }
        name.push(c);
    }
    name
}

/// Whether the list says that its sender wants fields tracked no longer: `[]` or `[{}]`.
pub fn is_reset(managed: &Value) -> bool {
    match managed.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    let field = |name: &'static str| PathElement::Field(Name::Borrowed(name));
    let mut set = FieldSet::new();
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert([field(name)]);
    }
    for name in UNOWNED_METADATA {
        set.insert([field("metadata"), field(name)]);
    }
    set
});

fn take_managed(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Puts the list into the object's metadata, unless it is empty.
fn put_managed(object: &mut Value, entries: Vec<Value>) {
    let (false, Value::Object(object)) = (entries.is_empty(), object) else { return };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        metadata.insert("managedFields".to_string(), Value::Array(entries));
    }
}

/// Puts FieldsV1 of the owners, which in normal form are texts, back as the JSON that they stand for.
pub fn unfold(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata") {
        unfold_metadata(metadata);
    }
}

/// [`unfold`] for metadata.
pub fn unfold_metadata(metadata: &mut Value) {
    for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(fields) = entry.get_mut("fieldsV1") else { continue };
        let parsed = fields.as_str().and_then(|text| json::parse(text.as_bytes()).ok());
        if let Some((tree, _)) = parsed {
            *fields = tree;
        }
    }
}

/// [`unfold`] for those who do not own the object and show it, or let it be looked into, without its type.
pub fn unfolded(object: &Value) -> Cow<'_, Value> {
    if object["metadata"]["managedFields"].as_array().is_none_or(Vec::is_empty) {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    unfold(&mut object);
    Cow::Owned(object)
}

/// The reverse of [`unfold`].
pub fn fold(object: &mut Value) {
    let list = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
    list.into_iter().flatten().for_each(fold_entry);
}

fn fold_entry(entry: &mut Value) {
    let Some(fields @ Value::Object(_)) = entry.get_mut("fieldsV1") else { return };
    let mut text = Vec::new();
    json::write_value(fields, &mut text);
    *fields = Value::String(String::from_utf8(text).unwrap_or_default());
}

/// Whether two objects are the same but for the times of their entries, so that a write between them need
/// not happen.
pub fn equal_but_for_times(a: &Value, b: &Value) -> bool {
    same(a, b, "metadata", |a, b| {
        same(a, b, "managedFields", |a, b| match (a, b) {
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, "time", |_, _| true))
            }
            (a, b) => a == b,
        })
    })
}

/// Whether two objects are the same but for who owns their fields.
fn equal_but_for_owners(a: &Value, b: &Value) -> bool {
    same(a, b, "metadata", |a, b| same(a, b, "managedFields", |_, _| true))
}

/// Whether two objects are the same where `key` is compared in its own way (null if absent).
fn same(a: &Value, b: &Value, key: &str, special: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Value::Object(left), Value::Object(right)) = (a, b) else { return a == b };
    let others = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key(key));
    others(left) == others(right)
        && left.iter().all(|(k, value)| k == key || right.get(k) == Some(value))
        && special(&a[key], &b[key])
}

#[cfg(test)]
mod tests;
