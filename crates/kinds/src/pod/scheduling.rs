//! Which nodes a pod accepts and which accept it: tolerations and node affinity (upstream's
//! `component-helpers/scheduling/corev1`). Shared by the scheduler, the controllers and the kubelet.

use std::collections::BTreeMap;

use api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether the toleration tolerates the taint. An empty key with `Exists` tolerates everything; an empty effect
/// matches every effect.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value) && !key.is_empty(),
        "Exists" => true,
        _ => false,
    }
}

/// The first taint of the given effects that no toleration tolerates.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether the node satisfies `nodeSelector` and the required node affinity.
pub fn accepts_node(spec: &PodSpec, labels: Option<&Labels>, node_name: &str) -> bool {
    let has = |key: &String, value: &String| labels.and_then(|labels| labels.get(key)) == Some(value);
    if !spec.node_selector.iter().flatten().all(|(key, value)| has(key, value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    match affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
    {
        Some(required) => selector_matches(required, labels, node_name),
        None => true,
    }
}

/// A node selector matches when one of its terms does; without terms it matches nothing.
pub fn selector_matches(selector: &NodeSelector, labels: Option<&Labels>, node_name: &str) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, labels, node_name))
}

/// A term matches when all its requirements do; an empty term matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, labels: Option<&Labels>, node_name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then_some(node_name);
    expressions.iter().all(|requirement| requirement_matches(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| requirement_matches(requirement, field(&requirement.key)))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let compare = |wanted: std::cmp::Ordering| {
        let number = |text: &str| text.parse::<i64>().ok();
        let limit = values.first().and_then(|limit| number(limit));
        value.and_then(number).zip(limit).is_some_and(|(value, limit)| value.cmp(&limit) == wanted)
    };
    match requirement.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(std::cmp::Ordering::Greater),
        "Lt" => compare(std::cmp::Ordering::Less),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations() {
        let check = |toleration: serde_json::Value, taint: (&str, &str, &str), expect: bool| {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).unwrap();
            let taint = Taint {
                key: taint.0.into(),
                value: Some(taint.1.into()),
                effect: taint.2.into(),
                time_added: None,
            };
            assert_eq!(tolerates(&parsed, &taint), expect, "{toleration} {taint:?}");
        };
        let taint = ("dedicated", "gpu", "NoSchedule");
        check(json!({"operator": "Exists"}), taint, true);
        check(json!({"key": "dedicated", "operator": "Exists"}), taint, true);
        check(json!({"key": "other", "operator": "Exists"}), taint, false);
        check(json!({"key": "dedicated", "value": "gpu"}), taint, true);
        check(json!({"key": "dedicated", "operator": "Equal", "value": "cpu"}), taint, false);
        check(json!({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}), taint, false);
        check(json!({}), ("", "", "NoSchedule"), false);
    }

    #[test]
    fn affinity() {
        let labels: Labels = [("zone", "a"), ("cores", "8")].map(|(k, v)| (k.into(), v.into())).into();
        let check = |spec: serde_json::Value, expect: bool| {
            let mut whole = json!({"containers": []});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let parsed: PodSpec = serde_json::from_value(whole).unwrap();
            assert_eq!(accepts_node(&parsed, Some(&labels), "n1"), expect, "{spec}");
        };
        let required = |terms: serde_json::Value| {
            json!({"affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        let one = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), true);
        check(json!({"nodeSelector": {"zone": "a"}}), true);
        check(json!({"nodeSelector": {"zone": "b"}}), false);
        check(required(json!([])), false);
        check(required(json!([{}])), false);
        check(required(json!([one("zone", "In", &["a", "b"])])), true);
        check(required(json!([one("zone", "NotIn", &["a"])])), false);
        check(required(json!([one("none", "NotIn", &["a"])])), true);
        check(required(json!([one("none", "Exists", &[]), one("zone", "Exists", &[])])), true);
        check(required(json!([one("none", "DoesNotExist", &[])])), true);
        check(required(json!([one("cores", "Gt", &["7"])])), true);
        check(required(json!([one("cores", "Lt", &["8"])])), false);
        check(required(json!([one("zone", "Gt", &["1"])])), false);
        let field = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]);
        check(required(field), true);
    }
}
