use serde_json::json;

use super::super::normal;
use super::*;
use crate::schema::{Field, List, ListType, Member, Omit, Schema, Shape, Type};

/// A Deployment in small: `spec` a struct, `spec.replicas` a pointer, `status` a struct.
fn plan() -> (Schema, TypeId) {
    let mut schema = Schema::new();
    let field = |name: &'static str, tag, shape| Field { tag, pointer: false, ..Field::new(name, shape) };
    let pointer = |name: &'static str, tag, shape| Field { tag, ..Field::new(name, shape) };
    let always = |name: &'static str, tag, shape| Field {
        tag,
        pointer: false,
        omit: Omit::Never,
        ..Field::new(name, shape)
    };
    let list = |element| {
        Shape::List(Box::new(List { element, kind: ListType::Atomic, keys: vec![], wrapped: false }))
    };
    let map = |value| Shape::Map(Box::new(crate::schema::Map { value }));
    let inner = schema.add(Type::new(
        "io.k8s.api.core.v1.Port",
        vec![
            Member::Field(always("name", 1, Shape::String)),
            Member::Field(field("at", 2, Shape::Time)),
            Member::Field(pointer("target", 3, Shape::IntOrString)),
        ],
    ));
    let spec = schema.add(Type::new(
        "io.k8s.api.apps.v1.DeploymentSpec",
        vec![
            Member::Field(pointer("replicas", 1, Shape::Int32)),
            Member::Field(field("paused", 2, Shape::Bool)),
            Member::Field(always("names", 3, list(Shape::String))),
            Member::Field(field("ports", 4, list(Shape::Message(inner)))),
            Member::Field(field("labels", 5, map(Shape::String))),
            Member::Field(field("data", 6, map(Shape::Bytes))),
            Member::Field(pointer("size", 7, Shape::Quantity)),
            Member::Field(field("raw", 8, Shape::RawExtension)),
        ],
    ));
    let root = schema.add(Type::new(
        "io.k8s.api.apps.v1.Deployment",
        vec![
            Member::Field(field("kind", 0, Shape::String)),
            Member::Field(field("spec", 1, Shape::Message(spec))),
            Member::Field(Field { omit: Omit::Zero, ..field("made", 2, Shape::Time) }),
        ],
    ));
    (schema, root)
}

