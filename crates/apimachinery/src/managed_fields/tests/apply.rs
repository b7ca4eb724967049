//! Server-side apply, step by step. What upstream's `test/integration/apiserver/apply` and structured-merge-diff's
//! `merge` tests say is said here of a smaller type.

use proptest::prelude::*;

use super::*;
use crate::codec::normal;

/// One write of a script.
enum Do {
    Apply(&'static str, Value),
    Force(&'static str, Value),
    ApplyStatus(&'static str, Value),
    /// A write of the whole object.
    Update(&'static str, fn(&mut Value)),
}

fn writer_of<T>(manager: &str, subresource: &str, seconds: i64, work: impl FnOnce(&Writer<'_>) -> T) -> T {
    let (schema, ty) = schema();
    let reset = reset(subresource);
    // v2 is another spelling of v1, v3 calls the node a host
    let convert = |object: &Value, from: &str, to: &str| {
        let mut object = object.clone();
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            let names = [("v3", "host"), ("v1", "node"), ("v2", "node")];
            let name = |version: &str| names.iter().find(|(v, _)| *v == version).map(|(_, name)| *name);
            if let Some(value) = spec.remove(name(from)?) {
                spec.insert(name(to)?.to_owned(), value);
            }
        }
        ["v1", "v2", "v3"].contains(&to).then_some((ty, object))
    };
    let now = at(seconds);
    work(&Writer {
        schema: &schema,
        ty,
        api_version: "v1",
        manager,
        subresource,
        now,
        reset: &reset,
        convert: &convert,
    })
}

fn config(mut config: Value) -> Value {
    config["apiVersion"] = json!("v1");
    config["kind"] = json!("Pod");
    config
}

/// The object after an apply, in normal form.
fn apply(
    live: Option<&Value>,
    manager: &str,
    subresource: &str,
    seconds: i64,
    force: bool,
    wanted: Value,
) -> Result<Value, ApplyError> {
    let applied = writer_of(manager, subresource, seconds, |w| w.apply(live, &config(wanted), "Pod", force))?;
    let (schema, ty) = schema();
    let mut object = applied.object;
    normal::normalize(&schema, ty, &mut object).unwrap();
    put_managed(&mut object, into_list(applied.managed));
    object["metadata"]["uid"] = json!("1");
    Ok(object)
}

fn into_list(managed: Option<Value>) -> Vec<Value> {
    managed.and_then(|m| m.as_array().cloned()).unwrap_or_default()
}

fn step(live: Option<&Value>, step: Do, seconds: i64) -> Result<Value, ApplyError> {
    match step {
        Do::Apply(manager, wanted) => apply(live, manager, "", seconds, false, wanted),
        Do::Force(manager, wanted) => apply(live, manager, "", seconds, true, wanted),
        Do::ApplyStatus(manager, wanted) => apply(live, manager, "status", seconds, false, wanted),
        Do::Update(manager, change) => {
            let mut new =
                live.cloned().unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}));
            change(&mut new);
            let resets = is_reset(&new["metadata"]["managedFields"]);
            let (schema, ty) = schema();
            normal::normalize(&schema, ty, &mut new).unwrap();
            if resets {
                new["metadata"]["managedFields"] = json!([]);
            }
            writer_of(manager, "", seconds, |w| w.update(live, &mut new));
            new["metadata"]["uid"] = json!("1");
            Ok(new)
        }
    }
}

/// What there is at the end, without what is the same everywhere, and who owns it since when.
fn run(steps: Vec<Do>) -> Result<(Value, Value), String> {
    let mut live = None;
    for (at, one) in steps.into_iter().enumerate() {
        let next = step(live.as_ref(), one, 100 * (at as i64 + 1));
        live = Some(next.map_err(|e| e.to_status().message)?);
    }
    let mut object = live.unwrap_or_default();
    let owners = into_list(take_managed(&mut object))
        .iter()
        .map(|e| {
            let operation = e["operation"].as_str().unwrap_or_default();
            let who = [
                operation,
                e["manager"].as_str().unwrap_or_default(),
                e["subresource"].as_str().unwrap_or_default(),
            ];
            let time: Option<Timestamp> = e["time"].as_str().and_then(|t| t.parse().ok());
            json!([who.join(" ").trim_end(), time.map(|t| t.as_second()), fields(e)])
        })
        .collect();
    if let Some(map) = object.as_object_mut() {
        map.retain(|key, _| key != "apiVersion" && key != "kind");
        map.retain(|key, value| key != "status" || value != &json!({}));
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("uid");
    }
    Ok((object, owners))
}

#[track_caller]
fn check(steps: Vec<Do>, object: Value, owners: Value) {
    let (got, got_owners) = run(steps).unwrap();
    assert_eq!((&got, &got_owners), (&object, &owners), "{got:#} {got_owners:#}");
}

#[track_caller]
fn refused(steps: Vec<Do>, expect: &str) {
    assert_eq!(run(steps).unwrap_err(), expect);
}

fn labels(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

fn containers(containers: Value) -> Value {
    json!({"spec": {"containers": containers}})
}

const C: &str = r#"k:{"name":"c"}"#;
const D: &str = r#"k:{"name":"d"}"#;

#[test]
fn owners_come_and_go() {
    use Do::{Apply, Force, Update};
    let a = || Apply("m", labels(json!({"a": "1", "b": "2"})));
    let f = |names: &[&str]| {
        let fields: Map<String, Value> = names.iter().map(|n| (format!("f:{n}"), json!({}))).collect();
        json!({"f:metadata": {"f:labels": fields}})
    };
    // created by it
    check(
        vec![a()],
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": null}}),
        json!([["Apply m", 100, f(&["a", "b"])]]),
    );
    // once more: nothing changes, not even the time
    check(
        vec![a(), a()],
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": null}}),
        json!([["Apply m", 100, f(&["a", "b"])]]),
    );
    // what is applied no more goes
    check(
        vec![a(), Apply("m", labels(json!({"b": "2"})))],
        json!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": null}}),
        json!([["Apply m", 200, f(&["b"])]]),
    );
    // the last of a map takes the map along
    check(
        vec![a(), Apply("m", json!({"spec": {"node": "n"}}))],
        json!({"metadata": {}, "spec": {"containers": null, "node": "n"}}),
        json!([["Apply m", 200, {"f:spec": {"f:node": {}}}]]),
    );
    // nothing applied: nothing owned
    check(vec![a(), Apply("m", json!({}))], json!({"metadata": {}, "spec": {"containers": null}}), json!([]));
    // shared fields stay, as do those that an updater has taken
    check(
        vec![a(), Apply("n", labels(json!({"b": "2"}))), Apply("m", labels(json!({"a": "1"})))],
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": null}}),
        json!([["Apply n", null, f(&["b"])], ["Apply m", 100, f(&["a"])]]),
    );
    check(
        vec![
            a(),
            Update("u", |o| o["metadata"]["labels"]["b"] = json!("3")),
            Apply("m", labels(json!({"a": "1"}))),
        ],
        json!({"metadata": {"labels": {"a": "1", "b": "3"}}, "spec": {"containers": null}}),
        json!([["Apply m", 100, f(&["a"])], ["Update u", 200, f(&["b"])]]),
    );
    // taking by force, from appliers and updaters
    check(
        vec![a(), Force("n", labels(json!({"b": "4"})))],
        json!({"metadata": {"labels": {"a": "1", "b": "4"}}, "spec": {"containers": null}}),
        json!([["Apply m", 100, f(&["a"])], ["Apply n", 200, f(&["b"])]]),
    );
    check(
        vec![
            Update("u", |o| o["metadata"]["labels"] = json!({"a": "1"})),
            Force("n", labels(json!({"a": "4"}))),
        ],
        json!({"metadata": {"labels": {"a": "4"}}, "spec": {"containers": null}}),
        json!([["Apply n", 200, f(&["a"])], ["Update u", 100, {"f:metadata": {"f:labels": {}}}]]),
    );
    // an updater's change takes from the applier, who takes part of its own configuration for a conflict then
    refused(
        vec![a(), Update("u", |o| o["metadata"]["labels"]["b"] = json!("3")), a()],
        "Apply failed with 1 conflict: conflict with \"u\" using v1: .metadata.labels.b",
    );
    // null says nothing about what is there
    check(
        vec![a(), Apply("n", labels(Value::Null))],
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": null}}),
        json!([["Apply n", null, {"f:metadata": {"f:labels": {}}}], ["Apply m", 100, f(&["a", "b"])]]),
    );
}

#[test]
fn lists() {
    use Do::{Apply, Force, Update};
    let item = json!({".": {}, "f:name": {}});
    let two = || Apply("m", containers(json!([{"name": "c", "args": ["x"]}, {"name": "d"}])));
    let spec = |fields: Value| json!({"f:spec": {"f:containers": fields}});
    check(
        vec![two(), Apply("m", containers(json!([{"name": "d"}])))],
        json!({"metadata": {}, "spec": {"containers": [{"name": "d", "resources": {}}]}}),
        json!([["Apply m", 200, spec(json!({D: item}))]]),
    );
    // an element that somebody else added something to stays, and so does its key
    check(
        vec![
            two(),
            Apply("n", containers(json!([{"name": "c", "securityContext": {"user": 5}}]))),
            Apply("m", containers(json!([{"name": "d"}]))),
        ],
        json!({"metadata": {}, "spec": {"containers": [
            {"name": "c", "resources": {}, "securityContext": {"user": 5}}, {"name": "d", "resources": {}}]}}),
        json!([
            ["Apply n", 200, spec(json!({C: {".": {}, "f:name": {}, "f:securityContext": {"f:user": {}}}}))],
            ["Apply m", 300, spec(json!({D: item}))]
        ]),
    );
    // atomic lists change hands as a whole; a key's default is part of the key
    refused(
        vec![two(), Apply("n", containers(json!([{"name": "c", "args": ["y"]}])))],
        "Apply failed with 1 conflict: conflict with \"m\": .spec.containers[name=\"c\"].args",
    );
    check(
        vec![
            Apply("m", containers(json!([{"name": "c", "ports": [{"containerPort": 80}]}]))),
            Apply(
                "n",
                containers(json!([{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"},
                {"containerPort": 80, "protocol": "UDP"}]}])),
            ),
        ],
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}, "ports": [
            {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}]}]}}),
        json!([
            [
                "Apply m",
                100,
                spec(json!({C: {".": {}, "f:name": {}, "f:ports": {
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}))
            ],
            [
                "Apply n",
                200,
                spec(json!({C: {".": {}, "f:name": {}, "f:ports": {
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}},
                "k:{\"containerPort\":80,\"protocol\":\"UDP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}))
            ]
        ]),
    );
    // sets
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    check(
        vec![
            Apply("m", finalizers(json!(["x", "y"]))),
            Apply("n", finalizers(json!(["z"]))),
            Apply("m", finalizers(json!(["y"]))),
        ],
        json!({"metadata": {"finalizers": ["y", "z"]}, "spec": {"containers": null}}),
        json!([
            ["Apply n", 200, {"f:metadata": {"f:finalizers": {"v:\"z\"": {}}}}],
            ["Apply m", 300, {"f:metadata": {"f:finalizers": {"v:\"y\"": {}}}}]
        ]),
    );
    // atomic maps
    let selector = |map: Value| json!({"spec": {"nodeSelector": map}});
    refused(
        vec![Apply("m", selector(json!({"a": "1"}))), Apply("n", selector(json!({"b": "1"})))],
        "Apply failed with 1 conflict: conflict with \"m\": .spec.nodeSelector",
    );
    check(
        vec![Apply("m", selector(json!({"a": "1"}))), Force("n", selector(json!({"b": "1"})))],
        json!({"metadata": {}, "spec": {"containers": null, "nodeSelector": {"b": "1"}}}),
        json!([["Apply n", 200, {"f:spec": {"f:nodeSelector": {}}}]]),
    );
    // the removal of an element that controllers have added to, but do not own (TestApplyCanRemoveMapItems…)
    check(
        vec![
            two(),
            Update("u", |o| o["spec"]["containers"][0]["resources"]["user"] = json!(7)),
            Apply("m", containers(json!([{"name": "d"}]))),
        ],
        json!({"metadata": {}, "spec": {"containers": [{"name": "d", "resources": {}}]}}),
        json!([["Apply m", 300, spec(json!({D: item}))]]),
    );
}

#[test]
fn conflicts_are_told() {
    use Do::{Apply, Update};
    let steps = || {
        vec![
            Apply("m", labels(json!({"a": "1", "b": "1"}))),
            Update("u", |o| o["spec"]["node"] = json!("n")),
            Update("u", |o| o["metadata"]["finalizers"] = json!(["x"])),
        ]
    };
    let wanted = json!({"metadata": {"labels": {"a": "2", "b": "2"}}, "spec": {"node": "other"}});
    let mut all = steps();
    all.push(Apply("n", wanted.clone()));
    refused(
        all,
        "Apply failed with 3 conflicts: conflicts with \"m\":\n- .metadata.labels.a\n- .metadata.labels.b\n\
         conflicts with \"u\" using v1:\n- .spec.node",
    );
    let mut live = None;
    for one in steps() {
        live = Some(step(live.as_ref(), one, 100).unwrap());
    }
    let status = apply(live.as_ref(), "n", "", 1, false, wanted).unwrap_err().to_status();
    assert_eq!(
        serde_json::to_value(&status).unwrap()["details"],
        json!({"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"m\"", "field": ".metadata.labels.a"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"m\"", "field": ".metadata.labels.b"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"u\" using v1", "field": ".spec.node"}]})
    );
    assert_eq!((status.code, &*status.reason), (409, "Conflict"));
}

#[test]
fn subresources_and_what_they_reset() {
    use Do::{Apply, ApplyStatus, Update};
    check(
        vec![
            Apply("m", json!({"spec": {"node": "n"}, "status": {"phase": "Mine"}})),
            ApplyStatus("m", json!({"spec": {"node": "n"}, "status": {"phase": "Running"}})),
        ],
        // the object's path drops a status before it is stored, which is not this module's matter
        json!({"metadata": {}, "spec": {"containers": null, "node": "n"}, "status": {"phase": "Running"}}),
        json!([
            ["Apply m", 100, {"f:spec": {"f:node": {}}}],
            ["Apply m status", 200, {"f:status": {"f:phase": {}}}]
        ]),
    );
    // what was there before anybody's fields were tracked belongs to one who can be taken from only by force
    let untracked = |o: &mut Value| {
        o["metadata"]["labels"] = json!({"a": "1"});
        o["metadata"]["managedFields"] = json!([{}]);
    };
    let forget = |o: &mut Value| o["metadata"]["managedFields"] = json!([]);
    check(
        vec![Update("u", untracked), Update("u", forget), Apply("m", json!({"spec": {"node": "n"}}))],
        json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": null, "node": "n"}}),
        json!([
            ["Apply m", 300, {"f:spec": {"f:node": {}}}],
            ["Update before-first-apply", 300, {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}]
        ]),
    );
    refused(
        vec![Update("u", untracked), Update("u", forget), Apply("m", labels(json!({"a": "2"})))],
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .metadata.labels.a",
    );
}

#[test]
fn coming_from_client_side_apply() {
    let annotated = |applied: &Value| {
        let text = applied.to_string();
        let mut live = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"labels": {"a": "1", "b": "1"}, "annotations": {}}, "spec": {"node": "n"}});
        live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(text);
        writer_of("kubectl-client-side-apply", "", 100, |w| w.update(None, &mut live));
        live["metadata"]["uid"] = json!("1");
        live
    };
    let applied = config(labels(json!({"a": "1", "b": "0"})));
    let live = annotated(&applied);
    let try_it = |live: &Value, manager: &str, wanted: Value| {
        let got = writer_of(manager, "", 200, |w| w.apply(Some(live), &config(wanted), "Pod", false));
        got.map(|applied| applied.object).map_err(|e| e.to_status().message)
    };
    // what was applied and is as it was applied may change
    let object = try_it(&live, "kubectl", labels(json!({"a": "2"}))).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"a": "2", "b": "1"}));
    assert_eq!(
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"],
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"labels\":{\"a\":\"2\"}}}\n"
    );
    // not what has changed since, nor under another name, nor what was applied in another version
    let b = "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .metadata.labels.b";
    assert_eq!(try_it(&live, "kubectl", labels(json!({"a": "2", "b": "2"}))).unwrap_err(), b);
    let a = b.replace("labels.b", "labels.a");
    assert_eq!(try_it(&live, "other", labels(json!({"a": "2"}))).unwrap_err(), a);
    let mut old = applied.clone();
    old["apiVersion"] = json!("v0");
    assert_eq!(try_it(&annotated(&old), "kubectl", labels(json!({"a": "2"}))).unwrap_err(), a);
}

