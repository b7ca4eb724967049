//! Block style, two spaces, lists not indented below their key, lines folded at eighty columns: what
//! go-yaml v2 writes.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use crate::codec::json;

const WIDTH: usize = 80;

/// Any JSON as a YAML document, which ends with a line end.
pub fn to_string(value: &Value) -> String {
    let mut writer = Writer { out: String::new() };
    match value {
        Value::Object(object) if !object.is_empty() => writer.mapping(object, 0),
        Value::Array(items) if !items.is_empty() => writer.sequence(items, 0),
        scalar => writer.scalar(scalar, 2),
    }
    if !writer.out.ends_with('\n') {
        writer.out.push('\n');
    }
    writer.out
}

struct Writer {
    out: String,
}

impl Writer {
    fn column(&self) -> usize {
        let line = self.out.rfind('\n').map_or(0, |at| at + 1);
        self.out[line..].chars().count()
    }

    fn line(&mut self, indent: usize) {
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// The first entry begins where the writer is.
    fn mapping(&mut self, object: &Map<String, Value>, indent: usize) {
        let mut entries: Vec<_> = object.iter().collect();
        entries.sort_by(|a, b| natural(a.0, b.0));
        for (at, (key, value)) in entries.into_iter().enumerate() {
            if at > 0 {
                self.line(indent);
            }
            let long = key.len() > 128 || key.contains(is_break);
            if long {
                self.out.push_str("? ");
            }
            self.text(key, indent + 2, true);
            if long {
                self.line(indent);
            }
            self.out.push(':');
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    self.line(indent + 2);
                    self.mapping(inner, indent + 2);
                }
                Value::Array(items) if !items.is_empty() => {
                    self.line(indent);
                    self.sequence(items, indent);
                }
                scalar => {
                    self.out.push(' ');
                    self.scalar(scalar, indent + 2);
                }
            }
        }
    }

    fn sequence(&mut self, items: &[Value], indent: usize) {
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.line(indent);
            }
            self.out.push_str("- ");
            match item {
                Value::Object(inner) if !inner.is_empty() => self.mapping(inner, indent + 2),
                Value::Array(items) if !items.is_empty() => self.sequence(items, indent + 2),
                scalar => self.scalar(scalar, indent + 2),
            }
        }
    }

    /// `indent` is where further lines of the scalar begin.
    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(flag) => self.out.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => self.out.push_str(&number_text(number)),
            Value::String(text) => self.text(text, indent, false),
            Value::Array(_) => self.out.push_str("[]"),
            Value::Object(_) => self.out.push_str("{}"),
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        let look = Look::at(text);
        if text.contains('\n') {
            match look.block && !key {
                true => self.literal(text, indent),
                false => self.double(text, indent, key),
            }
        } else if is_ambiguous(text) {
            self.double(text, indent, key);
        } else if look.plain {
            self.folded(text, indent, key, false);
        } else if look.single {
            self.out.push('\'');
            self.folded(text, indent, key, true);
            self.out.push('\'');
        } else {
            self.double(text, indent, key);
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with(|c: char| c == ' ' || is_break(c)) {
            self.out.push('2');
        }
        let mut backwards = text.chars().rev();
        match (backwards.next().is_some_and(is_break), backwards.next()) {
            (false, _) => self.out.push('-'),
            (true, None) => self.out.push('+'),
            (true, Some(before)) if is_break(before) => self.out.push('+'),
            _ => {}
        }
        self.out.push('\n');
        for line in text.split_inclusive(is_break) {
            if !line.starts_with(is_break) {
                self.out.extend(std::iter::repeat_n(' ', indent));
            }
            self.out.push_str(line);
        }
    }

    /// Plain or single-quoted text without line ends; a single space beyond the width becomes one.
    fn folded(&mut self, text: &str, indent: usize, key: bool, quoted: bool) {
        let bytes = text.as_bytes();
        let (mut spaces, mut breaks) = (false, false);
        let mut column = self.column();
        for (at, c) in text.char_indices() {
            if is_break(c) {
                self.out.push(c);
                (breaks, spaces, column) = (true, false, 0);
                continue;
            }
            if c == ' ' {
                let alone = !spaces && bytes.get(at + 1) != Some(&b' ');
                let inside = !quoted || (at > 0 && at < bytes.len() - 1);
                if !key && alone && inside && column > WIDTH {
                    self.line(indent);
                    column = indent;
                } else {
                    self.out.push(' ');
                    column += 1;
                }
                spaces = true;
                continue;
            }
            if std::mem::take(&mut breaks) {
                self.out.extend(std::iter::repeat_n(' ', indent.saturating_sub(column)));
                column = indent;
            }
            if quoted && c == '\'' {
                self.out.push('\'');
                column += 1;
            }
            self.out.push(c);
            column += 1;
            spaces = false;
        }
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.out.push('"');
        let bytes = text.as_bytes();
        let mut spaces = false;
        let mut column = self.column();
        for (at, c) in text.char_indices() {
            let before = self.out.len();
            if c == ' ' {
                if !key && !spaces && column > WIDTH && at > 0 && at < bytes.len() - 1 {
                    self.line(indent);
                    column = indent;
                    if bytes.get(at + 1) == Some(&b' ') {
                        self.out.push('\\');
                        column += 1;
                    }
                } else {
                    self.out.push(' ');
                    column += 1;
                }
                spaces = true;
                continue;
            }
            spaces = false;
            match c {
                '"' | '\\' => self.out.extend(['\\', c]),
                '\0' => self.out.push_str("\\0"),
                '\u{7}' => self.out.push_str("\\a"),
                '\u{8}' => self.out.push_str("\\b"),
                '\t' => self.out.push_str("\\t"),
                '\n' => self.out.push_str("\\n"),
                '\u{b}' => self.out.push_str("\\v"),
                '\u{c}' => self.out.push_str("\\f"),
                '\r' => self.out.push_str("\\r"),
                '\u{1b}' => self.out.push_str("\\e"),
                '\u{85}' => self.out.push_str("\\N"),
                '\u{2028}' => self.out.push_str("\\L"),
                '\u{2029}' => self.out.push_str("\\P"),
                c if is_printable(c) => self.out.push(c),
                c if (c as u32) <= 0xff => self.out.push_str(&format!("\\x{:02X}", c as u32)),
                c if (c as u32) <= 0xffff => self.out.push_str(&format!("\\u{:04X}", c as u32)),
                c => self.out.push_str(&format!("\\U{:08X}", c as u32)),
            }
            column += self.out[before..].chars().count();
        }
        self.out.push('"');
    }
}

