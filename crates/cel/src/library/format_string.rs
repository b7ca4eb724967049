//! `'%d items'.format([3])`: working it out, and checking it when both the text and the list are written out.

use crate::ast::{Expr, Id, Literal};
use crate::checker::Checked;
use crate::error::Error;
use crate::issues::Issues;
use crate::library::convert;
use crate::library::url::quoted;
use crate::numbers;
use crate::types::Type;
use crate::value::{List, Map, Result, Value};

/// Digits after the point where none are asked for.
const PRECISION: usize = 6;
/// More digits than this say nothing more, and cost memory.
const MOST_PRECISE: usize = 1000;

#[derive(Clone, Copy)]
enum Clause {
    String,
    Decimal,
    Fixed(usize),
    /// Its precision is read and not heeded, as in the reference.
    Scientific,
    Binary,
    Hex {
        upper: bool,
    },
    Octal,
}

/// Puts what `clause` makes of each argument in its place.
fn expand<E>(
    text: &str,
    count: usize,
    fail: impl Fn(String) -> E,
    mut clause: impl FnMut(usize, Clause) -> std::result::Result<String, E>,
) -> std::result::Result<String, E> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut index) = (text, 0);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if index >= count && !rest.is_empty() {
            return Err(fail(format!("index {index} out of range")));
        }
        let (read, after) = read_clause(rest).map_err(&fail)?;
        if index >= count {
            return Err(fail(format!("index {index} out of range")));
        }
        out.push_str(&clause(index, read)?);
        rest = after;
        index += 1;
    }
    out.push_str(rest);
    Ok(out)
}

fn read_clause(rest: &str) -> std::result::Result<(Clause, &str), String> {
    const BAD: &str = "could not parse formatting clause: ";
    if rest.is_empty() {
        return Err("unexpected end of string".to_owned());
    }
    let mut precision = PRECISION;
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits == after.len() {
            return Err(format!(
                "{BAD}error while parsing precision: could not find end of precision specifier"
            ));
        }
        let number = &after[..digits];
        precision = number.parse().map_err(|_| {
            let why = if number.is_empty() { "invalid syntax" } else { "value out of range" };
            format!(
                "{BAD}error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {}: {why}",
                quoted(number)
            )
        })?;
        rest = &after[digits..];
    }
    let precision = precision.min(MOST_PRECISE);
    let letter = rest.chars().next().unwrap_or_default();
    let clause = match letter {
        's' => Clause::String,
        'd' => Clause::Decimal,
        'f' => Clause::Fixed(precision),
        'e' => Clause::Scientific,
        'b' => Clause::Binary,
        'x' | 'X' => Clause::Hex { upper: letter == 'X' },
        'o' => Clause::Octal,
        other => return Err(format!("{BAD}unrecognized formatting clause \"{other}\"")),
    };
    Ok((clause, &rest[1..]))
}

fn wrong(clause: Clause, kind: &str) -> String {
    let what = match clause {
        Clause::String => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
        Clause::Decimal => "decimal clause can only be used on integers",
        Clause::Fixed(_) => "fixed-point clause can only be used on doubles",
        Clause::Scientific => "scientific clause can only be used on doubles",
        Clause::Binary => "only integers and bools can be formatted as binary",
        Clause::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
        Clause::Octal => "octal clause can only be used on integers",
    };
    format!("error during formatting: {what}, was given {kind}")
}

pub(super) fn format<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let text = super::string(args, 0)?;
    let Some(Value::List(list)) = args.get(1) else { return Err(Error::no_such_overload()) };
    expand(text, list.len(), Error::new, |index, clause| one(clause, &list.at(index)?)).map(Value::string)
}

fn one(clause: Clause, value: &Value<'_>) -> Result<String> {
    let wrong = || Error::new(wrong(clause, value.type_name()));
    Ok(match (clause, value) {
        (Clause::String, Value::List(list)) => in_list(list)?,
        (Clause::String, Value::Map(map)) => in_map(map)?,
        (Clause::String, Value::Null) => "null".to_owned(),
        (Clause::String, Value::Type(name)) => name.to_string(),
        (Clause::String, Value::Ip(_) | Value::Cidr(_)) => return Err(wrong()),
        (Clause::String, _) => convert::to_string(value).map_err(|_| wrong())?.to_string(),
        (Clause::Decimal, Value::Int(it)) => it.to_string(),
        (Clause::Decimal, Value::Uint(it)) => it.to_string(),
        (Clause::Fixed(_) | Clause::Scientific, Value::Double(it)) => localized(clause, *it),
        (Clause::Fixed(_) | Clause::Scientific, Value::String(text)) => match &**text {
            "NaN" => localized(clause, f64::NAN),
            "Infinity" => localized(clause, f64::INFINITY),
            "-Infinity" => localized(clause, f64::NEG_INFINITY),
            _ => return Err(wrong()),
        },
        (Clause::Binary, Value::Int(it)) => signed(*it, |it| format!("{it:b}")),
        (Clause::Binary, Value::Uint(it)) => format!("{it:b}"),
        (Clause::Binary, Value::Bool(it)) => u8::from(*it).to_string(),
        (Clause::Octal, Value::Int(it)) => signed(*it, |it| format!("{it:o}")),
        (Clause::Octal, Value::Uint(it)) => format!("{it:o}"),
        (Clause::Hex { upper }, Value::Int(it)) => signed(*it, |it| hex(upper, &format!("{it:x}"))),
        (Clause::Hex { upper }, Value::Uint(it)) => hex(upper, &format!("{it:x}")),
        (Clause::Hex { upper }, Value::String(it)) => hex(upper, &bytes(it.as_bytes())),
        (Clause::Hex { upper }, Value::Bytes(it)) => hex(upper, &bytes(it)),
        _ => return Err(wrong()),
    })
}

