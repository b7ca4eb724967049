//! The codec against upstream's own data: one fully populated object of every kind, as JSON and as protobuf.

use std::path::{Path, PathBuf};

use apimachinery::codec::protobuf::{self, Head, envelope};
use apimachinery::codec::{json, normal};
use apimachinery::gvk;
use apimachinery::schema::{Omit, Schema, Shape, Type, TypeId};
use serde_json::{Value, json};

mod made;
mod oracle;

/// `None`: there is no reference data here, and this is not CI.
fn vectors() -> Option<PathBuf> {
    let dir = match std::env::var_os("CORTEN_SPEC") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec/v1.36"),
    }
    .join("vectors");
    if dir.exists() {
        return Some(dir);
    }
    assert!(std::env::var_os("CI").is_none(), "no reference data at {}", dir.display());
    eprintln!("skipped: no reference data at {}", dir.display());
    None
}

/// One object.
///
/// The few `.after_roundtrip` files beside the vectors are left alone: they show what the version after
/// v1.36 makes of the object (a `status` that v1.36's CSINode does not have).
struct Vector {
    name: String,
    ty: TypeId,
    json: Vec<u8>,
    pb: Vec<u8>,
}

/// Every vector whose kind is in the tables.
fn load(dir: &Path) -> Vec<Vector> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".pb").map(str::to_owned))
        .filter(|name| !name.ends_with(".after_roundtrip"))
        .collect();
    names.sort();
    let read = |name: &str| std::fs::read(dir.join(name));
    let vector = |name: String| {
        let (json, pb) = (read(&format!("{name}.json")).unwrap(), read(&format!("{name}.pb")).unwrap());
        let meta = envelope::unwrap(&pb).unwrap();
        let (group, version) = gvk::split(meta.api_version).unwrap();
        let ty = api::object_type(group, version, meta.kind)?;
        Some(Vector { name, ty, json, pb })
    };
    names.into_iter().filter_map(vector).collect()
}

fn parse(bytes: &[u8]) -> Value {
    json::parse(bytes).unwrap().0
}

/// Kind and apiVersion are in the envelope, not in the message.
fn without_type(mut value: Value) -> Value {
    let object = value.as_object_mut().unwrap();
    object.remove("kind");
    object.remove("apiVersion");
    value
}

#[test]
fn every_vector_comes_back_in_every_encoding() {
    let Some(dir) = vectors() else { return };
    let vectors = load(&dir);
    assert!(vectors.len() > 120, "only {} vectors have a kind in the tables", vectors.len());
    let schema = api::schema();
    let mut faults = Vec::new();
    for v in &vectors {
        if let Err(fault) = std::panic::catch_unwind(|| round(schema, v)).unwrap_or(Err("panicked".into())) {
            faults.push(format!("{}: {fault}", v.name));
        }
    }
    assert!(faults.is_empty(), "{} of {} fail:\n{}", faults.len(), vectors.len(), faults.join("\n"));
}

fn same(what: &str, got: &Value, expect: &Value) -> Result<(), String> {
    let (got, expect) = (&unfolded(got), &unfolded(expect));
    if got == expect { Ok(()) } else { Err(format!("{what}: {}", difference(got, expect, String::new()))) }
}

/// FieldsV1, which are texts in normal form, as the JSON that they are.
fn unfolded(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(unfolded).collect(),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| match value.as_str() {
                Some(text) if key == "fieldsV1" => (key.clone(), serde_json::from_str(text).unwrap()),
                _ => (key.clone(), unfolded(value)),
            };
            Value::Object(map.iter().map(entry).collect())
        }
        other => other.clone(),
    }
}

fn difference(got: &Value, expect: &Value, path: String) -> String {
    match (got, expect) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
            keys.sort();
            for key in keys {
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) if x == y => {}
                    (Some(x), Some(y)) => return difference(x, y, format!("{path}.{key}")),
                    (x, y) => return format!("{path}.{key}: {x:?} where {y:?} belongs"),
                }
            }
            path
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let at = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(0);
            difference(&a[at], &b[at], format!("{path}[{at}]"))
        }
        _ => format!("{path}: {got} where {expect} belongs"),
    }
}

