//! What upstream's own program made of objects that nobody would write: `docs/ORACLE.md` says how it was asked.

use apimachinery::codec::protobuf::{self, Head, envelope};
use apimachinery::codec::{json, yaml};
use serde::Deserialize;

/// One line of `codec.jsonl`.
#[derive(Deserialize)]
struct Case {
    group: String,
    version: String,
    kind: String,
    /// What it was given, as JSON.
    input: String,
    /// What it wrote after it had kept the object in protobuf: JSON, protobuf in its envelope as base64, YAML.
    json: String,
    protobuf: api::ByteString,
    yaml: Option<String>,
}

#[test]
fn upstreams_own_program_agrees() {
    let schema = api::schema();
    let mut kinds = std::collections::BTreeSet::new();
    for line in include_str!("codec.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let at = format!("{}/{} {}: {}", case.group, case.version, case.kind, case.input);
        let ty = api::object_type(&case.group, &case.version, &case.kind).unwrap();
        let read = json::decode(schema, ty, case.input.as_bytes()).unwrap();
        let written = String::from_utf8(json::to_vec(schema, ty, &read.value)).unwrap();
        assert_eq!(written, case.json, "{at}");
        if let Some(expect) = case.yaml {
            assert_eq!(yaml::to_string(&read.value), expect, "{at}");
        }
        let raw = protobuf::encode(schema, ty, &read.value).unwrap();
        let api_version = apimachinery::gvk::api_version(&case.group, &case.version);
        let sealed = envelope::wrap(&api_version, &case.kind, &raw);
        assert!(sealed == case.protobuf.0, "{at}\nprotobuf differs: {sealed:x?}");
        let theirs = envelope::unwrap(&case.protobuf.0).unwrap();
        let head = Head { kind: theirs.kind, api_version: theirs.api_version, resource_version: None };
        let mut out = Vec::new();
        protobuf::to_json(schema, ty, theirs.raw, &head, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), case.json, "{at}: from protobuf");
        kinds.insert((case.group, case.version, case.kind));
    }
    assert!(kinds.len() >= 25, "{kinds:?}");
}
