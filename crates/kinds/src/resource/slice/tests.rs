use serde_json::{Value, json};

use crate::table::Table;

fn table() -> Table {
    let good = json!({"spec": {"driver": "test.example.com", "nodeName": "worker",
        "pool": {"name": "worker", "resourceSliceCount": 1}}});
    Table::new("resource.k8s.io", "v1", "ResourceSlice", good)
}

fn spec(patch: Value) -> Value {
    json!({ "spec": patch })
}

fn device(patch: Value) -> Value {
    let mut device = json!({"name": "d"});
    device.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
    spec(json!({"devices": [device]}))
}

#[test]
fn slices() {
    let table = table();
    let many = |count: usize, more: Value| -> Value {
        let device = |i: usize| {
            let mut device = json!({"name": format!("d{i}")});
            device.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            device
        };
        spec(json!({"devices": (0..count).map(device).collect::<Vec<_>>()}))
    };
    let tainted = json!({"taints": [{"key": "a", "effect": "None"}]});
    let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
    table.create(&[
        (spec(json!({"driver": ""})), &["spec.driver: Required"]),
        (spec(json!({"driver": "A.b"})), &[]),
        (spec(json!({"driver": "a_b"})), &["spec.driver: Invalid"]),
        (spec(json!({"pool": {"name": ""}})), &["spec.pool.name: Required"]),
        (spec(json!({"pool": {"name": "a/B"}})), &["spec.pool.name: Invalid"]),
        (spec(json!({"pool": {"name": "a".repeat(254)}})), &["spec.pool.name: TooLong", "spec.pool.name: Invalid"]),
        (
            spec(json!({"pool": {"resourceSliceCount": 0, "generation": -1}})),
            &["spec.pool.resourceSliceCount: Invalid", "spec.pool.generation: Invalid"],
        ),
        (spec(json!({"nodeName": null})), &["spec: Required"]),
        (spec(json!({"nodeName": ""})), &["spec.nodeName: Invalid", "spec: Required"]),
        (spec(json!({"nodeName": "A"})), &["spec.nodeName: Invalid"]),
        (spec(json!({"nodeName": null, "allNodes": true})), &[]),
        (spec(json!({"allNodes": true})), &["spec: Invalid"]),
        (spec(json!({"allNodes": false})), &["spec.allNodes: Invalid"]),
        (spec(json!({"nodeName": null, "nodeSelector": {"nodeSelectorTerms": [term]}})), &[]),
        (
            spec(json!({"nodeName": null, "nodeSelector": {"nodeSelectorTerms": [term, term]}})),
            &["spec.nodeSelector.nodeSelectorTerms: Invalid"],
        ),
        (many(128, json!({})), &[]),
        (many(129, json!({})), &["spec.devices: TooMany"]),
        (many(64, tainted.clone()), &[]),
        (many(65, tainted), &["spec.devices: TooMany"]),
        (spec(json!({"devices": [{"name": "d"}, {"name": "d"}]})), &["spec.devices[1]: Duplicate"]),
        (device(json!({"name": "D"})), &["spec.devices[0].name: Invalid"]),
        (spec(json!({"sharedCounters": [{"name": "c", "counters": {"m": {"value": "1"}}}]})), &[]),
        (
            spec(json!({"sharedCounters": [{"name": ""}, {"name": "C", "counters": {"M": {"value": "1"}}}]})),
            &[
                "spec.sharedCounters[0].name: Required",
                "spec.sharedCounters[0].counters: Required",
                "spec.sharedCounters[1].name: Invalid",
                "spec.sharedCounters[1].counters: Invalid",
            ],
        ),
        (
            spec(json!({"sharedCounters": [{"name": "c", "counters": {"m": {"value": "1"}}}], "devices": [{"name": "d"}]})),
            &["spec: Invalid"],
        ),
    ]);
    table.update(&[
        (spec(json!({"pool": {"generation": 2}})), &[]),
        (spec(json!({"pool": {"name": "other"}})), &["spec.pool.name: Invalid"]),
        (spec(json!({"driver": "other"})), &["spec.driver: Invalid"]),
        (spec(json!({"nodeName": "other"})), &["spec.nodeName: Invalid"]),
    ]);
    table.warnings(
        spec(json!({"driver": "A.b"})),
        &["spec.driver: driver names should be lowercase; \"A.b\" contains uppercase characters"],
    );
}

