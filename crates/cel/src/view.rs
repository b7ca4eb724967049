//! JSON as its declaration has it.

use std::borrow::Cow;

use base64::Engine;
use serde_json::{Map as JsonMap, Value as Json};

use crate::decl_type::{DeclType, Kind};
use crate::error::Error;
use crate::escaping::{escape, is_reserved, unescape};
use crate::time::Time;
use crate::types::Type;
use crate::value::{List, Map, Result, Text, Value};

pub(crate) fn declared<'a>(json: &'a Json, declared: &'a DeclType) -> Result<Value<'a>> {
    if json.is_null() {
        return match &declared.kind {
            Kind::Plain(Type::Dyn | Type::Null) => Ok(Value::Null),
            _ if declared.nullable => Ok(Value::Null),
            _ => Err(Error::new("invalid data, got null for schema with nullable=false")),
        };
    }
    Ok(match (&declared.kind, json) {
        (Kind::IntOrString, Json::String(text)) => Value::String(Text::Borrowed(text)),
        (Kind::IntOrString, Json::Number(number)) if number.as_i64().is_some() => Value::json(json),
        (Kind::IntOrString, _) => {
            return Err(Error::new(
                "invalid data, expected XIntOrString value to be either a string or integer",
            ));
        }
        (Kind::Object(_) | Kind::Map { .. }, Json::Object(object)) => {
            Value::Map(Map::Json { object, declared: Some(declared) })
        }
        (Kind::Object(_) | Kind::Map { .. }, _) => {
            return Err(Error::new("invalid data, expected a map for the provided schema with type=object"));
        }
        (Kind::List { .. }, Json::Array(items)) => {
            Value::List(List::Json { items, declared: Some(declared) })
        }
        (Kind::List { .. }, _) => {
            return Err(Error::new(
                "invalid data, expected an array for the provided schema with type=array",
            ));
        }
        (Kind::Preserved, _) => Value::Preserved(json),
        (Kind::Date, Json::String(text)) => date(text)?,
        (Kind::Plain(kind), _) => plain(json, kind)?,
        (Kind::Open(_) | Kind::Date, _) => Value::json(json),
    })
}

fn plain<'a>(json: &'a Json, kind: &Type) -> Result<Value<'a>> {
    let unfit =
        |expected: &str| Error::new(format!("invalid data, expected {expected}, got {}", go_type(json)));
    Ok(match kind {
        Type::Bool => Value::Bool(json.as_bool().ok_or_else(|| unfit("bool"))?),
        Type::Int => Value::Int(json.as_i64().ok_or_else(|| unfit("int"))?),
        Type::Uint => Value::Uint(json.as_u64().ok_or_else(|| unfit("int"))?),
        Type::Double => Value::Double(json.as_f64().ok_or_else(|| unfit("float"))?),
        Type::String | Type::Bytes | Type::Duration | Type::Timestamp => {
            let text = json.as_str().ok_or_else(|| unfit("string"))?;
            match kind {
                Type::Bytes => bytes(text)?,
                Type::Duration => duration(text)?,
                Type::Timestamp => date_time(text)?,
                _ => Value::String(Text::Borrowed(text)),
            }
        }
        _ => Value::json(json),
    })
}

fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

fn bytes(text: &str) -> Result<Value<'static>> {
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(bytes) => Ok(Value::Bytes(bytes.into())),
        Err(error) => Err(Error::new(format!("Invalid byte formatted string {text}: {error}"))),
    }
}

/// `1h30m`, and also `1 day 2 hours` and the like, as OpenAPI's durations may be written.
fn duration(text: &str) -> Result<Value<'static>> {
    if let Ok(nanos) = apimachinery::time::parse_duration(text) {
        return Ok(Value::Duration(nanos));
    }
    let fail = || Error::new(format!("Invalid duration {text}: unable to parse {text} as duration"));
    let mut total: i64 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|it: char| !it.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let nanos: i64 = match unit.to_lowercase().trim_end_matches('s') {
            "n" | "nano" | "nanosecond" => 1,
            "u" | "\u{b5}" | "micro" | "microsecond" => 1_000,
            "m" if unit == "ms" => 1_000_000,
            "milli" | "millisecond" => 1_000_000,
            "" if unit == "s" => 1_000_000_000,
            "sec" | "second" => 1_000_000_000,
            "m" | "min" | "minute" => 60_000_000_000,
            "h" | "hr" | "hour" => 3_600_000_000_000,
            "d" | "day" => 86_400_000_000_000,
            "w" | "wk" | "week" => 604_800_000_000_000,
            _ => return Err(fail()),
        };
        let number: i64 = number.parse().map_err(|_| fail())?;
        total = number.checked_mul(nanos).and_then(|it| total.checked_add(it)).ok_or_else(fail)?;
        rest = after.trim_start();
    }
    if text.trim().is_empty() { Err(fail()) } else { Ok(Value::Duration(total)) }
}

fn date(text: &str) -> Result<Value<'static>> {
    let time = if text.len() == 10 { Time::parse(&format!("{text}T00:00:00Z")) } else { None };
    match time {
        Some(time) => Ok(Value::Timestamp(time)),
        None => Err(Error::new(format!(
            "Invalid date formatted string {text}: parsing time {text:?} as \"2006-01-02\": cannot parse {text:?} as \"2006\""
        ))),
    }
}

fn date_time(text: &str) -> Result<Value<'static>> {
    // A zone may be left out.
    let time = Time::parse(text).or_else(|| Time::parse(&format!("{text}Z")));
    let invalid = || Error::new(format!("Invalid date-time formatted string {text}: cannot parse {text:?}"));
    time.map(Value::Timestamp).ok_or_else(invalid)
}

/// The keys that an expression sees: those that are declared, as identifiers in objects.
pub(crate) fn keys<'a>(object: &'a JsonMap<String, Json>, declared: &'a DeclType) -> Vec<Value<'a>> {
    let Kind::Object(declaration) = &declared.kind else {
        return object.keys().map(|key| Value::String(Text::Borrowed(key))).collect();
    };
    let known = object.keys().filter(|key| declaration.properties.contains_key(*key));
    known
        .map(|key| match escape(key) {
            Some(Cow::Owned(escaped)) => Value::string(escaped),
            _ => Value::String(Text::Borrowed(key)),
        })
        .collect()
}

pub(crate) fn field<'a>(
    object: &'a JsonMap<String, Json>,
    declared_as: &'a DeclType,
    name: &str,
) -> Result<Option<Value<'a>>> {
    match &declared_as.kind {
        Kind::Map { value } => object.get(name).map(|json| declared(json, value)).transpose(),
        Kind::Object(declaration) => {
            if let Some(field) = declaration.fields.get(name) {
                return present(object, &field.property, &field.kind);
            }
            let Some(property) = unescape(name) else { return Ok(None) };
            match declaration.properties.get(&*property) {
                Some(kind) if is_reserved(name) || *property != *name || object.contains_key(&*property) => {
                    present(object, &property, kind)
                }
                _ => Ok(None),
            }
        }
        _ => Ok(object.get(name).map(Value::json)),
    }
}

/// A property's value: null is as good as absent.
fn present<'a>(
    object: &'a JsonMap<String, Json>,
    property: &str,
    kind: &'a DeclType,
) -> Result<Option<Value<'a>>> {
    match object.get(property) {
        None | Some(Json::Null) => Ok(None),
        Some(json) => declared(json, kind).map(Some),
    }
}
