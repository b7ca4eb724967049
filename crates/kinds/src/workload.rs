//! What selects and makes pods: Deployment, ReplicaSet, DaemonSet, StatefulSet, ReplicationController, Job.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::{LabelSelector, Selector, Validation};
use apimachinery::names;
use serde_json::Value;

use crate::check::{immutable, int, not_negative, one_of, present, text};
use crate::core::pod::validate::template;

/// A selector that is there, is valid, is not empty, and fits the template; then the template itself.
fn selector_and_template(spec: &Value, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("selector");
    match present(spec, "selector") {
        None => errors.push(Error::required(&at, "")),
        Some(value) => {
            if let Some(selector) = LabelSelector::from_value(value) {
                errors.extend(selector.validate(Validation::default(), &at));
                if selector.is_empty() {
                    let why = format!("empty selector is invalid for {what}");
                    errors.push(Error::invalid(&at, value.clone(), why));
                }
            }
        }
    }
    let at = path.child("template");
    match Selector::of_value(&spec["selector"]) {
        Err(_) => {
            let value = spec["selector"].clone();
            errors.push(Error::invalid(&path.child("selector"), value, "invalid label selector"));
        }
        Ok(selector) => {
            let labels = &spec["template"]["metadata"]["labels"];
            if !selector.is_everything() && !selector.matches_json(labels.as_object()) {
                let why = "`selector` does not match template `labels`";
                let metadata = at.child("metadata");
                errors.push(Error::invalid(&metadata.child("labels"), labels.clone(), why));
            }
            template(&spec["template"], &at, errors);
        }
    }
}

/// Controllers that keep pods running take no other restart policy.
fn always(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let pod = &spec["template"]["spec"];
    let at = path.child("template");
    let at = at.child("spec");
    if text(pod, "restartPolicy") != "Always" {
        let policy = text(pod, "restartPolicy");
        errors.push(Error::not_supported(&at.child("restartPolicy"), policy, ["Always"]));
    }
    if present(pod, "activeDeadlineSeconds").is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(Error::forbidden(&at.child("activeDeadlineSeconds"), why));
    }
}

/// A number or a percentage, not negative.
fn int_or_percent(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child(field);
    match object.get(field) {
        Some(Value::String(percent)) => {
            crate::check::messages(names::is_percent(percent), &percent.as_str().into(), &at, errors);
        }
        Some(Value::Number(number)) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.push(Error::invalid(&at, number.as_i64(), "must be greater than or equal to 0"));
        }
        _ => {}
    }
}

/// The number in a number or percentage; 0 for what is neither.
fn amount(object: &Value, field: &str) -> i64 {
    match object.get(field) {
        Some(Value::String(percent)) => percent.trim_end_matches('%').parse().unwrap_or(0),
        Some(number) => number.as_i64().unwrap_or(0),
        None => 0,
    }
}

fn at_most_all(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if object.get(field).is_some_and(Value::is_string) && amount(object, field) > 100 {
        errors.push(Error::invalid(
            &path.child(field),
            object[field].clone(),
            "must not be greater than 100%",
        ));
    }
}