#[test]
fn devices() {
    let table = table();
    let attribute = |value: Value| device(json!({"attributes": {"a": value}}));
    let count = |n: usize| -> Value {
        (0..n).map(|i| (format!("a{i}"), json!({"int": 1}))).collect::<serde_json::Map<_, _>>().into()
    };
    let at = |tail: &str| format!("spec.devices[0]{tail}");
    table.create(&[
        (attribute(json!({"int": 1})), &[]),
        (attribute(json!({"version": "1.2.3-alpha.1+build.05"})), &[]),
        (attribute(json!({"version": "1.2"})), &[&at(".attributes[a].version: Invalid")]),
        (attribute(json!({"version": "01.2.3"})), &[&at(".attributes[a].version: Invalid")]),
        (attribute(json!({"version": "1.2.3-01"})), &[&at(".attributes[a].version: Invalid")]),
        (attribute(json!({"string": "x".repeat(64)})), &[]),
        (attribute(json!({"string": "x".repeat(65)})), &[&at(".attributes[a].string: TooLong")]),
        (attribute(json!({})), &[&at(".attributes[a]: Invalid")]),
        (attribute(json!({"int": 1, "bool": true})), &[&at(".attributes[a]: Invalid")]),
        (device(json!({"attributes": {"example.com/a": {"int": 1}}})), &[]),
        (device(json!({"attributes": {"a-b": {"int": 1}}})), &[&at(".attributes: Invalid")]),
        (
            device(json!({"attributes": {"/": {"int": 1}}})),
            &[&at(".attributes: Invalid"), &at(".attributes: Invalid")],
        ),
        (device(json!({"attributes": {"a".repeat(33): {"int": 1}}})), &[&at(".attributes: TooLong")]),
        (device(json!({"attributes": count(32)})), &[]),
        (device(json!({"attributes": count(33)})), &[&at(": Invalid")]),
        (device(json!({"attributes": count(32), "capacity": {"c": {"value": "1"}}})), &[&at(": Invalid")]),
        (
            device(json!({"taints": [{"key": "a b"}]})),
            &[&at(".taints[0].key: Invalid"), &at(".taints[0].effect: Required")],
        ),
        (device(json!({"consumesCounters": [{"counterSet": "c", "counters": {"m": {"value": "1"}}}]})), &[]),
        (
            device(json!({"consumesCounters": [{}]})),
            &[
                &at(".consumesCounters[0].counterSet: Required"),
                &at(".consumesCounters[0].counters: Required"),
            ],
        ),
        (device(json!({"nodeName": "n"})), &[&at(": Invalid")]),
        (device(json!({"bindingFailureConditions": ["a"]})), &[&at(".bindingConditions: Invalid")]),
    ]);
    let per_device = |patch: Value| {
        let mut object = device(patch);
        object["spec"]["nodeName"] = Value::Null;
        object["spec"]["perDeviceNodeSelection"] = json!(true);
        object
    };
    table.create(&[
        (per_device(json!({"nodeName": "n"})), &[]),
        (per_device(json!({})), &[&at(": Required")]),
        (per_device(json!({"nodeName": "n", "allNodes": true})), &[&at(": Invalid")]),
        (per_device(json!({"allNodes": false})), &[&at(".allNodes: Invalid"), &at(": Required")]),
    ]);
    let taint = |effect: &str| device(json!({"taints": [{"key": "a", "effect": effect}]}));
    table.change(&taint("x"), &taint("x"), "", &[]);
    table.change(&taint("x"), &taint("y"), "", &[&at(".taints[0].effect: NotSupported")]);
    let mut stamped = table.object(&taint("None"));
    super::stamp(&mut stamped, &Value::Null, "", "2020-01-01T00:00:00Z");
    assert_eq!(stamped["spec"]["devices"][0]["taints"][0]["timeAdded"], "2020-01-01T00:00:00Z");
}

#[test]
fn shared_capacity() {
    let table = table();
    let capacity = |policy: Value| {
        device(
            json!({"allowMultipleAllocations": true, "capacity": {"m": {"value": "10Gi", "requestPolicy": policy}}}),
        )
    };
    let range = |patch: Value| {
        let mut range = json!({"min": "1Gi"});
        range.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        capacity(json!({"default": "2Gi", "validRange": range}))
    };
    let at = |tail: &str| format!("spec.devices[0].capacity[m].requestPolicy{tail}");
    table.create(&[
        (capacity(json!({})), &[]),
        (capacity(json!({"default": "1Gi", "validValues": ["1Gi", "2Gi"]})), &[]),
        (capacity(json!({"validValues": ["1Gi"]})), &[&at(".default: Required")]),
        (capacity(json!({"default": "3Gi", "validValues": ["1Gi"]})), &[&at(".validValues: Invalid")]),
        (
            capacity(json!({"default": "1Gi", "validValues": ["2Gi", "1Gi"]})),
            &[&at(".validValues[1]: Invalid")],
        ),
        (
            capacity(json!({"default": "1Gi", "validValues": ["1Gi", "1Gi"]})),
            &[&at(".validValues[1]: Duplicate")],
        ),
        (
            capacity(json!({"default": "1Gi", "validValues": ["1Gi", "11Gi"]})),
            &[&at(".validValues[1]: Invalid")],
        ),
        (
            capacity(json!({"default": "1Gi", "validValues": ["1Gi"], "validRange": {"min": "1Gi"}})),
            &[&at(": Forbidden")],
        ),
        (range(json!({})), &[]),
        (capacity(json!({"validRange": {"min": "1Gi"}})), &[&at(".default: Required")]),
        (range(json!({"min": null})), &[&at(".validRange.min: Required")]),
        (range(json!({"min": "11Gi"})), &[&at(".validRange.min: Invalid"), &at(".validRange.min: Invalid")]),
        (range(json!({"max": "11Gi"})), &[&at(".validRange.max: Invalid")]),
        (range(json!({"max": "1Gi"})), &[&at(".validRange.max: Invalid")]),
        (range(json!({"step": "1Gi", "max": "4Gi"})), &[]),
        (range(json!({"step": "2Gi"})), &[&at(".validRange.step: Invalid")]),
        (range(json!({"step": "0"})), &[]),
    ]);
    let single = device(json!({"capacity": {"m": {"value": "1", "requestPolicy": {}}}}));
    table.create(&[(single, &[&at(": Forbidden")])]);
}

#[test]
fn features_that_are_off() {
    let table = table();
    let patch = device(
        json!({"attributes": {"a": {"ints": [1]}}, "nodeAllocatableResourceMappings": {"cpu": {"capacityKey": "x"}}}),
    );
    let (mut made, old) = (table.object(&patch), table.object(&patch));
    super::prepare(&mut made, &Value::Null);
    assert_eq!(made["spec"]["devices"], json!([{"name": "d", "attributes": {"a": {}}}]));
    let mut kept = table.object(&patch);
    super::prepare(&mut kept, &old);
    assert_eq!(kept, old);
}
