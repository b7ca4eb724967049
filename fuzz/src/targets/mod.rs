//! One file per target, or per few that are alike.

mod apply;
mod fields_v1;
mod headers;
mod json;
mod kubelet;
mod patch;
mod protobuf;
mod query;
pub mod request;
mod rules;
mod scalars;
mod selectors;
mod tokens;
mod yaml;

use apimachinery::gvk;
use apimachinery::schema::TypeId;
use serde_json::Value;

use crate::Target;

const KIB: usize = 1 << 10;

pub const ALL: &[Target] = &[
    Target { name: "protobuf", run: protobuf::run, longest: 8 * KIB },
    Target { name: "json", run: json::run, longest: 8 * KIB },
    Target { name: "yaml", run: yaml::run, longest: 4 * KIB },
    Target { name: "selectors", run: selectors::run, longest: 512 },
    Target { name: "patch", run: patch::run, longest: 4 * KIB },
    Target { name: "apply", run: apply::run, longest: 4 * KIB },
    Target { name: "fields_v1", run: fields_v1::run, longest: 2 * KIB },
    Target { name: "tokens", run: tokens::run, longest: 2 * KIB },
    Target { name: "query", run: query::run, longest: KIB },
    Target { name: "headers", run: headers::run, longest: KIB },
    Target { name: "scalars", run: scalars::run, longest: 128 },
    Target { name: "rules", run: rules::run, longest: 8 * KIB },
    Target { name: "kubelet", run: kubelet::run, longest: 2 * KIB },
    Target { name: "request", run: request::run, longest: 4 * KIB },
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
