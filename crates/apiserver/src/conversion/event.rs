//! Events of the core group and of `events.k8s.io` are the same objects under other field names.

use serde_json::Value;

/// Core's names and those of `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub fn to_events(event: &mut Value) {
    rename(event, NAMES.into_iter());
}

pub fn to_core(event: &mut Value) {
    rename(event, NAMES.into_iter().map(|(core, events)| (events, core)));
}

fn rename(event: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(fields) = event.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}
