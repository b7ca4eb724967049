//! A namespace goes in phases: a first deletion marks it Terminating, the namespace controller empties it and
//! takes the finalizer from its spec, and only then is the object removed (upstream's
//! `registry/core/namespace/storage`).

use jiff::Timestamp;
use kinds::strategy::GarbageCollection;
use serde_json::{Value, json};

use crate::{
    handlers::options::DeleteOptions,
    registry::{deletion::Deletion, meta},
};

/// Nobody holds the namespace by its spec.
pub fn is_finalized(namespace: &Value) -> bool {
    namespace["spec"]["finalizers"].as_array().is_none_or(|f| f.is_empty())
}

pub fn deletion(old: &Value, options: &DeleteOptions, now: Timestamp) -> Option<Deletion> {
    if meta::is_being_deleted(old) {
        return (!is_finalized(old)).then_some(Deletion::Nothing);
    }
    let mut namespace = old.clone();
    meta::set(&mut namespace, "deletionTimestamp", Some(meta::time(now)));
    namespace["status"]["phase"] = json!("Terminating");
    if let Some(finalizers) = meta::deletion_finalizers(&namespace, options, GarbageCollection::Background) {
        meta::set_finalizers(&mut namespace, finalizers);
    }
    Some(Deletion::Mark(namespace))
}
