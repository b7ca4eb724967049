//! Deployment.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::check::{int, not_negative, present, text};
use crate::meta;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::{self, SPEC, TEMPLATE, amount, at_most_all, int_or_percent};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    prepare_for_create: |new| workload::drop_disabled(new, &Value::Null, TEMPLATE),
    prepare_for_update,
    validate: |object, errors| validate(&object["spec"], &Value::Null, errors),
    validate_update,
    warnings: workload::replica_warnings,
    ..GENERIC
};

/// Annotations are copied to replica sets, so they count as a change. Who writes the status does not label.
fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        return meta::keep(new, old, "labels");
    }
    workload::drop_disabled(new, old, TEMPLATE);
    let annotations = |object: &Value| {
        let map = object["metadata"]["annotations"].as_object();
        map.filter(|map| !map.is_empty()).cloned()
    };
    if annotations(new) != annotations(old) {
        workload::next_generation(new, old);
    }
}

fn validate(spec: &Value, old: &Value, errors: &mut ErrorList) {
    not_negative(spec, "replicas", &SPEC, errors);
    workload::required_selector(spec, "deployment", &SPEC, errors);
    workload::replica_template(spec, old, &SPEC, errors);
    strategy(&spec["strategy"], &SPEC.child("strategy"), errors);
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(spec, field, &SPEC, errors);
    }
    let ready = int(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = int(spec, "progressDeadlineSeconds").filter(|deadline| *deadline <= ready) {
        let why = "must be greater than minReadySeconds";
        errors.push(Error::invalid(&SPEC.child("progressDeadlineSeconds"), deadline, why));
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("rollingUpdate");
    match (text(strategy, "type"), present(strategy, "rollingUpdate")) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            errors.push(Error::forbidden(&at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        ("RollingUpdate", None) => {
            errors.push(Error::required(&at, "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => {
            int_or_percent(rolling, "maxUnavailable", &at, errors);
            int_or_percent(rolling, "maxSurge", &at, errors);
            if amount(rolling, "maxUnavailable") == 0 && amount(rolling, "maxSurge") == 0 {
                let value = rolling["maxUnavailable"].clone();
                let why = "may not be 0 when `maxSurge` is 0";
                errors.push(Error::invalid(&at.child("maxUnavailable"), value, why));
            }
            at_most_all(rolling, "maxUnavailable", &at, errors);
        }
        (kind, rolling) => {
            // The names are those of upstream's internal type.
            let value = json!({"Type": kind, "RollingUpdate": rolling});
            errors.push(Error::not_supported(path, value, ["Recreate", "RollingUpdate"]));
        }
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        status(&new["status"], errors);
        return workload::collisions(new, old, errors);
    }
    validate(&new["spec"], &old["spec"], errors);
    workload::fixed_selector(new, old, errors);
}

fn status(status: &Value, errors: &mut ErrorList) {
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    workload::counts(status, &fields, errors);
    let whole = "cannot be greater than status.replicas";
    for part in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        workload::parts(status, &[(part, "replicas")], whole, errors);
    }
    let ready = "cannot be greater than readyReplicas";
    workload::parts(status, &[("availableReplicas", "readyReplicas")], ready, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Subject;

    fn subject() -> Subject {
        let good = json!({
            "metadata": {"name": "d", "namespace": "n", "generation": 1},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i",
                    "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]}},
            },
        });
        Subject { group: "apps", version: "v1", kind: "Deployment", good }
    }

    /// `TestValidateDeployment`
    #[test]
    fn create() {
        let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(
            json!({"selector": null}),
            &["spec.selector: Required", "spec.template.metadata.labels: Invalid"],
        );
        check(json!({"selector": {"matchLabels": null}}), &["spec.selector: Invalid"]);
        check(json!({"selector": {"matchLabels": {"a": "c"}}}), &["spec.template.metadata.labels: Invalid"]);
        check(
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Xn", "values": ["b"]}]}}),
            &["spec.selector.matchExpressions[0].operator: Invalid", "spec.selector: Invalid"],
        );
        check(
            json!({"template": {"spec": {"restartPolicy": "OnFailure"}}}),
            &["spec.template.spec.restartPolicy: NotSupported"],
        );
        check(
            json!({"template": {"spec": {"activeDeadlineSeconds": 30}}}),
            &["spec.template.spec.activeDeadlineSeconds: Forbidden"],
        );
        check(json!({"replicas": -1}), &["spec.replicas: Invalid"]);
        check(json!({"minReadySeconds": -1}), &["spec.minReadySeconds: Invalid"]);
        check(json!({"revisionHistoryLimit": -1}), &["spec.revisionHistoryLimit: Invalid"]);
        check(json!({"progressDeadlineSeconds": -1}), &["spec.progressDeadlineSeconds: Invalid"]);
        check(
            json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
            &["spec.progressDeadlineSeconds: Invalid"],
        );
        check(json!({"strategy": {"type": "Recreate"}}), &[]);
        check(json!({"strategy": {"type": "Blue"}}), &["spec.strategy: NotSupported"]);
        check(
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            &["spec.strategy.rollingUpdate: Forbidden"],
        );
        let rolling = |rolling: Value, expect: &[&str]| {
            check(json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}), expect);
        };
        rolling(json!({"maxUnavailable": "110%"}), &["spec.strategy.rollingUpdate.maxUnavailable: Invalid"]);
        rolling(
            json!({"maxUnavailable": "0%", "maxSurge": 0}),
            &["spec.strategy.rollingUpdate.maxUnavailable: Invalid"],
        );
        rolling(json!({"maxSurge": "2"}), &["spec.strategy.rollingUpdate.maxSurge: Invalid"]);
        rolling(json!({"maxSurge": -1}), &["spec.strategy.rollingUpdate.maxSurge: Invalid"]);
        rolling(json!({"maxSurge": "200%"}), &[]);
        subject().says(
            json!({"spec": {"strategy": {"type": "Blue"}}}),
            "spec.strategy: Unsupported value: {\"RollingUpdate\":null,\"Type\":\"Blue\"}: supported values: \
             \"Recreate\", \"RollingUpdate\"",
        );
    }

    #[test]
    fn update() {
        let check = |before: Value, after: Value, sub: &str, expect: &[&str]| {
            subject().updated(before, after, sub, expect)
        };
        check(json!({}), json!({"spec": {"replicas": 3}}), "", &[]);
        check(
            json!({}),
            json!({"spec": {"selector": {"matchLabels": {"c": "d"}}, "template": {"metadata": {"labels": {"c": "d"}}}}}),
            "",
            &["spec.selector: Invalid"],
        );
        check(json!({}), json!({"spec": {"replicas": -1}}), "scale", &["spec.replicas: Invalid"]);
        let status = |before: Value, after: Value, expect: &[&str]| {
            check(json!({"status": before}), json!({"status": after}), "status", expect);
        };
        status(
            json!({}),
            json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 1, "collisionCount": 2}),
            &[],
        );
        status(
            json!({}),
            json!({"replicas": -1, "observedGeneration": -1}),
            &[
                "status.observedGeneration: Invalid",
                "status.replicas: Invalid",
                "status.updatedReplicas: Invalid",
                "status.readyReplicas: Invalid",
                "status.availableReplicas: Invalid",
            ],
        );
        status(json!({}), json!({"replicas": 1, "updatedReplicas": 2}), &["status.updatedReplicas: Invalid"]);
        status(
            json!({}),
            json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2}),
            &["status.availableReplicas: Invalid"],
        );
        status(json!({}), json!({"terminatingReplicas": -1}), &["status.terminatingReplicas: Invalid"]);
    }

    #[test]
    fn collisions() {
        let old = json!({"status": {"collisionCount": 3}});
        for (count, faults) in [(json!(3), 0), (json!(4), 0), (json!(2), 1), (Value::Null, 1)] {
            let new = json!({"status": {"collisionCount": count}});
            let mut errors = ErrorList::new();
            validate_update(&new, &old, "status", &mut errors);
            assert_eq!(errors.len(), faults, "{count}");
        }
    }

    #[test]
    fn what_counts_as_a_change() {
        let generation = |after: Value, sub: &str| {
            subject().update(&json!({}), &after, sub).1["metadata"]["generation"].clone()
        };
        assert_eq!(generation(json!({"metadata": {"labels": {"x": "y"}}}), ""), 1);
        assert_eq!(generation(json!({"metadata": {"annotations": {"x": "y"}}}), ""), 2);
        assert_eq!(generation(json!({"metadata": {"annotations": {"x": "y"}}}), "status"), 1);
        let (_, new) = subject().update(&json!({}), &json!({"metadata": {"labels": {"x": "y"}}}), "status");
        assert_eq!(new["metadata"].get("labels"), None);
        subject().warns(
            json!({"metadata": {"name": "a.b"}}),
            &["metadata.name: this is used in Pod names and hostnames, \
            which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"],
        );
    }
}
