//! LimitRange.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::resources;
use crate::check::{entries, items, qualified, text};
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    allow_create_on_update: true,
    validate,
    validate_update: |new, _, _, errors| validate(new, errors),
    ..GENERIC
};

/// Amounts above this do not fit in an `i64` as thousandths.
const MAX_MILLI: i64 = i64::MAX / 1000;

type Amounts = BTreeMap<String, Quantity>;

fn validate(range: &Value, errors: &mut ErrorList) {
    let spec = Path::new("spec");
    let list = spec.child("limits");
    let mut seen = BTreeSet::new();
    for (index, limit) in items(&range["spec"], "limits").iter().enumerate() {
        let at = list.index(index);
        let kind = text(limit, "type");
        type_name(kind, &at.child("type"), errors);
        if !seen.insert(kind) {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
        item(limit, kind, &at, errors);
    }
}

fn type_name(kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let before = errors.len();
    qualified(kind, path, errors);
    let standard = ["Container", "PersistentVolumeClaim", "Pod"].contains(&kind);
    if errors.len() == before && !kind.contains('/') && !standard {
        errors.push(Error::invalid(path, kind, "must be a standard limit type or fully qualified"));
    }
}

fn item(limit: &Value, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let mut keys = BTreeSet::new();
    let mut amounts = |field: &str, errors: &mut ErrorList| -> Amounts {
        let at = path.child(field);
        let mut amounts = Amounts::new();
        for (name, amount) in entries(limit, field) {
            resources::limit_name(kind, name, &at.key(name), errors);
            keys.insert(name.clone());
            if let Ok(amount) = Quantity::from_value(amount) {
                amounts.insert(name.clone(), amount);
            }
        }
        amounts
    };
    let max = amounts("max", errors);
    let min = amounts("min", errors);
    let (mut default, mut request) = (Amounts::new(), Amounts::new());
    if kind == "Pod" {
        for field in ["default", "defaultRequest"] {
            if entries(limit, field).next().is_some() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(Error::forbidden(&path.child(field), why));
            }
        }
    } else {
        default = amounts("default", errors);
        request = amounts("defaultRequest", errors);
    }
    if kind == "PersistentVolumeClaim" && !min.contains_key("storage") && !max.contains_key("storage") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&path.child("limits"), why));
    }
    let ratio = amounts("maxLimitRequestRatio", errors);
    for key in keys {
        let of = |amounts: &'_ Amounts| amounts.get(&key).cloned();
        let all = [of(&min), of(&max), of(&default), of(&request), of(&ratio)];
        related(&key, all, path, errors);
    }
}

