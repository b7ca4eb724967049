//! Defaults and nulls, as upstream's `schema/defaulting` has it.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Structural, metadata, prune};
use apimachinery::schema::{Schema, TypeId};

/// What defaults may add to one object, in bytes of memory, roughly.
const MOST: usize = 64 << 20;

/// Defaults multiply: a short list of small objects may be large with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("with the defaults of its schema the object is too large")]
pub struct TooLarge;

/// Sets what is absent, or null where null is no value, to the schema's default.
///
/// # Errors
/// [`TooLarge`]; the object is incomplete then.
pub fn default(value: &mut Value, schema: &Structural) -> Result<(), TooLarge> {
    Filling { room: MOST }.walk(value, schema)
}

struct Filling {
    /// Bytes that may still be added.
    room: usize,
}

impl Filling {
    fn walk(&mut self, value: &mut Value, schema: &Structural) -> Result<(), TooLarge> {
        match value {
            Value::Object(fields) => {
                for (name, property) in &schema.properties {
                    let Some(default) = &property.default else { continue };
                    if fields.get(&**name).is_none_or(|value| value.is_null() && !property.nullable) {
                        fields.insert(name.to_string(), self.take(default)?);
                    }
                }
                for (name, value) in fields.iter_mut() {
                    match schema.properties.get(name) {
                        Some(property) => self.walk(value, property)?,
                        None => {
                            if let Some(others) = schema.additional.schema() {
                                self.fill(value, others)?;
                                self.walk(value, others)?;
                            }
                        }
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &schema.items {
                    for item in items {
                        self.fill(item, schema)?;
                        self.walk(item, schema)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fill(&mut self, value: &mut Value, schema: &Structural) -> Result<(), TooLarge> {
        if value.is_null() && !schema.nullable {
            *value = match &schema.default {
                Some(default) => self.take(default)?,
                None => Value::Null,
            };
        }
        Ok(())
    }

    fn take(&mut self, default: &Value) -> Result<Value, TooLarge> {
        self.room = self.room.checked_sub(size(default)).ok_or(TooLarge)?;
        Ok(default.clone())
    }
}

/// About how much memory a value takes. A map has room for eleven fields at a time.
fn size(value: &Value) -> usize {
    const FIELD: usize = size_of::<String>() + size_of::<Value>();
    let inside = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => {
            let held: usize = fields.iter().map(|(name, value)| name.len() + size(value)).sum();
            held + fields.len().next_multiple_of(11) * FIELD
        }
        _ => 0,
    };
    size_of::<Value>() + inside
}

/// Removes nulls from fields where null is no value and nothing would take its place. Done before [`default`].
pub fn prune_nulls(value: &mut Value, schema: Option<&Structural>) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let schema = schema.and_then(|schema| schema.field(name));
            let stays = !(value.is_null() && schema.is_some_and(|s| !s.nullable && s.default.is_none()));
            if stays {
                prune_nulls(value, schema);
            }
            stays
        }),
        Value::Array(items) => {
            let schema = schema.and_then(|schema| schema.items.as_deref());
            items.iter_mut().for_each(|item| prune_nulls(item, schema));
        }
        _ => {}
    }
}

/// Prunes the defaults themselves, each in its place in an object: what an older definition was allowed to say must
/// not bring back fields that are pruned. `meta` is the type of metadata.
pub fn prune_defaults(schema: &mut Structural, meta: (&Schema, TypeId)) {
    if let Some(pruned) = pruned(schema, schema, &mut Vec::new(), meta) {
        *schema = pruned;
    }
}

/// The way from the root to a node.
#[derive(Clone)]
pub(crate) enum Step {
    Field(Box<str>),
    Index,
}

/// The node with its defaults pruned, if that makes a difference.
fn pruned(
    node: &Structural,
    root: &Structural,
    way: &mut Vec<Step>,
    meta: (&Schema, TypeId),
) -> Option<Structural> {
    let mut below = |node: &Structural, step: Step| {
        way.push(step);
        let pruned = pruned(node, root, way, meta);
        way.pop();
        pruned.map(Arc::new)
    };
    let others = node.additional.schema().and_then(|others| below(others, Step::Field("*".into())));
    let items = node.items.as_deref().and_then(|items| below(items, Step::Index));
    let mut changed = false;
    let mut properties = Vec::with_capacity(node.properties.len());
    for (name, property) in node.properties.shared() {
        let pruned = below(property, Step::Field((**name).into()));
        changed |= pruned.is_some();
        properties.push((name.clone(), pruned.unwrap_or_else(|| property.clone())));
    }
    let default = node.default.as_ref().map(|default| {
        let mut object = surround(default.clone(), way);
        metadata::drop_malformed(&mut object, root, meta);
        prune::prune(&mut object, root);
        take(object, way).or_else(|| Some(default.clone())).filter(|value| !value.is_null())
    });
    let default = default.filter(|pruned| *pruned != node.default);
    if others.is_none() && items.is_none() && !changed && default.is_none() {
        return None;
    }
    let mut node = node.clone();
    if let Some(others) = others {
        node.additional = super::Additional::Schema(others);
    }
    if items.is_some() {
        node.items = items;
    }
    if changed {
        node.properties = properties.into_iter().collect();
    }
    if let Some(default) = default {
        node.default = default;
    }
    Some(node)
}

/// An object with the value at the end of the way and nothing else.
pub(crate) fn surround(value: Value, way: &[Step]) -> Value {
    way.iter().rev().fold(value, |value, step| match step {
        Step::Field(name) => Value::Object(Map::from_iter([(name.to_string(), value)])),
        Step::Index => Value::Array(vec![value]),
    })
}

fn take(value: Value, way: &[Step]) -> Option<Value> {
    way.iter().try_fold(value, |mut value, step| match step {
        Step::Field(name) => value.as_object_mut()?.remove(&**name),
        Step::Index => value.as_array_mut()?.pop(),
    })
}
