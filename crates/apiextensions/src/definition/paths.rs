//! Paths to fields: `fieldPath` of rules, and selectable fields.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::structural::{Additional, Kind, Structural};

/// Fields that selectors may name: each a path to text, a number or a flag outside of metadata. `may_be_many`: there
/// were too many before, and they stay as they are.
pub fn selectable_fields(
    fields: &[Value],
    schema: &Structural,
    may_be_many: bool,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    const MOST: usize = 8;
    let mut seen: Vec<String> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let at = path.index(index);
        let at = at.child("jsonPath");
        let text = field["jsonPath"].as_str().unwrap_or_default();
        if text.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let found = match field_path(text, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(Error::invalid(&at, text, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.steps.first().is_some_and(|step| step == "metadata") {
            errors.push(Error::invalid(&at, text, "must not point to fields in metadata"));
        }
        let kind = found.schema.and_then(|found| found.kind);
        if !matches!(kind, Some(Kind::String | Kind::Boolean | Kind::Integer)) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(Error::invalid(&at, text, why));
        }
        if seen.contains(&found.text) {
            errors.push(Error::duplicate(&at, text));
        } else {
            seen.push(found.text);
        }
    }
    if seen.len() > MOST && !may_be_many {
        errors.push(Error::too_many(path, seen.len(), MOST));
    }
}

/// A path through a schema.
#[derive(Debug)]
pub struct FieldPath<'s> {
    pub steps: Vec<String>,
    /// The path as faults tell it: `a.b[key]`.
    pub text: String,
    /// What it leads to, if that is known.
    pub schema: Option<&'s Structural>,
}

/// The steps of a path such as `.spec.a['b.c']` through a schema, and where it leads. `subscripts`: `['a']` may be used.
///
/// # Errors
/// What is wrong with the path, in upstream's words.
pub fn field_path<'s>(text: &str, schema: &'s Structural, subscripts: bool) -> Result<FieldPath<'s>, String> {
    let (mut steps, mut told, mut at, mut rest) = (Vec::new(), String::new(), Some(schema), text);
    const END: &str = "unexpected end of JSON path";
    while let Some(first) = rest.chars().next() {
        let name;
        match first {
            '[' if !subscripts => return Err("array notation is not allowed".into()),
            '[' => {
                let (token, after) = token(&rest[1..]).ok_or(END)?;
                let inner = token.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
                name = unescape(inner)?;
                let (close, after) = self::token(after).ok_or(END)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
                rest = after;
            }
            '.' => {
                let (token, after) = token(&rest[1..]).ok_or(END)?;
                name = token.to_owned();
                rest = after;
            }
            _ => {
                let told = token(rest).map_or(rest, |(token, _)| token);
                return Err(format!("expected [ or . but got: {told}"));
            }
        }
        const NOWHERE: &str = "does not refer to a valid field";
        let here = at.ok_or(NOWHERE)?;
        at = match here.properties.is_empty() {
            false => {
                if !told.is_empty() {
                    told.push('.');
                }
                told.push_str(&name);
                Some(here.properties.get(&name).ok_or(NOWHERE)?)
            }
            true if matches!(here.additional, Additional::Absent) => return Err(NOWHERE.into()),
            true => {
                told.push_str(&format!("[{name}]"));
                here.additional.schema()
            }
        };
        steps.push(name);
    }
    Ok(FieldPath { steps, text: told, schema: at })
}

/// A delimiter, a quoted text, or what stands before the next delimiter; and what follows.
fn token(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    let length = match first {
        '.' | '[' | ']' => 1,
        '\'' => {
            let bytes = text.as_bytes();
            let end = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
            end.map_or(text.len(), |at| at + 1)
        }
        _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
    };
    Some(text.split_at(length))
}

fn unescape(text: &str) -> Result<String, String> {
    let (mut out, mut characters) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match characters.next() {
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some(c @ ('\'' | '\\')) => c,
            other => {
                let told = other.map(String::from).unwrap_or_default();
                return Err(format!("invalid string literal: invalid escape char \\{told}"));
            }
        });
    }
    Ok(out)
}
