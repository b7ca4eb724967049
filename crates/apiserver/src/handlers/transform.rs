//! Objects and lists reduced to their metadata.

use apimachinery::managed_fields;
use serde_json::{Value, json};

use crate::storage::splice;

/// Metadata of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct ListMeta {
    pub resource_version: String,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
    /// As JSON, in Go's order. Nothing in it needs escaping.
    pub(super) fn to_json(&self) -> String {
        let mut out = format!("{{\"resourceVersion\":\"{}\"", self.resource_version);
        if !self.continue_token.is_empty() {
            out += &format!(",\"continue\":\"{}\"", self.continue_token);
        }
        if let Some(remaining) = self.remaining {
            out += &format!(",\"remainingItemCount\":{remaining}");
        }
        out + "}"
    }

    /// As a `ListMeta` message.
    pub(super) fn to_message(&self) -> Vec<u8> {
        let mut out = Vec::new();
        splice::put_field(1, b"", &mut out);
        splice::put_field(2, self.resource_version.as_bytes(), &mut out);
        splice::put_field(3, self.continue_token.as_bytes(), &mut out);
        if let Some(remaining) = self.remaining {
            splice::put_number(4, remaining as u64, &mut out);
        }
        out
    }

    pub(super) fn to_value(&self) -> Value {
        let mut value = json!({});
        if !self.resource_version.is_empty() {
            value["resourceVersion"] = json!(self.resource_version);
        }
        if !self.continue_token.is_empty() {
            value["continue"] = json!(self.continue_token);
        }
        if let Some(remaining) = self.remaining {
            value["remainingItemCount"] = json!(remaining);
        }
        value
    }
}

/// An object as `PartialObjectMetadata`.
pub(super) fn metadata(mut object: Value, version: &str) -> Value {
    managed_fields::unfold(&mut object);
    let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_else(|| json!({}));
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
    })
}
