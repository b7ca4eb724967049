//! Stored objects: their keys, their bytes, their encodings, and how a read finds them. This is the watch
//! cache: it reads the store directly, and nothing stands between.
//!
//! Keys and bytes are upstream's: `/registry/<prefix>[/<namespace>]/<name>`, `k8s\0` and protobuf.

pub mod codec;
mod compact;
pub mod continue_token;
pub mod encoding;
mod leases;
pub mod list;
pub mod scan;
pub mod splice;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use apimachinery::{
    field, fields, gvk, labels, names,
    schema::{Resource, Storage as Location, TypeId},
    status::Status,
};
use bytes::Bytes;
use etcd::{Compare, KeyRange, KeyValue, Op, OpResponse, Put, Store, Txn};
use serde_json::Value;

use self::{
    encoding::{Encodings, Form, Frame, Row},
    splice::Message,
};
use crate::{conversion, custom, metrics::StoreTimes, registry::meta};

pub const ROOT: &str = "/registry";

/// The store, and the encodings made from it.
#[derive(Clone)]
pub struct Storage {
    store: Store,
    encodings: Arc<Encodings>,
    leases: Arc<leases::Leases>,
    /// Seconds that Events stay.
    event_ttl: i64,
    /// How long the store took.
    pub times: StoreTimes,
}

impl Storage {
    /// `encoding_bytes`: JSON kept in memory at most; `event_ttl`: how long objects that expire stay.
    pub fn new(store: Store, encoding_bytes: usize, event_ttl: Duration) -> Self {
        let event_ttl = i64::try_from(event_ttl.as_secs()).unwrap_or(i64::MAX);
        let times = StoreTimes::default();
        Self { store, encodings: Encodings::new(encoding_bytes), leases: Arc::default(), event_ttl, times }
    }

    /// The store itself, for those who follow it by watch or read keys of their own.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Bytes of JSON kept now.
    pub fn encoding_bytes(&self) -> usize {
        self.encodings.used()
    }

    /// How many JSON documents, frames of watches and the like were made of objects so far; who shares one that
    /// is kept makes none.
    pub fn encodings_made(&self) -> u64 {
        self.encodings.made()
    }

    /// The newest version of an object as it is stored.
    pub fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<KeyValue>>, Status> {
        Ok(self.store.get(&key(resource, namespace, name)?))
    }

    /// The newest version of an object, decoded, in the resource's version; `None` if it is not there.
    ///
    /// # Errors
    /// 500 for bytes that cannot be decoded, 400 for impossible names.
    pub fn read(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        self.get(resource, namespace, name)?.map(|kv| self.decode(resource, &kv)).transpose()
    }

