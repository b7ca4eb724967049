//! Timestamps: an instant, and the offset it was written with, which only its text shows.

use std::fmt;

use crate::error::Error;
use crate::value::Result;

const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;
const NANOS: i64 = 1_000_000_000;

/// An instant in the years 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Since 1970.
    pub seconds: i64,
    pub nanos: u32,
    /// Seconds east of Greenwich.
    pub offset: i32,
}

/// A time of the calendar.
pub(crate) struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    /// From 0, Sunday.
    pub weekday: i64,
    /// From 0.
    pub day_of_year: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Time {
    /// # Errors
    /// Outside the years 1 to 9999.
    pub fn new(seconds: i64, nanos: u32) -> Result<Time> {
        if !(FIRST..=LAST).contains(&seconds) {
            return Err(Error::new("timestamp overflow"));
        }
        Ok(Time { seconds, nanos, offset: 0 })
    }

    /// Go's zero time.
    pub(crate) fn is_zero(&self) -> bool {
        self.seconds == FIRST && self.nanos == 0
    }

    pub(crate) fn order(&self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Time> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = text.get(from..to)?;
            if digits.bytes().all(|it| it.is_ascii_digit()) { digits.parse().ok() } else { None }
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if bytes.len() < 20 || marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut at = 19;
        let mut nanos = 0;
        if matches!(bytes[at], b'.' | b',') {
            let digits = bytes[at + 1..].iter().take_while(|it| it.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let kept = digits.min(9);
            nanos = number(at + 1, at + 1 + kept)? * 10i64.pow(9 - kept as u32);
            at += 1 + digits;
        }
        let offset = match bytes.get(at)? {
            b'Z' if bytes.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if bytes.len() == at + 6 && bytes[at + 3] == b':' => {
                let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
                if hours > 24 || minutes > 60 {
                    return None;
                }
                let seconds = hours * 3600 + minutes * 60;
                if *sign == b'-' { -seconds } else { seconds }
            }
            _ => return None,
        };
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Some(Time { seconds, nanos: nanos as u32, offset: offset as i32 })
    }

    /// # Errors
    /// Beyond the years 1 to 9999.
    pub(crate) fn plus(self, nanos: i64) -> Result<Time> {
        let total = i64::from(self.nanos) + nanos.rem_euclid(NANOS);
        let seconds = self.seconds + nanos.div_euclid(NANOS) + total.div_euclid(NANOS);
        let moved = Time::new(seconds, total.rem_euclid(NANOS) as u32)?;
        Ok(Time { offset: self.offset, ..moved })
    }

    /// The nanoseconds from the other one to this.
    ///
    /// # Errors
    /// More than fit.
    pub(crate) fn since(self, other: Time) -> Result<i64> {
        let nanos = i128::from(self.seconds - other.seconds) * i128::from(NANOS) + i128::from(self.nanos)
            - i128::from(other.nanos);
        i64::try_from(nanos).map_err(|_| Error::new("integer overflow"))
    }

    pub(crate) fn civil(&self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let (days, rest) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7),
            day_of_year: days - days_from_civil(year, 1, 1),
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
        }
    }
}

/// Days since 1970, by the well-known algorithm over years that begin in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

impl fmt::Display for Time {
    /// RFC 3339 with the nanoseconds that there are.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self.civil(self.offset.into());
        write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            it.year, it.month, it.day, it.hour, it.minute, it.second
        )?;
        if self.nanos > 0 {
            write!(out, ".{}", format!("{:09}", self.nanos).trim_end_matches('0'))?;
        }
        if self.offset == 0 {
            return out.write_str("Z");
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.abs() / 60;
        write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}
