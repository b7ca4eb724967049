//! A Job's pod failure policy and success policy.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::{indexes, invalid_without_value, quoted_list};
use crate::check::{int, items, not_negative, present, qualified, text};

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_PATTERNS: usize = 20;
const MAX_INDEXES_TEXT: usize = 64 * 1024;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// One of a few values; which ones is said in either case.
fn choice(value: &str, valid: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(Error::required(path, format!("valid values: {}", quoted_list(valid))));
    } else if !valid.contains(&value) {
        errors.push(Error::not_supported(path, value, valid));
    }
}

pub fn failure(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(policy) = present(spec, "podFailurePolicy") else { return };
    let (list, rules) = (path.child("rules"), items(policy, "rules"));
    if rules.len() > MAX_RULES {
        errors.push(Error::too_many(&list, rules.len(), MAX_RULES));
    }
    let pod = &spec["template"]["spec"];
    let containers = ["containers", "initContainers"].into_iter().flat_map(|field| items(pod, field));
    let containers: BTreeSet<&str> = containers.map(|container| text(container, "name")).collect();
    for (index, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &containers, &list.index(index), errors);
    }
}

fn failure_rule(
    spec: &Value,
    rule: &Value,
    containers: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let (at, action) = (path.child("action"), text(rule, "action"));
    if action == "FailIndex" {
        if present(spec, "backoffLimitPerIndex").is_none() {
            errors.push(Error::invalid(&at, action, "requires the backoffLimitPerIndex to be set"));
        }
    } else {
        choice(action, ACTIONS, &at, errors);
    }
    let (codes, conditions) = (present(rule, "onExitCodes"), items(rule, "onPodConditions"));
    if let Some(codes) = codes {
        exit_codes(codes, containers, &path.child("onExitCodes"), errors);
    }
    if !conditions.is_empty() {
        pod_conditions(conditions, &path.child("onPodConditions"), errors);
    }
    let why = match (codes.is_some(), !conditions.is_empty()) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(invalid_without_value(path, why));
}

fn pod_conditions(patterns: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    if patterns.len() > MAX_PATTERNS {
        errors.push(Error::too_many(path, patterns.len(), MAX_PATTERNS));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let at = path.index(index);
        qualified(text(pattern, "type"), &at.child("type"), errors);
        choice(text(pattern, "status"), STATUSES, &at.child("status"), errors);
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    let operator = text(codes, "operator");
    choice(operator, OPERATORS, &path.child("operator"), errors);
    if let Some(name) = present(codes, "containerName").and_then(Value::as_str)
        && !containers.contains(name)
    {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(&path.child("containerName"), name, why));
    }
    let (list, values) = (path.child("values"), items(codes, "values"));
    if values.is_empty() {
        errors.push(Error::invalid(&list, codes["values"].clone(), "at least one value is required"));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(Error::too_many(&list, values.len(), MAX_EXIT_CODES));
    }
    let mut seen = BTreeSet::new();
    let numbers: Vec<i64> = values.iter().map(|value| value.as_i64().unwrap_or(0)).collect();
    for (index, code) in numbers.iter().enumerate() {
        if operator == "In" && *code == 0 {
            errors.push(Error::invalid(&list.index(index), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(code) {
            errors.push(Error::duplicate(&list.index(index), *code));
        }
    }
    if !numbers.is_sorted() {
        errors.push(Error::invalid(&list, numbers, "must be ordered"));
    }
}

/// The policy of an Indexed Job.
pub fn success(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(policy) = present(spec, "successPolicy") else { return };
    let (list, rules) = (path.child("rules"), items(policy, "rules"));
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&list, why));
    }
    if rules.len() > MAX_RULES {
        errors.push(Error::too_many(&list, rules.len(), MAX_RULES));
    }
    let completions = int(spec, "completions").unwrap_or(0);
    for (index, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &list.index(index), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path<'_>, errors: &mut ErrorList) {
    let indexes = present(rule, "succeededIndexes").and_then(Value::as_str);
    let count = int(rule, "succeededCount");
    if indexes.is_none() && count.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, why));
    }
    let mut total = 0;
    if let Some(text) = indexes {
        let at = path.child("succeededIndexes");
        if text.len() > MAX_INDEXES_TEXT {
            errors.push(Error::too_long(&at, MAX_INDEXES_TEXT));
        }
        match indexes::count(text, completions) {
            Ok(count) => total = count,
            Err(why) => {
                errors.push(Error::invalid(&at, text, format!("error parsing succeededIndexes: {why}")));
            }
        }
    }
    if let Some(count) = count {
        let at = path.child("succeededCount");
        not_negative(rule, "succeededCount", path, errors);
        if count > completions {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(Error::invalid(&at, count, why));
        }
        if indexes.is_some() && count > total {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(Error::invalid(&at, count, why));
        }
    }
}