#[test]
fn configurations_that_do_not_fit() {
    let check = |wanted: Value, code: u16, expect: &str| {
        let error = writer_of("m", "", 1, |w| w.apply(None, &wanted, "Pod", false)).unwrap_err().to_status();
        assert_eq!((error.code, error.message.as_str()), (code, expect), "{wanted}");
    };
    check(json!({"apiVersion": "apps/v1", "kind": "Pod"}), 400, "invalid object type: apps/v1, Kind=Pod");
    check(json!({}), 400, "invalid object type: /, Kind=");
    let managed = config(json!({"metadata": {"managedFields": []}}));
    check(managed, 400, "metadata.managedFields must be nil");
    let typed = |rest: &str| format!("failed to create typed patch object (n/x; /v1, Kind=Pod): {rest}");
    let with = |mut spec: Value| {
        let metadata = json!({"name": "x", "namespace": "n", "labels": spec["labels"].take()});
        spec.as_object_mut().unwrap().remove("labels");
        config(json!({"metadata": metadata, "spec": spec}))
    };
    for (spec, expect) in [
        (json!({"nope": 1}), ".spec.nope: field not declared in schema"),
        (json!({"node": 1}), ".spec.node: expected string, got &value.valueUnstructured{Value:1}"),
        (
            json!({"labels": {"a": true}}),
            ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:true}",
        ),
        (json!({"labels": "x"}), ".metadata.labels: expected map, got &{x}"),
        (json!({"containers": {"a": "b"}}), ".spec.containers: expected list, got &{map[a:b]}"),
        (
            json!({"containers": [{"args": []}]}),
            ".spec.containers: element 0: associative list with keys has an element that omits all key fields \
             [\"name\"] (and doesn't have default values for any key fields)",
        ),
        (
            json!({"containers": [{"name": "a"}, {"name": "a"}]}),
            ".spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            json!({"containers": [{"name": "a", "args": [1], "resources": 1}]}),
            "errors:\n  .spec.containers[name=\"a\"].args[0]: expected string, got &value.valueUnstructured{Value:1}\n  \
             .spec.containers[name=\"a\"].resources: expected map, got &{1}",
        ),
        (
            json!({"containers": [{"name": "a", "resources": {"user": "x"}}]}),
            ".spec.containers[name=\"a\"].resources.user: expected numeric (int or float), got string",
        ),
    ] {
        check(with(spec), 500, &typed(expect));
    }
}

