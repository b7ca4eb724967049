//! What claims, classes and slices have in common: lists with a limit, names of pools and attributes, selectors,
//! configuration, taints.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::validate_label_name;
use apimachinery::names;
use serde_json::Value;

use super::selector::{self, Fault};
use crate::check::{entries, items, label, messages, present, subdomain, text};
use crate::meta::csi_driver_name;

/// Bytes of a selector's expression, and of a configuration's parameters.
const MOST_EXPRESSION: usize = 10 * 1024;
pub const MOST_PARAMETERS: usize = 10 * 1024;
/// Selectors of a request or class; entries of a configuration.
const MOST_SELECTORS: usize = 32;
/// The longest domain and the longest identifier of an attribute's or capacity's name.
const DOMAIN_MAX: usize = 63;
const IDENTIFIER_MAX: usize = 32;

pub type Check<'c> = &'c mut dyn FnMut(&Value, &Path<'_>, &mut ErrorList);

/// Every fault of the items, unless there are too many of them: then only that.
pub fn list(list: &[Value], most: usize, path: &Path<'_>, errors: &mut ErrorList, check: Check<'_>) {
    if list.len() > most {
        errors.push(Error::too_many(path, list.len(), most));
        return;
    }
    for (index, item) in list.iter().enumerate() {
        check(item, &path.index(index), errors);
    }
}

/// As [`list`], and that keys are told apart.
pub fn set(
    all: &[Value],
    most: usize,
    key: fn(&Value) -> String,
    path: &Path<'_>,
    errors: &mut ErrorList,
    check: Check<'_>,
) {
    list(all, most, path, errors, check);
    if all.len() > most {
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in all.iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            errors.push(Error::duplicate(&path.index(index), key));
        } else {
            seen.insert(key);
        }
    }
}

pub fn by_name(item: &Value) -> String {
    text(item, "name").to_owned()
}

pub fn by_itself(item: &Value) -> String {
    item.as_str().unwrap_or_default().to_owned()
}

/// Every fault of a map's keys (told at the map) and values (told at the key).
pub fn map(
    object: &Value,
    field: &str,
    longest_key: usize,
    path: &Path<'_>,
    errors: &mut ErrorList,
    key_rule: fn(&str, &Path<'_>, &mut ErrorList),
    check: Check<'_>,
) {
    let path = path.child(field);
    for (key, value) in entries(object, field) {
        key_rule(key, &path, errors);
        check(value, &path.key(&shortened(key, longest_key.max(16))), errors);
    }
}

/// A text of at most so many bytes, dots in the middle standing for the rest.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let rest = most - 3;
    let head = text.floor_char_boundary(rest.div_ceil(2));
    let tail = text.ceil_char_boundary(text.len() - rest / 2);
    format!("{}...{}", &text[..head], &text[tail..])
}

/// Subdomains, with slashes between them.
pub fn pool_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > names::SUBDOMAIN_MAX {
        errors.push(Error::too_long(path, names::SUBDOMAIN_MAX));
    }
    for part in name.split('/') {
        subdomain(part, path, errors);
    }
}

/// `name` or `domain/name`, as attributes and capacities are called.
pub fn qualified_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [name] => identifier(name, path, errors),
        [domain, name] => {
            match *domain {
                "" => errors.push(Error::invalid(path, "", "the domain must not be empty")),
                domain => csi_driver_name(domain, path, errors),
            }
            match *name {
                "" => errors.push(Error::invalid(path, "", "the name must not be empty")),
                name => identifier(name, path, errors),
            }
        }
        // More than one slash: upstream lets that pass.
        _ => {}
    }
}

pub const QUALIFIED_MAX: usize = DOMAIN_MAX + 1 + IDENTIFIER_MAX;

pub fn fully_qualified_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    qualified_name(name, path, errors);
    if !name.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(Error::invalid(path, name, why));
    }
}

fn identifier(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.len() > IDENTIFIER_MAX {
        errors.push(Error::too_long(path, IDENTIFIER_MAX));
    }
    messages(names::is_c_identifier(name), &name.into(), path, errors);
}

