//! The annotation of `kubectl apply` without `--server-side`: what it says the user applied is no conflict, and it
//! is kept up to date for those who go back.

use serde_json::{Map, Value};

use super::check::faults;
use super::compare::{compare, set_of};
use super::set::FieldSet;
use crate::codec;
use crate::schema::{Schema, TypeId};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Only this manager takes part.
pub(super) const MANAGER: &str = "kubectl";
/// How many bytes all annotations of an object may have.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// The annotation, if it is there and not empty.
pub(super) fn of(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str().filter(|text| !text.is_empty())
}

/// The fields that the annotation says were applied, and which still are as it says. `None` if it cannot be
/// used.
pub(super) fn allowed(schema: &Schema, ty: TypeId, api_version: &str, live: &Value) -> Option<FieldSet> {
    let applied: Value = serde_json::from_str(of(live)?).ok()?;
    let fits = |object: &Value| faults(schema, ty, object, false).is_none();
    if applied["apiVersion"] != api_version || !fits(&applied) || !fits(live) {
        return None;
    }
    let mut set = set_of(schema, ty, &applied);
    let diff = compare(schema, ty, Some(&applied), live);
    [&diff.modified, &diff.added, &diff.removed].into_iter().for_each(|other| set.subtract(other));
    Some(set)
}

/// Makes the annotation of `object` say that `config` was applied. If the annotations grow too large by that, it
/// is taken out.
pub(super) fn set(object: &mut Value, config: &Value) {
    let mut config = config.clone();
    if let Some(annotations) = annotations(&mut config) {
        annotations.remove(ANNOTATION);
    }
    let mut text = Vec::new();
    codec::json::write_value(&config, &mut text);
    text.push(b'\n');
    let Some(annotations) = annotations(object) else { return };
    annotations.insert(ANNOTATION.to_owned(), String::from_utf8_lossy(&text).into());
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()
}