/// How the amounts of one resource stand to each other.
fn related(key: &str, all: [Option<Quantity>; 5], path: &Path<'_>, errors: &mut ErrorList) {
    let [min, max, default, request, ratio] = &all;
    let mut above =
        |low: &Option<Quantity>, high: &Option<Quantity>, field: &str, shown_low: bool, texts: [&str; 2]| {
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let (a, b) = (low.canonical(), high.canonical());
                let why = format!("{} {a} is greater than {} {b}", texts[0], texts[1]);
                let at = path.child(field);
                errors.push(Error::invalid(&at.key(key), if shown_low { a } else { b }, why));
            }
        };
    above(min, max, "min", true, ["min value", "max value"]);
    above(min, request, "defaultRequest", false, ["min value", "default request value"]);
    above(request, max, "defaultRequest", true, ["default request value", "max value"]);
    above(request, default, "defaultRequest", true, ["default request value", "default limit value"]);
    above(min, default, "default", true, ["min value", "default value"]);
    above(default, max, "default", false, ["default value", "max value"]);
    if let Some(ratio) = ratio {
        let at = path.child("maxLimitRequestRatio");
        let shown = ratio.canonical();
        if *ratio < Quantity::new(1, ratio.format()) {
            errors.push(Error::invalid(&at.key(key), shown.clone(), format!("ratio {shown} is less than 1")));
        }
        if let (Some(min), Some(max)) = (min, max) {
            let most = most_ratio(ratio, min, max);
            if let Some(most) = most {
                let why = format!("ratio {shown} is greater than max/min = {most}");
                errors.push(Error::invalid(&at.key(key), shown, why));
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !resources::is_overcommit_allowed(key)
        && default != request
    {
        let (a, b) = (default.canonical(), request.canonical());
        let why = format!("default value {a} must equal to defaultRequest value {b} in {key}");
        let at = path.child("defaultRequest");
        errors.push(Error::invalid(&at.key(key), b, why));
    }
}

/// `max / min` as text, if the ratio is more than that.
fn most_ratio(ratio: &Quantity, min: &Quantity, max: &Quantity) -> Option<String> {
    let fits = [ratio, min, max].iter().all(|amount| amount.value() < MAX_MILLI);
    let (ratio, min, max) = match fits {
        true => (ratio.milli_value() as f64 / 1000.0, min.milli_value(), max.milli_value()),
        false => (ratio.value() as f64, min.value(), max.value()),
    };
    let most = max as f64 / min as f64;
    (ratio > most).then(|| format!("{most:.6}"))
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::json;

    /// Upstream's `TestValidateLimitRangeForLocalStorage`, `TestValidateLimitRange`.
    #[test]
    fn limits() {
        let table = Table::new(
            "",
            "v1",
            "LimitRange",
            json!({"metadata": {"name": "l", "namespace": "n"}, "spec": {"limits": [
            {"type": "Pod", "max": {"cpu": "100m", "memory": "10000Mi"}, "min": {"cpu": "5m", "memory": "100Mi"},
             "maxLimitRequestRatio": {"cpu": "10"}},
            {"type": "Container", "max": {"cpu": "100m", "storage.example.com/x": "2"}, "min": {"cpu": "5m"},
             "default": {"cpu": "50m"}, "defaultRequest": {"cpu": "10m"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}, "min": {"storage": "5Gi"}},
            {"type": "example.com/thing", "max": {"cpu": "1"}}]}}),
        );
        let one = |limit: serde_json::Value| json!({"spec": {"limits": [limit]}});
        table.create(&[
            (json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}}), &["spec.limits[1].type: Duplicate"]),
            (one(json!({"type": "invalid"})), &["spec.limits[0].type: Invalid"]),
            (one(json!({"type": "Container", "max": {"storage": "1"}})), &[
                "spec.limits[0].max[storage]: Invalid",
                "spec.limits[0].default[storage]: Invalid",
                "spec.limits[0].defaultRequest[storage]: Invalid"]),
            (one(json!({"type": "Pod", "max": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}})), &[
                "spec.limits[0].default: Forbidden", "spec.limits[0].defaultRequest: Forbidden"]),
            (one(json!({"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}})), &["spec.limits[0].min[cpu]: Invalid"]),
            (one(json!({"type": "Container", "max": {"cpu": "10m"}, "min": {"cpu": "5m"}, "defaultRequest": {"cpu": "1m"}})),
                &["spec.limits[0].defaultRequest[cpu]: Invalid"]),
            (one(json!({"type": "Container", "max": {"cpu": "10m"}, "defaultRequest": {"cpu": "11m"}})), &[
                "spec.limits[0].defaultRequest[cpu]: Invalid", "spec.limits[0].defaultRequest[cpu]: Invalid"]),
            (one(json!({"type": "Container", "max": {"cpu": "10m"}, "default": {"cpu": "20m"}})), &[
                "spec.limits[0].defaultRequest[cpu]: Invalid", "spec.limits[0].default[cpu]: Invalid"]),
            (one(json!({"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "3"}})),
                &["spec.limits[0].maxLimitRequestRatio[cpu]: Invalid"]),
            (one(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "900m"}})),
                &["spec.limits[0].maxLimitRequestRatio[cpu]: Invalid"]),
            (one(json!({"type": "PersistentVolumeClaim"})), &["spec.limits[0].limits: Required"]),
            (one(json!({"type": "Container", "default": {"a.b/c": "2"}, "defaultRequest": {"a.b/c": "1"}})),
                &["spec.limits[0].defaultRequest[a.b/c]: Invalid"]),
        ]);
        table.update(&[(one(json!({"type": "invalid"})), &["spec.limits[0].type: Invalid"])]);
    }
}
