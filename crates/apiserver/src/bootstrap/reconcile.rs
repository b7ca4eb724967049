//! What to do about an object of the bootstrap data that is there already. Pure; the rules for roles are
//! upstream's `component-helpers/auth/rbac/reconciliation`, those for aggregation its
//! `clusterroleaggregation` controller.

use apimachinery::labels::Selector;
use serde_json::{Map, Value};

use super::policy::AUTO_UPDATE;
use crate::authorization::rbac::{Rule, escalation};

/// The step to take.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Nothing,
    /// Writes this in its place.
    Update(Value),
    /// What differs cannot be changed: deletes it and makes it anew.
    Recreate,
}

/// What is there is good, whatever it says.
pub fn leave(_: &Value, _: &Value) -> Change {
    Change::Nothing
}

/// What is there must say all that is expected, and may say more.
pub fn contain(existing: &Value, expected: &Value) -> Change {
    if contains(existing, expected) {
        return Change::Nothing;
    }
    let mut new = existing.clone();
    merge(&mut new, expected);
    Change::Update(new)
}

/// A ServiceCIDR of one family may get a second one; all else is somebody's decision.
pub fn service_cidr(existing: &Value, expected: &Value) -> Change {
    let list = |object: &Value| object["spec"]["cidrs"].as_array().cloned().unwrap_or_default();
    let (own, wanted) = (list(existing), list(expected));
    if own.len() != 1 || wanted.len() != 2 || own.first() != wanted.first() {
        return Change::Nothing;
    }
    let mut new = existing.clone();
    new["spec"]["cidrs"] = wanted.into();
    Change::Update(new)
}

/// As [`contain`]; the family of an EndpointSlice cannot be changed.
pub fn endpoints(existing: &Value, expected: &Value) -> Change {
    match existing["addressType"] == expected["addressType"] {
        true => contain(existing, expected),
        false => Change::Recreate,
    }
}

/// As [`contain`], as long as nobody has turned updates off by annotation (KEP-1040).
pub fn automatic(existing: &Value, expected: &Value) -> Change {
    const KEY: &str = "apf.kubernetes.io/autoupdate-spec";
    let mandatory = matches!(expected["metadata"]["name"].as_str(), Some("exempt" | "catch-all"));
    if !mandatory && existing["metadata"]["annotations"][KEY] != "true" {
        return Change::Nothing;
    }
    contain(existing, expected)
}

fn contains(existing: &Value, expected: &Value) -> bool {
    match (existing, expected) {
        (Value::Object(own), Value::Object(wanted)) => {
            wanted.iter().all(|(k, v)| own.get(k).is_some_and(|o| contains(o, v)))
        }
        (Value::Array(own), Value::Array(wanted)) => {
            own.len() == wanted.len() && own.iter().zip(wanted).all(|(o, w)| contains(o, w))
        }
        (own, wanted) => own == wanted,
    }
}

fn merge(own: &mut Value, wanted: &Value) {
    match (own, wanted) {
        (Value::Object(own), Value::Object(wanted)) => {
            for (key, value) in wanted {
                match own.get_mut(key) {
                    Some(slot) => merge(slot, value),
                    None => drop(own.insert(key.clone(), value.clone())),
                }
            }
        }
        (own, wanted) => *own = wanted.clone(),
    }
}

/// Whether somebody has said that this object is theirs now.
fn is_protected(existing: &Value) -> bool {
    existing["metadata"]["annotations"][AUTO_UPDATE] == "false"
}

/// Labels and annotations that are missing are added; what is there stays as it is.
fn add_metadata(new: &mut Value, expected: &Value) -> bool {
    let mut changed = false;
    for field in ["labels", "annotations"] {
        for (key, value) in expected["metadata"][field].as_object().into_iter().flatten() {
            if new["metadata"][field].get(key).is_none() {
                if !new["metadata"][field].is_object() {
                    new["metadata"][field] = Value::Object(Map::new());
                }
                new["metadata"][field][key] = value.clone();
                changed = true;
            }
        }
    }
    changed
}

/// Rules that are missing are added, none is taken away.
pub fn role(existing: &Value, expected: &Value) -> Change {
    if is_protected(existing) {
        return Change::Nothing;
    }
    let mut new = existing.clone();
    let mut changed = add_metadata(&mut new, expected);
    let missing = escalation::missing(&Rule::list(existing), &Rule::list(expected));
    if !missing.is_empty() {
        let mut rules = new["rules"].as_array().cloned().unwrap_or_default();
        rules.extend(missing.iter().map(Rule::to_value));
        new["rules"] = rules.into();
        changed = true;
    }
    let wanted = expected["aggregationRule"]["clusterRoleSelectors"].as_array();
    for selector in wanted.into_iter().flatten() {
        let mut selectors =
            new["aggregationRule"]["clusterRoleSelectors"].as_array().cloned().unwrap_or_default();
        if !selectors.contains(selector) {
            selectors.push(selector.clone());
            new["aggregationRule"] = serde_json::json!({ "clusterRoleSelectors": selectors });
            changed = true;
        }
    }
    if changed { Change::Update(new) } else { Change::Nothing }
}