    /// Every object of a resource, decoded; of all namespaces if `namespace` is empty. Objects that cannot be
    /// decoded are logged and left out.
    pub fn read_all(&self, resource: &Resource, namespace: &str) -> Vec<Value> {
        let Ok(prefix) = prefix(resource, namespace) else { return Vec::new() };
        let found = self.store.range(&etcd::Range::prefix(prefix)).map(|r| r.kvs).unwrap_or_default();
        let decoded = found.iter().filter_map(|kv| match self.decode(resource, kv) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(key = %String::from_utf8_lossy(&kv.key), %error, "a stored object is unreadable");
                None
            }
        });
        decoded.collect()
    }

    /// The newest version of an object, decoded once for all who ask, without managed fields. For kinds of which
    /// there are few objects and that many writes look at: what is decoded stays as long as the revision.
    pub fn kept(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.keep(resource, &*self.get(resource, namespace, name).ok()??)
    }

    /// [`Storage::kept`] of every object of a resource, in one namespace if one is given.
    pub fn kept_all(&self, resource: &Resource, namespace: &str) -> Vec<Arc<Value>> {
        self.all(resource, namespace).iter().filter_map(|kv| self.keep(resource, kv)).collect()
    }

    /// The newest versions of every object of a resource, in one namespace if one is given.
    pub fn all(&self, resource: &Resource, namespace: &str) -> Vec<Arc<KeyValue>> {
        let Ok(prefix) = prefix(resource, namespace) else { return Vec::new() };
        self.store.range(&etcd::Range::prefix(prefix)).map(|r| r.kvs).unwrap_or_default()
    }

    /// Whether there is any object of a resource, in one namespace if one is given.
    pub fn has_any(&self, resource: &Resource, namespace: &str) -> bool {
        prefix_string(resource, namespace, 0).is_ok_and(|prefix| self.store.has_prefix(prefix.as_bytes()))
    }

    /// [`Storage::kept`] of a version at hand.
    pub fn keep(&self, resource: &Resource, kv: &KeyValue) -> Option<Arc<Value>> {
        self.encodings.object(kv, || {
            let mut object = self.decode(resource, kv).ok()?;
            meta::set(&mut object, "managedFields", None);
            Some(object)
        })
    }

    /// The labels of an object, read without decoding it; `None` if it is not there.
    pub fn labels(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Option<BTreeMap<String, String>> {
        let kv = self.get(resource, namespace, name).ok()??;
        Some(scan::labels(&kv.value).map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// A stored object as a value in the resource's version, with its resourceVersion.
    pub fn decode(&self, resource: &Resource, kv: &KeyValue) -> Result<Value, Status> {
        let mut value = decode(resource, &kv.value)?;
        meta::set(&mut value, "resourceVersion", Some(kv.mod_revision.to_string().into()));
        Ok(value)
    }

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

    /// The object's labels match.
    pub fn matches_labels(&self, kv: &KeyValue, selector: &labels::Selector) -> bool {
        selector.is_everything() || selector.matches(|key| scan::label(&kv.value, key))
    }

    /// The object's selectable fields match. What they are is worked out once per revision.
    pub fn matches_fields(&self, resource: &Resource, kv: &KeyValue, selector: &fields::Selector) -> bool {
        if selector.is_empty() {
            return true;
        }
        // Name and namespace stand in the key.
        if selector.terms().iter().all(|t| matches!(&*t.field, "metadata.name" | "metadata.namespace")) {
            let (namespace, name) = name_in(resource, &kv.key);
            return selector.matches(|field| match field {
                "metadata.name" => Some(name),
                "metadata.namespace" => Some(namespace),
                _ => None,
            });
        }
        self.fields(resource, kv, |have| selector.matches(|f| have.get(f).map(String::as_str)))
    }

    /// One selectable field of the newest version of an object; `None` if the object is not there, empty if it
    /// has no such field.
    ///
    /// # Errors
    /// 400 for impossible names.
    pub fn field(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        field: &str,
    ) -> Result<Option<String>, Status> {
        let Some(kv) = self.get(resource, namespace, name)? else { return Ok(None) };
        Ok(Some(self.fields(resource, &kv, |have| have.get(field).cloned()).unwrap_or_default()))
    }

    fn fields<T>(
        &self,
        resource: &Resource,
        kv: &KeyValue,
        read: impl FnOnce(&BTreeMap<String, String>) -> T,
    ) -> T {
        let make = || match decode(resource, &kv.value) {
            Ok(value) => crate::registry::strategy::selectable_fields(resource, &value),
            Err(_) => Default::default(),
        };
        // Another version names its fields otherwise, so what is kept is the stored version's.
        match &resource.storage {
            Some(at) if is_plain(resource, at) => self.encodings.fields(kv, make, read),
            _ => read(&make()),
        }
    }

    /// Writes if the newest version is still the one of `revision` (0: none). `Ok(Err(newest))` if not.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn put(
        &self,
        resource: &Resource,
        key: Bytes,
        value: Bytes,
        revision: i64,
    ) -> Result<Result<Arc<KeyValue>, Option<Arc<KeyValue>>>, Status> {
        self.put_with(resource, key, value, revision, Beside::default()).await
    }

    /// [`Storage::put`] together with what stands beside the object: all of it at one revision, or none. It also
    /// comes to nothing when something that is to be made beside it is there already.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn put_with(
        &self,
        resource: &Resource,
        key: Bytes,
        value: Bytes,
        revision: i64,
        beside: Beside,
    ) -> Result<Result<Arc<KeyValue>, Option<Arc<KeyValue>>>, Status> {
        let lease = if crate::registry::hooks(resource).expires {
            self.leases.get(&self.store, self.event_ttl).await.map_err(|e| store_error(&e))?
        } else {
            0
        };
        let put = Put { key, value, lease };
        let began = tokio::time::Instant::now();
        let answer = match beside.is_empty() {
            true => self.store.put_if(put, revision).await.map(|answer| answer.map(|response| response.kv)),
            false => self.all_or_nothing(put.key.clone(), Op::Put(put), revision, beside).await,
        };
        self.times.observe(if revision == 0 { "create" } else { "update" }, began, answer.is_ok());
        answer.map_err(|e| store_error(&e))
    }

    async fn all_or_nothing(
        &self,
        key: Bytes,
        op: Op,
        revision: i64,
        beside: Beside,
    ) -> Result<Result<Arc<KeyValue>, Option<Arc<KeyValue>>>, etcd::Error> {
        let mut compare = vec![Compare::mod_revision(key.clone(), revision)];
        compare.extend(beside.create.iter().map(|(key, _)| Compare::absent(key.clone())));
        let mut success = vec![op];
        success.extend(beside.create.into_iter().map(|(key, value)| Op::put(key, value)));
        success.extend(beside.delete.into_iter().map(Op::delete));
        let failure = vec![Op::get(key)];
        let answer = self.store.txn(Txn { compare, success, failure }).await?;
        match answer.responses.into_iter().next() {
            Some(OpResponse::Put(response)) => Ok(Ok(response.kv)),
            Some(OpResponse::Range(mut response)) => Ok(Err(response.kvs.pop())),
            other => unreachable!("a put was answered with {other:?}"),
        }
    }

    /// Deletes if the newest version is still the one of `revision`. The revision of the deletion, or the
    /// newest version instead.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn delete(
        &self,
        key: Bytes,
        revision: i64,
    ) -> Result<Result<i64, Option<Arc<KeyValue>>>, Status> {
        self.delete_with(key, revision, Vec::new()).await
    }

    /// [`Storage::delete`] together with other keys: all of them at one revision, or none.
    ///
    /// # Errors
    /// What the client gets when the store does not take the write.
    pub async fn delete_with(
        &self,
        key: Bytes,
        revision: i64,
        beside: Vec<Bytes>,
    ) -> Result<Result<i64, Option<Arc<KeyValue>>>, Status> {
        let began = tokio::time::Instant::now();
        let mut success = vec![Op::delete(key.clone())];
        success.extend(beside.into_iter().map(Op::delete));
        let compare = vec![Compare::mod_revision(key.clone(), revision)];
        let answer = self.store.txn(Txn { compare, success, failure: vec![Op::get(key)] }).await;
        self.times.observe("delete", began, answer.is_ok());
        let answer = answer.map_err(|e| store_error(&e))?;
        match answer.responses.into_iter().next() {
            Some(OpResponse::Range(mut response)) => Ok(Err(response.kvs.pop())),
            _ => Ok(Ok(answer.revision)),
        }
    }
}

