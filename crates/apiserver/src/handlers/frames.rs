//! What a watcher sees of the store: which events are its, and their frames, most of them bytes that are there
//! already.

use std::sync::Arc;

use apimachinery::{clock::Clock, fields, labels, schema::ResourceRef, status::Status};
use bytes::Bytes;
use etcd::{Event, EventKind, KeyValue};
use serde_json::{Value, json};

use super::{table, transform};
use crate::{
    custom,
    negotiation::{Format, Output, Transform},
    storage::{self, Storage, codec, encoding::Form, splice},
};

/// How objects are shown to one watcher.
#[derive(Clone, Copy)]
enum Shape {
    Json,
    /// Anything else that is made of the stored bytes.
    Other(Form),
    /// Rows. The columns are told once.
    Table(&'static str, table::Options),
}

pub(super) struct View {
    storage: Storage,
    clock: Arc<dyn Clock>,
    resource: ResourceRef,
    labels: labels::Selector,
    fields: fields::Selector,
    format: Format,
    shape: Shape,
}

impl View {
    pub(super) fn new(
        call: &super::Call<'_>,
        output: Output,
        labels: labels::Selector,
        fields: fields::Selector,
    ) -> Result<Self, Status> {
        let shape = match (output.transform, output.format) {
            (Transform::None, Format::Protobuf) => {
                super::list::refuse_protobuf(call.resource)?;
                Shape::Other(Form::Protobuf)
            }
            (Transform::None, _) => Shape::Json,
            (Transform::Table(version), _) => Shape::Table(version, table::Options::parse(call.query)?),
            (Transform::Metadata(version) | Transform::MetadataList(version), Format::Protobuf) => {
                Shape::Other(Form::ProtobufMetadata(version))
            }
            (Transform::Metadata(version) | Transform::MetadataList(version), _) => {
                Shape::Other(Form::Metadata(version))
            }
        };
        Ok(Self {
            storage: call.server.storage.clone(),
            clock: call.server.clock.clone(),
            resource: call.resource.clone(),
            labels,
            fields,
            format: output.format,
            shape,
        })
    }

    pub(super) fn selects(&self, kv: &KeyValue) -> bool {
        self.storage.matches_labels(kv, &self.labels)
            && self.storage.matches_fields(&self.resource, kv, &self.fields)
    }

    /// An object that is there when the watch begins.
    pub(super) fn initial(&mut self, kv: &KeyValue) -> Result<Bytes, Status> {
        self.frame("ADDED", kv, kv)
    }

    /// The frame of an event, if the watcher is to see it: an object that comes to match is added, one that
    /// ceases to match is deleted, with its last matching state and the version of what changed it.
    pub(super) fn event(&mut self, event: &Event) -> Result<Option<Bytes>, Status> {
        let before = event.prev.as_ref().filter(|prev| self.selects(prev));
        let now = event.kind == EventKind::Put && self.selects(&event.kv);
        // A version whose predecessor is no longer known.
        let orphan = event.prev.is_none() && event.kv.version > 1;
        match (before, now) {
            (Some(_), true) => self.frame("MODIFIED", &event.kv, &event.kv).map(Some),
            (None, true) if orphan => self.frame("MODIFIED", &event.kv, &event.kv).map(Some),
            (None, true) => self.frame("ADDED", &event.kv, &event.kv).map(Some),
            (Some(last), false) => self.frame("DELETED", last, &event.kv).map(Some),
            (None, false) => Ok(None),
        }
    }

    /// See [`Storage::watch_frame`].
    fn frame(&mut self, event: &'static str, state: &KeyValue, at: &KeyValue) -> Result<Bytes, Status> {
        match self.shape {
            Shape::Json => self.storage.json_frame(&self.resource, event, state, at),
            Shape::Other(form) => self.storage.watch_frame(&self.resource, form, event, state, at),
            Shape::Table(..) => {
                let mut object = self.storage.decode(&self.resource, state)?;
                object["metadata"]["resourceVersion"] = json!(at.mod_revision.to_string());
                Ok(self.made(event, object))
            }
        }
    }

    /// An object that is not stored.
    fn made(&mut self, event: &str, object: Value) -> Bytes {
        let json = match &mut self.shape {
            Shape::Json => object,
            Shape::Other(Form::Metadata(version)) => transform::metadata(object, version),
            Shape::Other(Form::ProtobufMetadata(version)) => {
                return packed(event, &transform::metadata(object, version));
            }
            Shape::Other(Form::Protobuf) => return packed(event, &object),
            Shape::Table(version, options) => {
                let list = transform::ListMeta {
                    resource_version: object["metadata"]["resourceVersion"]
                        .as_str()
                        .unwrap_or_default()
                        .into(),
                    ..transform::ListMeta::default()
                };
                let now = self.clock.now();
                let table = table::build(&self.resource, version, *options, vec![object], &list, now);
                options.headers = false;
                table
            }
        };
        format!("{{\"type\":\"{event}\",\"object\":{json}}}\n").into()
    }

    /// Says how far the watcher has come; `initial`: that the state at the start is complete (KEP-3157).
    pub(super) fn bookmark(&mut self, revision: i64, initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        // The rest of the object as Go writes an empty one. The schema always fits a value this small.
        if custom::of(&self.resource).is_none() {
            let _ = codec::normalize(self.resource.object, &mut object);
        }
        self.made("BOOKMARK", object)
    }

    /// What ends a watch that cannot go on. A Status is never transformed.
    pub(super) fn error(&self, status: &Status) -> Bytes {
        let status = serde_json::to_value(status).unwrap_or_default();
        match self.format {
            Format::Protobuf => packed("ERROR", &status),
            _ => format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n").into(),
        }
    }
}

/// A frame of protobuf around an object by what it calls itself. Only called with kinds of ours.
fn packed(event: &str, object: &Value) -> Bytes {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let encoded = storage::type_of(api_version, kind).map(|ty| codec::encode(ty, api_version, kind, object));
    splice::frame(event, encoded.and_then(Result::ok).as_deref().unwrap_or_default()).into()
}
