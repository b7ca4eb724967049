//! What a HorizontalPodAutoscaler goes by.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::{Reference, positive, reference};
use crate::check::{int, items, label, messages, present, text};

/// The types of metrics as upstream lists them, and the field of each.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// The order in which the fields are looked at.
const ORDER: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

pub fn metrics(spec: &Value, objects: Reference, path: &Path<'_>, errors: &mut ErrorList) {
    let metrics = items(spec, "metrics");
    for (index, metric) in metrics.iter().enumerate() {
        self::metric(metric, objects, &path.index(index), errors);
    }
    let outside = metrics.iter().any(|metric| matches!(text(metric, "type"), "Object" | "External"));
    if int(spec, "minReplicas") == Some(0) && !outside {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(path, why));
    }
}

fn metric(metric: &Value, objects: Reference, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = text(metric, "type");
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    let unknown = || Error::not_supported(&path.child("type"), kind, SOURCES.map(|(name, _)| name));
    if kind.is_empty() {
        errors.push(Error::required(&path.child("type"), "must specify a metric source type"));
    }
    if expected.is_none() {
        errors.push(unknown());
    }
    let given: Vec<&str> = ORDER.into_iter().filter(|field| present(metric, field).is_some()).collect();
    if let Some(field) = given.first() {
        source(field, &metric[*field], objects, &path.child(field), errors);
    }
    match expected {
        Some(field) if present(metric, field).is_none() => {
            let why = "must populate information for the given metric source";
            errors.push(Error::required(&path.child(field), why));
        }
        Some(_) => {}
        None => errors.push(unknown()),
    }
    if given.len() != 1 {
        for field in given.into_iter().filter(|field| Some(*field) != expected) {
            errors.push(Error::forbidden(&path.child(field), "must populate the given metric source only"));
        }
    }
}

fn source(field: &str, source: &Value, objects: Reference, path: &Path<'_>, errors: &mut ErrorList) {
    match field {
        "object" => reference(&source["describedObject"], objects, &path.child("describedObject"), errors),
        "resource" if text(source, "name").is_empty() => {
            errors.push(Error::required(&path.child("name"), "must specify a resource name"));
        }
        "containerResource" => container(source, path, errors),
        _ => {}
    }
    if matches!(field, "object" | "external" | "pods") {
        let at = path.child("metric");
        match text(&source["metric"], "name") {
            "" => errors.push(Error::required(&at.child("name"), "must specify a metric name")),
            name => messages(names::is_path_segment_name(name), &name.into(), &at.child("name"), errors),
        }
    }
    let (at, target) = (path.child("target"), &source["target"]);
    self::target(target, &at, errors);
    let has = |field: &str| present(target, field).is_some();
    let average = at.child("averageValue");
    match field {
        "object" if !has("value") && !has("averageValue") => {
            errors.push(Error::required(&average, "must set either a target value or averageValue"));
        }
        "external" if !has("value") && !has("averageValue") => {
            let why = "must set either a target value for metric or a per-pod target";
            errors.push(Error::required(&average, why));
        }
        "external" if has("value") && has("averageValue") => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(Error::forbidden(&at.child("value"), why));
        }
        "pods" if !has("averageValue") => {
            errors.push(Error::required(&average, "must specify a positive target averageValue"));
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => {
                let why = "must set either a target raw value or a target utilization";
                errors.push(Error::required(&at.child("averageUtilization"), why));
            }
            (true, true) => {
                let why = "may not set both a target raw value and a target utilization";
                errors.push(Error::forbidden(&average, why));
            }
            _ => {}
        },
        _ => {}
    }
}

fn container(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match text(source, "name") {
        "" => errors.push(Error::required(&path.child("name"), "must specify a resource name")),
        name => crate::core::resources::container_name(name, &path.child("name"), errors),
    }
    match text(source, "container") {
        "" => errors.push(Error::required(&path.child("container"), "must specify a container")),
        name => label(name, &path.child("container"), errors),
    }
}

fn target(target: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.push(Error::required(&path.child("type"), "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&path.child("type"), kind, why));
    }
    positive(target, "value", path, errors);
    positive(target, "averageValue", path, errors);
    if let Some(percent) = int(target, "averageUtilization").filter(|percent| *percent < 1) {
        errors.push(Error::invalid(&path.child("averageUtilization"), percent, "must be greater than 0"));
    }
}
