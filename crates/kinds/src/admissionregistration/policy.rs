//! Admission policies and their bindings.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::expression::{Declared, Wanted};
use super::parts::{
    ASKING, FAILURE_POLICIES, Language, REINVOCATION_POLICIES, match_conditions, match_resources,
};
use crate::check::{items, messages, one_of, one_of_if_set, present, qualified, subdomain, text};
use crate::meta::{conditions, same, selector, texts};

const MOST_ANNOTATIONS: usize = 20;
/// Bytes of the expression for an annotation of the audit log.
const MOST_ANNOTATION: usize = 5 * 1024;
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// Deletions cannot be changed.
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

/// What both sorts of policy start with; with what their own expressions are compiled against.
fn common(
    policy: &Value,
    old: Option<&Value>,
    mutating: bool,
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> Language {
    let spec = &policy["spec"];
    let params = present(spec, "paramKind").is_some();
    if present(spec, "failurePolicy").is_none() {
        errors.push(Error::required(&path.child("failurePolicy"), ""));
    }
    one_of_if_set(present(spec, "failurePolicy"), &FAILURE_POLICIES, &path.child("failurePolicy"), errors);
    if let Some(kind) = present(spec, "paramKind") {
        param_kind(kind, &path.child("paramKind"), errors);
    }
    let at = path.child("matchConstraints");
    match present(spec, "matchConstraints") {
        None => errors.push(Error::required(&at, "")),
        Some(constraints) => {
            match_resources(spec, "matchConstraints", path, errors);
            if items(constraints, "resourceRules").is_empty() {
                errors.push(Error::required(&at.child("resourceRules"), ""));
            }
            if mutating {
                no_deletions(constraints, &at, errors);
            }
        }
    }
    let unchanged = |field: &str| old.is_some_and(|old| same(&old["spec"][field], &spec[field]));
    if !(unchanged("paramKind") && unchanged("matchConditions")) {
        match_conditions(spec, params, path, errors);
    }
    let mut language = Language::new(params, mutating || !items(spec, "variables").is_empty());
    language.variables(spec, path, errors);
    language
}

fn no_deletions(resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("resourceRules");
    let at = at.child("operations");
    let operations = items(resources, "resourceRules").iter().flat_map(|rule| texts(rule, "operations"));
    for operation in operations.filter(|operation| !MUTATING_OPERATIONS.contains(operation)) {
        errors.push(Error::not_supported(&at, operation, MUTATING_OPERATIONS));
    }
}

fn param_kind(kind: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (version, at) = (text(kind, "apiVersion"), path.child("apiVersion"));
    let parts: Vec<&str> = version.split('/').collect();
    match parts.as_slice() {
        _ if version.is_empty() => errors.push(Error::required(&at, "")),
        _ if parts.len() > 2 => {
            errors.push(Error::invalid(&at, version, format!("unexpected GroupVersion string: {version}")));
        }
        parts => {
            let (group, last) = match parts {
                [group, version] => (*group, *version),
                _ => ("", version),
            };
            let mut part = |text: &str, faults: Vec<String>| {
                if !faults.is_empty() {
                    errors.push(Error::invalid(&at, text, faults.join(",")));
                }
            };
            if !group.is_empty() {
                part(group, names::is_dns1123_subdomain(group));
            }
            match last {
                "" => part(version, vec!["version must be specified".to_owned()]),
                last => part(last, names::is_dns1035_label(last)),
            }
        }
    }
    match text(kind, "kind") {
        "" => errors.push(Error::required(&path.child("kind"), "")),
        kind => {
            let faults = names::is_dns1035_label(&kind.to_lowercase());
            if !faults.is_empty() {
                let why = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
                errors.push(Error::invalid(&path.child("kind"), kind, why));
            }
        }
    }
}

pub fn validating(policy: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let language = common(policy, old, false, &path, errors);
    let spec = &policy["spec"];
    let (validations, annotations) = (items(spec, "validations"), items(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(Error::required(&path.child(field), why));
        }
        return;
    }
    let list = path.child("validations");
    for (index, validation) in validations.iter().enumerate() {
        self::validation(validation, &language, &list.index(index), errors);
    }
    let list = path.child("auditAnnotations");
    if annotations.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.push(Error::invalid(&list, annotations.to_vec(), why));
    }
    let name = text(&policy["metadata"], "name");
    let mut seen = BTreeSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let at = list.index(index);
        let key = text(annotation, "key");
        match name {
            "" => errors.push(Error::invalid(&at.child("key"), key, "requires metadata.name be non-empty")),
            name => qualified(&format!("{name}/{key}"), &at.child("key"), errors),
        }
        let source = text(annotation, "valueExpression");
        let at_value = at.child("valueExpression");
        match source.trim() {
            "" => errors.push(Error::required(&at_value, "valueExpression is not specified")),
            long if long.len() > MOST_ANNOTATION => {
                let why = format!("must not exceed {MOST_ANNOTATION} bytes in length");
                errors.push(Error::required(&at_value, why));
            }
            trimmed => {
                let as_what = (ASKING, Wanted::StringOrNull);
                language.compile((trimmed, source), as_what, &at_value, errors);
            }
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(&at.child("key"), key));
        }
    }
}

