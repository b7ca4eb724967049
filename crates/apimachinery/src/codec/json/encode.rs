//! Normal form into JSON text as Go's `encoding/json` writes it: struct fields in their order, map keys
//! sorted, `<`, `>` and `&` escaped.

use serde_json::{Map, Number, Value};

use crate::schema::{Schema, Shape, Type, TypeId};

/// An object as JSON bytes, without a line end.
pub fn to_vec(schema: &Schema, ty: TypeId, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(schema, ty, value, &mut out);
    out
}

/// Appends an object. Keys that the type does not know follow those it knows.
pub fn write(schema: &Schema, ty: TypeId, value: &Value, out: &mut Vec<u8>) {
    shaped(schema, &Shape::Message(ty), value, out);
}

fn shaped(schema: &Schema, shape: &Shape, value: &Value, out: &mut Vec<u8>) {
    match (shape, value) {
        (
            Shape::Message(id)
            | Shape::SchemaOrBool(id)
            | Shape::SchemaOrArray(id)
            | Shape::SchemaOrStrings(id),
            Value::Object(object),
        ) => message(schema, &schema[*id], object, out),
        (Shape::List(list), Value::Array(items)) => {
            sequence(out, items, |item, out| shaped(schema, &list.element, item, out));
        }
        (Shape::SchemaOrArray(id), Value::Array(items)) => {
            sequence(out, items, |item, out| shaped(schema, &Shape::Message(*id), item, out));
        }
        (Shape::Map(map), Value::Object(object)) => {
            entries(out, object, |value, out| shaped(schema, &map.value, value, out));
        }
        // JSON as text, never empty; what made it has looked at it
        (Shape::FieldsV1, Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        (_, value) => write_value(value, out),
    }
}

fn message(schema: &Schema, ty: &Type, object: &Map<String, Value>, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut written = 0;
    for field in &ty.fields {
        let Some(value) = object.get(&*field.name) else { continue };
        if written > 0 {
            out.push(b',');
        }
        written += 1;
        write_string(&field.name, out);
        out.push(b':');
        shaped(schema, &field.shape, value, out);
    }
    if written < object.len() {
        for (key, value) in object.iter().filter(|(key, _)| ty.position(key).is_none()) {
            if written > 0 {
                out.push(b',');
            }
            written += 1;
            write_string(key, out);
            out.push(b':');
            write_value(value, out);
        }
    }
    out.push(b'}');
}

fn sequence(out: &mut Vec<u8>, items: &[Value], mut each: impl FnMut(&Value, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(item, out);
    }
    out.push(b']');
}

fn entries(out: &mut Vec<u8>, object: &Map<String, Value>, mut each: impl FnMut(&Value, &mut Vec<u8>)) {
    out.push(b'{');
    let mut first = true;
    let mut entry = |key: &str, value: &Value| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        each(value, out);
    };
    if object.keys().is_sorted() {
        object.iter().for_each(|(key, value)| entry(key, value));
    } else {
        let mut sorted: Vec<_> = object.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        sorted.into_iter().for_each(|(key, value)| entry(key, value));
    }
    out.push(b'}');
}

/// Appends any JSON, keys sorted.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => sequence(out, items, write_value),
        Value::Object(object) => entries(out, object, write_value),
    }
}

fn write_number(number: &Number, out: &mut Vec<u8>) {
    if let Some(n) = number.as_i64() {
        write_int(n, out);
    } else if let Some(n) = number.as_u64() {
        out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    } else {
        write_double(number.as_f64().unwrap_or_default(), out);
    }
}

pub(in crate::codec) fn write_int(n: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Go's `float64`: the shortest digits that come back, with an exponent below 1e-6 and from 1e21.
pub(in crate::codec) fn write_double(n: f64, out: &mut Vec<u8>) {
    let magnitude = n.abs();
    let text = if n == 0.0 || (1e-6..1e21).contains(&magnitude) {
        format!("{n}")
    } else {
        // Rust writes 1e21 and 1e-7 where Go writes 1e+21 and 1e-07, then trims to 1e-7
        format!("{n:e}").replacen("e", "e+", 1).replace("e+-", "e-")
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends a JSON string with Go's escapes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().copied().enumerate() {
        if PLAIN[byte as usize] {
            continue;
        }
        if byte == 0xe2 {
            // U+2028 and U+2029 end lines in JavaScript
            if !matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) {
                continue;
            }
            out.extend_from_slice(&bytes[from..at]);
            out.extend_from_slice(b"\\u202");
            out.push(HEX[(bytes[at + 2] & 0xf) as usize]);
            from = at + 3;
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[(byte >> 4) as usize]);
                out.push(HEX[(byte & 0xf) as usize]);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Bytes that stand for themselves in a string.
static PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut at = 0;
    while at < 0x20 {
        plain[at] = false;
        at += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[b'<' as usize] = false;
    plain[b'>' as usize] = false;
    plain[b'&' as usize] = false;
    plain[0xe2] = false;
    plain
};
