//! What the kinds that make pods have in common: a selector and a template, numbers and percentages, counts in a
//! status. And ReplicationController.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::{LabelSelector, Selector};
use apimachinery::names;
use serde_json::Value;

use crate::check::{immutable, int, messages, not_negative, present, text};
use crate::core::pod;
use crate::meta;

pub const SPEC: Path<'static> = Path::new("spec");
pub const STATUS: Path<'static> = Path::new("status");
/// Where most kinds keep their pod template.
pub const TEMPLATE: &str = "/spec/template";

/// Whether an expression of a stored selector has a value that new selectors may not have (upstream's
/// `LabelSelectorHasInvalidLabelValue`).
pub fn has_invalid_value(value: &Value) -> bool {
    let expressions = LabelSelector::from_value(value).and_then(|selector| selector.match_expressions);
    let values =
        expressions.into_iter().flatten().flat_map(|expression| expression.values.unwrap_or_default());
    values.into_iter().any(|value| !names::is_label_value(&value).is_empty())
}

/// A selector that is there and selects by something.
pub fn required_selector(spec: &Value, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("selector");
    let Some(value) = present(spec, "selector") else {
        errors.push(Error::required(&at, ""));
        return;
    };
    meta::selector(value, false, &at, errors);
    not_empty(value, what, &at, errors);
}

pub fn not_empty(value: &Value, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if LabelSelector::from_value(value).is_some_and(|selector| selector.is_empty()) {
        errors.push(Error::invalid(path, value.clone(), format!("empty selector is invalid for {what}")));
    }
}

/// Pods made from the template must be selected.
pub fn labels_match(spec: &Value, selector: &Selector, path: &Path<'_>, errors: &mut ErrorList) {
    let labels = &spec["template"]["metadata"]["labels"];
    if !selector.matches_json(labels.as_object()) {
        let why = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&path.child("template.metadata.labels"), labels.clone(), why));
    }
}

/// The pod template in a spec. What the old one had, where there is one (`old` is null for a new object), is
/// forgiven.
pub fn template(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    pod::validate::template_update(&spec["template"], &old["template"], &path.child("template"), errors);
}

/// Takes what belongs to features that are off out of the pod template at a JSON pointer, unless the old one has
/// it.
pub fn drop_disabled(new: &mut Value, old: &Value, pointer: &str) {
    if let Some(template) = new.pointer_mut(pointer).filter(|template| template.is_object()) {
        pod::disabled::template(template, old.pointer(pointer).unwrap_or(&Value::Null));
    }
}

/// What is warned of in the template at a JSON pointer, `path` being the same place in words: of new objects, and
/// where a change raised the generation.
pub fn template_warnings(new: &Value, old: Option<&Value>, pointer: &str, path: &str) -> Vec<String> {
    let same = old.is_some_and(|old| old["metadata"]["generation"] == new["metadata"]["generation"]);
    let template = new.pointer(pointer).filter(|_| !same);
    template.map(|template| pod::warnings::template(template, &Path::new(path))).unwrap_or_default()
}

/// The template of a Deployment or ReplicaSet.
pub fn replica_template(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match Selector::of_value(&spec["selector"]) {
        Err(_) => {
            let value = spec["selector"].clone();
            errors.push(Error::invalid(&path.child("selector"), value, "invalid label selector"));
        }
        Ok(selector) => {
            if !selector.is_everything() {
                labels_match(spec, &selector, path, errors);
            }
            template(spec, old, path, errors);
            always(spec, "ReplicaSet", path, errors);
        }
    }
}

/// Controllers that keep pods running take no other restart policy.
pub fn always(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let pod = &spec["template"]["spec"];
    let policy = text(pod, "restartPolicy");
    if policy != "Always" {
        errors.push(Error::not_supported(&path.child("template.spec.restartPolicy"), policy, ["Always"]));
    }
    if present(pod, "activeDeadlineSeconds").is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&path.child("template.spec.activeDeadlineSeconds"), why));
    }
}

/// A number or a percentage, not negative.
pub fn int_or_percent(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    match object.get(field) {
        Some(value @ Value::String(percent)) => {
            messages(names::is_percent(percent), value, &path.child(field), errors);
        }
        Some(Value::Number(_)) => not_negative(object, field, path, errors),
        _ => {}
    }
}

