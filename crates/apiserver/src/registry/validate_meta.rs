//! What is wrong with an object's metadata. Rules and texts of upstream's `apimachinery/pkg/api/validation`.

use apimachinery::{
    field::{Error, ErrorList, Path},
    gvk, labels, names,
};
use kinds::strategy::NameRule;
use serde_json::Value;

use super::meta;

const ANNOTATION_BYTES: usize = 256 * 1024;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", meta::FOREGROUND, meta::ORPHAN];

/// Metadata of a new object, or of any object on update.
pub fn validate(object: &Value, namespaced: bool, rule: NameRule, errors: &mut ErrorList) {
    let path = Path::new("metadata");
    let metadata = &object["metadata"];
    let (name, generate) = (meta::name(object), meta::text(object, "generateName"));
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
    let (field, namespace) = (path.child("namespace"), meta::namespace(object));
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
    finalizers(object, &path.child("finalizers"), errors);
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

fn finalizers(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let all = meta::finalizers(object);
    for finalizer in &all {
        let faults = names::is_qualified_name(finalizer).into_iter();
        errors.extend(faults.map(|why| Error::invalid(path, *finalizer, why)));
    }
    if all.contains(&meta::ORPHAN) && all.contains(&meta::FOREGROUND) {
        let why = format!("finalizer {} and {} cannot be both set", meta::ORPHAN, meta::FOREGROUND);
        errors.push(Error::invalid(path, Value::from(all.clone()), why));
    }
    for (i, finalizer) in all.iter().enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(&path.index(i), *finalizer, why));
        }
    }
}

/// What may not change.
pub fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("metadata");
    if meta::is_being_deleted(old) {
        let before = meta::finalizers(old);
        let added: Vec<&str> = meta::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            errors.push(Error::forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{}}}",
                    shown.join(", ")
                ),
            ));
        }
    }
    for key in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let (now, before) = (&new["metadata"][key], &old["metadata"][key]);
        if now != before {
            let shown = if now.is_null() && matches!(key, "name" | "namespace" | "uid") {
                Value::from("")
            } else {
                now.clone()
            };
            errors.push(Error::invalid(&path.child(key), shown, "field is immutable"));
        }
    }
    let generation = |o: &Value| o["metadata"]["generation"].as_i64().unwrap_or(0);
    if generation(new) < generation(old) {
        let field = path.child("generation");
        errors.push(Error::invalid(&field, generation(new), "must not be decremented"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn metadata_of_a_new_object() {
        let check = |metadata: Value, namespaced: bool, expect: &[&str]| {
            let mut errors = ErrorList::new();
            validate(&json!({ "metadata": metadata }), namespaced, kinds::strategy::subdomain, &mut errors);
            assert_eq!(texts(&errors), expect, "{metadata}");
        };
        check(json!({"name": "a", "namespace": "n"}), true, &[]);
        check(json!({"name": "a"}), false, &[]);
        check(json!({}), false, &["metadata.name: Required value: name or generateName is required"]);
        check(json!({"name": "a"}), true, &["metadata.namespace: Required value"]);
        check(
            json!({"name": "a", "namespace": "n"}),
            false,
            &["metadata.namespace: Forbidden: not allowed on this type"],
        );
        check(
            json!({"name": "a", "finalizers": ["x"]}),
            false,
            &[
                r#"metadata.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified"#,
            ],
        );
        check(
            json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
            false,
            &[r#"metadata.ownerReferences.uid: Invalid value: "": must not be empty"#],
        );
    }

    #[test]
    fn what_may_not_change() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "generation": 2, "deletionTimestamp": "t"}});
        let mut new = old.clone();
        let mut errors = ErrorList::new();
        validate_update(&new, &old, &mut errors);
        assert!(errors.is_empty());
        new["metadata"]["name"] = json!("b");
        new["metadata"]["finalizers"] = json!(["x/y"]);
        validate_update(&new, &old, &mut errors);
        assert_eq!(
            texts(&errors),
            [
                r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/y"}"#,
                r#"metadata.name: Invalid value: "b": field is immutable"#,
            ]
        );
    }
}
