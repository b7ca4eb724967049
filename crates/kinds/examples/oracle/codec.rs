//! Reading and writing: JSON, YAML and protobuf.

use apimachinery::codec::protobuf::{self, Head, envelope};
use apimachinery::codec::{json, yaml};
use apimachinery::schema::{Omit, Schema, Shape, TypeId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json as value};

use crate::made::{How, object};
use crate::random::Random;
use crate::{Case, Difference, Gvk, same, text};

/// Zero, empty, sparse and full objects, and `count` random ones.
fn objects(ty: TypeId, gvk: &Gvk, seed: u64, count: u64) -> Vec<Value> {
    let schema = api::schema();
    let message = Shape::Message(ty);
    let mut objects = vec![
        value!({}),
        object(schema, &message, How::Empty, 0),
        object(schema, &message, How::Sparse, 0),
        object(schema, &message, How::Full, 0),
    ];
    for n in 0..count {
        let mut random = Random::new(seed.wrapping_add(n), &gvk.kind);
        objects.push(random.object(schema, ty, 60));
    }
    for object in &mut objects {
        spare(schema, &message, object);
        gvk.stamp(object);
    }
    objects
}

/// Takes out what protobuf can tell from absent and JSON cannot: empty bytes with `omitempty`, pointers to the zero
/// of a time. Normal form has neither, so that our protobuf is shorter by them.
fn spare(schema: &Schema, shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::List(list), Value::Array(items)) => {
            items.iter_mut().for_each(|item| spare(schema, &list.element, item));
        }
        (Shape::Map(map), Value::Object(object)) => {
            object.values_mut().for_each(|value| spare(schema, &map.value, value));
        }
        (Shape::SchemaOrArray(id), Value::Array(items)) => {
            items.iter_mut().for_each(|item| spare(schema, &Shape::Message(*id), item));
        }
        (
            Shape::Message(id)
            | Shape::SchemaOrArray(id)
            | Shape::SchemaOrBool(id)
            | Shape::SchemaOrStrings(id),
            Value::Object(object),
        ) => {
            for field in &schema[*id].fields {
                let Some(value) = object.get_mut(&*field.name) else { continue };
                let empty = field.shape == Shape::Bytes && field.omit != Omit::Never && value == "";
                let zero = field.pointer && *value == "0001-01-01T00:00:00Z";
                if empty || zero {
                    object.remove(&*field.name);
                } else {
                    spare(schema, &field.shape, value);
                }
            }
        }
        _ => {}
    }
}

/// Our own protobuf of an object, in its envelope.
fn sealed(ty: TypeId, case: &Gvk, input: &str) -> Result<String, String> {
    let read = json::decode(api::schema(), ty, input.as_bytes()).map_err(|e| e.to_string())?;
    let raw = protobuf::encode(api::schema(), ty, &read.value).map_err(|e| e.to_string())?;
    Ok(STANDARD.encode(envelope::wrap(&case.api_version(), &case.kind, &raw)))
}

pub fn write(ty: TypeId, gvk: &Gvk, seed: u64, count: u64) -> Vec<Case> {
    let case = |object: Value| {
        let input = object.to_string();
        let pb = sealed(ty, gvk, &input).unwrap_or_default();
        gvk.case("codec", value!({"input": input, "pb": pb}))
    };
    objects(ty, gvk, seed, count).into_iter().map(case).collect()
}

