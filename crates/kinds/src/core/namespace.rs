//! Namespace: it holds itself by a finalizer in its spec until it is empty.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::{Value, json};

use crate::check::{items, messages, present, text};
use crate::strategy::{GENERIC, Strategy, label};

pub const STRATEGY: Strategy = Strategy {
    name: label,
    returns_deleted: true,
    prepare_for_create,
    prepare_for_update,
    validate,
    validate_update,
    selectable: &[("status.phase", "/status/phase", ""), ("name", "/metadata/name", "")],
    ..GENERIC
};

/// Every namespace starts active, holds itself until it is empty, and is labelled with its name.
fn prepare_for_create(object: &mut Value) {
    object["status"] = json!({"phase": "Active"});
    let mut finalizers = items(&object["spec"], "finalizers").to_vec();
    if !finalizers.contains(&json!("kubernetes")) {
        finalizers.push(json!("kubernetes"));
    }
    object["spec"] = json!({"finalizers": finalizers});
    label_with_name(object);
}

/// The finalizers of the spec belong to the `finalize` subresource.
fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource != "finalize" {
        match old.get("spec") {
            Some(spec) => new["spec"] = spec.clone(),
            None => drop(new.as_object_mut().map(|object| object.remove("spec"))),
        }
    }
    label_with_name(new);
}

fn label_with_name(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

fn finalizer(name: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = name.as_str().unwrap_or_default();
    messages(names::is_qualified_name(name), &name.into(), path, errors);
    if !name.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&name) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Error::invalid(path, name, why));
    }
}

fn validate(namespace: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec.finalizers");
    items(&namespace["spec"], "finalizers").iter().for_each(|name| finalizer(name, &path, errors));
}

fn validate_update(new: &Value, _old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "finalize" => {
            let path = Path::new("spec.finalizers");
            for (index, name) in items(&new["spec"], "finalizers").iter().enumerate() {
                finalizer(name, &path.index(index), errors);
            }
        }
        "status" => {
            let phase = text(&new["status"], "phase");
            let deleted = present(&new["metadata"], "deletionTimestamp").is_some();
            let (expect, why) = match deleted {
                false => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
                true => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
            };
            if phase != expect {
                errors.push(Error::invalid(&Path::new("status.Phase"), phase, why));
            }
        }
        _ => validate(new, errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    /// Upstream's `TestValidateNamespace*`.
    #[test]
    fn namespaces() {
        let table = Table::new("", "v1", "Namespace", json!({"metadata": {"name": "n"}}));
        let none = json!({});
        table.create(&[
            (json!({"spec": {"finalizers": ["kubernetes", "example.com/org"]}}), &[]),
            (json!({"spec": {"finalizers": ["org"]}}), &["spec.finalizers: Invalid"]),
        ]);
        table.change(&none, &json!({"spec": {"finalizers": ["example.com/a"]}}), "finalize", &[]);
        table.change(
            &none,
            &json!({"spec": {"finalizers": ["a/b/c", "some"]}}),
            "finalize",
            &["spec.finalizers[0]: Invalid", "spec.finalizers[1]: Invalid"],
        );
        table.change(
            &none,
            &json!({"status": {"phase": "Terminating"}}),
            "status",
            &["status.Phase: Invalid"],
        );
        let gone = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}});
        table.change(
            &gone,
            &json!({"metadata": gone["metadata"], "status": {"phase": "Terminating"}}),
            "status",
            &[],
        );
        table.change(&gone, &gone, "status", &["status.Phase: Invalid"]);
    }

    #[test]
    fn a_namespace_holds_itself() {
        let mut new = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["example.com/a"]}});
        prepare_for_create(&mut new);
        assert_eq!(new["spec"]["finalizers"], json!(["example.com/a", "kubernetes"]));
        assert_eq!(new["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    }
}
