//! Whether an applied configuration fits its type, in the words of structured-merge-diff (`typed/validate.go`).

use std::cmp::Ordering;

use serde_json::Value;

use super::plan::Walk;
use super::set::PathElement;
use crate::field::quote;
use crate::patch::strategic::go_print;
use crate::schema::{List, ListType, Name, Schema, Shape, Type, TypeId};

/// What is wrong with an object of the type `ty`; `None`: nothing is. Lists that merge may hold one element
/// twice only if `duplicates` says so.
pub(super) fn faults(schema: &Schema, ty: TypeId, object: &Value, duplicates: bool) -> Option<String> {
    if (Fit { walk: Walk { schema }, duplicates }).message(&schema[ty], object) {
        return None;
    }
    let mut check = Check { walk: Walk { schema }, duplicates, path: Vec::new(), found: Vec::new() };
    check.message(&schema[ty], object);
    match check.found.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

struct Check<'a> {
    walk: Walk<'a>,
    duplicates: bool,
    path: Vec<PathElement>,
    found: Vec<String>,
}

impl<'a> Check<'a> {
    fn say(&mut self, what: impl AsRef<str>) {
        let path: String = self.path.iter().map(PathElement::to_string).collect();
        let what = what.as_ref();
        self.found.push(if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") });
    }

    fn inside(&mut self, element: PathElement, shape: &'a Shape, value: &Value) {
        self.path.push(element);
        self.shape(shape, value);
        self.path.pop();
    }

    fn message(&mut self, ty: &'a Type, value: &Value) {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => return,
            other => return self.say(format!("expected map, got &{{{}}}", go_print(other))),
        };
        for (key, value) in map {
            match ty.field(key) {
                Some(field) => self.inside(PathElement::Field(field.name.clone()), &field.shape, value),
                None if ty.preserve_unknown || ty.fields.is_empty() => {}
                None => {
                    self.path.push(PathElement::Field(Name::Owned(key.clone())));
                    self.say("field not declared in schema");
                    self.path.pop();
                    return;
                }
            }
        }
    }

    fn shape(&mut self, shape: &'a Shape, value: &Value) {
        match (shape, value) {
            (_, Value::Null) => {}
            (Shape::Message(id), value) => {
                let schema: &'a Schema = self.walk.schema;
                self.message(&schema[*id], value);
            }
            (Shape::Map(map), Value::Object(entries)) => {
                for (key, value) in entries {
                    self.inside(PathElement::Field(Name::Owned(key.clone())), &map.value, value);
                }
            }
            (Shape::Map(_), other) => self.say(format!("expected map, got &{{{}}}", go_print(other))),
            (Shape::List(list), Value::Array(values)) => {
                let mut seen = Vec::new();
                for (at, value) in values.iter().enumerate() {
                    let element = match list.kind {
                        ListType::Atomic => Ok(PathElement::Index(at as i64)),
                        _ => self.walk.try_element(list, value),
                    };
                    let element = match element {
                        Ok(element) => element,
                        Err(why) => return self.say(format!("element {at}: {why}")),
                    };
                    if list.kind != ListType::Atomic && !self.duplicates {
                        seen.push(element.clone());
                    }
                    self.inside(element, &list.element, value);
                }
                seen.sort();
                for pair in seen.windows(2) {
                    if let [a, b] = pair
                        && a == b
                    {
                        self.say(format!("duplicate entries for key {a}"));
                    }
                }
            }
            (Shape::List(_), other) => self.say(format!("expected list, got &{{{}}}", go_print(other))),
            (Shape::String | Shape::Bytes | Shape::Duration, Value::String(_)) => {}
            (Shape::String | Shape::Bytes | Shape::Duration, other) => {
                self.say(format!(
                    "expected string, got &value.valueUnstructured{{Value:{}}}",
                    go_syntax(other)
                ));
            }
            (Shape::Bool, Value::Bool(_)) => {}
            (Shape::Bool, other) => self.say(format!("expected boolean, got &{{{}}}", go_print(other))),
            (Shape::Int32 | Shape::Int64 | Shape::Double, Value::Number(_)) => {}
            (Shape::Int32 | Shape::Int64 | Shape::Double, other) => {
                self.say(format!("expected numeric (int or float), got {}", go_type(other)));
            }
            (
                Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime,
                Value::Array(_) | Value::Object(_),
            ) => {
                self.say(format!("expected any scalar, got &{{{}}}", go_print(value)));
            }
            _ => {}
        }
    }
}

/// Whether all is well, without a word: nearly always it is. Says yes only if [`Check`] finds nothing.
pub(super) struct Fit<'a> {
    pub walk: Walk<'a>,
    pub duplicates: bool,
}

impl<'a> Fit<'a> {
    fn message(&self, ty: &'a Type, value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Object(map) => map.iter().all(|(key, value)| match ty.field(key) {
                Some(field) => self.shape(&field.shape, value),
                None => ty.preserve_unknown || ty.fields.is_empty(),
            }),
            _ => false,
        }
    }

    pub fn shape(&self, shape: &'a Shape, value: &Value) -> bool {
        match (shape, value) {
            (_, Value::Null) => true,
            (Shape::Message(id), value) => {
                let schema: &'a Schema = self.walk.schema;
                self.message(&schema[*id], value)
            }
            (Shape::Map(map), Value::Object(entries)) => {
                entries.values().all(|value| self.shape(&map.value, value))
            }
            (Shape::List(list), Value::Array(values)) => {
                let known = list.kind == ListType::Atomic || self.distinct(list, values);
                known && values.iter().all(|value| self.shape(&list.element, value))
            }
            (Shape::Map(_) | Shape::List(_), _) => false,
            (Shape::String | Shape::Bytes | Shape::Duration, value) => value.is_string(),
            (Shape::Bool, value) => value.is_boolean(),
            (Shape::Int32 | Shape::Int64 | Shape::Double, value) => value.is_number(),
            (Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime, value) => {
                !value.is_array() && !value.is_object()
            }
            _ => true,
        }
    }

    /// Whether every element is known by something, and each by something else unless that does not matter.
    fn distinct(&self, list: &'a List, values: &[Value]) -> bool {
        let compare = |a: &Value, b: &Value| self.walk.compare_elements(list, a, b);
        if values.iter().any(|value| compare(value, value).is_none()) {
            return false;
        }
        let ascending = |pair: &[Value]| matches!(pair, [a, b] if compare(a, b) == Some(Ordering::Less));
        if self.duplicates || values.windows(2).all(ascending) {
            return true;
        }
        let mut sorted: Vec<&Value> = values.iter().collect();
        sorted.sort_by(|a, b| compare(a, b).unwrap_or(Ordering::Equal));
        sorted.windows(2).all(|pair| matches!(pair, [a, b] if compare(a, b) == Some(Ordering::Less)))
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::String(text) => quote(text),
        Value::Array(list) => {
            format!("[]interface {{}}{{{}}}", list.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{}:{}", quote(key), go_syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
