use serde_json::{Value, json};

use crate::rows::Subject;

fn subject() -> Subject {
    let good = json!({
        "metadata": {"name": "j", "namespace": "n", "uid": "1a2b"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    Subject { group: "batch", version: "v1", kind: "Job", good }
}

fn indexed(more: Value) -> Value {
    let mut spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// `TestValidateJob`
#[test]
fn create() {
    let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": spec}), expect);
    check(json!({}), &[]);
    check(
        json!({"parallelism": -1, "completions": -1, "activeDeadlineSeconds": -1, "backoffLimit": -1, "ttlSecondsAfterFinished": -1}),
        &[
            "spec.parallelism: Invalid",
            "spec.completions: Invalid",
            "spec.activeDeadlineSeconds: Invalid",
            "spec.backoffLimit: Invalid",
            "spec.ttlSecondsAfterFinished: Invalid",
        ],
    );
    check(
        json!({"manualSelector": true}),
        &["spec.selector: Required", "spec.template.metadata.labels: Invalid"],
    );
    let own = |labels: Value| json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": labels}}});
    check(own(json!({"a": "b"})), &[]);
    check(own(json!({"a": "c"})), &["spec.template.metadata.labels: Invalid"]);
    check(
        json!({"selector": {"matchLabels": {"a": "b"}}}),
        &["spec.selector: Invalid", "spec.template.metadata.labels: Invalid"],
    );
    check(
        json!({"template": {"metadata": {"labels": {"controller-uid": "other"}}}}),
        &["spec.template.metadata.labels[controller-uid]: Invalid"],
    );
    check(
        json!({"template": {"spec": {"restartPolicy": "Always"}}}),
        &["spec.template.spec.restartPolicy: Required"],
    );
    check(
        json!({"template": {"spec": {"restartPolicy": "Invalid"}}}),
        &["spec.template.spec.restartPolicy: NotSupported"],
    );
    check(json!({"managedBy": "example.com/foo"}), &[]);
    check(json!({"managedBy": "foo"}), &["spec.managedBy: Invalid"]);
    check(json!({"managedBy": ""}), &["spec.managedBy: Required"]);
    check(json!({"managedBy": format!("example.com/{}", "x".repeat(60))}), &["spec.managedBy: TooLong"]);
    check(json!({"podReplacementPolicy": "Failed"}), &[]);
    check(json!({"podReplacementPolicy": "Foo"}), &["spec.podReplacementPolicy: NotSupported"]);
    check(json!({"completionMode": "Other"}), &["spec.completionMode: NotSupported"]);
    check(
        json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}),
        &["spec.backoffLimitPerIndex: Invalid", "spec.maxFailedIndexes: Invalid"],
    );
    check(json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}), &["spec.successPolicy: Invalid"]);
    subject().created(
        json!({"metadata": {"uid": null}, "spec": {"selector": {"matchLabels": {"a": "b"}}}}),
        &[
            "metadata.uid: Required",
            "spec.template.metadata.labels[controller-uid]: Required",
            "spec.template.metadata.labels[job-name]: Required",
            "spec.template.metadata.labels[batch.kubernetes.io/controller-uid]: Required",
            "spec.template.metadata.labels[batch.kubernetes.io/job-name]: Required",
            "spec.selector: Invalid",
            "spec.template.metadata.labels: Invalid",
        ],
    );
}

#[test]
fn indexed_jobs() {
    let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": indexed(spec)}), expect);
    check(json!({}), &[]);
    check(json!({"completions": null}), &["spec.completions: Required"]);
    check(json!({"parallelism": 100_001}), &["spec.parallelism: Invalid"]);
    check(json!({"maxFailedIndexes": 1}), &["spec.backoffLimitPerIndex: Required"]);
    check(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 3}), &["spec.maxFailedIndexes: Invalid"]);
    check(json!({"backoffLimitPerIndex": -1}), &["spec.backoffLimitPerIndex: Invalid"]);
    check(json!({"backoffLimitPerIndex": 1, "completions": 100_001}), &["spec.maxFailedIndexes: Required"]);
    check(
        json!({"backoffLimitPerIndex": 1, "completions": 100_001, "parallelism": 10_001, "maxFailedIndexes": 10_001}),
        &["spec.parallelism: Invalid", "spec.maxFailedIndexes: Invalid"],
    );
    let name = |length: usize, expect: &[&str]| {
        subject()
            .created(json!({"metadata": {"name": "a".repeat(length)}, "spec": indexed(json!({}))}), expect);
    };
    name(61, &[]);
    name(62, &["metadata.name: Invalid"]);
    let success = |rules: Value, expect: &[&str]| {
        check(json!({"completions": 5, "successPolicy": {"rules": rules}}), expect);
    };
    success(
        json!([{"succeededIndexes": "0-2"}, {"succeededCount": 3}, {"succeededIndexes": "0-4", "succeededCount": 5}]),
        &[],
    );
    success(json!([]), &["spec.successPolicy.rules: Required"]);
    success(json!([{}]), &["spec.successPolicy.rules[0]: Required"]);
    success(
        json!([{"succeededIndexes": "invalid-format"}]),
        &["spec.successPolicy.rules[0].succeededIndexes: Invalid"],
    );
    success(json!([{"succeededCount": -1}]), &["spec.successPolicy.rules[0].succeededCount: Invalid"]);
    success(json!([{"succeededCount": 6}]), &["spec.successPolicy.rules[0].succeededCount: Invalid"]);
    success(
        json!([{"succeededIndexes": "0-2", "succeededCount": 4}]),
        &["spec.successPolicy.rules[0].succeededCount: Invalid"],
    );
    success(vec![json!({"succeededCount": 1}); 21].into(), &["spec.successPolicy.rules: TooMany"]);
}

