//! `metrics.k8s.io/v1beta1` without anything installed: what nodes and pods use, as `kubectl top` and autoscalers ask
//! for it. It answers only while there is no APIService `v1beta1.metrics.k8s.io`: whoever registers one, as
//! metrics-server's manifest does, has it to himself.
//!
//! Nothing is measured unless somebody asks ([`scrape`]); forms, selectors and texts are metrics-server's.

mod objects;
mod scrape;

use apimachinery::status::Status;
use apimachinery::{fields, labels};
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};

pub use self::scrape::Scrapes;
use crate::negotiation::{self, Output, Transform};
use crate::request::{Query, RequestInfo};
use crate::response;
use crate::server::{ApiServer, Body};

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";
/// Of the APIService that takes it elsewhere.
pub const NAME: &str = "v1beta1.metrics.k8s.io";
/// Of the group and of the version in lists, as metrics-server's manifest has them.
pub const PRIORITY: (i64, i64) = (100, 100);
const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// Plural, kind, whether in namespaces.
const RESOURCES: [(&str, &str, bool); 2] = [("nodes", "NodeMetrics", false), ("pods", "PodMetrics", true)];

/// In the aggregated form of discovery.
pub fn entry() -> Value {
    let resource = |(plural, kind, namespaced): (&str, &str, bool)| {
        json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind},
            "scope": if namespaced { "Namespaced" } else { "Cluster" }, "singularResource": "",
            "verbs": ["get", "list"]})
    };
    let resources: Vec<Value> = RESOURCES.into_iter().map(resource).collect();
    json!({"version": VERSION, "freshness": "Current", "resources": resources})
}

/// `/apis/metrics.k8s.io/v1beta1`
fn resources() -> Value {
    let resource = |(plural, kind, namespaced): (&str, &str, bool)| {
        json!({"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind,
            "verbs": ["get", "list"]})
    };
    let resources: Vec<Value> = RESOURCES.into_iter().map(resource).collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": resources})
}

/// Whether a request is answered here.
pub(crate) fn serves(server: &ApiServer, path: &str) -> bool {
    crate::aggregator::service::group_version(path) == Some((GROUP, VERSION))
        && server.aggregator.service(server.storage.store(), NAME).is_none()
}

/// Answers a request for which [`serves`] holds.
///
/// # Errors
/// As for any resource.
pub(crate) async fn handle(
    server: &ApiServer,
    info: &RequestInfo,
    query: &Query,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let headers = request.headers();
    let get = *request.method() == http::Method::GET;
    if !info.is_resource_request {
        if !get {
            return Err(response::wrong_method());
        }
        let output = negotiation::plain(headers, query)?;
        return Ok(response::value(200, &resources(), output));
    }
    let known = RESOURCES.iter().find(|(plural, ..)| *plural == info.resource);
    let Some((_, kind, namespaced)) = known else { return Err(response::no_route()) };
    let placed = match (namespaced, info.namespace.is_empty()) {
        (true, true) => info.parts.len() == 1,
        (false, false) => false,
        _ => info.parts.len() <= 2,
    };
    if !placed {
        return Err(response::no_route());
    }
    if !get || !matches!(&*info.verb, "get" | "list") {
        return Err(response::wrong_method());
    }
    let output = negotiation::output(headers, query)?;
    let include = include(query)?;
    let selection = Selection::parse(info, query)?;
    let named = info.parts.get(1).map(String::as_str);
    let items = match *namespaced {
        false => scrape::nodes(server, &selection, named).await?,
        true => scrape::pods(server, &selection, &info.namespace, named).await?,
    };
    let document = match named {
        Some(name) => {
            let missing = || match *namespaced {
                false => Status::not_found(GROUP, "nodes", name),
                true => Status::not_found(GROUP, "pods", &format!("{}/{name}", info.namespace)),
            };
            one(items.into_iter().next().ok_or_else(missing)?, kind, output, include)
        }
        None => list(items, kind, output, include),
    };
    let mut answer = response::value(200, &document, output);
    compress(headers, &mut answer);
    Ok(answer)
}

fn compress(headers: &HeaderMap, answer: &mut Response<Body>) {
    if let Some(length) = http_body::Body::size_hint(answer.body()).exact() {
        response::compress(headers, answer, usize::try_from(length).unwrap_or(usize::MAX));
    }
}

/// What is asked for.
pub(crate) struct Selection {
    labels: labels::Selector,
    fields: fields::Selector,
}

impl Selection {
    fn parse(info: &RequestInfo, query: &Query) -> Result<Self, Status> {
        let bad = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
        let text = |key| query.get(key).filter(|_| info.verb == "list").unwrap_or_default();
        let labels = labels::Selector::parse(text("labelSelector")).map_err(|e| bad(&e))?;
        let fields = fields::Selector::parse(text("fieldSelector")).map_err(|e| bad(&e))?;
        let unknown = fields
            .terms()
            .iter()
            .find(|term| !matches!(&*term.field, "metadata.name" | "metadata.namespace"));
        if let Some(term) = unknown {
            let field = apimachinery::field::quote(&term.field);
            return Err(Status::bad_request(format!(
                "{field} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )));
        }
        Ok(Self { labels, fields })
    }

    /// Whether an object is among them, by its metadata.
    fn takes(&self, object: &Value) -> bool {
        self.labels.matches_object(object)
            && self.fields.matches(|field| match field {
                "metadata.name" => object["metadata"]["name"].as_str(),
                _ => Some(object["metadata"]["namespace"].as_str().unwrap_or_default()),
            })
    }
}

/// What the rows of a table carry besides their cells.
#[derive(Clone, Copy, PartialEq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

fn include(query: &Query) -> Result<Include, Status> {
    match query.get("includeObject").unwrap_or_default() {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::Nothing),
        "Object" => Ok(Include::Object),
        other => Err(Status::bad_request(format!("includeObject: Unsupported value: {other:?}"))),
    }
}

fn typed(mut object: Value, kind: &str) -> Value {
    object["kind"] = kind.into();
    object["apiVersion"] = API_VERSION.into();
    object
}

fn metadata(object: Value, version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"]})
}

fn one(object: Value, kind: &str, output: Output, include: Include) -> Value {
    match output.transform {
        Transform::Table(version) => table(vec![typed(object, kind)], version, include),
        Transform::Metadata(version) => metadata(object, version),
        _ => typed(object, kind),
    }
}

fn list(items: Vec<Value>, kind: &str, output: Output, include: Include) -> Value {
    match output.transform {
        Transform::Table(version) => {
            table(items.into_iter().map(|item| typed(item, kind)).collect(), version, include)
        }
        Transform::MetadataList(version) => {
            let items: Vec<Value> = items.into_iter().map(|item| metadata(item, version)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": {}, "items": items})
        }
        _ => {
            json!({"kind": format!("{kind}List"), "apiVersion": API_VERSION, "metadata": {}, "items": items})
        }
    }
}

/// The columns of metrics-server.
fn table(items: Vec<Value>, version: &str, include: Include) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let rows: Vec<Value> = items
        .into_iter()
        .map(|item| {
            let usage = objects::usage(&item);
            let cells = json!([item["metadata"]["name"], usage["cpu"], usage["memory"], item["window"]]);
            let object = match include {
                Include::Nothing => Value::Null,
                Include::Metadata => metadata(item, version),
                Include::Object => item,
            };
            json!({"cells": cells, "object": object})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": {},
        "columnDefinitions": [column("Name", "name", "Name of the resource"), column("cpu", "quantity", ""),
            column("memory", "quantity", ""), column("Window", "duration", "")],
        "rows": rows})
}
