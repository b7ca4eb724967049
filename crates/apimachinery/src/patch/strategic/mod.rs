//! Strategic merge patch: a merge patch that knows from the field plan which lists merge, and by which key.
//!
//! Besides values and null (which removes), a patch may hold
//! - `$patch: replace | delete | merge` in an object or a list's element,
//! - `$deleteFromPrimitiveList/<field>`: scalars to take out of a merged list,
//! - `$setElementOrder/<field>`: the order of a merged list's elements,
//! - `$retainKeys`: of the object, only these keys survive.
//!
//! Rules and texts follow upstream's `apimachinery/pkg/util/strategicpatch` (see also the API conventions).

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::Error;
use crate::codec;
use crate::schema::{Field, Schema, Shape, TypeId};

const DIRECTIVE: &str = "$patch";
const DELETE_LIST: &str = "$deleteFromPrimitiveList";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Applies `patch` to `object`, an object of the type `ty`. Both in JSON form.
///
/// The result may hold nulls and unknown fields that the patch brought; reading it against the schema
/// removes or refuses them.
pub fn apply(schema: &Schema, ty: TypeId, object: Value, patch: Value) -> Result<Value, Error> {
    let Value::Object(patch) = patch else {
        return Err(Error::BadRequest("invalid JSON document".into()));
    };
    let object = match object {
        Value::Object(object) => object,
        _ => Object::new(),
    };
    let place = Place { schema, at: At::Struct(ty) };
    place.merge_map(object, patch).map(Value::Object)
}

/// Reads the patch from the request's body and applies it.
pub fn apply_bytes(schema: &Schema, ty: TypeId, object: Value, body: &[u8]) -> Result<Value, Error> {
    let (patch, _) = codec::json::parse(body).map_err(|e| Error::BadRequest(e.to_string()))?;
    apply(schema, ty, object, patch)
}

/// What is known of the object or the list's elements that are being merged.
#[derive(Clone, Copy)]
enum At<'a> {
    Struct(TypeId),
    /// A struct in Go that has no fields in JSON.
    Opaque(&'a str),
    /// Something else, under Go's name for its kind.
    Kind(&'static str),
}

#[derive(Clone, Copy)]
struct Place<'a> {
    schema: &'a Schema,
    at: At<'a>,
}

/// Go's name for what an error text prints.
fn go_type(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "%!s(<nil>)",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(n)) if n.is_f64() => "float64",
        Some(Value::Number(_)) => "int64",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "[]interface {}",
        Some(Value::Object(_)) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it.
pub(crate) fn go_print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => go_print_map(map),
        other => other.to_string(),
    }
}

/// A value as Go's `%s` prints it, which only texts are meant for.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => go_type(None).into(),
        Value::Bool(_) | Value::Number(_) => format!("%!s({}={value})", go_type(Some(value))),
        other => go_print(other),
    }
}

fn go_print_map(map: &Object) -> String {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    let entries: Vec<String> = entries.iter().map(|(k, v)| format!("{k}:{}", go_print(v))).collect();
    format!("map[{}]", entries.join(" "))
}

fn other<T>(message: String) -> Result<T, Error> {
    Err(Error::Other(message))
}

fn bad_type<T>(expected: &str, value: &Value) -> Result<T, Error> {
    other(format!("expected a {expected}, but received a {}", go_type(Some(value))))
}

fn no_merge_key<T>(map: &Object, key: &str) -> Result<T, Error> {
    other(format!("map: {} does not contain declared merge key: {key}", go_print_map(map)))
}

fn bad_order() -> Error {
    Error::BadRequest("invalid patch format of setElementOrder list".into())
}

fn bad_retain() -> Error {
    Error::BadRequest("invalid patch format of retainKeys".into())
}

fn as_list(value: &Value) -> Result<&Vec<Value>, Error> {
    value.as_array().map_or_else(|| bad_type("[]interface {}", value), Ok)
}

