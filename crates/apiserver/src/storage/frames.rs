//! What readers are sent of a stored object: its JSON, its messages, frames of watches, rows of tables; most of it made
//! once and kept with the revision.

use std::{borrow::Cow, sync::Arc};

use apimachinery::schema::Resource;
use apimachinery::status::Status;
use bytes::Bytes;
use etcd::KeyValue;

use super::{
    Storage, codec, decode,
    encoding::{self, Form, Frame, Row},
    is_plain, scan,
    splice::{self, Message},
    unreadable,
};
use crate::custom;

impl Storage {
    /// The JSON of a stored object, in the resource's version. Kept for the next reader.
    pub fn frame(&self, resource: &Resource, kv: &KeyValue) -> Result<Frame, Status> {
        let event = usual_event(kv);
        let made = match kept_as(resource) {
            Some(tag) => self.encodings.frame(kv, tag, || self.make(resource, kv, event)),
            None => self.make(resource, kv, event),
        };
        made.map_err(|e| unreadable(kv, &e))
    }

    /// The frame of a deletion: the last state with the deletion's version. Kept on the tombstone.
    pub fn deleted_frame(
        &self,
        resource: &Resource,
        tombstone: &KeyValue,
        last: &KeyValue,
    ) -> Result<Frame, Status> {
        let tag = kept_as(resource);
        let last_frame = || {
            let frame = match tag {
                Some(tag) => self.encodings.frame(last, tag, || self.make(resource, last, "MODIFIED"))?,
                None => self.make(resource, last, "MODIFIED")?,
            };
            Ok(frame.derive("DELETED", Some(tombstone.mod_revision)))
        };
        let made = match tag {
            Some(tag) => self.encodings.frame(tombstone, tag, last_frame),
            None => last_frame(),
        };
        made.map_err(|e: encoding::Error| unreadable(last, &e))
    }

    fn make(&self, resource: &Resource, kv: &KeyValue, event: &str) -> Result<Frame, encoding::Error> {
        let api_version = resource.api_version();
        if custom::of(resource).is_some() {
            let head = format!("\"apiVersion\":\"{api_version}\",\"kind\":\"{}\",", resource.kind);
            return Frame::build(event, &head, |out| {
                let object = self.decode(resource, kv).map_err(|s| encoding::Error::Decode(s.message))?;
                custom::write(&object, out);
                Ok(())
            });
        }
        let head = format!("\"kind\":\"{}\",\"apiVersion\":\"{api_version}\",", resource.kind);
        Frame::build(event, &head, |out| {
            let at = resource.storage.as_ref().ok_or(encoding::Error::Head)?;
            if let Some(raw) = stored_message(resource, kv) {
                codec::transcode(at.object, &resource.kind, &api_version, raw, kv.mod_revision, out)
                    .map_err(encoding::Error::Decode)
            } else {
                let value =
                    self.decode(resource, kv).map_err(|status| encoding::Error::Decode(status.message))?;
                codec::write_json(resource.object, &value, out);
                Ok(())
            }
        })
    }

