//! What every write does to an object's metadata, whatever its kind. Pure functions over the normal form.
//! Rules of upstream's `apiserver/pkg/registry/rest` and `registry/generic/registry/store.go`.

use apimachinery::{clock::Entropy, field::quote, status::Status};
use jiff::Timestamp;
use kinds::strategy::GarbageCollection;
use serde_json::{Map, Value, json};

use crate::handlers::options::DeleteOptions;

pub use kinds::object_meta::{FOREGROUND, ORPHAN};

/// A text field of `metadata`; empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.resourceVersion` as a number: 0 when absent or `"0"`.
///
/// # Errors
/// 422 as upstream's versioner words it, for a text that is no number.
pub fn resource_version(object: &Value) -> Result<u64, Status> {
    let text = text(object, "resourceVersion");
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        Status::internal(format_args!("strconv.ParseUint: parsing {}: invalid syntax", quote(text)))
    })
}

/// `metadata`, made if it is missing.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let slot = &mut object["metadata"];
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("just made an object of it"),
    }
}

/// Sets a field of `metadata`, or removes it.
pub fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let metadata = of(object);
    match value {
        Some(value) => drop(metadata.insert(field.to_owned(), value)),
        None => drop(metadata.remove(field)),
    }
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn is_being_deleted(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// A time as metadata shows it: whole seconds, UTC.
pub fn time(at: Timestamp) -> Value {
    Value::from(Timestamp::from_second(at.as_second()).unwrap_or(at).to_string())
}

/// A random (version 4) UUID.
pub fn uid(entropy: &dyn Entropy) -> String {
    let mut b = [0u8; 16];
    entropy.fill(&mut b);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let mut out = String::with_capacity(36);
    for (i, byte) in b.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
    }
    out
}

/// On create: what a client may not bring along is taken out.
pub fn wipe_system_fields(object: &mut Value) {
    let metadata = of(object);
    for field in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
}

/// On create: identity and time of birth.
pub fn fill_system_fields(object: &mut Value, now: Timestamp, entropy: &dyn Entropy) {
    let metadata = of(object);
    metadata.insert("creationTimestamp".into(), time(now));
    metadata.insert("uid".into(), uid(entropy).into());
}

/// The object's namespace is the request's: filled in when missing.
///
/// # Errors
/// 400 when both are there and differ.
pub fn match_namespace(object: &mut Value, expected: &str) -> Result<(), Status> {
    let own = namespace(object);
    if own == expected {
        return Ok(());
    }
    if own.is_empty() || expected.is_empty() {
        let value = (!expected.is_empty()).then(|| Value::from(expected));
        set(object, "namespace", value);
        return Ok(());
    }
    Err(Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// The object's name is the request's.
pub fn match_name(object: &Value, expected: &str) -> Result<(), Status> {
    let own = name(object);
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({expected} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != expected {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({expected})"
        )));
    }
    Ok(())
}

/// Owner references that are there twice are dropped; the warning to give, if any.
pub fn deduplicate_owners(object: &mut Value, after_admission: bool) -> Option<String> {
    let owners = object.get_mut("metadata")?.get_mut("ownerReferences")?.as_array_mut()?;
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut duplicates = Vec::new();
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            duplicates.push(owner["uid"].as_str().unwrap_or_default().to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    if duplicates.is_empty() {
        return None;
    }
    let (uids, when) =
        (duplicates.join(", "), if after_admission { " after mutating admission happens" } else { "" });
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, \
         and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}"
    ))
}

/// On update: what stays as it was, whatever the client sends.
pub fn keep_system_fields(object: &mut Value, old: &Value) {
    let before = &old["metadata"];
    let metadata = of(object);
    if metadata.get("uid").and_then(Value::as_str).unwrap_or_default().is_empty() {
        metadata.insert("uid".into(), before["uid"].clone());
    }
    if before["creationTimestamp"].is_string() {
        metadata.insert("creationTimestamp".into(), before["creationTimestamp"].clone());
    }
    match before.get("generation") {
        Some(generation) => drop(metadata.insert("generation".into(), generation.clone())),
        None => drop(metadata.remove("generation")),
    }
    if before["deletionTimestamp"].is_string() {
        metadata.insert("deletionTimestamp".into(), before["deletionTimestamp"].clone());
    }
    if before["deletionGracePeriodSeconds"].is_number()
        && !metadata.get("deletionGracePeriodSeconds").is_some_and(Value::is_number)
    {
        metadata.insert("deletionGracePeriodSeconds".into(), before["deletionGracePeriodSeconds"].clone());
    }
    metadata.remove("selfLink");
}

