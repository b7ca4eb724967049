//! API services: which server answers for a group and version.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::{Value, json};

use crate::check::{flag, int, items, messages, present, text};
use crate::meta::keep;
use crate::strategy::{GENERIC, Strategy, path_segment};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const API_SERVICE: Strategy = Strategy {
        name: path_segment,
        allow_unconditional_update: false,
        stamp_new,
        prepare_for_update,
        validate: service,
        validate_update: service_update,
        ..GENERIC
    };
    (kind == "APIService").then_some(&API_SERVICE)
}

/// What the server itself answers for is available at once.
fn stamp_new(service: &mut Value, now: &str) {
    if present(&service["spec"], "service").is_none() {
        service["status"] = json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available", "lastTransitionTime": now}]});
    }
}

fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            keep(new, old, field);
        }
    }
}

fn service(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let (name, wanted) = (text(&object["metadata"], "name"), format!("{version}.{group}"));
    if names::is_path_segment_name(name).is_empty() && name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, why));
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.push(Error::required(&path.child("group"), why));
    }
    if !group.is_empty() {
        messages(names::is_dns1123_subdomain(group), &group.into(), &path.child("group"), errors);
    }
    messages(names::is_dns1035_label(version), &version.into(), &path.child("version"), errors);
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let priority = int(spec, field).unwrap_or(0);
        if !(1..=most).contains(&priority) {
            let why = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&path.child(field), priority, why));
        }
    }
    let (bundle, insecure) = (bytes(text(spec, "caBundle")), flag(spec, "insecureSkipTLSVerify"));
    let Some(service) = present(spec, "service") else {
        if bundle > 0 {
            let why = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(&path.child("caBundle"), format!("{bundle} bytes"), why));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Error::invalid(&path.child("insecureSkipTLSVerify"), true, why));
        }
        return;
    };
    let at = path.child("service");
    for field in ["namespace", "name"] {
        if text(service, field).is_empty() {
            errors.push(Error::required(&at.child(field), ""));
        }
    }
    let port = int(service, "port").unwrap_or(0);
    let faults = names::is_port_number(port);
    if !faults.is_empty() {
        let why = format!("port is not valid: {}", faults.join(", "));
        errors.push(Error::invalid(&at.child("port"), port, why));
    }
    if insecure && bundle > 0 {
        let why = "may not be true if caBundle is present";
        errors.push(Error::invalid(&path.child("insecureSkipTLSVerify"), true, why));
    }
}

/// How many bytes a base64 text stands for.
fn bytes(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(2)
}

fn service_update(new: &Value, _old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource != "status" {
        return service(new, errors);
    }
    let path = Path::new("status");
    let list = path.child("conditions");
    for (index, condition) in items(&new["status"], "conditions").iter().enumerate() {
        let status = text(condition, "status");
        if !["True", "False", "Unknown"].contains(&status) {
            let at = list.index(index);
            errors.push(Error::not_supported(&at.child("status"), status, ["True", "False", "Unknown"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn api_services() {
        let table = Table::new(
            "apiregistration.k8s.io",
            "v1",
            "APIService",
            json!({"metadata": {"name": "v1.example.com"}, "spec": {"group": "example.com", "version": "v1",
                "groupPriorityMinimum": 100, "versionPriority": 100, "service": {"namespace": "n", "name": "s"}}}),
        );
        let spec = |patch: Value| json!({ "spec": patch });
        table.create(&[
            (json!({"metadata": {"name": "v1.other"}}), &["metadata.name: Invalid"]),
            (json!({"metadata": {"name": "v1."}, "spec": {"group": ""}}), &[]),
            (
                json!({"metadata": {"name": "v2."}, "spec": {"group": "", "version": "v2"}}),
                &["spec.group: Required"],
            ),
            (
                json!({"metadata": {"name": "v1.Example"}, "spec": {"group": "Example"}}),
                &["spec.group: Invalid"],
            ),
            (
                json!({"metadata": {"name": "1.example.com"}, "spec": {"version": "1"}}),
                &["spec.version: Invalid"],
            ),
            (spec(json!({"groupPriorityMinimum": 0})), &["spec.groupPriorityMinimum: Invalid"]),
            (spec(json!({"groupPriorityMinimum": 20001})), &["spec.groupPriorityMinimum: Invalid"]),
            (spec(json!({"versionPriority": 1001})), &["spec.versionPriority: Invalid"]),
            (spec(json!({"service": null})), &[]),
            (
                spec(json!({"service": null, "caBundle": "AAAA", "insecureSkipTLSVerify": true})),
                &["spec.caBundle: Invalid", "spec.insecureSkipTLSVerify: Invalid"],
            ),
            (
                spec(json!({"service": {"namespace": "", "name": "", "port": 70000}})),
                &[
                    "spec.service.namespace: Required",
                    "spec.service.name: Required",
                    "spec.service.port: Invalid",
                ],
            ),
            (
                spec(json!({"insecureSkipTLSVerify": true, "caBundle": "AAAA"})),
                &["spec.insecureSkipTLSVerify: Invalid"],
            ),
        ]);
        table.update(&[
            (spec(json!({"service": {"name": "other"}})), &[]),
            (spec(json!({"group": "other"})), &["metadata.name: Invalid"]),
        ]);
        let condition =
            |status: &str| json!({"status": {"conditions": [{"type": "Available", "status": status}]}});
        table.change(&json!({}), &condition("True"), "status", &[]);
        table.change(&json!({}), &condition("x"), "status", &["status.conditions[0].status: NotSupported"]);
    }
}
