//! Points in time and durations as Go writes and reads them.
//!
//! `metav1.Time` is RFC 3339 in UTC with whole seconds, `metav1.MicroTime` the same with six digits,
//! `metav1.Duration` is Go's `1h2m3.5s`. Error texts are those of Go's `time.Parse` and `time.ParseDuration`.

use std::borrow::Cow;

use jiff::Timestamp;

mod duration;

pub use duration::{format_duration, parse_duration};

/// Seconds since 1970 of Go's zero `time.Time` (year 1).
pub const GO_ZERO: i64 = -62_135_596_800;

/// A point in time as protobuf carries it; no leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment {
    /// Since 1970, UTC.
    pub seconds: i64,
    /// 0 to 999,999,999, counting forward.
    pub nanos: u32,
}

impl Moment {
    /// Go's zero time, which JSON shows as `null` and protobuf as an empty message.
    pub fn is_zero(self) -> bool {
        self.seconds == GO_ZERO && self.nanos == 0
    }
}

/// Text that is no time. Displayed as Go's `time.ParseError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {}{detail}", go_quote(.value))]
pub struct ParseError {
    value: String,
    /// Begins with ` as "…": cannot parse` or with `: month out of range`.
    detail: String,
}

const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Reads a `metav1.Time`: any offset, a fraction of a second is accepted.
pub fn parse(text: &str) -> Result<Moment, ParseError> {
    Parser { value: text, rest: text, layout: TIME_LAYOUT }.parse(false)
}

/// Reads a `metav1.MicroTime`: the six digits are required.
pub fn parse_micro(text: &str) -> Result<Moment, ParseError> {
    Parser { value: text, rest: text, layout: MICRO_LAYOUT }.parse(true)
}

