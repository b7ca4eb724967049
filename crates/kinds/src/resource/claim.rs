//! ResourceClaim's spec and ResourceClaimTemplate.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::{validate_label_name, validate_labels};
use apimachinery::names;
use serde_json::Value;

use super::parts::{
    EFFECTS, by_itself, by_name, configuration, fully_qualified_name, label_value, list, name, selectors, set,
};
use super::status;
use crate::check::{entries, int, items, label, present, subdomain, text};
use crate::meta::unchanged;

const MOST_REQUESTS: usize = 32;
const MOST_CONSTRAINTS: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
pub const MOST_CONFIG: usize = 32;
/// All keys and values of annotations.
const MOST_ANNOTATIONS: usize = 256 * 1024;

/// What requests and alternatives of a claim are called.
pub struct RequestNames<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl RequestNames<'_> {
    pub fn of(devices: &Value) -> RequestNames<'_> {
        let alternatives =
            |request| items(request, "firstAvailable").iter().map(|sub| text(sub, "name")).collect();
        let requests = items(devices, "requests").iter();
        RequestNames(requests.map(|request| (text(request, "name"), alternatives(request))).collect())
    }

    /// `request` or `request/alternative`.
    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, sub)) => self.0.get(request).is_some_and(|subs| subs.contains(sub)),
        }
    }

    pub fn check(&self, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
        let why = "must be the name of a request in the claim or the name of a request and a subrequest separated \
                   by '/'";
        if name.matches('/').count() < 2 {
            name.split('/').for_each(|part| label(part, path, errors));
            if self.has(name) {
                return;
            }
        }
        errors.push(Error::invalid(path, name, why));
    }

    /// The requests that a constraint or configuration is about.
    pub fn check_list(&self, object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
        let requests = items(object, "requests");
        set(requests, MOST_REQUESTS, by_itself, &path.child("requests"), errors, &mut |name, at, errors| {
            self.check(name.as_str().unwrap_or_default(), at, errors);
        });
    }
}

pub fn claim(claim: &Value, errors: &mut ErrorList) {
    spec(&claim["spec"], &Path::new("spec"), errors);
}

pub fn claim_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "status" => status::update(new, old, errors),
        _ => unchanged(&new["spec"], &old["spec"], &Path::new("spec"), errors),
    }
}

pub fn template(template: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    template_metadata(&template["spec"]["metadata"], &path.child("metadata"), errors);
    spec(&template["spec"]["spec"], &path.child("spec"), errors);
}

pub fn template_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    unchanged(&new["spec"], &old["spec"], &Path::new("spec"), errors);
}

/// Only labels and annotations mean anything in a template.
fn template_metadata(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("annotations");
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        let faults = names::is_qualified_name(&key.to_lowercase());
        crate::check::messages(faults, &key.as_str().into(), &at, errors);
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > MOST_ANNOTATIONS {
        errors.push(Error::too_long(&at, MOST_ANNOTATIONS));
    }
    errors.extend(validate_labels(metadata["labels"].as_object(), &path.child("labels")));
    for (field, _) in metadata.as_object().into_iter().flatten() {
        // Upstream names the fields as its program has them.
        let told = match field.as_str() {
            "labels" | "annotations" => continue,
            "name" => "Name",
            "generateName" => "GenerateName",
            "namespace" => "Namespace",
            "selfLink" => "SelfLink",
            "uid" => "UID",
            "resourceVersion" => "ResourceVersion",
            "generation" => "Generation",
            "creationTimestamp" => "CreationTimestamp",
            "deletionTimestamp" => "DeletionTimestamp",
            "deletionGracePeriodSeconds" => "DeletionGracePeriodSeconds",
            "ownerReferences" => "OwnerReferences",
            "finalizers" => "Finalizers",
            "managedFields" => "ManagedFields",
            other => other,
        };
        if present(metadata, field).is_some() {
            errors.push(Error::forbidden(&path.child(told), "cannot be set"));
        }
    }
}

fn spec(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    let known = RequestNames::of(devices);
    set(items(devices, "requests"), MOST_REQUESTS, by_name, &path.child("requests"), errors, &mut request);
    let constraints = items(devices, "constraints");
    list(constraints, MOST_CONSTRAINTS, &path.child("constraints"), errors, &mut |constraint, at, errors| {
        known.check_list(constraint, at, errors);
        let given = |field: &str| present(constraint, field).and_then(Value::as_str);
        match (given("matchAttribute"), given("distinctAttribute")) {
            (Some(attribute), _) => fully_qualified_name(attribute, &at.child("matchAttribute"), errors),
            (None, Some(attribute)) => {
                fully_qualified_name(attribute, &at.child("distinctAttribute"), errors)
            }
            (None, None) => {
                let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple \
                           fields are set";
                errors.push(Error::required(at, why));
            }
        }
    });
    list(items(devices, "config"), MOST_CONFIG, &path.child("config"), errors, &mut |config, at, errors| {
        known.check_list(config, at, errors);
        configuration(config, false, at, errors);
    });
}

