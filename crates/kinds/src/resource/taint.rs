//! DeviceTaintRule.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::parts::{name, pool_name, taint};
use crate::check::{items, present, text};
use crate::meta::{conditions, csi_driver_name, keep_for_status};

const MOST_CONDITIONS: usize = 8;

pub fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        keep_for_status(new, old);
    }
}

/// Another effect counts from now, unless the client says otherwise, and so does a taint that does not say.
pub fn stamp(new: &mut Value, old: &Value, subresource: &str, now: &str) {
    let (taint, before) = (&mut new["spec"]["taint"], &old["spec"]["taint"]);
    let turned = taint["effect"] != before["effect"] && taint["timeAdded"] == before["timeAdded"];
    if subresource.is_empty() && (turned || text(taint, "timeAdded").is_empty()) {
        taint["timeAdded"] = json!(now);
    }
}

pub fn rule(rule: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &rule["spec"];
    if let Some(selector) = present(spec, "deviceSelector") {
        let path = path.child("deviceSelector");
        if present(selector, "driver").is_some() {
            csi_driver_name(text(selector, "driver"), &path.child("driver"), errors);
        }
        if present(selector, "pool").is_some() {
            pool_name(text(selector, "pool"), &path.child("pool"), errors);
        }
        if present(selector, "device").is_some() {
            name(selector, "device", &path, errors);
        }
    }
    taint(&spec["taint"], old.map(|old| &old["spec"]["taint"]), &path.child("taint"), errors);
}

pub fn rule_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource != "status" {
        return rule(new, Some(old), errors);
    }
    let path = Path::new("status");
    let (all, at) = (items(&new["status"], "conditions"), path.child("conditions"));
    conditions(all, &at, errors);
    if all.len() > MOST_CONDITIONS {
        errors.push(Error::too_many(&at, all.len(), MOST_CONDITIONS));
    }
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn rules() {
        let good = json!({"spec": {"taint": {"key": "example.com/taint", "value": "tainted", "effect": "NoExecute"}}});
        let table = Table::new("resource.k8s.io", "v1beta2", "DeviceTaintRule", good);
        let selector = |patch: Value| json!({"spec": {"deviceSelector": patch}});
        let taint = |patch: Value| json!({"spec": {"taint": patch}});
        table.create(&[
            (selector(json!({"driver": "d", "pool": "p/q", "device": "x"})), &[]),
            (
                selector(json!({"driver": "", "pool": "", "device": "X"})),
                &[
                    "spec.deviceSelector.driver: Required",
                    "spec.deviceSelector.pool: Required",
                    "spec.deviceSelector.device: Invalid",
                ],
            ),
            (taint(json!({"key": "a b"})), &["spec.taint.key: Invalid"]),
            (taint(json!({"value": "a b"})), &["spec.taint.value: Invalid"]),
            (taint(json!({"effect": ""})), &["spec.taint.effect: Required"]),
            (taint(json!({"effect": "None"})), &[]),
            (taint(json!({"effect": "x"})), &["spec.taint.effect: NotSupported"]),
        ]);
        table.change(&taint(json!({"effect": "x"})), &taint(json!({"effect": "x"})), "", &[]);
        table.change(&json!({}), &taint(json!({"effect": "y"})), "", &["spec.taint.effect: NotSupported"]);
        table.change(
            &json!({}),
            &json!({"status": {"conditions": [{"type": "a", "status": "True"}]}}),
            "status",
            &["status.conditions[0].lastTransitionTime: Required", "status.conditions[0].reason: Required"],
        );
        let old = table.object(&json!({}));
        let mut new = table.object(&taint(json!({"effect": "None"})));
        super::stamp(&mut new, &old, "", "2020-01-01T00:00:00Z");
        assert_eq!(new["spec"]["taint"]["timeAdded"], "2020-01-01T00:00:00Z");
    }
}
