//! The group `autoscaling`: HorizontalPodAutoscaler in both its versions. Objects of `v1` are looked at as what
//! they say in `v2`, and their faults told with its names, as upstream does.

pub mod conversion;
mod metrics;

use std::borrow::Cow;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::quantity::Quantity;
use apimachinery::{field, names};
use serde_json::Value;

use crate::check::{int, items, messages, present, text};
use crate::strategy::{GENERIC, Strategy};
use crate::workload::{self, SPEC};

const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const AUTOSCALER: Strategy = Strategy {
        prepare_for_create: drop_annotations,
        prepare_for_update: |new, _, _| drop_annotations(new),
        validate: |object, errors| validate(&as_v2(object)["spec"], Rules::new(object, None), errors),
        validate_update,
        ..GENERIC
    };
    (kind == "HorizontalPodAutoscaler").then_some(&AUTOSCALER)
}

fn is_v1(object: &Value) -> bool {
    object["apiVersion"] == "autoscaling/v1"
}

fn as_v2(object: &Value) -> Cow<'_, Value> {
    if !is_v1(object) {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    conversion::to_v2(&mut object);
    Cow::Owned(object)
}

/// What `v1` says in annotations, `v2` says in fields, and takes no annotations for it.
fn drop_annotations(object: &mut Value) {
    if !is_v1(object) {
        conversion::drop_annotations(object);
    }
}

/// What depends on the object's past.
#[derive(Clone, Copy)]
struct Rules {
    min_replicas: i64,
    /// The version of what is scaled may be malformed, or without a group.
    target: Reference,
    object: Reference,
}

/// What the API version in a reference may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reference {
    WithGroup,
    Valid,
    Anything,
}

impl Rules {
    fn new(new: &Value, old: Option<&Value>) -> Rules {
        let target = |object: &Value, field: &str| text(&object["spec"]["scaleTargetRef"], field).to_owned();
        let same =
            |old: &Value| ["apiVersion", "kind"].iter().all(|field| target(old, field) == target(new, field));
        let bad_object = |old: &Value| {
            let metrics = items(&old["spec"], "metrics").iter();
            let mut objects =
                metrics.filter(|m| text(m, "type") == "Object" && present(m, "object").is_some());
            objects.any(|m| version_fault(&m["object"]["describedObject"], Reference::Valid).is_some())
        };
        Rules {
            // `HPAScaleToZero` is off in v1.36.
            min_replicas: i64::from(old.and_then(|old| int(&old["spec"], "minReplicas")) != Some(0)),
            target: match old {
                Some(old) if same(old) => Reference::Anything,
                _ if target(new, "kind") == "ReplicationController" => Reference::Valid,
                _ => Reference::WithGroup,
            },
            object: if old.is_some_and(bad_object) { Reference::Anything } else { Reference::Valid },
        }
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return workload::counts(&new["status"], &["currentReplicas", "desiredReplicas"], errors);
    }
    let (new, old) = (as_v2(new), as_v2(old));
    validate(&new["spec"], Rules::new(&new, Some(&old)), errors);
}

fn validate(spec: &Value, rules: Rules, errors: &mut ErrorList) {
    let (min, max) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    let at = SPEC.child("maxReplicas");
    if let Some(min) = min.filter(|min| *min < rules.min_replicas) {
        let why = format!("must be greater than or equal to {}", rules.min_replicas);
        errors.push(Error::invalid(&SPEC.child("minReplicas"), min, why));
    }
    if max == 0 {
        errors.push(Error::required(&at, "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(Error::invalid(&at, max, "must be greater than or equal to 1"));
    }
    if min.is_some_and(|min| max < min) {
        errors.push(Error::invalid(&at, max, "must be greater than or equal to `minReplicas`"));
    }
    reference(&spec["scaleTargetRef"], rules.target, &SPEC.child("scaleTargetRef"), errors);
    metrics::metrics(spec, rules.object, &SPEC.child("metrics"), errors);
    if let Some(behavior) = present(spec, "behavior") {
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = present(behavior, direction) {
                scaling(rules, &SPEC.child("behavior").child(direction), errors);
            }
        }
    }
}

/// Kind, name and API version of another object.
fn reference(reference: &Value, version: Reference, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["kind", "name"] {
        match text(reference, field) {
            "" => errors.push(Error::required(&path.child(field), "")),
            value => messages(names::is_path_segment_name(value), &value.into(), &path.child(field), errors),
        }
    }
    if let Some(why) = version_fault(reference, version) {
        errors.push(Error::invalid(&path.child("apiVersion"), text(reference, "apiVersion"), why));
    }
}

fn version_fault(reference: &Value, version: Reference) -> Option<String> {
    let given = text(reference, "apiVersion");
    let parts = given.split('/').count();
    match version {
        Reference::Anything => None,
        _ if parts > 2 => Some(format!("unexpected GroupVersion string: {given}")),
        Reference::WithGroup if parts < 2 || given.starts_with('/') => {
            Some("apiVersion must specify API group".to_owned())
        }
        _ => None,
    }
}

fn scaling(rules: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("stabilizationWindowSeconds");
    match int(rules, "stabilizationWindowSeconds") {
        Some(window) if window < 0 => {
            errors.push(Error::invalid(&at, window, "must be greater than or equal to zero"));
        }
        Some(window) if window > MAX_WINDOW => {
            errors.push(Error::invalid(&at, window, format!("must be less than or equal to {MAX_WINDOW}")));
        }
        _ => {}
    }
    if let Some(select) = present(rules, "selectPolicy").and_then(Value::as_str)
        && !matches!(select, "Disabled" | "Max" | "Min")
    {
        errors.push(Error::not_supported(&path.child("selectPolicy"), select, ["Disabled", "Max", "Min"]));
    }
    let (list, policies) = (path.child("policies"), items(rules, "policies"));
    if policies.is_empty() {
        errors.push(Error::required(&list, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = list.index(index);
        let kind = text(policy, "type");
        if !matches!(kind, "Percent" | "Pods") {
            errors.push(Error::not_supported(&at.child("type"), kind, ["Percent", "Pods"]));
        }
        for field in ["value", "periodSeconds"] {
            let value = int(policy, field).unwrap_or(0);
            if value <= 0 {
                errors.push(Error::invalid(&at.child(field), value, "must be greater than zero"));
            }
            if field == "periodSeconds" && value > MAX_PERIOD {
                let why = format!("must be less than or equal to {MAX_PERIOD}");
                errors.push(Error::invalid(&at.child(field), value, why));
            }
        }
    }
    if let Some(tolerance) = present(rules, "tolerance") {
        crate::check::quantity(tolerance, &path.child("tolerance"), errors);
    }
}

/// A quantity above zero.
fn positive(object: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(value) = present(object, name)
        && Quantity::from_value(value).is_ok_and(|quantity| quantity.sign() < 1)
    {
        errors.push(field::Error::invalid(&path.child(name), value.clone(), "must be positive"));
    }
}

#[cfg(test)]
mod tests;