fn percent(object: &Value, field: &str) -> Option<i64> {
    let percent = object.get(field)?.as_str().filter(|text| names::is_percent(text).is_empty())?;
    Some(percent.trim_end_matches('%').parse().unwrap_or(i64::MAX))
}

/// The number in a number or percentage; 0 for what is neither.
pub fn amount(object: &Value, field: &str) -> i64 {
    percent(object, field).unwrap_or_else(|| match object.get(field) {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(number) => number.as_i64().unwrap_or(0),
        None => 0,
    })
}

pub fn at_most_all(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if percent(object, field).is_some_and(|percent| percent > 100) {
        let value = object[field].clone();
        errors.push(Error::invalid(&path.child(field), value, "must not be greater than 100%"));
    }
}

/// The selector says which pods are whose: it never changes.
pub fn fixed_selector(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable(&new["spec"]["selector"], &old["spec"]["selector"], &SPEC.child("selector"), errors);
}

/// Counts in a status are not negative.
pub fn counts(status: &Value, fields: &[&str], errors: &mut ErrorList) {
    for field in fields {
        not_negative(status, field, &STATUS, errors);
    }
}

/// Parts of a count are not more than the whole: `(part, whole)`.
pub fn parts(status: &Value, pairs: &[(&str, &str)], why: &str, errors: &mut ErrorList) {
    for (part, whole) in pairs {
        let value = int(status, part).unwrap_or(0);
        if value > int(status, whole).unwrap_or(0) {
            errors.push(Error::invalid(&STATUS.child(part), value, why));
        }
    }
}

/// Names of things that collided are not used again.
pub fn collisions(new: &Value, old: &Value, errors: &mut ErrorList) {
    let count = |object: &Value| int(&object["status"], "collisionCount");
    if count(old).is_some_and(|before| count(new).is_none_or(|now| now < before)) {
        let value = count(new).unwrap_or(0);
        errors.push(Error::invalid(&STATUS.child("collisionCount"), value, "cannot be decremented"));
    }
}

/// Pods are named after what makes them, and their host after them.
pub fn name_warning(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        pod::warnings::host_name(text(&new["metadata"], "name"), "Pod names and hostnames", &mut warnings);
    }
    warnings
}

/// What is warned of in a Deployment or ReplicaSet.
pub fn replica_warnings(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    let mut warnings = name_warning(new, old);
    if subresource != "status" {
        warnings.extend(template_warnings(new, old, TEMPLATE, "spec.template"));
    }
    warnings
}

/// One more than before, however often it is said.
pub fn next_generation(new: &mut Value, old: &Value) {
    let before = int(&old["metadata"], "generation").unwrap_or(0);
    new["metadata"]["generation"] = (before + 1).into();
}

/// The counts of a ReplicaSet or ReplicationController.
pub fn replica_status(status: &Value, errors: &mut ErrorList) {
    let whole = "cannot be greater than status.replicas";
    counts(
        status,
        &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
        errors,
    );
    counts(status, &["terminatingReplicas"], errors);
    for part in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        parts(status, &[(part, "replicas")], whole, errors);
    }
    parts(status, &[("availableReplicas", "readyReplicas")], "cannot be greater than readyReplicas", errors);
}

pub fn replication_controller(object: &Value, errors: &mut ErrorList) {
    controller(&object["spec"], &Value::Null, errors);
}

fn controller(spec: &Value, old: &Value, errors: &mut ErrorList) {
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    let selector = spec["selector"].as_object();
    if selector.is_none_or(serde_json::Map::is_empty) {
        errors.push(Error::required(&SPEC.child("selector"), ""));
    }
    match int(spec, "replicas") {
        None => errors.push(Error::required(&SPEC.child("replicas"), "")),
        Some(_) => not_negative(spec, "replicas", &SPEC, errors),
    }
    if present(spec, "template").is_none() {
        errors.push(Error::required(&SPEC.child("template"), ""));
        return;
    }
    let pairs = selector.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?)));
    labels_match(spec, &Selector::from_set(pairs), &SPEC, errors);
    template(spec, old, &SPEC, errors);
    always(spec, "ReplicationController", &SPEC, errors);
}

pub fn replication_controller_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "status" => replica_status(&new["status"], errors),
        _ => controller(&new["spec"], &old["spec"], errors),
    }
}
