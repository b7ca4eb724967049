//! The next time of a schedule.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

use super::{Fields, STAR, Schedule};

/// How far ahead a time is looked for, in years: the 29th of February on a Monday comes within 28, but upstream
/// gives up sooner.
const YEARS: i16 = 5;

impl Schedule {
    /// The first time after `after`. Fields are read in the zone that the schedule names, else in `zone`. `None`
    /// where there is none within five years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let whole =
            Timestamp::from_second(after.as_second() - i64::from(after.subsec_nanosecond() < 0)).ok()?;
        match self {
            Schedule::Every(seconds) => whole.checked_add(SignedDuration::from_secs(*seconds)).ok(),
            Schedule::At(fields) => {
                let start = whole.checked_add(SignedDuration::from_secs(1)).ok()?;
                let zone = fields.zone.as_ref().unwrap_or(zone);
                fields.from(start.to_zoned(zone.clone())).map(|at| at.timestamp())
            }
        }
    }
}

fn later(at: &Zoned, seconds: i64) -> Option<Zoned> {
    at.checked_add(SignedDuration::from_secs(seconds)).ok()
}

impl Fields {
    /// The first matching time that is not before `at`: each field in turn is counted up until it matches, the
    /// finer ones starting anew; where a field wraps around, the coarser ones are looked at again.
    fn from(&self, mut at: Zoned) -> Option<Zoned> {
        let last_year = at.year().checked_add(YEARS)?;
        let mut moved = false;
        'again: loop {
            if at.year() > last_year {
                return None;
            }
            while self.month & 1 << at.month() == 0 {
                if !std::mem::replace(&mut moved, true) {
                    at = at.with().day(1).build().ok()?.start_of_day().ok()?;
                }
                at = at.checked_add(Span::new().months(1)).ok()?;
                if at.month() == 1 {
                    continue 'again;
                }
            }
            while !self.day_matches(&at) {
                if !std::mem::replace(&mut moved, true) {
                    at = at.start_of_day().ok()?;
                }
                at = at.checked_add(Span::new().days(1)).ok()?;
                // Where the clock changes at midnight, back to the beginning of the day.
                let hour = i64::from(at.hour());
                if hour != 0 {
                    at = later(&at, 3600 * if hour > 12 { 24 - hour } else { -hour })?;
                }
                if at.day() == 1 {
                    continue 'again;
                }
            }
            while self.hour & 1 << at.hour() == 0 {
                if !std::mem::replace(&mut moved, true) {
                    at = later(&at, -60 * i64::from(at.minute()) - i64::from(at.second()))?;
                }
                at = later(&at, 3600)?;
                if at.hour() == 0 {
                    continue 'again;
                }
            }
            while self.minute & 1 << at.minute() == 0 {
                if !std::mem::replace(&mut moved, true) {
                    at = later(&at, -i64::from(at.second()))?;
                }
                at = later(&at, 60)?;
                if at.minute() == 0 {
                    continue 'again;
                }
            }
            if at.second() == 0 {
                return Some(at);
            }
            moved = true;
            at = later(&at, 60 - i64::from(at.second()))?;
        }
    }

    /// Where both fields restrict, one of them is enough.
    fn day_matches(&self, at: &Zoned) -> bool {
        let day = self.day_of_month & 1 << at.day() != 0;
        let weekday = self.day_of_week & 1 << at.weekday().to_sunday_zero_offset() != 0;
        if (self.day_of_month | self.day_of_week) & STAR != 0 { day && weekday } else { day || weekday }
    }
}
