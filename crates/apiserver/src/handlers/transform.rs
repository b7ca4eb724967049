//! Objects and lists reduced to their metadata.

use serde_json::{Value, json};

/// Metadata of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct ListMeta {
    pub resource_version: String,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
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
    let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_else(|| json!({}));
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
    })
}

/// A list as `PartialObjectMetadataList`.
pub(super) fn metadata_list(items: Vec<Value>, list: &ListMeta, version: &str) -> Value {
    // Upstream's items carry their kind, unlike those of other lists.
    let items: Vec<Value> = items.into_iter().map(|item| metadata(item, version)).collect();
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": list.to_value(),
        "items": items,
    })
}
