//! Affinity and topology spread constraints.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::validate_label_name;
use apimachinery::names;
use serde_json::Value;

use super::options::Options;
use crate::check::{int, items, label, messages, one_of_if_set, present, subdomain, text};
use crate::meta;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Node, pod and anti-affinity.
pub fn affinity(affinity: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(node) = present(affinity, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(required) = present(node, REQUIRED) {
            node_selector_with(
                required,
                options.label_values_in_node_affinity,
                &path.child(REQUIRED),
                errors,
            );
        }
        let list = path.child(PREFERRED);
        for (index, term) in items(node, PREFERRED).iter().enumerate() {
            let at = list.index(index);
            weight(term, &at, errors);
            node_term(&term["preference"], true, &at.child("preference"), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = present(affinity, kind) else { continue };
        let path = path.child(kind);
        let list = path.child(REQUIRED);
        for (index, term) in items(pods, REQUIRED).iter().enumerate() {
            pod_term(term, options, &list.index(index), errors);
        }
        let list = path.child(PREFERRED);
        for (index, term) in items(pods, PREFERRED).iter().enumerate() {
            let at = list.index(index);
            weight(term, &at, errors);
            pod_term(&term["podAffinityTerm"], options, &at.child("podAffinityTerm"), errors);
        }
    }
}

/// Every term about other pods in a spec.
pub fn pod_terms<'a>(spec: &'a Value, mut each: impl FnMut(&'a Value)) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = spec.pointer("/affinity").and_then(|affinity| present(affinity, kind)) else {
            continue;
        };
        items(pods, REQUIRED).iter().for_each(&mut each);
        items(pods, PREFERRED).iter().for_each(|term| each(&term["podAffinityTerm"]));
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// A node selector of a DRA object.
pub fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    node_selector_with(selector, false, path, errors);
}

/// A node selector of a pod or a volume. With `lenient`, values of labels may be malformed.
pub fn node_selector_with(selector: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let terms = items(selector, "nodeSelectorTerms");
    let list = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(Error::required(&list, "must have at least one node selector term"));
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(term, lenient, &list.index(index), errors);
    }
}

/// Whether [`node_selector_with`] is to be lenient with the next form of this one.
pub fn has_invalid_label_value(selector: &Value) -> bool {
    let terms = items(selector, "nodeSelectorTerms").iter();
    let expressions = terms.flat_map(|term| items(term, "matchExpressions"));
    let mut values = expressions.flat_map(|expression| meta::texts(expression, "values"));
    values.any(|value| !names::is_label_value(value).is_empty())
}

fn node_term(term: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("matchExpressions");
    for (index, requirement) in items(term, "matchExpressions").iter().enumerate() {
        let at = list.index(index);
        operator(requirement, &at, errors);
        errors.extend(validate_label_name(text(requirement, "key"), &at.child("key")));
        let values = at.child("values");
        for (index, value) in meta::texts(requirement, "values").enumerate().filter(|_| !lenient) {
            messages(names::is_label_value(value), &value.into(), &values.index(index), errors);
        }
    }
    let list = path.child("matchFields");
    for (index, requirement) in items(term, "matchFields").iter().enumerate() {
        let at = list.index(index);
        let (key, values) = (text(requirement, "key"), items(requirement, "values"));
        let operator = text(requirement, "operator");
        if !["In", "NotIn"].contains(&operator) {
            errors.push(Error::invalid(&at.child("operator"), operator, "not a valid selector operator"));
        } else if values.len() != 1 {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&at.child("values"), why));
        }
        if key != "metadata.name" {
            errors.push(Error::invalid(&at.child("key"), key, "not a valid field selector key"));
            continue;
        }
        let list = at.child("values");
        for (index, value) in values.iter().enumerate() {
            subdomain(value.as_str().unwrap_or_default(), &list.index(index), errors);
        }
    }
}

fn operator(requirement: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let values = items(requirement, "values");
    let at = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(Error::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&at, why));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&at, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
}

/// The selectors of a term about other pods.
pub fn selectors(term: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["labelSelector", "namespaceSelector"] {
        meta::selector(&term[field], lenient, &path.child(field), errors);
    }
}

