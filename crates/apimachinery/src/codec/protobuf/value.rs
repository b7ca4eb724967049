//! Writes a `serde_json::Value` as protobuf, back to front: what a message holds is there before its length is
//! wanted, so nothing is written twice, moved or put together from pieces.
//!
//! The bytes are those of [`super::ser`], which does the same for any struct that serde knows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::Error;
use super::envelope::MAGIC;
use crate::codec::MAX_DEPTH;
use crate::schema::{Field, Schema, Shape, Type, TypeId, Wire, WirePlan};
use crate::time::{self, Moment};

/// A message, without an envelope.
pub(super) fn to_vec(schema: &Schema, ty: TypeId, value: &Value) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new(schema);
    writer.root(ty, value)?;
    Ok(writer.out.bytes().to_vec())
}

/// A message in an envelope; the vector has no room to spare.
pub(super) fn enveloped(
    schema: &Schema,
    ty: TypeId,
    api_version: &str,
    kind: &str,
    value: &Value,
) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new(schema);
    writer.out.text(4, b"");
    writer.out.text(3, b"");
    let end = writer.out.len();
    writer.root(ty, value)?;
    let out = &mut writer.out;
    out.close(2, end);
    let end = out.len();
    out.text(2, kind.as_bytes());
    out.text(1, api_version.as_bytes());
    out.close(1, end);
    out.put(MAGIC);
    Ok(out.bytes().to_vec())
}

/// Bytes that grow at their front.
struct Out {
    buffer: Vec<u8>,
    /// Where in `buffer` they begin; they go to its end.
    start: usize,
}

impl Out {
    fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            self.grow(bytes.len());
        }
        let end = self.start;
        self.start -= bytes.len();
        self.buffer[self.start..end].copy_from_slice(bytes);
    }

    #[cold]
    fn grow(&mut self, wanted: usize) {
        let more = self.buffer.len().max(wanted);
        let mut buffer = vec![0; self.buffer.len() + more];
        buffer[self.start + more..].copy_from_slice(self.bytes());
        (self.buffer, self.start) = (buffer, self.start + more);
    }

    fn varint(&mut self, mut value: u64) {
        let mut digits = [0; 10];
        let mut length = 0;
        loop {
            let more = value >= 0x80;
            digits[length] = value as u8 & 0x7f | u8::from(more) << 7;
            length += 1;
            value >>= 7;
            if !more {
                break;
            }
        }
        self.put(&digits[..length]);
    }

    fn key(&mut self, tag: u16, wire_type: u64) {
        self.varint(u64::from(tag) << 3 | wire_type);
    }

    fn text(&mut self, tag: u16, bytes: &[u8]) {
        self.put(bytes);
        self.varint(bytes.len() as u64);
        self.key(tag, 2);
    }

    fn int(&mut self, tag: u16, value: i64) {
        self.varint(value as u64);
        self.key(tag, 0);
    }

    /// Makes what was put since there were `end` bytes the contents of a field.
    fn close(&mut self, tag: u16, end: usize) {
        self.varint((self.len() - end) as u64);
        self.key(tag, 2);
    }
}

struct Writer<'a> {
    schema: &'a Schema,
    out: Out,
    /// Of each message that is being written: positions and values of its fields.
    fields: Vec<(u16, &'a Value)>,
}

fn misfit(found: &str, shape: &Shape) -> Error {
    Error::Custom(format!("cannot write {found} as {shape:?}"))
}

impl<'a> Writer<'a> {
    fn new(schema: &'a Schema) -> Self {
        Writer { schema, out: Out { buffer: vec![0; 1024], start: 1024 }, fields: Vec::with_capacity(32) }
    }

    fn root(&mut self, ty: TypeId, value: &'a Value) -> Result<(), Error> {
        let found = match value {
            Value::Object(map) => return self.message(ty, map, 0),
            Value::Null => return Ok(()),
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
        };
        Err(misfit(found, &Shape::Message(ty)))
    }

    /// The contents of a message, without tag and length.
    fn message(&mut self, id: TypeId, map: &'a Map<String, Value>, depth: usize) -> Result<(), Error> {
        if depth >= MAX_DEPTH {
            return Err(Error::Depth);
        }
        let ty = &self.schema[id];
        let base = self.fields.len();
        for (name, value) in map {
            if let Some(at) = ty.position(name) {
                self.fields.push((at as u16, value));
            }
        }
        self.entries(ty, ty.wire(), base, depth)?;
        self.fields.truncate(base);
        Ok(())
    }

