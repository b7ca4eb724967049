//! The engine's view of `kinds::strategy`: what is the same for all kinds around what each adds.

use std::{borrow::Cow, collections::BTreeMap};

use apimachinery::{field::ErrorList, schema::Resource, status::Status};
use kinds::strategy::{GarbageCollection, Strategy};
use serde_json::{Value, json};

use super::{generic::Warnings, meta, validate_meta};
use crate::{conversion, custom};

/// The rules of a resource's kind.
pub fn of(resource: &Resource) -> &'static Strategy {
    const CUSTOM: Strategy =
        Strategy { generation: true, allow_unconditional_update: false, ..kinds::strategy::GENERIC };
    if custom::of(resource).is_some() {
        return &CUSTOM;
    }
    kinds::strategy(&resource.group, &resource.kind)
}

/// An object in the shape that its kind's rules read.
fn for_rules<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    let (group, version) = (&*resource.group, &*resource.version);
    let Some(to) = conversion::rules_version(group, version) else { return Cow::Borrowed(object) };
    let mut converted = object.clone();
    conversion::convert(&mut converted, &resource.kind, (group, version), (group, to));
    Cow::Owned(converted)
}

/// Lets rules change an object, in the shape that they read.
fn by_rules(resource: &Resource, object: &mut Value, change: impl FnOnce(&mut Value)) {
    let (group, version) = (&*resource.group, &*resource.version);
    let Some(to) = conversion::rules_version(group, version) else { return change(object) };
    conversion::convert(object, &resource.kind, (group, version), (group, to));
    change(object);
    conversion::convert(object, &resource.kind, (group, to), (group, version));
}

/// Before a create is validated: no status from clients, generation 1, what the kind adds. `now` is the time of the
/// write, in RFC 3339.
pub fn prepare_for_create(resource: &Resource, object: &mut Value, now: &str) -> Result<(), Status> {
    let strategy = of(resource);
    if resource.subresource("status").is_some() && !strategy.keep_status_on_create {
        reset_status(resource, object)?;
    }
    if strategy.generation {
        meta::set(object, "generation", Some(json!(1)));
    }
    by_rules(resource, object, |object| {
        (strategy.prepare_for_create)(object);
        (strategy.stamp_new)(object, now);
    });
    Ok(())
}

/// The status that a kind has when nothing is known: what its type says about an absent one.
fn reset_status(resource: &Resource, object: &mut Value) -> Result<(), Status> {
    if object.as_object_mut().and_then(|fields| fields.remove("status")).is_none() {
        return Ok(());
    }
    if custom::of(resource).is_some() {
        return Ok(());
    }
    let mut probe = json!({});
    crate::storage::codec::normalize(resource.object, &mut probe).map_err(Status::internal)?;
    kinds::defaults::apply(resource.object, &mut probe);
    if let Some(status) = probe.get_mut("status") {
        object["status"] = status.take();
    }
    Ok(())
}

/// Before an update is validated: the half that this path does not write stays as it was; generation counts.
/// `now` is the time of the write, in RFC 3339.
pub fn prepare_for_update(resource: &Resource, subresource: &str, new: &mut Value, old: &Value, now: &str) {
    let strategy = of(resource);
    let has_status = resource.subresource("status").is_some();
    match subresource {
        "" | "scale" | "finalize" if has_status => copy(new, old, "status"),
        "status" | "approval" => {
            // Only status, and of metadata what the kind does not take back.
            let status = new["status"].take();
            let metadata = new["metadata"].take();
            *new = old.clone();
            new["metadata"] = metadata;
            match status {
                Value::Null => drop(new.as_object_mut().map(|o| o.remove("status"))),
                status => new["status"] = status,
            }
        }
        _ => {}
    }
    let before = for_rules(resource, old);
    by_rules(resource, new, |new| {
        (strategy.prepare_for_update)(new, &before, subresource);
        (strategy.stamp)(new, &before, subresource, now);
    });
    if strategy.generation && changed(new, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        meta::set(new, "generation", Some(json!(generation + 1)));
    }
}

fn copy(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => new[field] = value.clone(),
        None => drop(new.as_object_mut().map(|o| o.remove(field))),
    }
}

/// Anything outside metadata and status differs.
fn changed(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    let counts = |key: &&String| !matches!(key.as_str(), "metadata" | "status" | "kind" | "apiVersion");
    new.keys().filter(counts).count() != old.keys().filter(counts).count()
        || new.iter().filter(|(key, _)| counts(key)).any(|(key, value)| old.get(key) != Some(value))
}

/// Every fault of a new object.
pub fn validate_create(resource: &Resource, object: &Value) -> ErrorList {
    let strategy = of(resource);
    let mut errors = ErrorList::new();
    validate_meta::validate(resource, object, strategy.name, &mut errors);
    if let Some(custom) = custom::of(resource) {
        custom.validate(object, &mut errors);
    }
    (strategy.validate)(&for_rules(resource, object), &mut errors);
    errors
}