fn validation(validation: &Value, language: &Language, path: &Path<'_>, errors: &mut ErrorList) {
    let given = (validation, "expression", "expression is not specified");
    language.expression(given, (ASKING, Wanted::Bool), path, errors);
    for field in ["messageExpression", "message"] {
        let value = text(validation, field);
        if !value.is_empty() && value.trim().is_empty() {
            errors.push(Error::invalid(&path.child(field), value, "must be non-empty if specified"));
        } else if field == "messageExpression" && !value.is_empty() {
            let as_what = (Declared::default(), Wanted::String);
            language.compile((value, value), as_what, &path.child(field), errors);
        } else if field == "message" && value.trim().contains(['\n', '\r']) {
            errors.push(Error::invalid(&path.child(field), value, "must not contain line breaks"));
        }
    }
    one_of_if_set(present(validation, "reason"), &REASONS, &path.child("reason"), errors);
}

/// What the server says of a policy's types.
pub fn status(status: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let checking = path.child("typeChecking");
    let list = checking.child("expressionWarnings");
    for (index, warning) in items(&status["typeChecking"], "expressionWarnings").iter().enumerate() {
        let at = list.index(index);
        if text(warning, "warning").is_empty() {
            errors.push(Error::required(&at.child("warning"), ""));
        }
        if text(warning, "fieldRef").trim().is_empty() {
            errors.push(Error::required(&at.child("fieldRef"), ""));
        }
    }
    conditions(items(status, "conditions"), &path.child("conditions"), errors);
}

pub fn mutating(policy: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let language = common(policy, old, true, &path, errors);
    let spec = &policy["spec"];
    let list = path.child("mutations");
    if items(spec, "mutations").is_empty() {
        errors.push(Error::required(&list, "mutations must contain at least one item"));
    }
    for (index, mutation) in items(spec, "mutations").iter().enumerate() {
        self::mutation(mutation, &language, &list.index(index), errors);
    }
    let at = path.child("reinvocationPolicy");
    one_of(text(spec, "reinvocationPolicy"), &REINVOCATION_POLICIES, &at, errors);
}

fn mutation(mutation: &Value, language: &Language, path: &Path<'_>, errors: &mut ErrorList) {
    const TYPES: [(&str, &str); 2] =
        [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
    let kind = text(mutation, "patchType");
    one_of(kind, &TYPES.map(|(kind, _)| kind), &path.child("patchType"), errors);
    let Some((_, own)) = TYPES.iter().find(|(known, _)| *known == kind) else { return };
    match present(mutation, own) {
        None => {
            let why = format!("must be specified when patchType is {kind}");
            errors.push(Error::required(&path.child(own), why));
        }
        Some(patch) => {
            let at = path.child(own);
            let at = at.child("expression");
            let wanted = if *own == "jsonPatch" { Wanted::Patches } else { Wanted::Object };
            match text(patch, "expression").trim() {
                "" => errors.push(Error::required(&at, "")),
                source => {
                    let declared = Declared { mutation: true, ..ASKING };
                    language.compile((source, source), (declared, wanted), &at, errors);
                }
            }
        }
    }
    for (_, other) in TYPES.iter().filter(|(_, field)| field != own && present(mutation, field).is_some()) {
        let why = format!("must not be specified when patchType is {kind}");
        errors.push(Error::invalid(&path.child(other), format!("{{{other}}}"), why));
    }
}

pub fn validating_binding(binding: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    common_binding(&binding["spec"], &path, errors);
    const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
    let list = path.child("validationActions");
    let actions: Vec<&str> = texts(&binding["spec"], "validationActions").collect();
    for (index, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(action) {
            errors.push(Error::not_supported(&list.index(index), *action, ACTIONS));
        }
        if actions.iter().take(index).any(|earlier| earlier == action) {
            errors.push(Error::duplicate(&list.index(index), *action));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(Error::invalid(&list, actions, why));
    } else if actions.is_empty() {
        errors.push(Error::required(&list, "at least one validation action is required"));
    }
}

pub fn mutating_binding(binding: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    common_binding(&binding["spec"], &path, errors);
    if let Some(resources) = present(&binding["spec"], "matchResources") {
        no_deletions(resources, &path.child("matchResources"), errors);
    }
}

fn common_binding(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match text(spec, "policyName") {
        "" => errors.push(Error::required(&path.child("policyName"), "")),
        name => subdomain(name, &path.child("policyName"), errors),
    }
    if let Some(reference) = present(spec, "paramRef") {
        param_ref(reference, &path.child("paramRef"), errors);
    }
    match_resources(spec, "matchResources", path, errors);
}

fn param_ref(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, chosen) = (text(reference, "name"), present(reference, "selector"));
    if !name.is_empty() {
        messages(names::is_path_segment_name(name), &name.into(), &path.child("name"), errors);
        if chosen.is_some() {
            errors.push(Error::forbidden(&path.child("name"), EXCLUSIVE));
        }
    }
    if let Some(value) = chosen {
        selector(value, false, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.push(Error::forbidden(&path.child("selector"), EXCLUSIVE));
        }
    }
    if name.is_empty() && chosen.is_none() {
        errors.push(Error::required(path, "one of name or selector must be specified"));
    }
    let at = path.child("parameterNotFoundAction");
    one_of(text(reference, "parameterNotFoundAction"), &["Deny", "Allow"], &at, errors);
}

#[cfg(test)]
mod tests;
