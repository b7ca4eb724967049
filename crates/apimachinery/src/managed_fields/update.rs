//! Writes that do not apply: whoever changes a field owns it, and nobody else does.

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::entries::{Entry, Operation, decode, encode};
use super::slot::{Slot, into_values};
use super::{UNOWNED, Writer, is_reset, put_managed, take_managed};

/// How many entries of updaters an object keeps.
const MAX_UPDATE_ENTRIES: usize = 10;
/// Whom older ones are put down to.
const OLD_UPDATES: &str = "ancient-changes";

impl Writer<'_> {
    /// Sets `metadata.managedFields` of `new` from what was known of `live` (`None`: it is being created) and what
    /// the write changed. `new` is the object with its defaults but before mutating admission, whose changes
    /// belong to nobody.
    ///
    /// A client that sends a list takes it in the place of what is known; one that sends `[]` or `[{}]`
    /// resets it. (Normal form drops the empty list: who reads objects from clients has to see to it.)
    pub fn update(&self, live: Option<&Value>, new: &mut Value) {
        let given = take_managed(new);
        let known = live.map(|live| &live["metadata"]["managedFields"]);
        let entries = self.start(known, given);
        if entries.is_empty() && live.is_some_and(|live| live["metadata"]["uid"].is_string()) {
            // nothing was tracked, and only an apply starts to
            return;
        }
        let entries = self.record(live, new, entries);
        put_managed(new, entries);
    }

    /// The entries before the write.
    fn start(&self, known: Option<&Value>, given: Option<Value>) -> Vec<Value> {
        let given = match given {
            // the usual case, since clients send back what they have read
            Some(Value::Array(list)) if known.is_some_and(|k| k.as_array() == Some(&list)) => {
                return list;
            }
            given => given,
        };
        let known =
            || into_list(known.filter(|known| decode(Some(known)).is_ok()).cloned().unwrap_or_default());
        if !self.subresource.is_empty() {
            return known();
        }
        if given.as_ref().is_some_and(is_reset) {
            return Vec::new();
        }
        match decode(given.as_ref()) {
            Ok(entries) if !entries.is_empty() => into_list(encode(entries).unwrap_or_default()),
            _ => known(),
        }
    }

    /// The entries after a write that made `new` of `live`.
    pub(super) fn record(&self, live: Option<&Value>, new: &Value, entries: Vec<Value>) -> Vec<Value> {
        let diff = self.reset.filter_all(compare(self.schema, self.ty, live, new));
        let mut slots: Vec<Slot> = entries.into_iter().map(Slot::new).collect();
        let Comparison { added, modified, removed } = diff;
        let mut mine = modified.union(added);
        let mut others = Others::default();
        slots.retain_mut(|slot| {
            if slot.text("apiVersion") == self.api_version {
                slot.subtract(self.schema, self.ty, [&mine, &removed]);
            } else {
                let Some(other) = others.of(self, slot.text("apiVersion"), live, new) else { return false };
                slot.subtract(self.schema, other.ty, [&other.changed, &other.removed]);
            }
            !slot.is_empty()
        });
        mine.subtract(&UNOWNED);
        if !mine.is_empty() {
            let manager = if self.manager.is_empty() { "unknown" } else { self.manager };
            let at = slots
                .iter()
                .position(|slot| slot.is_of(manager, Operation::Update, self.api_version, self.subresource));
            if let Some(mut before) = at.map(|at| slots.swap_remove(at)) {
                mine = mine.union(std::mem::take(before.fields(self.schema, self.ty)));
            }
            slots.push(Slot::of(&Entry {
                manager: manager.to_string(),
                operation: Operation::Update,
                api_version: self.api_version.to_string(),
                subresource: self.subresource.to_string(),
                time: Some(self.now),
                fields: mine,
            }));
        }
        let updaters = slots.iter().filter(|slot| slot.is_update()).count();
        let entries = into_values(slots);
        if updaters > MAX_UPDATE_ENTRIES {
            let capped = decode(Some(&Value::Array(entries))).map(cap).unwrap_or_default();
            return into_list(encode(capped).unwrap_or_default());
        }
        entries
    }
}

/// What a write changed, as another version of the API sees it.
pub(super) struct Other {
    api_version: String,
    pub ty: crate::schema::TypeId,
    /// Added or modified.
    pub changed: super::FieldSet,
    pub removed: super::FieldSet,
}

/// Other versions, each worked out once.
#[derive(Default)]
pub(super) struct Others(Vec<Other>);

impl Others {
    /// `None`: the version is not served, and what it recorded is dropped.
    pub fn of(
        &mut self,
        writer: &Writer<'_>,
        version: &str,
        live: Option<&Value>,
        new: &Value,
    ) -> Option<&Other> {
        let at = match self.0.iter().position(|other| other.api_version == version) {
            Some(at) => at,
            None => {
                let convert = |object: &Value| (writer.convert)(object, writer.api_version, version);
                let (ty, new) = convert(new)?;
                let live = live.and_then(convert).map(|(_, live)| live);
                let diff = writer.reset.filter_all(compare(writer.schema, ty, live.as_ref(), &new));
                self.0.push(Other {
                    api_version: version.to_owned(),
                    ty,
                    changed: diff.modified.union(diff.added),
                    removed: diff.removed,
                });
                self.0.len() - 1
            }
        };
        self.0.get(at)
    }
}

pub(super) fn into_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

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
