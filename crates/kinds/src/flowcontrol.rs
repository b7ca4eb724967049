//! Flow schemas and priority levels.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::{Value, json};

use crate::check::{flag, int, items, label, messages, present, subdomain, text};
use crate::meta::{keep_all_for_status, texts};
use crate::strategy::{GENERIC, Strategy};

const HIGHEST_PRECEDENCE: i64 = 10_000;
const MOST_QUEUES: i64 = 10_000_000;
/// Of the hash that deals requests to queues, as many bits may be used.
const HASH_BITS: i64 = 60;

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const COMMON: Strategy =
        Strategy { generation: true, prepare_for_update, validate_update: update, ..GENERIC };
    const FLOW_SCHEMA: Strategy = Strategy { validate: flow_schema, ..COMMON };
    const PRIORITY_LEVEL: Strategy =
        Strategy { validate: priority_level, validate_update: level_update, ..COMMON };
    Some(match kind {
        "FlowSchema" => &FLOW_SCHEMA,
        "PriorityLevelConfiguration" => &PRIORITY_LEVEL,
        _ => return None,
    })
}

fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        keep_all_for_status(new, old);
    }
}

fn update(new: &Value, _old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "status" => status(new, errors),
        _ => flow_schema(new, errors),
    }
}

fn level_update(new: &Value, _old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "status" => status(new, errors),
        _ => priority_level(new, errors),
    }
}

/// Conditions of flow schemas and levels have a type, each once; the rest is free.
fn status(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let list = path.child("conditions");
    let mut seen = BTreeSet::new();
    for (index, condition) in items(&object["status"], "conditions").iter().enumerate() {
        let at = list.index(index);
        let kind = text(condition, "type");
        if !seen.insert(kind) {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&at.child("type"), ""));
        }
    }
}

/// The two schemas and levels that a server cannot do without; their specs are fixed.
fn mandatory(kind: &str, name: &str) -> Option<Value> {
    let everything = |groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}})).collect();
        let resources = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
            "clusterScope": true});
        let urls = json!({"verbs": ["*"], "nonResourceURLs": ["*"]});
        json!([{"subjects": subjects, "resourceRules": [resources], "nonResourceRules": [urls]}])
    };
    Some(match (kind, name) {
        ("FlowSchema", "exempt") => {
            json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": "exempt"},
            "rules": everything(&["system:masters"])})
        }
        ("FlowSchema", "catch-all") => json!({"matchingPrecedence": HIGHEST_PRECEDENCE,
            "priorityLevelConfiguration": {"name": "catch-all"}, "distinguisherMethod": {"type": "ByUser"},
            "rules": everything(&["system:unauthenticated", "system:authenticated"])}),
        ("PriorityLevelConfiguration", "exempt") => json!({"type": "Exempt"}),
        ("PriorityLevelConfiguration", "catch-all") => json!({"type": "Limited", "limited":
            {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        _ => return None,
    })
}

fn flow_schema(schema: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &schema["spec"];
    let name = text(&schema["metadata"], "name");
    let (precedence, at) = (int(spec, "matchingPrecedence").unwrap_or(0), path.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.push(Error::invalid(&at, precedence, "must be a positive value"));
    }
    if precedence > HIGHEST_PRECEDENCE {
        errors.push(Error::invalid(
            &at,
            precedence,
            format!("must not be greater than {HIGHEST_PRECEDENCE}"),
        ));
    }
    if precedence == 1 && name != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(Error::invalid(&at, precedence, why));
    }
    if let Some(method) = present(spec, "distinguisherMethod")
        && !["ByNamespace", "ByUser"].contains(&text(method, "type"))
    {
        let at = path.child("distinguisherMethod");
        let told = json!({"Type": text(method, "type")});
        errors.push(Error::not_supported(&at.child("type"), told, ["ByNamespace", "ByUser"]));
    }
    let at = path.child("priorityLevelConfiguration");
    match text(&spec["priorityLevelConfiguration"], "name") {
        "" => errors.push(Error::required(&at.child("name"), "must reference a priority level")),
        level => subdomain(level, &at.child("name"), errors),
    }
    let list = path.child("rules");
    for (index, rule) in items(spec, "rules").iter().enumerate() {
        self::rule(rule, &list.index(index), errors);
    }
    if mandatory("FlowSchema", name).is_some_and(|fixed| fixed != *spec) {
        let why = format!("spec of '{name}' must equal the fixed value");
        errors.push(Error::invalid(&path, spec.clone(), why));
    }
    status(schema, errors);
}

