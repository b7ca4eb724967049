//! OpenAPI v3: `/openapi/v3` lists a document per group and version, each under a URL that names its contents
//! (KEP-2896).
//!
//! A document is made when somebody asks for it, from `api::schema()` and k8s-openapi's descriptions, straight
//! into its compressed form; a few are kept so. [`v2`] is the older form of all in one, types only, for kubectl
//! up to 1.27. Not here: the protobuf form of v3.

mod paths;
mod schemas;
mod v2;
mod v2_paths;

use std::io::{self, Read as _, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

use apimachinery::schema::Resource;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::discovery::GIT_VERSION;
use crate::request::{Query, RequestInfo};
use crate::response;
use crate::server::{ApiServer, Body, Served};

/// Compressed documents kept at most, in bytes: the core group's and two or three others.
const KEPT: usize = 512 << 10;

/// The documents made lately.
#[derive(Default)]
pub struct Documents {
    served: Served,
    /// The oldest first.
    kept: Mutex<Vec<(String, Bytes)>>,
    fingerprint: OnceLock<String>,
}

/// `api/v1`, `apis/apps/v1`
fn path_of(resource: &Resource) -> String {
    match &*resource.group {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    }
}

impl Documents {
    /// The documents of what is served.
    pub fn new(served: Served) -> Self {
        Self { served, ..Self::default() }
    }

    /// The resources of a document, by its path.
    fn resources(&self, path: &str) -> Vec<&'static Resource> {
        self.served.iter().filter(|r| path_of(r) == path).collect()
    }

    /// Names the contents of a document without making it: they follow from the tables and from this code.
    fn hash(&self, path: &str) -> String {
        let fingerprint = self.fingerprint.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(GIT_VERSION);
            hash.update(include_str!("schemas.rs"));
            hash.update(include_str!("enums.txt"));
            hash.update(include_str!("paths.rs"));
            hash.update(include_str!("v2.rs"));
            hash.update(include_str!("v2_paths.rs"));
            for text in api::table_texts() {
                hash.update(text);
            }
            for resource in self.served.iter() {
                hash.update(path_of(resource));
                hash.update(&*resource.plural);
            }
            hex(&hash.finalize())
        });
        hex(&Sha256::new().chain_update(fingerprint).chain_update(path).finalize())
    }

    fn index(&self) -> Value {
        let mut paths = serde_json::Map::new();
        for resource in self.served.iter() {
            let path = path_of(resource);
            if !paths.contains_key(&path) {
                let url = format!("/openapi/v3/{path}?hash={}", self.hash(&path));
                paths.insert(path, json!({ "serverRelativeURL": url }));
            }
        }
        json!({ "paths": paths })
    }

    /// The document in gzip.
    fn get(&self, path: &str) -> io::Result<Option<Bytes>> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = lock().iter().find(|(p, _)| p == path) {
            return Ok(Some(found.clone()));
        }
        let resources = self.resources(path);
        if resources.is_empty() {
            return Ok(None);
        }
        let made: Bytes = write(&resources)?.into();
        let mut kept = lock();
        kept.push((path.to_owned(), made.clone()));
        while kept.len() > 1 && kept.iter().map(|(_, b)| b.len()).sum::<usize>() > KEPT {
            kept.remove(0);
        }
        Ok(Some(made))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

/// Writes a document. Only one type and one path at a time are in memory as values.
fn write(resources: &[&Resource]) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(br#"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"unversioned"},"paths":{"#)?;
    let mut separator = "";
    for (path, item) in paths::all(resources) {
        write!(out, "{separator}{}:{item}", Value::from(path))?;
        separator = ",";
    }
    out.write_all(br#"},"components":{"schemas":{"#)?;
    schemas::write(resources, &mut out)?;
    let security = json!({"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization"}});
    write!(out, "}},\"securitySchemes\":{security}}}}}")?;
    out.finish()
}

/// Answers `/openapi/v3` and below; `None` for other paths.
pub fn handle(
    server: &ApiServer,
    info: &RequestInfo,
    query: &Query,
    request: &Request<Body>,
) -> Option<Response<Body>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    if info.path == "/openapi/v2" {
        return Some(v2::answer(&server.openapi, request.headers()));
    }
    let rest = info.path.strip_prefix("/openapi/v3")?;
    let path = match rest.strip_prefix('/') {
        None if !rest.is_empty() => return None,
        None => "",
        Some(path) => path.trim_end_matches('/'),
    };
    let headers = request.headers();
    if !accepts_json(headers) {
        return Some(response::text(406, "only application/json is served"));
    }
    let documents = &server.openapi;
    if path.is_empty() {
        return Some(response::bytes(200, "application/json", documents.index().to_string()));
    }
    let compressed = match documents.get(path) {
        Ok(found) => found?,
        Err(error) => {
            tracing::error!(%error, path, "making an OpenAPI document");
            return Some(response::text(500, "making the document failed"));
        }
    };
    let hash = documents.hash(path);
    if let Some(asked) = query.get("hash")
        && asked != hash
    {
        return Some(redirect(&format!("/openapi/v3/{path}?hash={hash}")));
    }
    let tag = format!("\"{hash}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut answer = if known {
        response::bytes(304, "application/json", Bytes::new())
    } else if response::wants_gzip(headers) {
        let mut answer = response::bytes(200, "application/json", compressed);
        response::set_gzip(answer.headers_mut());
        answer
    } else {
        let mut text = Vec::new();
        match GzDecoder::new(&*compressed).read_to_end(&mut text) {
            Ok(_) => response::bytes(200, "application/json", text),
            Err(_) => return Some(response::text(500, "reading the document failed")),
        }
    };
    let out = answer.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    out.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    if query.get("hash").is_some() {
        // The URL names the contents, so they never change.
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
    }
    Some(answer)
}

fn redirect(to: &str) -> Response<Body> {
    let mut answer = response::bytes(301, "text/html; charset=utf-8", Bytes::new());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

fn accepts_json(headers: &http::HeaderMap) -> bool {
    let mut clauses =
        headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut any = false;
    let json = clauses.any(|clause| {
        any = true;
        let media = clause.split(';').next().unwrap_or_default().trim();
        matches!(media, "application/json" | "application/*" | "*/*" | "")
    });
    json || !any
}

/// `#/components/schemas/…`
fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The group, version and kind as operations and types carry them.
fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// `apps_v1`, `core_v1`, `rbacAuthorization_v1`
fn tag(resource: &Resource) -> String {
    let camel = camel_group(&resource.group);
    let mut chars = camel.chars();
    let lower: String = chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect();
    format!("{lower}_{}", resource.version)
}

/// `Core`, `Apps`, `RbacAuthorization`
fn camel_group(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    group.split('.').map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

#[cfg(test)]
mod tests;
