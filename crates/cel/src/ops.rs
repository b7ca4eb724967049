//! What the operators do: equality, order, addition, membership.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::decl_type::{DeclType, Kind, ListType};
use crate::error::Error;
use crate::numbers;
use crate::value::{List, Map, Result, Text, Value};

/// Comparisons within one: lists can hold the same list many times over, so that a short expression can make values
/// that take for ever to compare.
const COMPARISONS: u32 = 10_000_000;

/// # Errors
/// Values of Kubernetes' types, and declared data, cannot be compared with something else.
pub fn equal(one: &Value<'_>, other: &Value<'_>) -> Result<bool> {
    let mut left = COMPARISONS;
    equal_within(one, other, &mut left)
}

fn equal_within(one: &Value<'_>, other: &Value<'_>, left: &mut u32) -> Result<bool> {
    *left = left.checked_sub(1).ok_or(Error::CostExceeded)?;
    Ok(match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::String(one), Value::String(other)) => **one == **other,
        (Value::Bytes(one), Value::Bytes(other)) => one == other,
        (Value::Duration(one), Value::Duration(other)) => one == other,
        (Value::Timestamp(one), Value::Timestamp(other)) => one.order() == other.order(),
        (Value::Type(one), Value::Type(other)) => one == other,
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => {
            !numbers::is_nan(one)
                && !numbers::is_nan(other)
                && numbers::compare(one, other) == Some(Ordering::Equal)
        }
        (Value::List(one), Value::List(other)) => lists_equal(one, other, left)?,
        (Value::Map(one), Value::Map(other)) => maps_equal(one, other, left)?,
        (Value::Optional(one), Value::Optional(other)) => match (one, other) {
            (Some(one), Some(other)) => equal_within(one, other, left)?,
            (one, other) => one.is_none() && other.is_none(),
        },
        (Value::Quantity(one), Value::Quantity(other)) => one == other,
        (Value::Url(one), Value::Url(other)) => one.to_string() == other.to_string(),
        (Value::Ip(one), Value::Ip(other)) => one == other,
        (Value::Cidr(one), Value::Cidr(other)) => one == other,
        (Value::Semver(one), Value::Semver(other)) => one.order(other) == Ordering::Equal,
        (Value::Format(one), Value::Format(other)) => one.name == other.name,
        (Value::Constructed(one), Value::Constructed(other)) => {
            if one.name != other.name || one.fields.len() != other.fields.len() {
                return Ok(false);
            }
            for ((name, value), (other_name, other_value)) in one.fields.iter().zip(&other.fields) {
                if name != other_name || !equal_within(value, other_value, left)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Preserved(one), other) | (other, Value::Preserved(one)) => {
            other.to_json().is_ok_and(|other| **one == other)
        }
        (one, _) if refuses_others(one) => return Err(Error::no_such_overload()),
        _ => false,
    })
}

/// What cannot be compared with values of other types.
fn refuses_others(value: &Value<'_>) -> bool {
    match value {
        Value::Quantity(_)
        | Value::Url(_)
        | Value::Ip(_)
        | Value::Cidr(_)
        | Value::Semver(_)
        | Value::Format(_)
        | Value::Authz(_) => true,
        Value::List(list) => list.declared().is_some(),
        Value::Map(Map::Json { declared, .. }) => declared.is_some(),
        _ => false,
    }
}

fn list_type(declared: Option<&DeclType>) -> Option<&ListType> {
    match declared.map(|it| &it.kind) {
        Some(Kind::List { list_type, .. }) => Some(list_type),
        _ => None,
    }
}