fn round(schema: &Schema, v: &Vector) -> Result<(), String> {
    let fail = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
    let expect = parse(&v.json);
    let sealed = envelope::unwrap(&v.pb).map_err(|e| fail("envelope", &e))?;

    let read = json::decode(schema, v.ty, &v.json).map_err(|e| fail("json", &e))?;
    if !read.strict.is_empty() {
        return Err(format!("unknown fields: {:?}", read.strict));
    }
    same("json", &read.value, &expect)?;
    let mut again = expect.clone();
    normal::normalize(schema, v.ty, &mut again).map_err(|e| fail("normalize", &e))?;
    same("normalize", &again, &expect)?;
    let written = json::to_vec(schema, v.ty, &read.value);
    same("json written", &parse(&written), &expect)?;

    let raw = protobuf::encode(schema, v.ty, &read.value).map_err(|e| fail("encode", &e))?;
    if raw != sealed.raw {
        let at =
            raw.iter().zip(sealed.raw).position(|(a, b)| a != b).unwrap_or(raw.len().min(sealed.raw.len()));
        return Err(format!("protobuf differs at byte {at} of {} ({} written)", sealed.raw.len(), raw.len()));
    }
    let whole = protobuf::encode_enveloped(schema, v.ty, sealed.api_version, sealed.kind, &read.value);
    if envelope::wrap(sealed.api_version, sealed.kind, sealed.raw) != v.pb || whole.as_ref() != Ok(&v.pb) {
        return Err("the envelope differs".into());
    }

    let decoded = protobuf::decode(schema, v.ty, sealed.raw).map_err(|e| fail("decode", &e))?;
    same("protobuf", &decoded, &without_type(expect.clone()))?;
    let head = Head { kind: sealed.kind, api_version: sealed.api_version, resource_version: None };
    let mut out = Vec::new();
    protobuf::to_json(schema, v.ty, sealed.raw, &head, &mut out).map_err(|e| fail("to_json", &e))?;
    same("transcoded", &parse(&out), &expect)?;
    Ok(())
}

#[test]
fn typed_structs_read_and_write_protobuf_as_they_do_json() {
    let Some(dir) = vectors() else { return };
    let vectors = load(&dir);
    fn check<T>(vectors: &[Vector], name: &str)
    where
        T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
    {
        let v = vectors.iter().find(|v| v.name == name).unwrap_or_else(|| panic!("no vector {name}"));
        let raw = envelope::unwrap(&v.pb).unwrap().raw;
        let from_json: T = serde_json::from_slice(&v.json).unwrap();
        let from_protobuf: T = protobuf::from_slice(api::schema(), v.ty, raw).unwrap();
        assert_eq!(from_protobuf, from_json, "{name}");
        let written = protobuf::to_vec(api::schema(), v.ty, &from_json).unwrap();
        let (got, expect) = (
            protobuf::decode(api::schema(), v.ty, &written).unwrap(),
            protobuf::decode(api::schema(), v.ty, raw).unwrap(),
        );
        assert_eq!(got, expect, "{name}: {}", difference(&got, &expect, String::new()));
        assert!(written == raw, "{name} is written otherwise");
    }
    check::<api::core::v1::Pod>(&vectors, "core.v1.Pod");
    check::<api::core::v1::Node>(&vectors, "core.v1.Node");
    check::<api::core::v1::Service>(&vectors, "core.v1.Service");
    check::<api::core::v1::Secret>(&vectors, "core.v1.Secret");
    check::<api::core::v1::ConfigMap>(&vectors, "core.v1.ConfigMap");
    check::<api::core::v1::Namespace>(&vectors, "core.v1.Namespace");
    check::<api::core::v1::PersistentVolume>(&vectors, "core.v1.PersistentVolume");
    check::<api::apps::v1::Deployment>(&vectors, "apps.v1.Deployment");
    check::<api::apps::v1::ControllerRevision>(&vectors, "apps.v1.ControllerRevision");
    check::<api::coordination::v1::Lease>(&vectors, "coordination.k8s.io.v1.Lease");
    check::<api::discovery::v1::EndpointSlice>(&vectors, "discovery.k8s.io.v1.EndpointSlice");
    check::<api::rbac::v1::ClusterRole>(&vectors, "rbac.authorization.k8s.io.v1.ClusterRole");
    check::<api::authorization::v1::SubjectAccessReview>(
        &vectors,
        "authorization.k8s.io.v1.SubjectAccessReview",
    );
}

