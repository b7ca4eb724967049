//! A serde `Deserializer` over protobuf bytes that walks the field plan.
//!
//! What a visitor sees is the object's JSON in normal form: text for times, quantities and bytes (raw bytes
//! for those that ask for bytes), the value of every field that normal form has. Fields that the target does
//! not know are never decoded.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

use super::Error;
use super::read::{self, Datum, Found, IntOrText};
use super::transcode::is_omitted;
use crate::codec::budget::{Budget, Exhausted};
use crate::codec::{MAX_DEPTH, json, normal};
use crate::quantity::Quantity;
use crate::schema::{Field, List, Omit, Schema, Shape, Type, TypeId};
use crate::time;

impl de::Error for Error {
    fn custom<T: Display>(msg: T) -> Error {
        Error::Custom(msg.to_string())
    }
}

impl From<Exhausted> for Error {
    fn from(_: Exhausted) -> Error {
        Error::Memory
    }
}

pub(super) fn value(schema: &Schema, ty: TypeId, bytes: &[u8]) -> Result<Value, Error> {
    let context = Context::new(schema, true, bytes.len());
    Node { context: &context, what: What::Message(&schema[ty], bytes), depth: 0 }.build()
}

pub(super) fn typed<T: DeserializeOwned>(schema: &Schema, ty: TypeId, bytes: &[u8]) -> Result<T, Error> {
    let context = Context::new(schema, false, bytes.len());
    T::deserialize(Node { context: &context, what: What::Message(&schema[ty], bytes), depth: 0 })
}

struct Context<'s, 'a> {
    schema: &'s Schema,
    /// Nil lists and maps are `null`; otherwise they are absent, which suits `Vec` and `Option` alike.
    nulls: bool,
    /// Frames of the messages that are being read.
    stack: RefCell<Vec<Found<'a>>>,
    room: usize,
    budget: Cell<Budget>,
}

impl<'s> Context<'s, '_> {
    fn new(schema: &'s Schema, nulls: bool, length: usize) -> Self {
        let (room, budget) = (read::room(length), Cell::new(Budget::new(length)));
        Context { schema, nulls, stack: RefCell::default(), room, budget }
    }

    fn spend(&self, on: impl FnOnce(&mut Budget) -> Result<(), Exhausted>) -> Result<(), Error> {
        let mut budget = self.budget.get();
        on(&mut budget)?;
        self.budget.set(budget);
        Ok(())
    }
}

