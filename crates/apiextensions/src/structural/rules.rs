//! Whether a schema is structural (KEP-1693): upstream's `schema/validation.go` and `complete.go`, over the JSON of
//! the definition.

use serde_json::{Map, Value, json};

use super::MOST_FAULTS;
use super::compile::{flag, list, text};
use apimachinery::field::{Error, ErrorList, Path};

/// Where in a schema a node is.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Every rule that a schema in normal form breaks, sorted by text. Empty: [`super::compile`] makes sense of it.
pub fn check(schema: &Value, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(fields) = schema.as_object() {
        node(fields, Level::Root, path, &mut errors);
        complete(fields, Some(fields), path, path, &mut errors);
    }
    errors.sort_by_cached_key(Error::to_string);
    errors
}

fn properties(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    let all = fields.get("properties").and_then(Value::as_object);
    all.into_iter().flatten().filter_map(|(name, schema)| Some((name, schema.as_object()?)))
}

fn below<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a Map<String, Value>> {
    fields.get(field).and_then(Value::as_object)
}

fn node(fields: &Map<String, Value>, level: Level, path: &Path<'_>, errors: &mut ErrorList) {
    if errors.len() >= MOST_FAULTS {
        return;
    }
    let kind = text(fields, "type");
    if kind == "array" && below(fields, "items").is_none() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = below(fields, "items") {
        node(items, Level::Item, &path.child("items"), errors);
    }
    let all = path.child("properties");
    for (name, property) in properties(fields) {
        node(property, Level::Field, &all.key(name), errors);
    }
    let additional = fields.get("additionalProperties").filter(|value| !value.is_null());
    let at = path.child("additionalProperties");
    if let Some(additional) = additional {
        if level == Level::Root {
            errors.push(Error::forbidden(&at, "must not be used at the root"));
        }
        if let Some(schema) = additional.as_object() {
            node(schema, Level::Field, &at, errors);
        }
    }
    extensions(fields, path, errors);
    let skip = Skip { any_of: is_int_or_string(fields), first_all_of: first_all_of_is_int_or_string(fields) };
    limits(fields, skip, path, errors);

    let embedded = flag(fields, "x-kubernetes-embedded-resource");
    let preserves = flag(fields, "x-kubernetes-preserve-unknown-fields");
    let of_type = path.child("type");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => Error::required(&of_type, why),
            _ => Error::invalid(&of_type, kind, why),
        });
    } else if kind.is_empty() && !flag(fields, "x-kubernetes-int-or-string") && !preserves {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&of_type, why));
    }
    if embedded && additional.is_some() {
        errors.push(Error::forbidden(&at, "must not be used if x-kubernetes-embedded-resource is set"));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(Error::invalid(&of_type, kind, "must be object at the root"));
    }
    let is_resource = level == Level::Root || embedded;
    for (name, property) in properties(fields) {
        let at = all.key(name);
        let kind = text(property, "type");
        let expected = match name.as_str() {
            "kind" | "apiVersion" => "string",
            "metadata" => "object",
            _ => continue,
        };
        if is_resource && kind != expected {
            errors.push(Error::invalid(&at.child("type"), kind, format!("must be {expected}")));
        }
        if name == "metadata" && level == Level::Root && !only_restricts_names(property) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(Error::forbidden(&at, why));
        }
    }
    if embedded && !preserves && properties(fields).next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&all, why));
    }
}

/// The schema of a resource's own metadata may say something of its names only.
fn only_restricts_names(metadata: &Map<String, Value>) -> bool {
    metadata.iter().all(|(field, value)| match field.as_str() {
        "type" | "default" => true,
        "properties" => value
            .as_object()
            .is_some_and(|all| all.keys().all(|name| matches!(name.as_str(), "name" | "generateName"))),
        _ => false,
    })
}

fn extensions(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    if !flag(fields, "x-kubernetes-int-or-string") {
        return;
    }
    for field in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(fields, field) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(Error::invalid(&path.child(field), true, why));
        }
    }
}

