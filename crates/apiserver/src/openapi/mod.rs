//! OpenAPI v3: `/openapi/v3` lists a document per group and version, each under a URL that names its contents
//! (KEP-2896).
//!
//! A document is made when somebody asks for it, from `api::schema()` and k8s-openapi's descriptions, straight
//! into its compressed form; a few are kept so. [`v2`] is the older form of all in one, for kubectl up to 1.27.

mod custom;
mod operations;
mod others;
mod parameters;
mod paths;
mod schemas;
mod v2;
mod v2_paths;
mod v3_protobuf;

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use apimachinery::schema::{Resource, ResourceRef};
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

/// What documents say of themselves: upstream's emulated version.
const VERSION: &str = "1.36";

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// The documents made lately.
#[derive(Default)]
pub struct Documents {
    served: Served,
    /// By path and whether in protobuf, the oldest first.
    kept: Mutex<Vec<((String, bool), Bytes)>>,
    fingerprint: OnceLock<String>,
}

/// The custom resources that are served.
type Added<'a> = &'a [Arc<Resource>];

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
    fn resources(&self, path: &str, added: Added<'_>) -> Vec<ResourceRef> {
        let own: Vec<ResourceRef> =
            self.served.iter().filter(|r| path_of(r) == path).map(ResourceRef::from).collect();
        if !own.is_empty() {
            return own;
        }
        let custom = added.iter().filter(|r| path_of(r) == path).cloned();
        custom.map(ResourceRef::Custom).collect()
    }

    /// Names the contents of a document without making it: they follow from the tables, from this code and, for custom
    /// resources, from the definitions.
    fn hash(&self, path: &str, added: Added<'_>) -> String {
        self.hash_of(path, added.iter().filter(|r| path_of(r) == path))
    }

    fn hash_of<'a>(&self, path: &str, definitions: impl Iterator<Item = &'a Arc<Resource>>) -> String {
        let fingerprint = self.fingerprint.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(GIT_VERSION);
            hash.update(include_str!("schemas.rs"));
            hash.update(include_str!("enums.txt"));
            for source in [
                include_str!("operations.rs"),
                include_str!("others.rs"),
                include_str!("parameters.rs"),
                include_str!("paths.rs"),
                include_str!("v3_protobuf.rs"),
            ] {
                hash.update(source);
            }
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
        let mut hash = Sha256::new().chain_update(fingerprint).chain_update(path);
        for custom in definitions.filter_map(|resource| crate::custom::of(resource)) {
            hash.update(&*custom.definition.name);
            hash.update(custom.definition.revision().to_le_bytes());
        }
        hex(&hash.finalize())
    }

    fn index(&self, added: Added<'_>) -> Value {
        let others = others::all(&self.served).into_iter().map(|(path, _)| path);
        let mut all: Vec<String> = self.served.iter().map(path_of).chain(others).collect();
        let mut custom: BTreeMap<String, Vec<Arc<Resource>>> = BTreeMap::new();
        for resource in added {
            let of_group = format!("apis/{}", resource.group);
            custom.entry(of_group).or_default();
            custom.entry(path_of(resource)).or_default().push(resource.clone());
        }
        all.extend(custom.keys().cloned());
        all.sort();
        all.dedup();
        let mut paths = serde_json::Map::new();
        for path in all {
            let definitions = custom.get(&path).into_iter().flatten();
            let url = format!("/openapi/v3/{path}?hash={}", self.hash_of(&path, definitions));
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
        json!({ "paths": paths })
    }

    /// The document in gzip.
    fn get(&self, path: &str, added: Added<'_>, protobuf: bool) -> io::Result<Option<Bytes>> {
        let resources = self.resources(path, added);
        // Definitions change under the same path.
        let key = match resources.first() {
            Some(ResourceRef::Custom(_)) => format!("{path}?{}", self.hash(path, added)),
            _ => path.to_owned(),
        };
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = lock().iter().find(|((p, form), _)| *p == key && *form == protobuf) {
            return Ok(Some(found.clone()));
        }
        let resources: Vec<&Resource> = resources.iter().map(|resource| &**resource).collect();
        let other = others::all(&self.served).into_iter().find(|(p, _)| p == path).map(|(_, other)| other);
        let made: Bytes = match (resources.is_empty(), other) {
            (false, _) => write(paths::all(&resources), &resources, &[], protobuf)?.into(),
            (true, Some(other)) => {
                let types: Vec<&str> = other.answer.into_iter().collect();
                write([(other.path, other.item)].into_iter(), &[], &types, protobuf)?.into()
            }
            (true, None) => return Ok(None),
        };
        let mut kept = lock();
        kept.push(((key, protobuf), made.clone()));
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
fn write(
    paths: impl Iterator<Item = (String, Value)>,
    resources: &[&Resource],
    types: &[&str],
    protobuf: bool,
) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    let security = json!({"type": "apiKey", "description": "Bearer Token authentication", "in": "header",
        "name": "authorization"});
    if protobuf {
        out.write_all(&v3_protobuf::head(VERSION))?;
        for (path, item) in paths {
            out.write_all(&v3_protobuf::path(&path, &item))?;
        }
        schemas::each(resources, types, |name, schema| out.write_all(&v3_protobuf::schema(name, &schema)))?;
        for (name, schema) in resources.iter().flat_map(|resource| custom::schemas(resource)) {
            out.write_all(&v3_protobuf::schema(&name, &schema))?;
        }
        out.write_all(&v3_protobuf::security("BearerToken", &security))?;
        return out.finish();
    }
    let info = json!({"title": "Kubernetes", "version": VERSION});
    write!(out, r#"{{"openapi":"3.0.0","info":{info},"paths":{{"#)?;
    let mut separator = "";
    for (path, item) in paths {
        write!(out, "{separator}{}:{item}", Value::from(path))?;
        separator = ",";
    }
    out.write_all(br#"},"components":{"schemas":{"#)?;
    let mut separator = "";
    schemas::each(resources, types, |name, schema| {
        write!(out, "{separator}{}:{schema}", Value::from(name))?;
        separator = ",";
        Ok(())
    })?;
    for (name, schema) in resources.iter().flat_map(|resource| custom::schemas(resource)) {
        write!(out, "{separator}{}:{schema}", Value::from(name))?;
        separator = ",";
    }
    write!(out, r#"}},"securitySchemes":{{"BearerToken":{security}}}}}}}"#)?;
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
        return Some(v2::answer(server, request.headers()));
    }
    let rest = info.path.strip_prefix("/openapi/v3")?;
    let path = match rest.strip_prefix('/') {
        None if !rest.is_empty() => return None,
        None => "",
        Some("") => return Some(response::empty(404)),
        Some(path) => path.trim_end_matches('/'),
    };
    let headers = request.headers();
    let documents = &server.openapi;
    let added = &server.catalog.all()[..];
    if path.is_empty() {
        // Upstream does not say that it is JSON.
        let mut index = documents.index(added);
        server.aggregator.add_to_index(server.storage.store(), &mut index);
        return Some(response::bytes(200, "text/plain; charset=utf-8", index.to_string()));
    }
    let vary = |mut answer: Response<Body>, to: &'static str| {
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static(to));
        Some(answer)
    };
    let Some(media_type) = accepted(headers) else {
        return vary(response::empty(406), "Accept");
    };
    let compressed = match documents.get(path, added, media_type == PROTOBUF) {
        Ok(Some(found)) => found,
        Ok(None) => return Some(response::empty(404)),
        Err(error) => {
            tracing::error!(%error, path, "making an OpenAPI document");
            return Some(response::text(500, "making the document failed"));
        }
    };
    let hash = documents.hash(path, added);
    let tag = format!("\"{hash}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let asked = query.get("hash");
    let mut answer = if asked.is_some_and(|asked| asked != hash) {
        redirect(&format!("/openapi/v3/{path}?hash={hash}"), media_type)
    } else if known {
        response::bytes(304, media_type, Bytes::new())
    } else if response::wants_gzip(headers) {
        let mut answer = response::bytes(200, media_type, compressed);
        response::set_gzip(answer.headers_mut());
        answer
    } else {
        let mut text = Vec::new();
        match GzDecoder::new(&*compressed).read_to_end(&mut text) {
            Ok(_) => response::bytes(200, media_type, text),
            Err(_) => return Some(response::text(500, "reading the document failed")),
        }
    };
    let out = answer.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    if asked.is_some_and(|asked| asked == hash) {
        // The URL names the contents, so they never change.
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        out.insert(header::EXPIRES, HeaderValue::from_static(FAR_AWAY));
    }
    vary(answer, "Accept-Encoding, Accept")
}

/// Documents that are named by their contents may be kept until then.
const FAR_AWAY: &str = "Fri, 31 Dec 2100 23:59:59 GMT";

fn redirect(to: &str, media_type: &'static str) -> Response<Body> {
    let mut answer = response::bytes(301, media_type, Bytes::new());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

/// The media type of the answer: of those accepted the first that is there.
fn accepted(headers: &http::HeaderMap) -> Option<&'static str> {
    let clauses =
        headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut any = false;
    for clause in clauses {
        any = true;
        match clause.split(';').next().unwrap_or_default().trim() {
            "application/json" | "application/*" | "*/*" | "" => return Some("application/json"),
            // The second is the valid spelling; clients ask for the first.
            "application/com.github.proto-openapi.spec.v3@v1.0+protobuf" | PROTOBUF => return Some(PROTOBUF),
            _ => {}
        }
    }
    (!any).then_some("application/json")
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
    format!("{}_{}", lower(&camel_group(&resource.group)), resource.version)
}

/// The first letter small.
fn lower(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
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
