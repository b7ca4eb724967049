//! The group `policy`: PodDisruptionBudget. Evictions are a subresource of pods and nowhere stored.

use apimachinery::field::{Error, ErrorList};
use serde_json::{Value, json};

use crate::check::{items, one_of_if_set, present};
use crate::meta;
use crate::strategy::{GENERIC, Strategy, path_segment};
use crate::workload::{self, SPEC, STATUS, at_most_all, int_or_percent};

const BUDGET: Strategy = Strategy {
    // Upstream asks nothing more of the name.
    name: path_segment,
    generation: true,
    allow_unconditional_update: false,
    validate: |budget, errors| validate(&budget["spec"], false, errors),
    validate_update,
    ..GENERIC
};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    (kind == "PodDisruptionBudget").then_some(&BUDGET)
}

fn validate(spec: &Value, lenient_selector: bool, errors: &mut ErrorList) {
    const AMOUNTS: [&str; 2] = ["minAvailable", "maxUnavailable"];
    if AMOUNTS.iter().all(|field| present(spec, field).is_some()) {
        // The names are those of upstream's internal type.
        let value = json!({
            "MinAvailable": spec.get("minAvailable"),
            "Selector": spec.get("selector"),
            "MaxUnavailable": spec.get("maxUnavailable"),
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        });
        errors.push(Error::invalid(&SPEC, value, "minAvailable and maxUnavailable cannot be both set"));
    }
    for field in AMOUNTS {
        int_or_percent(spec, field, &SPEC, errors);
        at_most_all(spec, field, &SPEC, errors);
    }
    meta::selector(&spec["selector"], lenient_selector, &SPEC.child("selector"), errors);
    let at = SPEC.child("unhealthyPodEvictionPolicy");
    one_of_if_set(spec.get("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"], &at, errors);
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        let status = &new["status"];
        meta::conditions(items(status, "conditions"), &STATUS.child("conditions"), errors);
        let fields = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        return workload::counts(status, &fields, errors);
    }
    validate(&new["spec"], !meta::selector_is_good(&old["spec"]["selector"]), errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Subject;

    /// `TestValidatePodDisruptionBudgetSpec`, `TestValidatePodDisruptionBudgetStatus`
    #[test]
    fn budgets() {
        let good = json!({"metadata": {"name": "b", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"a": "b"}}}});
        let subject = Subject { group: "policy", version: "v1", kind: "PodDisruptionBudget", good };
        let check = |spec: Value, expect: &[&str]| subject.created(json!({"spec": spec}), expect);
        for good in [json!("0%"), json!("1%"), json!("100%"), json!(0), json!(1), json!(100)] {
            check(json!({"minAvailable": good}), &[]);
            check(json!({"maxUnavailable": good}), &[]);
        }
        for bad in [json!("1.1%"), json!("nope"), json!("-1%"), json!("101%"), json!(-1)] {
            check(json!({"minAvailable": bad}), &["spec.minAvailable: Invalid"]);
            check(json!({"maxUnavailable": bad}), &["spec.maxUnavailable: Invalid"]);
        }
        check(json!({"minAvailable": "10%", "maxUnavailable": 1}), &["spec: Invalid"]);
        check(json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}), &[]);
        check(
            json!({"unhealthyPodEvictionPolicy": "Invalid"}),
            &["spec.unhealthyPodEvictionPolicy: NotSupported"],
        );
        let odd = json!({"spec": {"selector": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["-x"]}]}}});
        subject.created(odd.clone(), &["spec.selector.matchExpressions[0].values[0]: Invalid"]);
        subject.updated(odd.clone(), json!({"spec": {"minAvailable": 1}}), "", &[]);
        subject.updated(json!({}), odd, "", &["spec.selector.matchExpressions[0].values[0]: Invalid"]);
        let status = |status: Value, expect: &[&str]| {
            subject.updated(json!({}), json!({"status": status}), "status", expect)
        };
        status(
            json!({"disruptionsAllowed": 5, "currentHealthy": 5, "desiredHealthy": 3, "expectedPods": 5}),
            &[],
        );
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            status(json!({field: -5}), &[&format!("status.{field}: Invalid")]);
        }
        let condition = json!({"type": "Abc", "status": "True", "reason": "abc", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        status(json!({"conditions": [condition]}), &[]);
        status(
            json!({"conditions": [condition, condition, {"type": "B", "status": "?", "reason": ""}]}),
            &[
                "status.conditions[1].type: Duplicate",
                "status.conditions[2].status: NotSupported",
                "status.conditions[2].lastTransitionTime: Required",
                "status.conditions[2].reason: Required",
            ],
        );
    }
}
