mod apply;

use serde_json::json;

use super::*;
use crate::schema::{Field, List, ListType, Map as MapShape, Member, Omit, Shape, Type};

fn field(name: &'static str, shape: Shape) -> Field {
    Field { pointer: false, ..Field::new(name, shape) }
}

fn members(fields: Vec<Field>) -> Vec<Member> {
    fields.into_iter().map(Member::Field).collect()
}

fn list(element: Shape, kind: ListType, keys: &[&'static str]) -> Shape {
    let keys = keys.iter().map(|k| Name::Borrowed(*k)).collect();
    Shape::List(Box::new(List { element, kind, keys, wrapped: false }))
}

fn map(value: Shape) -> Shape {
    Shape::Map(Box::new(MapShape { value }))
}

/// A small pod, in the way Go declares one.
fn schema() -> (Schema, TypeId) {
    let mut schema = Schema::new();
    let meta = schema.add(Type::new(
        "meta",
        members(vec![
            field("name", Shape::String),
            field("namespace", Shape::String),
            field("uid", Shape::String),
            field("labels", map(Shape::String)),
            field("annotations", map(Shape::String)),
            field("finalizers", list(Shape::String, ListType::Set, &[])),
            field("managedFields", list(Shape::RawExtension, ListType::Atomic, &[])),
        ]),
    ));
    let port = schema.add(Type::new(
        "port",
        members(vec![
            Field { omit: Omit::Never, ..field("containerPort", Shape::Int32) },
            Field { default: Some("\"TCP\"".into()), ..field("protocol", Shape::String) },
        ]),
    ));
    let context = schema.add(Type::new("context", members(vec![field("user", Shape::Int64)])));
    let container = schema.add(Type::new(
        "container",
        members(vec![
            Field { omit: Omit::Never, ..field("name", Shape::String) },
            field("args", list(Shape::String, ListType::Atomic, &[])),
            field("ports", list(Shape::Message(port), ListType::Map, &["containerPort", "protocol"])),
            field("resources", Shape::Message(context)),
            Field::new("securityContext", Shape::Message(context)),
        ]),
    ));
    let spec = schema.add(Type::new(
        "spec",
        members(vec![
            Field {
                omit: Omit::Never,
                ..field("containers", list(Shape::Message(container), ListType::Map, &["name"]))
            },
            Field { atomic: Some(true), ..field("nodeSelector", map(Shape::String)) },
            field("node", Shape::String),
            Field::new("free", Shape::Json),
        ]),
    ));
    let status = schema.add(Type::new("status", members(vec![field("phase", Shape::String)])));
    let pod = schema.add(Type::new(
        "pod",
        members(vec![
            field("kind", Shape::String),
            field("apiVersion", Shape::String),
            field("metadata", Shape::Message(meta)),
            field("spec", Shape::Message(spec)),
            field("status", Shape::Message(status)),
        ]),
    ));
    (schema, pod)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn reset(subresource: &str) -> Reset {
    match subresource {
        "" => Reset::of_fields(&[&["status"]]),
        _ => Reset::of_fields(&[&["spec"]]),
    }
}

fn write(live: Option<&Value>, mut new: Value, manager: &str, subresource: &str, seconds: i64) -> Value {
    let (schema, ty) = schema();
    let reset = reset(subresource);
    let (now, api_version, convert) = (at(seconds), "v1", &|_: &Value, _: &str, _: &str| None);
    let writer =
        Writer { schema: &schema, ty, api_version, manager, subresource, now, reset: &reset, convert };
    writer.update(live, &mut new);
    new
}

fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "x", "uid": "1", "labels": {"a": "1", "b": "2"}, "finalizers": ["z", "y"]},
        "spec": {
            "containers": [{"name": "c", "args": ["a"], "ports": [{"containerPort": 80}],
                "resources": {}, "securityContext": {}}],
            "nodeSelector": {"k": "v"}, "node": "n", "free": {"x": {"y": [1]}}},
        "status": {"phase": "Pending"}
    })
}

/// An entry's fields as JSON.
fn fields(entry: &Value) -> Value {
    entry["fieldsV1"].as_str().map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
}

/// manager, operation or subresource, seconds, fields
fn owners(object: &Value) -> Value {
    let managed = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let one = |e: &Value| {
        let time: Timestamp = e["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(
            (&e["operation"], &e["fieldsType"], &e["apiVersion"]),
            (&json!("Update"), &json!("FieldsV1"), &json!("v1"))
        );
        json!([e["manager"], e["subresource"], time.as_second(), fields(e)])
    };
    managed.iter().map(one).collect()
}

