//! `apimachinery::codec` over the built-in types, with errors as text.

use apimachinery::{
    codec::{
        json, normal,
        protobuf::{self, Head},
    },
    schema::TypeId,
};
use bytes::Bytes;
use serde_json::Value;

/// A stored message as a value in normal form, without kind and apiVersion.
pub fn decode(ty: TypeId, raw: &[u8]) -> Result<Value, String> {
    protobuf::decode(api::schema(), ty, raw).map_err(|e| e.to_string())
}

/// A value as a message, without an envelope.
pub fn message(ty: TypeId, object: &Value) -> Result<Vec<u8>, String> {
    protobuf::encode(api::schema(), ty, object).map_err(|e| e.to_string())
}

/// A value as it is stored: the envelope around the message.
pub fn encode(ty: TypeId, api_version: &str, kind: &str, object: &Value) -> Result<Bytes, String> {
    let bytes = protobuf::encode_enveloped(api::schema(), ty, api_version, kind, object);
    Ok(bytes.map_err(|e| e.to_string())?.into())
}

/// A stored message as JSON, without a value in between.
pub fn transcode(
    ty: TypeId,
    kind: &str,
    api_version: &str,
    raw: &[u8],
    revision: i64,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let revision = revision.to_string();
    let head = Head { kind, api_version, resource_version: Some(&revision) };
    protobuf::to_json(api::schema(), ty, raw, &head, out).map_err(|e| e.to_string())
}

/// A value as JSON in Go's field order.
pub fn write_json(ty: TypeId, object: &Value, out: &mut Vec<u8>) {
    json::write(api::schema(), ty, object, out);
}

/// Brings a value that was changed by hand back into normal form.
pub fn normalize(ty: TypeId, object: &mut Value) -> Result<(), String> {
    normal::normalize(api::schema(), ty, object).map_err(|e| e.to_string())
}

/// Sets `kind` and `apiVersion`.
pub fn set_type_meta(object: &mut Value, api_version: &str, kind: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("kind".into(), kind.into());
        fields.insert("apiVersion".into(), api_version.into());
    }
}
