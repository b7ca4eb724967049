//! A number or a text, usually a percentage: `maxSurge: 1` or `maxSurge: 25%`; target ports.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::field::quote;

/// An `intstr.IntOrString`. In JSON a number or a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    Int(i32),
    String(String),
}

/// Why a value cannot be scaled. The text is upstream's, as clients see it in conditions and errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for IntOrString: {0}")]
pub struct Error(String);

impl IntOrString {
    /// From JSON; `None` for anything but a text or a number that fits.
    pub fn from_value(value: &Value) -> Option<IntOrString> {
        match value {
            Value::String(text) => Some(IntOrString::String(text.clone())),
            Value::Number(number) => Some(IntOrString::Int(i32::try_from(number.as_i64()?).ok()?)),
            _ => None,
        }
    }

    /// From command-line text: a number if it is one.
    pub fn parse(text: &str) -> IntOrString {
        text.parse().map_or_else(|_| IntOrString::String(text.to_string()), IntOrString::Int)
    }

    /// The number, or the text's number, or zero.
    pub fn int_value(&self) -> i32 {
        match self {
            IntOrString::Int(number) => *number,
            IntOrString::String(text) => text.parse().unwrap_or(0),
        }
    }

    /// The number as it is, or this percentage of `total`, rounded up or down.
    pub fn scaled(&self, total: i32, round_up: bool) -> Result<i32, Error> {
        let text = match self {
            IntOrString::Int(number) => return Ok(*number),
            IntOrString::String(text) => text,
        };
        let Some(digits) = text.strip_suffix('%') else {
            return Err(Error("invalid type: string is not a percentage".into()));
        };
        let percent: i64 = digits.parse().map_err(|_| {
            let why = format!("strconv.Atoi: parsing {}: invalid syntax", quote(digits));
            Error(format!("invalid value {}: {why}", quote(text)))
        })?;
        let product = percent.saturating_mul(i64::from(total));
        let value = match round_up {
            true => product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0),
            false => product.div_euclid(100),
        };
        Ok(value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntOrString::Int(number) => write!(f, "{number}"),
            IntOrString::String(text) => f.write_str(text),
        }
    }
}

impl From<i32> for IntOrString {
    fn from(number: i32) -> IntOrString {
        IntOrString::Int(number)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> IntOrString {
        IntOrString::String(text.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scaled() {
        let check = |value: Value, total, up, expect: Result<i32, &str>| {
            let value = IntOrString::from_value(&value).unwrap();
            let got = value.scaled(total, up).map_err(|e| e.to_string());
            assert_eq!(got, expect.map_err(str::to_string));
        };
        check(json!(3), 10, true, Ok(3));
        check(json!("25%"), 10, true, Ok(3));
        check(json!("25%"), 10, false, Ok(2));
        check(json!("50%"), 10, true, Ok(5));
        check(json!("0%"), 10, true, Ok(0));
        check(
            json!("5"),
            10,
            true,
            Err("invalid value for IntOrString: invalid type: string is not a percentage"),
        );
        check(
            json!("x%"),
            10,
            true,
            Err(
                "invalid value for IntOrString: invalid value \"x%\": strconv.Atoi: parsing \"x\": invalid syntax",
            ),
        );
    }

    #[test]
    fn json() {
        for (value, expect) in [
            (json!(1), Some(IntOrString::Int(1))),
            (json!("a"), Some(IntOrString::String("a".into()))),
            (json!(1.5), None),
            (json!(1u64 << 40), None),
            (json!([]), None),
        ] {
            assert_eq!(IntOrString::from_value(&value), expect);
        }
        assert_eq!(serde_json::to_value(IntOrString::Int(1)).unwrap(), json!(1));
        assert_eq!(IntOrString::parse("80"), IntOrString::Int(80));
        assert_eq!(IntOrString::parse("http"), IntOrString::from("http"));
    }
}
