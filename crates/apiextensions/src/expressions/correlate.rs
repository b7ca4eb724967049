//! What a part of an object was before: for `oldSelf`, and for letting pass what was wrong before and has not changed
//! (KEP-4008).

use std::cell::OnceCell;

use serde_json::Value;

use crate::structural::Structural;
use crate::structural::items::Items;
use apimachinery::schema::ListType;

/// A part of an object and what it was.
pub(super) struct Pair<'a> {
    new: &'a Value,
    old: &'a Value,
    schema: &'a Structural,
    same: OnceCell<bool>,
}

impl<'a> Pair<'a> {
    pub fn new(new: &'a Value, old: &'a Value, schema: &'a Structural) -> Pair<'a> {
        Pair { new, old, schema, same: OnceCell::new() }
    }

    fn is_same(&self) -> bool {
        *self.same.get_or_init(|| unchanged(self.new, self.old, Some(self.schema)))
    }
}

/// How the faults of a node may be excused.
#[derive(Clone, Copy, Default)]
pub(super) struct Ratchet<'a> {
    /// The node, if it is known what it was.
    pub current: Option<&'a Pair<'a>>,
    /// Else the closest node above for which it is.
    pub parent: Option<&'a Pair<'a>>,
}

impl<'a> Ratchet<'a> {
    pub fn excuses(self) -> bool {
        self.current.or(self.parent).is_some_and(Pair::is_same)
    }

    /// The same for a field: the field's own pair, and the parent to go with it.
    pub fn field(self, name: &str) -> (Option<Pair<'a>>, Option<&'a Pair<'a>>) {
        let Some(current) = self.current else { return (None, self.parent) };
        // What kind and apiVersion were is not seen: both objects were converted.
        if self.parent.is_none() && matches!(name, "apiVersion" | "kind") {
            return (None, None);
        }
        let field = || {
            let (new, old) = (current.new.get(name)?, current.old.get(name)?);
            Some(Pair::new(new, old, current.schema.field(name)?))
        };
        (field(), Some(current))
    }

    /// The same for an item of a list, whose old value is `old`.
    pub fn item(self, item: &'a Value, old: Option<&'a Value>) -> (Option<Pair<'a>>, Option<&'a Pair<'a>>) {
        let Some(current) = self.current else { return (None, self.parent) };
        let pair = || Some(Pair::new(item, old?, current.schema.items.as_deref()?));
        (pair(), Some(current))
    }
}

/// Whether a value is what it was. Items of lists with keys are compared by key. What no schema is known of counts as
/// changed: so upstream's `CorrelatedObject` has it.
fn unchanged(new: &Value, old: &Value, schema: Option<&Structural>) -> bool {
    match (new, old) {
        (Value::Array(new), Value::Array(old)) => {
            let is_keyed = schema.is_some_and(|schema| schema.list_type == Some(ListType::Map));
            match schema.filter(|_| is_keyed) {
                _ if new.len() != old.len() => false,
                None => new == old,
                Some(schema) => {
                    let (before, items) = (Items::new(schema, Some(old)), schema.items.as_deref());
                    new.iter().all(|item| {
                        items.is_some() && before.get(item).is_some_and(|old| unchanged(item, old, items))
                    })
                }
            }
        }
        (Value::Object(new), Value::Object(old)) => {
            new.len() == old.len()
                && new.iter().all(|(name, new)| {
                    let schema = schema.and_then(|schema| schema.field(name));
                    schema.is_some() && old.get(name).is_some_and(|old| unchanged(new, old, schema))
                })
        }
        (new, old) => new == old,
    }
}
