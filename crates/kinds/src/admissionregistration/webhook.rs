//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::parts::{FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, match_conditions, rule};
use crate::check::{int, items, messages, one_of_if_set, present, text};
use crate::meta::{selector, selector_is_good, texts};
use crate::webhook;

const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
/// Versions of AdmissionReview that the server before this one spoke.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// What is asked of every webhook, unless the stored ones do without it.
struct Demands {
    match_conditions: bool,
    no_side_effects: bool,
    known_version: bool,
    unique_names: bool,
    good_selectors: bool,
}

impl Demands {
    fn of(new: &Value, old: Option<&Value>) -> Demands {
        let Some(old) = old.map(hooks) else {
            return Demands {
                match_conditions: true,
                no_side_effects: true,
                known_version: true,
                unique_names: true,
                good_selectors: true,
            };
        };
        let conditions =
            |hooks: &[Value]| hooks.iter().map(|hook| hook["matchConditions"].clone()).collect::<Vec<_>>();
        let versions =
            |hook: &Value| items(hook, "admissionReviewVersions").is_empty() || has_known_version(hook);
        let names: BTreeSet<&str> = old.iter().map(|hook| text(hook, "name")).collect();
        let selectors = |hook: &Value| {
            selector_is_good(&hook["namespaceSelector"]) && selector_is_good(&hook["objectSelector"])
        };
        Demands {
            match_conditions: conditions(hooks(new)) != conditions(old),
            no_side_effects: old.iter().all(|hook| NO_SIDE_EFFECTS.contains(&text(hook, "sideEffects"))),
            known_version: old.iter().all(versions),
            unique_names: names.len() == old.len(),
            good_selectors: old.iter().all(selectors),
        }
    }
}

fn hooks(configuration: &Value) -> &[Value] {
    items(configuration, "webhooks")
}

fn has_known_version(hook: &Value) -> bool {
    texts(hook, "admissionReviewVersions").any(|version| REVIEW_VERSIONS.contains(&version))
}

pub fn configuration(new: &Value, old: Option<&Value>, mutating: bool, errors: &mut ErrorList) {
    let demands = Demands::of(new, old);
    let list = Path::new("webhooks");
    let mut seen = BTreeSet::new();
    for (index, hook) in hooks(new).iter().enumerate() {
        let at = list.index(index);
        self::hook(hook, &demands, mutating, &at, errors);
        review_versions(hook, &demands, &at.child("admissionReviewVersions"), errors);
        let name = text(hook, "name");
        if demands.unique_names && !name.is_empty() && !seen.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
    }
}

fn hook(hook: &Value, demands: &Demands, mutating: bool, path: &Path<'_>, errors: &mut ErrorList) {
    errors.extend(names::is_fully_qualified_name(&path.child("name"), text(hook, "name")));
    let list = path.child("rules");
    for (index, rule) in items(hook, "rules").iter().enumerate() {
        self::rule(rule, &list.index(index), errors);
    }
    let given = |field: &str| present(hook, field);
    one_of_if_set(given("failurePolicy"), &FAILURE_POLICIES, &path.child("failurePolicy"), errors);
    one_of_if_set(given("matchPolicy"), &MATCH_POLICIES, &path.child("matchPolicy"), errors);
    let effects: &[&str] = if demands.no_side_effects { &NO_SIDE_EFFECTS } else { &SIDE_EFFECTS };
    if given("sideEffects").is_none() {
        let why = format!("must specify one of {}", effects.join(", "));
        errors.push(Error::required(&path.child("sideEffects"), why));
    }
    one_of_if_set(given("sideEffects"), effects, &path.child("sideEffects"), errors);
    if let Some(seconds) = int(hook, "timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(Error::invalid(&path.child("timeoutSeconds"), seconds, why));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        selector(&hook[field], !demands.good_selectors, &path.child(field), errors);
    }
    if mutating {
        let at = path.child("reinvocationPolicy");
        one_of_if_set(given("reinvocationPolicy"), &REINVOCATION_POLICIES, &at, errors);
    }
    let (config, at) = (&hook["clientConfig"], path.child("clientConfig"));
    match (present(config, "url").and_then(Value::as_str), present(config, "service")) {
        (Some(url), None) => webhook::url(url, &at.child("url"), errors),
        // Upstream takes the name for the namespace here and the other way round, which shows when one is missing.
        (None, Some(service)) => {
            webhook::service(service, ["namespace", "name"], &at.child("service"), errors)
        }
        _ => errors.push(Error::required(&at, "exactly one of url or service is required")),
    }
    if demands.match_conditions {
        match_conditions(hook, false, path, errors);
    }
}