/// One value that is about to be visited.
#[derive(Clone, Copy)]
struct Node<'c, 's, 'a> {
    context: &'c Context<'s, 'a>,
    what: What<'s, 'a>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum What<'s, 'a> {
    Message(&'s Type, &'a [u8]),
    /// One value of this shape; of lists and maps only wrapped lists.
    One(&'s Shape, Datum<'a>),
    /// A repeated field: entries of the stack.
    List(&'s Shape, usize, usize),
    Map(&'s Shape, usize, usize),
    /// A field that is not there and has a zero.
    Zero(&'s Shape),
    Null,
}

impl<'s, 'a> What<'s, 'a> {
    /// The value of a map's entry.
    fn of_entry(shape: &'s Shape, value: Option<Datum<'a>>) -> Self {
        match (value, shape) {
            (Some(datum), shape) => What::One(shape, datum),
            (None, Shape::Bytes | Shape::List(_)) => What::One(shape, Datum::Bytes(&[])),
            (None, shape) => What::Zero(shape),
        }
    }
}

impl<'c, 's, 'a> Node<'c, 's, 'a> {
    fn inner(self, what: What<'s, 'a>) -> Node<'c, 's, 'a> {
        Node { what, ..self }
    }

    fn type_of(&self, id: TypeId) -> &'s Type {
        &self.context.schema[id]
    }

    fn message<'de, V: Visitor<'de>>(
        self,
        ty: &'s Type,
        bytes: &'a [u8],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let fields = self.open(ty, bytes)?;
        let start = fields.next;
        let value = visitor.visit_map(fields)?;
        self.context.stack.borrow_mut().truncate(start);
        Ok(value)
    }

    /// Finds a message's fields; they lie on the stack until it is truncated to where they begin.
    fn open(self, ty: &'s Type, bytes: &'a [u8]) -> Result<Fields<'c, 's, 'a>, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::Depth);
        }
        let mut stack = self.context.stack.borrow_mut();
        let start = stack.len();
        read::scan(ty.wire(), bytes, &mut stack, self.context.room)?;
        Ok(Fields { node: self, ty, at: 0, given: 0, next: start, end: stack.len(), value: None })
    }

    /// The value itself. A visitor that makes values puts together the very same, but reads JSON that is carried as
    /// text twice over and asks of every key whether it is a special one.
    fn build(self) -> Result<Value, Error> {
        match self.what {
            What::Message(ty, bytes) => self.build_message(ty, bytes),
            What::One(Shape::Message(id), datum) => self.build_message(self.type_of(*id), datum.bytes()?),
            What::Zero(Shape::Message(id)) => self.build_message(self.type_of(*id), &[]),
            What::One(Shape::String, datum) => {
                Ok(Value::String(String::from_utf8_lossy(datum.bytes()?).into_owned()))
            }
            What::One(Shape::FieldsV1, datum) => match read::wrapped(datum.bytes()?)? {
                b"" | b"null" => Ok(Value::Null),
                raw => json::compacted(raw).map(Value::String).map_err(|e| Error::Json(e.to_string())),
            },
            What::One(Shape::RawExtension | Shape::Json, datum) => self.free(datum),
            What::List(element, next, end) => {
                let mut list = Vec::with_capacity(end - next);
                for at in next..end {
                    let datum = self.context.stack.borrow()[at].datum;
                    self.context.spend(|budget| budget.element(at - next))?;
                    list.push(self.inner(What::One(element, datum)).build()?);
                }
                Ok(Value::Array(list))
            }
            What::Map(shape, next, end) => {
                let mut map = Map::new();
                for at in next..end {
                    let datum = self.context.stack.borrow()[at].datum;
                    self.context.spend(|budget| budget.entry(at - next))?;
                    let (key, value) = read::entry(datum.bytes()?)?;
                    let value = self.inner(What::of_entry(shape, value)).build()?;
                    map.insert(String::from_utf8_lossy(key).into_owned(), value);
                }
                Ok(Value::Object(map))
            }
            What::One(..) | What::Zero(_) | What::Null => Value::deserialize(self),
        }
    }

    fn build_message(self, ty: &'s Type, bytes: &'a [u8]) -> Result<Value, Error> {
        let mut fields = self.open(ty, bytes)?;
        let start = fields.next;
        let mut map = Map::new();
        while let Some((field, what)) = fields.advance()? {
            let value = Node { what, depth: self.depth + 1, ..self }.build()?;
            map.insert(field.name.clone().into_owned(), value);
        }
        self.context.stack.borrow_mut().truncate(start);
        Ok(Value::Object(map))
    }

    /// JSON that is carried as text.
    fn free(self, datum: Datum<'a>) -> Result<Value, Error> {
        let value = match read::wrapped(datum.bytes()?)? {
            b"" => Value::Null,
            raw => json::parse(raw).map_err(|e| Error::Json(e.to_string()))?.0,
        };
        self.context.spend(|budget| budget.within(&value))?;
        Ok(value)
    }

    fn one<'de, V: Visitor<'de>>(
        self,
        shape: &'s Shape,
        datum: Datum<'a>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match shape {
            Shape::String => text(datum.bytes()?, visitor),
            Shape::Bool => visitor.visit_bool(datum.bool()?),
            Shape::Int32 => visitor.visit_i64(datum.int32()?.into()),
            Shape::Int64 => visitor.visit_i64(datum.int64()?),
            Shape::Double => match normal::double(datum.double()?) {
                Value::Number(n) if n.is_i64() => visitor.visit_i64(n.as_i64().unwrap_or_default()),
                Value::Number(n) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
                _ => visitor.visit_unit(),
            },
            Shape::Bytes => visitor.visit_string(STANDARD.encode(datum.bytes()?)),
            Shape::Quantity => match read::wrapped(datum.bytes()?)? {
                b"" => visitor.visit_str("0"),
                // a client's need not be one, nor canonical
                text => {
                    let text = String::from_utf8_lossy(text);
                    let quantity = Quantity::parse(&text).map_err(|e| Error::Custom(e.to_string()))?;
                    visitor.visit_string(quantity.to_string())
                }
            },
            Shape::IntOrString => match read::int_or_text(datum.bytes()?)? {
                IntOrText::Int(n) => visitor.visit_i64(n.into()),
                IntOrText::Text(bytes) => text(bytes, visitor),
            },
            Shape::Time | Shape::MicroTime => match read::moment(datum.bytes()?)? {
                None => visitor.visit_unit(),
                Some(at) => {
                    let mut out = Vec::with_capacity(27);
                    match shape {
                        Shape::Time => time::write(at.seconds, &mut out),
                        _ => time::write_micro(at, &mut out),
                    }
                    text(&out, visitor)
                }
            },
            Shape::Duration => visitor.visit_string(time::format_duration(read::duration(datum.bytes()?)?)),
            Shape::FieldsV1 | Shape::RawExtension | Shape::Json => {
                self.free(datum)?.deserialize_any(visitor).map_err(|e| Error::Json(e.to_string()))
            }
            Shape::Message(id) => self.message(self.type_of(*id), datum.bytes()?, visitor),
            Shape::List(list) => {
                let fields = read::Fields::new(datum.bytes()?);
                visitor.visit_seq(Wrapped { node: self, list, fields, given: 0 })
            }
            Shape::Map(_) => Err(Error::WireType),
            Shape::SchemaOrBool(id) => {
                let union = read::union(datum.bytes()?, true)?;
                match union.schema {
                    Some(bytes) => self.message(self.type_of(*id), bytes, visitor),
                    None => visitor.visit_bool(union.allows),
                }
            }
            Shape::SchemaOrArray(id) | Shape::SchemaOrStrings(id) => {
                let union = read::union(datum.bytes()?, false)?;
                match (union.list.is_empty(), union.schema) {
                    (true, Some(bytes)) => self.message(self.type_of(*id), bytes, visitor),
                    (true, None) => visitor.visit_unit(),
                    (false, _) => {
                        let strings = matches!(shape, Shape::SchemaOrStrings(_));
                        let ty = (!strings).then(|| self.type_of(*id));
                        visitor.visit_seq(UnionList { node: self, ty, items: union.list.into_iter() })
                    }
                }
            }
        }
    }

    fn zero<'de, V: Visitor<'de>>(self, shape: &'s Shape, visitor: V) -> Result<V::Value, Error> {
        match shape {
            Shape::String => visitor.visit_str(""),
            Shape::Bool | Shape::SchemaOrBool(_) => visitor.visit_bool(false),
            Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => visitor.visit_i64(0),
            Shape::Quantity => visitor.visit_str("0"),
            Shape::Duration => visitor.visit_str("0s"),
            Shape::Message(id) => self.message(self.type_of(*id), &[], visitor),
            _ => visitor.visit_unit(),
        }
    }

    /// Shown as `null`: what an `Option` is empty for.
    fn is_null(&self) -> Result<bool, Error> {
        Ok(match self.what {
            What::Null => true,
            What::Zero(shape) => matches!(
                shape,
                Shape::Time
                    | Shape::MicroTime
                    | Shape::FieldsV1
                    | Shape::RawExtension
                    | Shape::Json
                    | Shape::SchemaOrArray(_)
                    | Shape::SchemaOrStrings(_)
            ),
            What::One(Shape::Time | Shape::MicroTime, datum) => read::moment(datum.bytes()?)?.is_none(),
            What::One(Shape::FieldsV1 | Shape::RawExtension | Shape::Json, datum) => {
                matches!(read::wrapped(datum.bytes()?)?, b"" | b"null")
            }
            What::One(Shape::SchemaOrArray(_) | Shape::SchemaOrStrings(_), datum) => {
                let union = read::union(datum.bytes()?, false)?;
                union.list.is_empty() && union.schema.is_none()
            }
            _ => false,
        })
    }
}

