//! DaemonSet.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::Selector;
use serde_json::{Value, json};

use crate::check::{not_negative, present, text};
use crate::meta;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::{self, SPEC, TEMPLATE, amount, at_most_all, int_or_percent};

/// Where the version of the template lives that a field held before `apps/v1`.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    prepare_for_create,
    prepare_for_update,
    validate: |object, errors| validate(object, &Value::Null, errors),
    validate_update,
    warnings,
    ..GENERIC
};

fn template_generation(object: &Value) -> i64 {
    let text = object["metadata"]["annotations"][TEMPLATE_GENERATION].as_str();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn prepare_for_create(object: &mut Value) {
    workload::drop_disabled(object, &Value::Null, TEMPLATE);
    let generation = template_generation(object).max(1);
    object["metadata"]["annotations"][TEMPLATE_GENERATION] = generation.to_string().into();
}

/// Clients do not set it; it counts changes of the template.
fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    workload::drop_disabled(new, old, TEMPLATE);
    let changed = subresource != "status" && new["spec"]["template"] != old["spec"]["template"];
    let generation = template_generation(old) + i64::from(changed);
    new["metadata"]["annotations"][TEMPLATE_GENERATION] = generation.to_string().into();
}

fn validate(object: &Value, old: &Value, errors: &mut ErrorList) {
    let spec = &object["spec"];
    let lenient = workload::has_invalid_value(&old["selector"]);
    meta::selector(&spec["selector"], lenient, &SPEC.child("selector"), errors);
    if let Ok(selector) = Selector::of_value(&spec["selector"]) {
        workload::labels_match(spec, &selector, &SPEC, errors);
    }
    workload::not_empty(&spec["selector"], "daemonset", &SPEC.child("selector"), errors);
    workload::template(spec, old, &SPEC, errors);
    workload::always(spec, "DaemonSet", &SPEC, errors);
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    if template_generation(object) < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(Error::invalid(&SPEC.child("templateGeneration"), template_generation(object), why));
    }
    update_strategy(&spec["updateStrategy"], &SPEC.child("updateStrategy"), errors);
    not_negative(spec, "revisionHistoryLimit", &SPEC, errors);
}

fn update_strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("rollingUpdate");
    match (text(strategy, "type"), present(strategy, "rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(Error::required(&at, "")),
        ("RollingUpdate", Some(rolling)) => {
            for field in ["maxUnavailable", "maxSurge"] {
                int_or_percent(rolling, field, &at, errors);
            }
            for field in ["maxUnavailable", "maxSurge"] {
                at_most_all(rolling, field, &at, errors);
            }
            match (amount(rolling, "maxUnavailable") != 0, amount(rolling, "maxSurge") != 0) {
                (false, false) => {
                    let why = "cannot be 0 when maxSurge is 0";
                    errors.push(Error::required(&at.child("maxUnavailable"), why));
                }
                (true, true) => {
                    let value = rolling["maxSurge"].clone();
                    let why = "may not be set when maxUnavailable is non-zero";
                    errors.push(Error::invalid(&at.child("maxSurge"), value, why));
                }
                _ => {}
            }
        }
        (kind, rolling) => {
            // The names are those of upstream's internal type.
            let value = json!({"Type": kind, "RollingUpdate": rolling});
            errors.push(Error::not_supported(path, value, ["RollingUpdate", "OnDelete"]));
        }
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        let fields = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        workload::counts(&new["status"], &fields, errors);
        return workload::collisions(new, old, errors);
    }
    workload::fixed_selector(new, old, errors);
    validate(new, &old["spec"], errors);
}