fn rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("subjects");
    if items(rule, "subjects").is_empty() {
        errors.push(Error::required(&list, "subjects must contain at least one value"));
    }
    for (index, subject) in items(rule, "subjects").iter().enumerate() {
        self::subject(subject, &list.index(index), errors);
    }
    let (resources, urls) = (items(rule, "resourceRules"), items(rule, "nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(path, why));
    }
    let list = path.child("resourceRules");
    for (index, rule) in resources.iter().enumerate() {
        resource_rule(rule, &list.index(index), errors);
    }
    let list = path.child("nonResourceRules");
    for (index, rule) in urls.iter().enumerate() {
        url_rule(rule, &list.index(index), errors);
    }
}

/// A subject has the field of its kind and no other.
fn subject(subject: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, "kind");
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        errors.push(Error::not_supported(&path.child("kind"), kind, ["Group", "ServiceAccount", "User"]));
        return;
    };
    let at = path.child(own);
    match present(subject, own) {
        None => errors.push(Error::required(&at, format!("{own} is required when subject kind is '{kind}'"))),
        Some(inner) => {
            match text(inner, "name") {
                "" => errors.push(Error::required(&at.child("name"), "")),
                name if kind == "ServiceAccount" && name != "*" => subdomain(name, &at.child("name"), errors),
                _ => {}
            }
            if kind == "ServiceAccount" {
                match text(inner, "namespace") {
                    "" => {
                        let why = "must specify namespace for service account";
                        errors.push(Error::required(&at.child("namespace"), why));
                    }
                    namespace => label(namespace, &at.child("namespace"), errors),
                }
            }
        }
    }
    // Upstream names the others in the order service account, user, group.
    for (other, field) in
        KINDS.iter().filter(|(other, field)| *other != kind && present(subject, field).is_some())
    {
        let why = format!("{field} is forbidden when subject kind is not '{other}'");
        errors.push(Error::forbidden(&path.child(field), why));
    }
}

fn list(rule: &Value, field: &str) -> (Vec<String>, bool) {
    let all: Vec<String> = texts(rule, field).map(String::from).collect();
    let wildcard = all.iter().any(|item| item == "*");
    (all, wildcard)
}

fn verbs(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const VERBS: [&str; 9] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    let (verbs, wildcard) = list(rule, "verbs");
    let at = path.child("verbs");
    if verbs.is_empty() {
        errors.push(Error::required(&at, "verbs must contain at least one value"));
    } else if wildcard {
        if verbs.len() > 1 {
            errors.push(Error::invalid(&at, verbs, "if '*' is present, must not specify other verbs"));
        }
    } else if !verbs.iter().all(|verb| VERBS.contains(&verb.as_str())) {
        errors.push(Error::not_supported(&at, verbs, VERBS));
    }
}

fn resource_rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    for (field, one, others) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        let (all, wildcard) = list(rule, field);
        let at = path.child(field);
        if all.is_empty() {
            errors.push(Error::required(&at, format!("resource rules must supply at least one {one}")));
        } else if all.len() > 1 && wildcard {
            let why = format!("if '*' is present, must not specify other {others}");
            errors.push(Error::invalid(&at, all, why));
        }
    }
    let (namespaces, wildcard) = list(rule, "namespaces");
    let at = path.child("namespaces");
    if namespaces.is_empty() && !flag(rule, "clusterScope") {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(Error::required(&at, why));
    } else if wildcard {
        if namespaces.len() > 1 {
            errors.push(Error::invalid(
                &at,
                namespaces,
                "if '*' is present, must not specify other namespaces",
            ));
        }
    } else {
        for (index, namespace) in namespaces.iter().enumerate() {
            let told = |fault| format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
            let faults = names::is_dns1123_label(namespace).into_iter().map(told).collect();
            messages(faults, &namespace.as_str().into(), &at.index(index), errors);
        }
    }
}

fn url_rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let (urls, wildcard) = list(rule, "nonResourceURLs");
    let at = path.child("nonResourceURLs");
    if urls.is_empty() {
        errors.push(Error::required(&at, "nonResourceURLs must contain at least one value"));
    } else if wildcard {
        if urls.len() > 1 {
            errors.push(Error::invalid(
                &at,
                urls,
                "if '*' is present, must not specify other non-resource URLs",
            ));
        }
    } else {
        for (index, url) in urls.iter().enumerate() {
            if let Some(why) = url_fault(url) {
                errors.push(Error::invalid(&at.index(index), url.as_str(), why));
            }
        }
    }
}

