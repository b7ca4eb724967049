//! Who owns the replicas of a workload, as its `scale` subresource shows it and takes it back. The rules are those
//! of upstream's `managedfields.ScaleHandler` (KEP-555), for kinds that keep their replicas at `spec.replicas`.

use serde_json::Value;

use super::entries::{Entry, Error, Operation, decode, encode};
use super::set::{FieldSet, PathElement};

const SCALE: &str = "autoscaling/v1";

fn replicas() -> FieldSet {
    FieldSet::of_fields(&[&["spec", "replicas"]])
}

fn path() -> [PathElement; 2] {
    ["spec", "replicas"].map(|name| PathElement::Field(name.into()))
}

/// The entries of a workload that own its replicas, as entries of its Scale. `known` tells the versions of the
/// workload that are served.
///
/// # Errors
/// If the list cannot be read.
pub fn to_scale(parent: Option<&Value>, known: &dyn Fn(&str) -> bool) -> Result<Option<Value>, Error> {
    let mut entries = decode(parent)?;
    entries.retain(|entry| known(&entry.api_version) && entry.fields.has(&path()));
    for entry in &mut entries {
        entry.api_version = SCALE.to_owned();
        entry.fields = replicas();
    }
    Ok(encode(entries))
}

/// The entries of a workload after a write of its Scale, whose entries now are `scale`. What the write did is
/// recorded in `api_version`, the workload's version in the request.
///
/// # Errors
/// If a list cannot be read.
pub fn to_parent(
    parent: Option<&Value>,
    scale: Option<&Value>,
    api_version: &str,
    known: &dyn Fn(&str) -> bool,
) -> Result<Option<Value>, Error> {
    let mut left = decode(scale)?;
    let mut entries = Vec::new();
    for mut entry in decode(parent)?.into_iter().filter(|entry| known(&entry.api_version)) {
        if entry.fields.has(&path()) {
            match left.iter().position(|other| same_writer(other, &entry)) {
                Some(at) => drop(left.remove(at)),
                None => entry.fields.subtract(&replicas()),
            }
        }
        if !entry.fields.is_empty() {
            entries.push(entry);
        }
    }
    for mut entry in left.into_iter().filter(|entry| entry.fields.has(&path())) {
        entry.api_version = api_version.to_owned();
        entry.fields = replicas();
        match entries.iter_mut().find(|known: &&mut Entry| known.same_manager(&entry)) {
            Some(same) => {
                same.fields = std::mem::take(&mut same.fields).union(entry.fields);
                same.time = entry.time;
            }
            None => entries.push(entry),
        }
    }
    Ok(encode(entries))
}

/// Whether an entry of the Scale is what an entry of the workload was shown as.
fn same_writer(scale: &Entry, parent: &Entry) -> bool {
    scale.manager == parent.manager
        && scale.operation == parent.operation
        && scale.subresource == parent.subresource
        && (scale.operation == Operation::Apply || scale.time == parent.time)
}
