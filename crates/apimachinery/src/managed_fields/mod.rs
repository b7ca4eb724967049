//! Which manager set which field: `metadata.managedFields`, written at every write.
//!
//! [`Update`] is the path of every writer that does not apply. [`FieldSet`] is a set of paths and its JSON
//! form, [`compare()`] finds what a write changed, [`decode`] and [`encode`] read and write the list. What
//! changes here follows upstream's `apimachinery/pkg/util/managedfields` and KEP-555.
//!
//! Entries of other versions of an API are treated as if their fields had the same names; fields whose list
//! type has changed since they were recorded are not moved.

mod compare;
mod entries;
mod set;

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::field::is_print;
use crate::schema::{Name, Schema, TypeId};

pub use compare::{Comparison, compare, set_of};
pub use entries::{Entry, Error, Operation, decode, encode};
pub use set::{FieldSet, PathElement};

/// How many entries of updaters an object keeps.
const MAX_UPDATE_ENTRIES: usize = 10;
/// Whom older ones are put down to.
const OLD_UPDATES: &str = "ancient-changes";

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

/// One write that is not an apply.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    pub schema: &'a Schema,
    /// The type of both objects.
    pub ty: TypeId,
    /// The version that the request speaks: `v1`, `apps/v1`.
    pub api_version: &'a str,
    /// From [`manager_name`]; empty is written as `unknown`.
    pub manager: &'a str,
    /// Empty for writes to the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
    /// What this endpoint does not let be written (status, or everything but it), such as
    /// `FieldSet::of_fields(&[&["status"]])`.
    pub reset: &'a FieldSet,
}

impl Update<'_> {
    /// Sets `metadata.managedFields` of `new` from what was known of `live` (`None`: it is being created) and what
    /// the write changed. `new` is the object with its defaults but before mutating admission, whose changes
    /// belong to nobody.
    ///
    /// A client that sends a list takes it in the place of what is known; one that sends `[]` or `[{}]`
    /// resets it. Since reading an object may drop an empty list, `reset_by_client` can say so too.
    pub fn apply(&self, live: Option<&Value>, new: &mut Value, reset_by_client: bool) {
        let given = new["metadata"].as_object_mut().and_then(|meta| meta.remove("managedFields"));
        let known = live.map(|live| &live["metadata"]["managedFields"]);
        let entries = self.start(known, given, reset_by_client);
        if entries.is_empty() && live.is_some_and(|live| live["metadata"]["uid"].is_string()) {
            // nothing was tracked, and only an apply starts to
            return;
        }
        let entries = self.update(live, new, entries);
        if let (false, Value::Object(object)) = (entries.is_empty(), new) {
            let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(metadata) = metadata {
                metadata.insert("managedFields".to_string(), Value::Array(entries));
            }
        }
    }

    /// The entries before the write.
    fn start(&self, known: Option<&Value>, given: Option<Value>, reset_by_client: bool) -> Vec<Value> {
        let given = match given {
            // the usual case, since clients send back what they have read
            Some(Value::Array(list))
                if known.is_some_and(|k| k.as_array() == Some(&list)) && !reset_by_client =>
            {
                return list;
            }
            given => given,
        };
        let known =
            || into_list(known.filter(|known| decode(Some(known)).is_ok()).cloned().unwrap_or_default());
        if !self.subresource.is_empty() {
            return known();
        }
        if reset_by_client || given.as_ref().is_some_and(is_reset) {
            return Vec::new();
        }
        match decode(given.as_ref()) {
            Ok(entries) if !entries.is_empty() => into_list(encode(entries).unwrap_or_default()),
            _ => known(),
        }
    }

    fn update(&self, live: Option<&Value>, new: &Value, entries: Vec<Value>) -> Vec<Value> {
        let mut diff = compare(self.schema, self.ty, live, new);
        for set in [&mut diff.added, &mut diff.modified, &mut diff.removed] {
            set.subtract_trees(self.reset);
        }
        let mut mine = diff.modified.union(diff.added);
        // entries that lose nothing are not taken apart, for that is most of the work
        let mut slots: Vec<Slot> = entries.into_iter().map(Slot::new).collect();
        slots.retain_mut(|slot| slot.subtract(&mine, &diff.removed));
        mine.subtract(&UNOWNED);
        if !mine.is_empty() {
            let manager = if self.manager.is_empty() { "unknown" } else { self.manager };
            let entry = Entry {
                manager: manager.to_string(),
                operation: Operation::Update,
                api_version: self.api_version.to_string(),
                subresource: self.subresource.to_string(),
                time: Some(self.now),
                fields: mine,
            };
            let at = slots.iter().position(|slot| slot.is_of(&entry));
            let before = at.and_then(|at| slots.swap_remove(at).fields());
            let fields = entry.fields.union(before.unwrap_or_default());
            slots.push(Slot { value: Entry { fields, ..entry }.to_value(), fields: None });
        }
        let updaters = slots.iter().filter(|slot| slot.value["operation"] == "Update").count();
        let mut entries: Vec<Value> = slots.into_iter().map(Slot::into_value).collect();
        if updaters > MAX_UPDATE_ENTRIES {
            let capped = decode(Some(&Value::Array(entries))).map(cap).unwrap_or_default();
            return into_list(encode(capped).unwrap_or_default());
        }
        entries.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        entries
    }
}

