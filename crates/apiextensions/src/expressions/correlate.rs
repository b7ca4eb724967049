//! What a part of an object was before: for `oldSelf`, and for letting pass what was wrong before and has not changed
//! (KEP-4008).

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::Value;

use crate::structural::Structural;
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

/// A scalar that is part of an item's key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part<'a> {
    Bool(bool),
    Whole(i64),
    /// The bits of a number that is no integer.
    Fraction(u64),
    Text(&'a str),
}

fn part<'a>(item: &'a Value, key: &str) -> Option<Part<'a>> {
    Some(match item.get(key)? {
        Value::Bool(it) => Part::Bool(*it),
        Value::Number(it) => match it.as_i64() {
            Some(it) => Part::Whole(it),
            None => Part::Fraction(it.as_f64()?.to_bits()),
        },
        Value::String(it) => Part::Text(it),
        _ => return None,
    })
}

/// The old items of a list by their keys; of any other list than one of type `map`, none.
pub(super) struct Items<'a> {
    keys: &'a [Box<str>],
    old: &'a [Value],
    /// Made for lists longer than [`FEW`].
    index: OnceCell<HashMap<Vec<Part<'a>>, &'a Value>>,
}

/// Items up to which searching is faster than an index.
const FEW: usize = 8;

impl<'a> Items<'a> {
    pub fn new(schema: &'a Structural, old: Option<&'a Vec<Value>>) -> Items<'a> {
        let old = match schema.list_type {
            Some(ListType::Map) if !schema.list_keys.is_empty() => old.map_or(&[][..], Vec::as_slice),
            _ => &[],
        };
        Items { keys: &schema.list_keys, old, index: OnceCell::new() }
    }

    /// The first old item with the keys of `item`.
    pub fn get(&self, item: &Value) -> Option<&'a Value> {
        if self.old.len() > FEW {
            let parts: Vec<Part<'_>> = self.keys.iter().map(|key| part(item, key)).collect::<Option<_>>()?;
            return self.index().get(&parts[..]).copied();
        }
        self.old.iter().find(|old| {
            self.keys.iter().all(|key| part(old, key).is_some_and(|old| part(item, key) == Some(old)))
        })
    }

    fn index(&self) -> &HashMap<Vec<Part<'a>>, &'a Value> {
        self.index.get_or_init(|| {
            let mut index = HashMap::with_capacity(self.old.len());
            for old in self.old {
                if let Some(parts) = self.keys.iter().map(|key| part(old, key)).collect() {
                    index.entry(parts).or_insert(old);
                }
            }
            index
        })
    }
}
