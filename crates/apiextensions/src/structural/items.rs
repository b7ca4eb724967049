//! Items of lists of type `map` by their keys, as upstream's `common.MapList` finds them.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::Value;

use super::Structural;
use apimachinery::schema::ListType;

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
pub(crate) struct Items<'a> {
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
