//! Event. Both groups that serve it store `core/v1`; which rules hold follows from the group of the request
//! (upstream's `apis/core/validation/events.go`).

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{int, messages, present, qualified, text};
use crate::meta;
use crate::strategy::{GENERIC, GarbageCollection, Strategy};

pub const STRATEGY: Strategy = Strategy {
    allow_create_on_update: true,
    garbage_collection: GarbageCollection::Unsupported,
    validate: |event, errors| validate(event, "", errors),
    validate_update: |new, old, _, errors| validate_update(new, old, "", errors),
    selectable: &[
        ("involvedObject.kind", "/involvedObject/kind", ""),
        ("involvedObject.namespace", "/involvedObject/namespace", ""),
        ("involvedObject.name", "/involvedObject/name", ""),
        ("involvedObject.uid", "/involvedObject/uid", ""),
        ("involvedObject.apiVersion", "/involvedObject/apiVersion", ""),
        ("involvedObject.resourceVersion", "/involvedObject/resourceVersion", ""),
        ("involvedObject.fieldPath", "/involvedObject/fieldPath", ""),
        ("reason", "/reason", ""),
        ("reportingComponent", "/reportingComponent", ""),
        ("source", "/source/component|/reportingComponent", ""),
        ("type", "/type", ""),
    ],
    ..GENERIC
};

const NOTE_BYTES: usize = 1024;
const WORD_BYTES: usize = 128;

