//! JSON over a field plan: strict reading with the words of `sigs.k8s.io/json`, writing in Go's field order.

use std::borrow::Cow;

use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::{Decoded, Error};
use crate::schema::{Schema, TypeId};

mod decode;
mod encode;
mod lex;

pub use encode::{to_vec, write, write_string, write_value};
pub(super) use encode::{write_double, write_int};
use lex::{Lexer, Token};

/// Reads one object of this type into normal form.
///
/// Wrong syntax goes before wrong types; of wrong types the first is reported. What is unknown or given twice
/// is no error: it is listed, and of two values the last one counts. Names are case-sensitive.
pub fn decode(schema: &Schema, ty: TypeId, bytes: &[u8]) -> Result<Decoded, Error> {
    decode::decode(schema, ty, bytes)
}

/// Reads any JSON, as upstream reads unstructured content: a number without a point that fits is an int64, any
/// other a double. The second part lists duplicate fields (`duplicate field "spec.x"`).
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), Error> {
    let mut lexer = Lexer::new(bytes)?;
    let mut any = Any::default();
    let token = lexer.value()?;
    let value = any.value(&mut lexer, token)?;
    lexer.end()?;
    Ok((value, any.duplicates))
}

/// Appends JSON without its spaces, escaped as Go does; its keys keep their order. Errors as [`parse`].
pub fn compact(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if lex::settled(bytes) == Some(bytes.len()) {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let mut lexer = Lexer::new(bytes)?;
    let token = lexer.value()?;
    compact_value(&mut lexer, token, out)?;
    lexer.end()
}

/// [`compact`] into a text of its own.
pub fn compacted(bytes: &[u8]) -> Result<String, Error> {
    let mut out = Vec::with_capacity(bytes.len());
    compact(bytes, &mut out)?;
    into_text(out)
}

/// The value that begins with `token`, as [`compact`] writes it.
fn compact_rest(lexer: &mut Lexer, token: Token) -> Result<String, Error> {
    if let Token::Object = token
        && let Some(text) = lexer.settled_object()
    {
        return Ok(text.to_owned());
    }
    let mut out = Vec::new();
    compact_value(lexer, token, &mut out)?;
    into_text(out)
}

fn into_text(json: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(json).map_err(|why| Error::Syntax(why.to_string()))
}

fn compact_value(lexer: &mut Lexer, token: Token, out: &mut Vec<u8>) -> Result<(), Error> {
    match token {
        Token::Object => {
            let mut first = true;
            out.push(b'{');
            while let Some(key) = lexer.key(first)? {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                write_string(&key, out);
                out.push(b':');
                let token = lexer.value()?;
                compact_value(lexer, token, out)?;
            }
            out.push(b'}');
        }
        Token::Array => {
            let mut first = true;
            out.push(b'[');
            while lexer.element(first)? {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                let token = lexer.value()?;
                compact_value(lexer, token, out)?;
            }
            out.push(b']');
        }
        Token::String(text) => write_string(&text, out),
        Token::Number(text) => out.extend_from_slice(text.as_bytes()),
        Token::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Token::Null => out.extend_from_slice(b"null"),
    }
    Ok(())
}

/// `apiVersion` and `kind` of an object, empty where absent, without looking at the rest beyond its syntax.
/// Errors are those that follow upstream's `couldn't get version/kind; json parse error: `.
pub fn type_meta(bytes: &[u8]) -> Result<(String, String), Error> {
    let mut lexer = Lexer::new(bytes)?;
    let (mut api_version, mut kind) = (String::new(), String::new());
    let mut problem = None;
    let token = lexer.value()?;
    match token {
        Token::Object => {
            let mut first = true;
            while let Some(key) = lexer.key(first)? {
                first = false;
                let value = lexer.value()?;
                lexer.skip(&value)?;
                let target = match &*key {
                    "apiVersion" => &mut api_version,
                    "kind" => &mut kind,
                    _ => continue,
                };
                match value {
                    Token::String(text) => *target = text.into_owned(),
                    Token::Null => {}
                    other => {
                        let text = format!(
                            "json: cannot unmarshal {} into Go struct field .{key} of type string",
                            name_of(&other)
                        );
                        problem.get_or_insert(Error::Type(text));
                    }
                }
            }
        }
        Token::Null => {}
        other => {
            lexer.skip(&other)?;
            let found = name_of(&other);
            let target = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
            problem =
                Some(Error::Type(format!("json: cannot unmarshal {found} into Go value of type {target}")));
        }
    }
    lexer.end()?;
    problem.map_or(Ok((api_version, kind)), Err)
}

/// What Go calls a value that begins so.
fn name_of(token: &Token) -> &'static str {
    match token {
        Token::Object => "object",
        Token::Array => "array",
        Token::String(_) => "string",
        Token::Number(_) => "number",
        Token::Bool(_) => "bool",
        Token::Null => "null",
    }
}

