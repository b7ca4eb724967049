//! Go's `time.Duration` as text.

/// Text that is no duration, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time: {reason} {}", super::go_quote(.text))]
pub struct DurationError {
    reason: String,
    text: String,
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `1h2m3.5s`, `-1.5h`, `300ms`, `0`; nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let fail = |reason: &str| DurationError { reason: reason.to_owned(), text: text.to_owned() };
    let invalid = || fail("invalid duration");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = rest.split_at(whole);
        let value: u64 = if whole == 0 { 0 } else { digits.parse().map_err(|_| invalid())? };
        let (fraction, after) = match after.strip_prefix('.') {
            None => ("", after),
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
        };
        if whole == 0 && fraction.is_empty() {
            return Err(invalid());
        }
        let name_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (name, after) = after.split_at(name_len);
        if name.is_empty() {
            return Err(fail("missing unit in duration"));
        }
        let unit = UNITS.iter().find(|(n, _)| *n == name).map(|(_, unit)| *unit);
        let Some(unit) = unit else {
            return Err(fail(&format!("unknown unit {} in duration", super::go_quote(name))));
        };
        let mut nanos = value.checked_mul(unit).ok_or_else(invalid)?;
        // more than fifteen digits are below a nanosecond for every unit
        let fraction = &fraction[..fraction.len().min(15)];
        if let Ok(numerator) = fraction.parse::<u64>() {
            let scaled = u128::from(numerator) * u128::from(unit) / 10u128.pow(fraction.len() as u32);
            nanos = nanos.checked_add(scaled as u64).ok_or_else(invalid)?;
        }
        total = total.checked_add(nanos).filter(|t| *t <= 1 << 63).ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (false, Ok(total)) => Ok(total),
        (false, Err(_)) => Err(invalid()),
        (true, Ok(total)) => Ok(-total),
        (true, Err(_)) => Ok(i64::MIN),
    }
}

/// Writes `1h2m3.5s`; the largest unit is the hour, below a second `1.5ms`, `2µs`, `3ns`.
pub fn format_duration(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    if magnitude == 0 {
        return "0s".into();
    }
    if magnitude < 1_000_000_000 {
        let (unit, name) = match magnitude {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(magnitude, unit));
    }
    let (seconds, fraction) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let seconds = decimal(seconds * 1_000_000_000 + fraction, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with as many decimals as are not zero.
fn decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