fn as_map(value: &Value) -> Result<&Object, Error> {
    value.as_object().map_or_else(|| bad_type("map[string]interface {}", value), Ok)
}

fn key_of<'v>(value: &'v Value, key: &str) -> Result<&'v Value, Error> {
    let map = as_map(value)?;
    map.get(key).map_or_else(|| no_merge_key(map, key), Ok)
}

/// What one element is known by: its merge key's value, or itself.
fn identity<'v>(value: &'v Value, key: Option<&str>) -> &'v Value {
    key.map_or(value, |key| value.get(key).unwrap_or(&Value::Null))
}

/// How many elements lists may have that are compared with each other, each with each.
const MAX_MERGED: usize = 10_000;

fn affordable(lengths: &[usize]) -> Result<(), Error> {
    if lengths.iter().sum::<usize>() <= MAX_MERGED {
        return Ok(());
    }
    Err(Error::TooLarge(format!("The allowed maximum elements in lists to be merged is {MAX_MERGED}")))
}

fn position(list: &[Value], wanted: &Value, key: Option<&str>) -> Option<usize> {
    let wanted = identity(wanted, key);
    list.iter().position(|value| identity(value, key) == wanted)
}

/// Whether all elements are of one type, and whether that is an object.
fn elements_are_maps(lists: [&[Value]; 2]) -> Result<bool, Error> {
    let mut all = lists.iter().copied().flatten();
    let Some(first) = all.next() else {
        return other("no elements in any of the given slices".into());
    };
    if first.is_array() {
        return Err(Error::Unprocessable("lists of lists are not supported".into()));
    }
    if all.any(|value| go_type(Some(value)) != go_type(Some(first))) {
        let lists: Vec<String> = lists.iter().map(|l| go_print(&Value::Array(l.to_vec()))).collect();
        return other(format!("list element types are not identical: [{}]", lists.join(" ")));
    }
    Ok(first.is_object())
}

fn remove_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => return None,
        Value::Object(map) => Value::Object(
            map.into_iter().filter_map(|(key, value)| Some((key, remove_directives(value)?))).collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().filter_map(remove_directives).collect()),
        scalar => scalar,
    })
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

fn same_sort(a: &Value, b: &Value) -> bool {
    matches!((a, b), (Value::Object(_), Value::Object(_)) | (Value::Array(_), Value::Array(_)))
}