/// A configuration whose fields are those of the last time is looked at in a quicker way, which must not overlook
/// anything.
#[test]
fn the_same_fields_with_wrong_values() {
    let good = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["x"]}, "status": {"phase": "p"}, "spec": {"node": "n",
        "nodeSelector": {"k": "v"}, "containers": [{"name": "c", "args": ["x"], "resources": {"user": 1}}]}});
    let live = apply(None, "m", "", 1, false, good.clone()).unwrap();
    let check = |pointer: &str, value: Value, fits: bool| {
        let mut wanted = config(good.clone());
        *wanted.pointer_mut(pointer).unwrap() = value.clone();
        let got = writer_of("m", "", 1, |w| w.apply(Some(&live), &wanted, "Pod", false));
        assert_eq!(got.is_ok(), fits, "{pointer} {value}");
    };
    check("/spec/node", json!("other"), true);
    check("/spec/node", Value::Null, true);
    check("/spec/node", json!(1), false);
    check("/metadata/labels/a", json!(true), false);
    check("/metadata/finalizers", json!(["x", "x"]), false);
    check("/metadata/finalizers", json!([["x"]]), false);
    check("/metadata/finalizers", json!("x"), false);
    check("/spec/nodeSelector", json!({"k": 1}), false);
    check("/spec/nodeSelector", json!({"l": "w"}), true);
    check("/spec/containers/0/args", json!([1]), false);
    check("/spec/containers/0/args", json!(["y", "y"]), true);
    check("/spec/containers/0/resources/user", json!("1"), false);
    check("/spec/containers/0", json!({"args": ["x"]}), false);
    check("/spec/containers/0", Value::Null, false);
    check("/status/phase", json!(1), false);
    check("/status", json!({"nope": "p"}), false);
    check("/spec", json!({"nope": "p"}), false);
}

