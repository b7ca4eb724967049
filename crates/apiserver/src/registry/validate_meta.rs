//! What is wrong with an object's metadata. Rules and texts of upstream's `apimachinery/pkg/api/validation`; those that
//! embedded objects obey too are in [`kinds::object_meta`].

use apimachinery::{
    field::{Error, ErrorList, Path},
    schema::Resource,
};
use kinds::{object_meta, strategy::NameRule};
use serde_json::Value;

use super::meta;
use crate::custom;

/// Metadata of a new object, or of any object on update.
pub fn validate(resource: &Resource, object: &Value, rule: NameRule, errors: &mut ErrorList) {
    let (metadata, path) = (&object["metadata"], Path::new("metadata"));
    object_meta::validate(metadata, resource.namespaced, rule, &path, errors);
    let elsewhere = matches!(&*resource.group, "apiextensions.k8s.io" | "apiregistration.k8s.io");
    if !elsewhere && custom::of(resource).is_none() {
        object_meta::qualified_finalizers(metadata, &path.child("finalizers"), errors);
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
            let (group, plural) = if namespaced { ("", "configmaps") } else { ("", "nodes") };
            let resource = api::resource(group, "v1", plural).unwrap();
            validate(resource, &json!({ "metadata": metadata }), kinds::strategy::subdomain, &mut errors);
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