fn number_text(number: &Number) -> String {
    let mut out = Vec::new();
    match (number.as_i64().is_some() || number.as_u64().is_some(), number.as_f64()) {
        (false, Some(n)) if n.abs() >= 1e21 || (n != 0.0 && n.abs() < 1e-4) => {
            // Go's `%g` has at least two digits in the exponent
            let text = format!("{n:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            return format!("{digits}e{sign}{:02}", exponent.abs());
        }
        _ => json::write_value(&Value::Number(number.clone()), &mut out),
    }
    String::from_utf8(out).unwrap_or_default()
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What go-yaml writes as it is; neither tabs nor anything beyond the first plane.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{fffd}') && c != '\u{feff}'
}

/// Which styles can hold a text.
struct Look {
    plain: bool,
    single: bool,
    block: bool,
}

impl Look {
    fn at(text: &str) -> Look {
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut breaks) = (false, false);
        let (mut break_space, mut space_break) = (false, false);
        let mut previous = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let then_space = chars.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            let after_space = previous.is_none_or(|p| matches!(p, ' ' | '\t') || is_break(p));
            indicators |= match (c, previous) {
                ('?' | ':' | '-', None) => then_space,
                ('#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!', None) => true,
                ('|' | '>' | '\'' | '"' | '%' | '@' | '`', None) => true,
                (':', Some(_)) => then_space,
                ('#', Some(_)) => after_space,
                _ => false,
            };
            special |= !is_printable(c);
            breaks |= is_break(c);
            break_space |= c == ' ' && previous.is_some_and(is_break);
            space_break |= is_break(c) && previous == Some(' ');
            previous = Some(c);
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c == ' ' || is_break(c));
        let edges = edge(text.chars().next()) || edge(previous);
        let single = !break_space && !space_break && !special;
        Look {
            plain: single && !edges && !breaks && !indicators,
            single,
            block: !text.ends_with(' ') && !space_break && !special,
        }
    }
}