fn text<'de, V: Visitor<'de>>(bytes: &[u8], visitor: V) -> Result<V::Value, Error> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => visitor.visit_str(text),
        Cow::Owned(text) => visitor.visit_string(text),
    }
}

impl<'de> Deserializer<'de> for Node<'_, '_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.what {
            What::Message(ty, bytes) => self.message(ty, bytes, visitor),
            What::One(shape, datum) => self.one(shape, datum, visitor),
            What::List(element, next, end) => {
                visitor.visit_seq(Repeated { node: self, element, start: next, next, end })
            }
            What::Map(shape, next, end) => {
                visitor.visit_map(Entries { node: self, shape, start: next, next, end, value: None })
            }
            What::Zero(shape) => self.zero(shape, visitor),
            What::Null => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null()? { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.what {
            What::One(Shape::String, datum) => {
                let text = String::from_utf8_lossy(datum.bytes()?);
                let inner: StrDeserializer<Error> = (*text).into_deserializer();
                inner.deserialize_enum(name, variants, visitor)
            }
            _ => Err(de::Error::custom(format!("{name} is not a string"))),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.what {
            What::One(Shape::Bytes, datum) => visitor.visit_bytes(datum.bytes()?),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

/// The fields of a message, in JSON's order.
struct Fields<'c, 's, 'a> {
    node: Node<'c, 's, 'a>,
    ty: &'s Type,
    /// The next field to look at.
    at: usize,
    given: usize,
    /// The frame's entries that are left.
    next: usize,
    end: usize,
    value: Option<What<'s, 'a>>,
}

impl<'s, 'a> Fields<'_, 's, 'a> {
    /// The next field that normal form has.
    fn advance(&mut self) -> Result<Option<(&'s Field, What<'s, 'a>)>, Error> {
        let ty = self.ty;
        while let Some(field) = ty.fields.get(self.at) {
            let from = self.next;
            {
                let stack = self.node.context.stack.borrow();
                while self.next < self.end && stack[self.next].at as usize == self.at {
                    self.next += 1;
                }
            }
            self.at += 1;
            if let Some(what) = self.settle(field, from, self.next)? {
                self.node.context.spend(|budget| budget.entry(self.given))?;
                self.given += 1;
                return Ok(Some((field, what)));
            }
        }
        Ok(None)
    }

    /// What normal form holds for a field whose entries are `from..to`.
    fn settle(&self, field: &'s Field, from: usize, to: usize) -> Result<Option<What<'s, 'a>>, Error> {
        let nulls = self.node.context.nulls;
        if from == to {
            return Ok(match (field.pointer || field.shape.is_nilable(), field.omit) {
                (true, Omit::Never) if nulls => Some(What::Null),
                (true, _) | (false, Omit::Zero) => None,
                (false, Omit::Empty) if !field.shape.is_struct() => None,
                (false, _) => Some(What::Zero(&field.shape)),
            });
        }
        match &field.shape {
            Shape::List(list) if !list.wrapped => return Ok(Some(What::List(&list.element, from, to))),
            Shape::Map(map) => return Ok(Some(What::Map(&map.value, from, to))),
            _ => {}
        }
        let datum = self.node.context.stack.borrow()[to - 1].datum;
        if !field.pointer && field.omit != Omit::Never && is_omitted(field, datum)? {
            return Ok(None);
        }
        // a pointer to the zero of a time, which JSON cannot tell from none
        let is_time = matches!(field.shape, Shape::Time | Shape::MicroTime);
        if is_time && field.omit != Omit::Never && field.pointer && read::moment(datum.bytes()?)?.is_none() {
            return Ok(None);
        }
        Ok(Some(What::One(&field.shape, datum)))
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((field, what)) = self.advance()? else { return Ok(None) };
        self.value = Some(what);
        let name: StrDeserializer<Error> = (*field.name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let what = self.value.take().unwrap_or(What::Null);
        seed.deserialize(Node { what, depth: self.node.depth + 1, ..self.node })
    }
}

struct Repeated<'c, 's, 'a> {
    node: Node<'c, 's, 'a>,
    element: &'s Shape,
    start: usize,
    next: usize,
    end: usize,
}

impl<'de> SeqAccess<'de> for Repeated<'_, '_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next == self.end {
            return Ok(None);
        }
        let datum = self.node.context.stack.borrow()[self.next].datum;
        self.node.context.spend(|budget| budget.element(self.next - self.start))?;
        self.next += 1;
        seed.deserialize(self.node.inner(What::One(self.element, datum))).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}

struct Entries<'c, 's, 'a> {
    node: Node<'c, 's, 'a>,
    shape: &'s Shape,
    start: usize,
    next: usize,
    end: usize,
    value: Option<Datum<'a>>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.next == self.end {
            return Ok(None);
        }
        let datum = self.node.context.stack.borrow()[self.next].datum;
        self.node.context.spend(|budget| budget.entry(self.next - self.start))?;
        self.next += 1;
        let (key, value) = read::entry(datum.bytes()?)?;
        self.value = value;
        let key = String::from_utf8_lossy(key);
        let key: StrDeserializer<Error> = (*key).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let what = What::of_entry(self.shape, self.value.take());
        seed.deserialize(self.node.inner(what))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}

