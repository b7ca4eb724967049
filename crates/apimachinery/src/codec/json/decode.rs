//! JSON text into normal form, in one pass along the field plan.

use serde_json::{Map, Value};

use super::super::normal::{self, Misfit, Scalar, Step, Trail};
use super::super::{Decoded, Error};
use super::lex::{Lexer, Token};
use super::{Any, At, name_of};
use crate::schema::{Schema, Shape, Type, TypeId};

pub(super) fn decode(schema: &Schema, ty: TypeId, bytes: &[u8]) -> Result<Decoded, Error> {
    let mut decoder = Decoder {
        schema,
        lexer: Lexer::new(bytes)?,
        trail: Trail::default(),
        quiet: 0,
        problem: None,
        out: Decoded::default(),
    };
    let token = decoder.lexer.value()?;
    let shape = Shape::Message(ty);
    let value = match token {
        Token::Object => Some(decoder.message(&schema[ty])?),
        Token::Null => Some(normal::zero(schema, &shape)),
        other => {
            decoder.misfit(Misfit::Kind(name_of(&other).into()), &shape);
            decoder.lexer.skip(&other)?;
            None
        }
    };
    decoder.lexer.end()?;
    match (decoder.problem, value) {
        (Some(problem), _) => Err(problem),
        (None, value) => Ok(Decoded { value: value.unwrap_or_default(), ..decoder.out }),
    }
}

/// Which fields of a message were seen.
#[derive(Default)]
struct Seen {
    low: u128,
    high: Vec<usize>,
}

impl Seen {
    /// Whether it was there before.
    fn insert(&mut self, at: usize) -> bool {
        if at < 128 {
            let before = self.low;
            self.low |= 1 << at;
            return before == self.low;
        }
        let there = self.high.contains(&at);
        self.high.push(at);
        there
    }

    fn contains(&self, at: usize) -> bool {
        if at < 128 { self.low & (1 << at) != 0 } else { self.high.contains(&at) }
    }
}

struct Decoder<'s, 'a> {
    schema: &'s Schema,
    lexer: Lexer<'a>,
    trail: Trail<'s>,
    /// Above zero inside types that read themselves: upstream loses strictness there.
    quiet: usize,
    problem: Option<Error>,
    out: Decoded,
}

impl<'s, 'a> Decoder<'s, 'a> {
    fn misfit(&mut self, misfit: Misfit, shape: &Shape) {
        if self.problem.is_none() {
            self.problem = Some(match misfit {
                Misfit::Kind(found) => self.trail.mismatch(self.schema, &found, shape),
                Misfit::Text(text) => Error::Type(text),
            });
        }
    }

    fn strict(&mut self, what: &str, name: &str) {
        if self.quiet == 0 {
            let text = format!("{what} field {:?}", self.trail.strict(name));
            self.note(what == "unknown", text);
        }
    }

    fn note(&mut self, unknown: bool, text: String) {
        if self.out.strict.len() < 100 && !self.out.strict.contains(&text) {
            let list = if unknown { &mut self.out.unknown } else { &mut self.out.duplicates };
            list.push(text.clone());
            self.out.strict.push(text);
        }
    }

    fn message(&mut self, ty: &'s Type) -> Result<Value, Error> {
        let mut object = Map::new();
        let mut seen = Seen::default();
        let mut first = true;
        while let Some(key) = self.lexer.key(first)? {
            first = false;
            let token = self.lexer.value()?;
            let Some(at) = ty.position(&key) else {
                if ty.preserve_unknown {
                    self.lexer.budget.entry(object.len())?;
                    let value = self.preserved(&key, token)?;
                    if object.insert(key.clone().into_owned(), value).is_some() {
                        self.strict("duplicate", &key);
                    }
                } else {
                    self.strict("unknown", &key);
                    self.lexer.skip(&token)?;
                }
                continue;
            };
            let field = &ty.fields[at];
            self.lexer.budget.entry(object.len())?;
            if seen.insert(at) {
                self.strict("duplicate", &key);
                object.remove(&*field.name);
            }
            if field.nullable && matches!(token, Token::Null) {
                object.insert(key.into_owned(), Value::Null);
                continue;
            }
            self.trail.push(Step::Field(ty, field));
            let found = self.value(&field.shape, token)?;
            self.trail.pop();
            if let Some(value) = normal::settle(self.schema, field, found) {
                object.insert(key.into_owned(), value);
            }
        }
        for (at, field) in ty.fields.iter().enumerate() {
            if !seen.contains(at)
                && let Some(value) = normal::settle(self.schema, field, None)
            {
                self.lexer.budget.entry(object.len())?;
                self.lexer.budget.within(&value)?;
                object.insert(field.name.clone().into_owned(), value);
            }
        }
        Ok(Value::Object(object))
    }