#[test]
fn duplicates_that_are_there() {
    // as the list is, nobody can say which of two is meant: applying one puts it in the place of both
    let live = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"uid": "1"}, "spec": {"containers": [
        {"name": "c", "args": ["1"]}, {"name": "c", "args": ["2"]}, {"name": "d"}]}});
    let applied = |wanted: Value| {
        let got = writer_of("m", "", 1, |w| w.apply(Some(&live), &config(wanted), "Pod", true)).unwrap();
        got.object["spec"]["containers"].clone()
    };
    let beside =
        json!([{"name": "c", "args": ["1"]}, {"name": "c", "args": ["2"]}, {"name": "d", "args": []}]);
    assert_eq!(applied(containers(json!([{"name": "d", "args": []}]))), beside);
    assert_eq!(
        applied(containers(json!([{"name": "c", "args": ["3"]}]))),
        json!([{"name": "c", "args": ["3"]}, {"name": "d"}])
    );
}

#[test]
fn order_of_lists() {
    let check = |old: &str, wanted: &str, expect: &str| {
        let list = |names: &str| -> Value { names.chars().map(|c| json!(c.to_string())).collect() };
        let finalizers = |names: &str| json!({"metadata": {"finalizers": list(names)}});
        let (schema, ty) = schema();
        let mut object = finalizers(old);
        merge::merge(&schema, ty, &mut object, &finalizers(wanted));
        assert_eq!(object, finalizers(expect), "{old} {wanted}");
    };
    for (old, wanted, expect) in [
        ("abc", "", "abc"),
        ("", "abc", "abc"),
        ("abc", "abc", "abc"),
        ("abc", "b", "abc"),
        ("abc", "d", "abcd"),
        ("abc", "da", "dabc"),
        ("abc", "ad", "abcd"),
        ("abc", "ca", "bca"),
        ("abcd", "dbx", "acdbx"),
        ("abc", "xcb", "axcb"),
    ] {
        check(old, wanted, expect);
    }
}