/// A list that is a message with one field.
struct Wrapped<'c, 's, 'a> {
    node: Node<'c, 's, 'a>,
    list: &'s List,
    fields: read::Fields<'a>,
    given: usize,
}

impl<'de> SeqAccess<'de> for Wrapped<'_, '_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        while let Some((tag, datum)) = self.fields.next()? {
            if tag == 1 {
                self.node.context.spend(|budget| budget.element(self.given))?;
                self.given += 1;
                let element = self.node.inner(What::One(&self.list.element, datum));
                return seed.deserialize(element).map(Some);
            }
        }
        Ok(None)
    }
}

/// The list of a union: messages, or strings where there is no type.
struct UnionList<'c, 's, 'a> {
    node: Node<'c, 's, 'a>,
    ty: Option<&'s Type>,
    items: std::vec::IntoIter<&'a [u8]>,
}

impl<'de> SeqAccess<'de> for UnionList<'_, '_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(bytes) = self.items.next() else { return Ok(None) };
        self.node.context.spend(|budget| budget.element(1))?;
        let what = match self.ty {
            Some(ty) => What::Message(ty, bytes),
            None => What::One(&Shape::String, Datum::Bytes(bytes)),
        };
        seed.deserialize(self.node.inner(what)).map(Some)
    }
}
