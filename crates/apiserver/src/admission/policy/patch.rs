//! What a mutation's expression evaluated to, carried out on the object (upstream's `plugin/policy/mutating/patch`).

use apimachinery::codec::normal;
use apimachinery::gvk::GroupVersionKind;
use apimachinery::managed_fields;
use apimachinery::patch::json;
use apimachinery::schema::{Schema, TypeId};
use apimachinery::status::Status;
use cel::{List, Map as CelMap, Value as Cel};
use serde_json::{Map, Value};

use super::Target;
use crate::conversion;

/// Why a mutation was not made.
pub(super) enum Failure {
    /// Up to the policy's failure policy.
    Policy(String),
    /// The answer, whatever the policy says.
    Request(Box<Status>),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Policy(why)
    }
}

/// Lays an `Object{…}` over `object`.
///
/// # Errors
/// Names of types that do not lead where they stand; a configuration that does not fit the type.
pub(super) fn apply(
    value: &Cel<'_>,
    (schema, ty): (&Schema, TypeId),
    object: &Value,
) -> Result<Value, Failure> {
    check_names(value)?;
    let why = |why: cel::Error| Failure::Policy(format!("invalid return type: {why}"));
    let mut config = value.to_json().map_err(why)?;
    if let Some(config) = config.as_object_mut() {
        for field in ["apiVersion", "kind"] {
            config.insert(field.to_owned(), object[field].clone());
        }
    }
    let mut patched = object.clone();
    managed_fields::overlay(schema, ty, &mut patched, &config)
        .map_err(|why| format!("error applying patch: {why}"))?;
    Ok(patched)
}

/// Carries out a list of `JSONPatch{…}`. One of which a test fails changes nothing.
///
/// # Errors
/// Operations that are none, or that cannot be carried out.
pub(super) fn patch(value: &Cel<'_>, object: &Value) -> Result<Value, Failure> {
    let Cel::List(list) = value else {
        let why = "type mismatch: JSONPatchType.expression should evaluate to array";
        return Err(Failure::Policy(why.into()));
    };
    let mut operations = Vec::with_capacity(list.len());
    for one in list.iter() {
        operations.push(operation(&one.map_err(|why| why.to_string())?)?);
    }
    let failed = |why: String| Failure::Policy(format!("JSON Patch: {why}"));
    let patch =
        json::Patch::from_value(Value::Array(operations)).map_err(|error| failed(error.to_string()))?;
    match patch.apply(object.clone()) {
        Ok(patched) => Ok(patched),
        Err(error) if error.to_string().ends_with("test failed") => Ok(object.clone()),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn operation(value: &Cel<'_>) -> Result<Value, Failure> {
    let Cel::Constructed(patch) = value else {
        let why = format!(
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {}",
            value.type_name()
        );
        return Err(Failure::Policy(why));
    };
    let mut operation = Map::new();
    for (name, required) in [("op", true), ("path", true), ("from", false)] {
        let text = patch.fields.get(name).and_then(Cel::as_str).unwrap_or_default();
        if required || !text.is_empty() {
            operation.insert(name.to_owned(), text.into());
        }
    }
    if let Some(value) = patch.fields.get("value") {
        if matches!(value, Cel::Constructed(_)) {
            check_names(value)?;
        }
        let value = value.to_json().map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?;
        operation.insert("value".to_owned(), value);
    }
    Ok(Value::Object(operation))
}

/// Brings what came out into normal form, with defaults, as if a client had sent it.
///
/// # Errors
/// 500 for what is not of the type.
pub(super) fn settle(
    mut value: Value,
    target: &Target<'_>,
    (schema, ty): (&Schema, TypeId),
    kind: &GroupVersionKind,
) -> Result<Value, Failure> {
    let refuse = |why: String| Failure::Request(Box::new(Status::internal(why)));
    if let Some(custom) = target.custom() {
        custom.coerce(&mut value).map_err(refuse)?;
        custom.default(&mut value).map_err(|why| Failure::Request(Box::new(why)))?;
        return Ok(value);
    }
    let decoded = normal::conform(schema, ty, value).map_err(|why| refuse(why.to_string()))?;
    if let Some(why) = decoded.strict_error() {
        return Err(refuse(why));
    }
    let mut object = decoded.value;
    conversion::agree(&kind.group, &kind.kind, &mut object);
    kinds::defaults::apply(ty, &mut object);
    Ok(object)
}

/// That `Object.spec.template{}` stands at `spec.template`.
fn check_names(value: &Cel<'_>) -> Result<(), Failure> {
    let mut errors = Vec::new();
    if let Cel::Constructed(object) = value {
        names(value, &object.name, &mut errors);
    }
    match errors.as_slice() {
        [] => Ok(()),
        errors => Err(Failure::Policy(format!("type mismatch: {}", errors.join("\n")))),
    }
}

fn names(value: &Cel<'_>, path: &str, errors: &mut Vec<String>) {
    match value {
        Cel::Constructed(object) => {
            if *object.name != *path {
                errors.push(format!(
                    "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    object.name
                ));
            }
            for (field, value) in &object.fields {
                names(value, &format!("{path}.{field}"), errors);
            }
        }
        Cel::List(List::Owned { items, .. }) => items.iter().for_each(|item| names(item, path, errors)),
        Cel::List(List::Joined { parts, .. }) => {
            for part in [&parts.0, &parts.1] {
                names(&Cel::List(part.clone()), path, errors);
            }
        }
        Cel::Map(CelMap::Owned(entries)) => {
            entries.values().for_each(|(_, value)| names(value, path, errors));
        }
        _ => {}
    }
}
