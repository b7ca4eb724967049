//! What is wrong with metadata, of an object or of one that is embedded in another. Rules and texts of upstream's
//! `apimachinery/pkg/api/validation`.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::{gvk, labels, names};
use serde_json::Value;

use crate::strategy::{NameRule, path_segment};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";
const ANNOTATION_BYTES: usize = 256 * 1024;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", FOREGROUND, ORPHAN];

/// Every fault of the metadata at `path`, of a new object, or of any object on update.
pub fn validate(metadata: &Value, namespaced: bool, rule: NameRule, path: &Path<'_>, errors: &mut ErrorList) {
    let name = metadata["name"].as_str().unwrap_or_default();
    named(metadata, name, namespaced, rule, path, errors);
}

/// The same of a resource within another, which needs no name and may have a namespace or none.
pub fn validate_embedded(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = metadata["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("fakename");
    let namespaced = metadata["namespace"].as_str().is_some_and(|namespace| !namespace.is_empty());
    named(metadata, name, namespaced, path_segment, path, errors);
}

fn named(
    metadata: &Value,
    name: &str,
    namespaced: bool,
    rule: NameRule,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let generate = metadata["generateName"].as_str().unwrap_or_default();
    if !generate.is_empty() {
        let field = path.child("generateName");
        errors.extend(rule(generate, true).into_iter().map(|why| Error::invalid(&field, generate, why)));
    }
    let field = path.child("name");
    if name.is_empty() {
        errors.push(Error::required(&field, "name or generateName is required"));
    } else {
        errors.extend(rule(name, false).into_iter().map(|why| Error::invalid(&field, name, why)));
    }
    let (field, namespace) = (path.child("namespace"), metadata["namespace"].as_str().unwrap_or_default());
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(Error::required(&field, "")),
        (true, false) => {
            let faults = names::is_dns1123_label(namespace).into_iter();
            errors.extend(faults.map(|why| Error::invalid(&field, namespace, why)));
        }
        (false, false) => errors.push(Error::forbidden(&field, "not allowed on this type")),
        (false, true) => {}
    }
    if let Some(generation) = metadata["generation"].as_i64().filter(|g| *g < 0) {
        let field = path.child("generation");
        errors.push(Error::invalid(&field, generation, "must be greater than or equal to 0"));
    }
    errors.extend(labels::validate_labels(metadata["labels"].as_object(), &path.child("labels")));
    annotations(metadata, &path.child("annotations"), errors);
    owners(metadata, &path.child("ownerReferences"), errors);
    finalizers(metadata, &path.child("finalizers"), errors);
}

fn annotations(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(all) = metadata["annotations"].as_object() else { return };
    let mut size = 0;
    for (key, value) in all {
        let faults = names::is_qualified_name(&key.to_lowercase()).into_iter();
        errors.extend(faults.map(|why| Error::invalid(path, key.as_str(), why)));
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATION_BYTES {
        errors.push(Error::too_long(path, ANNOTATION_BYTES));
    }
}

fn owners(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(all) = metadata["ownerReferences"].as_array() else { return };
    let mut controller: Option<String> = None;
    for owner in all {
        let text = |key: &str| owner[key].as_str().unwrap_or_default();
        let version = gvk::split(text("apiVersion")).unwrap_or_default().1;
        if version.is_empty() {
            let field = path.child("apiVersion");
            errors.push(Error::invalid(&field, text("apiVersion"), "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                errors.push(Error::invalid(&path.child(key), "", "must not be empty"));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Error::invalid(path, owner.clone(), why));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                Some(first) => errors.push(Error::invalid(
                    path,
                    Value::from(all.clone()),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {this}"
                    ),
                )),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let all: Vec<&str> =
        metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for finalizer in &all {
        let faults = names::is_qualified_name(finalizer).into_iter();
        errors.extend(faults.map(|why| Error::invalid(path, *finalizer, why)));
    }
    if all.contains(&ORPHAN) && all.contains(&FOREGROUND) {
        let why = format!("finalizer {} and {} cannot be both set", ORPHAN, FOREGROUND);
        errors.push(Error::invalid(path, Value::from(all.clone()), why));
    }
}

/// Finalizers name whose they are: a rule for the kinds of upstream's own groups, not for definitions, APIServices and
/// custom resources (`validateKubeFinalizerName` of `pkg/apis/core/validation`).
pub fn qualified_finalizers(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let all = metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for (i, finalizer) in all.enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(&path.index(i), finalizer, why));
        }
    }
}
