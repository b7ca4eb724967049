//! Affinity and topology spread constraints.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::{LabelSelector, Validation, validate_label_name};
use serde_json::Value;

use crate::check::{int, items, one_of, present, text};

/// Node, pod and anti-affinity.
pub fn affinity(affinity: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(node) = present(affinity, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(required) = present(node, "requiredDuringSchedulingIgnoredDuringExecution") {
            node_selector(required, &path.child("requiredDuringSchedulingIgnoredDuringExecution"), errors);
        }
        let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in items(node, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
        {
            let at = list.index(index);
            weight(term, &at, errors);
            if let Some(preference) = present(term, "preference") {
                node_term(preference, &at.child("preference"), errors);
            }
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = present(affinity, kind) else { continue };
        let path = path.child(kind);
        let list = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in items(pods, "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
        {
            pod_term(term, &list.index(index), errors);
        }
        let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in items(pods, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate()
        {
            let at = list.index(index);
            weight(term, &at, errors);
            pod_term(&term["podAffinityTerm"], &at.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// A node selector of a pod, a volume or a DRA object.
pub fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let terms = items(selector, "nodeSelectorTerms");
    let list = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(Error::required(&list, "must have at least one node selector term"));
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(term, &list.index(index), errors);
    }
}

fn node_term(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("matchExpressions");
    for (index, requirement) in items(term, "matchExpressions").iter().enumerate() {
        let at = list.index(index);
        operator(requirement, &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"], &at, errors);
        errors.extend(validate_label_name(text(requirement, "key"), &at.child("key")));
    }
    let list = path.child("matchFields");
    for (index, requirement) in items(term, "matchFields").iter().enumerate() {
        let at = list.index(index);
        let (key, values) = (text(requirement, "key"), items(requirement, "values"));
        if !["In", "NotIn"].contains(&text(requirement, "operator")) {
            errors.push(Error::invalid(
                &at.child("operator"),
                text(requirement, "operator"),
                "not a valid selector operator",
            ));
        } else if values.len() != 1 {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&at.child("values"), why));
        }
        if key != "metadata.name" {
            errors.push(Error::invalid(&at.child("key"), key, "not a valid field selector key"));
        }
    }
}

fn operator(requirement: &Value, known: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    let values = items(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(Error::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path.child("values"), why));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&path.child("values"), why));
        }
        other if !known.contains(&other) => {
            errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
        _ => {}
    }
}

fn selector(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(selector) = present(object, field).and_then(LabelSelector::from_value) {
        errors.extend(selector.validate(Validation::default(), &path.child(field)));
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    selector(term, "labelSelector", path, errors);
    selector(term, "namespaceSelector", path, errors);
    let list = path.child("namespaces");
    for (index, namespace) in items(term, "namespaces").iter().enumerate() {
        crate::check::label(namespace.as_str().unwrap_or_default(), &list.index(index), errors);
    }
    match text(term, "topologyKey") {
        "" => errors.push(Error::required(&path.child("topologyKey"), "can not be empty")),
        key => errors.extend(validate_label_name(key, &path.child("topologyKey"))),
    }
}

/// Topology spread constraints.
pub fn spread(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, constraint) in list.iter().enumerate() {
        let at = path.index(index);
        let skew = int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(Error::invalid(&at.child("maxSkew"), skew, "must be greater than 0"));
        }
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        match key {
            "" => errors.push(Error::required(&at.child("topologyKey"), "can not be empty")),
            key => errors.extend(validate_label_name(key, &at.child("topologyKey"))),
        }
        one_of(action, &["DoNotSchedule", "ScheduleAnyway"], &at.child("whenUnsatisfiable"), errors);
        if !seen.insert((key, action)) {
            let pair = format!("{{{key}, {action}}}");
            errors.push(Error::duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            if domains <= 0 {
                errors.push(Error::invalid(&at.child("minDomains"), domains, "must be greater than 0"));
            } else if action != "DoNotSchedule" {
                let why = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                errors.push(Error::invalid(&at.child("minDomains"), domains, why));
            }
        }
        selector(constraint, "labelSelector", &at, errors);
    }
}