fn lists_equal(one: &List<'_>, other: &List<'_>, left: &mut u32) -> Result<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    match list_type(one.declared()) {
        Some(ListType::Set) => {
            let known: BTreeSet<_> = one.iter().map(|it| it.map(|it| it.key())).collect::<Result<_>>()?;
            for item in other.iter() {
                if !known.contains(&item?.key()) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Some(ListType::Map(keys)) => {
            let mut known = std::collections::BTreeMap::new();
            for item in one.iter() {
                let item = item?;
                known.insert(map_key(&item, keys)?, item);
            }
            for item in other.iter() {
                let item = item?;
                match known.get(&map_key(&item, keys)?) {
                    Some(mine) if equal_within(mine, &item, left)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => {
            let declared = one.declared().is_some();
            for (one, other) in one.iter().zip(other.iter()) {
                match equal_within(&one?, &other?, left) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(error) if declared || error.is_final() => return Err(error),
                    // Undeclared lists take what cannot be compared for equal, as the reference does.
                    Err(_) => {}
                }
            }
            Ok(true)
        }
    }
}

/// The key of an item of a list of the type `map`, as text.
fn map_key(item: &Value<'_>, keys: &[String]) -> Result<String> {
    let Value::Map(map) = item else {
        return Err(Error::new(
            "unexpected data format for element of array with x-kubernetes-list-type=map",
        ));
    };
    let mut text = String::new();
    for key in keys {
        let name = crate::escaping::escape(key);
        if let Some(value) = map.field(name.as_deref().unwrap_or(key))? {
            text.push_str(&serde_json::to_string(&value.to_json()?).unwrap_or_default());
        }
        text.push('\0');
    }
    Ok(text)
}

fn maps_equal(one: &Map<'_>, other: &Map<'_>, left: &mut u32) -> Result<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    if let (Map::Json { object, declared: Some(_) }, Map::Json { object: others, declared: Some(_) }) =
        (one, other)
        && std::ptr::eq(*object, *others)
    {
        return Ok(true);
    }
    for key in one.keys() {
        match (one.find(&key)?, other.find(&key)?) {
            (Some(one), Some(other)) => {
                if !equal_within(&one, &other, left)? {
                    return Ok(false);
                }
            }
            (None, None) => {}
            _ => return Ok(false),
        }
    }
    // What is not declared is compared as it is.
    if let (Map::Json { object, declared: Some(declared) }, Map::Json { object: others, .. }) = (one, other)
        && let Kind::Object(known) = &declared.kind
    {
        let unknown = object.iter().filter(|(name, _)| !known.properties.contains_key(*name));
        for (name, value) in unknown {
            if others.get(name).is_some_and(|it: &Json| it != value) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// # Errors
/// Values that have no order between them.
pub fn compare(one: &Value<'_>, other: &Value<'_>) -> Result<Ordering> {
    Ok(match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::String(one), Value::String(other)) => (**one).cmp(&**other),
        (Value::Bytes(one), Value::Bytes(other)) => one.cmp(other),
        (Value::Duration(one), Value::Duration(other)) => one.cmp(other),
        (Value::Timestamp(one), Value::Timestamp(other)) => one.order().cmp(&other.order()),
        _ => {
            let order = numbers::compare(one, other).ok_or_else(Error::no_such_overload)?;
            if numbers::is_nan(one) || numbers::is_nan(other) {
                return Err(Error::new("NaN values cannot be ordered"));
            }
            order
        }
    })
}

/// # Errors
/// Overflow; values that cannot be added.
pub fn add<'a>(one: &Value<'a>, other: &Value<'a>) -> Result<Value<'a>> {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => numbers::int(one.checked_add(*other)),
        (Value::Uint(one), Value::Uint(other)) => numbers::uint(one.checked_add(*other)),
        (Value::Double(one), Value::Double(other)) => Ok(Value::Double(one + other)),
        (Value::String(one), Value::String(other)) => {
            let mut text = String::with_capacity(one.len() + other.len());
            text.push_str(one);
            text.push_str(other);
            Ok(Value::String(Text::Shared(text.into())))
        }
        (Value::Bytes(one), Value::Bytes(other)) => Ok(Value::Bytes([&**one, &**other].concat().into())),
        (Value::Duration(one), Value::Duration(other)) => {
            numbers::checked(one.checked_add(*other), "integer overflow").map(Value::Duration)
        }
        (Value::Timestamp(time), Value::Duration(nanos))
        | (Value::Duration(nanos), Value::Timestamp(time)) => time.plus(*nanos).map(Value::Timestamp),
        (Value::List(one), Value::List(other)) => concat(one, other),
        _ => Err(Error::no_such_overload()),
    }
}

/// One list after the other; sets and maps keep one of each.
fn concat<'a>(one: &List<'a>, other: &List<'a>) -> Result<Value<'a>> {
    let declared = one.declared();
    if declared.is_none() {
        if one.is_empty() {
            return Ok(Value::List(other.clone()));
        }
        if other.is_empty() {
            return Ok(Value::List(one.clone()));
        }
        // Adding costs next to nothing, so it must not copy.
        let length = one.len().saturating_add(other.len());
        return Ok(Value::List(List::Joined { parts: Arc::new((one.clone(), other.clone())), length }));
    }
    let mut items = one.to_vec()?;
    match list_type(declared) {
        Some(ListType::Set) => {
            let mut known: BTreeSet<_> = items.iter().map(Value::key).collect();
            for item in other.iter() {
                let item = item?;
                if known.insert(item.key()) {
                    items.push(item);
                }
            }
        }
        Some(ListType::Map(keys)) => {
            let mut places = std::collections::BTreeMap::new();
            for (place, item) in items.iter().enumerate() {
                places.insert(map_key(item, keys)?, place);
            }
            for item in other.iter() {
                let item = item?;
                match places.get(&map_key(&item, keys)?) {
                    Some(place) => items[*place] = item,
                    None => items.push(item),
                }
            }
        }
        _ => items.extend(other.to_vec()?),
    }
    Ok(Value::List(List::Owned { items: Arc::new(items), declared }))
}

/// # Errors
/// Overflow; values that cannot be subtracted.
pub fn subtract<'a>(one: &Value<'a>, other: &Value<'a>) -> Result<Value<'a>> {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => numbers::int(one.checked_sub(*other)),
        (Value::Uint(one), Value::Uint(other)) => numbers::uint(one.checked_sub(*other)),
        (Value::Double(one), Value::Double(other)) => Ok(Value::Double(one - other)),
        (Value::Duration(one), Value::Duration(other)) => {
            numbers::checked(one.checked_sub(*other), "integer overflow").map(Value::Duration)
        }
        (Value::Timestamp(time), Value::Duration(nanos)) => {
            let back = numbers::checked(nanos.checked_neg(), "integer overflow")?;
            time.plus(back).map(Value::Timestamp)
        }
        (Value::Timestamp(one), Value::Timestamp(other)) => one.since(*other).map(Value::Duration),
        _ => Err(Error::no_such_overload()),
    }
}

pub fn multiply<'a>(one: &Value<'a>, other: &Value<'a>) -> Result<Value<'a>> {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => numbers::int(one.checked_mul(*other)),
        (Value::Uint(one), Value::Uint(other)) => numbers::uint(one.checked_mul(*other)),
        (Value::Double(one), Value::Double(other)) => Ok(Value::Double(one * other)),
        _ => Err(Error::no_such_overload()),
    }
}