    /// The fields of a plan, whose values are those from `base` on.
    fn entries(&mut self, ty: &'a Type, plan: &'a WirePlan, base: usize, depth: usize) -> Result<(), Error> {
        for entry in plan.entries().iter().rev() {
            match entry {
                Wire::Field { tag, at } => {
                    let field = &ty.fields[*at as usize];
                    let before = self.out.len();
                    let given = self.fields[base..].iter().find(|(position, _)| position == at);
                    if let Some((_, value)) = given {
                        self.field(field, value, depth + 1)?;
                    }
                    if self.out.len() == before && field.always_on_wire() {
                        self.zero(*tag, &field.shape, depth)?;
                    }
                }
                // Embedded by value in Go, so it is always there.
                Wire::Inline { tag, plan } => {
                    let end = self.out.len();
                    self.entries(ty, plan, base, depth)?;
                    self.out.close(*tag, end);
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'a Field, value: &'a Value, depth: usize) -> Result<(), Error> {
        if field.shape.is_free() && field.pointer && value.is_null() {
            return Ok(());
        }
        self.value(field.tag, &field.shape, value, depth)
    }

    /// A value with its tag; nothing for null.
    fn value(&mut self, tag: u16, shape: &'a Shape, value: &'a Value, depth: usize) -> Result<(), Error> {
        if let (Shape::FieldsV1, Value::String(text)) = (shape, value) {
            let end = self.out.len();
            self.out.text(1, text.as_bytes());
            self.out.close(tag, end);
            return Ok(());
        }
        if shape.is_free() {
            return self.free(tag, value);
        }
        match value {
            Value::Null => Ok(()),
            Value::Bool(value) => self.bool(tag, shape, *value),
            Value::Number(value) => self.number(tag, shape, value),
            Value::String(value) => self.text(tag, shape, value),
            Value::Array(values) => self.list(tag, shape, values, depth),
            Value::Object(map) => self.object(tag, shape, map, depth),
        }
    }

    /// JSON that is carried as text.
    fn free(&mut self, tag: u16, value: &Value) -> Result<(), Error> {
        let end = self.out.len();
        if !value.is_null() {
            let raw = serde_json::to_vec(value).map_err(|e| Error::Json(e.to_string()))?;
            self.out.text(1, &raw);
        }
        self.out.close(tag, end);
        Ok(())
    }

    fn bool(&mut self, tag: u16, shape: &Shape, value: bool) -> Result<(), Error> {
        let end = self.out.len();
        match shape {
            Shape::Bool => self.out.int(tag, value.into()),
            Shape::SchemaOrBool(_) => {
                self.out.int(1, value.into());
                self.out.close(tag, end);
            }
            _ => return Err(misfit("a bool", shape)),
        }
        Ok(())
    }

    fn number(&mut self, tag: u16, shape: &Shape, value: &Number) -> Result<(), Error> {
        let end = self.out.len();
        match (shape, value.as_i64()) {
            (Shape::Double, _) => {
                let value = value.as_f64().ok_or_else(|| misfit("a number", shape))?;
                self.out.put(&value.to_le_bytes());
                self.out.key(tag, 1);
            }
            (Shape::Int32, Some(value)) if i32::try_from(value).is_err() => {
                return Err(misfit("a large number", shape));
            }
            (Shape::Int32 | Shape::Int64, Some(value)) => self.out.int(tag, value),
            (Shape::Quantity, Some(value)) => {
                self.out.text(1, itoa::Buffer::new().format(value).as_bytes());
                self.out.close(tag, end);
            }
            (Shape::IntOrString, Some(value)) if i32::try_from(value).is_ok() => {
                self.out.text(3, b"");
                self.out.int(2, value);
                self.out.int(1, 0);
                self.out.close(tag, end);
            }
            _ => return Err(misfit("a number", shape)),
        }
        Ok(())
    }

    fn text(&mut self, tag: u16, shape: &Shape, text: &str) -> Result<(), Error> {
        let end = self.out.len();
        match shape {
            Shape::String => {
                self.out.text(tag, text.as_bytes());
                return Ok(());
            }
            Shape::Bytes => {
                let bytes = STANDARD.decode(text).map_err(|_| misfit("text that is no base64", shape))?;
                self.out.text(tag, &bytes);
                return Ok(());
            }
            Shape::Quantity => self.out.text(1, text.as_bytes()),
            Shape::IntOrString => {
                self.out.text(3, text.as_bytes());
                self.out.int(2, 0);
                self.out.int(1, 1);
            }
            Shape::Time | Shape::MicroTime => {
                // typed structs write fractions of other lengths than normal form has
                let at = time::parse(text).map_err(|e| Error::Custom(e.to_string()))?;
                let nanos = if *shape == Shape::Time { 0 } else { at.nanos / 1_000 * 1_000 };
                let at = Moment { nanos, ..at };
                if !at.is_zero() {
                    self.out.int(2, at.nanos.into());
                    self.out.int(1, at.seconds);
                }
            }
            Shape::Duration => {
                let nanos = time::parse_duration(text).map_err(|e| Error::Custom(e.to_string()))?;
                self.out.int(1, nanos);
            }
            _ => return Err(misfit("text", shape)),
        }
        self.out.close(tag, end);
        Ok(())
    }

    fn list(&mut self, tag: u16, shape: &'a Shape, values: &'a [Value], depth: usize) -> Result<(), Error> {
        let end = self.out.len();
        match shape {
            Shape::List(list) => {
                let inner = if list.wrapped { 1 } else { tag };
                for value in values.iter().rev() {
                    let before = self.out.len();
                    self.value(inner, &list.element, value, depth + 1)?;
                    if self.out.len() == before {
                        // null: Go's zero, an element must not get lost
                        self.zero(inner, &list.element, depth)?;
                    }
                }
                if list.wrapped {
                    self.out.close(tag, end);
                }
            }
            Shape::SchemaOrArray(id) => {
                for value in values.iter().rev() {
                    let before = self.out.len();
                    match value {
                        Value::Object(map) => {
                            self.message(*id, map, depth + 1)?;
                            self.out.close(2, before);
                        }
                        Value::Null => self.zero(2, &Shape::Message(*id), depth)?,
                        _ => return Err(misfit("an element", shape)),
                    }
                }
                self.out.close(tag, end);
            }
            Shape::SchemaOrStrings(_) => {
                for value in values.iter().rev() {
                    match value {
                        Value::String(text) => self.out.text(2, text.as_bytes()),
                        Value::Null => self.out.text(2, b""),
                        _ => return Err(misfit("an element", shape)),
                    }
                }
                self.out.close(tag, end);
            }
            _ => return Err(misfit("a list", shape)),
        }
        Ok(())
    }

    fn object(
        &mut self,
        tag: u16,
        shape: &'a Shape,
        map: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<(), Error> {
        let end = self.out.len();
        match shape {
            Shape::Message(id) => self.message(*id, map, depth)?,
            Shape::SchemaOrBool(id) => {
                self.message(*id, map, depth)?;
                self.out.close(2, end);
                self.out.int(1, 1);
            }
            Shape::SchemaOrArray(id) | Shape::SchemaOrStrings(id) => {
                self.message(*id, map, depth)?;
                self.out.close(1, end);
            }
            Shape::Map(entries) => {
                let mut sorted: Vec<(&String, &Value)> = map.iter().collect();
                if !sorted.is_sorted_by_key(|(key, _)| *key) {
                    sorted.sort_unstable_by_key(|(key, _)| *key);
                }
                let mut backwards = sorted.into_iter().rev();
                return backwards
                    .try_for_each(|(key, value)| self.entry(tag, &entries.value, key, value, depth));
            }
            _ => return Err(misfit("an object", shape)),
        }
        self.out.close(tag, end);
        Ok(())
    }

    /// An entry of a map.
    fn entry(
        &mut self,
        tag: u16,
        shape: &'a Shape,
        key: &str,
        value: &'a Value,
        depth: usize,
    ) -> Result<(), Error> {
        let end = self.out.len();
        self.value(2, shape, value, depth + 1)?;
        if self.out.len() == end {
            self.zero(2, shape, depth)?;
        }
        self.out.text(1, key.as_bytes());
        self.out.close(tag, end);
        Ok(())
    }

    /// The zero of a value field, with its tag.
    fn zero(&mut self, tag: u16, shape: &Shape, depth: usize) -> Result<(), Error> {
        match shape {
            Shape::Bool | Shape::Int32 | Shape::Int64 => self.out.int(tag, 0),
            Shape::Double => {
                self.out.put(&[0; 8]);
                self.out.key(tag, 1);
            }
            Shape::Quantity => self.out.text(tag, b"\x0a\x010"),
            Shape::IntOrString => self.out.text(tag, b"\x08\x00\x10\x00\x1a\x00"),
            Shape::Duration | Shape::SchemaOrBool(_) => self.out.text(tag, b"\x08\x00"),
            Shape::Message(id) => {
                if depth > MAX_DEPTH {
                    return Err(Error::Depth);
                }
                let (ty, end, nothing) = (&self.schema[*id], self.out.len(), self.fields.len());
                self.entries(ty, ty.wire(), nothing, depth + 1)?;
                self.out.close(tag, end);
            }
            // text, bytes, times and JSON: empty
            _ => self.out.text(tag, b""),
        }
        Ok(())
    }
}
