//! Protobuf as upstream's generated Go code writes it, byte for byte: fields in ascending order of tags, value
//! fields always there, pointers, lists and maps only when set, maps sorted by key.
//!
//! Reading is lenient as Go's is: unknown fields are passed over, of two values the last one counts, text that
//! is not UTF-8 gets replacement characters.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema::{Schema, TypeId};

mod de;
pub mod envelope;
mod read;
mod ser;
mod transcode;
mod value;

pub use transcode::{Head, to_json};

/// Bytes that are no such message, or a value that has no place in one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unexpected end of protobuf data")]
    Truncated,
    #[error("integer overflow in protobuf data")]
    Overflow,
    #[error("wrong wire type in protobuf data")]
    WireType,
    #[error("protobuf data nests too deep")]
    Depth,
    #[error("protobuf data takes too much memory")]
    Memory,
    #[error("not a protobuf envelope")]
    Envelope,
    /// JSON inside the message (RawExtension, FieldsV1) cannot be read.
    #[error("embedded JSON: {0}")]
    Json(String),
    /// The target type of [`from_slice`] or the source of [`to_vec`] says so, or does not fit the plan.
    #[error("{0}")]
    Custom(String),
}

/// Reads a message into normal form. `kind` and `apiVersion` are not in it: they are in the
/// [`envelope`].
pub fn decode(schema: &Schema, ty: TypeId, bytes: &[u8]) -> Result<Value, Error> {
    de::value(schema, ty, bytes)
}

/// Reads a message into any struct that serde can fill from the same object's JSON; fields that it lacks cost
/// nothing. Nil lists and maps are absent rather than null.
pub fn from_slice<T: DeserializeOwned>(schema: &Schema, ty: TypeId, bytes: &[u8]) -> Result<T, Error> {
    de::typed(schema, ty, bytes)
}

/// Writes a value; fields that the type does not know are left out. An error means that a value does not fit
/// its field.
pub fn encode(schema: &Schema, ty: TypeId, value: &Value) -> Result<Vec<u8>, Error> {
    value::to_vec(schema, ty, value)
}

/// [`encode`] with the [`envelope`] around it, as objects are stored; the vector has no room to spare.
pub fn encode_enveloped(
    schema: &Schema,
    ty: TypeId,
    api_version: &str,
    kind: &str,
    value: &Value,
) -> Result<Vec<u8>, Error> {
    value::enveloped(schema, ty, api_version, kind, value)
}

/// Writes any struct that serde writes as the object's JSON.
pub fn to_vec<T: Serialize + ?Sized>(schema: &Schema, ty: TypeId, value: &T) -> Result<Vec<u8>, Error> {
    ser::to_vec(schema, ty, value)
}

#[cfg(test)]
mod tests;
