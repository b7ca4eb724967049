//! Quantities: `250m`, `1.5Gi`, `1e3`. Exact decimal arithmetic and the canonical text.
//!
//! A quantity is a whole number times a power of ten. Reading rounds up to a billionth, as upstream's
//! `api/resource` does, and keeps a text that is nearly canonical as it was given (`1.500` stays `1.500`),
//! which every client has come to see. Numbers of more than 36 digits lose the ones behind.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The family of suffixes that a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `e3`, `E6`.
    DecimalExponent,
    /// `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySI,
    /// `n`, `u`, `m`, none, `k`, `M`, `G`, `T`, `P`, `E`.
    DecimalSI,
}

/// Why a text is no quantity; upstream's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount of something. Equality and order are by value: `1` equals `1000m`.
#[derive(Clone)]
pub struct Quantity {
    mantissa: i128,
    /// The power of ten that the mantissa is multiplied with.
    scale: i32,
    format: Format,
    /// The text as given, if that is what is written back.
    text: Option<Box<str>>,
}

const NANO: i32 = -9;
/// Ten to this power still leaves room to multiply by a few digits.
const MAX_DIGITS: u32 = 36;

fn pow10(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

/// Division that rounds away from zero.
fn div_up(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    quotient + if value % divisor == 0 { 0 } else { value.signum() }
}

/// A quantity's text in pieces.
struct Parts<'a> {
    positive: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, Error> {
    let (positive, rest) = match text.as_bytes().first() {
        Some(b'-') => (false, &text[1..]),
        Some(b'+') => (true, &text[1..]),
        _ => (true, text),
    };
    let digits = |text: &str| text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = rest.split_at(digits(rest));
    let whole = whole.trim_start_matches('0');
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix.bytes().position(|b| !b"eEinumkKMGTP".contains(&b)).unwrap_or(suffix.len());
    let tail = suffix[letters..].strip_prefix(['-', '+']).unwrap_or(&suffix[letters..]);
    if digits(tail) != tail.len() {
        return Err(Error::Format);
    }
    Ok(Parts { positive, whole: if whole.is_empty() { "0" } else { whole }, fraction, suffix })
}

/// The power of the base and the format that a suffix stands for; a base of two for binary ones.
fn suffix(text: &str) -> Result<(i32, Format), Error> {
    Ok(match text {
        "n" => (-9, Format::DecimalSI),
        "u" => (-6, Format::DecimalSI),
        "m" => (-3, Format::DecimalSI),
        "" => (0, Format::DecimalSI),
        "k" => (3, Format::DecimalSI),
        "M" => (6, Format::DecimalSI),
        "G" => (9, Format::DecimalSI),
        "T" => (12, Format::DecimalSI),
        "P" => (15, Format::DecimalSI),
        "E" => (18, Format::DecimalSI),
        "Ki" => (10, Format::BinarySI),
        "Mi" => (20, Format::BinarySI),
        "Gi" => (30, Format::BinarySI),
        "Ti" => (40, Format::BinarySI),
        "Pi" => (50, Format::BinarySI),
        "Ei" => (60, Format::BinarySI),
        other => {
            let digits = other.strip_prefix(['e', 'E']).filter(|d| !d.is_empty()).ok_or(Error::Suffix)?;
            let exponent: i64 = digits.parse().map_err(|_| Error::Suffix)?;
            (exponent.clamp(-1_000_000, 1_000_000) as i32, Format::DecimalExponent)
        }
    })
}

fn suffix_text(exponent: i32, format: Format) -> String {
    let text = match (format, exponent) {
        (Format::DecimalExponent, 0) => "",
        (Format::DecimalExponent, e) => return format!("e{e}"),
        (Format::BinarySI, 10) => "Ki",
        (Format::BinarySI, 20) => "Mi",
        (Format::BinarySI, 30) => "Gi",
        (Format::BinarySI, 40) => "Ti",
        (Format::BinarySI, 50) => "Pi",
        (Format::BinarySI, 60) => "Ei",
        (Format::DecimalSI, -9) => "n",
        (Format::DecimalSI, -6) => "u",
        (Format::DecimalSI, -3) => "m",
        (Format::DecimalSI, 3) => "k",
        (Format::DecimalSI, 6) => "M",
        (Format::DecimalSI, 9) => "G",
        (Format::DecimalSI, 12) => "T",
        (Format::DecimalSI, 15) => "P",
        (Format::DecimalSI, 18) => "E",
        _ => "",
    };
    text.to_string()
}

/// The number that the digits make, how many powers of ten were left out behind it, and whether anything
/// but zeros was.
fn mantissa(digits: impl Iterator<Item = u8>) -> (i128, i32, bool) {
    let (mut value, mut dropped, mut rest) = (0i128, 0, false);
    let limit = pow10(MAX_DIGITS - 1).unwrap_or(i128::MAX);
    for digit in digits.map(|b| i128::from(b - b'0')) {
        if dropped > 0 || value >= limit {
            dropped += 1;
            rest |= digit != 0;
        } else {
            value = value * 10 + digit;
        }
    }
    (value, dropped, rest)
}

impl Quantity {
    /// A whole number.
    pub fn new(value: i64, format: Format) -> Quantity {
        Quantity { mantissa: i128::from(value), scale: 0, format, text: None }
    }

    /// Thousandths, in decimal notation: cpu.
    pub fn from_milli(value: i64) -> Quantity {
        Quantity { mantissa: i128::from(value), scale: -3, format: Format::DecimalSI, text: None }
    }

    /// Nothing of anything.
    pub fn zero() -> Quantity {
        Quantity::new(0, Format::DecimalSI)
    }

    /// Reads a quantity; no blanks around it.
    pub fn parse(text: &str) -> Result<Quantity, Error> {
        if text.is_empty() {
            return Err(Error::Format);
        }
        let parts = split(text)?;
        let (exponent, mut format) = suffix(parts.suffix)?;
        let digits = || parts.whole.bytes().chain(parts.fraction.bytes());
        let (mut value, dropped, rest) = mantissa(digits());
        let mut scale = dropped - parts.fraction.len() as i32;
        let count = parts.whole.len() + parts.fraction.len();
        let mut keep = false;
        if format == Format::BinarySI {
            let whole = parts.fraction.is_empty() && count as i32 + exponent * 3 / 10 < 15;
            keep = whole && value & 7 != 0;
            value = value.saturating_mul(1i128 << exponent);
        } else {
            scale += exponent;
            let ends = digits().skip(count.saturating_sub(3)).collect::<Vec<_>>();
            keep |= count <= 18 && scale >= NANO && scale % 3 == 0 && ends != b"000";
            keep &= digits().next() != Some(b'0');
        }
        keep |= text == "0";
        if scale < NANO {
            let divisor = pow10(NANO.abs_diff(scale)).unwrap_or(i128::MAX);
            value = div_up(value, divisor);
            scale = NANO;
        } else if rest {
            value = value.saturating_add(1);
        }
        if format == Format::BinarySI {
            let quantity = Quantity { mantissa: value, scale, format, text: None };
            if quantity.cmp_whole(i64::MAX) == Ordering::Greater {
                (value, scale) = (i128::from(i64::MAX), 0);
            } else if value > 0 && quantity.cmp_whole(1) == Ordering::Less {
                format = Format::DecimalSI;
            }
        }
        if value == 0 {
            scale = 0;
        }
        if !parts.positive {
            value = -value;
        }
        Ok(Quantity { mantissa: value, scale, format, text: keep.then(|| text.into()) })
    }

    /// From JSON: a text or a number.
    pub fn from_value(value: &Value) -> Result<Quantity, Error> {
        match value {
            Value::String(text) => Quantity::parse(text.trim()),
            Value::Number(number) => Quantity::parse(&number.to_string()),
            Value::Null => Ok(Quantity::zero()),
            _ => Err(Error::Format),
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// With the suffixes of another family.
    pub fn with_format(mut self, format: Format) -> Quantity {
        self.format = format;
        self.text = None;
        self
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The amount in units of ten to the power `scale`, rounded away from zero and kept within an `i64`.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let shift = self.scale.abs_diff(scale);
        let value = match self.scale < scale {
            true => pow10(shift).map_or(self.mantissa.signum(), |p| div_up(self.mantissa, p)),
            false => pow10(shift).map_or(i128::MAX, |p| p).saturating_mul(self.mantissa),
        };
        value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// In whole units, rounded up.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// In thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The value if it is a whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        let value = self.value();
        (self.cmp_whole(value) == Ordering::Equal).then_some(value)
    }

    /// The value as floating-point number, for scores and metrics.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.scale)
    }

    fn cmp_whole(&self, value: i64) -> Ordering {
        self.cmp(&Quantity::new(value, self.format))
    }

    /// Rounded away from zero to a multiple of ten to the power `scale`; whether it was one already.
    pub fn round_up(&mut self, scale: i32) -> bool {
        if self.scale >= scale {
            return true;
        }
        let divisor = pow10(self.scale.abs_diff(scale)).unwrap_or(i128::MAX);
        let exact = self.mantissa % divisor == 0;
        (self.mantissa, self.scale, self.text) = (div_up(self.mantissa, divisor), scale, None);
        exact
    }

    fn combine(&mut self, other: &Quantity, sum: fn(i128, i128) -> i128) {
        if self.is_zero() {
            self.format = other.format;
        }
        let ((a, b), scale) = align(self, other);
        (self.mantissa, self.scale, self.text) = (sum(a, b), scale, None);
    }

    /// Adds. Zero takes over the other's notation.
    pub fn add(&mut self, other: &Quantity) {
        self.combine(other, i128::saturating_add);
    }

    /// Subtracts. Zero takes over the other's notation.
    pub fn sub(&mut self, other: &Quantity) {
        self.combine(other, i128::saturating_sub);
    }

    /// Multiplies by a whole number.
    pub fn mul(&mut self, factor: i64) {
        self.mantissa = self.mantissa.saturating_mul(i128::from(factor));
        self.text = None;
    }

    /// Turns the sign around.
    pub fn neg(&mut self) {
        self.mantissa = -self.mantissa;
        self.text = None;
    }

    /// The canonical text, whatever the quantity was read from.
    pub fn canonical(&self) -> String {
        if self.is_zero() {
            return "0".to_string();
        }
        if self.format == Format::BinarySI {
            let small = self.cmp_whole(-1024) == Ordering::Greater && self.cmp_whole(1024) == Ordering::Less;
            let mut rounded = self.clone();
            if !small && rounded.round_up(0) {
                return binary(&rounded);
            }
            return decimal(self, Format::DecimalSI);
        }
        decimal(self, self.format)
    }
}

fn binary(quantity: &Quantity) -> String {
    let power = pow10(quantity.scale.unsigned_abs()).unwrap_or(i128::MAX);
    let (mut value, mut exponent) = (quantity.mantissa.saturating_mul(power), 0);
    while value % 1024 == 0 && value != 0 {
        (value, exponent) = (value / 1024, exponent + 10);
    }
    format!("{value}{}", suffix_text(exponent, Format::BinarySI))
}

fn decimal(quantity: &Quantity, format: Format) -> String {
    let (mut value, mut exponent) = (quantity.mantissa, quantity.scale);
    while value % 10 == 0 && value != 0 {
        (value, exponent) = (value / 10, exponent + 1);
    }
    while exponent.rem_euclid(3) != 0 {
        (value, exponent) = (value.saturating_mul(10), exponent - 1);
    }
    format!("{value}{}", suffix_text(exponent, format))
}

/// Both mantissas at the smaller scale. Where that does not fit, the larger one is as large as can be.
fn align(a: &Quantity, b: &Quantity) -> ((i128, i128), i32) {
    let scale = match (a.is_zero(), b.is_zero()) {
        (true, _) => b.scale,
        (_, true) => a.scale,
        _ => a.scale.min(b.scale),
    };
    let at = |q: &Quantity| match q.mantissa {
        0 => 0,
        m => pow10(q.scale.abs_diff(scale)).map_or(i128::MAX * m.signum(), |p| m.saturating_mul(p)),
    };
    ((at(a), at(b)), scale)
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        let ((a, b), _) = align(self, other);
        a.cmp(&b)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl Default for Quantity {
    fn default() -> Quantity {
        Quantity::zero()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Quantity, Error> {
        Quantity::parse(text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Quantity::from_value(&value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn parse_and_print() {
        let check = |text: &str, expect: &str| assert_eq!(q(text).to_string(), expect, "{text}");
        for same in ["0", "1", "100m", "1500m", "1Gi", "128Mi", "5G", "1e3", "12E", "-1", "7Ki", "1n", "500u"]
        {
            check(same, same);
        }
        // near enough to canonical to be kept, as upstream keeps it
        for same in ["+1", "1.500", "007", "1001Mi"] {
            check(same, same);
        }
        check("1024Mi", "1Gi");
        check("1000m", "1");
        check("1.5", "1500m");
        check("0.1", "100m");
        check("0.5Gi", "512Mi");
        check("1.5Gi", "1536Mi");
        check("1024", "1024");
        check("1000", "1k");
        check("1000Ki", "1000Ki");
        check("1023Ki", "1023Ki");
        check("0.5Ki", "512");
        check("0.1Ki", "102400m");
        check("0.00001Ki", "10240u");
        check("1000000", "1M");
        check("1e6", "1e6");
        check("10e2", "1e3");
        check("1E3", "1E3");
        check("1e-3", "1e-3");
        check("0.0000000001", "1n");
        check("0.1n", "1n");
        check("-0.1n", "-1n");
        check("9223372036854775807", "9223372036854775807");
        check("8Ei", "9223372036854775807");
        check("0Ki", "0");
        check("0.0", "0");
        check(".5", "500m");
        check("5.", "5.");
        check("123456789012345678901234567890", "123456789012345678901234567890");
    }

    #[test]
    fn faults() {
        for (text, expect) in [
            ("", Error::Format),
            ("1 ", Error::Format),
            ("a", Error::Format),
            ("1.2.3", Error::Format),
            ("1Kib", Error::Format),
            ("1K", Error::Suffix),
            ("1mm", Error::Suffix),
            ("1e", Error::Suffix),
            ("1ii", Error::Suffix),
            ("1+1", Error::Suffix),
        ] {
            assert_eq!(Quantity::parse(text), Err(expect), "{text}");
        }
    }

    #[test]
    fn order() {
        for (a, b, expect) in [
            ("1", "1000m", Ordering::Equal),
            ("1Ki", "1024", Ordering::Equal),
            ("1k", "1Ki", Ordering::Less),
            ("-1", "0", Ordering::Less),
            ("1E", "1n", Ordering::Greater),
            ("1e1000", "1", Ordering::Greater),
            ("-1e1000", "1n", Ordering::Less),
        ] {
            assert_eq!(q(a).cmp(&q(b)), expect, "{a} {b}");
        }
    }

    #[test]
    fn arithmetic() {
        let check = |a: &str, op: fn(&mut Quantity, &Quantity), b: &str, expect: &str| {
            let mut sum = q(a);
            op(&mut sum, &q(b));
            assert_eq!(sum.to_string(), expect, "{a} {b}");
        };
        check("1", Quantity::add, "500m", "1500m");
        check("0", Quantity::add, "1Gi", "1Gi");
        check("1Gi", Quantity::add, "1024Mi", "2Gi");
        check("1Gi", Quantity::add, "1", "1073741825");
        check("1", Quantity::sub, "1", "0");
        check("1", Quantity::sub, "1500m", "-500m");
        check("100Mi", Quantity::sub, "50Mi", "50Mi");
    }

    #[test]
    fn values() {
        for (text, value, milli) in [
            ("1", 1, 1000),
            ("1m", 1, 1),
            ("1u", 1, 1),
            ("1500m", 2, 1500),
            ("-1500m", -2, -1500),
            ("1Gi", 1 << 30, 1000 << 30),
            ("0", 0, 0),
            ("1e30", i64::MAX, i64::MAX),
        ] {
            assert_eq!((q(text).value(), q(text).milli_value()), (value, milli), "{text}");
        }
        assert_eq!(q("1500m").as_i64(), None);
        assert_eq!(q("2k").as_i64(), Some(2000));
        let mut rounded = q("1001m");
        assert!(!rounded.round_up(-2));
        assert_eq!(rounded.to_string(), "1010m");
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_text_is_the_same_amount(
            // beyond 10^20 upstream has no suffix and writes none
            text in r"-?[0-9]{1,9}(\.[0-9]{0,12})?([numkMGT]|[KMGTPE]i|e-?[0-9])?",
        ) {
            let quantity = q(&text);
            let again = q(&quantity.canonical());
            proptest::prop_assert_eq!(&again, &quantity);
            proptest::prop_assert_eq!(again.canonical(), quantity.canonical());
            proptest::prop_assert_eq!(q(&quantity.to_string()), quantity);
        }

        #[test]
        fn no_text_panics(text in r"[-+0-9.eEinumkKMGTP ]{0,60}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let _ = (quantity.to_string(), quantity.value(), quantity.milli_value(), quantity.as_f64());
            }
        }
    }

    #[test]
    fn json() {
        assert_eq!(serde_json::from_str::<Quantity>("1.5").unwrap().to_string(), "1500m");
        assert_eq!(serde_json::from_str::<Quantity>("\"1Gi\"").unwrap().to_string(), "1Gi");
        assert_eq!(serde_json::to_string(&q("1024Mi")).unwrap(), "\"1Gi\"");
        assert!(serde_json::from_str::<Quantity>("[]").is_err());
    }
}
