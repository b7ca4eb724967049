//! Everything of `/api` or `/apis` in one document: `APIGroupDiscoveryList` (KEP-3352).

use apimachinery::schema::{Name, Resource, ResourceRef};
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Value, json};

use super::etag;
use crate::custom;
use crate::negotiation::{Format, Output};
use crate::response;
use crate::server::Body;

/// The answer, or 304 for a client that has it already.
pub fn answer(document: &Value, format: Format, headers: &HeaderMap) -> Response<Body> {
    let json = document.to_string();
    let tag = etag(json.as_bytes());
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let output = Output { format, ..Output::JSON };
    let mut response = match known {
        true => response::bytes(304, "application/json", ""),
        false => {
            let length = json.len();
            let mut response = response::json_text(200, json.into(), output);
            response::compress(headers, &mut response, length);
            response
        }
    };
    let out = response.headers_mut();
    let media_type = out.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let whole = format!("{media_type};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    for (name, text) in [(header::CONTENT_TYPE, &whole), (header::ETAG, &tag)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            out.insert(name, value);
        }
    }
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// The versions of a group, each with its resources.
type Versions<'a> = Vec<(&'a str, Vec<Value>)>;

/// The list, of the core group or of all others.
pub fn document(core: bool, served: &[ResourceRef]) -> Value {
    let mut groups: Vec<(&str, Versions<'_>)> = Vec::new();
    for resource in served.iter().filter(|r| r.group.is_empty() == core) {
        let at = match groups.iter().position(|(group, _)| *group == resource.group) {
            Some(at) => at,
            None => {
                groups.push((&resource.group, Vec::new()));
                groups.len() - 1
            }
        };
        let versions = &mut groups[at].1;
        match versions.iter_mut().find(|(v, _)| *v == resource.version) {
            Some((_, resources)) => resources.push(entry(resource)),
            None => versions.push((&resource.version, vec![entry(resource)])),
        }
    }
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|(version, resources)| {
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn strings(list: &[Name]) -> Value {
    list.iter().map(|s| Value::from(&**s)).collect()
}

/// The parent's group and version are left out, also of subresources.
fn kind(r: &Resource, group: &str, version: &str, kind: &str) -> Value {
    let (group, version) =
        if (group, version) == (&*r.group, &*r.version) { ("", "") } else { (group, version) };
    json!({"group": group, "version": version, "kind": kind})
}

fn entry(r: &Resource) -> Value {
    let mut out = json!({
        "resource": &*r.plural,
        "responseKind": kind(r, &r.group, &r.version, &r.kind),
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": &*r.singular,
        "verbs": strings(&custom::shown_verbs(r)),
    });
    if !r.short_names.is_empty() {
        out["shortNames"] = strings(&r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = strings(&r.categories);
    }
    if !r.subresources.is_empty() {
        out["subresources"] = r
            .subresources
            .iter()
            .map(|sub| {
                let response = kind(r, &sub.kind.group, &sub.kind.version, &sub.kind.kind);
                json!({"subresource": &*sub.name, "responseKind": response, "verbs": strings(&sub.verbs)})
            })
            .collect();
    }
    out
}
