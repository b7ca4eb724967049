//! Defaults and nulls, as upstream's `schema/defaulting` has it.

use serde_json::{Map, Value};

use super::{Structural, metadata, prune};
use apimachinery::schema::{Schema, TypeId};

/// Sets what is absent, or null where null is no value, to the schema's default.
pub fn default(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if fields.get(&**name).is_none_or(|value| value.is_null() && !property.nullable) {
                    fields.insert(name.to_string(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                match schema.properties.get(&**name) {
                    Some(property) => default(value, property),
                    None => {
                        if let Some(others) = schema.additional.schema() {
                            fill(value, others);
                            default(value, others);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for item in items {
                    fill(item, schema);
                    default(item, schema);
                }
            }
        }
        _ => {}
    }
}

fn fill(value: &mut Value, schema: &Structural) {
    if value.is_null() && !schema.nullable {
        *value = schema.default.clone().unwrap_or_default();
    }
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
    let root = schema.clone();
    prune_below(schema, &root, &mut Vec::new(), meta);
}

/// The way from the root to a node.
#[derive(Clone)]
pub(crate) enum Step {
    Field(Box<str>),
    Index,
}

fn prune_below(node: &mut Structural, root: &Structural, way: &mut Vec<Step>, meta: (&Schema, TypeId)) {
    if let Some(default) = node.default.take() {
        let mut object = surround(default.clone(), way);
        metadata::drop_malformed(&mut object, root, meta);
        prune::prune(&mut object, root);
        node.default = Some(take(object, way).unwrap_or(default)).filter(|value| !value.is_null());
    }
    if let super::Additional::Schema(others) = &mut node.additional {
        way.push(Step::Field("*".into()));
        prune_below(others, root, way, meta);
        way.pop();
    }
    if let Some(items) = &mut node.items {
        way.push(Step::Index);
        prune_below(items, root, way, meta);
        way.pop();
    }
    for (name, property) in &mut node.properties {
        way.push(Step::Field(name.clone()));
        prune_below(property, root, way, meta);
        way.pop();
    }
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
