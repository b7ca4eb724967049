//! Defaults: what a field means when the client leaves it out.
//!
//! As upstream's, they belong to types and not to kinds: a probe is defaulted wherever a probe occurs. [`apply`]
//! walks an object along the field plan and calls the rule of every type that it meets, the outer before the
//! inner; fields with a default in the schema get that. Types below which no rule applies are not walked.

mod cluster;
mod core;
mod groups;
mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use apimachinery::schema::{Schema, Shape, TypeId};
use serde_json::{Map, Value};

/// Fills in what is missing in one object of a type.
type Rule = fn(&mut Map<String, Value>);

struct Plan {
    rules: BTreeMap<TypeId, Rule>,
    /// Defaults that the schema gives: type → (field, whether it is a pointer, value).
    fields: BTreeMap<TypeId, Vec<(String, bool, Value)>>,
    /// Types in or below which anything is to do.
    reaches: BTreeSet<TypeId>,
}

static PLAN: LazyLock<Plan> = LazyLock::new(|| Plan::new(api::schema()));

impl Plan {
    fn new(schema: &Schema) -> Plan {
        let mut plan = Plan { rules: BTreeMap::new(), fields: BTreeMap::new(), reaches: BTreeSet::new() };
        for (name, rule) in core::RULES.iter().chain(groups::RULES).chain(cluster::RULES) {
            let id =
                schema.find(&format!("io.k8s.api.{name}")).or_else(|| schema.find(&format!("io.k8s.{name}")));
            if let Some(id) = id {
                plan.rules.insert(id, *rule);
            }
        }
        for (id, ty) in schema.types() {
            let given = ty.fields.iter().filter_map(|field| {
                let value: Value = serde_json::from_str(field.default.as_deref()?).ok()?;
                // The zero value of a type is no default: that is what absence reads as anyway.
                let zero = value == ""
                    || value == 0
                    || value == false
                    || value.as_object().is_some_and(Map::is_empty);
                (!zero && !value.is_null()).then(|| (field.name.to_string(), field.pointer, value))
            });
            let given: Vec<_> = given.collect();
            if !given.is_empty() {
                plan.fields.insert(id, given);
            }
        }
        plan.reaches.extend(plan.rules.keys().chain(plan.fields.keys()));
        loop {
            let before = plan.reaches.len();
            for (id, ty) in schema.types() {
                let inner = ty.fields.iter().filter_map(|field| inner(&field.shape));
                if inner.into_iter().any(|inner| plan.reaches.contains(&inner)) {
                    plan.reaches.insert(id);
                }
            }
            if plan.reaches.len() == before {
                return plan;
            }
        }
    }

    fn walk(&self, schema: &Schema, id: TypeId, map: &mut Map<String, Value>) {
        if let Some(rule) = self.rules.get(&id) {
            rule(map);
        }
        for (name, pointer, value) in self.fields.get(&id).into_iter().flatten() {
            if map.get(name).is_none_or(|present| !pointer && present == "") {
                map.insert(name.clone(), value.clone());
            }
        }
        for field in &schema[id].fields {
            if let Some(inner) = inner(&field.shape)
                && self.reaches.contains(&inner)
                && let Some(value) = map.get_mut(&*field.name)
            {
                self.walk_value(schema, inner, value);
            }
        }
    }

    /// A message, or lists and maps of it.
    fn walk_value(&self, schema: &Schema, id: TypeId, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk_value(schema, id, item)),
            Value::Object(map) => self.walk(schema, id, map),
            _ => {}
        }
    }
}

/// The message type of a field, through lists. Maps of messages have no defaults in any built-in type.
fn inner(shape: &Shape) -> Option<TypeId> {
    match shape {
        Shape::List(list) => inner(&list.element),
        other => other.message(),
    }
}

/// Fills in the defaults of an object of a built-in type. Idempotent.
pub fn apply(object: TypeId, value: &mut Value) {
    if PLAN.reaches.contains(&object) {
        PLAN.walk_value(api::schema(), object, value);
    }
}

/// Sets a field that is absent or `null`. An empty text is absent in normal form unless it is behind a pointer,
/// and then the client said so; for the others there is [`set_text`].
fn set(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    if !has(map, name) {
        map.insert(name.to_owned(), value.into());
    }
}

/// Sets a text that is written even when it is empty, if it is.
fn set_text(map: &mut Map<String, Value>, name: &str, value: &str) {
    if text(map, name).is_empty() {
        map.insert(name.to_owned(), value.into());
    }
}

/// An object inside, made when it is absent.
fn sub<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let value = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// An object inside, if it is there.
fn there<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(name)?.as_object_mut()
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn has(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).is_some_and(|value| !value.is_null())
}

fn is_empty(map: &Map<String, Value>, name: &str) -> bool {
    match map.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests;