impl<'a> Place<'a> {
    fn lookup(&self, key: &str) -> Result<&'a Field, Error> {
        let id = match self.at {
            At::Struct(id) => id,
            At::Opaque(name) => {
                return other(format!(
                    "unable to find api field in struct {name} for the json field {}",
                    crate::field::quote(key)
                ));
            }
            At::Kind(kind) => {
                return other(format!(
                    "merging an object in json but data type is not struct, instead is: {kind}"
                ));
            }
        };
        let schema: &'a Schema = self.schema;
        let ty = &schema[id];
        let loose = || ty.fields.iter().find(|f| f.name.eq_ignore_ascii_case(key));
        ty.field(key).or_else(loose).map_or_else(
            || {
                other(format!(
                    "unable to find api field in struct {} for the json field {}",
                    ty.short_name(),
                    crate::field::quote(key)
                ))
            },
            Ok,
        )
    }

    fn inside(&self, shape: &'a Shape) -> Place<'a> {
        let at = match shape {
            Shape::Message(id) => At::Struct(*id),
            Shape::String | Shape::Bytes => At::Kind("string"),
            Shape::Bool => At::Kind("bool"),
            Shape::Int32 => At::Kind("int32"),
            Shape::Int64 => At::Kind("int64"),
            Shape::Double => At::Kind("float64"),
            Shape::List(_) => At::Kind("slice"),
            Shape::Map(_) => At::Kind("map"),
            Shape::RawExtension => At::Opaque("RawExtension"),
            Shape::FieldsV1 => At::Opaque("FieldsV1"),
            Shape::Json => At::Opaque("JSON"),
            Shape::SchemaOrBool(_) => At::Opaque("JSONSchemaPropsOrBool"),
            Shape::SchemaOrArray(_) => At::Opaque("JSONSchemaPropsOrArray"),
            Shape::SchemaOrStrings(_) => At::Opaque("JSONSchemaPropsOrStringArray"),
            Shape::Quantity => At::Opaque("Quantity"),
            Shape::IntOrString => At::Opaque("IntOrString"),
            Shape::Time => At::Opaque("Time"),
            Shape::MicroTime => At::Opaque("MicroTime"),
            Shape::Duration => At::Opaque("Duration"),
        };
        Place { schema: self.schema, at }
    }

    /// The elements of the list at `key`, and how the list merges.
    fn lookup_list(&self, key: &str) -> Result<(Place<'a>, &'a Field), Error> {
        let field = self.lookup(key)?;
        match &field.shape {
            Shape::List(list) if matches!(list.element, Shape::List(_)) => {
                other("unexpected slice of slice".into())
            }
            Shape::List(list) => Ok((self.inside(&list.element), field)),
            _ => other("expected slice or array type, but got: struct".into()),
        }
    }

    fn merge_map(&self, mut object: Object, mut patch: Object) -> Result<Object, Error> {
        if let Some(directive) = patch.get(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => {
                    patch.remove(DIRECTIVE);
                    Ok(patch)
                }
                Some("delete") => Ok(Object::new()),
                _ => other(format!(
                    "unknown patch type: {} in map: {}",
                    go_text(directive),
                    go_print_map(&patch)
                )),
            };
        }
        retain_keys(&mut object, &mut patch)?;
        self.order_lists(&mut object, &mut patch)?;
        for (key, mut value) in patch {
            let (key, from_list) = match key.strip_prefix(DELETE_LIST) {
                None => (key, false),
                Some(rest) => match rest.strip_prefix('/') {
                    Some(field) => (field.to_string(), true),
                    None => return Err(Error::BadRequest("invalid patch format of primitive list".into())),
                },
            };
            if value.is_null() {
                object.remove(&key);
                continue;
            }
            let old = match object.get_mut(&key) {
                Some(old) if same_sort(old, &value) => old.take(),
                Some(old) if !from_list => {
                    discard_nulls(&mut value);
                    match remove_directives(value) {
                        Some(value) => *old = value,
                        None => {
                            object.remove(&key);
                        }
                    }
                    continue;
                }
                Some(_) => continue,
                None => {
                    if !from_list {
                        discard_nulls(&mut value);
                        if let Some(value) = remove_directives(value) {
                            object.insert(key, value);
                        }
                    }
                    continue;
                }
            };
            let merged = match (old, value) {
                (Value::Object(old), Value::Object(new)) => {
                    let field = self.lookup(&key)?;
                    match field.patch.replace {
                        true => Value::Object(new),
                        false => Value::Object(self.inside(&field.shape).merge_map(old, new)?),
                    }
                }
                (Value::Array(old), Value::Array(new)) => {
                    let (elements, field) = self.lookup_list(&key)?;
                    Value::Array(elements.merge_list(field, old, new, from_list)?.0)
                }
                (_, new) => new,
            };
            object.insert(key, merged);
        }
        Ok(object)
    }

    /// The merged list, and the order that `$setElementOrder` has to take as the object's own. That is the
    /// order of the old elements, but where the patch deletes some, the first new ones take their places:
    /// upstream works on the old list's memory, and clients' patches are made with that in mind.
    fn merge_list(
        &self,
        field: &Field,
        old: Vec<Value>,
        new: Vec<Value>,
        from_list: bool,
    ) -> Result<(Vec<Value>, Vec<Value>), Error> {
        if !field.patch.merge && !from_list {
            return Ok((new, old));
        }
        if old.is_empty() && new.is_empty() {
            return Ok((old, new));
        }
        affordable(&[old.len(), new.len()])?;
        let key = field.patch.key.as_deref();
        if !elements_are_maps([&old, &new])? {
            if from_list {
                return Ok((old.iter().filter(|value| !new.contains(value)).cloned().collect(), old));
            }
            let mut merged: Vec<Value> = Vec::with_capacity(old.len() + new.len());
            for value in old.iter().chain(&new) {
                if !merged.contains(value) {
                    merged.push(value.clone());
                }
            }
            let (mine, rest) = partition(merged, &new, None)?;
            return Ok((normalize(mine, rest, &new, &old, None)?, old));
        }
        let Some(key) = key else {
            let kind = match self.at {
                At::Kind(kind) => kind,
                _ => "struct",
            };
            return other(format!("cannot merge lists without merge key for {kind}"));
        };
        let length = old.len();
        let (mut base, new) = special_elements(old, new, key)?;
        let order = base.clone();
        for element in &new {
            let wanted = key_of(element, key)?;
            let mut found = None;
            for (at, candidate) in base.iter().enumerate() {
                let Value::Object(map) = candidate else {
                    return other(format!("value for key {at} is not a map"));
                };
                if map.get(key) == Some(wanted) {
                    found = Some(at);
                    break;
                }
            }
            match (found, element) {
                (Some(at), Value::Object(element)) => {
                    let Value::Object(map) = base[at].take() else { continue };
                    base[at] = Value::Object(self.merge_map(map, element.clone())?);
                }
                _ => base.push(element.clone()),
            }
        }
        let reused: Vec<Value> = base.iter().take(length.max(order.len())).cloned().collect();
        let (mine, rest) = partition(base, &new, Some(key))?;
        Ok((normalize(mine, rest, &new, &order, Some(key))?, reused))
    }

    /// Carries out `$setElementOrder/<field>` directives, together with the patch of the field itself.
    fn order_lists(&self, object: &mut Object, patch: &mut Object) -> Result<(), Error> {
        let directives: Vec<String> =
            patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
        for directive in directives {
            let Some(order) = patch.remove(&directive) else { continue };
            let order = as_list(&order)?;
            let key = directive
                .strip_prefix(ELEMENT_ORDER)
                .and_then(|rest| rest.strip_prefix('/'))
                .ok_or_else(bad_order)?;
            let old = object.get(key).map(as_list).transpose()?.cloned();
            let new = patch.get(key).map(as_list).transpose()?.cloned();
            let (elements, field) = self.lookup_list(key)?;
            let merge_key = field.patch.key.as_deref();
            check_order(new.as_deref().unwrap_or_default(), order, merge_key)?;
            if old.is_none() && new.is_none() {
                continue;
            }
            elements_are_maps([old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default()])?;
            let (merged, server) = match (old, new) {
                (Some(old), None) => (old.clone(), old),
                (None, Some(new)) => (new.into_iter().filter_map(remove_directives).collect(), Vec::new()),
                (Some(old), Some(new)) => elements.merge_list(field, old, new, false)?,
                (None, None) => (Vec::new(), Vec::new()),
            };
            affordable(&[merged.len(), order.len(), server.len()])?;
            let (mine, rest) = partition(merged, order, merge_key)?;
            let ordered = normalize(mine, rest, order, &server, merge_key)?;
            object.insert(key.to_string(), Value::Array(ordered));
            patch.remove(key);
        }
        Ok(())
    }
}