/// A UUID in lower case with its dashes.
pub fn uid(uid: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let dashed = |text: &str| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    let fault = match uid.len() {
        36 => (!dashed(uid)).then(|| "invalid UUID format".to_owned()),
        45 => match uid.get(..9) {
            Some(prefix) if prefix.eq_ignore_ascii_case("urn:uuid:") => {
                (!uid.get(9..).is_some_and(dashed)).then(|| "invalid UUID format".to_owned())
            }
            prefix => Some(format!("invalid urn prefix: {:?}", prefix.unwrap_or_default())),
        },
        38 => match uid.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inner) => (!dashed(inner)).then(|| "invalid UUID format".to_owned()),
            None => Some("invalid bracketed UUID format".to_owned()),
        },
        32 => (!uid.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| "invalid UUID format".to_owned()),
        length => Some(format!("invalid UUID length: {length}")),
    };
    if let Some(fault) = fault {
        errors.push(Error::invalid(path, uid, format!("error validating uid: {fault}")));
    } else if uid.len() != 36 || uid.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                   hexadecimal characters";
        errors.push(Error::invalid(path, uid, why));
    }
}

/// The selectors of a request or a class.
pub fn selectors(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    list(
        items(object, "selectors"),
        MOST_SELECTORS,
        &path.child("selectors"),
        errors,
        &mut |selector, at, errors| {
            let at = at.child("cel");
            let Some(cel) = present(selector, "cel") else {
                errors.push(Error::required(&at, ""));
                return;
            };
            let (source, at) = (text(cel, "expression"), at.child("expression"));
            if source.len() > MOST_EXPRESSION {
                errors.push(Error::too_long(&at, MOST_EXPRESSION));
                return;
            }
            match selector::fault(source) {
                None => {}
                Some(Fault::Invalid(why)) => errors.push(Error::invalid(&at, source, why)),
                Some(Fault::TooComplex) => {
                    errors.push(Error::forbidden(&at, "too complex, exceeds cost limit"));
                }
            }
        },
    );
}

/// Configuration that only a driver understands. What is `stored` may be longer than is allowed today.
pub fn configuration(config: &Value, stored: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child("opaque");
    let Some(opaque) = present(config, "opaque") else {
        errors.push(Error::required(&path, ""));
        return;
    };
    csi_driver_name(text(opaque, "driver"), &path.child("driver"), errors);
    raw(opaque, "parameters", stored, &path, errors);
}

/// An object of unknown shape.
pub fn raw(object: &Value, field: &str, stored: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child(field);
    match present(object, field) {
        None => errors.push(Error::required(&path, "")),
        Some(value) if !stored && value.to_string().len() > MOST_PARAMETERS => {
            errors.push(Error::too_long(&path, MOST_PARAMETERS));
        }
        Some(value) if !value.is_object() => {
            errors.push(Error::invalid(&path, "<value omitted>", "must be a valid JSON object"));
        }
        Some(_) => {}
    }
}

/// What a taint or a toleration does to claims, as upstream lists it.
pub const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// A taint of a device; the effect of one that had it before is not looked at.
pub fn taint(taint: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
    errors.extend(validate_label_name(text(taint, "key"), &path.child("key")));
    label_value(text(taint, "value"), &path.child("value"), errors);
    let effect = text(taint, "effect");
    if old.is_none_or(|old| text(old, "effect") != effect) {
        crate::check::one_of(effect, &EFFECTS, &path.child("effect"), errors);
    }
}

pub fn label_value(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    messages(names::is_label_value(value), &value.into(), path, errors);
}

/// Conditions of a device that have to be met, or must not come up, before a pod is bound.
pub fn binding_conditions(device: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const MOST: usize = 4;
    let fields = ["bindingConditions", "bindingFailureConditions"];
    let of = |field: &str| items(device, field);
    for field in fields {
        list(of(field), MOST, &path.child(field), errors, &mut |name, at, errors| {
            errors.extend(validate_label_name(name.as_str().unwrap_or_default(), at));
        });
    }
    for field in fields {
        let path = path.child(field);
        for (index, name) in of(field).iter().enumerate() {
            if of(field).iter().take(index).any(|earlier| earlier == name) {
                errors.push(Error::duplicate(&path.index(index), name.clone()));
            }
            if field == "bindingFailureConditions" && of("bindingConditions").contains(name) {
                let why = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(Error::invalid(&path.index(index), name.clone(), why));
            }
        }
    }
    for (field, other) in [(fields[0], fields[1]), (fields[1], fields[0])] {
        if of(field).is_empty() && !of(other).is_empty() {
            let why = format!("{field} are required to use {other}");
            errors.push(Error::invalid(&path.child(field), Value::Null, why));
        }
    }
}

/// The name of a device, counter or request.
pub fn name(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    label(text(object, field), &path.child(field), errors);
}

/// The texts of a list, as set keys and in answers.
pub fn quoted_fields(fields: &[&str]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    format!("{{{}}}", quoted.join(", "))
}