pub fn compare(ty: TypeId, case: &Case, answer: &Case) -> Vec<Difference> {
    let schema = api::schema();
    let mut found = Vec::new();
    let read = match json::decode(schema, ty, text(case, "input").as_bytes()) {
        Ok(read) => read,
        Err(e) => {
            found.extend(same("error", text(answer, "error"), &e.to_string()));
            return found;
        }
    };
    if let Some(error) = answer.get("error") {
        found.extend(same("error", &error.to_string(), "read"));
        return found;
    }
    let written = String::from_utf8(json::to_vec(schema, ty, &read.value)).unwrap_or_default();
    // YAML is made of JSON, as the server does it
    let shown = json::parse(written.as_bytes()).map(|(value, _)| value).unwrap_or_default();
    // what protobuf cannot carry is gone here from the start
    let theirs = text(answer, "json").trim_end();
    if theirs != text(answer, "again").trim_end() || theirs != written {
        found.extend(same("json", text(answer, "again").trim_end(), &written));
    }
    found.extend(same("json read from our protobuf", text(answer, "pbjson").trim_end(), &written));
    // upstream writes and reads frames of a watch without kind and version
    if text(case, "kind") != "WatchEvent" {
        found.extend(same("protobuf", text(answer, "pb"), text(case, "pb")));
        found.extend(same("protobuf read from our protobuf", text(answer, "pbpb"), text(case, "pb")));
    }
    found.extend(same("yaml", text(answer, "againYaml"), &yaml::to_string(&shown)));
    for key in
        ["jsonError", "pbError", "pbpbError", "pbjsonError", "yamlError", "againError", "againYamlError"]
    {
        if let Some(error) = answer.get(key) {
            found.extend(same(key, &error.to_string(), ""));
        }
    }
    if let Ok(theirs) = STANDARD.decode(text(answer, "pb"))
        && let Ok(theirs) = envelope::unwrap(&theirs)
    {
        let head = Head { kind: theirs.kind, api_version: theirs.api_version, resource_version: None };
        let mut out = Vec::new();
        let done = protobuf::to_json(schema, ty, theirs.raw, &head, &mut out).map_err(|e| e.to_string());
        let ours = done.map_or_else(|e| e, |()| String::from_utf8_lossy(&out).into_owned());
        found.extend(same("transcoded", text(answer, "again").trim_end(), &ours));
    }
    found
}

/// Objects with something wrong in them.
pub fn write_broken(ty: TypeId, gvk: &Gvk, seed: u64, count: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for n in 0..count {
        let mut random = Random::new(seed.wrapping_add(n), &gvk.kind);
        let mut object = random.object(api::schema(), ty, 30);
        gvk.stamp(&mut object);
        for _ in 0..1 + random.below(2) {
            break_one(&mut object, &mut random, 0);
        }
        let mut input = object.to_string();
        if random.chance(30) {
            // the same field again
            input.pop();
            input.push_str(&format!(",\"metadata\":{{}},\"kind\":{:?}}}", gvk.kind));
        }
        cases.push(gvk.case("strict", value!({"input": input})));
    }
    cases
}

fn break_one(value: &mut Value, random: &mut Random, depth: usize) {
    let keys: Vec<String> = match value {
        Value::Object(map) => map.keys().filter(|k| *k != "kind" && *k != "apiVersion").cloned().collect(),
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            return break_one(&mut items[at], random, depth + 1);
        }
        _ => Vec::new(),
    };
    let stop = keys.is_empty() || (depth > 0 && random.chance(25));
    if !stop {
        let key = random.pick(&keys).clone();
        return break_one(&mut value[key.as_str()], random, depth + 1);
    }
    match value {
        Value::Object(map) if random.chance(60) => {
            map.insert(random.pick(&["unknownField", "Name", "x-y", "metaData"]).to_string(), value!(1));
        }
        _ if depth > 0 => {
            let wrong = [
                value!("text"),
                value!(true),
                value!(1),
                value!(1.5),
                value!([]),
                value!({}),
                value!(3_000_000_000_u64),
                value!("1"),
                value!([1]),
                value!({"a": 1}),
            ];
            *value = random.pick(&wrong).clone();
        }
        _ => {}
    }
}

pub fn compare_broken(ty: TypeId, case: &Case, answer: &Case) -> Vec<Difference> {
    let schema = api::schema();
    let (error, written) = match json::decode(schema, ty, text(case, "input").as_bytes()) {
        Ok(read) => {
            let written = String::from_utf8(json::to_vec(schema, ty, &read.value)).unwrap_or_default();
            (read.strict_error().unwrap_or_default(), written)
        }
        Err(e) => (e.to_string(), String::new()),
    };
    let theirs = answer.get("error").or(answer.get("strict")).and_then(Value::as_str).unwrap_or_default();
    let mut found: Vec<Difference> = same("text", theirs, &error).into_iter().collect();
    if !written.is_empty() && found.is_empty() {
        found.extend(same("what is read", text(answer, "json").trim_end(), &written));
    }
    found
}
