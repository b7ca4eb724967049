//! Small checks that validation of many kinds shares. Each appends its faults to the list.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::Value;

/// A text field; empty when absent.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A list field; empty when absent.
pub fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn int(value: &Value, field: &str) -> Option<i64> {
    value.get(field).and_then(Value::as_i64)
}

pub fn flag(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// A field that is there and not null.
pub fn present<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value.get(field).filter(|value| !value.is_null())
}

/// The entries of a map field; none when absent.
pub fn entries<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(field).and_then(Value::as_object).into_iter().flatten()
}

/// Every message about a value as an `Invalid`.
pub fn messages(faults: Vec<String>, value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    errors.extend(faults.into_iter().map(|fault| Error::invalid(path, value.clone(), fault)));
}

pub fn label(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    messages(names::is_dns1123_label(value), &value.into(), path, errors);
}

pub fn subdomain(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    messages(names::is_dns1123_subdomain(value), &value.into(), path, errors);
}

/// One of the values that upstream names in its answer; empty is "required".
pub fn one_of(value: &str, supported: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !supported.contains(&value) {
        errors.push(Error::not_supported(path, value, supported));
    }
}

/// The same where leaving it out is allowed.
pub fn one_of_if_set(value: Option<&Value>, supported: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(value) = value.and_then(Value::as_str)
        && !supported.contains(&value)
    {
        errors.push(Error::not_supported(path, value, supported));
    }
}

/// Upstream's `ValidateNonnegativeField`.
pub fn not_negative(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(value) = int(object, field)
        && value < 0
    {
        errors.push(Error::invalid(&path.child(field), value, "must be greater than or equal to 0"));
    }
}

/// A port's number or its name.
pub fn port(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match value {
        Value::String(name) => messages(names::is_port_name(name), value, path, errors),
        other => {
            let number = other.as_i64().unwrap_or(0);
            messages(names::is_port_number(number), &number.into(), path, errors);
        }
    }
}

/// A quantity that parses (the schema has seen to that) and is not negative.
pub fn quantity(value: &Value, path: &Path<'_>, errors: &mut ErrorList) -> Option<Quantity> {
    let quantity = Quantity::from_value(value).ok()?;
    if quantity.sign() < 0 {
        errors.push(Error::invalid(path, quantity.canonical(), "must be greater than or equal to 0"));
    }
    Some(quantity)
}

/// A file's mode.
pub fn mode(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(mode) = int(object, field)
        && !(0..=0o777).contains(&mode)
    {
        let text = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(Error::invalid(&path.child(field), mode, text));
    }
}

/// A relative path without `..`.
pub fn descending(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if value.starts_with('/') {
        errors.push(Error::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(value, path, errors);
}

pub fn no_backsteps(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if value.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, value, "must not contain '..'"));
    }
}

/// A field that cannot change after creation.
pub fn immutable(new: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if new != old {
        errors.push(Error::invalid(path, new.clone(), "field is immutable"));
    }
}

/// A qualified name such as a resource's or an annotation's.
pub fn qualified(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    messages(names::is_qualified_name(value), &value.into(), path, errors);
}

/// Annotations of an object's or a template's metadata: qualified names in any case, 256 KiB in all.
pub fn annotations(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const MOST: usize = 256 * 1024;
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        messages(names::is_qualified_name(&key.to_lowercase()), &key.as_str().into(), path, errors);
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > MOST {
        errors.push(Error::too_long(path, MOST));
    }
}