/// A path from the root, without spaces or doubled slashes; a `*` only as the last part.
fn url_fault(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        path if !path.starts_with('/') => Some("must start with slash"),
        path if path.contains(' ') => Some("must not contain white-space"),
        path if path.contains("//") => Some("must not contain double slash"),
        path if stars > 1 || stars == 1 && !path.ends_with("/*") => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn priority_level(level: &Value, errors: &mut ErrorList) {
    const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
    if level["metadata"]["annotations"].get(ZERO_SHARES).is_some() {
        let metadata = Path::new("metadata");
        let why = format!("annotation '{ZERO_SHARES}' is forbidden");
        errors.push(Error::forbidden(&metadata.child("annotations"), why));
    }
    let path = Path::new("spec");
    let spec = &level["spec"];
    let (name, kind) = (text(&level["metadata"], "name"), text(spec, "type"));
    if (name == "exempt") != (kind == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(Error::invalid(&path.child("type"), kind, why));
    }
    let (exempt, limited) = (present(spec, "exempt"), present(spec, "limited"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                let why = "must be nil if the type is not Limited";
                errors.push(Error::forbidden(&path.child("limited"), why));
            }
            if let Some(exempt) = exempt {
                shares(exempt, &path.child("exempt"), errors);
                lendable(exempt, &path.child("exempt"), errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                errors.push(Error::forbidden(&path.child("exempt"), "must be nil if the type is Limited"));
            }
            match limited {
                None => {
                    let why = "must not be empty when type is Limited";
                    errors.push(Error::required(&path.child("limited"), why));
                }
                Some(limited) => self::limited(limited, &path.child("limited"), errors),
            }
        }
        other => errors.push(Error::not_supported(&path.child("type"), other, ["Exempt", "Limited"])),
    }
    if let Some(fixed) = mandatory("PriorityLevelConfiguration", name) {
        let (mut rest, mut but) = (spec.clone(), "");
        if name == "exempt" {
            rest.as_object_mut().map(|fields| fields.remove("exempt"));
            but = " except the 'spec.exempt' field";
        }
        if rest != fixed {
            let why = format!("spec of '{name}'{but} must equal the fixed value");
            errors.push(Error::invalid(&path, spec.clone(), why));
        }
    }
    status(level, errors);
}

fn shares(level: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(shares) = int(level, "nominalConcurrencyShares").filter(|shares| *shares < 0) {
        let at = path.child("nominalConcurrencyShares");
        errors.push(Error::invalid(&at, shares, "must be a non-negative integer"));
    }
}

fn lendable(level: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(percent) = int(level, "lendablePercent").filter(|percent| !(0..=100).contains(percent)) {
        let at = path.child("lendablePercent");
        errors.push(Error::invalid(&at, percent, "must be between 0 and 100, inclusive"));
    }
}

fn limited(level: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    shares(level, path, errors);
    let (response, at) = (&level["limitResponse"], path.child("limitResponse"));
    let queuing = present(response, "queuing");
    match (text(response, "type"), queuing) {
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(Error::forbidden(&at.child("queuing"), why));
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(Error::required(&at.child("queuing"), why));
        }
        ("Queue", Some(queuing)) => self::queuing(queuing, &at.child("queuing"), errors),
        (other, _) => errors.push(Error::not_supported(&at.child("type"), other, ["Queue", "Reject"])),
    }
    lendable(level, path, errors);
    if let Some(percent) = int(level, "borrowingLimitPercent").filter(|percent| *percent < 0) {
        let at = path.child("borrowingLimitPercent");
        errors.push(Error::invalid(&at, percent, "if specified, must be a non-negative integer"));
    }
}

fn queuing(queuing: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |field: &str| int(queuing, field).unwrap_or(0);
    let (length, queues, hand) = (of("queueLengthLimit"), of("queues"), of("handSize"));
    if length <= 0 {
        errors.push(Error::invalid(&path.child("queueLengthLimit"), length, "must be positive"));
    }
    if queues <= 0 {
        errors.push(Error::invalid(&path.child("queues"), queues, "must be positive"));
    } else if queues > MOST_QUEUES {
        let why = format!("must not be greater than {MOST_QUEUES}");
        errors.push(Error::invalid(&path.child("queues"), queues, why));
    }
    let at = path.child("handSize");
    let bits = ((queues.max(1) as f64).log2() * hand as f64).ceil() as i64;
    if hand <= 0 {
        errors.push(Error::invalid(&at, hand, "must be positive"));
    } else if hand > queues {
        errors.push(Error::invalid(&at, hand, format!("should not be greater than queues ({queues})")));
    } else if bits > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(Error::invalid(&at, hand, why));
    }
}

#[cfg(test)]
mod tests;