#[test]
fn other_versions() {
    let live = |version: &str, fields: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"uid": "1", "labels": {"a": "1"}, "managedFields": [
            {"manager": "old", "operation": "Apply", "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields,
                "time": "2020-01-01T00:00:00Z"}]},
            "spec": {"node": "n"}})
    };
    let apply = |live: &Value, manager: &str, wanted: Value| {
        writer_of(manager, "", 1, |w| w.apply(Some(live), &config(wanted), "Pod", false))
    };
    let node = || json!({"spec": {"node": "n"}});
    // the same manager in another version: what it applied there and not here goes
    for (version, field) in [("v1", "node"), ("v2", "node"), ("v3", "host")] {
        let mut spec = Map::new();
        spec.insert(format!("f:{field}"), json!({}));
        let live = live(version, json!({"f:spec": spec, "f:metadata": {"f:labels": {"f:a": {}}}}));
        let got = apply(&live, "old", node()).unwrap();
        assert_eq!(got.object["metadata"].get("labels"), None, "{version}");
        assert_eq!(got.object["spec"], json!({"node": "n"}), "{version}");
        let managed = into_list(got.managed);
        assert_eq!((managed.len(), &managed[0]["apiVersion"]), (1, &json!("v1")), "{version}");
        // somebody else's change is a conflict in its version
        let error = apply(&live, "new", json!({"spec": {"node": "m"}})).unwrap_err().to_status().message;
        assert_eq!(error, format!("Apply failed with 1 conflict: conflict with \"old\": .spec.{field}"));
        // and what others own in their version stays
        let shared = apply(&live, "new", labels(json!({"a": "1", "b": "1"}))).unwrap();
        let mut object = shared.object;
        put_managed(&mut object, into_list(shared.managed));
        let left = apply(&object, "new", labels(json!({}))).unwrap();
        assert_eq!(left.object["metadata"]["labels"], json!({"a": "1"}), "{version}");
    }
    // a version that is served no more is forgotten
    let gone = live("v0", json!({"f:spec": {"f:node": {}}}));
    let got = apply(&gone, "new", json!({"spec": {"node": "m"}})).unwrap();
    assert_eq!(into_list(got.managed).len(), 1);
    let mut updated = gone.clone();
    updated["spec"]["node"] = json!("m");
    writer_of("u", "", 1, |w| w.update(Some(&gone), &mut updated));
    assert_eq!(into_list(take_managed(&mut updated)).len(), 1);
    // an updater's change is seen in the versions of others
    let renamed = live("v3", json!({"f:spec": {"f:host": {}}, "f:metadata": {"f:labels": {"f:a": {}}}}));
    let mut updated = renamed.clone();
    updated["spec"]["node"] = json!("m");
    writer_of("u", "", 1, |w| w.update(Some(&renamed), &mut updated));
    assert_eq!(
        fields(&updated["metadata"]["managedFields"][0]),
        json!({"f:metadata": {"f:labels": {"f:a": {}}}})
    );
}