fn request(request: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    name(request, "name", path, errors);
    let (exactly, alternatives) = (present(request, "exactly"), items(request, "firstAvailable"));
    let why = "exactly one of `exactly` or `firstAvailable` is required";
    match exactly {
        None if alternatives.is_empty() => errors.push(Error::required(path, why)),
        Some(_) if !alternatives.is_empty() => {
            errors.push(Error::invalid(path, Value::Null, format!("{why}, but multiple fields are set")));
        }
        Some(exactly) => device_request(exactly, &path.child("exactly"), errors),
        None => {
            let path = path.child("firstAvailable");
            set(alternatives, MOST_ALTERNATIVES, by_name, &path, errors, &mut |request, at, errors| {
                name(request, "name", at, errors);
                device_request(request, at, errors);
            });
        }
    }
}

fn device_request(request: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match text(request, "deviceClassName") {
        "" => errors.push(Error::required(&path.child("deviceClassName"), "")),
        class => subdomain(class, &path.child("deviceClassName"), errors),
    }
    selectors(request, path, errors);
    let count = int(request, "count").unwrap_or(0);
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(Error::invalid(&path.child("count"), count, why));
        }
        "ExactCount" if count <= 0 => {
            errors.push(Error::invalid(&path.child("count"), count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => {
            errors.push(Error::not_supported(&path.child("allocationMode"), other, ["All", "ExactCount"]));
        }
    }
    let list = path.child("tolerations");
    for (index, toleration) in items(request, "tolerations").iter().enumerate() {
        self::toleration(toleration, &list.index(index), errors);
    }
}

fn toleration(toleration: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (key, value) = (text(toleration, "key"), text(toleration, "value"));
    if !key.is_empty() {
        errors.extend(validate_label_name(key, &path.child("key")));
    }
    match text(toleration, "operator") {
        "Exists" if !value.is_empty() => {
            errors.push(Error::invalid(&path.child("value"), value, "must be empty for operator `Exists`"));
        }
        "Exists" => {}
        "Equal" => label_value(value, &path.child("value"), errors),
        "" => errors.push(Error::required(&path.child("operator"), "")),
        other => errors.push(Error::not_supported(&path.child("operator"), other, ["Equal", "Exists"])),
    }
    let effect = text(toleration, "effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(Error::not_supported(&path.child("effect"), effect, EFFECTS));
    }
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    fn requests(list: Value) -> Value {
        json!({"spec": {"devices": {"requests": list}}})
    }

    fn exactly(patch: Value) -> Value {
        let mut whole = json!({"deviceClassName": "class"});
        whole.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        requests(json!([{"name": "r", "exactly": whole}]))
    }

    #[test]
    fn claims() {
        let good = exactly(json!({}));
        let table = Table::new("resource.k8s.io", "v1", "ResourceClaim", good);
        let devices = |patch: Value| json!({"spec": {"devices": patch}});
        let config = |patch: Value| json!({"spec": {"devices": {"config": [patch]}}});
        let opaque = |parameters: Value| {
            config(json!({"opaque": {"driver": "d.example.com", "parameters": parameters}}))
        };
        let alternatives = |list: Value| requests(json!([{"name": "r", "firstAvailable": list}]));
        let first = |tail: &str| format!("spec.devices.requests[0]{tail}");
        let many: Vec<Value> =
            (0..33).map(|i| json!({"name": format!("r{i}"), "exactly": {"deviceClassName": "c"}})).collect();
        let long = "x".repeat(10 * 1024 + 1);
        table.create(&[
            (requests(json!([])), &[]),
            (requests(many.clone().into()), &["spec.devices.requests: TooMany"]),
            (requests(many[..32].to_vec().into()), &[]),
            (
                requests(json!([{"name": "r", "exactly": {"deviceClassName": "c"}}, {"name": "r", "exactly": {"deviceClassName": "c"}}])),
                &["spec.devices.requests[1]: Duplicate"],
            ),
            (requests(json!([{"name": "R", "exactly": {"deviceClassName": "c"}}])), &[&first(".name: Invalid")]),
            (requests(json!([{"name": "r"}])), &[&first(": Required")]),
            (
                requests(json!([{"name": "r", "exactly": {"deviceClassName": "c"}, "firstAvailable": [{"name": "s", "deviceClassName": "c"}]}])),
                &[&first(": Invalid")],
            ),
            (exactly(json!({"deviceClassName": ""})), &[&first(".exactly.deviceClassName: Required")]),
            (exactly(json!({"deviceClassName": "A"})), &[&first(".exactly.deviceClassName: Invalid")]),
            (exactly(json!({"count": -1})), &[&first(".exactly.count: Invalid")]),
            (exactly(json!({"count": 0})), &[]),
            (exactly(json!({"allocationMode": "All"})), &[]),
            (exactly(json!({"allocationMode": "All", "count": 1})), &[&first(".exactly.count: Invalid")]),
            (exactly(json!({"allocationMode": "x"})), &[&first(".exactly.allocationMode: NotSupported")]),
            (exactly(json!({"selectors": [{}]})), &[&first(".exactly.selectors[0].cel: Required")]),
            (exactly(json!({"selectors": [{"cel": {"expression": "true"}}]})), &[]),
            (
                exactly(json!({"selectors": [{"cel": {"expression": long}}]})),
                &[&first(".exactly.selectors[0].cel.expression: TooLong")],
            ),
            (exactly(json!({"tolerations": [{"operator": "Exists"}]})), &[]),
            (
                exactly(json!({"tolerations": [{"key": "a b", "operator": "Exists", "value": "x", "effect": "y"}, {}, {"operator": "z"}]})),
                &[
                    &first(".exactly.tolerations[0].key: Invalid"),
                    &first(".exactly.tolerations[0].value: Invalid"),
                    &first(".exactly.tolerations[0].effect: NotSupported"),
                    &first(".exactly.tolerations[2].operator: NotSupported"),
                ],
            ),
            (alternatives(json!([{"name": "s", "deviceClassName": "c"}])), &[]),
            (
                alternatives(json!([{"name": "S", "deviceClassName": "c"}, {"name": "s"}, {"name": "s", "deviceClassName": "c"}])),
                &[
                    &first(".firstAvailable[0].name: Invalid"),
                    &first(".firstAvailable[1].deviceClassName: Required"),
                    &first(".firstAvailable[2]: Duplicate"),
                ],
            ),
            (devices(json!({"constraints": [{"requests": ["r"], "matchAttribute": "d.example.com/a"}]})), &[]),
            (devices(json!({"constraints": [{"distinctAttribute": "d.example.com/a"}]})), &[]),
            (devices(json!({"constraints": [{}]})), &["spec.devices.constraints[0]: Required"]),
            (
                devices(json!({"constraints": [{"matchAttribute": "missing"}]})),
                &["spec.devices.constraints[0].matchAttribute: Invalid"],
            ),
            (
                devices(json!({"constraints": [{"requests": ["other", "r", "r", "r/s", "a/b/c"], "matchAttribute": "d/a"}]})),
                &[
                    "spec.devices.constraints[0].requests[0]: Invalid",
                    "spec.devices.constraints[0].requests[3]: Invalid",
                    "spec.devices.constraints[0].requests[4]: Invalid",
                    "spec.devices.constraints[0].requests[2]: Duplicate",
                ],
            ),
            (opaque(json!({"a": 1})), &[]),
            (opaque(json!({"a": long})), &["spec.devices.config[0].opaque.parameters: TooLong"]),
            (opaque(Value::Null), &["spec.devices.config[0].opaque.parameters: Required"]),
            (config(json!({})), &["spec.devices.config[0].opaque: Required"]),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (exactly(json!({"deviceClassName": "other"})), &["spec: Invalid"]),
        ]);
    }

    #[test]
    fn templates() {
        let good = json!({"spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "class"}}]}}}});
        let table = Table::new("resource.k8s.io", "v1", "ResourceClaimTemplate", good);
        let metadata = |patch: Value| json!({"spec": {"metadata": patch}});
        table.create(&[
            (metadata(json!({"labels": {"a": "b"}, "annotations": {"a": "b c"}})), &[]),
            (metadata(json!({"labels": {"a b": "c"}})), &["spec.metadata.labels: Invalid"]),
            (metadata(json!({"annotations": {"a b": "c"}})), &["spec.metadata.annotations: Invalid"]),
            (metadata(json!({"name": "n"})), &["spec.metadata.Name: Forbidden"]),
            (
                json!({"spec": {"spec": {"devices": {"requests": [{"name": "r"}]}}}}),
                &["spec.spec.devices.requests[0]: Required"],
            ),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (metadata(json!({"labels": {"a": "b"}})), &["spec: Invalid"]),
        ]);
    }
}