fn warnings(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    let same = old.is_some_and(|old| template_generation(old) == template_generation(new));
    if same || subresource == "status" {
        return Vec::new();
    }
    workload::template_warnings(new, None, TEMPLATE, "spec.template")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Subject;

    fn subject() -> Subject {
        let good = json!({
            "metadata": {"name": "d", "namespace": "n"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        });
        Subject { group: "apps", version: "v1", kind: "DaemonSet", good }
    }

    /// `TestValidateDaemonSet`, `TestValidateDaemonSetUpdateStrategy`
    #[test]
    fn create() {
        let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(json!({"selector": {"matchLabels": null}}), &["spec.selector: Invalid"]);
        check(json!({"selector": null}), &["spec.template.metadata.labels: Invalid"]);
        check(json!({"selector": {"matchLabels": {"a": "c"}}}), &["spec.template.metadata.labels: Invalid"]);
        check(
            json!({"selector": {"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["-1"]}]}}),
            &["spec.selector.matchExpressions[0].values[0]: Invalid"],
        );
        check(
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            &["spec.template.spec.restartPolicy: NotSupported"],
        );
        check(
            json!({"template": {"spec": {"activeDeadlineSeconds": 1}}}),
            &["spec.template.spec.activeDeadlineSeconds: Forbidden"],
        );
        check(json!({"minReadySeconds": -1}), &["spec.minReadySeconds: Invalid"]);
        check(json!({"revisionHistoryLimit": -1}), &["spec.revisionHistoryLimit: Invalid"]);
        check(json!({"updateStrategy": {"type": "OnDelete"}}), &[]);
        check(json!({"updateStrategy": {"type": "Random"}}), &["spec.updateStrategy: NotSupported"]);
        let rolling = |rolling: Value, expect: &[&str]| {
            check(json!({"updateStrategy": {"rollingUpdate": rolling}}), expect)
        };
        let unavailable = "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid";
        let surge = "spec.updateStrategy.rollingUpdate.maxSurge: Invalid";
        rolling(json!({"maxUnavailable": 2}), &[]);
        rolling(json!({"maxUnavailable": 0, "maxSurge": "10%"}), &[]);
        rolling(
            json!({"maxUnavailable": "0%"}),
            &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required"],
        );
        rolling(json!({"maxUnavailable": 1, "maxSurge": 1}), &[surge]);
        rolling(json!({"maxUnavailable": "110%"}), &[unavailable]);
        rolling(
            json!({"maxUnavailable": "x"}),
            &[unavailable, "spec.updateStrategy.rollingUpdate.maxUnavailable: Required"],
        );
        rolling(json!({"maxUnavailable": 0, "maxSurge": "101%"}), &[surge]);
        rolling(json!({"maxUnavailable": -1}), &[unavailable]);
    }

    /// `TestValidateDaemonSetUpdate`, `TestValidateDaemonSetStatusUpdate`
    #[test]
    fn update() {
        let check = |after: Value, expect: &[&str]| subject().updated(json!({}), after, "", expect);
        check(
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j", "imagePullPolicy": "Always",
            "terminationMessagePath": "/x", "terminationMessagePolicy": "File"}]}}}}),
            &[],
        );
        check(
            json!({"spec": {"selector": {"matchLabels": {"c": "d"}}, "template": {"metadata": {"labels": {"c": "d"}}}}}),
            &["spec.selector: Invalid"],
        );
        let old = json!({"spec": {"selector": {"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["-1"]}]}}});
        subject().updated(old, json!({"spec": {"minReadySeconds": 1}}), "", &[]);
        for field in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            let fault = format!("status.{field}: Invalid");
            subject().updated(json!({}), json!({"status": {field: -1}}), "status", &[&fault]);
        }
    }

    #[test]
    fn template_generation_counts() {
        let read = |object: &Value| object["metadata"]["annotations"][TEMPLATE_GENERATION].clone();
        assert_eq!(read(&subject().create(&json!({}))), "1");
        let (_, new) = subject().update(&json!({}), &json!({"spec": {"minReadySeconds": 3}}), "");
        assert_eq!(read(&new), "1");
        let forged = json!({"metadata": {"annotations": {TEMPLATE_GENERATION: "9"}},
            "spec": {"template": {"metadata": {"labels": {"c": "d"}}}}});
        assert_eq!(read(&subject().update(&json!({}), &forged, "").1), "2");
    }
}