#[test]
fn fields_that_were_granular() {
    // recorded below a map that counts as one value by now: owning part of it is owning it
    let mut live = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"uid": "1", "managedFields": [
        {"manager": "old", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:nodeSelector": {"f:a": {}}, "f:node": {}}}}]},
        "spec": {"nodeSelector": {"a": "1"}, "node": "n"}});
    let wanted = config(json!({"spec": {"nodeSelector": {"a": "2"}}}));
    let apply = |force: bool| writer_of("new", "", 1, |w| w.apply(Some(&live), &wanted, "Pod", force));
    assert_eq!(
        apply(false).unwrap_err().to_status().message,
        "Apply failed with 1 conflict: conflict with \"old\": .spec.nodeSelector"
    );
    let managed = into_list(apply(true).unwrap().managed);
    let of_old = managed.iter().find(|entry| entry["manager"] == "old").unwrap();
    assert_eq!(fields(of_old), json!({"f:spec": {"f:node": {}}}));
    let before = live.clone();
    live["spec"]["nodeSelector"]["b"] = json!("2");
    writer_of("u", "", 1, |w| w.update(Some(&before), &mut live));
    assert_eq!(fields(&live["metadata"]["managedFields"][0]), json!({"f:spec": {"f:node": {}}}));
}

/// Upstream's `TestTransformManagedFieldsToSubresource` and `TestTransformingManagedFieldsToParent`.
#[test]
fn scales() {
    let entry = |manager: &str, operation: &str, version: &str, subresource: &str, fields: Value| {
        let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": fields.to_string()});
        if !subresource.is_empty() {
            entry["subresource"] = json!(subresource);
        }
        entry
    };
    let replicas = || json!({"f:spec": {"f:replicas": {}}});
    let both = || json!({"f:spec": {"f:replicas": {}, "f:selector": {}}});
    let rest = || json!({"f:spec": {"f:selector": {}}});
    let known = |version: &str| version == "apps/v1";
    let parent = json!([
        entry("test", "Apply", "apps/v1", "", both()),
        entry("none", "Apply", "apps/v1", "", rest()),
        entry("old", "Apply", "apps/v9", "", both()),
        entry("scale", "Update", "apps/v1", "scale", replicas()),
    ]);
    assert_eq!(
        scale::to_scale(Some(&parent), &known).unwrap(),
        Some(json!([
            entry("test", "Apply", "autoscaling/v1", "", replicas()),
            entry("scale", "Update", "autoscaling/v1", "scale", replicas()),
        ]))
    );
    let check = |parent: Vec<Value>, scale: Vec<Value>, expect: Vec<Value>| {
        let got = scale::to_parent(Some(&json!(parent)), Some(&json!(scale)), "apps/v1", &known).unwrap();
        assert_eq!(got, Some(json!(expect)));
    };
    for (theirs, ours) in [("Apply", "Update"), ("Apply", "Apply"), ("Update", "Update"), ("Update", "Apply")]
    {
        for manager in ["scale", "test"] {
            let stolen = entry("test", theirs, "apps/v1", "", rest());
            let taken = entry(manager, ours, "apps/v1", "scale", replicas());
            let mut expect = vec![stolen, taken];
            let key = |e: &Value| {
                [&e["operation"], &e["manager"], &e["subresource"]]
                    .map(|v| v.as_str().unwrap_or_default().to_owned())
            };
            expect.sort_by_key(key);
            check(
                vec![entry("test", theirs, "apps/v1", "", both())],
                vec![entry(manager, ours, "autoscaling/v1", "scale", replicas())],
                expect,
            );
        }
    }
    // it does not own the replicas (any more), takes all there was, leaves all, or knows no such version
    let other = entry("scale", "Update", "autoscaling/v1", "scale", json!({"f:status": {"f:replicas": {}}}));
    let mine = || entry("test", "Apply", "apps/v1", "", rest());
    check(vec![mine()], vec![other], vec![mine()]);
    let scaled = |version: &str| entry("scale", "Update", version, "scale", replicas());
    check(
        vec![entry("test", "Apply", "apps/v1", "", replicas()), entry("o", "Apply", "apps/v9", "", rest())],
        vec![scaled("autoscaling/v1")],
        vec![scaled("apps/v1")],
    );
    let shared = |version: &str, fields: Value| entry("test", "Apply", version, "", fields);
    let same = |version: &str| entry("test", "Apply", version, "scale", replicas());
    check(
        vec![shared("apps/v1", both())],
        vec![shared("autoscaling/v1", replicas()), same("autoscaling/v1")],
        vec![shared("apps/v1", both()), same("apps/v1")],
    );
}

