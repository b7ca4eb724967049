//! StorageVersionMigration: stored objects are written anew.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{items, text};
use crate::meta::{conditions, keep_for_status, unchanged};
use crate::strategy::{GENERIC, Strategy};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const MIGRATION: Strategy = Strategy {
        allow_unconditional_update: false,
        prepare_for_update: |new, old, subresource| {
            if subresource == "status" {
                keep_for_status(new, old);
            }
        },
        validate: migration,
        validate_update: migration_update,
        ..GENERIC
    };
    (kind == "StorageVersionMigration").then_some(&MIGRATION)
}

fn migration(migration: &Value, errors: &mut ErrorList) {
    let spec = Path::new("spec");
    let path = spec.child("resource");
    let of = |field: &'static str| text(&migration["spec"]["resource"], field);
    let mut joined = |field: &str, value: &str, faults: Vec<String>| {
        if !faults.is_empty() {
            errors.push(Error::invalid(&path.child(field), value, faults.join(",")));
        }
    };
    let (resource, group) = (of("resource"), of("group"));
    if !resource.is_empty() {
        joined("resource", resource, names::is_dns1035_label(resource));
    }
    if !group.is_empty() {
        joined("group", group, names::is_dns1123_subdomain(group));
    }
    if resource.is_empty() {
        errors.insert(0, Error::required(&path.child("resource"), "resource is required to be set"));
    }
}

fn migration_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return status(new, old, errors);
    }
    migration(new, errors);
    unchanged(&new["spec"], &old["spec"], &Path::new("spec"), errors);
}

fn is_true(migration: &Value, kind: &str) -> bool {
    let condition =
        items(&migration["status"], "conditions").iter().find(|condition| text(condition, "type") == kind);
    condition.is_some_and(|condition| text(condition, "status") == "True")
}

fn status(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let version = |object: &'_ Value| text(&object["status"], "resourceVersion").to_owned();
    let (now, before) = (version(new), version(old));
    let at = path.child("resourceVersion");
    if !now.is_empty()
        && let Some(why) = version_fault(&now)
    {
        errors.push(Error::invalid(&at, now.as_str(), why));
    }
    let list = items(&new["status"], "conditions");
    let conditions_at = path.child("conditions");
    conditions(list, &conditions_at, errors);
    if !before.is_empty() && before != now {
        errors.push(Error::invalid(&at, now, "field is immutable"));
    }
    let mut bad = |why: &str| errors.push(Error::invalid(&conditions_at, list.to_vec(), why));
    if is_true(new, "Succeeded") && is_true(new, "Failed") {
        bad("Both success and failed conditions cannot be true at the same time");
    }
    for (kind, told) in [("Succeeded", "Success"), ("Failed", "Failed")] {
        if is_true(old, kind) && !is_true(new, kind) {
            bad(&format!("{told} condition cannot be set to false once it is true"));
        }
    }
}

/// A resource version is a number without zeros in front.
fn version_fault(version: &str) -> Option<String> {
    let good = !version.starts_with('0') && version.bytes().all(|byte| byte.is_ascii_digit());
    (!good).then(|| format!("resource version is not well formed: {version}"))
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn migrations() {
        let good = json!({"spec": {"resource": {"group": "example.com", "resource": "widgets"}}});
        let table = Table::new("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration", good);
        let resource = |patch: Value| json!({"spec": {"resource": patch}});
        table.create(&[
            (resource(json!({"group": ""})), &[]),
            (resource(json!({"resource": ""})), &["spec.resource.resource: Required"]),
            (resource(json!({"resource": "A"})), &["spec.resource.resource: Invalid"]),
            (resource(json!({"group": "A"})), &["spec.resource.group: Invalid"]),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (resource(json!({"resource": "others"})), &["spec: Invalid"]),
        ]);
        let status = |version: &str, conditions: &[(&str, &str)]| {
            let conditions: Vec<Value> = conditions
                .iter()
                .map(|(kind, status)| {
                    json!({"type": kind, "status": status, "reason": "R", "lastTransitionTime": "2020-01-01T00:00:00Z"})
                })
                .collect();
            json!({"status": {"resourceVersion": version, "conditions": conditions}})
        };
        let check = |old: Value, new: Value, expect: &[&str]| table.change(&old, &new, "status", expect);
        let done = status("1", &[("Succeeded", "True")]);
        check(json!({}), status("1", &[("Running", "True")]), &[]);
        check(json!({}), status("x", &[]), &["status.resourceVersion: Invalid"]);
        check(status("1", &[]), status("2", &[]), &["status.resourceVersion: Invalid"]);
        check(
            json!({}),
            status("1", &[("Succeeded", "True"), ("Failed", "True")]),
            &["status.conditions: Invalid"],
        );
        check(done.clone(), done.clone(), &[]);
        check(done, status("1", &[("Succeeded", "False")]), &["status.conditions: Invalid"]);
        check(status("1", &[("Failed", "True")]), status("1", &[]), &["status.conditions: Invalid"]);
    }
}