/// Every fault of a change.
pub fn validate_update(
    resource: &Resource,
    subresource: &str,
    new: &Value,
    old: &Value,
    warnings: &Warnings,
) -> ErrorList {
    let strategy = of(resource);
    let mut errors = ErrorList::new();
    // The name was good when the object was made, under the rules of then.
    validate_meta::validate(resource, new, |_, _| Vec::new(), &mut errors);
    validate_meta::validate_update(new, old, &mut errors);
    if let Some(custom) = custom::of(resource) {
        let tolerated = custom.validate_update(new, old, subresource, &mut errors);
        tolerated.into_iter().for_each(|warning| warnings.add(warning));
    }
    let (new, old) = (for_rules(resource, new), for_rules(resource, old));
    (strategy.validate_update)(&new, &old, subresource, &mut errors);
    errors
}

pub fn warnings(
    resource: &Resource,
    subresource: &str,
    new: &Value,
    old: Option<&Value>,
    warnings: &Warnings,
) {
    if custom::of(resource).is_some() {
        finalizers(new, old, warnings);
    }
    let old = old.map(|old| for_rules(resource, old));
    for warning in (of(resource).warnings)(&for_rules(resource, new), old.as_deref(), subresource) {
        warnings.add(warning);
    }
}

/// Finalizers of custom resources need not say whose they are, but had better.
fn finalizers(new: &Value, old: Option<&Value>, warnings: &Warnings) {
    let before = old.map(meta::finalizers).unwrap_or_default();
    for finalizer in meta::finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)) {
        let standard =
            matches!(finalizer, "kubernetes") || [meta::FOREGROUND, meta::ORPHAN].contains(&finalizer);
        if !finalizer.contains('/') && !standard {
            let path = if finalizer.contains('.') { " including a path (/)" } else { "" };
            warnings.add(format!(
                "metadata.finalizers: {finalizer:?}: prefer a domain-qualified finalizer name{path} to avoid accidental \
                 conflicts with other finalizer writers"
            ));
        }
    }
}

pub fn allow_create_on_update(resource: &Resource) -> bool {
    of(resource).allow_create_on_update
}

pub fn allow_unconditional_update(resource: &Resource) -> bool {
    of(resource).allow_unconditional_update
}

pub fn garbage_collection(resource: &Resource) -> GarbageCollection {
    of(resource).garbage_collection
}

pub fn returns_deleted(resource: &Resource) -> bool {
    of(resource).returns_deleted
}

/// The values that field selectors see.
pub fn selectable_fields(resource: &Resource, object: &Value) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = of(resource)
        .selectable
        .iter()
        .map(|(field, pointers, absent)| {
            let text = pointers.split('|').find_map(|pointer| match object.pointer(pointer)? {
                Value::Null => None,
                Value::String(text) => (!text.is_empty()).then(|| text.clone()),
                other => Some(other.to_string()),
            });
            ((*field).to_owned(), text.unwrap_or_else(|| (*absent).to_owned()))
        })
        .collect();
    for (field, path) in custom::of(resource).iter().flat_map(|custom| &custom.compiled().selectable) {
        let text = match path.find(object).first() {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        fields.insert(field.to_string(), text);
    }
    fields.insert("metadata.name".into(), meta::name(object).into());
    if resource.namespaced {
        fields.insert("metadata.namespace".into(), meta::namespace(object).into());
    }
    fields
}

/// A field selector names only fields that the kind offers.
///
/// # Errors
/// 400 in upstream's words.
pub fn check_fields(resource: &Resource, selector: &apimachinery::fields::Selector) -> Result<(), Status> {
    let selectable = of(resource).selectable;
    let own = custom::of(resource).map(|custom| custom.compiled().selectable.as_slice()).unwrap_or_default();
    for term in selector.terms() {
        let known = match &*term.field {
            "metadata.name" => true,
            // Kinds that say which fields they have leave it out when they have none.
            "metadata.namespace" => {
                resource.namespaced || selectable.is_empty() && custom::of(resource).is_none()
            }
            field => {
                selectable.iter().any(|(name, ..)| *name == field)
                    || own.iter().any(|(name, _)| **name == *field)
            }
        };
        if !known {
            return Err(Status::bad_request(if !own.is_empty() || custom::of(resource).is_some() {
                format!("field label not supported: {}", term.field)
            } else if selectable.is_empty() {
                format!(
                    "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                    term.field
                )
            } else {
                of(resource)
                    .unknown_field
                    .replace("{}", &term.field)
                    .replace("{:?}", &format!("{:?}", term.field))
            }));
        }
    }
    Ok(())
}