    /// `None`: null, or wrong (and noted).
    fn value(&mut self, shape: &'s Shape, token: Token<'a>) -> Result<Option<Value>, Error> {
        Ok(match (shape, token) {
            (_, Token::Null) => None,
            (Shape::FieldsV1, token) => Some(Value::String(super::compact_rest(&mut self.lexer, token)?)),
            (Shape::RawExtension | Shape::Json, token) => Some(self.free(token)?),
            (Shape::Message(id), Token::Object) => Some(self.message(&self.schema[*id])?),
            (Shape::List(list), Token::Array) => Some(self.list(&list.element)?),
            (Shape::Map(map), Token::Object) => Some(self.map(&map.value)?),
            (
                Shape::SchemaOrBool(id) | Shape::SchemaOrArray(id) | Shape::SchemaOrStrings(id),
                Token::Object,
            ) => {
                self.quiet += 1;
                let value = self.message(&self.schema[*id]);
                self.quiet -= 1;
                Some(value?)
            }
            (Shape::SchemaOrArray(id), Token::Array) => {
                self.quiet += 1;
                let mut list = Vec::new();
                while self.lexer.element(list.is_empty())? {
                    self.lexer.budget.element(list.len())?;
                    match self.lexer.value()? {
                        Token::Object => list.push(self.message(&self.schema[*id])?),
                        other => {
                            self.misfit(Misfit::Kind(name_of(&other).into()), shape);
                            self.lexer.skip(&other)?;
                            list.push(Value::Null);
                        }
                    }
                }
                self.quiet -= 1;
                Some(Value::Array(list)).filter(|list| list.as_array().is_some_and(|l| !l.is_empty()))
            }
            (Shape::SchemaOrStrings(_), Token::Array) => {
                let list = self.list(&Shape::String)?;
                Some(list).filter(|list| list.as_array().is_some_and(|l| !l.is_empty()))
            }
            (shape, token @ (Token::Object | Token::Array)) => {
                self.misfit(normal::compound_misfit(shape, name_of(&token)), shape);
                self.lexer.skip(&token)?;
                None
            }
            (shape, Token::String(text)) => self.scalar(shape, Scalar::String(text)),
            (shape, Token::Bool(flag)) => self.scalar(shape, Scalar::Bool(flag)),
            (shape, Token::Number(text)) => match text.parse() {
                Ok(n) => self.scalar(shape, Scalar::Int(n)),
                Err(_) => self.scalar(shape, Scalar::Number(text)),
            },
        })
    }

    fn scalar(&mut self, shape: &Shape, found: Scalar) -> Option<Value> {
        match normal::scalar(shape, found) {
            Ok(Value::Null) => None,
            Ok(value) => Some(value),
            Err(misfit) => {
                self.misfit(misfit, shape);
                None
            }
        }
    }

    fn list(&mut self, element: &'s Shape) -> Result<Value, Error> {
        let mut list = Vec::new();
        self.trail.push(Step::Index(0));
        while self.lexer.element(list.is_empty())? {
            self.trail.set_index(list.len());
            self.lexer.budget.element(list.len())?;
            let token = self.lexer.value()?;
            let value = match self.value(element, token)? {
                Some(value) => value,
                None => self.zero_element(element)?,
            };
            list.push(value);
        }
        self.trail.pop();
        Ok(Value::Array(list))
    }

    fn map(&mut self, shape: &'s Shape) -> Result<Value, Error> {
        let mut object = Map::new();
        let mut first = true;
        self.trail.push(Step::Key(String::new()));
        while let Some(key) = self.lexer.key(first)? {
            first = false;
            self.trail.set_key(&key);
            let token = self.lexer.value()?;
            let value = match self.value(shape, token)? {
                Some(value) => value,
                None => self.zero_element(shape)?,
            };
            if !object.contains_key(&*key) {
                self.lexer.budget.entry(object.len())?;
            } else {
                self.trail.pop();
                self.strict("duplicate", &key);
                self.trail.push(Step::Key(String::new()));
            }
            object.insert(key.into_owned(), value);
        }
        self.trail.pop();
        Ok(Value::Object(object))
    }

    fn zero_element(&mut self, shape: &Shape) -> Result<Value, Error> {
        let value = normal::zero_element(self.schema, shape);
        self.lexer.budget.within(&value)?;
        Ok(value)
    }

    /// What a type keeps without knowing it: duplicates count there too.
    fn preserved(&mut self, key: &str, token: Token<'a>) -> Result<Value, Error> {
        let mut any = Any { path: vec![At::Key(self.trail.strict(key).into())], duplicates: Vec::new() };
        let value = any.value(&mut self.lexer, token)?;
        for text in any.duplicates {
            self.note(false, text);
        }
        Ok(value)
    }

    /// Free JSON that upstream passes on unread.
    fn free(&mut self, token: Token<'a>) -> Result<Value, Error> {
        Any::default().value(&mut self.lexer, token)
    }
}