    /// The message of a stored object in the resource's version; without a resourceVersion, which
    /// [`Message::new`] puts in.
    ///
    /// # Errors
    /// 500 for bytes that cannot be decoded.
    pub fn message<'a>(&self, resource: &Resource, kv: &'a KeyValue) -> Result<Cow<'a, [u8]>, Status> {
        if let Some(raw) = stored_message(resource, kv) {
            return Ok(Cow::Borrowed(raw));
        }
        let mut value = decode(resource, &kv.value)?;
        let ty = match custom::of(resource) {
            None => resource.object,
            // Only its metadata has a form in protobuf.
            Some(_) => {
                value = serde_json::json!({"metadata": value["metadata"].take()});
                api::object_type("meta.k8s.io", "v1", METADATA_ONLY)
                    .ok_or_else(|| Status::internal("the type of metadata is missing"))?
            }
        };
        let message = codec::message(ty, &value);
        Ok(Cow::Owned(message.map_err(|why| unreadable(kv, &encoding::Error::Decode(why)))?))
    }

    /// A stored object in upstream's envelope.
    pub fn protobuf(&self, resource: &Resource, kv: &KeyValue) -> Result<Bytes, Status> {
        let raw = self.message(resource, kv)?;
        let message = Message::new(&raw, kv.mod_revision);
        let mut out = Vec::new();
        let write = |out: &mut Vec<u8>| message.write(out);
        splice::enveloped(&resource.api_version(), &resource.kind, message.length(), write, &mut out);
        Ok(out.into())
    }

    /// As [`Storage::watch_frame`], in JSON.
    pub fn json_frame(
        &self,
        resource: &Resource,
        event: &str,
        state: &KeyValue,
        at: &KeyValue,
    ) -> Result<Bytes, Status> {
        if at.version == 0 {
            return Ok(self.deleted_frame(resource, at, state)?.bytes());
        }
        let frame = self.frame(resource, state)?;
        let later = state.mod_revision != at.mod_revision;
        if !later && event == usual_event(state) {
            return Ok(frame.bytes());
        }
        Ok(frame.derive(event, later.then_some(at.mod_revision)).bytes())
    }

    /// A watch's frame: `event` happened to the object, which was or is `state`, at the version of `at` (`state`
    /// itself, or what ended it). Kept with `at` if it is what everybody sees of it.
    pub fn watch_frame(
        &self,
        resource: &Resource,
        form: Form,
        event: &str,
        state: &KeyValue,
        at: &KeyValue,
    ) -> Result<Bytes, Status> {
        let make = || self.make_frame(resource, form, event, state, at.mod_revision);
        let plain = resource.storage.as_ref().is_some_and(|stored| is_plain(resource, stored));
        if plain && event == usual_event(at) { self.encodings.other(at, form, make) } else { make() }
    }

    fn make_frame(
        &self,
        resource: &Resource,
        form: Form,
        event: &str,
        state: &KeyValue,
        revision: i64,
    ) -> Result<Bytes, Status> {
        if let Form::Metadata(version) = form {
            let mut frame = self.frame(resource, state)?;
            if state.mod_revision != revision {
                frame = frame.derive(event, Some(revision));
            }
            return Ok(encoding::frame(event, |out| metadata_only(&frame, version, out)).into());
        }
        let raw = self.message(resource, state)?;
        let message = Message::new(&raw, revision);
        let mut object = Vec::new();
        if let Form::ProtobufMetadata(version) = form {
            let (length, api_version) = (message.metadata_only_length(), format!("meta.k8s.io/{version}"));
            let write = |out: &mut Vec<u8>| message.write_metadata_only(out);
            splice::enveloped(&api_version, METADATA_ONLY, length, write, &mut object);
        } else {
            let write = |out: &mut Vec<u8>| message.write(out);
            splice::enveloped(&resource.api_version(), &resource.kind, message.length(), write, &mut object);
        }
        Ok(splice::frame(event, &object).into())
    }

    /// What a webhook has made of a stored object for the record with this tag, if it is kept.
    pub fn converted(&self, kv: &KeyValue, tag: u64) -> Option<Arc<KeyValue>> {
        self.encodings.converted(kv, tag)
    }

    pub fn keep_converted(&self, kv: &KeyValue, tag: u64, converted: Arc<KeyValue>) {
        self.encodings.keep_converted(kv, tag, converted);
    }

    /// The object's row of a table, if it is kept.
    pub fn row(&self, resource: &Resource, kv: &KeyValue) -> Option<Arc<Row>> {
        let plain = resource.storage.as_ref().is_some_and(|stored| is_plain(resource, stored));
        if plain { self.encodings.row(kv) } else { None }
    }

    /// Keeps the row for the next reader of the resource in this version.
    pub fn keep_row(&self, resource: &Resource, kv: &KeyValue, row: Arc<Row>) {
        if resource.storage.as_ref().is_some_and(|stored| is_plain(resource, stored)) {
            self.encodings.keep_row(kv, row);
        }
    }
}

/// The kind of objects of which only the metadata is told.
pub const METADATA_ONLY: &str = "PartialObjectMetadata";

/// An object's JSON cut down to its metadata.
pub fn metadata_only(frame: &Frame, version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/");
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    out.extend_from_slice(frame.metadata());
    out.push(b'}');
}

/// What happened when this version came to be, for who watches everything. A deletion has no version.
fn usual_event(kv: &KeyValue) -> &'static str {
    match kv.version {
        0 => "DELETED",
        1 => "ADDED",
        _ => "MODIFIED",
    }
}

/// The stored message, if it is the object's in the resource's version as it stands.
fn stored_message<'a>(resource: &Resource, kv: &'a KeyValue) -> Option<&'a [u8]> {
    let at = resource.storage.as_ref()?;
    let [api_version, kind, raw] = scan::open(&kv.value)?;
    let version = match &*resource.group {
        "" => api_version,
        group => api_version.strip_prefix(group.as_bytes())?.strip_prefix(b"/")?,
    };
    let same =
        is_plain(resource, at) && kind == resource.kind.as_bytes() && version == resource.version.as_bytes();
    same.then_some(raw)
}

/// Under what the JSON of a resource's objects is kept; `None`: it is not, since several share the objects.
fn kept_as(resource: &Resource) -> Option<u64> {
    let plain = resource.storage.as_ref().is_some_and(|at| is_plain(resource, at));
    plain.then_some(0).or_else(|| custom::of(resource).map(|custom| custom.tag))
}
