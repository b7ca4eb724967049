//! ResourceQuota.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::resources;
use crate::check::{entries, items, present, text};
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy =
    Strategy { returns_deleted: true, validate, validate_update, warnings, ..GENERIC };

fn validate(quota: &Value, errors: &mut ErrorList) {
    spec(&quota["spec"], errors);
    status(&quota["status"], errors);
}

fn amounts(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child(field);
    for (name, value) in entries(object, field) {
        resources::quota_name(name, &at.key(name), errors);
        resources::amount(name, value, &at.key(name), errors);
    }
}

fn spec(spec: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    amounts(spec, "hard", &path, errors);
    let mut seen = BTreeSet::new();
    let shown = || Value::Array(items(spec, "scopes").to_vec());
    let at = path.child("scopes");
    for scope in items(spec, "scopes") {
        let scope = scope.as_str().unwrap_or_default();
        if !is_scope(scope) {
            errors.push(Error::invalid(&at, shown(), "unsupported scope"));
        }
        for _ in unfit(spec, scope) {
            errors.push(Error::invalid(&at, shown(), "unsupported scope applied to resource"));
        }
        seen.insert(scope);
    }
    conflicts(&seen, &shown, &at, errors);
    if let Some(selector) = present(spec, "scopeSelector") {
        scope_selector(spec, selector, &path.child("scopeSelector"), errors);
    }
}

fn conflicts(seen: &BTreeSet<&str>, shown: &dyn Fn() -> Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (a, b) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if seen.contains(a) && seen.contains(b) {
            errors.push(Error::invalid(path, shown(), "conflicting scopes"));
        }
    }
}

fn is_scope(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "VolumeAttributesClass"
            | "CrossNamespacePodAffinity"
    )
}

/// The limited resources that the scope says nothing about.
fn unfit<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a str> {
    const COMPUTE: &[&str] =
        &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    entries(spec, "hard").map(|(name, _)| name.as_str()).filter(move |name| {
        let fits = match scope {
            "Terminating"
            | "NotTerminating"
            | "NotBestEffort"
            | "PriorityClass"
            | "CrossNamespacePodAffinity" => *name == "pods" || COMPUTE.contains(name),
            "BestEffort" => *name == "pods",
            "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(name),
            _ => true,
        };
        resources::is_standard_quota(name) && !fits
    })
}

fn scope_selector(spec: &Value, selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("matchExpressions");
    let mut seen = BTreeSet::new();
    for requirement in items(selector, "matchExpressions") {
        let (scope, operator) = (text(requirement, "scopeName"), text(requirement, "operator"));
        let values = items(requirement, "values");
        if !is_scope(scope) {
            errors.push(Error::invalid(&at.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in unfit(spec, scope) {
            errors.push(Error::invalid(&at, selector.clone(), "unsupported scope applied to resource"));
        }
        let valued = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if is_scope(scope) && !valued && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                       ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&at.child("operator"), operator, why));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&at.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Error::invalid(&at.child("values"), values.to_vec(), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(Error::invalid(&at.child("operator"), other, "not a valid selector operator"))
            }
        }
        seen.insert(scope);
    }
    let shown = || Value::Array(items(spec, "scopes").to_vec());
    conflicts(&seen, &shown, &at, errors);
}