/// One entry on its way through a write.
struct Slot {
    value: Value,
    /// What it owns now, if that has been worked out and differs from `value`.
    fields: Option<FieldSet>,
}

impl Slot {
    fn new(value: Value) -> Slot {
        Slot { value, fields: None }
    }

    /// Takes away what changed hands and what is gone; whether anything is left.
    fn subtract(&mut self, changed: &FieldSet, removed: &FieldSet) -> bool {
        let owned = &self.value["fieldsV1"];
        if !changed.intersects_value(owned) && !removed.intersects_value(owned) {
            return owned.as_object().is_some_and(|map| !map.is_empty());
        }
        let Some(mut fields) = FieldSet::from_value(owned) else { return false };
        fields.subtract(changed);
        fields.subtract(removed);
        let left = !fields.is_empty();
        self.fields = Some(fields);
        left
    }

    fn is_of(&self, entry: &Entry) -> bool {
        let text = |key: &str| self.value[key].as_str().unwrap_or_default();
        text("manager") == entry.manager
            && text("operation") == entry.operation.text()
            && text("apiVersion") == entry.api_version
            && text("subresource") == entry.subresource
    }

    fn fields(self) -> Option<FieldSet> {
        self.fields.or_else(|| FieldSet::from_value(&self.value["fieldsV1"]))
    }

    fn into_value(mut self) -> Value {
        if let (Some(fields), Value::Object(map)) = (self.fields, &mut self.value) {
            map.insert("fieldsV1".to_string(), fields.to_value());
        }
        self.value
    }
}

fn into_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// Times are RFC 3339 in UTC and of one length, so that their text sorts as they do.
fn sort_key(entry: &Value) -> [&str; 5] {
    ["operation", "time", "manager", "apiVersion", "subresource"]
        .map(|key| entry[key].as_str().unwrap_or_default())
}

fn is_reset(managed: &Value) -> bool {
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

/// Puts the oldest entries of updaters together, version by version, until few enough are left.
fn cap(mut entries: Vec<Entry>) -> Vec<Entry> {
    let updaters = |entries: &[Entry]| entries.iter().filter(|e| e.operation == Operation::Update).count();
    let mut left = updaters(&entries);
    if left <= MAX_UPDATE_ENTRIES {
        return entries;
    }
    entries.sort_by(|a, b| {
        (a.seconds(), &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.seconds(),
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        let first = kept
            .iter_mut()
            .find(|known| known.operation == Operation::Update && known.api_version == entry.api_version);
        match first {
            Some(bucket) if left > MAX_UPDATE_ENTRIES && entry.operation == Operation::Update => {
                bucket.manager = OLD_UPDATES.to_string();
                bucket.subresource = String::new();
                bucket.fields = std::mem::take(&mut bucket.fields).union(entry.fields);
                bucket.time = entry.time;
                left -= 1;
            }
            _ => kept.push(entry),
        }
    }
    kept
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