/// A configuration over the names of one side (`true`: a, b, c; `false`: x, y, z), so that two sides share no
/// field but those of keys.
fn some_config(side: bool) -> impl Strategy<Value = Value> {
    let names = if side { ["a", "b", "c"] } else { ["x", "y", "z"] };
    let picked = move || proptest::sample::subsequence(names.to_vec(), 0..=3);
    let shuffled = move || picked().prop_shuffle();
    (picked(), shuffled(), shuffled(), 0..3u8, 0..3u8, shuffled()).prop_map(
        move |(labels, finalizers, containers, value, whole, ports)| {
            let labels: Map<String, Value> =
                labels.iter().map(|n| ((*n).to_owned(), json!(value.to_string()))).collect();
            let offset = if side { 0 } else { 100 };
            let ports: Vec<Value> = ports
                .iter()
                .enumerate()
                .map(|(at, _)| json!({"containerPort": offset + at, "protocol": if value == 0 { "TCP" } else { "UDP" }}))
                .collect();
            let containers: Vec<Value> = containers
                .iter()
                .map(|n| {
                    let mut container = json!({"name": n, "args": [value.to_string()], "securityContext": {"user": value + 1}});
                    if !ports.is_empty() {
                        container["ports"] = json!(ports);
                    }
                    container
                })
                .collect();
            let mut config = json!({"metadata": {}, "spec": {}});
            // an empty map or list is a value of its own, which two sides would share
            let mut put = |part: &str, field: &str, value: Value, empty: bool| {
                if !empty {
                    config[part][field] = value;
                }
            };
            put("metadata", "labels", json!(labels), labels.is_empty());
            put("metadata", "finalizers", json!(finalizers), finalizers.is_empty());
            put("spec", "containers", json!(containers), containers.is_empty());
            match (side, whole) {
                (_, 0) => {}
                (true, n) => config["spec"]["nodeSelector"] = json!({"k": n.to_string()}),
                (false, n) => config["spec"]["node"] = json!(n.to_string()),
            }
            config
        },
    )
}

