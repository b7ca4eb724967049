//! A configuration that is laid over an object without anybody owning its fields: what mutating admission policies
//! do (upstream's `admission/plugin/policy/mutating/patch/smd.go`).

use serde_json::Value;

use super::check::faults;
use super::merge::merge;
use super::plan::{Plan, Walk};
use crate::schema::{ListType, Schema, Shape, Type, TypeId};

/// Lays `config` over `object`, both of the type `ty`. The result is not in normal form.
///
/// # Errors
/// A configuration that is not of the type, or that names something that is replaced as a whole: what it does not
/// mention there would be lost.
pub fn overlay(schema: &Schema, ty: TypeId, object: &mut Value, config: &Value) -> Result<(), String> {
    if let Some(why) = faults(schema, ty, config, false) {
        return Err(format!("failed to convert patch object to typed object: {why}"));
    }
    let mut atomics = Atomics { schema, path: String::new(), found: Vec::new() };
    atomics.message(&schema[ty], false, config);
    if !atomics.found.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomics.found.join(", ")
        ));
    }
    merge(schema, ty, object, config);
    Ok(())
}

/// The paths of a configuration at which everything is replaced.
struct Atomics<'a> {
    schema: &'a Schema,
    path: String,
    found: Vec<String>,
}

impl<'a> Atomics<'a> {
    fn report(&mut self) {
        self.found.push(self.path.clone());
    }

    fn message(&mut self, ty: &'a Type, atomic: bool, value: &Value) {
        let Some(fields) = value.as_object() else { return };
        if atomic {
            self.report();
        }
        for (key, value) in fields {
            let Some(field) = ty.field(key) else { continue };
            let length = self.path.len();
            self.path.push('.');
            self.path.push_str(key);
            self.shape(&field.shape, field.atomic, value);
            self.path.truncate(length);
        }
    }

    /// `atomic` is what the field says, which counts for more than what its type says.
    fn shape(&mut self, shape: &'a Shape, atomic: Option<bool>, value: &Value) {
        let schema = self.schema;
        let by_itself = matches!(Walk { schema }.plan(shape), Plan::Leaf);
        let is_atomic = atomic.unwrap_or(by_itself);
        match (shape, value) {
            (Shape::Message(id), value) => self.message(&schema[*id], is_atomic, value),
            (Shape::Map(_) | Shape::RawExtension, Value::Object(_)) if is_atomic => self.report(),
            (Shape::List(list), Value::Array(values)) => {
                if is_atomic || list.kind == ListType::Atomic {
                    self.report();
                }
                for (index, value) in values.iter().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.shape(&list.element, None, value);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }
}