/// Builds values without a plan.
#[derive(Default)]
struct Any<'a> {
    /// The way to where it is, for what is said of duplicates.
    path: Vec<At<'a>>,
    duplicates: Vec<String>,
}

enum At<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

impl<'a> Any<'a> {
    fn value(&mut self, lexer: &mut Lexer<'a>, token: Token<'a>) -> Result<Value, Error> {
        Ok(match token {
            Token::Object => {
                let mut object = Map::new();
                let mut first = true;
                while let Some(key) = lexer.key(first)? {
                    first = false;
                    let token = lexer.value()?;
                    let nested = matches!(token, Token::Object | Token::Array);
                    if nested {
                        self.path.push(At::Key(key.clone()));
                    }
                    let value = self.value(lexer, token)?;
                    if nested {
                        self.path.pop();
                    }
                    let before = object.len();
                    match object.entry(key) {
                        Entry::Vacant(entry) => {
                            lexer.budget.entry(before)?;
                            entry.insert(value);
                        }
                        Entry::Occupied(mut entry) => {
                            self.duplicate(entry.key());
                            entry.insert(value);
                        }
                    }
                }
                Value::Object(object)
            }
            Token::Array => {
                let mut list = Vec::new();
                while lexer.element(list.is_empty())? {
                    lexer.budget.element(list.len())?;
                    let token = lexer.value()?;
                    let nested = matches!(token, Token::Object | Token::Array);
                    if nested {
                        self.path.push(At::Index(list.len()));
                    }
                    list.push(self.value(lexer, token)?);
                    if nested {
                        self.path.pop();
                    }
                }
                Value::Array(list)
            }
            Token::String(text) => Value::String(text.into_owned()),
            Token::Number(text) => number(text)?,
            Token::Bool(flag) => Value::Bool(flag),
            Token::Null => Value::Null,
        })
    }

    fn duplicate(&mut self, key: &str) {
        let mut path = String::new();
        for step in self.path.iter().chain([&At::Key(key.into())]) {
            match step {
                At::Index(at) => path.push_str(&format!("[{at}]")),
                At::Key(key) => {
                    path.push_str(if path.is_empty() { "" } else { "." });
                    path.push_str(key);
                }
            }
        }
        let text = format!("duplicate field {path:?}");
        if self.duplicates.len() < 100 && !self.duplicates.contains(&text) {
            self.duplicates.push(text);
        }
    }
}

/// A number that nothing is known about.
fn number(text: &str) -> Result<Value, Error> {
    if !text.contains('.')
        && let Ok(n) = text.parse::<i64>()
    {
        return Ok(n.into());
    }
    let double = text.parse::<f64>().ok().filter(|n| n.is_finite()).and_then(Number::from_f64);
    double.map(Value::Number).ok_or_else(|| {
        Error::Type(format!("json: cannot unmarshal number {text} into Go value of type float64"))
    })
}

#[cfg(test)]
mod tests;