/// What is written together with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Keys that must not be there yet, and their values.
    pub create: Vec<(Bytes, Bytes)>,
    pub delete: Vec<Bytes>,
}

impl Beside {
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty()
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

/// The type of an object by what it calls itself.
pub fn type_of(api_version: &str, kind: &str) -> Option<TypeId> {
    let (group, version) = gvk::split(api_version).ok()?;
    // Both versions of the kinds that only carry metadata are the same.
    let version = if group == "meta.k8s.io" && version == "v1beta1" { "v1" } else { version };
    api::object_type(group, version, kind)
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

fn at_version(at: &Location) -> String {
    gvk::api_version(&at.group, &at.version)
}

/// Under what the JSON of a resource's objects is kept; `None`: it is not, since several share the objects.
fn kept_as(resource: &Resource) -> Option<u64> {
    let plain = resource.storage.as_ref().is_some_and(|at| is_plain(resource, at));
    plain.then_some(0).or_else(|| custom::of(resource).map(|custom| custom.tag))
}

/// The resource is served in the version it is stored in, so the stored bytes are its bytes.
fn is_plain(resource: &Resource, at: &Location) -> bool {
    resource.group == at.group && resource.version == at.version
}

/// Stored bytes as a value in the resource's version, without a resourceVersion.
pub fn decode(resource: &Resource, value: &[u8]) -> Result<Value, Status> {
    if let Some(custom) = custom::of(resource) {
        return custom.decode(value);
    }
    let broken = |why: String| Status::internal(format_args!("unable to decode a stored object: {why}"));
    let at = resource.storage.as_ref().ok_or_else(|| broken("nothing of this resource is stored".into()))?;
    let Some((api_version, kind)) = scan::type_meta(value) else {
        return Err(broken("not a protobuf envelope".into()));
    };
    let (group, version) = gvk::split(api_version).map_err(|e| broken(e.to_string()))?;
    let stored_type = if group == at.group && version == at.version {
        at.object
    } else {
        api::object_type(group, version, kind).ok_or_else(|| {
            broken(format!("no kind {} in version {}", field::quote(kind), field::quote(api_version)))
        })?
    };
    let raw = scan::raw(value).unwrap_or_default();
    let mut object = codec::decode(stored_type, raw).map_err(broken)?;
    conversion::convert(&mut object, kind, (group, version), (&resource.group, &resource.version));
    codec::set_type_meta(&mut object, &resource.api_version(), &resource.kind);
    Ok(object)
}

/// A value in the resource's version as bytes to store. Its resourceVersion is taken out: what is stored knows
/// no revision.
pub fn encode(resource: &Resource, object: &mut Value) -> Result<Bytes, Status> {
    meta::set(object, "resourceVersion", None);
    if let Some(custom) = custom::of(resource) {
        return custom.encode(object);
    }
    let at =
        resource.storage.as_ref().ok_or_else(|| Status::internal("nothing of this resource is stored"))?;
    let broken = |why: String| Status::internal(format_args!("unable to encode an object: {why}"));
    let stored = at_version(at);
    if is_plain(resource, at) {
        return codec::encode(at.object, &stored, &resource.kind, object).map_err(broken);
    }
    let mut converted = object.clone();
    let from = (&*resource.group, &*resource.version);
    conversion::convert(&mut converted, &resource.kind, from, (&at.group, &at.version));
    codec::set_type_meta(&mut converted, &stored, &resource.kind);
    codec::encode(at.object, &stored, &resource.kind, &converted).map_err(broken)
}

/// The key of an object.
///
/// # Errors
/// 400 for names that cannot be part of a path.
pub fn key(resource: &Resource, namespace: &str, name: &str) -> Result<Bytes, Status> {
    let mut key = prefix_string(resource, namespace, name.len())?;
    if resource.namespaced && namespace.is_empty() {
        return Err(Status::bad_request("Namespace parameter required."));
    }
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let faults = names::is_path_segment_name(name);
    if !faults.is_empty() {
        return Err(Status::bad_request(format!(
            "Name parameter invalid: {}: {}",
            field::quote(name),
            faults.join(";")
        )));
    }
    key.push_str(name);
    Ok(key.into())
}

/// What the keys of a resource's objects begin with, those of one namespace if one is given.
pub fn prefix(resource: &Resource, namespace: &str) -> Result<Bytes, Status> {
    Ok(prefix_string(resource, namespace, 0)?.into())
}

/// The prefix, with room for `more` bytes and no others: keys stay in memory as they are made.
fn prefix_string(resource: &Resource, namespace: &str, more: usize) -> Result<String, Status> {
    let at =
        resource.storage.as_ref().ok_or_else(|| Status::internal("nothing of this resource is stored"))?;
    let inner = if resource.namespaced && !namespace.is_empty() { namespace.len() + 1 } else { 0 };
    let mut key = String::with_capacity(ROOT.len() + at.prefix.len() + 2 + inner + more);
    key.push_str(ROOT);
    key.push('/');
    key.push_str(&at.prefix);
    key.push('/');
    if resource.namespaced && !namespace.is_empty() {
        let faults = names::is_path_segment_name(namespace);
        if !faults.is_empty() {
            return Err(Status::bad_request(format!(
                "Namespace parameter invalid: {}: {}",
                field::quote(namespace),
                faults.join(";")
            )));
        }
        key.push_str(namespace);
        key.push('/');
    }
    Ok(key)
}

/// The range of keys of a resource's objects, or exactly one object's.
pub fn range(resource: &Resource, namespace: &str, name: Option<&str>) -> Result<KeyRange, Status> {
    match name {
        Some(name) if !resource.namespaced || !namespace.is_empty() => {
            Ok(KeyRange::key(key(resource, namespace, name)?))
        }
        _ => Ok(KeyRange::prefix(prefix(resource, namespace)?)),
    }
}

/// Namespace and name as they stand in a key.
pub fn name_in<'a>(resource: &Resource, key: &'a [u8]) -> (&'a str, &'a str) {
    let key = std::str::from_utf8(key).unwrap_or_default();
    let Some((rest, name)) = key.rsplit_once('/') else { return ("", key) };
    let namespace = if resource.namespaced { rest.rsplit('/').next().unwrap_or_default() } else { "" };
    (namespace, name)
}

fn unreadable(kv: &KeyValue, error: &encoding::Error) -> Status {
    let key = String::from_utf8_lossy(&kv.key);
    tracing::error!(%key, %error, "a stored object is unreadable");
    Status::internal(format_args!("unable to transform key {}: {error}", field::quote(&key)))
}

/// The store's refusal as an answer.
pub fn store_error(error: &etcd::Error) -> Status {
    match error {
        etcd::Error::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        etcd::Error::TooManyRequests => Status::too_many_requests(error.to_string(), 1),
        etcd::Error::Stopped => Status::service_unavailable("the API server is shutting down"),
        // Upstream passes etcd's text on, with no reason.
        _ => Status::failure(500, "", error.to_string()),
    }
}