#[test]
fn failure_policies() {
    let rules = |rules: Value, expect: &[&str]| {
        subject().created(json!({"spec": {"podFailurePolicy": {"rules": rules}}}), expect)
    };
    let at = |rest: &str| format!("spec.podFailurePolicy.rules[0]{rest}");
    let codes = |codes: Value, expect: &[&str]| {
        let expect: Vec<String> = expect.iter().map(|rest| at(&format!(".onExitCodes.{rest}"))).collect();
        let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
        rules(json!([{"action": "FailJob", "onExitCodes": codes}]), &expect);
    };
    codes(json!({"operator": "In", "values": [1, 2]}), &[]);
    codes(json!({"operator": "NotIn", "values": [0], "containerName": "c"}), &[]);
    codes(json!({"operator": "In", "values": [1], "containerName": "x"}), &["containerName: Invalid"]);
    codes(json!({"operator": "In", "values": [0]}), &["values[0]: Invalid"]);
    codes(json!({"operator": "In", "values": []}), &["values: Invalid"]);
    codes(json!({"operator": "In", "values": [13, 11, 11]}), &["values[2]: Duplicate", "values: Invalid"]);
    codes(json!({"operator": "", "values": [1]}), &["operator: Required"]);
    codes(json!({"operator": "Unknown", "values": [1]}), &["operator: NotSupported"]);
    codes(json!({"operator": "In", "values": (1..=256).collect::<Vec<_>>()}), &["values: TooMany"]);
    let conditions = json!([{"type": "DisruptionTarget", "status": "True"}]);
    rules(json!([{"action": "Ignore", "onPodConditions": conditions}]), &[]);
    rules(json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]), &[]);
    rules(
        json!([{"action": "Ignore", "onPodConditions": [{"type": "a b", "status": "Maybe"}]}]),
        &[&at(".onPodConditions[0].type: Invalid"), &at(".onPodConditions[0].status: NotSupported")],
    );
    rules(json!([{"action": "Ignore"}]), &[&at(": Invalid")]);
    rules(
        json!([{"action": "Ignore", "onPodConditions": conditions, "onExitCodes": {"operator": "In", "values": [1]}}]),
        &[&at(": Invalid")],
    );
    rules(json!([{"action": "", "onPodConditions": conditions}]), &[&at(".action: Required")]);
    rules(json!([{"action": "Unknown", "onPodConditions": conditions}]), &[&at(".action: NotSupported")]);
    rules(json!([{"action": "FailIndex", "onPodConditions": conditions}]), &[&at(".action: Invalid")]);
    rules(
        vec![json!({"action": "Count", "onPodConditions": conditions}); 21].into(),
        &["spec.podFailurePolicy.rules: TooMany"],
    );
    subject().created(
        json!({"spec": {"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "TerminatingOrFailed",
        "template": {"spec": {"restartPolicy": "OnFailure"}}}}),
        &["spec.podReplacementPolicy: NotSupported", "spec.template.spec.restartPolicy: Invalid"],
    );
    subject().says(json!({"spec": {"podFailurePolicy": {"rules": [{"action": "", "onPodConditions": conditions}]}}}),
        "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]");
    subject().says(json!({"spec": {"podFailurePolicy": {"rules": [{"action": "Ignore"}]}}}),
        "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required");
}

