use serde_json::{Value, json};

use crate::table::Table;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

#[test]
fn flow_schemas() {
    let subject = json!({"kind": "User", "user": {"name": "noxu"}});
    let resource = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]});
    let rule = json!({"subjects": [subject], "resourceRules": [resource]});
    let table = Table::new(
        GROUP,
        "v1",
        "FlowSchema",
        json!({"metadata": {"name": "system-foo"}, "spec": {"matchingPrecedence": 50,
            "priorityLevelConfiguration": {"name": "system-bar"}, "rules": [rule]}}),
    );
    let spec = |patch: Value| json!({ "spec": patch });
    let subjects =
        |subjects: Value| json!({"spec": {"rules": [{"subjects": subjects, "resourceRules": [resource]}]}});
    let resources = |patch: Value| {
        let mut whole = resource.clone();
        whole.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        json!({"spec": {"rules": [{"subjects": [subject], "resourceRules": [whole]}]}})
    };
    let urls = |verbs: Value, urls: Value| {
        json!({"spec": {"rules": [{"subjects": [subject],
            "nonResourceRules": [{"verbs": verbs, "nonResourceURLs": urls}]}]}})
    };
    let first = "spec.rules[0].subjects[0]";
    let at = |tail: &str| format!("{first}{tail}");
    table.create(&[
        (spec(json!({"matchingPrecedence": -1})), &["spec.matchingPrecedence: Invalid"]),
        (spec(json!({"matchingPrecedence": 10001})), &["spec.matchingPrecedence: Invalid"]),
        (spec(json!({"matchingPrecedence": 1})), &["spec.matchingPrecedence: Invalid"]),
        (spec(json!({"matchingPrecedence": 0})), &[]),
        (
            spec(json!({"distinguisherMethod": {"type": "x"}})),
            &["spec.distinguisherMethod.type: NotSupported"],
        ),
        (
            spec(json!({"priorityLevelConfiguration": {"name": ""}})),
            &["spec.priorityLevelConfiguration.name: Required"],
        ),
        (
            spec(json!({"priorityLevelConfiguration": {"name": "system+++$$"}})),
            &["spec.priorityLevelConfiguration.name: Invalid"],
        ),
        (spec(json!({"rules": [{}]})), &["spec.rules[0].subjects: Required", "spec.rules[0]: Required"]),
        (subjects(json!([{"kind": ""}])), &[&at(".kind: NotSupported")]),
        (subjects(json!([{"kind": "User"}])), &[&at(".user: Required")]),
        (subjects(json!([{"kind": "User", "user": {"name": ""}}])), &[&at(".user.name: Required")]),
        (
            subjects(json!([{"kind": "User", "user": {"name": "a"}, "group": {"name": "b"}}])),
            &[&at(".group: Forbidden")],
        ),
        (subjects(json!([{"kind": "Group", "group": {"name": "*"}}])), &[]),
        (
            subjects(json!([{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}])),
            &[],
        ),
        (
            subjects(json!([{"kind": "ServiceAccount", "serviceAccount": {"name": "A", "namespace": ""}}])),
            &[&at(".serviceAccount.name: Invalid"), &at(".serviceAccount.namespace: Required")],
        ),
        (resources(json!({"verbs": []})), &["spec.rules[0].resourceRules[0].verbs: Required"]),
        (resources(json!({"verbs": ["*", "get"]})), &["spec.rules[0].resourceRules[0].verbs: Invalid"]),
        (resources(json!({"verbs": ["feed"]})), &["spec.rules[0].resourceRules[0].verbs: NotSupported"]),
        (resources(json!({"apiGroups": []})), &["spec.rules[0].resourceRules[0].apiGroups: Required"]),
        (resources(json!({"apiGroups": ["*", "a"]})), &["spec.rules[0].resourceRules[0].apiGroups: Invalid"]),
        (resources(json!({"resources": []})), &["spec.rules[0].resourceRules[0].resources: Required"]),
        (resources(json!({"resources": ["*", "a"]})), &["spec.rules[0].resourceRules[0].resources: Invalid"]),
        (resources(json!({"namespaces": []})), &["spec.rules[0].resourceRules[0].namespaces: Required"]),
        (resources(json!({"namespaces": [], "clusterScope": true})), &[]),
        (
            resources(json!({"namespaces": ["*", "a"]})),
            &["spec.rules[0].resourceRules[0].namespaces: Invalid"],
        ),
        (
            resources(json!({"namespaces": ["-n"]})),
            &["spec.rules[0].resourceRules[0].namespaces[0]: Invalid"],
        ),
        (urls(json!(["get"]), json!(["/healthz", "/", "/a/*", "*"][..3].to_vec())), &[]),
        (urls(json!(["get"]), json!([])), &["spec.rules[0].nonResourceRules[0].nonResourceURLs: Required"]),
        (
            urls(json!(["get"]), json!(["*", "/a"])),
            &["spec.rules[0].nonResourceRules[0].nonResourceURLs: Invalid"],
        ),
        (
            urls(json!(["get"]), json!(["", "a", "/a b", "//a", "/a*", "/*/*"])),
            &[0, 1, 2, 3, 4, 5]
                .map(|i| format!("spec.rules[0].nonResourceRules[0].nonResourceURLs[{i}]: Invalid"))
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        ),
        (json!({"metadata": {"name": "exempt"}}), &["spec: Invalid"]),
        (json!({"metadata": {"name": "catch-all"}}), &["spec: Invalid"]),
        (
            json!({"status": {"conditions": [{"type": "a"}, {"type": "a"}, {"type": ""}]}}),
            &["status.conditions[1].type: Duplicate", "status.conditions[2].type: Required"],
        ),
    ]);
    let exempt = json!({"metadata": {"name": "exempt"}, "spec": {"matchingPrecedence": 1,
        "priorityLevelConfiguration": {"name": "exempt"}, "rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "system:masters"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}});
    table.create(&[(exempt, &[])]);
    table.update(&[
        (spec(json!({"matchingPrecedence": 60})), &[]),
        (spec(json!({"matchingPrecedence": 1})), &["spec.matchingPrecedence: Invalid"]),
    ]);
    table.change(
        &json!({}),
        &json!({"status": {"conditions": [{"type": ""}]}}),
        "status",
        &["status.conditions[0].type: Required"],
    );
}

#[test]
fn priority_levels() {
    let table = Table::new(
        GROUP,
        "v1",
        "PriorityLevelConfiguration",
        json!({"metadata": {"name": "system-foo"}, "spec": {"type": "Limited", "limited":
            {"nominalConcurrencyShares": 100, "limitResponse": {"type": "Reject"}}}}),
    );
    let spec = |patch: Value| json!({ "spec": patch });
    let limited = |patch: Value| json!({"spec": {"limited": patch}});
    let queues = |queues: i64, hand: i64, length: i64| {
        json!({"spec": {"limited": {"limitResponse": {"type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}}}})
    };
    table.create(&[
        (json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "limited": null, "exempt": {"nominalConcurrencyShares": 10, "lendablePercent": 50}}}), &[]),
        (
            json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "limited": null, "exempt": {"nominalConcurrencyShares": -1, "lendablePercent": 101}}}),
            &["spec.exempt.nominalConcurrencyShares: Invalid", "spec.exempt.lendablePercent: Invalid"],
        ),
        (json!({"metadata": {"name": "exempt"}}), &["spec.type: Invalid", "spec: Invalid"]),
        (spec(json!({"type": "Exempt", "limited": null})), &["spec.type: Invalid"]),
        (spec(json!({"type": "Exempt"})), &["spec.type: Invalid", "spec.limited: Forbidden"]),
        (spec(json!({"limited": null})), &["spec.limited: Required"]),
        (spec(json!({"exempt": {}})), &["spec.exempt: Forbidden"]),
        (spec(json!({"type": "x"})), &["spec.type: NotSupported"]),
        (json!({"metadata": {"name": "catch-all"}}), &["spec: Invalid"]),
        (json!({"metadata": {"name": "catch-all"}, "spec": {"limited": {"nominalConcurrencyShares": 5}}}), &[]),
        (limited(json!({"nominalConcurrencyShares": -1})), &["spec.limited.nominalConcurrencyShares: Invalid"]),
        (limited(json!({"nominalConcurrencyShares": 0})), &[]),
        (limited(json!({"lendablePercent": 101})), &["spec.limited.lendablePercent: Invalid"]),
        (limited(json!({"borrowingLimitPercent": -1})), &["spec.limited.borrowingLimitPercent: Invalid"]),
        (limited(json!({"limitResponse": {"type": "x"}})), &["spec.limited.limitResponse.type: NotSupported"]),
        (limited(json!({"limitResponse": {"type": "Queue"}})), &["spec.limited.limitResponse.queuing: Required"]),
        (limited(json!({"limitResponse": {"queuing": {}}})), &["spec.limited.limitResponse.queuing: Forbidden"]),
        (queues(512, 4, 100), &[]),
        (queues(100, -1, 100), &["spec.limited.limitResponse.queuing.handSize: Invalid"]),
        (queues(-1, 8, 100), &["spec.limited.limitResponse.queuing.queues: Invalid", "spec.limited.limitResponse.queuing.handSize: Invalid"]),
        (queues(10_000_001, 1, 100), &["spec.limited.limitResponse.queuing.queues: Invalid"]),
        (queues(8, 9, 100), &["spec.limited.limitResponse.queuing.handSize: Invalid"]),
        (queues(10_000_000, 3, 100), &["spec.limited.limitResponse.queuing.handSize: Invalid"]),
        (queues(64, 8, -1), &["spec.limited.limitResponse.queuing.queueLengthLimit: Invalid"]),
        (
            json!({"metadata": {"annotations": {"flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares": ""}}}),
            &["metadata.annotations: Forbidden"],
        ),
    ]);
    table.update(&[
        (limited(json!({"nominalConcurrencyShares": 1})), &[]),
        (spec(json!({"limited": null})), &["spec.limited: Required"]),
    ]);
    table.change(
        &json!({}),
        &json!({"status": {"conditions": [{"type": ""}]}}),
        "status",
        &["status.conditions[0].type: Required"],
    );
}