/// Lists that merge have no order that counts.
fn sorted(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.iter_mut().for_each(sorted);
            list.sort_by_key(Value::to_string);
        }
        Value::Object(map) => map.values_mut().for_each(sorted),
        _ => {}
    }
}

proptest! {
    #[test]
    fn applying_again_changes_nothing(first in some_config(true), other in some_config(false), second in some_config(true)) {
        let one = apply(None, "m", "", 1, false, first).unwrap();
        let two = apply(Some(&one), "n", "", 2, false, other).unwrap();
        let three = apply(Some(&two), "m", "", 3, false, second.clone()).unwrap();
        let again = writer_of("m", "", 4, |w| w.apply(Some(&three), &config(second.clone()), "Pod", false)).unwrap();
        prop_assert!(!again.changed, "{:#}", again.object);
        let four = apply(Some(&three), "m", "", 4, false, second).unwrap();
        prop_assert!(equal_but_for_times(&four, &three), "{four:#}");
    }

    #[test]
    fn disjoint_applies_commute(
        start in some_config(true), mine in some_config(true), theirs in some_config(false), before in some_config(false),
    ) {
        let both = |first: (&str, &Value), second: (&str, &Value)| {
            let live = apply(None, "m", "", 1, false, start.clone()).unwrap();
            let live = apply(Some(&live), "n", "", 1, false, before.clone()).unwrap();
            let live = apply(Some(&live), first.0, "", 1, false, first.1.clone()).unwrap();
            let mut live = apply(Some(&live), second.0, "", 1, false, second.1.clone()).unwrap();
            sorted(&mut live);
            // a write that changes nothing leaves an entry's time out
            for entry in live["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
                entry.as_object_mut().unwrap().remove("time");
            }
            live
        };
        prop_assert_eq!(both(("m", &mine), ("n", &theirs)), both(("n", &theirs), ("m", &mine)));
    }

    /// An update that is an apply's result is that apply, but for who owns what.
    #[test]
    fn what_an_apply_leaves_owned_is_there(first in some_config(true), second in some_config(true)) {
        let one = apply(None, "m", "", 1, false, first.clone()).unwrap();
        let two = apply(Some(&one), "m", "", 2, false, second.clone()).unwrap();
        let (schema, ty) = schema();
        let mut wanted = set_of(&schema, ty, &config(second.clone()));
        wanted.subtract(&UNOWNED);
        let entries = decode(two["metadata"].get("managedFields")).unwrap();
        let owned = entries.into_iter().next().map(|e| e.fields).unwrap_or_default();
        prop_assert_eq!(&owned, &wanted);
        let text = wanted.to_json();
        let recorded = text::Tree::read(&text).unwrap();
        let none = FieldSet::new();
        for other in [&first, &second] {
            let mut set = set_of(&schema, ty, &config(other.clone()));
            set.subtract(&UNOWNED);
            let same = recorded::is_set_of(&schema, ty, &config(other.clone()), [&none, &UNOWNED], &recorded);
            prop_assert_eq!(same, set == wanted && !set.is_empty());
        }
        // nobody else wrote, so that nothing is there that is not owned, but keys and empty parts
        let mut there = set_of(&schema, ty, &two);
        there.subtract(&UNOWNED);
        there.subtract(&owned);
        let left = there.to_json();
        prop_assert!(!left.contains("f:labels\":{\"f:") && !left.contains("f:args") && !left.contains("v:"), "{left}");
    }
}