/// What a scheduler keeps of a Pod, say.
#[derive(serde::Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Brief {
    metadata: BriefMeta,
    #[serde(default)]
    spec: BriefSpec,
}

#[derive(serde::Deserialize, PartialEq, Debug)]
struct BriefMeta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(serde::Deserialize, PartialEq, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct BriefSpec {
    node_name: Option<String>,
    #[serde(default)]
    containers: Vec<BriefContainer>,
}

#[derive(serde::Deserialize, PartialEq, Debug)]
struct BriefContainer {
    name: String,
    image: Option<String>,
}

#[test]
fn a_small_struct_takes_what_it_needs() {
    let ty = api::object_type("", "v1", "Pod").unwrap();
    let check = |pod: Value| {
        let raw = protobuf::encode(api::schema(), ty, &pod).unwrap();
        protobuf::from_slice::<Brief>(api::schema(), ty, &raw).unwrap()
    };
    let brief = check(json!({
        "metadata": {"name": "a", "labels": {"x": "y"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}], "nodeName": "n"},
        "status": {"phase": "Running"},
    }));
    assert_eq!(brief.metadata.labels["x"], "y");
    assert_eq!(brief.spec.node_name.as_deref(), Some("n"));
    assert_eq!(brief.spec.containers, [BriefContainer { name: "c".into(), image: None }]);
    assert!(check(json!({})).spec.containers.is_empty());
}

/// Every type that calls itself a kind.
fn kinds() -> impl Iterator<Item = (TypeId, &'static Type)> {
    api::schema().types().filter(|(_, ty)| !ty.kinds.is_empty())
}

#[test]
fn zero_empty_sparse_and_full_objects_survive_protobuf() {
    let schema = api::schema();
    let mut seen = 0;
    for (id, ty) in kinds() {
        let message = Shape::Message(id);
        let objects = [
            ("zero", json!({})),
            ("empty", made::object(schema, &message, made::How::Empty, 0)),
            ("sparse", made::object(schema, &message, made::How::Sparse, 0)),
            ("full", made::object(schema, &message, made::How::Full, 0)),
        ];
        for (how, object) in objects {
            let text = serde_json::to_vec(&object).unwrap();
            let read = json::decode(schema, id, &text).unwrap_or_else(|e| panic!("{} {how}: {e}", ty.name));
            assert!(read.strict.is_empty(), "{} {how}: {:?}", ty.name, read.strict);
            let normal = without_type(read.value);
            let raw =
                protobuf::encode(schema, id, &normal).unwrap_or_else(|e| panic!("{} {how}: {e}", ty.name));
            assert_eq!(
                protobuf::to_vec(schema, id, &normal).as_ref(),
                Ok(&raw),
                "{} {how}: two ways",
                ty.name
            );
            let back = protobuf::decode(schema, id, &raw).unwrap();
            assert!(back == normal, "{} {how}: {}", ty.name, difference(&back, &normal, String::new()));
            let mut out = Vec::new();
            protobuf::to_json(schema, id, &raw, &Head::default(), &mut out).unwrap();
            same(&format!("{} {how}", ty.name), &parse(&out), &normal).unwrap();
            assert_eq!(out, json::to_vec(schema, id, &normal), "{} {how}: order of fields", ty.name);
            seen += 1;
        }
    }
    assert!(seen > 900, "{seen}");
}

#[test]
fn the_version_of_an_object_is_spliced_in() {
    let schema = api::schema();
    let ty = api::object_type("", "v1", "ConfigMap").unwrap();
    let raw = protobuf::encode(schema, ty, &json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).unwrap();
    let check = |head: &Head, expect: &str| {
        let mut out = Vec::new();
        protobuf::to_json(schema, ty, &raw, head, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    };
    check(
        &Head { kind: "ConfigMap", api_version: "v1", resource_version: Some("42") },
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"42"},"data":{"k":"v"}}"#,
    );
    check(&Head::default(), r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#);
}

