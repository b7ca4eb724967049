//! Conversions between the language's types.

use crate::error::Error;
use crate::library::Implementation;
use crate::numbers;
use crate::time::Time;
use crate::value::{Result, Text, Value};

pub(super) fn implementation(name: &str) -> Option<Implementation> {
    Some(match name {
        "bool" => |args, _| to_bool(one(args)?),
        "bytes" => |args, _| to_bytes(one(args)?),
        "double" => |args, _| to_double(one(args)?),
        "duration" => |args, _| to_duration(one(args)?),
        "dyn" => |args, _| one(args).cloned(),
        "int" => |args, _| to_int(one(args)?),
        "string" => |args, _| to_string(one(args)?).map(Value::String),
        "timestamp" => |args, _| to_timestamp(one(args)?),
        "type" => |args, _| Ok(Value::Type(one(args)?.type_name().into())),
        "uint" => |args, _| to_uint(one(args)?),
        _ => return None,
    })
}

/// Whether a call with a constant is worked out when compiling.
pub(crate) fn is_conversion(name: &str) -> bool {
    implementation(name).is_some()
}

fn one<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v Value<'a>> {
    args.first().ok_or_else(Error::no_such_overload)
}

fn from_text(text: &str, to: &str) -> Error {
    let _ = text;
    Error::new(format!("type conversion error from 'string' to '{to}'"))
}

fn to_bool<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    Ok(match value {
        Value::Bool(it) => Value::Bool(*it),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Value::Bool(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Value::Bool(false),
            text => return Err(from_text(text, "bool")),
        },
        _ => return Err(Error::no_such_overload()),
    })
}

fn to_bytes<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Bytes(_) => Ok(value.clone()),
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => Err(Error::no_such_overload()),
    }
}

fn to_double<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    Ok(Value::Double(match value {
        Value::Double(it) => *it,
        Value::Int(it) => *it as f64,
        Value::Uint(it) => *it as f64,
        Value::String(text) => parse_double(text).ok_or_else(|| from_text(text, "double"))?,
        _ => return Err(Error::no_such_overload()),
    }))
}

/// Go reads `infinity` and `NaN` in any case, and numbers too large not at all.
pub(crate) fn parse_double(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let spelled = text.bytes().any(|it| matches!(it, b'n' | b'N'));
    (value.is_finite() || spelled).then_some(value)
}

fn to_duration<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::String(text) => apimachinery::time::parse_duration(text)
            .map(Value::Duration)
            .map_err(|_| from_text(text, "google.protobuf.Duration")),
        Value::Int(_) => Err(Error::new("type conversion error from 'int' to 'google.protobuf.Duration'")),
        _ => Err(Error::no_such_overload()),
    }
}

fn digits<T: std::str::FromStr>(text: &str, to: &str) -> Result<T> {
    let unsigned = if to == "int" { text.strip_prefix(['-', '+']).unwrap_or(text) } else { text };
    let good = !unsigned.is_empty() && unsigned.bytes().all(|it| it.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten().ok_or_else(|| from_text(text, to))
}

fn to_int<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    Ok(Value::Int(match value {
        Value::Int(it) => *it,
        Value::Uint(it) => numbers::checked(i64::try_from(*it).ok(), "integer overflow")?,
        Value::Double(it) => numbers::double_to_int(*it)?,
        Value::Duration(nanos) => *nanos,
        Value::Timestamp(time) => time.seconds,
        Value::String(text) => digits(text, "int")?,
        _ => return Err(Error::no_such_overload()),
    }))
}

fn to_uint<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    Ok(Value::Uint(match value {
        Value::Uint(it) => *it,
        Value::Int(it) => numbers::checked(u64::try_from(*it).ok(), "unsigned integer overflow")?,
        Value::Double(it) => numbers::double_to_uint(*it)?,
        Value::String(text) => digits(text, "uint")?,
        _ => return Err(Error::no_such_overload()),
    }))
}

fn to_timestamp<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    Ok(Value::Timestamp(match value {
        Value::Timestamp(time) => *time,
        Value::Int(seconds) => Time::new(*seconds, 0)?,
        Value::String(text) => {
            let time = Time::parse(text).ok_or_else(|| from_text(text, "google.protobuf.Timestamp"))?;
            Time::new(time.seconds, time.nanos)?;
            time
        }
        _ => return Err(Error::no_such_overload()),
    }))
}

/// Seconds without trailing zeros.
pub(crate) fn duration_text(nanos: i64) -> String {
    // As the reference has it: by way of a double, so that the last digits of long durations are lost.
    let seconds = (nanos / 1_000_000_000) as f64 + (nanos % 1_000_000_000) as f64 / 1e9;
    format!("{seconds}s")
}

/// # Errors
/// Bytes that are no UTF-8; what has no text.
pub(crate) fn to_string<'a>(value: &Value<'a>) -> Result<Text<'a>> {
    Ok(Text::Shared(
        match value {
            Value::String(text) => return Ok(text.clone()),
            Value::Bool(it) => it.to_string(),
            Value::Bytes(bytes) => String::from_utf8(bytes.to_vec())
                .map_err(|_| Error::new("invalid UTF-8 in bytes, cannot convert to string"))?,
            Value::Double(it) => numbers::go_float(*it, 6),
            Value::Duration(nanos) => duration_text(*nanos),
            Value::Int(_) | Value::Uint(_) | Value::Timestamp(_) | Value::Ip(_) | Value::Cidr(_) => {
                value.show()
            }
            _ => return Err(Error::no_such_overload()),
        }
        .into(),
    ))
}
