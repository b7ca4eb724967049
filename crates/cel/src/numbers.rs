//! Arithmetic that overflows into errors, comparison across the numeric types, and numbers as Go prints them.

use std::cmp::Ordering;

use crate::error::Error;
use crate::value::{Result, Value};

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";

pub(crate) fn checked<T>(value: Option<T>, overflow: &str) -> Result<T> {
    value.ok_or_else(|| Error::new(overflow))
}

pub(crate) fn int<'a>(value: Option<i64>) -> Result<Value<'a>> {
    checked(value, INT).map(Value::Int)
}

pub(crate) fn uint<'a>(value: Option<u64>) -> Result<Value<'a>> {
    checked(value, UINT).map(Value::Uint)
}

pub(crate) fn double_to_int(value: f64) -> Result<i64> {
    // Both ends are excluded, as a double cannot tell them from what lies beyond.
    let fits = value > i64::MIN as f64 && value < i64::MAX as f64;
    checked(fits.then_some(value as i64), INT)
}

pub(crate) fn double_to_uint(value: f64) -> Result<u64> {
    let fits = (0.0..18_446_744_073_709_551_616.0).contains(&value);
    checked(fits.then_some(value as u64), UINT)
}

/// The order of two numbers; none if one of them is not a number.
pub(crate) fn compare(one: &Value<'_>, other: &Value<'_>) -> Option<Ordering> {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => Some(one.cmp(other)),
        (Value::Uint(one), Value::Uint(other)) => Some(one.cmp(other)),
        (Value::Double(one), Value::Double(other)) => Some(doubles(*one, *other)),
        (Value::Int(one), Value::Uint(other)) => Some(i128::from(*one).cmp(&i128::from(*other))),
        (Value::Uint(one), Value::Int(other)) => Some(i128::from(*one).cmp(&i128::from(*other))),
        (Value::Double(one), Value::Int(other)) => Some(doubles(*one, *other as f64)),
        (Value::Int(one), Value::Double(other)) => Some(doubles(*one as f64, *other)),
        (Value::Double(one), Value::Uint(other)) => Some(doubles(*one, *other as f64)),
        (Value::Uint(one), Value::Double(other)) => Some(doubles(*one as f64, *other)),
        _ => None,
    }
}

fn doubles(one: f64, other: f64) -> Ordering {
    one.partial_cmp(&other).unwrap_or(Ordering::Equal)
}

pub(crate) fn is_nan(value: &Value<'_>) -> bool {
    matches!(value, Value::Double(it) if it.is_nan())
}

/// The shortest text that reads back as the same double, as Go's `%g` (`threshold` 6) and `%v` (21) have it: with an
/// exponent below -4 and from the threshold up.
pub fn go_float(value: f64, threshold: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..threshold).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
