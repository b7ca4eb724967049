//! One entry of `managedFields` on its way through a write. Entries that lose nothing are not taken apart, for
//! that is most of the work.

use jiff::Timestamp;
use serde_json::Value;

use super::entries::{Entry, Operation, time};
use super::plan::{Plan, Walk};
use super::recorded;
use super::set::{FieldSet, Inside, PathElement};
use crate::schema::{Schema, TypeId};

pub(super) struct Slot {
    value: Value,
    /// What it owns now, if that has been worked out.
    fields: Option<FieldSet>,
    /// And whether that differs from what `value` says.
    changed: bool,
}

impl Slot {
    pub fn new(mut value: Value) -> Slot {
        super::fold_entry(&mut value);
        Slot { value, fields: None, changed: false }
    }

    pub fn of(entry: &Entry) -> Slot {
        Slot::new(entry.to_value())
    }

    pub fn text(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_default()
    }

    pub fn is_update(&self) -> bool {
        self.text("operation") == Operation::Update.text()
    }

    /// Whether it is the entry of this writer. An applier is the same one in every version of the API.
    pub fn is_of(&self, manager: &str, operation: Operation, api_version: &str, subresource: &str) -> bool {
        self.text("manager") == manager
            && self.text("operation") == operation.text()
            && self.text("subresource") == subresource
            && (operation == Operation::Apply || self.text("apiVersion") == api_version)
    }

    /// FieldsV1 as it was recorded.
    pub fn recorded(&self) -> &str {
        self.text("fieldsV1")
    }

    /// What it owns, after changes of the type since it was recorded. `ty` is the type in the entry's version.
    pub fn fields(&mut self, schema: &Schema, ty: TypeId) -> &mut FieldSet {
        let text = self.value["fieldsV1"].as_str().unwrap_or_default();
        self.fields.get_or_insert_with(|| {
            let mut fields = FieldSet::from_json(text).unwrap_or_default();
            reconcile(schema, ty, &mut fields);
            fields
        })
    }

    /// Whether it may own one of these.
    pub fn may_own(&self, set: &FieldSet) -> bool {
        match &self.fields {
            Some(fields) => fields.intersects(set),
            None => recorded::intersects(self.recorded(), set),
        }
    }

    /// Takes away what is in the sets.
    pub fn subtract(&mut self, schema: &Schema, ty: TypeId, sets: [&FieldSet; 2]) {
        for set in sets {
            if !self.may_own(set) {
                continue;
            }
            if self.fields.is_none()
                && let Some(rest) = recorded::subtract(self.recorded(), set)
            {
                self.value["fieldsV1"] = Value::String(rest);
                continue;
            }
            self.changed = true;
            self.fields(schema, ty).subtract(set);
        }
    }

    /// Notes when it was written.
    pub fn set_time(&mut self, now: Timestamp) {
        if let Value::Object(map) = &mut self.value {
            map.insert("time".to_owned(), Value::String(time(now)));
        }
    }

    pub fn is_empty(&self) -> bool {
        match &self.fields {
            Some(fields) => fields.is_empty(),
            None => matches!(self.recorded(), "" | "{}"),
        }
    }

    pub fn into_value(mut self) -> Value {
        if let (Some(fields), true, Value::Object(map)) = (self.fields, self.changed, &mut self.value) {
            map.insert("fieldsV1".to_string(), Value::String(fields.to_text()));
        }
        self.value
    }
}

/// What was recorded below a field that counts as one value by now is put down to the field itself. The other way
/// round, the field is taken to have always been what it is now.
fn reconcile(schema: &Schema, ty: TypeId, fields: &mut FieldSet) {
    let walk = Walk { schema };
    fields.make_whole(Plan::Struct(&schema[ty]), &|plan, element: &PathElement| match walk
        .inside(plan, element)
    {
        Some((Plan::Leaf, _)) => Inside::Whole,
        Some((plan @ (Plan::Struct(_) | Plan::Map(_) | Plan::List(_)), _)) => Inside::More(plan),
        _ => Inside::Unknown,
    });
}

/// The entries as they are stored: appliers first, older ones first.
pub(super) fn into_values(slots: Vec<Slot>) -> Vec<Value> {
    let mut values: Vec<Value> = slots.into_iter().map(Slot::into_value).collect();
    values.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    values
}

/// Times are RFC 3339 in UTC and of one length, so that their text sorts as they do.
fn sort_key(entry: &Value) -> [&str; 5] {
    ["operation", "time", "manager", "apiVersion", "subresource"]
        .map(|key| entry[key].as_str().unwrap_or_default())
}