fn review_versions(hook: &Value, demands: &Demands, path: &Path<'_>, errors: &mut ErrorList) {
    let versions: Vec<&str> = texts(hook, "admissionReviewVersions").collect();
    if versions.is_empty() {
        let why = format!("must specify one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(Error::required(path, why));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        if versions.iter().take(index).any(|earlier| earlier == version) {
            errors.push(Error::invalid(&path.index(index), *version, "duplicate version"));
            continue;
        }
        messages(names::is_dns1035_label(version), &(*version).into(), &path.index(index), errors);
    }
    if demands.known_version && !has_known_version(hook) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(Error::invalid(path, versions, why));
    }
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    fn hook(patch: Value) -> Value {
        let mut hook = json!({"name": "webhook.k8s.io", "clientConfig": {"url": "https://example.com/path"},
            "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        hook.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        hook
    }

    fn hooks(list: &[Value]) -> Value {
        json!({ "webhooks": list })
    }

    fn one(patch: Value) -> Value {
        hooks(&[hook(patch)])
    }

    fn rules(patch: Value) -> Value {
        let mut rule = json!({"operations": ["CREATE"], "apiGroups": ["a"], "apiVersions": ["v1"], "resources": ["pods"]});
        rule.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        one(json!({"rules": [rule]}))
    }

    #[test]
    fn new_webhooks() {
        let rows: &[(Value, &[&str])] = &[
            (json!({"webhooks": []}), &[]),
            (one(json!({"name": "k8s.io"})), &["webhooks[0].name: Invalid"]),
            (one(json!({"name": ""})), &["webhooks[0].name: Required"]),
            (hooks(&[hook(json!({})), hook(json!({}))]), &["webhooks[1].name: Duplicate"]),
            (one(json!({"admissionReviewVersions": []})), &["webhooks[0].admissionReviewVersions: Required"]),
            (
                one(json!({"admissionReviewVersions": ["v1", "v1"]})),
                &["webhooks[0].admissionReviewVersions[1]: Invalid"],
            ),
            (
                one(json!({"admissionReviewVersions": ["0v"]})),
                &[
                    "webhooks[0].admissionReviewVersions[0]: Invalid",
                    "webhooks[0].admissionReviewVersions: Invalid",
                ],
            ),
            (one(json!({"admissionReviewVersions": ["invalidversion", "v1beta1"]})), &[]),
            (one(json!({"sideEffects": null})), &["webhooks[0].sideEffects: Required"]),
            (one(json!({"sideEffects": "Some"})), &["webhooks[0].sideEffects: NotSupported"]),
            (one(json!({"failurePolicy": "other"})), &["webhooks[0].failurePolicy: NotSupported"]),
            (one(json!({"matchPolicy": "other"})), &["webhooks[0].matchPolicy: NotSupported"]),
            (one(json!({"timeoutSeconds": 31})), &["webhooks[0].timeoutSeconds: Invalid"]),
            (one(json!({"timeoutSeconds": 0})), &["webhooks[0].timeoutSeconds: Invalid"]),
            (
                one(json!({"namespaceSelector": {"matchLabels": {"a b": "c"}}})),
                &["webhooks[0].namespaceSelector.matchLabels: Invalid"],
            ),
            (rules(json!({})), &[]),
            (rules(json!({"operations": []})), &["webhooks[0].rules[0].operations: Required"]),
            (rules(json!({"operations": ["*", "CREATE"]})), &["webhooks[0].rules[0].operations: Invalid"]),
            (rules(json!({"operations": ["PATCH"]})), &["webhooks[0].rules[0].operations[0]: NotSupported"]),
            (rules(json!({"apiGroups": []})), &["webhooks[0].rules[0].apiGroups: Required"]),
            (rules(json!({"apiGroups": ["a", "*"]})), &["webhooks[0].rules[0].apiGroups: Invalid"]),
            (rules(json!({"apiGroups": [""]})), &[]),
            (rules(json!({"apiVersions": [""]})), &["webhooks[0].rules[0].apiVersions[0]: Required"]),
            (rules(json!({"apiVersions": ["*", "v1"]})), &["webhooks[0].rules[0].apiVersions: Invalid"]),
            (rules(json!({"resources": []})), &["webhooks[0].rules[0].resources: Required"]),
            (rules(json!({"resources": [""]})), &["webhooks[0].rules[0].resources[0]: Required"]),
            (rules(json!({"resources": ["*/*", "a"]})), &["webhooks[0].rules[0].resources: Invalid"]),
            (rules(json!({"resources": ["a/*", "a/x"]})), &["webhooks[0].rules[0].resources[1]: Invalid"]),
            (rules(json!({"resources": ["a/*", "a"]})), &[]),
            (rules(json!({"resources": ["*/a", "x/a"]})), &["webhooks[0].rules[0].resources[1]: Invalid"]),
            (rules(json!({"resources": ["*", "a/x"]})), &[]),
            (rules(json!({"resources": ["*", "a"]})), &["webhooks[0].rules[0].resources: Invalid"]),
            (rules(json!({"scope": "x"})), &["webhooks[0].rules[0].scope: NotSupported"]),
            (one(json!({"clientConfig": {}})), &["webhooks[0].clientConfig: Required"]),
            (
                one(
                    json!({"clientConfig": {"url": "https://a", "service": {"name": "n", "namespace": "n"}}}),
                ),
                &["webhooks[0].clientConfig: Required"],
            ),
            (
                one(json!({"clientConfig": {"url": ""}})),
                &["webhooks[0].clientConfig.url: Invalid", "webhooks[0].clientConfig.url: Invalid"],
            ),
            (one(json!({"clientConfig": {"url": "http://a"}})), &["webhooks[0].clientConfig.url: Invalid"]),
            (
                one(json!({"clientConfig": {"service": {"name": "n", "namespace": "ns", "path": "foo/"}}})),
                &["webhooks[0].clientConfig.service.path: Invalid"],
            ),
            (
                one(json!({"clientConfig": {"service": {"name": "", "namespace": "ns"}}})),
                &["webhooks[0].clientConfig.service.namespace: Required"],
            ),
            (one(json!({"matchConditions": [{"name": "a", "expression": "true"}]})), &[]),
            (
                one(
                    json!({"matchConditions": [{"name": "", "expression": " "}, {"name": "a b", "expression": "true"}]}),
                ),
                &[
                    "webhooks[0].matchConditions[0].expression: Required",
                    "webhooks[0].matchConditions[0].name: Required",
                    "webhooks[0].matchConditions[1].name: Invalid",
                ],
            ),
            (
                one(
                    json!({"matchConditions": [{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]}),
                ),
                &["webhooks[0].matchConditions[1].name: Duplicate"],
            ),
        ];
        for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
            Table::new("admissionregistration.k8s.io", "v1", kind, one(json!({}))).create(rows);
        }
        let table =
            Table::new("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", one(json!({})));
        table.create(&[
            (one(json!({"reinvocationPolicy": "IfNeeded"})), &[]),
            (one(json!({"reinvocationPolicy": "other"})), &["webhooks[0].reinvocationPolicy: NotSupported"]),
        ]);
        table.warnings(
            json!({"metadata": {"name": "a.static.k8s.io"}}),
            &["metadata.name: names ending with \".static.k8s.io\" are reserved for static manifest-based \
               configurations and cannot be managed via the API"],
        );
    }

    #[test]
    fn what_was_stored_is_forgiven() {
        let table = Table::new(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingWebhookConfiguration",
            one(json!({})),
        );
        let conditions = |list: Value| one(json!({"matchConditions": list, "timeoutSeconds": 5}));
        let bad = json!([{"name": "a b", "expression": "true"}]);
        let selector = |value: &str| {
            one(
                json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": [value]}]}}),
            )
        };
        let check = |old: Value, new: Value, expect: &[&str]| table.change(&old, &new, "", expect);
        check(one(json!({"sideEffects": "Some"})), one(json!({"sideEffects": "Unknown"})), &[]);
        check(
            one(json!({"sideEffects": "None"})),
            one(json!({"sideEffects": "Some"})),
            &["webhooks[0].sideEffects: NotSupported"],
        );
        check(
            one(json!({"admissionReviewVersions": ["x"]})),
            one(json!({"admissionReviewVersions": ["y"]})),
            &[],
        );
        check(
            one(json!({})),
            one(json!({"admissionReviewVersions": ["y"]})),
            &["webhooks[0].admissionReviewVersions: Invalid"],
        );
        let twice = hooks(&[hook(json!({})), hook(json!({}))]);
        check(twice.clone(), twice.clone(), &[]);
        check(one(json!({})), twice, &["webhooks[1].name: Duplicate"]);
        check(selector("a b"), selector("c d"), &[]);
        check(
            selector("a"),
            selector("c d"),
            &["webhooks[0].objectSelector.matchExpressions[0].values[0]: Invalid"],
        );
        check(conditions(bad.clone()), conditions(bad.clone()), &[]);
        check(one(json!({})), conditions(bad), &["webhooks[0].matchConditions[0].name: Invalid"]);
    }
}