#[test]
fn normal_form_is_what_go_writes() {
    let (schema, root) = plan();
    let check = |text: &str, expect: Value| {
        let got = decode(&schema, root, text.as_bytes()).unwrap();
        assert_eq!(got.value, expect, "{text}");
        let mut again = got.value.clone();
        normal::normalize(&schema, root, &mut again).unwrap();
        assert_eq!(again, expect, "normal form stays as it is: {text}");
        let conformed = normal::conform(&schema, root, serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!((conformed.value, conformed.unknown), (got.value, got.unknown), "{text}");
    };
    let zero = json!({"spec": {"names": null, "raw": null}});
    check("{}", zero.clone());
    check("null", zero.clone());
    check(r#"{"spec": null, "made": null, "kind": ""}"#, zero.clone());
    check(r#"{"spec": {"paused": false, "ports": [], "labels": {}, "names": [], "data": null}}"#, zero);
    check(
        r#"{"spec": {"replicas": 0, "size": 1.50, "ports": [{}, null], "labels": {"a": null}, "names": ["x", null]}}"#,
        json!({"spec": {
            "replicas": 0, "size": "1500m", "raw": null, "labels": {"a": ""}, "names": ["x", ""],
            "ports": [{"name": "", "at": null}, {"name": "", "at": null}]
        }}),
    );
    check(
        r#"{"made": "2026-01-01T02:00:00.5+02:00", "spec": {"data": {"k": "YWJj"}, "raw": {"b": [1, 2.5]}, "x": {"y": 1}}}"#,
        json!({"made": "2026-01-01T00:00:00Z", "spec": {"names": null, "data": {"k": "YWJj"}, "raw": {"b": [1, 2.5]}}}),
    );
}

#[test]
fn what_is_wrong_is_said_as_go_says_it() {
    let (schema, root) = plan();
    let check = |text: &str, expect: &str| {
        let got = decode(&schema, root, text.as_bytes()).unwrap_err().to_string();
        assert_eq!(got, expect, "{text}");
    };
    let field = "json: cannot unmarshal";
    let replicas = "into Go struct field DeploymentSpec.spec.replicas of type int32";
    check(r#"{"spec": {"replicas": "1"}}"#, &format!("{field} string {replicas}"));
    check(r#"{"spec": {"replicas": 1.5}}"#, &format!("{field} number 1.5 {replicas}"));
    check(r#"{"spec": {"replicas": 3000000000}}"#, &format!("{field} number 3000000000 {replicas}"));
    check(r#"{"spec": {"replicas": 1e400}}"#, &format!("{field} number 1e400 {replicas}"));
    check(r#"{"spec": {"replicas": {}}}"#, &format!("{field} object {replicas}"));
    check(
        r#"{"spec": []}"#,
        &format!("{field} array into Go struct field Deployment.spec of type v1.DeploymentSpec"),
    );
    check(
        r#"{"spec": {"ports": [{"name": "a"}, {"name": true}]}}"#,
        &format!("{field} bool into Go struct field Port.spec.ports.name of type string"),
    );
    check(
        r#"{"spec": {"labels": {"a": 1}}}"#,
        &format!("{field} number into Go struct field DeploymentSpec.spec.labels of type string"),
    );
    check(r#"{"spec": {"data": {"a": "?"}}}"#, "illegal base64 data at input byte 0");
    check(
        r#"{"spec": {"ports": [{"target": 1.5}]}}"#,
        "json: cannot unmarshal number 1.5 into Go value of type int32",
    );
    check("[]", "json: cannot unmarshal array into Go value of type v1.Deployment");
    // syntax goes first
    check(r#"{"spec": {"replicas": "1"}"#, "unexpected end of JSON input");
    check("{", "unexpected end of JSON input");
    check("", "unexpected end of JSON input");
    check("{}x", "invalid character 'x' after top-level value");
    check("{a}", "invalid character 'a' looking for beginning of object key string");
    check(r#"{"a" 1}"#, "invalid character '1' after object key");
    check(r#"{"a": 1 "b"}"#, "invalid character '\"' after object key:value pair");
    check(r#"{"a": [1,]}"#, "invalid character ']' looking for beginning of value");
    check(r#"{"a": [1 2]}"#, "invalid character '2' after array element");
    check(r#"{"a": tru }"#, "invalid character ' ' in literal true (expecting 'e')");
    check(r#"{"a": 01}"#, "invalid character '1' after object key:value pair");
    check(r#"{"a": 1.}"#, "invalid character '}' after decimal point in numeric literal");
    check("{\"a\": \"\n\"}", "invalid character '\\n' in string literal");
    check(r#"{"a": "\x"}"#, "invalid character 'x' in string escape code");
    check(r#"{"a": "\u12g4"}"#, "invalid character 'g' in \\u hexadecimal character escape");
    let deep = format!("{{\"a\": {}", "[".repeat(100_000));
    check(&deep, "exceeded max depth");
    let bad = decode(&schema, root, b"{\"a\": \"\xff\"}").unwrap_err();
    assert_eq!(bad.to_string(), "invalid UTF-8 in JSON at byte 7");
}

#[test]
fn strictness_names_fields_in_the_order_of_the_document() {
    let (schema, root) = plan();
    let check = |text: &str, expect: Option<&str>| {
        let got = decode(&schema, root, text.as_bytes()).unwrap();
        assert_eq!(got.strict_error().as_deref(), expect, "{text}");
    };
    check(r#"{"kind": "D", "spec": {"replicas": 1}}"#, None);
    check(
        r#"{"spec": {"foo": 1, "replicas": 1, "replicas": 2, "Replicas": 1, "foo": 2}, "Kind": "x"}"#,
        Some(
            "strict decoding error: unknown field \"spec.foo\", duplicate field \"spec.replicas\", unknown field \"spec.Replicas\", unknown field \"Kind\"",
        ),
    );
    check(
        r#"{"spec": {"ports": [{}, {"x": 1}], "labels": {"a": "1", "a": "2"}, "raw": {"q": 1, "q": 2}}}"#,
        Some("strict decoding error: unknown field \"spec.ports[1].x\", duplicate field \"spec.labels.a\""),
    );
}

#[test]
fn a_type_may_keep_what_it_does_not_know() {
    let mut schema = Schema::new();
    let mut ty = Type::new("free", vec![Member::Field(Field::new("known", Shape::Int32))]);
    ty.preserve_unknown = true;
    let id = schema.add(ty);
    let got = decode(&schema, id, br#"{"b": {"c": [{"d": 1, "d": 2}]}, "known": 1, "b2": null}"#).unwrap();
    assert_eq!(got.value, json!({"b": {"c": [{"d": 2}]}, "known": 1, "b2": null}));
    assert_eq!(got.strict, ["duplicate field \"b.c[0].d\""]);
    let mut again = got.value.clone();
    normal::normalize(&schema, id, &mut again).unwrap();
    assert_eq!(again, got.value);
}

#[test]
fn writing_follows_the_fields_and_escapes_as_go_does() {
    let (schema, root) = plan();
    let value = json!({"made": "t", "zzz": 1, "spec": {"labels": {"b": "<&>", "a": "\u{2028}\u{1}é\"\\"}, "replicas": 1}, "kind": "D"});
    let text = String::from_utf8(to_vec(&schema, root, &value)).unwrap();
    assert_eq!(
        text,
        r#"{"kind":"D","spec":{"replicas":1,"labels":{"a":"\u2028\u0001é\"\\","b":"\u003c\u0026\u003e"}},"made":"t","zzz":1}"#
    );
    let check = |n: f64, expect: &str| {
        let mut out = Vec::new();
        encode::write_double(n, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    };
    check(1.0, "1");
    check(0.1, "0.1");
    check(1e21, "1e+21");
    check(1e-7, "1e-7");
    check(123456789.0, "123456789");
    check(-2.5e-9, "-2.5e-9");
}

#[test]
fn unstructured_numbers_and_type_meta() {
    let (value, duplicates) =
        parse(br#"{"a": 1, "b": 1.0, "c": 1e3, "d": {"x": [{"y": 1, "y": 2}]}}"#).unwrap();
    assert_eq!(value, json!({"a": 1, "b": 1.0, "c": 1000.0, "d": {"x": [{"y": 2}]}}));
    assert_eq!(duplicates, ["duplicate field \"d.x[0].y\""]);
    assert!(parse(b"1e999").is_err());
    let meta = |text: &str| type_meta(text.as_bytes()).map_err(|e| e.to_string());
    assert_eq!(meta(r#"{"x": [1, {}], "kind": "Pod", "apiVersion": "v1"}"#), Ok(("v1".into(), "Pod".into())));
    assert_eq!(meta("{}"), Ok((String::new(), String::new())));
    assert_eq!(
        meta(r#"{"kind": 1}"#),
        Err("json: cannot unmarshal number into Go struct field .kind of type string".into())
    );
}