/// The last finalizer of an object under deletion is gone, and no grace is left: the update deletes it.
pub fn deletes_itself(object: &Value, old: &Value) -> bool {
    finalizers(object).is_empty()
        && is_being_deleted(old)
        && old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

/// The finalizers after the deletion's propagation policy has been put on the object; `None`: unchanged.
pub fn deletion_finalizers(
    object: &Value,
    options: &DeleteOptions,
    policy: GarbageCollection,
) -> Option<Vec<String>> {
    let present = finalizers(object);
    let explicit = match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(orphan), _) => Some((orphan, false)),
        (None, Some("Orphan")) => Some((true, false)),
        (None, Some("Foreground")) => Some((false, true)),
        (None, Some(_)) => Some((false, false)),
        (None, None) => present.iter().find_map(|f| match *f {
            ORPHAN => Some((true, false)),
            FOREGROUND => Some((false, true)),
            _ => None,
        }),
    };
    let (orphan, foreground) = match policy {
        GarbageCollection::Unsupported => (false, false),
        _ => explicit.unwrap_or((policy == GarbageCollection::Orphan, false)),
    };
    let mut wanted: Vec<String> =
        present.iter().filter(|f| !matches!(**f, ORPHAN | FOREGROUND)).map(|f| f.to_string()).collect();
    wanted.extend(orphan.then(|| ORPHAN.to_owned()));
    wanted.extend(foreground.then(|| FOREGROUND.to_owned()));
    let same = wanted.len() == present.len() && wanted.iter().all(|f| present.contains(&f.as_str()));
    (!same).then_some(wanted)
}

pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let value = (!finalizers.is_empty()).then(|| json!(finalizers));
    set(object, "finalizers", value);
}

/// Marks an object that has finalizers, but no grace, as under deletion.
pub fn mark_as_deleting(object: &mut Value, now: Timestamp) {
    if !is_being_deleted(object) {
        bump_generation(object);
    }
    let now = time(now);
    let earlier = object["metadata"]["deletionTimestamp"].as_str().is_some_and(|at| Some(at) <= now.as_str());
    if !earlier {
        set(object, "deletionTimestamp", Some(now));
    }
    set(object, "deletionGracePeriodSeconds", Some(json!(0)));
}

/// One up, for kinds that have a generation at all.
pub fn bump_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|g| *g > 0) {
        set(object, "generation", Some(json!(generation + 1)));
    }
}

/// What a deletion does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graceful {
    /// Not graceful: the object goes, unless finalizers hold it.
    No,
    /// The object has been given its deletion timestamp and period; store it.
    Update,
    /// Already on its way, and not to be hurried: nothing to do.
    Pending,
}

/// How many seconds a kind with grace gives an object, from what the client asked for.
pub type Grace = fn(&Value, Option<i64>) -> i64;

/// The graceful part of a deletion; `grace` is `None` for kinds without.
pub fn before_delete(
    object: &mut Value,
    options: &mut DeleteOptions,
    now: Timestamp,
    grace: Option<Grace>,
) -> Graceful {
    if options.grace_period_seconds.is_some_and(|s| s < 0) {
        options.grace_period_seconds = Some(1);
    }
    if object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0) {
        set(object, "deletionGracePeriodSeconds", Some(json!(1)));
    }
    let Some(grace) = grace else { return Graceful::No };
    if is_being_deleted(object) {
        let current = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        if current == 0 {
            return Graceful::No;
        }
        let Some(wanted) = options.grace_period_seconds.filter(|wanted| *wanted < current) else {
            options.grace_period_seconds = Some(current);
            return Graceful::Pending;
        };
        // Only shorter: the time of the end moves by the difference, but not before now plus a second unless
        // the deletion is to be immediate.
        let mut period = wanted;
        let stored =
            object["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
        let begun = stored.map_or(now.as_second(), |at| at.as_second() - current);
        let mut end = begun + wanted;
        if end < now.as_second() {
            // The period is over already.
            end = now.as_second();
            if wanted > 0 {
                period = 1;
            }
        }
        options.grace_period_seconds = Some(wanted);
        let end = Timestamp::from_second(end).unwrap_or(now);
        set(object, "deletionTimestamp", Some(time(end)));
        set(object, "deletionGracePeriodSeconds", Some(json!(period)));
        return Graceful::Update;
    }
    let period = grace(object, options.grace_period_seconds);
    options.grace_period_seconds = Some(period);
    let end = Timestamp::from_second(now.as_second() + period).unwrap_or(now);
    set(object, "deletionTimestamp", Some(time(end)));
    set(object, "deletionGracePeriodSeconds", Some(json!(period)));
    bump_generation(object);
    Graceful::Update
}

/// The preconditions of a deletion against the object as it is.
pub fn preconditions(
    object: &Value,
    group: &str,
    kind: &str,
    uid: Option<&str>,
    version: Option<&str>,
) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict(group, kind, name(object), why));
    if let Some(wanted) = uid.filter(|wanted| *wanted != text(object, "uid")) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({}). The object might have \
             been deleted and then recreated",
            text(object, "uid")
        ));
    }
    if let Some(wanted) = version.filter(|wanted| *wanted != text(object, "resourceVersion")) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            text(object, "resourceVersion")
        ));
    }
    Ok(())
}

/// The object equals what is stored, but for its version and the times of managed fields: nothing to write.
pub fn same_but_version(object: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (object.as_object(), old.as_object()) else { return false };
    if a.len() != b.len() {
        return false;
    }
    a.iter().all(|(key, value)| {
        let Some(other) = b.get(key) else { return false };
        if key != "metadata" {
            return value == other;
        }
        let (Some(m), Some(n)) = (value.as_object(), other.as_object()) else { return value == other };
        let rest = |map: &Map<String, Value>| map.keys().filter(|k| *k != "resourceVersion").count();
        rest(m) == rest(n)
            && m.iter().filter(|(k, _)| *k != "resourceVersion").all(|(k, v)| n.get(k) == Some(v))
    })
}

#[cfg(test)]
mod tests;