fn is_int_or_string(fields: &Map<String, Value>) -> bool {
    fields.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

fn first_all_of_is_int_or_string(fields: &Map<String, Value>) -> bool {
    let first = list(fields, "allOf").first().and_then(Value::as_object);
    first.is_some_and(is_int_or_string)
}

/// The two ways of saying "an integer or a string", in which types may stand where otherwise none may.
#[derive(Clone, Copy, Default)]
struct Skip {
    any_of: bool,
    first_all_of: bool,
}

fn limits(fields: &Map<String, Value>, skip: Skip, path: &Path<'_>, errors: &mut ErrorList) {
    for (field, skipped) in [("anyOf", skip.any_of), ("allOf", false), ("oneOf", false)] {
        if skipped {
            continue;
        }
        let at = path.child(field);
        for (index, schema) in list(fields, field).iter().enumerate() {
            let any_of = field == "allOf" && index == 0 && skip.first_all_of;
            if let Some(schema) = schema.as_object() {
                nested(schema, Skip { any_of, first_all_of: false }, &at.index(index), errors);
            }
        }
    }
    if let Some(schema) = below(fields, "not") {
        nested(schema, Skip::default(), &path.child("not"), errors);
    }
    let pattern = text(fields, "pattern");
    if let Err(why) = cel::re2::check(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(Error::invalid(&path.child("pattern"), pattern, why));
    }
}

const MUST_BE_UNSET: [(&str, &str); 11] = [
    ("type", "empty"),
    ("default", "undefined"),
    ("title", "empty"),
    ("description", "empty"),
    ("nullable", "false"),
    ("x-kubernetes-preserve-unknown-fields", "false"),
    ("x-kubernetes-embedded-resource", "false"),
    ("x-kubernetes-int-or-string", "false"),
    ("x-kubernetes-list-map-keys", "empty"),
    ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-map-type", "undefined"),
];

/// What stands below `allOf` and the like limits values and shapes nothing.
fn nested(fields: &Map<String, Value>, skip: Skip, path: &Path<'_>, errors: &mut ErrorList) {
    if errors.len() >= MOST_FAULTS {
        return;
    }
    limits(fields, skip, path, errors);
    if let Some(items) = below(fields, "items") {
        nested(items, Skip::default(), &path.child("items"), errors);
    }
    let all = path.child("properties");
    for (name, property) in properties(fields) {
        nested(property, Skip::default(), &all.key(name), errors);
    }
    let is_set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    for (field, must) in MUST_BE_UNSET {
        if fields.get(field).is_some_and(|value| is_set(value) || field == "default" && !value.is_null()) {
            errors.push(Error::forbidden(&path.child(field), format!("must be {must} to be structural")));
        }
    }
    if fields.get("additionalProperties").is_some_and(is_set) {
        let at = path.child("additionalProperties");
        errors.push(Error::forbidden(&at, "must be undefined to be structural"));
    }
    if !list(fields, "x-kubernetes-validations").is_empty() {
        let at = path.child("x-kubernetes-validations");
        errors.push(Error::forbidden(&at, "must be empty to be structural"));
    }
    if properties(fields).any(|(name, _)| name == "metadata") {
        errors.push(Error::forbidden(&all.key("metadata"), "must not be specified in a nested context"));
    }
}

/// Whatever is limited is also specified, outside of what limits.
fn complete(
    limiting: &Map<String, Value>,
    schema: Option<&Map<String, Value>>,
    path: &Path<'_>,
    limit: &Path<'_>,
    errors: &mut ErrorList,
) {
    let mut one = |fields: Option<&Map<String, Value>>, at: &Path<'_>| {
        if let Some(fields) = fields {
            complete_nested(fields, schema, path, at, errors);
        }
    };
    one(below(limiting, "not"), &limit.child("not"));
    for field in ["allOf", "anyOf", "oneOf"] {
        let all = limit.child(field);
        for (index, clause) in list(limiting, field).iter().enumerate() {
            one(clause.as_object(), &all.index(index));
        }
    }
}

fn complete_nested(
    limiting: &Map<String, Value>,
    schema: Option<&Map<String, Value>>,
    path: &Path<'_>,
    limit: &Path<'_>,
    errors: &mut ErrorList,
) {
    let Some(fields) = schema else {
        errors.push(Error::required(path, format!("because it is defined in {}", limit.text())));
        return;
    };
    if errors.len() >= MOST_FAULTS {
        return;
    }
    complete(limiting, schema, path, limit, errors);
    if let Some(items) = below(limiting, "items") {
        complete_nested(items, below(fields, "items"), &path.child("items"), &limit.child("items"), errors);
    }
    let (all, limits) = (path.child("properties"), limit.child("properties"));
    for (name, property) in properties(limiting) {
        let specified = below(fields, "properties").and_then(|all| below(all, name));
        complete_nested(property, specified, &all.key(name), &limits.key(name), errors);
    }
}
