//! kind, apiVersion and metadata, at the root and wherever a schema says `x-kubernetes-embedded-resource`, as
//! upstream's `schema/objectmeta` treats them.

use serde_json::{Map, Value};

use super::Structural;
use apimachinery::codec::normal;
use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::gvk;
use apimachinery::names;
use apimachinery::schema::{Schema, TypeId};

/// Brings the metadata of every resource embedded in `value` into normal form; `meta` is its type. What metadata
/// does not know goes; its paths are returned, sorted.
///
/// # Errors
/// A kind, apiVersion or metadata of the wrong type.
pub fn coerce(
    value: &mut Value,
    schema: &Structural,
    meta: (&Schema, TypeId),
    path: &Path<'_>,
) -> Result<Vec<String>, Error> {
    let mut unknown = Vec::new();
    walk(value, schema, path, &mut |object, path| {
        for field in ["apiVersion", "kind"] {
            if let Some(value) = object.get(field).filter(|value| !value.is_string()) {
                return Err(Error::invalid(&path.child(field), value.clone(), "must be a string"));
            }
        }
        let Some(metadata) = object.get_mut("metadata") else { return Ok(()) };
        let at = path.child("metadata");
        match normal::conform(meta.0, meta.1, metadata.clone()) {
            Ok(conforming) => {
                let field = |said: &String| said.split('"').nth(1).unwrap_or_default().to_owned();
                unknown.extend(conforming.unknown.iter().map(|said| format!("{at}.{}", field(said))));
                *metadata = without_time(conforming.value);
                Ok(())
            }
            Err(why) => Err(Error::invalid(&at, metadata.clone(), why.to_string())),
        }
    })?;
    unknown.sort();
    Ok(unknown)
}

/// As [`coerce`] for what is stored already, or was written under an older definition: what is of the wrong type
/// goes too.
pub fn drop_malformed(value: &mut Value, schema: &Structural, meta: (&Schema, TypeId)) {
    let mut drop = |object: &mut Map<String, Value>, _: &Path<'_>| -> Result<(), Error> {
        for field in ["apiVersion", "kind"] {
            if object.get(field).is_some_and(|value| !value.is_string()) {
                object.remove(field);
            }
        }
        if let Some(metadata) = object.get_mut("metadata") {
            if let Some(fields) = metadata.as_object_mut() {
                fields.retain(|name, value| {
                    let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
                    normal::conform(meta.0, meta.1, alone).is_ok()
                });
            }
            if let Ok(conforming) = normal::conform(meta.0, meta.1, metadata.clone()) {
                *metadata = without_time(conforming.value);
            }
        }
        Ok(())
    };
    // Nothing in it fails.
    let _ = walk(value, schema, &Path::NIL, &mut drop);
}

/// A time that is not set is not written.
fn without_time(mut metadata: Value) -> Value {
    // What is unstructured has owners' fields as they are on the wire.
    apimachinery::managed_fields::unfold_metadata(&mut metadata);
    if let Some(fields) = metadata.as_object_mut()
        && fields.get("creationTimestamp").is_some_and(Value::is_null)
    {
        fields.remove("creationTimestamp");
    }
    metadata
}

/// Every fault of resources embedded in `value` (not of the root, whose metadata the engine checks). `check_meta`
/// judges a metadata in normal form: `(metadata, path, errors)`.
pub fn validate(
    value: &mut Value,
    schema: &Structural,
    path: &Path<'_>,
    check_meta: &dyn Fn(&Value, &Path<'_>, &mut ErrorList),
    errors: &mut ErrorList,
) {
    let mut check = |object: &mut Map<String, Value>, path: &Path<'_>| -> Result<(), Error> {
        for field in ["apiVersion", "kind"] {
            let at = path.child(field);
            match object.get(field) {
                None => errors.push(Error::required(&at, "")),
                Some(Value::String(text)) if text.is_empty() => {
                    errors.push(Error::invalid(&at, "", "must not be empty"));
                }
                Some(Value::String(text)) if field == "apiVersion" => {
                    if let Err(why) = gvk::split(text) {
                        let why = why.to_string();
                        errors.push(Error::invalid(&at, text.as_str(), why));
                    }
                }
                Some(Value::String(text)) => {
                    let faults = names::is_dns1035_label(&text.to_lowercase());
                    if !faults.is_empty() {
                        let why = "may have mixed case, but should otherwise match: ".to_owned();
                        errors.push(Error::invalid(&at, text.as_str(), why + &faults.join(",")));
                    }
                }
                Some(other) => errors.push(Error::invalid(&at, other.clone(), "must be a string")),
            }
        }
        if let Some(metadata) = object.get("metadata") {
            check_meta(metadata, &path.child("metadata"), errors);
        }
        Ok(())
    };
    // Nothing in it fails.
    let _ = walk(value, schema, path, &mut check);
}

type Visit<'v> = dyn FnMut(&mut Map<String, Value>, &Path<'_>) -> Result<(), Error> + 'v;

/// Visits every embedded resource, outer ones first.
fn walk(value: &mut Value, schema: &Structural, path: &Path<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    match value {
        Value::Object(fields) => {
            if schema.embedded {
                visit(fields, path)?;
            }
            for (name, value) in fields.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    walk(value, property, &path.child(name), visit)?;
                } else if let Some(others) = schema.additional.schema() {
                    walk(value, others, &path.key(name), visit)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for (index, item) in items.iter_mut().enumerate() {
                    walk(item, schema, &path.index(index), visit)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}
