//! CustomResourceDefinitions: a first deletion lets the objects go before the definition (upstream's
//! `registry/customresourcedefinition/etcd.go`).

use apiextensions::status;
use jiff::Timestamp;
use kinds::strategy::GarbageCollection;
use serde_json::Value;

use crate::{
    custom::controller::FINALIZER,
    handlers::options::DeleteOptions,
    registry::{deletion::Deletion, meta},
};

pub fn deletion(old: &Value, options: &DeleteOptions, now: Timestamp) -> Option<Deletion> {
    if meta::is_being_deleted(old) {
        return None;
    }
    let mut definition = old.clone();
    definition["status"] =
        status::terminating(&definition, &status::Deletion::Pending, &apimachinery::time::format(now));
    let finalizers = meta::deletion_finalizers(&definition, options, GarbageCollection::Background);
    let mut finalizers =
        finalizers.unwrap_or_else(|| meta::finalizers(&definition).into_iter().map(str::to_owned).collect());
    if !finalizers.iter().any(|held| held == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    meta::set_finalizers(&mut definition, finalizers);
    meta::mark_as_deleting(&mut definition, now);
    Some(Deletion::Mark(definition))
}
