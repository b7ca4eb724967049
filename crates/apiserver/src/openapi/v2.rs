//! `/openapi/v2`: everything that is served in one document, as JSON and as gnostic's protobuf
//! (`openapiv2/OpenAPIv2.proto`), which is what kubectl reads. Made on each demand, type by type.

use std::io::{self, Write};
use std::sync::Arc;

use apimachinery::schema::Resource;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Map, Value, json};

use super::{VERSION, others, paths, schemas, v2_paths};
use crate::aggregator::openapi::Specification;
use crate::response;
use crate::server::{ApiServer, Body, Served};

/// What clients ask for, and what they are answered: the first is no valid media type.
const ASKED: [&str; 2] = ["application/com.github.proto-openapi.spec.v2@v1.0+protobuf", PROTOBUF];
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers with the form that the client names first.
pub fn answer(server: &ApiServer, headers: &HeaderMap) -> Response<Body> {
    let documents = &server.openapi;
    let custom = server.catalog.all();
    // What other servers add.
    let others = server.aggregator.specification(server.storage.store(), |take| {
        let all = server.resources();
        let resources: Vec<&Resource> = all.iter().map(|resource| &**resource).collect();
        let known = schemas::each(&resources, &[], |name, schema| {
            take(name, older(schema));
            Ok(())
        });
        if let Err(error) = known {
            tracing::error!(%error, "naming the types of the OpenAPI v2 document");
        }
    });
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let first = accept.split([',', ';']).next().unwrap_or_default().trim();
    let protobuf = ASKED.contains(&first);
    let media_type = if protobuf { PROTOBUF } else { "application/json" };
    let tag = format!("\"{}\"", documents.hash_of(&format!("{media_type}{}", others.sum), custom.iter()));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut answer = if known {
        response::bytes(304, media_type, Bytes::new())
    } else {
        match make(&documents.served, &custom, &others, protobuf, response::wants_gzip(headers)) {
            Ok(bytes) => response::bytes(200, media_type, bytes),
            Err(error) => {
                tracing::error!(%error, "making the OpenAPI v2 document");
                return response::text(500, "making the document failed");
            }
        }
    };
    let out = answer.headers_mut();
    if !known && response::wants_gzip(headers) {
        response::set_gzip(out);
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    out.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    answer
}

fn make(
    served: &Served,
    custom: &[Arc<Resource>],
    added: &Specification,
    protobuf: bool,
    gzip: bool,
) -> io::Result<Vec<u8>> {
    if gzip {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        write(served, custom, added, protobuf, &mut out)?;
        return out.finish();
    }
    let mut out = Vec::new();
    write(served, custom, added, protobuf, &mut out)?;
    Ok(out)
}

fn write(
    served: &Served,
    custom: &[Arc<Resource>],
    added: &Specification,
    protobuf: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut resources: Vec<&Resource> = Vec::new();
    for resource in served.iter() {
        resources.push(resource);
    }
    resources.extend(custom.iter().map(|resource| &**resource));
    let resources = &*resources;
    let schemas_of_custom = || custom.iter().flat_map(|resource| super::custom::schemas(resource));
    let others: Vec<others::Other> = others::all(served).into_iter().map(|(_, other)| other).collect();
    let types: Vec<&str> = others.iter().filter_map(|other| other.answer).collect();
    let all_paths = others.into_iter().map(|other| (other.path, other.item)).chain(paths::all(resources));
    if protobuf {
        let mut info = Message::default();
        info.text(1, "Kubernetes").text(2, VERSION);
        let mut head = Message::default();
        head.text(1, "2.0").message(2, &info).message(8, &Message::default());
        out.write_all(&head.0)?;
        for (path, item) in all_paths {
            let mut one = Message::default();
            one.message(2, &v2_paths::named_item(&path, &v2_paths::item(item)));
            let mut piece = Message::default();
            piece.message(8, &one);
            out.write_all(&piece.0)?;
        }
        for (path, item) in &added.paths {
            let mut one = Message::default();
            one.message(2, &v2_paths::named_item(path, item));
            let mut piece = Message::default();
            piece.message(8, &one);
            out.write_all(&piece.0)?;
        }
        for (name, definition) in &added.definitions {
            let mut definitions = Message::default();
            definitions.message(1, &named(name, definition));
            let mut piece = Message::default();
            piece.message(9, &definitions);
            out.write_all(&piece.0)?;
        }
        for (name, schema) in schemas_of_custom() {
            let mut definitions = Message::default();
            definitions.message(1, &named(&name, &older(super::custom::to_v2(schema))));
            let mut piece = Message::default();
            piece.message(9, &definitions);
            out.write_all(&piece.0)?;
        }
        // A message that comes in several pieces is put together by whoever reads it.
        return schemas::each(resources, &types, |name, schema| {
            let mut definitions = Message::default();
            definitions.message(1, &named(name, &older(schema)));
            let mut piece = Message::default();
            piece.message(9, &definitions);
            out.write_all(&piece.0)
        });
    }
    let info = json!({"title": "Kubernetes", "version": VERSION});
    write!(out, r#"{{"swagger":"2.0","info":{info},"paths":{{"#)?;
    let mut separator = "";
    for (path, item) in all_paths {
        write!(out, "{separator}{}:{}", Value::from(path), v2_paths::item(item))?;
        separator = ",";
    }
    for (path, item) in &added.paths {
        write!(out, "{separator}{}:{item}", Value::from(path.as_str()))?;
        separator = ",";
    }
    out.write_all(br#"},"definitions":{"#)?;
    let mut separator = "";
    schemas::each(resources, &types, |name, schema| {
        write!(out, "{separator}{}:{}", Value::from(name), older(schema))?;
        separator = ",";
        Ok(())
    })?;
    for (name, schema) in schemas_of_custom() {
        write!(out, "{separator}{}:{}", Value::from(name), older(super::custom::to_v2(schema)))?;
        separator = ",";
    }
    for (name, definition) in &added.definitions {
        write!(out, "{separator}{}:{definition}", Value::from(name.as_str()))?;
        separator = ",";
    }
    let scheme = json!({"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey",
        "name": "authorization", "in": "header"}});
    write!(out, r#"}},"securityDefinitions":{scheme},"security":[{{"BearerToken":[]}}]}}"#)
}

/// A schema of v3 as v2 says it: references beside other words, and one type where v3 allows several.
pub fn older(schema: Value) -> Value {
    let Value::Object(fields) = schema else { return schema };
    let mut out = Map::new();
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("allOf", Value::Array(list)) => {
                let to = list.first().and_then(|one| one["$ref"].as_str()).unwrap_or_default();
                let name = to.rsplit('/').next().unwrap_or_default();
                out.insert("$ref".into(), format!("#/definitions/{name}").into());
            }
            ("$ref", Value::String(to)) => {
                let name = to.rsplit('/').next().unwrap_or_default();
                out.insert("$ref".into(), format!("#/definitions/{name}").into());
            }
            ("oneOf", _) => drop(out.insert("type".into(), "string".into())),
            ("properties", Value::Object(all)) => {
                let all: Map<String, Value> = all.into_iter().map(|(k, v)| (k, older(v))).collect();
                out.insert("properties".into(), all.into());
            }
            ("items" | "additionalProperties", value) => drop(out.insert(key, older(value))),
            (_, value) => drop(out.insert(key, value)),
        }
    }
    Value::Object(out)
}

/// Bytes of a protobuf message.
#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// A whole number, zero too.
    pub fn number(&mut self, tag: usize, value: usize) -> &mut Self {
        self.varint(tag << 3);
        self.varint(value);
        self
    }

    /// A floating-point number, zero too.
    pub fn double(&mut self, tag: usize, value: f64) -> &mut Self {
        self.varint(tag << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, tag: usize, bytes: &[u8]) -> &mut Self {
        self.varint(tag << 3 | 2);
        self.varint(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(&mut self, tag: usize, text: &str) -> &mut Self {
        self.bytes(tag, text.as_bytes())
    }

    pub fn message(&mut self, tag: usize, message: &Message) -> &mut Self {
        self.bytes(tag, &message.0)
    }

    /// A boolean, left out when false.
    pub fn flag(&mut self, tag: usize, on: bool) -> &mut Self {
        if on {
            self.varint(tag << 3);
            self.varint(1);
        }
        self
    }

    /// gnostic's `Any`: the value as YAML, and JSON is YAML.
    pub fn any(&mut self, tag: usize, value: &Value) -> &mut Self {
        let mut any = Message::default();
        any.text(2, &value.to_string());
        self.message(tag, &any)
    }
}

fn named(name: &str, schema: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, name).message(2, &encode(schema));
    out
}

/// gnostic's `Schema`.
pub fn encode(schema: &Value) -> Message {
    let mut out = Message::default();
    for (key, value) in schema.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        match key.as_str() {
            "$ref" => drop(out.text(1, text)),
            "format" => drop(out.text(2, text)),
            "description" => drop(out.text(4, text)),
            "default" => drop(out.any(5, value)),
            "required" => {
                for name in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    out.text(19, name);
                }
            }
            "additionalProperties" => {
                let mut item = Message::default();
                item.message(1, &encode(value));
                out.message(21, &item);
            }
            "type" => {
                let mut item = Message::default();
                item.text(1, text);
                out.message(22, &item);
            }
            "items" => {
                let mut item = Message::default();
                item.message(1, &encode(value));
                out.message(23, &item);
            }
            "properties" => {
                let mut properties = Message::default();
                for (name, property) in value.as_object().into_iter().flatten() {
                    properties.message(1, &named(name, property));
                }
                out.message(25, &properties);
            }
            extension if extension.starts_with("x-") => {
                let mut item = Message::default();
                item.text(1, extension).any(2, value);
                out.message(31, &item);
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_of_v2() {
        let table = [
            (
                json!({"allOf": [{"$ref": "#/components/schemas/a.B"}], "default": {}, "description": "d"}),
                json!({"$ref": "#/definitions/a.B", "default": {}, "description": "d"}),
            ),
            (json!({"oneOf": [{"type": "string"}, {"type": "number"}]}), json!({"type": "string"})),
            (
                json!({"type": "array", "items": {"$ref": "#/components/schemas/a.B"}}),
                json!({"type": "array", "items": {"$ref": "#/definitions/a.B"}}),
            ),
        ];
        for (v3, v2) in table {
            assert_eq!(older(v3), v2);
        }
    }

    #[test]
    fn messages() {
        let schema = json!({"type": "string", "required": ["a"], "x-y": true});
        // required: 19, type: 22 { 1 }, extension: 31 { 1, 2 { 2 } }; keys come sorted.
        let expect = b"\x9a\x01\x01a\xb2\x01\x08\x0a\x06string\xfa\x01\x0d\x0a\x03x-y\x12\x06\x12\x04true";
        assert_eq!(encode(&schema).0, expect);
    }

    #[test]
    fn the_document_as_json() {
        let document: Value = serde_json::from_slice(
            &make(&Served::default(), &[], &Specification::default(), false, false).unwrap(),
        )
        .unwrap();
        assert_eq!(document["swagger"], "2.0");
        let pod = &document["definitions"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
        assert!(!document.to_string().contains("#/components/"));
        assert!(!make(&Served::default(), &[], &Specification::default(), true, true).unwrap().is_empty());
    }
}