/// `$retainKeys`: every key of the patch must be among them, and others leave the object.
fn retain_keys(object: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or_else(bad_retain)?;
    affordable(&[keys.len()])?;
    let listed = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let directive = |key: &str| key.starts_with(DELETE_LIST) || key.starts_with(ELEMENT_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !listed(key)) {
        return Err(bad_retain());
    }
    object.retain(|key, _| listed(key));
    Ok(())
}

/// Carries out the `$patch` elements of a list: what remains of the old elements, and the plain new ones.
fn special_elements(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut plain, mut replace) = (Vec::with_capacity(new.len()), false);
    for element in new {
        let map = as_map(&element)?;
        match map.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
            None => plain.push(element),
            Some("delete") => {
                let wanted = key_of(&element, key)?;
                if let Some(at) = old.iter().position(|v| !v.is_object()) {
                    return other(format!("value for key {at} is not a map"));
                }
                old.retain(|value| value.get(key) != Some(wanted));
            }
            Some("replace") => replace = true,
            Some("merge") => return other("merging lists cannot yet be specified in the patch".into()),
            Some(_) => {
                return other(format!(
                    "unknown patch type: {} in map: {}",
                    go_text(&element[DIRECTIVE]),
                    go_print_map(map)
                ));
            }
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (old, plain) })
}

