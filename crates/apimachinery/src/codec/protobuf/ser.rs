//! A serde `Serializer` into protobuf that walks the field plan.
//!
//! It takes an object the way its JSON looks, from a `serde_json::Value` or from a typed struct. Fields may
//! come in any order; the pieces of a message are put in the order of tags when it is complete, and value
//! fields that did not come are written as Go's zero.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

use super::Error;
use crate::codec::MAX_DEPTH;
use crate::schema::{Field, Schema, Shape, Type, TypeId, Wire, WirePlan};
use crate::time::{self, Moment};

impl ser::Error for Error {
    fn custom<T: Display>(msg: T) -> Error {
        Error::Custom(msg.to_string())
    }
}

pub(super) fn to_vec<T: Serialize + ?Sized>(
    schema: &Schema,
    ty: TypeId,
    value: &T,
) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(512);
    let shape = Shape::Message(ty);
    value.serialize(Node { schema, place: Place::Bare(&shape), depth: 0, out: &mut out })?;
    Ok(out)
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_key(tag: u16, wire_type: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(tag) << 3 | wire_type, out);
}

pub(super) fn put_bytes(tag: u16, bytes: &[u8], out: &mut Vec<u8>) {
    put_key(tag, 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_int(tag: u16, value: i64, out: &mut Vec<u8>) {
    put_key(tag, 0, out);
    put_varint(value as u64, out);
}

/// Writes a length-delimited value whose length is known only afterwards: one byte is kept free for it, longer
/// ones move the contents.
fn delimited(
    tag: u16,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    put_key(tag, 2, out);
    let at = out.len();
    out.push(0);
    write(out)?;
    set_length(at, out);
    Ok(())
}

/// Puts the length of everything behind `at` there, where one byte is kept free.
fn set_length(at: usize, out: &mut Vec<u8>) {
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut varint = Vec::with_capacity(10);
    put_varint(length as u64, &mut varint);
    out.splice(at..=at, varint);
}

fn put_moment(at: Moment, out: &mut Vec<u8>) {
    if !at.is_zero() {
        put_int(1, at.seconds, out);
        put_int(2, at.nanos.into(), out);
    }
}

/// The zero of a value field, with its tag.
fn put_zero(schema: &Schema, tag: u16, shape: &Shape, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    match shape {
        Shape::Bool | Shape::Int32 | Shape::Int64 => put_int(tag, 0, out),
        Shape::Double => {
            put_key(tag, 1, out);
            out.extend_from_slice(&[0; 8]);
        }
        Shape::Quantity => put_bytes(tag, b"\x0a\x010", out),
        Shape::IntOrString => put_bytes(tag, b"\x08\x00\x10\x00\x1a\x00", out),
        Shape::Duration | Shape::SchemaOrBool(_) => put_bytes(tag, b"\x08\x00", out),
        Shape::Message(id) => {
            let ty = &schema[*id];
            return delimited(tag, out, |out| {
                assemble(schema, ty, ty.wire(), &Pieces::default(), depth + 1, out)
            });
        }
        // text, bytes, times and JSON: empty
        _ => put_bytes(tag, b"", out),
    }
    Ok(())
}

/// The encoded fields of a message, in the order they came.
#[derive(Default)]
struct Pieces {
    bytes: Vec<u8>,
    /// (position of the field, range in `bytes`), and which field came where.
    fields: Vec<(u16, usize, usize)>,
}

/// Writes a message's fields in the order of tags.
fn assemble(
    schema: &Schema,
    ty: &Type,
    plan: &WirePlan,
    pieces: &Pieces,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    for entry in plan.entries() {
        match entry {
            Wire::Field { tag, at } => {
                let piece = pieces.fields.iter().rev().find(|(field, ..)| field == at);
                match piece {
                    Some((_, from, to)) if from < to => out.extend_from_slice(&pieces.bytes[*from..*to]),
                    _ => {
                        let field = &ty.fields[*at as usize];
                        if field.always_on_wire() {
                            put_zero(schema, *tag, &field.shape, depth, out)?;
                        }
                    }
                }
            }
            // embedded by value in Go, so it is always there
            Wire::Inline { tag, plan } => {
                delimited(*tag, out, |out| assemble(schema, ty, plan, pieces, depth, out))?;
            }
        }
    }
    Ok(())
}

/// Where a value goes.
#[derive(Clone, Copy)]
enum Place<'s> {
    /// The contents of a message, without tag and length.
    Bare(&'s Shape),
    /// A field or an element, with this tag.
    Tagged(u16, &'s Shape),
}

/// One value that is about to be written.
struct Node<'s, 'o> {
    schema: &'s Schema,
    place: Place<'s>,
    depth: usize,
    out: &'o mut Vec<u8>,
}

impl<'s, 'o> Node<'s, 'o> {
    fn shape(&self) -> &'s Shape {
        match self.place {
            Place::Bare(shape) | Place::Tagged(_, shape) => shape,
        }
    }

    fn misfit(&self, found: &str) -> Error {
        Error::Custom(format!("cannot write {found} as {:?}", self.shape()))
    }

    /// Writes the key and a scalar.
    fn int(self, value: i64) -> Result<(), Error> {
        let Place::Tagged(tag, shape) = self.place else { return Err(self.misfit("a number")) };
        match shape {
            Shape::Int32 if i32::try_from(value).is_err() => return Err(self.misfit("a large number")),
            Shape::Int32 | Shape::Int64 => put_int(tag, value, self.out),
            Shape::Double => return self.double(value as f64),
            Shape::Quantity => delimited(tag, self.out, |out| {
                put_bytes(1, itoa::Buffer::new().format(value).as_bytes(), out);
                Ok(())
            })?,
            Shape::IntOrString if i32::try_from(value).is_ok() => delimited(tag, self.out, |out| {
                put_int(1, 0, out);
                put_int(2, value, out);
                put_bytes(3, b"", out);
                Ok(())
            })?,
            _ => return Err(self.misfit("a number")),
        }
        Ok(())
    }

    fn double(self, value: f64) -> Result<(), Error> {
        let Place::Tagged(tag, Shape::Double) = self.place else { return Err(self.misfit("a number")) };
        put_key(tag, 1, self.out);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn text(self, text: &str) -> Result<(), Error> {
        let Place::Tagged(tag, shape) = self.place else { return Err(self.misfit("text")) };
        match shape {
            Shape::String => put_bytes(tag, text.as_bytes(), self.out),
            Shape::Bytes => {
                let bytes = STANDARD.decode(text).map_err(|_| self.misfit("text that is no base64"))?;
                put_bytes(tag, &bytes, self.out);
            }
            Shape::Quantity => delimited(tag, self.out, |out| {
                put_bytes(1, text.as_bytes(), out);
                Ok(())
            })?,
            Shape::IntOrString => delimited(tag, self.out, |out| {
                put_int(1, 1, out);
                put_int(2, 0, out);
                put_bytes(3, text.as_bytes(), out);
                Ok(())
            })?,
            Shape::Time | Shape::MicroTime => {
                // typed structs write fractions of other lengths than normal form has
                let at = time::parse(text).map_err(|e| Error::Custom(e.to_string()))?;
                let nanos = if *shape == Shape::Time { 0 } else { at.nanos / 1_000 * 1_000 };
                delimited(tag, self.out, |out| {
                    put_moment(Moment { nanos, ..at }, out);
                    Ok(())
                })?;
            }
            Shape::Duration => {
                let nanos = time::parse_duration(text).map_err(|e| Error::Custom(e.to_string()))?;
                delimited(tag, self.out, |out| {
                    put_int(1, nanos, out);
                    Ok(())
                })?;
            }
            _ => return Err(self.misfit("text")),
        }
        Ok(())
    }

    /// Hands a value on to where it goes; JSON that is carried as text leaves the walk here.
    fn write<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        match self.place {
            Place::Tagged(tag, shape) if shape.is_free() => put_free(tag, &free(shape, value)?, self.out),
            _ => value.serialize(self),
        }
    }

    fn message(self, id: TypeId) -> Result<MapWriter<'s, 'o>, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::Depth);
        }
        Ok(MapWriter::Message(MessageWriter {
            schema: self.schema,
            ty: &self.schema[id],
            place: self.place,
            depth: self.depth,
            pieces: Pieces::default(),
            key: None,
            out: self.out,
        }))
    }

    fn object(self) -> Result<MapWriter<'s, 'o>, Error> {
        match self.shape() {
            Shape::Message(id)
            | Shape::SchemaOrBool(id)
            | Shape::SchemaOrArray(id)
            | Shape::SchemaOrStrings(id) => self.message(*id),
            Shape::Map(map) => {
                let Place::Tagged(tag, _) = self.place else { return Err(self.misfit("an object")) };
                Ok(MapWriter::Entries(EntryWriter {
                    schema: self.schema,
                    tag,
                    shape: &map.value,
                    depth: self.depth,
                    entries: Vec::new(),
                    key: String::new(),
                    out: self.out,
                }))
            }
            _ => Err(self.misfit("an object")),
        }
    }

    fn list(self) -> Result<ListWriter<'s, 'o>, Error> {
        let Place::Tagged(tag, shape) = self.place else { return Err(self.misfit("a list")) };
        let (tag, element, close) = match shape {
            Shape::List(list) if list.wrapped => {
                put_key(tag, 2, self.out);
                self.out.push(0);
                (1, &list.element, Some(self.out.len() - 1))
            }
            Shape::List(list) => (tag, &list.element, None),
            Shape::SchemaOrArray(id) | Shape::SchemaOrStrings(id) => {
                put_key(tag, 2, self.out);
                self.out.push(0);
                let at = self.out.len() - 1;
                return Ok(ListWriter {
                    schema: self.schema,
                    tag: 2,
                    element: None,
                    union: matches!(shape, Shape::SchemaOrArray(_)).then_some(*id),
                    close: Some(at),
                    depth: self.depth,
                    out: self.out,
                });
            }
            _ => return Err(self.misfit("a list")),
        };
        Ok(ListWriter {
            schema: self.schema,
            tag,
            element: Some(element),
            union: None,
            close,
            depth: self.depth,
            out: self.out,
        })
    }
}