#[test]
fn created() {
    let object = write(None, pod(), "kubectl", "", 100);
    let fields = json!({
        "f:metadata": {
            "f:labels": {".": {}, "f:a": {}, "f:b": {}},
            "f:finalizers": {".": {}, "v:\"y\"": {}, "v:\"z\"": {}}},
        "f:spec": {
            "f:containers": {"k:{\"name\":\"c\"}": {
                ".": {}, "f:name": {}, "f:args": {}, "f:resources": {}, "f:securityContext": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
            "f:nodeSelector": {}, "f:node": {}, "f:free": {".": {}, "f:x": {".": {}, "f:y": {}}}}
    });
    assert_eq!(owners(&object), json!([["kubectl", null, 100, fields]]));
}

#[test]
fn updated() {
    let created = write(None, pod(), "kubectl", "", 100);
    // status through its endpoint: only the status is recorded, under its subresource
    let mut new = created.clone();
    new["status"]["phase"] = json!("Running");
    new["spec"]["node"] = json!("other");
    let running = write(Some(&created), new, "kubelet", "status", 200);
    let managed = owners(&running);
    assert_eq!(managed[0], owners(&created)[0]);
    assert_eq!(managed[1], json!(["kubelet", "status", 200, {"f:status": {"f:phase": {}}}]));
    // nothing changes: nobody's time does
    let again = write(Some(&running), running.clone(), "kubectl", "", 300);
    assert_eq!(again, running);
    // a changed field moves, a removed one leaves everybody, a new one is added
    let mut new = running.clone();
    new["metadata"]["labels"] = json!({"a": "other", "c": "3"});
    let relabelled = write(Some(&running), new, "controller", "", 400);
    let managed = owners(&relabelled);
    assert_eq!(managed[0][3]["f:metadata"]["f:labels"], json!({}));
    assert_eq!(
        managed[2],
        json!(["controller", null, 400, {"f:metadata": {"f:labels": {"f:a": {}, "f:c": {}}}}])
    );
    // the same manager again: one entry, joined
    let mut new = relabelled.clone();
    new["spec"]["node"] = json!("m");
    let moved = write(Some(&relabelled), new, "controller", "", 500);
    assert_eq!(owners(&moved)[2][2], 500);
    assert_eq!(owners(&moved)[2][3]["f:spec"], json!({"f:node": {}}));
    assert_eq!(owners(&moved)[2][3]["f:metadata"]["f:labels"], json!({"f:a": {}, "f:c": {}}));
}

#[test]
fn resets() {
    let created = write(None, pod(), "kubectl", "", 100);
    for (given, tracked) in
        [(json!([]), false), (json!([{}]), false), (json!(null), true), (json!([{"operation": "x"}]), true)]
    {
        let mut new = created.clone();
        new["metadata"]["managedFields"] = given.clone();
        new["spec"]["node"] = json!("m");
        let got = write(Some(&created), new, "me", "", 200);
        assert_eq!(got["metadata"].get("managedFields").is_some(), tracked, "{given}");
    }
}

#[test]
fn capped() {
    let mut object = write(None, pod(), "m00", "", 100);
    for i in 1..15 {
        let mut new = object.clone();
        new["metadata"]["labels"][format!("l{i}")] = json!("x");
        object = write(Some(&object), new, &format!("m{i:02}"), "", 100 + i);
    }
    let managed = owners(&object);
    assert_eq!(managed.as_array().unwrap().len(), 10);
    assert_eq!(managed[0][0], "ancient-changes");
    assert_eq!(managed[0][2], 105);
    let names: Vec<_> =
        managed.as_array().unwrap().iter().map(|e| e[0].as_str().unwrap().to_string()).collect();
    assert_eq!(names[1..], ["m06", "m07", "m08", "m09", "m10", "m11", "m12", "m13", "m14"]);
}

#[test]
fn whole_sets() {
    let (schema, ty) = schema();
    let set = set_of(&schema, ty, &pod());
    assert_eq!(
        set.to_json(),
        r#"{"f:apiVersion":{},"f:kind":{},"f:metadata":{"f:finalizers":{"v:\"y\"":{},"v:\"z\"":{}},"f:labels":{"f:a":{},"f:b":{}},"f:name":{},"f:uid":{}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}},"f:resources":{},"f:securityContext":{}}},"f:free":{"f:x":{".":{},"f:y":{}}},"f:node":{},"f:nodeSelector":{}},"f:status":{"f:phase":{}}}"#
    );
    assert_eq!(FieldSet::from_json(&set.to_json()).unwrap(), set);
}

#[test]
fn sets() {
    let set = |value: Value| FieldSet::from_json(&value.to_string()).unwrap();
    let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "i:3": {}, "x:1": {}}));
    assert_eq!(a.len(), 4);
    let b = set(json!({"f:b": {}, "f:d": {}}));
    assert_eq!(
        a.clone().union(b.clone()).to_json(),
        r#"{"f:a":{},"f:b":{".":{},"f:c":{}},"f:d":{},"i:3":{}}"#
    );
    assert_eq!(a.intersection(&b).to_json(), r#"{"f:b":{}}"#);
    assert!(a.intersects(&b) && !a.intersects(&set(json!({"f:z": {}}))));
    let mut less = a.clone();
    less.subtract(&b);
    assert_eq!(less.to_json(), r#"{"f:a":{},"f:b":{"f:c":{}},"i:3":{}}"#);
    let mut less = a.clone();
    less.subtract_trees(&b);
    assert_eq!(less.to_json(), r#"{"f:a":{},"i:3":{}}"#);
    assert!(a.has(&[PathElement::Field("b".into()), PathElement::Field("c".into())]));
    let numbers = set(json!({"v:10": {}, "v:9": {}, "k:{\"a\":10}": {}, "k:{\"a\":9}": {}}));
    assert_eq!(numbers.to_json(), r#"{"k:{\"a\":9}":{},"k:{\"a\":10}":{},"v:9":{},"v:10":{}}"#);
    for bad in [json!({"f": {}}), json!({"v:x": {}}), json!({"k:1": {}}), json!({"f:a": 1}), json!([])] {
        assert_eq!(FieldSet::from_json(&bad.to_string()), None, "{bad}");
    }
}

#[test]
fn duplicates_and_oddities() {
    let (schema, ty) = schema();
    let with = |containers: Value| json!({"spec": {"containers": containers}});
    let one = with(json!([{"name": "c", "args": ["a"]}]));
    let two = with(json!([{"name": "c", "args": ["a"]}, {"name": "c", "args": ["b"]}]));
    let check = |old: &Value, new: &Value, expect: [&str; 3]| {
        let diff = compare(&schema, ty, Some(old), new);
        assert_eq!([diff.added.to_json(), diff.modified.to_json(), diff.removed.to_json()], expect);
    };
    let c = r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{}}}}"#;
    check(&two, &two, ["{}", "{}", "{}"]);
    check(
        &one,
        &two,
        [c, "{}", r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:name":{}}}}}"#],
    );
    check(&with(json!([1, {}])), &with(Value::Null), ["{}", "{}", "{}"]);
    check(
        &json!({"spec": {"free": 1}}),
        &json!({"spec": {"free": {"a": 1}}}),
        [r#"{"f:spec":{"f:free":{"f:a":{}}}}"#, r#"{"f:spec":{"f:free":{}}}"#, "{}"],
    );
    check(
        &json!({"metadata": {"labels": {"a": "1"}}}),
        &json!({"metadata": {}}),
        ["{}", "{}", r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}"#],
    );
}

#[test]
fn names() {
    for (manager, agent, expect) in [
        ("me", "kubectl/v1", "me"),
        ("", "kubectl/v1.36 (linux)", "kubectl"),
        ("", "a\u{1}b", "ab"),
        ("", "", ""),
    ] {
        assert_eq!(manager_name(manager, agent), expect);
    }
    assert_eq!(manager_name("", &"ä".repeat(100)).len(), 128);
}

#[test]
fn times() {
    let a = write(None, pod(), "m", "", 100);
    let mut b = write(None, pod(), "m", "", 200);
    assert!(a != b && equal_but_for_times(&a, &b));
    b["metadata"]["managedFields"][0]["manager"] = json!("n");
    assert!(!equal_but_for_times(&a, &b));
    assert!(!equal_but_for_times(&a, &pod()));
}

/// Sets of a few paths over a small alphabet, so that they overlap.
fn some_set() -> impl proptest::strategy::Strategy<Value = FieldSet> {
    use proptest::{collection::vec, strategy::Strategy};
    let element = (0..6usize).prop_map(|at| match at {
        0..=2 => PathElement::Field(["a", "b", "c"][at].into()),
        3 => PathElement::Value(json!(1)),
        4 => PathElement::Key(vec![("name".into(), json!("x"))]),
        _ => PathElement::Index(0),
    });
    vec(vec(element, 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::new();
        paths.into_iter().for_each(|path| set.insert(path));
        set
    })
}

proptest::proptest! {
    #[test]
    fn set_laws(a in some_set(), b in some_set()) {
        let both = a.clone().union(b.clone());
        proptest::prop_assert_eq!(&both, &b.clone().union(a.clone()));
        let shared = a.intersection(&b);
        proptest::prop_assert_eq!(!shared.is_empty(), a.intersects(&b));
        proptest::prop_assert!(!a.intersects(&b) || recorded::intersects(&b.to_json(), &a));
        proptest::prop_assert!(shared.is_subset(&a) && shared.is_subset(&b));
        proptest::prop_assert_eq!(a.is_subset(&b), shared == a);
        proptest::prop_assert_eq!(both.len() + shared.len(), a.len() + b.len());
        let mut rest = a.clone();
        rest.subtract(&b);
        proptest::prop_assert!(!rest.intersects(&b));
        if let Some(left) = recorded::subtract(&a.to_text(), &b) {
            proptest::prop_assert_eq!(left, rest.to_text());
        }
        proptest::prop_assert_eq!(rest.union(shared), a.clone());
        proptest::prop_assert_eq!(FieldSet::from_json(&a.to_json()).unwrap(), a.clone());
        proptest::prop_assert_eq!(FieldSet::from_json(&a.to_text()).unwrap(), a.clone());
        let value: Value = serde_json::from_str(&a.to_json()).unwrap();
        proptest::prop_assert_eq!(value.to_string(), a.to_text());
    }
}
