//! Reviews of access: who may do what. Their answers come from the server; nothing is stored.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::validate_label_name;
use apimachinery::names;
use serde_json::Value;

use crate::check::{items, present, text};
use crate::meta::texts;
use crate::strategy::{GENERIC, Strategy};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const SUBJECT: Strategy = Strategy {
        validate: |review, errors| {
            subject(review, errors);
            metadata(review, &[], errors);
        },
        ..GENERIC
    };
    const SELF: Strategy = Strategy {
        validate: |review, errors| {
            attributes(review, errors);
            selectors(review, errors);
            metadata(review, &[], errors);
        },
        ..GENERIC
    };
    const LOCAL: Strategy = Strategy { validate: local, ..GENERIC };
    Some(match kind {
        "SubjectAccessReview" => &SUBJECT,
        "SelfSubjectAccessReview" => &SELF,
        "LocalSubjectAccessReview" => &LOCAL,
        _ => return None,
    })
}

/// Of a resource or of a path, not both.
fn attributes(review: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &review["spec"];
    match (present(spec, "resourceAttributes"), present(spec, "nonResourceAttributes")) {
        (Some(_), Some(other)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(Error::invalid(&path.child("nonResourceAttributes"), other.clone(), why));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(Error::invalid(&path.child("resourceAttributes"), Value::Null, why));
        }
        _ => {}
    }
}

fn subject(review: &Value, errors: &mut ErrorList) {
    attributes(review, errors);
    if text(&review["spec"], "user").is_empty() && items(&review["spec"], "groups").is_empty() {
        let path = Path::new("spec");
        let why = "at least one of user or group must be specified";
        errors.push(Error::invalid(&path.child("user"), "", why));
    }
    selectors(review, errors);
}

/// Which objects are meant: as text or as requirements. Operators that nobody here knows pass, for newer clients.
fn selectors(review: &Value, errors: &mut ErrorList) {
    let Some(resource) = present(&review["spec"], "resourceAttributes") else { return };
    let path = Path::new("spec.resourceAttributes");
    for field in ["fieldSelector", "labelSelector"] {
        let Some(selector) = present(resource, field) else { continue };
        let at = path.child(field);
        let (raw, requirements) = (text(selector, "rawSelector"), items(selector, "requirements"));
        if !raw.is_empty() && !requirements.is_empty() {
            let why = "may not specified at the same time as requirements";
            errors.push(Error::invalid(&at.child("rawSelector"), raw, why));
        }
        if raw.is_empty() && requirements.is_empty() {
            let why = format!("when {at} is specified, requirements or rawSelector is required");
            errors.push(Error::required(&at.child("requirements"), why));
        }
        let list = at.child("requirements");
        for (index, requirement) in requirements.iter().enumerate() {
            self::requirement(requirement, field == "labelSelector", &list.index(index), errors);
        }
    }
}

fn requirement(requirement: &Value, label: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let (key, values) = (text(requirement, "key"), path.child("values"));
    if !label && key.is_empty() {
        errors.push(Error::required(&path.child("key"), "must be specified"));
    }
    let any = !items(requirement, "values").is_empty();
    match text(requirement, "operator") {
        "In" | "NotIn" if !any => {
            errors.push(Error::required(&values, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if any => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&values, why));
        }
        _ => {}
    }
    if label {
        errors.extend(validate_label_name(key, &path.child("key")));
        for (index, value) in texts(requirement, "values").enumerate() {
            let faults = names::is_label_value(value);
            crate::check::messages(faults, &value.into(), &values.index(index), errors);
        }
    }
}

/// A review has no name and nothing of the kind.
fn metadata(review: &Value, allowed: &[&str], errors: &mut ErrorList) {
    let fields = review["metadata"].as_object().into_iter().flatten();
    let odd = |(field, value): (&String, &Value)| {
        field != "managedFields" && !allowed.contains(&field.as_str()) && !value.is_null()
    };
    if fields.into_iter().any(odd) {
        let why = if allowed.is_empty() { "must be empty" } else { "must be empty except for namespace" };
        errors.push(Error::invalid(&Path::new("metadata"), review["metadata"].clone(), why));
    }
}

