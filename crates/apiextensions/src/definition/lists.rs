//! Lists and maps, as `x-kubernetes-list-type` and its like describe them.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use super::{Strictness, flag, given, is_set, list, text};

/// `x-kubernetes-list-type` and its like, each with what it wants around it.
pub(super) fn lists_and_maps(
    fields: &Map<String, Value>,
    strictness: Strictness,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Error::invalid(&at, false, "must be true or undefined"));
    }
    let kind = text(fields, "type");
    let of_type = path.child("type");
    let must_be = |wanted: &str, extension: &str| {
        let why = format!("must be {wanted} if {extension} is specified");
        match kind {
            "" => Error::required(&of_type, why),
            _ => Error::invalid(&of_type, kind, why),
        }
    };
    let (map_type, list_type) =
        (given(fields, "x-kubernetes-map-type"), given(fields, "x-kubernetes-list-type"));
    if let Some(map_type) = map_type {
        if kind != "object" {
            errors.push(must_be("object", "x-kubernetes-map-type"));
        }
        if !matches!(map_type, "atomic" | "granular") {
            let at = path.child("x-kubernetes-map-type");
            errors.push(Error::not_supported(&at, map_type, ["atomic", "granular"]));
        }
    }
    let keys: Vec<&str> =
        list(fields, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let at = path.child("x-kubernetes-list-type");
    if let Some(list_type) = list_type {
        if kind != "array" {
            errors.push(must_be("array", "x-kubernetes-list-type"));
        } else if strictness.atomic_sets {
            atomic_set(fields, path, errors);
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            errors.push(Error::not_supported(&at, list_type, ["atomic", "set", "map"]));
        }
    }
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => Error::required(&at, why),
            Some(other) => Error::invalid(&at, other, why),
        });
    }
    if list_type == Some("map") {
        map_list(fields, &keys, path, errors);
    }
    if strictness.keyed_maps {
        keyed_map(fields, path, errors);
    }
}

fn map_list(fields: &Map<String, Value>, keys: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    let (at, of_items) = (path.child("x-kubernetes-list-map-keys"), path.child("items"));
    if keys.is_empty() {
        errors.push(Error::required(&at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let items = match fields.get("items") {
        Some(Value::Object(items)) => items,
        None | Some(Value::Null) => {
            let why = "must have a schema if x-kubernetes-list-type is map";
            errors.push(Error::required(&of_items, why));
            return;
        }
        Some(other) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(Error::invalid(&of_items, other.clone(), why));
            return;
        }
    };
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&of_items.child("type"), kind, why));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let properties = of_items.child("properties");
        match items.get("properties").and_then(|all| all.get(*key)) {
            Some(property) if matches!(property["type"].as_str(), Some("array" | "object")) => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(Error::invalid(&properties.key(key).child("type"), kind, why));
            }
            Some(_) => {}
            None => errors.push(Error::invalid(
                &at,
                keys.to_vec(),
                "entries must all be names of item properties",
            )),
        }
        if keys[..index].contains(key) {
            errors.push(Error::invalid(&at, keys.to_vec(), "must not contain duplicate entries"));
        }
    }
}

/// Elements of a set are compared as a whole.
pub(super) fn atomic_set(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(items) = fields.get("items").and_then(Value::as_object) else { return };
    if given(fields, "x-kubernetes-list-type") != Some("set") {
        return;
    }
    let (list_type, map_type) =
        (given(items, "x-kubernetes-list-type"), given(items, "x-kubernetes-map-type"));
    let field = match text(items, "type") {
        "array" if list_type.is_some_and(|list_type| list_type != "atomic") => "x-kubernetes-list-type",
        "object" if map_type != Some("atomic") => "x-kubernetes-map-type",
        _ => return,
    };
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    // Upstream shows the list type in both cases.
    let shown = list_type.map_or(Value::Null, Value::from);
    errors.push(Error::invalid(&path.child("items").child(field), shown, why));
}

/// Elements of sets and maps, and keys of maps, are never absent.
pub(super) fn keyed_map(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(items) = fields.get("items").and_then(Value::as_object) else { return };
    let Some(list_type @ ("set" | "map")) = given(fields, "x-kubernetes-list-type") else { return };
    let of_items = path.child("items");
    if flag(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(&of_items.child("nullable"), why));
    }
    if list_type == "set" {
        return;
    }
    let required = list(items, "required");
    let properties = of_items.child("properties");
    for key in list(fields, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str) {
        let Some(property) = items.get("properties").and_then(|all| all.get(key)?.as_object()) else {
            continue;
        };
        let at = properties.key(key);
        if !required.iter().any(|name| name == key) && !is_set(property, "default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            errors.push(Error::required(&at.child("default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&at.child("nullable"), why));
        }
    }
}
