//! Protobuf straight to JSON text, in Go's field order: what a LIST of thousands of objects goes through.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Error;
use super::read::{self, Datum, Found, IntOrText};
use crate::codec::MAX_DEPTH;
use crate::codec::json::{write_double, write_int, write_string};
use crate::schema::{Field, List, Omit, Schema, Shape, Type, TypeId};
use crate::time;

/// What an object's JSON says that its stored message does not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    /// `kind` and `apiVersion`, written first; empty ones are left out (items of a list have none).
    pub kind: &'a str,
    pub api_version: &'a str,
    /// Takes the place of `metadata.resourceVersion`, which is empty in storage.
    pub resource_version: Option<&'a str>,
}

/// Appends the JSON of a message.
///
/// The result is `json::to_vec` of `protobuf::decode`, without the detour, for messages that [`super::encode`] made:
/// quantities are not looked into. On an error `out` may hold a part.
pub fn to_json(
    schema: &Schema,
    ty: TypeId,
    bytes: &[u8],
    head: &Head,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let room = read::room(bytes.len());
    let mut writer = Writer { schema, out, stack: Vec::with_capacity(32), room, depth: 0 };
    writer.message(&schema[ty], bytes, Some(head), None)
}

struct Writer<'s, 'o, 'a> {
    schema: &'s Schema,
    out: &'o mut Vec<u8>,
    stack: Vec<Found<'a>>,
    room: usize,
    depth: usize,
}