/// The elements of the patched list must come in the order that the directive states.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut expected = order.iter();
    for element in patch {
        if key.is_some() {
            as_map(element)?;
        }
        if element.get(DIRECTIVE).is_some() {
            continue;
        }
        loop {
            let Some(next) = expected.next() else {
                return other(format!(
                    "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n",
                    go_print(&Value::Array(patch.to_vec())),
                    go_print(&Value::Array(order.to_vec()))
                ));
            };
            let same = match key {
                Some(key) => key_of(element, key)? == key_of(next, key)?,
                None => element == next,
            };
            if same {
                break;
            }
        }
    }
    Ok(())
}

/// Those elements that `by` names too, and the rest.
fn partition(list: Vec<Value>, by: &[Value], key: Option<&str>) -> Result<(Vec<Value>, Vec<Value>), Error> {
    if let Some(key) = key {
        list.iter().try_for_each(|value| key_of(value, key).map(|_| ()))?;
        if !list.is_empty()
            && let Some(at) = by.iter().position(|value| !value.is_object())
        {
            return other(format!("value for key {at} is not a map"));
        }
    }
    Ok(list.into_iter().partition(|value| position(by, value, key).is_some()))
}

/// Puts the elements of the patch in its order, the others in the object's, and weaves both together such
/// that the object's order holds where both know it.
fn normalize(
    mine: Vec<Value>,
    rest: Vec<Value>,
    order: &[Value],
    old: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, Error> {
    if let Some(key) = key {
        mine.iter().chain(order).chain(&rest).chain(old).try_for_each(|v| key_of(v, key).map(|_| ()))?;
    }
    let mut right = sorted(mine, order, key).into_iter().peekable();
    let mut left = sorted(rest, old, key).into_iter().peekable();
    let mut all = Vec::with_capacity(right.len() + left.len());
    loop {
        let from_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(all),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => {
                let (l, r) = (position(old, l, key), position(old, r, key));
                l.zip(r).is_some_and(|(l, r)| l < r)
            }
        };
        all.extend(if from_left { left.next() } else { right.next() });
    }
}

/// Sorted by the place in `order`; elements to be deleted last. An element that `order` does not know goes
/// before those that came earlier, which is what upstream's comparison amounts to.
fn sorted(list: Vec<Value>, order: &[Value], key: Option<&str>) -> Vec<Value> {
    let deleted = |value: &Value| key.is_some() && value.get(DIRECTIVE).is_some_and(|d| d == "delete");
    let (deleted, list): (Vec<Value>, Vec<Value>) = list.into_iter().partition(deleted);
    let mut places: Vec<(Option<usize>, Value)> =
        list.into_iter().map(|value| (position(order, &value, key), value)).collect();
    if places.iter().all(|(at, _)| at.is_some()) {
        places.sort_by_key(|(at, _)| *at);
    } else {
        for end in 1..places.len() {
            let mut at = end;
            while at > 0 && before(places[at].0, places[at - 1].0) == Ordering::Less {
                places.swap(at, at - 1);
                at -= 1;
            }
        }
    }
    places.into_iter().map(|(_, value)| value).chain(deleted).collect()
}

fn before(a: Option<usize>, b: Option<usize>) -> Ordering {
    a.zip(b).map_or(Ordering::Less, |(a, b)| a.cmp(&b))
}

#[cfg(test)]
mod tests;