fn status(status: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    amounts(status, "hard", &path, errors);
    amounts(status, "used", &path, errors);
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return status(&new["status"], errors);
    }
    spec(&new["spec"], errors);
    let scopes = |quota: &Value| -> BTreeSet<String> {
        items(&quota["spec"], "scopes")
            .iter()
            .map(|scope| scope.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    if scopes(new) != scopes(old) {
        let shown = items(&new["spec"], "scopes").to_vec();
        errors.push(Error::invalid(&Path::new("spec.scopes"), shown, "field is immutable"));
    }
}

/// Less limited than requested is likely a mistake.
fn warnings(quota: &Value, old: Option<&Value>, _subresource: &str) -> Vec<String> {
    let hard = &quota["spec"]["hard"];
    let amount = |name: &str| hard.get(name).and_then(|amount| Quantity::from_value(amount).ok());
    let mut warnings = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"].into_iter().filter(|_| old.is_none()) {
        let mut asked = format!("requests.{name}");
        let mut request = amount(&asked);
        if request.is_none() && matches!(name, "cpu" | "memory") {
            request = amount(name);
            asked = name.to_owned();
        }
        let limited = format!("limits.{name}");
        if let (Some(request), Some(limit)) = (request, amount(&limited))
            && request > limit
        {
            let (request, limit) = (request.canonical(), limit.canonical());
            warnings
                .push(format!("ResourceQuota {asked} ({request}) should be less than {limited} ({limit})"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::warnings;
    use crate::table::Table;
    use serde_json::json;

    /// Upstream's `TestValidateResourceQuota` and `TestValidateResourceQuotaUpdate`.
    #[test]
    fn quotas() {
        let table = Table::new(
            "",
            "v1",
            "ResourceQuota",
            json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": {
            "cpu": "100", "memory": "10000", "requests.cpu": "100", "requests.memory": "10000", "limits.cpu": "100",
            "limits.memory": "10000", "pods": "10", "services": "0", "count/deployments.apps": "4",
            "requests.nvidia.com/gpu": "4"}}}),
        );
        table.create(&[
            (json!({"spec": {"hard": {"cpu": "-100"}}}), &["spec.hard[cpu]: Invalid"]),
            (json!({"spec": {"hard": {"pods": "500m"}}}), &["spec.hard[pods]: Invalid"]),
            (json!({"spec": {"hard": {"storage": "1"}}}), &["spec.hard[storage]: Invalid"]),
            (
                json!({"spec": {"hard": {"unknown": "1"}}}),
                &["spec.hard[unknown]: Invalid", "spec.hard[unknown]: Invalid"],
            ),
        ]);
        let scoped = Table::new(
            "",
            "v1",
            "ResourceQuota",
            json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": {"pods": "1"}}}),
        );
        let spec = |spec: serde_json::Value| json!({"spec": spec});
        let unfit = "spec.scopes: Invalid";
        scoped.create(&[
            (spec(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})), &[]),
            (spec(json!({"hard": {"cpu": "1", "pods": "1"}, "scopes": ["Terminating"]})), &[]),
            (spec(json!({"scopes": ["unknown-scope"]})), &[unfit]),
            (spec(json!({"hard": {"services": "1"}, "scopes": ["Terminating"]})), &[unfit]),
            (spec(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]})), &[unfit]),
            (spec(json!({"hard": {"pods": "1"}, "scopes": ["Terminating", "NotTerminating"]})), &[unfit]),
            (spec(json!({"hard": {"pods": "1"}, "scopes": ["VolumeAttributesClass"]})), &[unfit]),
            (spec(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}})), &[]),
            (spec(json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}})),
                &["spec.scopeSelector.matchExpressions.values: Required"]),
            (spec(json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "Exists", "values": ["x"]}]}})),
                &["spec.scopeSelector.matchExpressions.values: Invalid"]),
            (spec(json!({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "In", "values": ["x"]}]}})),
                &["spec.scopeSelector.matchExpressions.operator: Invalid"]),
            (spec(json!({"scopeSelector": {"matchExpressions": [{"scopeName": "x", "operator": "y"}]}})), &[
                "spec.scopeSelector.matchExpressions.scopeName: Invalid",
                "spec.scopeSelector.matchExpressions.operator: Invalid"]),
        ]);
        table.update(&[
            (json!({"spec": {"hard": {"cpu": "1"}}}), &[]),
            (json!({"spec": {"hard": {"cpu": "-1"}}}), &["spec.hard[cpu]: Invalid"]),
            (json!({"spec": {"hard": null, "scopes": ["Terminating"]}}), &["spec.scopes: Invalid"]),
        ]);
        let none = json!({});
        table.change(&none, &json!({"status": {"hard": {"cpu": "1"}, "used": {"cpu": "1"}}}), "status", &[]);
        table.change(
            &none,
            &json!({"status": {"hard": {"x": "1"}, "used": {"pods": "-1"}}}),
            "status",
            &["status.hard[x]: Invalid", "status.hard[x]: Invalid", "status.used[pods]: Invalid"],
        );
    }

    #[test]
    fn less_limited_than_requested() {
        let quota = json!({"spec": {"hard": {"cpu": "2", "limits.cpu": "1", "requests.memory": "1", "limits.memory": "2"}}});
        assert_eq!(warnings(&quota, None, ""), ["ResourceQuota cpu (2) should be less than limits.cpu (1)"]);
    }
}
