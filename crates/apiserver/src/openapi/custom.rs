//! Custom resources in OpenAPI: the schemas of their definitions with what every resource has (upstream's
//! `apiextensions-apiserver/pkg/controller/openapi/{builder,v2}`).

use std::sync::LazyLock;

use api::Descriptions;
use apimachinery::schema::Resource;
use serde_json::{Map, Value, json};

use super::{gvk, reference, schemas::ANY_KIND};
use crate::custom::{self, Custom};

pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// `com.example.v1.Widget`: the name of a kind's schema.
pub fn name(resource: &Resource, kind: &str) -> String {
    let group: Vec<&str> = resource.group.rsplit('.').collect();
    format!("{}.{}.{kind}", group.join("."), resource.version)
}

/// The schemas of a custom resource: of its objects and of their lists. Nothing for built-in ones.
pub fn schemas(resource: &Resource) -> Vec<(String, Value)> {
    let Some(custom) = custom::of(resource) else { return Vec::new() };
    let list = &custom.definition.list_kind;
    vec![
        (name(resource, &resource.kind), object(resource, custom)),
        (name(resource, list), list_of(resource, list)),
    ]
}

fn object(resource: &Resource, custom: &Custom) -> Value {
    let mut said = custom.definition.said(custom.version);
    let selectable = said["selectableFields"].take();
    let mut schema = match said["schema"].get_mut("openAPIV3Schema").map(Value::take) {
        Some(schema @ Value::Object(_)) => {
            let mut schema = schema;
            embed(&mut schema);
            with_metadata(&mut schema);
            schema
        }
        _ => json!({"type": "object"}),
    };
    schema["x-kubernetes-group-version-kind"] =
        json!([gvk(&resource.group, &resource.version, &resource.kind)]);
    if let Some(fields) = selectable.as_array().filter(|fields| !fields.is_empty()) {
        let path = |field: &Value| json!({"fieldPath": field["jsonPath"].as_str().unwrap_or_default().trim_start_matches('.')});
        schema["x-kubernetes-selectable-fields"] = fields.iter().map(path).collect();
    }
    schema
}

fn list_of(resource: &Resource, kind: &str) -> Value {
    let more = format!(
        "List of {}. More info: https://kubernetes.io/docs/concepts/overview/kubernetes-api/",
        resource.plural
    );
    let mut properties = type_fields();
    properties.insert(
        "metadata".into(),
        json!({"allOf": [reference(LIST_META)], "description": "The list's own metadata."}),
    );
    let items =
        json!({"type": "array", "items": reference(&name(resource, &resource.kind)), "description": more});
    properties.insert("items".into(), items);
    json!({
        "description": format!("{kind} is a list of {}", resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": [gvk(&resource.group, &resource.version, kind)],
    })
}

/// What every kind has.
fn type_fields() -> Map<String, Value> {
    let text = |field: &str| (field.to_owned(), json!({"type": "string", "description": about(field)}));
    Map::from_iter([text("apiVersion"), text("kind")])
}

/// What is said of a field that every kind has, in the words of the built-in ones.
fn about(field: &str) -> &'static str {
    static WORDS: LazyLock<[(&str, String); 3]> = LazyLock::new(|| {
        let known = Descriptions::default().get(ANY_KIND);
        let words =
            |field: &str| known.as_ref().and_then(|known| known.field(field)).unwrap_or_default().to_owned();
        ["apiVersion", "kind", "metadata"].map(|field| (field, words(field)))
    });
    WORDS.iter().find(|(name, _)| *name == field).map_or("", |(_, words)| words)
}

fn with_metadata(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    let properties = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    let Some(properties) = properties.as_object_mut() else { return };
    properties.extend(type_fields());
    let metadata = json!({"allOf": [reference(OBJECT_META)], "description": about("metadata")});
    properties.insert("metadata".into(), metadata);
}

/// Resources inside are resources, too.
fn embed(schema: &mut Value) {
    for inner in below(schema) {
        embed(inner);
        if inner["x-kubernetes-embedded-resource"] == true {
            with_metadata(inner);
            let required = &mut inner["required"];
            if !required.is_array() {
                *required = json!([]);
            }
            if let Some(required) = required.as_array_mut() {
                for field in ["kind", "apiVersion"] {
                    if !required.iter().any(|name| name == field) {
                        required.push(field.into());
                    }
                }
            }
        }
    }
}

/// The schemas right below one, those that only limit values aside.
fn below(schema: &mut Value) -> Vec<&mut Value> {
    let mut all = Vec::new();
    for (key, value) in schema.as_object_mut().into_iter().flatten() {
        match (key.as_str(), value) {
            ("properties", Value::Object(fields)) => all.extend(fields.values_mut()),
            ("items" | "additionalProperties", value @ Value::Object(_)) => all.push(value),
            _ => {}
        }
    }
    all
}

/// What OpenAPI v2 has no words for, or kubectl cannot cope with, goes.
pub fn to_v2(mut schema: Value) -> Value {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        let kinds = schema["x-kubernetes-group-version-kind"].take();
        let fields = schema["x-kubernetes-selectable-fields"].take();
        let mut out = json!({"type": "object", "x-kubernetes-group-version-kind": kinds});
        if fields.is_array() {
            out["x-kubernetes-selectable-fields"] = fields;
        }
        return out;
    }
    simplify(&mut schema);
    schema
}

fn simplify(schema: &mut Value) {
    let nullable: Vec<String> = match schema["properties"].as_object() {
        Some(fields) => fields
            .iter()
            .filter(|(_, field)| field["nullable"] == true)
            .map(|(name, _)| name.clone())
            .collect(),
        None => Vec::new(),
    };
    let values_are_nullable = schema["additionalProperties"]["nullable"] == true;
    let Some(fields) = schema.as_object_mut() else { return };
    // A reference to metadata stands in `allOf`.
    let refers = fields.get("allOf").is_some_and(|all| all[0].get("$ref").is_some());
    if !refers {
        fields.remove("allOf");
    }
    for junctor in ["oneOf", "anyOf", "not"] {
        fields.remove(junctor);
    }
    let is = |fields: &Map<String, Value>, key: &str| fields.get(key) == Some(&Value::Bool(true));
    if is(fields, "nullable") {
        for key in ["type", "nullable", "items", "properties"] {
            fields.remove(key);
        }
    }
    let free = is(fields, "x-kubernetes-preserve-unknown-fields");
    if free {
        fields.remove("items");
        fields.remove("properties");
    }
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind == "array" && !fields.contains_key("items") || kind == "object" && free {
        fields.remove("type");
    }
    if values_are_nullable {
        fields.remove("required");
    } else if let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !nullable.iter().any(|n| *name == *n.as_str()));
        if required.is_empty() {
            fields.remove("required");
        }
    }
    below(schema).into_iter().for_each(simplify);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simpler() {
        for (v3, v2) in [
            (
                json!({"type": "object", "required": ["a", "b"], "properties": {
                    "a": {"type": "string", "nullable": true},
                    "b": {"type": "array", "items": {"type": "integer", "not": {"minimum": 3}}}}}),
                json!({"type": "object", "required": ["b"], "properties": {
                    "a": {}, "b": {"type": "array", "items": {"type": "integer"}}}}),
            ),
            (
                json!({"type": "object", "properties": {"free": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "string"}}},
                    "either": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}}}),
                json!({"type": "object", "properties": {"free": {"x-kubernetes-preserve-unknown-fields": true},
                    "either": {"x-kubernetes-int-or-string": true}}}),
            ),
        ] {
            assert_eq!(to_v2(v3), v2);
        }
    }
}
