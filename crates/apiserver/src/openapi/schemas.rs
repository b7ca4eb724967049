//! Types as OpenAPI schemas: structure from the field plan, words from k8s-openapi.

use std::collections::BTreeSet;
use std::io;

use api::{Description, Descriptions};
use apimachinery::schema::{Field, ListType, Resource, Shape, Type, TypeId};
use serde_json::{Map, Value, json};

use super::custom::{LIST_META, OBJECT_META};
use super::{gvk, reference};
use crate::custom;

/// Types that every document has: what deletions take and failures answer.
const COMMON: [&str; 4] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// Says what the fields are for that every kind has.
pub const ANY_KIND: &str = "io.k8s.api.core.v1.Pod";

pub const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";
pub const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// The special scalars: their names and what they look like.
fn scalar(shape: &Shape) -> Option<(&'static str, Value)> {
    Some(match shape {
        Shape::Quantity => (
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ),
        Shape::IntOrString => (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        Shape::Time => {
            ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", json!({"type": "string", "format": "date-time"}))
        }
        Shape::MicroTime => (
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            json!({"type": "string", "format": "date-time"}),
        ),
        Shape::Duration => ("io.k8s.apimachinery.pkg.apis.meta.v1.Duration", json!({"type": "string"})),
        Shape::FieldsV1 => ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", json!({"type": "object"})),
        Shape::RawExtension => ("io.k8s.apimachinery.pkg.runtime.RawExtension", json!({"type": "object"})),
        Shape::Json => ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", json!({})),
        Shape::SchemaOrBool(_) => {
            ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", json!({}))
        }
        Shape::SchemaOrArray(_) => {
            ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", json!({}))
        }
        Shape::SchemaOrStrings(_) => (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
            json!({}),
        ),
        _ => return None,
    })
}

/// Everything that the resources' types reach, by name.
#[derive(Default)]
struct Reached {
    types: BTreeSet<(String, TypeId)>,
    scalars: Vec<(&'static str, Value)>,
}

impl Reached {
    fn add(&mut self, id: TypeId) {
        let ty = &api::schema()[id];
        if self.types.insert((ty.name.to_string(), id)) {
            ty.fields.iter().for_each(|field| self.shape(&field.shape));
        }
    }

    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Message(id) => self.add(*id),
            Shape::List(list) => self.shape(&list.element),
            Shape::Map(map) => self.shape(&map.value),
            other => {
                if let Some((name, schema)) = scalar(other)
                    && !self.scalars.iter().any(|(n, _)| *n == name)
                {
                    self.scalars.push((name, schema));
                }
            }
        }
    }
}

/// Makes the schema of every type that the resources and the named types reach, one after the other.
pub fn each(
    resources: &[&Resource],
    types: &[&str],
    mut take: impl FnMut(&str, Value) -> io::Result<()>,
) -> io::Result<()> {
    let mut reached = Reached::default();
    let common: &[&str] = if resources.is_empty() { &[] } else { &COMMON };
    for resource in resources {
        if custom::of(resource).is_some() {
            let scale = resource.subresource("scale").and_then(|s| s.object);
            let metadata = [OBJECT_META, LIST_META].into_iter().filter_map(|name| api::schema().find(name));
            metadata.chain(scale).for_each(|id| reached.add(id));
            continue;
        }
        let subresources = resource.subresources.iter().filter_map(|s| s.object);
        for id in [resource.object].into_iter().chain(resource.list).chain(subresources) {
            reached.add(id);
        }
    }
    for name in common.iter().chain(types) {
        if let Some(id) = api::schema().find(name) {
            reached.add(id);
        }
    }
    if !resources.is_empty() {
        reached.scalars.push((PATCH, json!({"type": "object"})));
    }
    let mut words = Descriptions::default();
    let any = words.get(ANY_KIND);
    for (name, id) in &reached.types {
        take(name, object(&api::schema()[*id], &mut words, any.as_ref()))?;
    }
    for (name, mut schema) in reached.scalars {
        if let Some(text) = words.get(name).as_ref().and_then(|d| d.about()) {
            schema["description"] = text.into();
        }
        take(name, schema)?;
    }
    // The one type that is in no field plan.
    if types.contains(&VERSION)
        && let Some(known) = words.get(VERSION)
    {
        take(VERSION, known.schema().clone())?;
    }
    Ok(())
}

/// A kind that is nothing but metadata and items.
fn is_list(ty: &Type) -> bool {
    !ty.kinds.is_empty() && ty.name.ends_with("List") && ty.fields.iter().any(|field| &*field.name == "items")
}

