//! JSON: of no type, of the type that it names, and strictly.

use apimachinery::codec::{json, normal, protobuf};
use serde_json::Value;

use super::{Kind, same};
use crate::{bounded, is_large};

pub fn run(bytes: &[u8]) {
    let named = json::type_meta(bytes);
    untyped(bytes);
    let (api_version, kind) = named.unwrap_or_default();
    let schema = api::schema();
    let ty = Kind::of(&api_version, &kind).ty;
    let Ok(decoded) = bounded(|| json::decode(schema, ty, bytes)) else { return };
    if is_large(bytes) {
        return;
    }
    assert_eq!(decoded.strict.is_empty(), decoded.strict_error().is_none());
    assert!(decoded.strict.len() <= 100, "{} complaints", decoded.strict.len());
    let value = decoded.value;
    let text = json::to_vec(schema, ty, &value);
    let again = json::decode(schema, ty, &text).expect("JSON that was written is read");
    assert_eq!(again.strict_error(), None, "nothing is unknown in what was written");
    assert!(same(&again.value, &value), "{value} is in JSON and back {}", again.value);
    let mut normalized = value.clone();
    normal::normalize(schema, ty, &mut normalized).expect("what was decoded has the types of its fields");
    assert_eq!(normalized, value, "decoded is normal");

    // Strings are cut short nowhere, but a value may be out of protobuf's range.
    let Ok(message) = protobuf::encode(schema, ty, &value) else { return };
    let mut named = protobuf::decode(schema, ty, &message).expect("protobuf that was written is read");
    // who they are is in the envelope
    for name in ["apiVersion", "kind"] {
        if let (Some(known), Value::Object(object)) = (value.get(name), &mut named) {
            object.insert(name.to_owned(), known.clone());
        }
    }
    assert!(same(&named, &value), "{value} is in protobuf and back {named}");
}

fn untyped(bytes: &[u8]) {
    let parsed = bounded(|| json::parse(bytes));
    let mut compact = Vec::new();
    let compacted = json::compact(bytes, &mut compact);
    if is_large(bytes) {
        return;
    }
    if let Ok(reference) = serde_json::from_slice::<Value>(bytes) {
        assert!(parsed.is_ok(), "another reader takes it: {:?}", parsed.err());
        let (value, duplicates) = parsed.as_ref().expect("just seen");
        if duplicates.is_empty() {
            assert!(same(value, &reference), "{value} and {reference}");
        }
    }
    let Ok((value, duplicates)) = parsed else { return };
    compacted.expect("what is read is compacted");
    assert_eq!(json::parse(&compact).as_ref().map(|(v, d)| (v, d)), Ok((&value, &duplicates)), "compact");
    let mut text = Vec::new();
    json::write_value(&value, &mut text);
    // `1e10` is written as ten thousand million, and read as a whole number
    let (read, duplicates) = json::parse(&text).expect("JSON that was written is read");
    assert!(same(&read, &value) && duplicates.is_empty(), "written and read: {read} and {value}");
}