#[test]
fn upstream_words_for_what_does_not_fit() {
    let check = |kind: &str, text: &str, expect: &str| {
        let ty = api::object_type("apps", "v1", kind).or_else(|| api::object_type("", "v1", kind)).unwrap();
        let got = json::decode(api::schema(), ty, text.as_bytes());
        let got = match got {
            Ok(read) => read.strict_error().unwrap_or_default(),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expect, "{text}");
    };
    check(
        "Deployment",
        r#"{"spec": {"replicas": "three"}}"#,
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        "Pod",
        r#"{"spec": {"containers": [{"name": "a", "imagePullPolicy": 1}]}}"#,
        "json: cannot unmarshal number into Go struct field Container.spec.containers.imagePullPolicy of type v1.PullPolicy",
    );
    check(
        "Pod",
        r#"{"spec": {"containers": {}}}"#,
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    check(
        "Pod",
        r#"{"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}"#,
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    check(
        "Deployment",
        r#"{"spec": {"template": {"spec": {"containers": [{"imagee": "x"}]}}, "replicas": 1, "replicas": 2}}"#,
        "strict decoding error: unknown field \"spec.template.spec.containers[0].imagee\", duplicate field \"spec.replicas\"",
    );
    check(
        "Pod",
        r#"{"metadata": {"creationTimestamp": "now"}}"#,
        "parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"now\" as \"2006\"",
    );
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    /// Takes bytes in every way there is; nothing may panic.
    fn feed(ty: TypeId, bytes: &[u8]) {
        let schema = api::schema();
        if let Ok(value) = protobuf::decode(schema, ty, bytes) {
            // what is read can be written, and is then stable
            let raw = protobuf::encode(schema, ty, &value).unwrap();
            let again = protobuf::decode(schema, ty, &raw).unwrap();
            assert_eq!(again, value);
        }
        let mut out = Vec::new();
        if protobuf::to_json(schema, ty, bytes, &Head::default(), &mut out).is_ok() {
            json::parse(&out).unwrap();
        }
        let _ = protobuf::from_slice::<api::core::v1::Pod>(schema, ty, bytes);
        let _ = envelope::unwrap(bytes);
        let _ = json::decode(schema, ty, bytes);
        let _ = json::type_meta(bytes);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

        #[test]
        fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            feed(api::object_type("", "v1", "Pod").unwrap(), &bytes);
        }

        #[test]
        fn broken_objects(
            at in 0usize..4000,
            flip in 1u8..,
            cut in 0usize..4000,
            kind in 0usize..4,
        ) {
            let (group, version, kind) = [
                ("", "v1", "Pod"),
                ("", "v1", "Node"),
                ("apps", "v1", "Deployment"),
                ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
            ][kind];
            let ty = api::object_type(group, version, kind).unwrap();
            let object = made::object(api::schema(), &Shape::Message(ty), made::How::Full, 0);
            let mut raw = protobuf::encode(api::schema(), ty, &object).unwrap();
            let at = at % raw.len();
            raw[at] ^= flip;
            feed(ty, &raw);
            raw.truncate(cut % raw.len());
            feed(ty, &raw);
            let mut text = serde_json::to_vec(&object).unwrap();
            let at = at % text.len();
            text[at] ^= flip;
            feed(ty, &text);
        }
    }

    #[test]
    fn bottomless_messages() {
        // a schema inside a schema inside a schema …
        let ty =
            api::schema().find("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        let tag = api::schema()[ty.unwrap()].field("not").unwrap().tag;
        let mut raw = Vec::new();
        for _ in 0..2_000 {
            let key = tag << 3 | 2;
            let mut outer = vec![key as u8 | 0x80, (key >> 7) as u8];
            let mut length = raw.len();
            while length >= 0x80 {
                outer.push(length as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.extend(&raw);
            raw = outer;
        }
        feed(ty.unwrap(), &raw);
        assert_eq!(protobuf::decode(api::schema(), ty.unwrap(), &raw), Err(protobuf::Error::Depth));
    }
}

#[test]
fn no_value_struct_contains_itself() {
    // what is written even when absent must end
    let schema = api::schema();
    fn depth(schema: &Schema, ty: &Type, left: usize) {
        assert!(left > 0, "{} has no end", ty.name);
        for field in ty.fields.iter().filter(|f| !f.pointer && f.omit != Omit::Zero) {
            if let Shape::Message(id) = field.shape {
                depth(schema, &schema[id], left - 1);
            }
        }
    }
    for (_, ty) in schema.types() {
        depth(schema, ty, 12);
    }
}