fn object(ty: &Type, words: &mut Descriptions, any: Option<&Description>) -> Value {
    let description = words.get(&ty.name);
    let mut out = Map::new();
    let list = is_list(ty);
    if let Some(text) = description.as_ref().and_then(|d| d.about()) {
        out.insert("description".into(), text.into());
    } else if list && let Some((_, _, kind)) = ty.kinds.first() {
        let kind = kind.strip_suffix("List").unwrap_or(kind);
        out.insert("description".into(), format!("{kind}List is a list of {kind} objects.").into());
    }
    out.insert("type".into(), "object".into());
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in &ty.fields {
        let own = description.as_ref().and_then(|d| d.field(&field.name));
        // Lists are not described one by one; what they have in common with every kind is.
        let common = matches!(&*field.name, "apiVersion" | "kind") && !ty.kinds.is_empty();
        let text = own.or_else(|| any.filter(|_| common)?.field(&field.name)).or(match &*field.name {
            "items" if list => Some("The objects."),
            "metadata" if list => Some("The list's own metadata: its resourceVersion and where it goes on."),
            _ => None,
        });
        properties.insert(field.name.to_string(), property(field, text));
        if field.required {
            required.push(Value::from(&*field.name));
        }
    }
    if !properties.is_empty() {
        out.insert("properties".into(), properties.into());
    }
    if !required.is_empty() {
        out.insert("required".into(), required.into());
    }
    if !ty.kinds.is_empty() {
        let kinds: Vec<Value> = ty.kinds.iter().map(|(g, v, k)| gvk(g, v, k)).collect();
        out.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    if ty.atomic {
        out.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if let Some(unions) = ty.unions.as_ref().and_then(|u| serde_json::from_str::<Value>(u).ok()) {
        out.insert("x-kubernetes-unions".into(), unions);
    }
    Value::Object(out)
}

/// The Go types that upstream marks as enumerations, sorted: their constants are all the values that there are.
const ENUMS: &str = include_str!("enums.txt");

/// What a field may hold, sorted, if upstream says so in its schema.
fn values(field: &Field) -> Vec<&'static str> {
    let Some(named) = field.named.and_then(|id| api::schema().named(id)) else { return Vec::new() };
    if !ENUMS.lines().any(|name| name == &*named.name) {
        return Vec::new();
    }
    let mut values: Vec<&str> = named.values.iter().map(|value| &**value).collect();
    values.sort_unstable();
    values
}

fn property(field: &Field, description: Option<&str>) -> Value {
    let mut out = shape(&field.shape);
    let values = values(field);
    if !values.is_empty() {
        let list: Value = values.iter().map(|v| Value::from(*v)).collect();
        match &field.shape {
            Shape::List(_) => out["items"]["enum"] = list,
            _ => out["enum"] = list,
        }
    }
    let mut set = |key: &str, value: Value| out[key] = value;
    if let Some(text) = description {
        let each: String = values.iter().map(|v| format!("\n - `{v:?}`")).collect();
        let whole =
            if each.is_empty() { text.to_owned() } else { format!("{text}\n\nPossible enum values:{each}") };
        set("description", whole.into());
    }
    if let Some(default) = field.default.as_ref().and_then(|d| serde_json::from_str(d).ok()) {
        set("default", default);
    }
    let patch = &field.patch;
    let strategies: Vec<&str> =
        [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")]
            .into_iter()
            .filter_map(|(on, word)| on.then_some(word))
            .collect();
    if !strategies.is_empty() {
        set("x-kubernetes-patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = &patch.key {
        set("x-kubernetes-patch-merge-key", (&**key).into());
    }
    match field.atomic {
        Some(true) => set("x-kubernetes-map-type", "atomic".into()),
        Some(false) => set("x-kubernetes-map-type", "granular".into()),
        None => {}
    }
    out
}

/// A shape within a list or map. Nothing stands beside its reference.
fn element(shape: &Shape) -> Value {
    match self::shape(shape) {
        Value::Object(mut fields) => match fields.remove("allOf") {
            Some(Value::Array(mut list)) => list.pop().unwrap_or_default(),
            _ => Value::Object(fields),
        },
        other => other,
    }
}

/// A shape in place. References stand in `allOf`, so that words can stand beside them.
fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Message(id) => json!({"allOf": [reference(&api::schema()[*id].name)]}),
        Shape::Map(map) => json!({"type": "object", "additionalProperties": element(&map.value)}),
        Shape::List(list) => {
            let mut out = json!({"type": "array", "items": element(&list.element)});
            match list.kind {
                // Said only where it is meant: for the rest absent means the same.
                ListType::Atomic => out["x-kubernetes-list-type"] = "atomic".into(),
                ListType::Set => out["x-kubernetes-list-type"] = "set".into(),
                ListType::Map => {
                    out["x-kubernetes-list-type"] = "map".into();
                    out["x-kubernetes-list-map-keys"] = list.keys.iter().map(|k| Value::from(&**k)).collect();
                }
            }
            out
        }
        other => match scalar(other) {
            Some((name, _)) => json!({"allOf": [reference(name)]}),
            None => json!({}),
        },
    }
}