impl<'s, 'a> Writer<'s, '_, 'a> {
    /// `head` is for the root, `version` for its metadata.
    fn message(
        &mut self,
        ty: &'s Type,
        bytes: &'a [u8],
        head: Option<&Head>,
        version: Option<&str>,
    ) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::Depth);
        }
        let start = self.stack.len();
        read::scan(ty.wire(), bytes, &mut self.stack, self.room)?;
        let end = self.stack.len();
        self.out.push(b'{');
        let empty = self.out.len();
        let mut next = start;
        for (at, field) in ty.fields.iter().enumerate() {
            let first = next;
            while next < end && self.stack[next].at as usize == at {
                next += 1;
            }
            if let Some(head) = head {
                let text = match &*field.name {
                    "kind" if field.tag == 0 => head.kind,
                    "apiVersion" if field.tag == 0 => head.api_version,
                    "metadata" if head.resource_version.is_some() => {
                        self.name(field, empty);
                        let Shape::Message(id) = field.shape else { return Err(Error::WireType) };
                        let bytes = match next > first {
                            true => self.stack[next - 1].datum.bytes()?,
                            false => &[],
                        };
                        self.message(&self.schema[id], bytes, None, head.resource_version)?;
                        continue;
                    }
                    _ => "",
                };
                if !text.is_empty() {
                    self.name(field, empty);
                    write_string(text, self.out);
                    continue;
                }
            }
            if let Some(version) = version
                && field.name == "resourceVersion"
            {
                if !version.is_empty() {
                    self.name(field, empty);
                    write_string(version, self.out);
                }
                continue;
            }
            if first == next {
                self.absent(field, empty)?;
            } else {
                self.present(field, empty, first, next)?;
            }
        }
        self.out.push(b'}');
        self.stack.truncate(start);
        self.depth -= 1;
        Ok(())
    }

    /// Writes the comma, if something is there since `empty`, and the name.
    fn name(&mut self, field: &Field, empty: usize) {
        if self.out.len() > empty {
            self.out.push(b',');
        }
        // names of fields need no escapes
        self.out.push(b'"');
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn absent(&mut self, field: &'s Field, empty: usize) -> Result<(), Error> {
        if field.pointer || field.shape.is_nilable() {
            if field.omit == Omit::Never {
                self.name(field, empty);
                self.out.extend_from_slice(b"null");
            }
            return Ok(());
        }
        let omitted = match field.omit {
            Omit::Never => false,
            Omit::Empty => !field.shape.is_struct(),
            Omit::Zero => true,
        };
        if omitted {
            return Ok(());
        }
        self.name(field, empty);
        self.zero(&field.shape)
    }

    fn zero(&mut self, shape: &'s Shape) -> Result<(), Error> {
        let text: &[u8] = match shape {
            Shape::String => b"\"\"",
            Shape::Bool | Shape::SchemaOrBool(_) => b"false",
            Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => b"0",
            Shape::Quantity => b"\"0\"",
            Shape::Duration => b"\"0s\"",
            Shape::Message(id) => return self.message(&self.schema[*id], &[], None, None),
            _ => b"null",
        };
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// The values of one field are the stack's entries `from..to`, at least one.
    fn present(&mut self, field: &'s Field, empty: usize, from: usize, to: usize) -> Result<(), Error> {
        match &field.shape {
            Shape::List(list) if !list.wrapped => {
                self.name(field, empty);
                return self.list(&list.element, from, to);
            }
            Shape::Map(map) => {
                self.name(field, empty);
                return self.map(&map.value, from, to);
            }
            _ => {}
        }
        let datum = self.stack[to - 1].datum;
        if !field.pointer && field.omit != Omit::Never && is_omitted(field, datum)? {
            return Ok(());
        }
        self.name(field, empty);
        self.value(&field.shape, datum)
    }

    fn list(&mut self, element: &'s Shape, from: usize, to: usize) -> Result<(), Error> {
        self.out.push(b'[');
        for at in from..to {
            if at > from {
                self.out.push(b',');
            }
            self.value(element, self.stack[at].datum)?;
        }
        self.out.push(b']');
        Ok(())
    }

    /// Upstream writes maps sorted, so they are copied as they come; otherwise they are sorted first.
    fn map(&mut self, shape: &'s Shape, from: usize, to: usize) -> Result<(), Error> {
        let begin = self.out.len();
        self.out.push(b'{');
        let mut last: Option<&[u8]> = None;
        for at in from..to {
            let (key, value) = read::entry(self.stack[at].datum.bytes()?)?;
            if last.is_some_and(|last| last >= key) {
                self.out.truncate(begin);
                return self.unsorted_map(shape, from, to);
            }
            if last.is_some() {
                self.out.push(b',');
            }
            last = Some(key);
            self.entry(shape, key, value)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn unsorted_map(&mut self, shape: &'s Shape, from: usize, to: usize) -> Result<(), Error> {
        let mut entries = std::collections::BTreeMap::new();
        for at in from..to {
            let (key, value) = read::entry(self.stack[at].datum.bytes()?)?;
            entries.insert(key, value);
        }
        self.out.push(b'{');
        for (at, (key, value)) in entries.into_iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.entry(shape, key, value)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn entry(&mut self, shape: &'s Shape, key: &[u8], value: Option<Datum<'a>>) -> Result<(), Error> {
        self.text(key);
        self.out.push(b':');
        match (value, shape) {
            (Some(value), shape) => self.value(shape, value),
            (None, Shape::Bytes) => {
                self.out.extend_from_slice(b"\"\"");
                Ok(())
            }
            (None, shape) => self.zero(shape),
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        write_string(&String::from_utf8_lossy(bytes), self.out);
    }

    /// JSON that is carried as text: checked, since it becomes part of the document.
    fn raw(&mut self, bytes: &'a [u8]) -> Result<(), Error> {
        let raw = read::wrapped(bytes)?;
        if raw.is_empty() {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        crate::codec::json::compact(raw, self.out).map_err(|e| Error::Json(e.to_string()))
    }

    fn value(&mut self, shape: &'s Shape, datum: Datum<'a>) -> Result<(), Error> {
        match shape {
            Shape::String => self.text(datum.bytes()?),
            Shape::Bool => {
                self.out.extend_from_slice(if datum.bool()? { b"true" } else { b"false" });
            }
            Shape::Int32 => write_int(datum.int32()?.into(), self.out),
            Shape::Int64 => write_int(datum.int64()?, self.out),
            Shape::Double => match datum.double()? {
                n if n.is_finite() => write_double(n, self.out),
                _ => self.out.extend_from_slice(b"null"),
            },
            Shape::Bytes => {
                let bytes = datum.bytes()?;
                let begin = self.out.len() + 1;
                self.out.push(b'"');
                self.out.resize(begin + bytes.len().div_ceil(3) * 4, 0);
                let written = STANDARD.encode_slice(bytes, &mut self.out[begin..]);
                self.out.truncate(begin + written.unwrap_or(0));
                self.out.push(b'"');
            }
            Shape::Quantity => match read::wrapped(datum.bytes()?)? {
                b"" => self.out.extend_from_slice(b"\"0\""),
                text => self.text(text),
            },
            Shape::IntOrString => match read::int_or_text(datum.bytes()?)? {
                IntOrText::Int(n) => write_int(n.into(), self.out),
                IntOrText::Text(text) => self.text(text),
            },
            Shape::Time | Shape::MicroTime => match read::moment(datum.bytes()?)? {
                None => self.out.extend_from_slice(b"null"),
                Some(at) => {
                    self.out.push(b'"');
                    match shape {
                        Shape::Time => time::write(at.seconds, self.out),
                        _ => time::write_micro(at, self.out),
                    }
                    self.out.push(b'"');
                }
            },
            Shape::Duration => {
                let text = time::format_duration(read::duration(datum.bytes()?)?);
                write_string(&text, self.out);
            }
            Shape::FieldsV1 | Shape::RawExtension | Shape::Json => self.raw(datum.bytes()?)?,
            Shape::Message(id) => self.message(&self.schema[*id], datum.bytes()?, None, None)?,
            Shape::List(list) => self.wrapped_list(list, datum.bytes()?)?,
            Shape::Map(_) => return Err(Error::WireType),
            Shape::SchemaOrBool(id) => {
                let union = read::union(datum.bytes()?, true)?;
                match union.schema {
                    Some(bytes) => self.message(&self.schema[*id], bytes, None, None)?,
                    None => self.out.extend_from_slice(if union.allows { b"true" } else { b"false" }),
                }
            }
            Shape::SchemaOrArray(id) | Shape::SchemaOrStrings(id) => {
                let union = read::union(datum.bytes()?, false)?;
                if union.list.is_empty() {
                    match union.schema {
                        Some(bytes) => self.message(&self.schema[*id], bytes, None, None)?,
                        None => self.out.extend_from_slice(b"null"),
                    }
                    return Ok(());
                }
                self.out.push(b'[');
                for (at, bytes) in union.list.into_iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    match shape {
                        Shape::SchemaOrStrings(_) => self.text(bytes),
                        _ => self.message(&self.schema[*id], bytes, None, None)?,
                    }
                }
                self.out.push(b']');
            }
        }
        Ok(())
    }

    fn wrapped_list(&mut self, list: &'s List, bytes: &'a [u8]) -> Result<(), Error> {
        let mut fields = read::Fields::new(bytes);
        self.out.push(b'[');
        let mut first = true;
        while let Some((tag, datum)) = fields.next()? {
            if tag == 1 {
                if !std::mem::take(&mut first) {
                    self.out.push(b',');
                }
                self.value(&list.element, datum)?;
            }
        }
        self.out.push(b']');
        Ok(())
    }
}

/// A value field that is there and left out of JSON: `omit` is not `Never`.
pub(super) fn is_omitted(field: &Field, datum: Datum) -> Result<bool, Error> {
    Ok(match &field.shape {
        Shape::String => datum.bytes()?.is_empty(),
        Shape::Bool => !datum.bool()?,
        Shape::Int32 => datum.int32()? == 0,
        Shape::Int64 => datum.int64()? == 0,
        Shape::Double => datum.double()? == 0.0,
        Shape::Bytes | Shape::List(_) => is_empty(&field.shape, datum)?,
        Shape::Time | Shape::MicroTime if field.omit == Omit::Zero => read::moment(datum.bytes()?)?.is_none(),
        _ => field.omit == Omit::Zero && datum.bytes()?.is_empty(),
    })
}

/// Empty bytes or an empty wrapped list.
fn is_empty(shape: &Shape, datum: Datum) -> Result<bool, Error> {
    let bytes = datum.bytes()?;
    Ok(match shape {
        Shape::List(_) => read::Fields::last(bytes, 1)?.is_none(),
        _ => bytes.is_empty(),
    })
}