/// Text that a YAML 1.1 reader takes for something else when it is not quoted.
fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 22] = [
        "", "~", "null", "y", "n", "yes", "no", "true", "false", "on", "off", ".nan", ".inf", "+.inf",
        "-.inf", "<<", ".NaN", ".NAN", ".Inf", ".INF", "+.Inf", "-.Inf",
    ];
    let Some(first) = text.bytes().next() else { return true };
    if WORDS.contains(&text) || matches!(text, "+.INF" | "-.INF") {
        return true;
    }
    if first.is_ascii_alphabetic() {
        // `True` and `TRUE`, not `tRUE`
        let lower = text.to_ascii_lowercase();
        let rest = &text[1..];
        let cased = rest == &lower[1..] && first.is_ascii_uppercase() || text.to_ascii_uppercase() == text;
        return cased && WORDS.contains(&&*lower) && !lower.starts_with('.');
    }
    match first {
        b'.' => is_go_float(text),
        b'+' | b'-' | b'0'..=b'9' => is_timestamp(text) || is_number(text) || is_base60(text),
        _ => false,
    }
}

fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let radix = |prefixes: [&str; 2], radix: u32| {
        let rest = prefixes.iter().find_map(|p| digits.strip_prefix(p));
        rest.is_some_and(|rest| u64::from_str_radix(rest, radix).is_ok() && !rest.starts_with('+'))
    };
    if radix(["0x", "0X"], 16) || radix(["0o", "0O"], 8) || radix(["0b", "0B"], 2) {
        return true;
    }
    // an optional sign, digits with at most one point, an optional exponent
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let exponent = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit())
    });
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    mantissa && exponent
}

/// What Go's `ParseFloat` takes of texts that begin with a point.
fn is_go_float(text: &str) -> bool {
    is_number(text) && !text.contains('_')
}

/// `1:30`: sixty-based numbers of YAML 1.1.
fn is_base60(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = digits.split(':');
    let first = parts.next().unwrap_or_default();
    let begins = first.bytes().next().is_some_and(|b| b.is_ascii_digit());
    if !begins || !first.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
        return false;
    }
    let mut rest: Vec<&str> = parts.collect();
    let Some(last) = rest.pop() else { return false };
    let last = match last.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_') => whole,
        Some(_) => return false,
        None => last,
    };
    rest.into_iter().chain([last]).all(|part| match part.as_bytes() {
        [b] => b.is_ascii_digit(),
        [tens @ b'0'..=b'5', b] => tens.is_ascii_digit() && b.is_ascii_digit(),
        _ => false,
    })
}

/// A date, or a date and a time.
fn is_timestamp(text: &str) -> bool {
    let number =
        |s: &str, most: usize| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((text.as_bytes()[at], &text[at + 1..]))),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let in_range = |s: &str, most: u32| s.parse::<u32>().is_ok_and(|n| (1..=most).contains(&n));
    if year.len() != 4 || !number(year, 4) || !number(month, 2) || !number(day, 2) {
        return false;
    }
    if !in_range(month, 12) || !in_range(day, 31) {
        return false;
    }
    let Some((separator, time)) = time else { return true };
    let zoned = separator != b' ';
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => (&time[..at], &time[at..]),
        None => (time, ""),
    };
    let zone_fits = match zone.as_bytes() {
        [] => !zoned,
        [b'Z'] => zoned,
        [_, a, b, b':', c, d] => zoned && [a, b, c, d].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let parts: Vec<&str> = clock.split(':').collect();
    zone_fits
        && parts.len() == 3
        && parts.iter().all(|part| number(part, 2))
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit())
}

/// go-yaml's order of keys: letters after other characters, numbers inside by value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else { return a.len().cmp(&b.len()) };
    let (x, y) = (a[at], b[at]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let mut lead = 0u64;
    if x == '0' || y == '0' {
        let before = a[..at].iter().rev().take_while(|c| c.is_ascii_digit());
        lead = u64::from(before.into_iter().any(|c| *c != '0'));
    }
    let number = |chars: &[char]| {
        let digits = chars[at..].iter().map_while(|c| c.to_digit(10));
        digits.fold((lead, 0usize), |(n, len), d| (n.saturating_mul(10).saturating_add(d.into()), len + 1))
    };
    number(&a).cmp(&number(&b)).then(x.cmp(&y))
}
