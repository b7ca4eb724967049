//! JSON, merge and strategic merge patches. An input is a line with an object and then the patch; which of the
//! three it is goes by its shape (a list is a JSON patch, an object is tried as both others).

use apimachinery::codec::{json, normal};
use apimachinery::patch::{json::Patch, merge, strategic};
use serde_json::{Value, json};

use super::{Kind, first_line, same};
use crate::bounded;

pub fn run(bytes: &[u8]) {
    let (object, patch) = first_line(bytes);
    let (api_version, kind) = json::type_meta(object).unwrap_or_default();
    let kind = Kind::of(&api_version, &kind);
    let schema = api::schema();
    let Ok(object) = json::decode(schema, kind.ty, object) else { return };
    let object = object.value;

    if let Ok(read) = bounded(|| Patch::parse(patch)) {
        let _ = read.unknown_fields();
        if let Ok(patched) = bounded(|| read.apply(object.clone())) {
            settle(&kind, patched);
        }
        return;
    }
    if let Ok(patched) = bounded(|| merge::apply_bytes(object.clone(), patch)) {
        let twice = merge::apply_bytes(patched.clone(), patch);
        assert_eq!(twice.as_ref(), Ok(&patched), "a merge patch twice");
        settle(&kind, patched);
    }
    if let Ok(patched) = bounded(|| strategic::apply_bytes(schema, kind.ty, object.clone(), patch)) {
        settle(&kind, patched);
    }
    let untouched = strategic::apply(schema, kind.ty, object.clone(), json!({}));
    assert_eq!(untouched.as_ref(), Ok(&object), "an empty patch");
}

/// What comes of a patch either fits the type or is refused.
fn settle(kind: &Kind<'_>, patched: Value) {
    let schema = api::schema();
    let Ok(decoded) = normal::conform(schema, kind.ty, patched) else { return };
    let text = json::to_vec(schema, kind.ty, &decoded.value);
    let read = json::decode(schema, kind.ty, &text).expect("JSON that was written is read");
    assert!(same(&read.value, &decoded.value), "{} is in JSON and back {}", decoded.value, read.value);
}
