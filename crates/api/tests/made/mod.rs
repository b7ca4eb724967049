//! Objects of any type, made from the field plan.

use apimachinery::schema::{Schema, Shape, TypeId};
use serde_json::{Map, Value, json};

/// How much of an object is there.
#[derive(Clone, Copy, PartialEq)]
pub enum How {
    /// Every field there is, each with the zero of its shape.
    Empty,
    /// Every second field.
    Sparse,
    /// Every field with something in it.
    Full,
}

const DEEPEST: usize = 14;

pub fn object(schema: &Schema, shape: &Shape, how: How, depth: usize) -> Value {
    let full = how != How::Empty;
    let message = |id: &TypeId| {
        let mut object = Map::new();
        for (at, field) in schema[*id].fields.iter().enumerate() {
            // kind and apiVersion of an inner object have no place in protobuf
            let wanted =
                (how != How::Sparse || (at + depth).is_multiple_of(2)) && (field.tag > 0 || depth == 0);
            if wanted && depth < DEEPEST && !recursive(schema, *id, &field.shape, depth) {
                object.insert(field.name.to_string(), self::object(schema, &field.shape, how, depth + 1));
            }
        }
        Value::Object(object)
    };
    match shape {
        Shape::String if full => json!(format!("text <{depth}> \u{e4}\u{2028}")),
        Shape::String => json!(""),
        Shape::Bool => json!(full),
        Shape::Int32 => json!(if full { -7 } else { 0 }),
        Shape::Int64 => json!(if full { i64::MAX - 1 } else { 0 }),
        Shape::Double => json!(if full { 0.25 } else { 0.0 }),
        Shape::Bytes => json!(if full { "AAEC/w==" } else { "" }),
        Shape::Quantity => json!(if full { "1500m" } else { "0" }),
        Shape::IntOrString if depth.is_multiple_of(2) && full => json!("50%"),
        Shape::IntOrString => json!(if full { 8080 } else { 0 }),
        Shape::Time if full => json!("2026-11-21T18:00:00Z"),
        Shape::MicroTime if full => json!("2026-11-21T18:00:00.000123Z"),
        Shape::Time | Shape::MicroTime => Value::Null,
        Shape::Duration => json!(if full { "1h30m0.5s" } else { "0s" }),
        Shape::FieldsV1 if full => json!({"f:metadata": {"f:name": {}}}),
        Shape::RawExtension if full => json!({"a": [1, 2.5, null, "x"], "b": {}}),
        Shape::Json if full => json!([{"k": "v"}, 1, false]),
        Shape::FieldsV1 | Shape::RawExtension | Shape::Json => Value::Null,
        Shape::SchemaOrBool(_) if depth.is_multiple_of(2) => json!(full),
        Shape::SchemaOrStrings(_) if depth.is_multiple_of(2) && full => json!(["a", "b"]),
        Shape::SchemaOrArray(id) if depth.is_multiple_of(2) && full => json!([message(id)]),
        Shape::SchemaOrStrings(_) | Shape::SchemaOrArray(_) if !full => Value::Null,
        Shape::Message(id)
        | Shape::SchemaOrBool(id)
        | Shape::SchemaOrStrings(id)
        | Shape::SchemaOrArray(id) => message(id),
        Shape::List(list) if full => {
            let element = object(schema, &list.element, how, depth + 1);
            json!([element.clone(), element])
        }
        Shape::List(_) => json!([]),
        Shape::Map(map) if full => {
            let value = object(schema, &map.value, how, depth + 1);
            json!({"b.example/x": value.clone(), "a": value})
        }
        Shape::Map(_) => json!({}),
    }
}

/// Schemas of schemas grow without end; one level is enough.
fn recursive(schema: &Schema, owner: TypeId, shape: &Shape, depth: usize) -> bool {
    if !schema[owner].name.ends_with(".JSONSchemaProps") || depth < 7 {
        return false;
    }
    match shape {
        Shape::Message(id)
        | Shape::SchemaOrBool(id)
        | Shape::SchemaOrArray(id)
        | Shape::SchemaOrStrings(id) => *id == owner,
        Shape::List(list) => recursive(schema, owner, &list.element, depth),
        Shape::Map(map) => recursive(schema, owner, &map.value, depth),
        _ => false,
    }
}
