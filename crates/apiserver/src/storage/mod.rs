//! Stored objects: their keys, their bytes, their encodings, and how a read finds them. This is the watch
//! cache: it reads the store directly, and nothing stands between.
//!
//! Keys and bytes are upstream's: `/registry/<prefix>[/<namespace>]/<name>`, `k8s\0` and protobuf.

pub mod codec;
mod compact;
pub mod continue_token;
pub mod encoding;
mod frames;
mod keys;
mod leases;
pub mod list;
pub mod scan;
pub mod splice;
mod writes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apimachinery::{
    field, fields, gvk, labels,
    schema::{Resource, Storage as Location, TypeId},
    status::Status,
};
use bytes::Bytes;
use etcd::{KeyValue, Store};
use serde_json::Value;

use self::{encoding::Encodings, keys::prefix_string};
use crate::{conversion, custom, metrics::StoreTimes, registry::meta};

pub use self::{
    frames::{METADATA_ONLY, metadata_only},
    keys::{ROOT, key, name_in, prefix, range},
    writes::Beside,
};

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
}

/// The type of an object by what it calls itself.
pub fn type_of(api_version: &str, kind: &str) -> Option<TypeId> {
    let (group, version) = gvk::split(api_version).ok()?;
    // Both versions of the kinds that only carry metadata are the same.
    let version = if group == "meta.k8s.io" && version == "v1beta1" { "v1" } else { version };
    api::object_type(group, version, kind)
}

fn at_version(at: &Location) -> String {
    gvk::api_version(&at.group, &at.version)
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