/// Subjects that are missing are added; another role means another binding.
pub fn binding(existing: &Value, expected: &Value) -> Change {
    if is_protected(existing) {
        return Change::Nothing;
    }
    if existing["roleRef"] != expected["roleRef"] {
        return Change::Recreate;
    }
    let mut new = existing.clone();
    let mut changed = add_metadata(&mut new, expected);
    let mut subjects = new["subjects"].as_array().cloned().unwrap_or_default();
    for subject in expected["subjects"].as_array().into_iter().flatten() {
        if !subjects.contains(subject) {
            subjects.push(subject.clone());
            changed = true;
        }
    }
    if !changed {
        return Change::Nothing;
    }
    if !subjects.is_empty() {
        new["subjects"] = subjects.into();
    }
    Change::Update(new)
}

/// The aggregated cluster roles whose rules are not the sum of the roles that they select, with the rules that
/// they should have. A sum may be a part of another sum.
pub fn aggregate(roles: &[Value]) -> Vec<Value> {
    let mut now: Vec<Value> = roles.to_vec();
    now.sort_by(|a, b| a["metadata"]["name"].as_str().cmp(&b["metadata"]["name"].as_str()));
    // Sums of sums settle in as many rounds as they are deep.
    for _ in 0..now.len() {
        let mut changed = false;
        for at in 0..now.len() {
            let Some(rules) = sum(&now, at) else { continue };
            if now[at]["rules"].as_array().map(Vec::as_slice).unwrap_or_default() != rules {
                now[at]["rules"] = rules.into();
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    now.into_iter()
        .filter(|role| {
            !roles
                .iter()
                .any(|r| r["metadata"]["name"] == role["metadata"]["name"] && r["rules"] == role["rules"])
        })
        .collect()
}

/// The rules that a role should have; `None` for one that is no sum.
fn sum(roles: &[Value], at: usize) -> Option<Vec<Value>> {
    let role = roles.get(at)?;
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors.iter().filter_map(|s| Selector::of_value(s).ok()) {
        for part in roles.iter().filter(|r| r["metadata"]["name"] != role["metadata"]["name"]) {
            if !selector.matches_object(part) {
                continue;
            }
            for rule in part["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(verbs: &[&str]) -> Value {
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": verbs})
    }

    #[test]
    fn roles() {
        let expected = json!({"metadata": {"labels": {"a": "b"}, "annotations": {AUTO_UPDATE: "true"}},
            "rules": [rule(&["get", "list"])]});
        let with = |rules: Value, auto: &str| json!({"metadata": {"labels": {"a": "own"}, "annotations": {AUTO_UPDATE: auto}}, "rules": rules});
        let table = [
            (with(json!([rule(&["get", "list", "watch"])]), "true"), Change::Nothing),
            (with(json!([rule(&["*"])]), "true"), Change::Nothing),
            (with(json!(null), "false"), Change::Nothing),
            (
                with(json!([rule(&["get"])]), "true"),
                Change::Update(with(json!([rule(&["get"]), rule(&["list"])]), "true")),
            ),
        ];
        for (existing, change) in table {
            assert_eq!(role(&existing, &expected), change, "{existing}");
        }
    }

    #[test]
    fn bindings() {
        let subject = |name: &str| json!({"kind": "User", "name": name});
        let with = |role: &str, subjects: Value| json!({"metadata": {}, "roleRef": {"name": role}, "subjects": subjects});
        let expected = with("r", json!([subject("a")]));
        let table = [
            (with("r", json!([subject("b"), subject("a")])), Change::Nothing),
            (
                with("r", json!([subject("b")])),
                Change::Update(with("r", json!([subject("b"), subject("a")]))),
            ),
            (with("other", json!([subject("a")])), Change::Recreate),
        ];
        for (existing, change) in table {
            assert_eq!(binding(&existing, &expected), change, "{existing}");
        }
    }

    #[test]
    fn sums_of_sums() {
        let sum_of = |name: &str, label: &str, labels: Value, rules: Value| {
            json!({"metadata": {"name": name, "labels": labels}, "rules": rules,
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}})
        };
        let part = |name: &str, label: &str, rules: Value| json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules});
        let roles = [
            sum_of("admin", "to-admin", json!({}), json!(null)),
            sum_of("edit", "to-edit", json!({"to-admin": "true"}), json!([])),
            part("x-edit", "to-edit", json!([rule(&["update"]), rule(&["get"])])),
            part("x-admin", "to-admin", json!([rule(&["delete"]), rule(&["get"])])),
            part("unrelated", "to-nowhere", json!([rule(&["escalate"])])),
        ];
        let changed = aggregate(&roles);
        let rules = |name: &str| &changed.iter().find(|r| r["metadata"]["name"] == name).unwrap()["rules"];
        assert_eq!(changed.len(), 2);
        assert_eq!(*rules("edit"), json!([rule(&["update"]), rule(&["get"])]));
        assert_eq!(*rules("admin"), json!([rule(&["update"]), rule(&["get"]), rule(&["delete"])]));
        // What is right is left alone.
        let mut again: Vec<Value> = roles[2..].to_vec();
        again.extend(changed);
        assert_eq!(aggregate(&again), Vec::<Value>::new());
    }

    #[test]
    fn containing() {
        let table = [
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1}}), Change::Nothing),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": 3}}),
                Change::Update(json!({"a": {"b": 3, "c": 2}})),
            ),
            (json!({"a": [1, 2]}), json!({"a": [1]}), Change::Update(json!({"a": [1]}))),
            (json!({}), json!({"a": 1}), Change::Update(json!({"a": 1}))),
        ];
        for (existing, expected, change) in table {
            assert_eq!(contain(&existing, &expected), change);
        }
    }
}