pub fn deployment(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    not_negative(spec, "replicas", &path, errors);
    selector_and_template(spec, "deployment", &path, errors);
    always(spec, &path, errors);
    let strategy = &spec["strategy"];
    let at = path.child("strategy");
    let rolling = present(strategy, "rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("Recreate", Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Error::forbidden(&at.child("rollingUpdate"), why));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.push(Error::required(
                &at.child("rollingUpdate"),
                "this should be defaulted and never be nil",
            ));
        }
        ("RollingUpdate", Some(rolling)) => {
            let at = at.child("rollingUpdate");
            int_or_percent(rolling, "maxUnavailable", &at, errors);
            int_or_percent(rolling, "maxSurge", &at, errors);
            if amount(rolling, "maxUnavailable") == 0 && amount(rolling, "maxSurge") == 0 {
                let value = rolling["maxUnavailable"].clone();
                errors.push(Error::invalid(
                    &at.child("maxUnavailable"),
                    value,
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            at_most_all(rolling, "maxUnavailable", &at, errors);
        }
        _ => errors.push(Error::not_supported(&at, strategy.clone(), ["Recreate", "RollingUpdate"])),
    }
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(spec, field, &path, errors);
    }
    let ready = int(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = int(spec, "progressDeadlineSeconds").filter(|deadline| *deadline <= ready) {
        let why = "must be greater than minReadySeconds";
        errors.push(Error::invalid(&path.child("progressDeadlineSeconds"), deadline, why));
    }
}

pub fn replica_set(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    selector_and_template(spec, "replicaset", &path, errors);
    always(spec, &path, errors);
}

pub fn daemon_set(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    selector_and_template(spec, "daemonset", &path, errors);
    always(spec, &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
    let strategy = &spec["updateStrategy"];
    let at = path.child("updateStrategy");
    match (text(strategy, "type"), present(strategy, "rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(Error::required(&at.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => {
            let at = at.child("rollingUpdate");
            for field in ["maxUnavailable", "maxSurge"] {
                int_or_percent(rolling, field, &at, errors);
                at_most_all(rolling, field, &at, errors);
            }
            match (amount(rolling, "maxUnavailable"), amount(rolling, "maxSurge")) {
                (0, 0) => {
                    errors
                        .push(Error::required(&at.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"));
                }
                (1.., 1..) => {
                    let value = rolling["maxSurge"].clone();
                    errors.push(Error::invalid(
                        &at.child("maxSurge"),
                        value,
                        "may not be set when maxUnavailable is non-zero",
                    ));
                }
                _ => {}
            }
        }
        (other, _) => errors.push(Error::not_supported(&at, other, ["OnDelete", "RollingUpdate"])),
    }
}

pub fn stateful_set(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    one_of(
        text(spec, "podManagementPolicy"),
        &["OrderedReady", "Parallel"],
        &path.child("podManagementPolicy"),
        errors,
    );
    let kind = text(&spec["updateStrategy"], "type");
    one_of(kind, &["OnDelete", "RollingUpdate"], &path.child("updateStrategy").child("type"), errors);
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        not_negative(spec, field, &path, errors);
    }
    selector_and_template(spec, "statefulset", &path, errors);
    always(spec, &path, errors);
}

pub fn replication_controller(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    let selector = spec["selector"].as_object();
    if selector.is_none_or(serde_json::Map::is_empty) {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    let at = path.child("template");
    if present(spec, "template").is_none() {
        errors.push(Error::required(&at, ""));
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if selector.into_iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        let metadata = at.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&metadata.child("labels"), labels.clone(), why));
    }
    template(&spec["template"], &at, errors);
    always(spec, &path, errors);
}

/// The parts of a Job that nothing else checks: its numbers, and that its pods may end.
pub fn job(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    job_spec(&object["spec"], &path, errors);
}

fn job_spec(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        not_negative(spec, field, path, errors);
    }
    let at = path.child("template");
    template(&spec["template"], &at, errors);
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    if !["OnFailure", "Never"].contains(&policy) {
        let pod = at.child("spec");
        let shown = pod.child("restartPolicy");
        let why = "valid values: \"OnFailure\", \"Never\"";
        match policy {
            "Always" => errors.push(Error::required(&shown, why)),
            other => errors.push(Error::not_supported(&shown, other, ["OnFailure", "Never"])),
        }
    }
}

/// The selector says which pods are whose: it never changes.
fn fixed_selector(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    immutable(&new["spec"]["selector"], &old["spec"]["selector"], &path.child("selector"), errors);
}

fn status(new: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let status = &new["status"];
    let counts = [
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "fullyLabeledReplicas",
    ];
    for field in counts {
        not_negative(status, field, &path, errors);
    }
    let count = |field: &str| int(status, field).unwrap_or(0);
    for field in ["updatedReplicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas"] {
        if count(field) > count("replicas") {
            errors.push(Error::invalid(
                &path.child(field),
                count(field),
                "cannot be greater than status.replicas",
            ));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than readyReplicas";
        errors.push(Error::invalid(&path.child("availableReplicas"), count("availableReplicas"), why));
    }
}

macro_rules! update {
    ($name:ident, $validate:path) => {
        pub fn $name(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
            if subresource == "status" {
                return status(new, errors);
            }
            $validate(new, errors);
            fixed_selector(new, old, errors);
        }
    };
}
update!(deployment_update, deployment);
update!(replica_set_update, replica_set);

pub fn daemon_set_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource.is_empty() {
        daemon_set(new, errors);
        fixed_selector(new, old, errors);
    }
}

pub fn replication_controller_update(new: &Value, _old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "status" => status(new, errors),
        _ => replication_controller(new, errors),
    }
}

pub fn stateful_set_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    const UPDATABLE: &[&str] = &[
        "minReadySeconds",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "replicas",
        "revisionHistoryLimit",
        "template",
        "updateStrategy",
    ];
    if !subresource.is_empty() {
        return;
    }
    stateful_set(new, errors);
    let (Some(after), Some(before)) = (new["spec"].as_object(), old["spec"].as_object()) else { return };
    let fixed = |name: &&String| !UPDATABLE.contains(&name.as_str());
    if after.keys().chain(before.keys()).filter(fixed).any(|name| after.get(name) != before.get(name)) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&Path::new("spec"), why));
    }
}

pub fn job_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if !subresource.is_empty() {
        return;
    }
    job(new, errors);
    let path = Path::new("spec");
    let fixed = [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ];
    for field in fixed {
        immutable(&new["spec"][field], &old["spec"][field], &path.child(field), errors);
    }
    let suspended =
        old["spec"]["suspend"].as_bool().unwrap_or(false) && old["status"].get("startTime").is_none();
    if !suspended {
        immutable(&new["spec"]["template"], &old["spec"]["template"], &path.child("template"), errors);
    }
}
