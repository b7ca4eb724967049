//! The group `events.k8s.io`: Event, under other field names the same as core's, with the rules that are in
//! [`crate::core::event`].

use apimachinery::field::ErrorList;
use serde_json::Value;

use crate::core::event;
use crate::strategy::{GENERIC, GarbageCollection, Strategy};

const GROUP: &str = "events.k8s.io";

const EVENT: Strategy = Strategy {
    allow_create_on_update: true,
    garbage_collection: GarbageCollection::Unsupported,
    validate: |event, errors| event::validate(&as_core(event), GROUP, errors),
    validate_update,
    selectable: &[
        ("reason", "/reason", ""),
        ("regarding.kind", "/regarding/kind", ""),
        ("regarding.namespace", "/regarding/namespace", ""),
        ("regarding.name", "/regarding/name", ""),
        ("regarding.uid", "/regarding/uid", ""),
        ("regarding.apiVersion", "/regarding/apiVersion", ""),
        ("regarding.resourceVersion", "/regarding/resourceVersion", ""),
        ("regarding.fieldPath", "/regarding/fieldPath", ""),
        ("reportingController", "/reportingController", ""),
        ("type", "/type", ""),
    ],
    ..GENERIC
};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    (kind == "Event").then_some(&EVENT)
}

fn validate_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    event::validate_update(&as_core(new), &as_core(old), GROUP, errors);
}

/// Core's names for the fields; faults are told with them.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn as_core(event: &Value) -> Value {
    let mut event = event.clone();
    if let Some(fields) = event.as_object_mut() {
        for (name, core) in NAMES {
            if let Some(value) = fields.remove(name) {
                fields.insert(core.to_owned(), value);
            }
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    /// `TestValidateEventForNewV1beta1Events`, `TestEventV1EventSeriesValidation`
    #[test]
    fn events() {
        let good = json!({
            "metadata": {"name": "e", "namespace": "n"}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal",
            "reportingController": "k8s.io/x", "reportingInstance": "x-1", "action": "a", "reason": "r", "note": "m",
            "regarding": {"kind": "Pod", "name": "p", "namespace": "n"},
        });
        let subject = Subject { group: GROUP, version: "v1", kind: "Event", good };
        subject.created(json!({}), &[]);
        subject.created(json!({"eventTime": null}), &["eventTime: Required"]);
        subject.created(
            json!({"reportingController": "a b", "action": null}),
            &["reportingController: Invalid", "action: Required"],
        );
        subject.created(
            json!({"type": "Other", "deprecatedCount": 1, "deprecatedSource": {"component": "c"}}),
            &["type: Invalid", "count: Invalid", "source: Invalid"],
        );
        subject.created(
            json!({"series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}),
            &["series.count: Invalid"],
        );
        subject.updated(
            json!({}),
            json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}),
            "",
            &[],
        );
        subject.updated(json!({}), json!({"note": "other"}), "", &["message: Invalid"]);
        subject.updated(json!({}), json!({"regarding": {"name": "q"}}), "", &["involvedObject: Invalid"]);
    }
}
