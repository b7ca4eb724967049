//! One file per target, or per few that are alike.

mod apply;
mod cel;
mod fields_v1;
mod headers;
mod json;
mod json_path;
mod kubelet;
mod patch;
mod protobuf;
mod query;
pub mod request;
mod rules;
mod scalars;
mod selectors;
mod spdy;
mod tokens;
mod yaml;

use apimachinery::gvk;
use apimachinery::schema::TypeId;
use serde_json::Value;

use crate::Target;

pub const ALL: &[Target] = &[
    Target { name: "protobuf", run: protobuf::run },
    Target { name: "json", run: json::run },
    Target { name: "yaml", run: yaml::run },
    Target { name: "selectors", run: selectors::run },
    Target { name: "patch", run: patch::run },
    Target { name: "apply", run: apply::run },
    Target { name: "fields_v1", run: fields_v1::run },
    Target { name: "tokens", run: tokens::run },
    Target { name: "query", run: query::run },
    Target { name: "headers", run: headers::run },
    Target { name: "scalars", run: scalars::run },
    Target { name: "rules", run: rules::run },
    Target { name: "kubelet", run: kubelet::run },
    Target { name: "spdy", run: spdy::run },
    Target { name: "request", run: request::run },
    Target { name: "cel", run: cel::run },
    Target { name: "json_path", run: json_path::run },
];

/// A kind as an object names it.
struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    ty: TypeId,
}

impl<'a> Kind<'a> {
    /// The kind of this name; a Pod if there is none.
    fn of(api_version: &'a str, kind: &'a str) -> Kind<'a> {
        let known = gvk::split(api_version).ok().and_then(|(group, version)| {
            Some(Kind { group, version, kind, ty: api::object_type(group, version, kind)? })
        });
        known.unwrap_or_else(|| Kind::pod().expect("v1 has Pods"))
    }

    fn of_value(value: &'a Value) -> Kind<'a> {
        Kind::of(value["apiVersion"].as_str().unwrap_or_default(), value["kind"].as_str().unwrap_or_default())
    }

    fn pod() -> Option<Kind<'a>> {
        let (group, version, kind) = ("", "v1", "Pod");
        Some(Kind { group, version, kind, ty: api::object_type(group, version, kind)? })
    }
}

/// The first line, and what stands behind it.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|b| *b == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// Equal, numbers by their value and within the last bits of a double, in which other readers differ.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b || (a - b).abs() <= a.abs() * 1e-14,
            (a, b) => a == b,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