fn local(review: &Value, errors: &mut ErrorList) {
    subject(review, errors);
    metadata(review, &["namespace"], errors);
    let spec = &review["spec"];
    if let Some(resource) = present(spec, "resourceAttributes") {
        let namespace = text(resource, "namespace");
        if namespace != text(&review["metadata"], "namespace") {
            let path = Path::new("spec.resourceAttributes.namespace");
            errors.push(Error::invalid(&path, namespace, "must match metadata.namespace"));
        }
    }
    if let Some(other) = present(spec, "nonResourceAttributes") {
        let path = Path::new("spec.nonResourceAttributes");
        errors.push(Error::invalid(&path, other.clone(), "disallowed on this kind of request"));
    }
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn reviews() {
        let spec = |patch: Value| json!({ "spec": patch });
        let resource = |patch: Value| json!({"spec": {"resourceAttributes": patch}});
        let at = |tail: &str| format!("spec.resourceAttributes.{tail}");
        let common: &[(Value, &[&str])] = &[
            (spec(json!({"resourceAttributes": null})), &["spec.resourceAttributes: Invalid"]),
            (spec(json!({"resourceAttributes": null, "nonResourceAttributes": {}})), &[]),
            (spec(json!({"nonResourceAttributes": {}})), &["spec.nonResourceAttributes: Invalid"]),
            (json!({"metadata": {"name": "a"}}), &["metadata: Invalid"]),
            (json!({"metadata": {"managedFields": [{"manager": "m"}]}}), &[]),
            (resource(json!({"fieldSelector": {}})), &[&at("fieldSelector.requirements: Required")]),
            (
                resource(json!({"fieldSelector": {"rawSelector": "a=b", "requirements": [{}]}})),
                &[
                    &at("fieldSelector.rawSelector: Invalid"),
                    &at("fieldSelector.requirements[0].key: Required"),
                ],
            ),
            (
                resource(
                    json!({"fieldSelector": {"requirements": [{"key": "k", "operator": "In"}, {"key": "k", "operator": "Exists", "values": ["a"]}, {"key": "k", "operator": "new"}]}}),
                ),
                &[
                    &at("fieldSelector.requirements[0].values: Required"),
                    &at("fieldSelector.requirements[1].values: Forbidden"),
                ],
            ),
            (
                resource(
                    json!({"labelSelector": {"requirements": [{"key": "a b", "operator": "In", "values": ["a b"]}]}}),
                ),
                &[
                    &at("labelSelector.requirements[0].key: Invalid"),
                    &at("labelSelector.requirements[0].values[0]: Invalid"),
                ],
            ),
        ];
        let good = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}, "user": "me"}});
        let subject = Table::new("authorization.k8s.io", "v1", "SubjectAccessReview", good.clone());
        subject.create(common);
        subject.create(&[
            (spec(json!({"user": ""})), &["spec.user: Invalid"]),
            (spec(json!({"user": "", "groups": ["g"]})), &[]),
            (json!({"metadata": {"namespace": "n"}}), &["metadata: Invalid"]),
        ]);
        let own = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
        Table::new("authorization.k8s.io", "v1", "SelfSubjectAccessReview", own).create(common);
        let mut local = good;
        local["metadata"] = json!({"namespace": "n"});
        local["spec"]["resourceAttributes"]["namespace"] = json!("n");
        Table::new("authorization.k8s.io", "v1", "LocalSubjectAccessReview", local).create(&[
            (json!({"metadata": {"namespace": "m"}}), &["spec.resourceAttributes.namespace: Invalid"]),
            (json!({"metadata": {"name": "a"}}), &["metadata: Invalid"]),
            (
                spec(json!({"resourceAttributes": null, "nonResourceAttributes": {}})),
                &["spec.nonResourceAttributes: Invalid"],
            ),
        ]);
    }
}