#[test]
fn selector_is_made() {
    let made = subject().create(&json!({}));
    assert_eq!(
        made["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "1a2b"}})
    );
    assert_eq!(
        made["spec"]["template"]["metadata"]["labels"],
        json!({"batch.kubernetes.io/controller-uid": "1a2b", "batch.kubernetes.io/job-name": "j", "controller-uid": "1a2b", "job-name": "j"})
    );
    let early = subject().create(&json!({"metadata": {"uid": null}}));
    assert_eq!(
        (early["spec"].get("selector"), early["spec"]["template"]["metadata"].get("labels")),
        (None, None)
    );
}

/// `TestValidateJobUpdate`
#[test]
fn update() {
    let check = |before: Value, after: Value, expect: &[&str]| {
        subject().updated(json!({"spec": before}), json!({"spec": after}), "", expect);
    };
    check(
        json!({}),
        json!({"parallelism": 5, "suspend": true, "activeDeadlineSeconds": 3, "ttlSecondsAfterFinished": 1, "backoffLimit": 2}),
        &[],
    );
    check(json!({}), json!({"completions": 2}), &["spec.completions: Invalid"]);
    check(json!({}), json!({"completionMode": "Indexed"}), &["spec.completionMode: Invalid"]);
    check(json!({}), json!({"managedBy": "a.com/b"}), &["spec.managedBy: Invalid"]);
    check(
        json!({}),
        json!({"podFailurePolicy": {"rules": []}}),
        &["spec.podReplacementPolicy: NotSupported", "spec.podFailurePolicy: Invalid"],
    );
    check(
        json!({}),
        json!({"template": {"spec": {"nodeSelector": {"a": "b"}}}}),
        &["spec.template: Invalid"],
    );
    check(
        json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b", "c": "d"}}}}),
        json!({"selector": {"matchLabels": {"c": "d"}}}),
        &["spec.selector: Invalid"],
    );
    check(indexed(json!({})), json!({"completions": 4, "parallelism": 4}), &[]);
    check(indexed(json!({})), json!({"completions": 4}), &["spec.completions: Invalid"]);
    check(indexed(json!({})), json!({"backoffLimitPerIndex": 1}), &["spec.backoffLimitPerIndex: Invalid"]);
    check(
        indexed(json!({})),
        json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}),
        &["spec.successPolicy: Invalid"],
    );
}

/// KEP-2926: a suspended job's pods may be sent elsewhere, and ask for other resources, while there are none.
#[test]
fn suspended() {
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}});
    let place = json!({"metadata": {"labels": {"x": "y"}, "annotations": {"x": "y"}}, "spec": {"nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}], "schedulingGates": [{"name": "g"}], "affinity": affinity}});
    let container = |more: Value| {
        let mut container = json!({"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File", "resources": {}});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    };
    let check = |before: Value, template: Value, expect: &[&str]| {
        subject().updated(before, json!({"spec": {"template": template}}), "", expect);
    };
    let waiting = json!({"spec": {"suspend": true, "template": container(json!({}))}});
    check(waiting.clone(), place.clone(), &[]);
    check(waiting.clone(), container(json!({"resources": {"requests": {"cpu": "1"}}})), &[]);
    check(waiting.clone(), container(json!({"image": "other"})), &["spec.template.spec: Invalid"]);
    check(
        waiting.clone(),
        json!({"spec": {"affinity": {"podAffinity": {}}}}),
        &["spec.template.spec: Invalid"],
    );
    let with = |status: Value| json!({"spec": {"suspend": true}, "status": status});
    check(with(json!({"startTime": "2026-01-01T00:00:00Z"})), place.clone(), &["spec.template: Invalid"]);
    let paused =
        json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]});
    check(with(paused), place.clone(), &[]);
    check(with(json!({"active": 1})), place.clone(), &["spec.template: Invalid"]);
    check(json!({}), place, &["spec.template: Invalid"]);
    let away = json!({"spec": {"suspend": true, "template": {"spec": {"affinity": affinity}}}});
    check(away, json!({"spec": {"affinity": null}}), &[]);
}

