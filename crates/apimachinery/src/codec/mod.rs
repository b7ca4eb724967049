//! One codec over the field plan: JSON, YAML and protobuf, all to and from the same values.
//!
//! A value in *normal form* is what Go would write after reading it. The rules are in [`normal`]; decoding
//! from any encoding yields it and [`normal::normalize`] makes it.
//!
//! | from | to | with |
//! | --- | --- | --- |
//! | JSON bytes | normal form | [`json::decode`] |
//! | normal form | JSON bytes in Go's field order | [`json::to_vec`] |
//! | YAML text | normal form | [`yaml::decode`] |
//! | normal form | YAML text | [`yaml::to_string`] |
//! | protobuf bytes | normal form, typed struct, JSON bytes | [`protobuf::decode`], [`protobuf::from_slice`], [`protobuf::to_json`] |
//! | normal form, typed struct | protobuf bytes | [`protobuf::encode`], [`protobuf::to_vec`] |
//!
//! Nothing here panics on hostile bytes: nesting is limited to [`MAX_DEPTH`], lengths are checked against
//! what is there before anything is allocated, and what comes of a body fits 64 MiB ([`budget`]).

mod budget;
pub mod json;
pub mod normal;
pub mod protobuf;
pub mod yaml;

/// How deep objects, lists and messages may nest. Go allows 10,000, on a stack that grows; custom resource
/// schemas, the deepest real objects, stay far below this.
pub const MAX_DEPTH: usize = 192;

/// Input that cannot be decoded. The texts are those of upstream's decoders, to be put into a Status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON (or YAML) at all: `invalid character '}' looking for beginning of value`.
    #[error("{0}")]
    Syntax(String),
    /// A value does not fit its field:
    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
    #[error("{0}")]
    Type(String),
}

/// An object in normal form, and what was not in order about its text.
///
/// Both lists hold ready texts (`unknown field "spec.foo"`, `duplicate field "spec.replicas"`) in the order
/// of the document, without repetition, at most 100 in all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    pub value: serde_json::Value,
    pub unknown: Vec<String>,
    pub duplicates: Vec<String>,
    /// Both, in the order of the document.
    pub strict: Vec<String>,
}

impl Decoded {
    /// `strict decoding error: unknown field "spec.foo", duplicate field "spec.x"`; `None`: nothing to say.
    pub fn strict_error(&self) -> Option<String> {
        if self.strict.is_empty() {
            return None;
        }
        Some(format!("strict decoding error: {}", self.strict.join(", ")))
    }
}
