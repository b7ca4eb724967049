//! ReplicaSet.

use apimachinery::field::ErrorList;
use serde_json::Value;

use crate::check::not_negative;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::{self, SPEC, TEMPLATE};

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    prepare_for_create: |new| workload::drop_disabled(new, &Value::Null, TEMPLATE),
    prepare_for_update: |new, old, _| workload::drop_disabled(new, old, TEMPLATE),
    validate: |object, errors| validate(&object["spec"], &Value::Null, errors),
    validate_update,
    warnings: workload::replica_warnings,
    ..GENERIC
};

fn validate(spec: &Value, old: &Value, errors: &mut ErrorList) {
    not_negative(spec, "replicas", &SPEC, errors);
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    // Upstream says "deployment" here too.
    workload::required_selector(spec, "deployment", &SPEC, errors);
    workload::replica_template(spec, old, &SPEC, errors);
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return workload::replica_status(&new["status"], errors);
    }
    validate(&new["spec"], &old["spec"], errors);
    workload::fixed_selector(new, old, errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    /// `TestValidateReplicaSet`, `TestValidateReplicaSetUpdate`, `TestValidateReplicaSetStatus`
    #[test]
    fn replica_set() {
        let good = json!({
            "metadata": {"name": "r", "namespace": "n"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        });
        let subject = Subject { group: "apps", version: "v1", kind: "ReplicaSet", good };
        let check = |spec: Value, expect: &[&str]| subject.created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(
            json!({"replicas": -1, "minReadySeconds": -1}),
            &["spec.replicas: Invalid", "spec.minReadySeconds: Invalid"],
        );
        check(
            json!({"selector": null}),
            &["spec.selector: Required", "spec.template.metadata.labels: Invalid"],
        );
        check(
            json!({"selector": {"matchLabels": {"foo": "bar"}}}),
            &["spec.template.metadata.labels: Invalid"],
        );
        check(
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            &["spec.template.spec.restartPolicy: NotSupported"],
        );
        check(
            json!({"template": {"metadata": {"labels": {"a": "b", "X/": "b"}}}}),
            &["spec.template.labels: Invalid"],
        );
        let status = |status: Value, expect: &[&str]| {
            subject.updated(json!({}), json!({"status": status}), "status", expect)
        };
        status(
            json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1}),
            &[],
        );
        status(json!({"replicas": 3, "fullyLabeledReplicas": 4}), &["status.fullyLabeledReplicas: Invalid"]);
        status(
            json!({"replicas": 3, "readyReplicas": -1}),
            &["status.readyReplicas: Invalid", "status.availableReplicas: Invalid"],
        );
        status(json!({"replicas": 3, "readyReplicas": 4}), &["status.readyReplicas: Invalid"]);
        status(json!({"replicas": 3, "observedGeneration": -1}), &["status.observedGeneration: Invalid"]);
        status(json!({"replicas": 3, "terminatingReplicas": -1}), &["status.terminatingReplicas: Invalid"]);
        subject.updated(
            json!({}),
            json!({"spec": {"selector": {"matchLabels": {"a": "b", "c": "d"}}, "template": {"metadata": {"labels": {"c": "d"}}}}}),
            "",
            &["spec.selector: Invalid"],
        );
    }
}