/// `2026-11-21T17:46:00Z`
pub fn format(at: Timestamp) -> String {
    let mut out = Vec::with_capacity(20);
    write(moment(at).seconds, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// `2026-11-21T17:46:00.000123Z`
pub fn format_micro(at: Timestamp) -> String {
    let mut out = Vec::with_capacity(27);
    write_micro(moment(at), &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// A `metav1.Time` or `MicroTime` as a timestamp; `None` for text that is none and for years beyond 9999.
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let at = parse(text).ok()?;
    Timestamp::new(at.seconds, i32::try_from(at.nanos).ok()?).ok()
}

fn moment(at: Timestamp) -> Moment {
    // jiff counts nanoseconds backwards before 1970
    let nanos = at.as_nanosecond();
    let seconds = nanos.div_euclid(1_000_000_000) as i64;
    Moment { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 }
}

/// Appends `2026-11-21T17:46:00Z`. A year that does not fit four digits is written as it is.
pub(crate) fn write(seconds: i64, out: &mut Vec<u8>) {
    write_civil(seconds, out);
    out.push(b'Z');
}

/// Appends `2026-11-21T17:46:00.000123Z`.
pub(crate) fn write_micro(at: Moment, out: &mut Vec<u8>) {
    write_civil(at.seconds, out);
    out.push(b'.');
    digits(i64::from(at.nanos / 1_000), 6, out);
    out.push(b'Z');
}

fn write_civil(seconds: i64, out: &mut Vec<u8>) {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    digits(year, 4, out);
    out.push(b'-');
    digits(month, 2, out);
    out.push(b'-');
    digits(day, 2, out);
    out.push(b'T');
    digits(rest / 3_600, 2, out);
    out.push(b':');
    digits(rest / 60 % 60, 2, out);
    out.push(b':');
    digits(rest % 60, 2, out);
}

fn digits(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value.unsigned_abs());
    if value < 0 {
        out.push(b'-');
    }
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text.as_bytes());
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian calendar: eras of 400 years
/// that begin in March, so that the leap day is the last of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The reverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

struct Parser<'a> {
    value: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl<'a> Parser<'a> {
    fn parse(mut self, micro: bool) -> Result<Moment, ParseError> {
        let year = self.number("2006", 4, None)?;
        self.literal("-")?;
        let month = self.number("01", 2, Some(("month", 1, 12)))?;
        self.literal("-")?;
        // whether the month has that day is looked at last, as Go does
        let day = self.number("02", 2, None)?;
        self.literal("T")?;
        let hour = self.number("15", 2, Some(("hour", 0, 23)))?;
        self.literal(":")?;
        let minute = self.number("04", 2, Some(("minute", 0, 59)))?;
        self.literal(":")?;
        let second = self.number("05", 2, Some(("second", 0, 59)))?;
        let nanos = if micro { self.micros()? } else { self.fraction() };
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(self.out_of_range(&format!("extra text: {}", go_quote(self.rest))));
        }
        if !(1..=days_in(year, month)).contains(&day) {
            return Err(self.out_of_range("day out of range"));
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
        Ok(Moment { seconds, nanos })
    }

    fn cannot(&self, element: &str) -> ParseError {
        ParseError {
            value: self.value.to_owned(),
            detail: format!(
                " as {}: cannot parse {} as {}",
                go_quote(self.layout),
                go_quote(self.rest),
                go_quote(element)
            ),
        }
    }

    fn out_of_range(&self, what: &str) -> ParseError {
        ParseError { value: self.value.to_owned(), detail: format!(": {what}") }
    }

    fn literal(&mut self, text: &str) -> Result<(), ParseError> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| self.cannot(text))?;
        Ok(())
    }

    /// Exactly `width` digits.
    fn digits(&mut self, width: usize) -> Option<i64> {
        let (text, rest) = self.rest.split_at_checked(width)?;
        let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())??;
        self.rest = rest;
        Some(number)
    }

    fn number(
        &mut self,
        element: &str,
        width: usize,
        range: Option<(&str, i64, i64)>,
    ) -> Result<i64, ParseError> {
        let number = self.digits(width).ok_or_else(|| self.cannot(element))?;
        match range {
            Some((name, low, high)) if !(low..=high).contains(&number) => {
                Err(self.out_of_range(&format!("{name} out of range")))
            }
            _ => Ok(number),
        }
    }

    /// A fraction that the layout does not mention: a point or comma and at least one digit.
    fn fraction(&mut self) -> u32 {
        let Some(after) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return 0;
        }
        let (digits, rest) = after.split_at(count);
        self.rest = rest;
        let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
        nine.parse().unwrap_or(0)
    }

    fn micros(&mut self) -> Result<u32, ParseError> {
        let before = self.rest;
        let fail = |p: &mut Self| {
            p.rest = before;
            p.cannot(".000000")
        };
        match self.rest.strip_prefix(['.', ',']) {
            Some(after) => self.rest = after,
            None => return Err(self.cannot(".000000")),
        }
        let micros = self.digits(6).ok_or_else(|| fail(self))?;
        Ok(micros as u32 * 1_000)
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, ParseError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let before = self.rest;
        let sign = match self.rest.bytes().next() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.cannot("Z07:00")),
        };
        self.rest = &self.rest[1..];
        let hours = self.digits(2);
        let colon = self.rest.strip_prefix(':');
        self.rest = colon.unwrap_or(self.rest);
        let minutes = self.digits(2);
        match (hours, colon, minutes) {
            (Some(hours), Some(_), Some(minutes)) if hours <= 24 && minutes < 60 => {
                Ok(sign * (hours * 3_600 + minutes * 60))
            }
            (Some(hours), Some(_), Some(_)) => {
                let what = if hours > 24 { "time zone offset hour" } else { "time zone offset minute" };
                Err(self.out_of_range(&format!("{what} out of range")))
            }
            _ => {
                self.rest = before;
                Err(self.cannot("Z07:00"))
            }
        }
    }
}

/// A Go string literal, as its error texts quote their input.
fn go_quote(text: &str) -> Cow<'static, str> {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..'\u{20}' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            _ => out.push(c),
        }
    }
    out.push('"');
    out.into()
}

#[cfg(test)]
mod tests;