/// A new event in the form of `core/v1`, asked for through `group`: `""` or `events.k8s.io`.
pub fn validate(event: &Value, group: &str, errors: &mut ErrorList) {
    common(event, group, errors);
    if group.is_empty() {
        return;
    }
    series(event, errors);
    if present(event, "eventTime").is_none() {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = text(event, "type");
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(Error::invalid(&Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    let source = &event["source"];
    for (field, given) in [
        ("firstTimestamp", present(event, "firstTimestamp").is_some()),
        ("lastTimestamp", present(event, "lastTimestamp").is_some()),
        ("count", int(event, "count").unwrap_or(0) != 0),
        ("source", !text(source, "component").is_empty() || !text(source, "host").is_empty()),
    ] {
        if given {
            errors.push(Error::invalid(&Path::new(field), "", "needs to be unset"));
        }
    }
}

/// A changed event. Through `events.k8s.io` only its series changes.
pub fn validate_update(new: &Value, old: &Value, group: &str, errors: &mut ErrorList) {
    common(new, group, errors);
    if group.is_empty() {
        return;
    }
    if new["series"] != old["series"] {
        series(new, errors);
    }
    for field in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
    ] {
        meta::unchanged(&new[field], &old[field], &Path::new(field), errors);
    }
    for (field, name) in
        [("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")]
    {
        meta::unchanged(&new[field], &old[field], &Path::new(name), errors);
    }
}

fn series(event: &Value, errors: &mut ErrorList) {
    let Some(series) = present(event, "series") else { return };
    if int(series, "count").unwrap_or(0) < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    if present(series, "lastObservedTime").is_none() {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
}

/// Events with a time of their own are of the new kind and say more about who reports what.
fn common(event: &Value, group: &str, errors: &mut ErrorList) {
    let namespace = text(&event["metadata"], "namespace");
    let involved = text(&event["involvedObject"], "namespace");
    let timed = present(event, "eventTime").is_some();
    let fits = match (timed, involved) {
        (false, "") => matches!(namespace, "" | "default"),
        (false, involved) => namespace == involved,
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
    };
    if !fits {
        let path = Path::new("involvedObject.namespace");
        errors.push(Error::invalid(&path, involved, "does not match event.namespace"));
    }
    if timed {
        let controller = if group.is_empty() { "reportingComponent" } else { "reportingController" };
        let path = Path::new(controller);
        let name = text(event, "reportingComponent");
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
        }
        qualified(name, &path, errors);
        for field in ["reportingInstance", "action", "reason"] {
            let path = Path::new(field);
            if text(event, field).is_empty() {
                errors.push(Error::required(&path, ""));
            }
            at_most(text(event, field), WORD_BYTES, &path, errors);
        }
        at_most(text(event, "message"), NOTE_BYTES, &Path::new("message"), errors);
    }
    messages(names::is_dns1123_subdomain(namespace), &namespace.into(), &Path::new("namespace"), errors);
}

fn at_most(value: &str, most: usize, path: &Path<'_>, errors: &mut ErrorList) {
    if value.len() > most {
        errors.push(Error::invalid(path, "", format!("can have at most {most} characters")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect()
    }

    fn patched(base: &Value, patch: &Value) -> Value {
        apimachinery::patch::merge::apply(base.clone(), patch.clone()).unwrap()
    }

    /// Upstream's `events_test.go`.
    #[test]
    fn create() {
        let legacy = json!({"metadata": {"name": "e", "namespace": "ns"},
            "involvedObject": {"kind": "Pod", "namespace": "ns"}});
        let timed = json!({"metadata": {"name": "e", "namespace": "kube-system"},
            "involvedObject": {"kind": "Pod", "namespace": "kube-system"}, "type": "Normal",
            "eventTime": "2020-01-01T00:00:00.000000Z", "reportingComponent": "k8s.io/my",
            "reportingInstance": "node-xyz", "action": "Do", "reason": "Because"});
        let long = "a".repeat(129);
        let rows: &[(&Value, &str, Value, &[&str])] = &[
            (&legacy, "", json!({}), &[]),
            (
                &legacy,
                "",
                json!({"involvedObject": {"namespace": "other"}}),
                &["involvedObject.namespace: Invalid"],
            ),
            (
                &legacy,
                "",
                json!({"involvedObject": {"namespace": null}}),
                &["involvedObject.namespace: Invalid"],
            ),
            (
                &legacy,
                "",
                json!({"metadata": {"namespace": "default"}, "involvedObject": {"namespace": null}}),
                &[],
            ),
            (&legacy, "", json!({"count": 3, "firstTimestamp": "2020-01-01T00:00:00Z"}), &[]),
            (&timed, "", json!({}), &[]),
            (&timed, "events.k8s.io", json!({}), &[]),
            (
                &timed,
                "",
                json!({"reportingComponent": ""}),
                &[
                    "reportingComponent: Required",
                    "reportingComponent: Invalid",
                    "reportingComponent: Invalid",
                ],
            ),
            (
                &timed,
                "",
                json!({"reportingInstance": null, "action": null, "reason": null}),
                &["reportingInstance: Required", "action: Required", "reason: Required"],
            ),
            (
                &timed,
                "",
                json!({"reportingInstance": long, "action": long, "reason": long, "message": "a".repeat(1025)}),
                &["reportingInstance: Invalid", "action: Invalid", "reason: Invalid", "message: Invalid"],
            ),
            (&timed, "events.k8s.io", json!({"type": "Other"}), &["type: Invalid"]),
            (&timed, "events.k8s.io", json!({"eventTime": null}), &["eventTime: Required"]),
            (
                &timed,
                "events.k8s.io",
                json!({"count": 1, "source": {"host": "h"},
                "firstTimestamp": "2020-01-01T00:00:00Z", "lastTimestamp": "2020-01-01T00:00:00Z"}),
                &["firstTimestamp: Invalid", "lastTimestamp: Invalid", "count: Invalid", "source: Invalid"],
            ),
            (
                &timed,
                "events.k8s.io",
                json!({"series": {"count": 1}}),
                &["series.count: Invalid", "series.lastObservedTime: Required"],
            ),
        ];
        for (base, group, patch, expect) in rows {
            let mut errors = ErrorList::new();
            validate(&patched(base, patch), group, &mut errors);
            assert_eq!(shown(&errors), *expect, "{group} {patch}");
        }
        let time = "2020-01-01T00:00:00.000000Z";
        let rows: &[(&str, Value, &[&str])] = &[
            ("", json!({"reason": "Other", "count": 2}), &[]),
            ("events.k8s.io", json!({"series": {"count": 2, "lastObservedTime": time}}), &[]),
            (
                "events.k8s.io",
                json!({"series": {"count": 1, "lastObservedTime": time}}),
                &["series.count: Invalid"],
            ),
            ("events.k8s.io", json!({"reason": "Other"}), &["reason: Invalid", "reason: Invalid"]),
            (
                "events.k8s.io",
                json!({"reportingComponent": "k8s.io/other", "type": "Warning", "related": {"kind": "Node"}}),
                &["type: Invalid", "related: Invalid", "reportingController: Invalid"],
            ),
        ];
        for (group, patch, expect) in rows {
            let mut errors = ErrorList::new();
            validate_update(&patched(&timed, patch), &timed, group, &mut errors);
            assert_eq!(shown(&errors), *expect, "{group} {patch}");
        }
    }
}