impl<'s, 'o> Serializer for Node<'s, 'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = ListWriter<'s, 'o>;
    type SerializeTuple = ListWriter<'s, 'o>;
    type SerializeTupleStruct = ListWriter<'s, 'o>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = MapWriter<'s, 'o>;
    type SerializeStruct = MapWriter<'s, 'o>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        let Place::Tagged(tag, shape) = self.place else { return Err(self.misfit("a bool")) };
        match shape {
            Shape::Bool => put_int(tag, value.into(), self.out),
            Shape::SchemaOrBool(_) => delimited(tag, self.out, |out| {
                put_int(1, value.into(), out);
                Ok(())
            })?,
            _ => return Err(self.misfit("a bool")),
        }
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.int(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.int(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.int(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.int(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.int(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.int(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.int(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => self.double(value as f64),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.double(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.double(value)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        match self.place {
            Place::Tagged(tag, Shape::Bytes) => {
                put_bytes(tag, value, self.out);
                Ok(())
            }
            _ => Err(self.misfit("bytes")),
        }
    }

    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(self.misfit(name))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ListWriter<'s, 'o>, Error> {
        self.list()
    }

    fn serialize_tuple(self, _: usize) -> Result<ListWriter<'s, 'o>, Error> {
        self.list()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<ListWriter<'s, 'o>, Error> {
        self.list()
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(self.misfit(name))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<MapWriter<'s, 'o>, Error> {
        self.object()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MapWriter<'s, 'o>, Error> {
        self.object()
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(self.misfit(name))
    }
}

struct ListWriter<'s, 'o> {
    schema: &'s Schema,
    tag: u16,
    /// `None`: the list of a union.
    element: Option<&'s Shape>,
    /// The element type of a union's list; `None`: strings.
    union: Option<TypeId>,
    /// Where the length of the enclosing message goes.
    close: Option<usize>,
    depth: usize,
    out: &'o mut Vec<u8>,
}

impl ListWriter<'_, '_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let union = self.union.map_or(Shape::String, Shape::Message);
        let shape = self.element.unwrap_or(&union);
        let before = self.out.len();
        let place = Place::Tagged(self.tag, shape);
        Node { schema: self.schema, place, depth: self.depth + 1, out: self.out }.write(value)?;
        if self.out.len() == before {
            // null: Go's zero, an element must not get lost
            put_zero(self.schema, self.tag, shape, self.depth, self.out)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        if let Some(at) = self.close {
            set_length(at, self.out);
        }
        Ok(())
    }
}

impl ser::SerializeSeq for ListWriter<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTuple for ListWriter<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTupleStruct for ListWriter<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

enum MapWriter<'s, 'o> {
    Message(MessageWriter<'s, 'o>),
    Entries(EntryWriter<'s, 'o>),
}

struct MessageWriter<'s, 'o> {
    schema: &'s Schema,
    ty: &'s Type,
    place: Place<'s>,
    depth: usize,
    pieces: Pieces,
    /// The position of the field that the next value is for.
    key: Option<usize>,
    out: &'o mut Vec<u8>,
}

impl MessageWriter<'_, '_> {
    fn field<T: Serialize + ?Sized>(&mut self, at: usize, value: &T) -> Result<(), Error> {
        let field: &Field = &self.ty.fields[at];
        if field.tag == 0 {
            return Ok(());
        }
        let from = self.pieces.bytes.len();
        if field.shape.is_free() {
            let raw = free(&field.shape, value)?;
            if raw.is_empty() && field.pointer {
                return Ok(());
            }
            put_free(field.tag, &raw, &mut self.pieces.bytes)?;
            self.pieces.fields.push((at as u16, from, self.pieces.bytes.len()));
            return Ok(());
        }
        let node = Node {
            schema: self.schema,
            place: Place::Tagged(field.tag, &field.shape),
            depth: self.depth + 1,
            out: &mut self.pieces.bytes,
        };
        node.write(value)?;
        self.pieces.fields.push((at as u16, from, self.pieces.bytes.len()));
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        let MessageWriter { schema, ty, place, depth, pieces, out, .. } = self;
        let body = |out: &mut Vec<u8>| assemble(schema, ty, ty.wire(), &pieces, depth, out);
        match place {
            Place::Bare(_) => body(out),
            Place::Tagged(tag, Shape::SchemaOrBool(_)) => delimited(tag, out, |out| {
                put_int(1, 1, out);
                delimited(2, out, body)
            }),
            Place::Tagged(tag, Shape::SchemaOrArray(_) | Shape::SchemaOrStrings(_)) => {
                delimited(tag, out, |out| delimited(1, out, body))
            }
            Place::Tagged(tag, _) => delimited(tag, out, body),
        }
    }
}

/// JSON that is carried as text; empty for null. In normal form FieldsV1 are that text.
fn free<T: Serialize + ?Sized>(shape: &Shape, value: &T) -> Result<Vec<u8>, Error> {
    let json = |e: serde_json::Error| Error::Json(e.to_string());
    let raw = serde_json::to_vec(value).map_err(json)?;
    Ok(match raw.as_slice() {
        b"null" => Vec::new(),
        [b'"', ..] if *shape == Shape::FieldsV1 => {
            serde_json::from_slice::<String>(&raw).map_err(json)?.into_bytes()
        }
        _ => raw,
    })
}

fn put_free(tag: u16, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    delimited(tag, out, |out| {
        if !raw.is_empty() {
            put_bytes(1, raw, out);
        }
        Ok(())
    })
}

struct EntryWriter<'s, 'o> {
    schema: &'s Schema,
    tag: u16,
    shape: &'s Shape,
    depth: usize,
    /// Key and the encoded entry.
    entries: Vec<(String, Vec<u8>)>,
    key: String,
    out: &'o mut Vec<u8>,
}

impl EntryWriter<'_, '_> {
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = std::mem::take(&mut self.key);
        let mut entry = Vec::with_capacity(key.len() + 32);
        put_bytes(1, key.as_bytes(), &mut entry);
        let before = entry.len();
        let place = Place::Tagged(2, self.shape);
        Node { schema: self.schema, place, depth: self.depth + 1, out: &mut entry }.write(value)?;
        if entry.len() == before {
            put_zero(self.schema, 2, self.shape, self.depth, &mut entry)?;
        }
        self.entries.push((key, entry));
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, entry) in &self.entries {
            put_bytes(self.tag, entry, self.out);
        }
        Ok(())
    }
}

impl ser::SerializeMap for MapWriter<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let key = key.serialize(KeyWriter)?;
        match self {
            MapWriter::Message(message) => message.key = message.ty.position(&key),
            MapWriter::Entries(entries) => entries.key = key,
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        match self {
            MapWriter::Message(message) => match message.key.take() {
                Some(at) => message.field(at, value),
                None => Ok(()),
            },
            MapWriter::Entries(entries) => entries.value(value),
        }
    }

    fn end(self) -> Result<(), Error> {
        match self {
            MapWriter::Message(message) => message.finish(),
            MapWriter::Entries(entries) => entries.finish(),
        }
    }
}

impl ser::SerializeStruct for MapWriter<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        match self {
            MapWriter::Message(message) => match message.ty.position(key) {
                Some(at) => message.field(at, value),
                None => Ok(()),
            },
            MapWriter::Entries(entries) => {
                entries.key = key.to_owned();
                entries.value(value)
            }
        }
    }

    fn end(self) -> Result<(), Error> {
        ser::SerializeMap::end(self)
    }
}

/// Takes the key of a map, which must be text.
struct KeyWriter;

macro_rules! no_key {
    ($($method:ident: $ty:ty),*) => {
        $(fn $method(self, _: $ty) -> Result<String, Error> {
            Err(Error::Custom("a key must be text".into()))
        })*
    };
}

impl Serializer for KeyWriter {
    type Ok = String;
    type Error = Error;
    type SerializeSeq = Impossible<String, Error>;
    type SerializeTuple = Impossible<String, Error>;
    type SerializeTupleStruct = Impossible<String, Error>;
    type SerializeTupleVariant = Impossible<String, Error>;
    type SerializeMap = Impossible<String, Error>;
    type SerializeStruct = Impossible<String, Error>;
    type SerializeStructVariant = Impossible<String, Error>;

    fn serialize_str(self, key: &str) -> Result<String, Error> {
        Ok(key.to_owned())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, key: &'static str) -> Result<String, Error> {
        Ok(key.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        key: &T,
    ) -> Result<String, Error> {
        key.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<String, Error> {
        key.serialize(self)
    }

    no_key! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_bytes: &[u8], serialize_unit_struct: &'static str
    }

    fn serialize_none(self) -> Result<String, Error> {
        self.serialize_unit()
    }

    fn serialize_unit(self) -> Result<String, Error> {
        Err(Error::Custom("a key must be text".into()))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, Error> {
        self.serialize_unit()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Err(Error::Custom("a key must be text".into()))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(Error::Custom("a key must be text".into()))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        Err(Error::Custom("a key must be text".into()))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(Error::Custom("a key must be text".into()))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(Error::Custom("a key must be text".into()))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Error> {
        Err(Error::Custom("a key must be text".into()))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(Error::Custom("a key must be text".into()))
    }
}
