//! Functions of text: the standard ones, the strings extension and `jsonpatch.escapeKey`. Places are counted in
//! characters.

use base64::Engine;

use crate::error::Error;
use crate::library::{Implementation, int, lists, string};
use crate::value::{List, Result, Value};

/// Bytes of text that is made: more than any budget pays for where size has its price.
const LONGEST_TEXT: usize = 64 << 20;

pub(super) fn implementation(name: &str) -> Option<Implementation> {
    Some(match name {
        "size" => size,
        "contains" => |args, _| Ok(Value::Bool(string(args, 0)?.contains(string(args, 1)?))),
        "startsWith" => |args, _| Ok(Value::Bool(string(args, 0)?.starts_with(string(args, 1)?))),
        "endsWith" => |args, _| Ok(Value::Bool(string(args, 0)?.ends_with(string(args, 1)?))),
        "charAt" => char_at,
        "indexOf" => index_of,
        "lastIndexOf" => last_index_of,
        "lowerAscii" => |args, _| Ok(Value::string(string(args, 0)?.to_ascii_lowercase())),
        "upperAscii" => |args, _| Ok(Value::string(string(args, 0)?.to_ascii_uppercase())),
        "trim" => |args, _| Ok(Value::string(string(args, 0)?.trim())),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "join" => join,
        "strings.quote" => |args, _| Ok(Value::string(quote(string(args, 0)?))),
        "format" => super::format_string::format,
        "jsonpatch.escapeKey" => {
            |args, _| Ok(Value::string(string(args, 0)?.replace('~', "~0").replace('/', "~1")))
        }
        _ => return None,
    })
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn size<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    match args {
        [it @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(it.size() as i64))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn out_of_range(index: i64) -> Error {
    Error::new(format!("index out of range: {index}"))
}

/// Where the character at an index begins, in bytes; the length counts as one.
fn place(text: &str, index: i64) -> Result<usize> {
    let wanted = usize::try_from(index).map_err(|_| out_of_range(index))?;
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.nth(wanted).ok_or_else(|| out_of_range(index))
}

fn char_at<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let text = string(args, 0)?;
    let at = place(text, int(args, 1)?)?;
    Ok(Value::string(text[at..].chars().next().map(String::from).unwrap_or_default()))
}

fn index_of<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    if let [Value::List(list), item] = args {
        return lists::index_of(list, item, false);
    }
    let (text, wanted) = (string(args, 0)?, string(args, 1)?);
    let from = if args.len() > 2 { int(args, 2)? } else { 0 };
    if wanted.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return Err(out_of_range(from));
    }
    let Ok(start) = place(text, from) else { return Ok(Value::Int(-1)) };
    let found = text[start..].find(wanted).map(|at| from + text[start..start + at].chars().count() as i64);
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn last_index_of<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    if let [Value::List(list), item] = args {
        return lists::index_of(list, item, true);
    }
    let (text, wanted) = (string(args, 0)?, string(args, 1)?);
    let characters = text.chars().count() as i64;
    if args.len() < 3 {
        if wanted.is_empty() {
            return Ok(Value::Int(characters));
        }
        let found = text.rfind(wanted).map(|at| text[..at].chars().count() as i64);
        return Ok(Value::Int(found.unwrap_or(-1)));
    }
    let offset = int(args, 2)?;
    if wanted.is_empty() {
        return Ok(Value::Int(offset));
    }
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    if offset >= characters {
        return Ok(Value::Int(-1));
    }
    // The match may begin at the offset at the latest.
    let end = place(text, offset)?;
    let end = (end + wanted.len()).min(text.len());
    let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let found = text[..end].rmatch_indices(wanted).map(|(at, _)| text[..at].chars().count() as i64);
    Ok(Value::Int(found.into_iter().find(|at| *at <= offset).unwrap_or(-1)))
}

fn replace<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let (text, old, new) = (string(args, 0)?, string(args, 1)?, string(args, 2)?);
    // The price is that of the text gone through, whatever comes out.
    if text.matches(old).count().saturating_mul(new.len()) > LONGEST_TEXT {
        return Err(Error::CostExceeded);
    }
    if args.len() < 4 {
        return Ok(Value::string(text.replace(old, new)));
    }
    Ok(Value::string(match usize::try_from(int(args, 3)?) {
        Ok(count) => text.replacen(old, new, count),
        Err(_) => text.replace(old, new),
    }))
}

fn split<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let (text, separator) = (string(args, 0)?, string(args, 1)?);
    let most = if args.len() > 2 { usize::try_from(int(args, 2)?).unwrap_or(usize::MAX) } else { usize::MAX };
    let parts: Vec<String> = match most {
        0 => Vec::new(),
        // Between all characters.
        _ if separator.is_empty() => {
            let mut parts = Vec::new();
            let mut rest = text;
            while let Some(first) = rest.chars().next() {
                if parts.len() + 1 == most {
                    parts.push(rest.to_owned());
                    break;
                }
                parts.push(first.to_string());
                rest = &rest[first.len_utf8()..];
            }
            parts
        }
        _ => text.splitn(most, separator).map(str::to_owned).collect(),
    };
    Ok(Value::strings(parts))
}

fn substring<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let text = string(args, 0)?;
    let start = int(args, 1)?;
    if args.len() < 3 {
        return Ok(Value::string(&text[place(text, start)?..]));
    }
    let end = int(args, 2)?;
    if start > end {
        return Err(Error::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    Ok(Value::string(&text[place(text, start)?..place(text, end)?]))
}

fn join<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let Some(Value::List(list)) = args.first() else { return Err(Error::no_such_overload()) };
    let separator = if args.len() > 1 { string(args, 1)? } else { "" };
    join_list(list, separator).map(Value::string)
}

fn join_list(list: &List<'_>, separator: &str) -> Result<String> {
    let mut out = String::new();
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        if out.len() > LONGEST_TEXT {
            return Err(Error::CostExceeded);
        }
        match item? {
            Value::String(text) => out.push_str(&text),
            other => return Err(Error::new(format!("join: invalid input: {}", other.show()))),
        }
    }
    Ok(out)
}

/// Text as a literal of the language.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