pub fn divide<'a>(one: &Value<'a>, other: &Value<'a>) -> Result<Value<'a>> {
    match (one, other) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(Error::new("division by zero"))
        }
        (Value::Int(one), Value::Int(other)) => numbers::int(one.checked_div(*other)),
        (Value::Uint(one), Value::Uint(other)) => numbers::uint(one.checked_div(*other)),
        (Value::Double(one), Value::Double(other)) => Ok(Value::Double(one / other)),
        _ => Err(Error::no_such_overload()),
    }
}

pub fn modulo<'a>(one: &Value<'a>, other: &Value<'a>) -> Result<Value<'a>> {
    match (one, other) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            Err(Error::new("modulus by zero"))
        }
        (Value::Int(one), Value::Int(other)) => numbers::int(one.checked_rem(*other)),
        (Value::Uint(one), Value::Uint(other)) => numbers::uint(one.checked_rem(*other)),
        _ => Err(Error::no_such_overload()),
    }
}

pub fn negate<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Int(it) => numbers::int(it.checked_neg()),
        Value::Double(it) => Ok(Value::Double(-it)),
        Value::Duration(it) => numbers::checked(it.checked_neg(), "integer overflow").map(Value::Duration),
        _ => Err(Error::no_such_overload()),
    }
}

/// Whether a list holds a value, or a map a key.
pub fn contains(item: &Value<'_>, within: &Value<'_>) -> Result<bool> {
    match within {
        Value::List(list) => list_contains(list, item),
        Value::Map(map) => Ok(map.find(item)?.is_some()),
        _ => Err(Error::no_such_overload()),
    }
}

pub(crate) fn list_contains(list: &List<'_>, item: &Value<'_>) -> Result<bool> {
    let mut failed = None;
    for it in list.iter() {
        match equal(&it?, item) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) if error.is_final() => return Err(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    // Only declared data says that it could not compare.
    match failed {
        Some(error) if list.declared().is_some() => Err(error),
        _ => Ok(false),
    }
}