fn signed(value: i64, digits: impl Fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, digits(value.unsigned_abs()))
}

fn hex(upper: bool, digits: &str) -> String {
    if upper { digits.to_ascii_uppercase() } else { digits.to_owned() }
}

fn bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// Numbers as they are printed in American English: thousands apart, exponents raised.
fn localized(clause: Clause, value: f64) -> String {
    if !value.is_finite() {
        let text = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "\u{221e}"
        } else {
            "-\u{221e}"
        };
        // The reference pads to the precision here.
        return match clause {
            Clause::Scientific => format!("{text:>PRECISION$}"),
            _ => text.to_owned(),
        };
    }
    match clause {
        Clause::Scientific => {
            let text = format!("{value:.PRECISION$e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(rest) => ("\u{207b}", rest),
                None => ("", exponent),
            };
            let raised = format!("{exponent:0>2}").chars().map(raised).collect::<String>();
            format!("{mantissa}\u{d7}10{sign}{raised}")
        }
        Clause::Fixed(precision) => {
            let text = format!("{value:.precision$}");
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
            let mut grouped = String::new();
            for (index, digit) in whole.chars().enumerate() {
                if index > 0 && (whole.len() - index).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{sign}{grouped}{point}{fraction}")
        }
        _ => value.to_string(),
    }
}

fn raised(digit: char) -> char {
    const RAISED: [char; 10] = [
        '\u{2070}', '\u{b9}', '\u{b2}', '\u{b3}', '\u{2074}', '\u{2075}', '\u{2076}', '\u{2077}', '\u{2078}',
        '\u{2079}',
    ];
    digit.to_digit(10).map_or(digit, |it| RAISED[it as usize])
}

/// A value within a list or map.
fn inner(value: &Value<'_>) -> Result<String> {
    Ok(match value {
        Value::String(text) => quoted(text),
        Value::Bytes(_) => format!("b{}", quoted(&convert::to_string(value)?)),
        Value::Timestamp(time) => format!("timestamp(\"{time}\")"),
        Value::Duration(nanos) => format!("duration(\"{}\")", convert::duration_text(*nanos)),
        Value::Double(it) if it.is_nan() || it.is_infinite() => quoted(&numbers::go_float(*it, 6)),
        Value::Double(it) => format!("{it:.PRECISION$}"),
        Value::List(list) => in_list(list)?,
        Value::Map(map) => in_map(map)?,
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Type(_) => {
            one(Clause::String, value)?
        }
        other => {
            let text = format!("error during formatting: no formatting function for {}", other.type_name());
            return Err(Error::new(text));
        }
    })
}

fn in_list(list: &List<'_>) -> Result<String> {
    let items: Vec<String> = list.iter().map(|it| inner(&it?)).collect::<Result<_>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

fn in_map(map: &Map<'_>) -> Result<String> {
    let mut pairs = Vec::new();
    for key in map.keys() {
        if !matches!(key, Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_)) {
            let kind = key.type_name();
            return Err(Error::new(format!(
                "error during formatting: no formatting function for map key of type {kind}"
            )));
        }
        if let Some(value) = map.find(&key)? {
            pairs.push((inner(&key)?, inner(&value)?));
        }
    }
    pairs.sort();
    let shown: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", shown.join(", ")))
}

/// Checks the calls in which both the text and the list are literals.
pub(crate) fn validate(checked: &Checked, issues: &mut Issues) {
    for id in 0..checked.ast.nodes.len() as Id {
        let Expr::Call { function, target: Some(target), args } = checked.ast.expr(id) else { continue };
        let (Expr::Literal(Literal::String(text)), [list]) = (checked.ast.expr(*target), args.as_slice())
        else {
            continue;
        };
        let Expr::List { elements, .. } = checked.ast.expr(*list) else { continue };
        if **function != *"format" {
            continue;
        }
        let mut used = 0;
        let result = expand(
            text,
            elements.len(),
            |message| (id, message),
            |index, clause| {
                used = index + 1;
                match misfit(checked, clause, elements[index]) {
                    None => Ok(String::new()),
                    Some(bad) => Err((bad, wrong(clause, &checked.kind(bad).runtime_name()))),
                }
            },
        );
        match result {
            Err((id, message)) => issues.report(checked.ast.offset(id), message),
            Ok(_) if elements.len() > used => {
                let given = elements.len();
                issues.report(
                    checked.ast.offset(id),
                    format!("too many arguments supplied to string.format (expected {used}, got {given})"),
                );
            }
            Ok(_) => {}
        }
    }
}

/// The expression that does not suit the clause.
fn misfit(checked: &Checked, clause: Clause, id: Id) -> Option<Id> {
    let kind = checked.kind(id);
    let suits = match clause {
        Clause::String => !matches!(kind, Type::Struct(_) | Type::Opaque(..) | Type::Error),
        Clause::Decimal | Clause::Octal => matches!(kind, Type::Int | Type::Uint),
        Clause::Fixed(_) | Clause::Scientific => matches!(kind, Type::Double | Type::String),
        Clause::Binary => matches!(kind, Type::Int | Type::Uint | Type::Bool),
        Clause::Hex { .. } => matches!(kind, Type::Int | Type::Uint | Type::String | Type::Bytes),
    };
    if !suits && *kind != Type::Dyn {
        return Some(id);
    }
    if !matches!(clause, Clause::String) {
        return None;
    }
    match checked.ast.expr(id) {
        Expr::List { elements, .. } => elements.iter().find_map(|it| misfit(checked, clause, *it)),
        Expr::Map { entries } => {
            entries.iter().flat_map(|it| [it.key, it.value]).find_map(|it| misfit(checked, clause, it))
        }
        _ => None,
    }
}