fn pod_term(term: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    selectors(term, options.label_values_in_selectors, path, errors);
    for namespace in meta::texts(term, "namespaces") {
        label(namespace, &path.child("namespace"), errors);
    }
    match_label_keys(term, path, errors);
    let (key, at) = (text(term, "topologyKey"), path.child("topologyKey"));
    if key.is_empty() {
        errors.push(Error::required(&at, "can not be empty"));
    }
    errors.extend(validate_label_name(key, &at));
}

fn label_keys(owner: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child(field);
    if items(owner, field).is_empty() {
        return;
    }
    if present(owner, "labelSelector").is_none() {
        errors.push(Error::forbidden(&at, "must not be specified when labelSelector is not set"));
        return;
    }
    for (index, key) in meta::texts(owner, field).enumerate() {
        errors.extend(validate_label_name(key, &at.index(index)));
    }
}

/// The keys of labels that are added to a selector, of a term or a spread constraint (KEP-3633, KEP-3243): a
/// selector has a key that was added already only once.
pub fn match_label_keys(owner: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    label_keys(owner, "matchLabelKeys", path, errors);
    label_keys(owner, "mismatchLabelKeys", path, errors);
    let keys: Vec<&str> = meta::texts(owner, "matchLabelKeys").collect();
    if let Some(selector) = present(owner, "labelSelector") {
        let labels = selector["matchLabels"].as_object();
        let mut seen: BTreeSet<&str> = labels.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        for expression in items(selector, "matchExpressions") {
            let key = text(expression, "key");
            if let Some(index) = keys.iter().rposition(|own| *own == key)
                && seen.contains(key)
            {
                let why = "exists in both matchLabelKeys and labelSelector";
                errors.push(Error::invalid(&path.index(index), key, why));
            }
            seen.insert(key);
        }
    }
    let others: Vec<&str> = meta::texts(owner, "mismatchLabelKeys").collect();
    let at = path.child("matchLabelKeys");
    for (index, key) in keys.iter().enumerate().filter(|(_, key)| others.contains(key)) {
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(Error::invalid(&at.index(index), *key, why));
    }
}

/// [`match_label_keys`] of a constraint that broke that rule before: none may stand in the selector.
fn match_label_keys_of_old(owner: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("matchLabelKeys");
    let keys: Vec<&str> = meta::texts(owner, "matchLabelKeys").collect();
    let selector = present(owner, "labelSelector");
    if selector.is_none() && !keys.is_empty() {
        errors.push(Error::forbidden(&at, "must not be specified when labelSelector is not set"));
    }
    let labels = selector.and_then(|selector| selector["matchLabels"].as_object());
    let expressions = selector.map(|selector| items(selector, "matchExpressions")).unwrap_or_default();
    for (index, key) in keys.iter().enumerate() {
        errors.extend(validate_label_name(key, &at.index(index)));
        let selected = labels.is_some_and(|labels| labels.contains_key(*key))
            || expressions.iter().any(|expression| text(expression, "key") == *key);
        if selected {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&at.index(index), *key, why));
        }
    }
}

/// Topology spread constraints.
pub fn spread(list: &[Value], options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    const ACTIONS: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
    for (index, constraint) in list.iter().enumerate() {
        let at = path.index(index);
        let skew = int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(Error::invalid(&at.child("maxSkew"), skew, "must be greater than zero"));
        }
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            errors.push(Error::required(&at.child("topologyKey"), "can not be empty"));
        }
        if !ACTIONS.contains(&action) {
            errors.push(Error::not_supported(&at.child("whenUnsatisfiable"), action, ACTIONS));
        }
        let same =
            |other: &Value| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action;
        if list[index + 1..].iter().any(same) {
            let pair = format!("{{{key}, {action}}}");
            errors.push(Error::duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            let at = at.child("minDomains");
            if domains <= 0 {
                errors.push(Error::invalid(&at, domains, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(Error::invalid(&at, domains, why));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of_if_set(constraint.get(field), &["Honor", "Ignore"], &at.child(field), errors);
        }
        match options.spread_label_keys {
            true => match_label_keys_of_old(constraint, &at, errors),
            false => match_label_keys(constraint, &at, errors),
        }
        if !options.spread_selectors {
            meta::selector(&constraint["labelSelector"], false, &at.child("labelSelector"), errors);
        }
    }
}