/// `TestValidateJobUpdateStatus` and the integration tests of KEP-4368
#[test]
fn status() {
    let condition = |name: &str| json!({"type": name, "status": "True"});
    let conditions = |names: &[&str]| -> Value { names.iter().map(|name| condition(name)).collect() };
    let spec_check = |spec: Value, before: Value, after: Value, expect: &[&str]| {
        let expect: Vec<String> = expect.iter().map(|rest| format!("status.{rest}")).collect();
        let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
        subject().updated(
            json!({"spec": spec, "status": before}),
            json!({"status": after}),
            "status",
            &expect,
        );
    };
    let check = |before: Value, after: Value, expect: &[&str]| spec_check(json!({}), before, after, expect);
    let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    check(json!({}), json!({"active": 1, "ready": 1, "startTime": start}), &[]);
    check(
        json!({}),
        json!({"active": -1, "succeeded": -1, "failed": -1, "ready": -1, "terminating": -1}),
        &[
            "active: Invalid",
            "succeeded: Invalid",
            "failed: Invalid",
            "ready: Invalid",
            "terminating: Invalid",
        ],
    );
    check(
        json!({}),
        json!({"uncountedTerminatedPods": {"succeeded": ["a", "b", "c", "a", ""], "failed": ["c", "d", ""]}}),
        &[
            "uncountedTerminatedPods.succeeded[3]: Duplicate",
            "uncountedTerminatedPods.succeeded[4]: Invalid",
            "uncountedTerminatedPods.failed[0]: Duplicate",
            "uncountedTerminatedPods.failed[2]: Invalid",
        ],
    );
    let done = json!({"startTime": start, "completionTime": end, "conditions": conditions(&["SuccessCriteriaMet", "Complete"])});
    check(json!({}), done.clone(), &[]);
    check(
        json!({}),
        json!({"startTime": end, "completionTime": start, "conditions": conditions(&["SuccessCriteriaMet", "Complete"])}),
        &["completionTime: Invalid"],
    );
    check(
        json!({}),
        json!({"conditions": conditions(&["SuccessCriteriaMet", "Complete"])}),
        &["completionTime: Required", "startTime: Required"],
    );
    check(json!({}), json!({"startTime": start, "completionTime": end}), &["completionTime: Invalid"]);
    check(
        json!({}),
        json!({"startTime": start, "completionTime": end, "conditions": conditions(&["Complete"])}),
        &["conditions: Invalid"],
    );
    check(
        json!({}),
        json!({"startTime": start, "conditions": conditions(&["Failed"])}),
        &["conditions: Invalid"],
    );
    check(
        json!({}),
        json!({"startTime": start, "conditions": conditions(&["FailureTarget", "Failed"])}),
        &[],
    );
    check(
        json!({}),
        json!({"startTime": start, "active": 1, "terminating": 1, "conditions": conditions(&["FailureTarget", "Failed"]),
        "uncountedTerminatedPods": {"succeeded": ["a"]}}),
        &["active: Invalid", "uncountedTerminatedPods: Invalid", "terminating: Invalid"],
    );
    check(
        json!({}),
        json!({"startTime": start, "conditions": conditions(&["SuccessCriteriaMet", "FailureTarget"])}),
        &["conditions: Invalid"],
    );
    check(json!({}), json!({"active": 1, "ready": 2}), &["ready: Invalid"]);
    check(json!({}), json!({"completedIndexes": "1"}), &["completedIndexes: Invalid"]);
    check(json!({}), json!({"failedIndexes": ""}), &["failedIndexes: Invalid"]);
    let ranked = || indexed(json!({"completions": 5, "backoffLimitPerIndex": 1}));
    spec_check(ranked(), json!({}), json!({"completedIndexes": "0-2", "failedIndexes": "3"}), &[]);
    spec_check(
        ranked(),
        json!({}),
        json!({"completedIndexes": "0-2", "failedIndexes": "2,9"}),
        &["failedIndexes: Invalid"],
    );
    spec_check(ranked(), json!({}), json!({"completedIndexes": "7"}), &["completedIndexes: Invalid"]);
    // What was wrong before and is left alone may stay.
    spec_check(ranked(), json!({"completedIndexes": "7"}), json!({"active": 1}), &[]);
    check(
        done.clone(),
        json!({"conditions": conditions(&["SuccessCriteriaMet"]), "completionTime": null}),
        &["conditions: Invalid"],
    );
    check(
        json!({"failed": 2, "succeeded": 2}),
        json!({"failed": 1, "succeeded": 1}),
        &["failed: Invalid", "succeeded: Invalid"],
    );
    spec_check(indexed(json!({})), json!({"succeeded": 2}), json!({"succeeded": 1}), &[]);
    check(done, json!({"completionTime": "2026-01-01T02:00:00Z"}), &["completionTime: Invalid"]);
    check(json!({"startTime": start}), json!({"startTime": end}), &["startTime: Invalid"]);
    check(
        json!({"startTime": start, "conditions": conditions(&["Suspended"])}),
        json!({"startTime": end, "conditions": [{"type": "Suspended", "status": "False"}]}),
        &[],
    );
    let policy = || indexed(json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}));
    spec_check(
        policy(),
        json!({}),
        json!({"startTime": start, "completionTime": end, "conditions": conditions(&["Complete"])}),
        &["conditions: Invalid"],
    );
    check(
        json!({"conditions": conditions(&["SuccessCriteriaMet"])}),
        json!({"conditions": []}),
        &["conditions: Invalid"],
    );
}
