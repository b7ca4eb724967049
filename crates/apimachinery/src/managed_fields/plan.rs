//! How values are walked by the field plan: what is a struct, a map, a list whose elements have a name, or one
//! value. The rules are those of kube-openapi's `schemaconv`, by which upstream turns OpenAPI into the schema of
//! structured-merge-diff.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::set::{PathElement, order};
use crate::field::quote;
use crate::schema::{Field, List, ListType, Name, Schema, Shape, Type};

/// How values at some place are to be walked.
#[derive(Clone, Copy)]
pub(super) enum Plan<'a> {
    Struct(&'a Type),
    Map(&'a Shape),
    /// A list of the sort map or set.
    List(&'a List),
    Scalar(&'a Shape),
    /// A list or map that counts as one value.
    Leaf,
    /// No plan: maps are walked, lists count as one value.
    Free,
}

pub(super) struct Walk<'a> {
    pub schema: &'a Schema,
}

/// The values of a list that have one key: nearly always one.
pub(super) struct Group<'v> {
    pub element: PathElement,
    pub first: &'v Value,
    pub more: Vec<&'v Value>,
}

impl<'a> Walk<'a> {
    pub fn plan(&self, shape: &'a Shape) -> Plan<'a> {
        match shape {
            Shape::Message(id) => {
                let ty = &self.schema[*id];
                if ty.atomic { Plan::Leaf } else { Plan::Struct(ty) }
            }
            Shape::Map(map) => Plan::Map(&map.value),
            Shape::List(list) if list.kind == ListType::Atomic => Plan::Leaf,
            Shape::List(list) => Plan::List(list),
            // upstream makes it one value, whatever is in it
            Shape::RawExtension => Plan::Leaf,
            Shape::FieldsV1
            | Shape::Json
            | Shape::SchemaOrBool(_)
            | Shape::SchemaOrArray(_)
            | Shape::SchemaOrStrings(_) => Plan::Free,
            scalar => Plan::Scalar(scalar),
        }
    }

    pub fn plan_of_field(&self, field: &'a Field) -> Plan<'a> {
        match (field.atomic, &field.shape) {
            (Some(true), _) => Plan::Leaf,
            (Some(false), Shape::Message(id)) => Plan::Struct(&self.schema[*id]),
            (_, shape) => self.plan(shape),
        }
    }

    /// The plan of a field or entry, and whether the type declares it.
    pub fn plan_at(&self, plan: Plan<'a>, key: &str) -> (Plan<'a>, bool) {
        match plan {
            Plan::Struct(ty) => match ty.field(key) {
                Some(field) => (self.plan_of_field(field), true),
                None => (Plan::Free, false),
            },
            Plan::Map(value) => (self.plan(value), false),
            _ => (Plan::Free, false),
        }
    }

    /// The name, the plan, and whether the type declares the field.
    pub fn entry(&self, plan: Plan<'a>, key: &str) -> (Name, Plan<'a>, bool) {
        match plan {
            Plan::Struct(ty) => self.entry_of(plan, key, ty.field(key)),
            _ => self.entry_of(plan, key, None),
        }
    }

    /// [`Walk::entry`] where the field has been looked up.
    pub fn entry_of(&self, plan: Plan<'a>, key: &str, field: Option<&'a Field>) -> (Name, Plan<'a>, bool) {
        match (plan, field) {
            (_, Some(field)) => (field.name.clone(), self.plan_of_field(field), true),
            (Plan::Map(value), _) => (Name::Owned(key.to_string()), self.plan(value), false),
            _ => (Name::Owned(key.to_string()), Plan::Free, false),
        }
    }

    /// The elements of a list in canonical order.
    pub fn groups<'v>(&self, list: &'a List, values: &'v [Value]) -> Vec<Group<'v>> {
        let mut groups: Vec<Group<'v>> = Vec::with_capacity(values.len());
        for value in values {
            let Some(element) = self.element(list, value) else { continue };
            groups.push(Group { element, first: value, more: Vec::new() });
        }
        groups.sort_by(|a, b| a.element.cmp(&b.element));
        groups.dedup_by(|next, first| {
            let same = next.element == first.element;
            if same {
                first.more.push(next.first);
            }
            same
        });
        groups
    }

    /// What an element of the list is known by.
    pub fn element(&self, list: &'a List, value: &Value) -> Option<PathElement> {
        self.try_element(list, value).ok()
    }

    /// [`Walk::element`], or why there is none, in upstream's words.
    pub fn try_element(&self, list: &'a List, value: &Value) -> Result<PathElement, String> {
        if list.kind == ListType::Set {
            return match value {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                scalar => Ok(PathElement::Value(scalar.clone())),
            };
        }
        let map = match value {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let mut keys = Vec::with_capacity(list.keys.len());
        for name in &list.keys {
            let value = self.key(list, name, map).map(Cow::into_owned);
            keys.extend(value.map(|value| (name.clone(), value)));
        }
        if keys.is_empty() {
            let names: Vec<String> = list.keys.iter().map(|name| quote(name)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                names.join(" ")
            ));
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(PathElement::Key(keys))
    }

    /// One of an element's keys: as it is there, or its default.
    pub fn key<'v>(
        &self,
        list: &List,
        name: &str,
        element: &'v Map<String, Value>,
    ) -> Option<Cow<'v, Value>> {
        element.get(name).map(Cow::Borrowed).or_else(|| {
            let field = self.schema[list.element.message()?].field(name)?;
            serde_json::from_str(field.default.as_deref()?).ok().map(Cow::Owned)
        })
    }

    /// How two elements of a list compare by what they are known by; `None`: one of them by nothing. Without
    /// making anything, unlike [`Walk::element`].
    pub fn compare_elements(&self, list: &List, a: &Value, b: &Value) -> Option<Ordering> {
        let known = |value: &Value| !matches!(value, Value::Null | Value::Array(_) | Value::Object(_));
        if list.kind == ListType::Set {
            return (known(a) && known(b)).then(|| order(a, b));
        }
        let (a, b) = (a.as_object()?, b.as_object()?);
        let (mut found, mut any) = (Ordering::Equal, [false, false]);
        for name in &list.keys {
            let (a, b) = (self.key(list, name, a), self.key(list, name, b));
            any = [any[0] || a.is_some(), any[1] || b.is_some()];
            found = found.then_with(|| match (a, b) {
                (Some(a), Some(b)) => order(&a, &b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            });
        }
        (any == [true, true]).then_some(found)
    }

    /// The plan of what is at `element`, and whether that is a field which the type declares. `None`: nothing can
    /// be there.
    pub fn inside(&self, plan: Plan<'a>, element: &PathElement) -> Option<(Plan<'a>, bool)> {
        match (plan, element) {
            (Plan::Struct(_) | Plan::Map(_) | Plan::Free, PathElement::Field(name)) => {
                Some(self.plan_at(plan, name))
            }
            (Plan::List(list), PathElement::Key(_) | PathElement::Value(_)) => {
                Some((self.plan(&list.element), false))
            }
            _ => None,
        }
    }
}
