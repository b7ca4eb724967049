//! `pods/proxy`, `services/proxy`, `nodes/proxy`: the request goes on to an address of the pod, of an endpoint, or
//! of the node (upstream's `UpgradeAwareHandler` around each kind's `ResourceLocation`).

use std::io::{Read, Write};

use apimachinery::{field::quote, status::Status};
use flate2::Compression;
use http::{HeaderValue, Method, Request, Response, header};
use serde_json::Value;

use super::{
    Call,
    connect::{kubelet_of, kubelets},
};
use crate::{
    proxy::{
        Backend, Route, location, rewrite,
        target::{self, Address, Target},
    },
    response,
    server::{Body, body},
};

/// A page larger than this is not looked through for links.
const LARGEST_PAGE: usize = 16 << 20;

pub(super) async fn proxy(call: &Call<'_>, mut request: Request<Body>) -> Result<Response<Body>, Status> {
    let id = &*call.info.name;
    let kind = call.resource.kind.to_lowercase();
    let target = Target::parse(id)
        .ok_or_else(|| Status::bad_request(format!("invalid {kind} request {}", quote(id))))?;
    let (backend, address) = backend(call, &target)?;

    // `/api/v1/namespaces/x/pods/y/proxy`, `/api/v1/nodes/y/proxy`.
    let segments = if call.resource.namespaced { 7 } else { 5 };
    let uri = request.uri().clone();
    let rest = target::rest(uri.path(), segments);
    let prefix = &uri.path()[..uri.path().len() - rest.len()];
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = match (rest, call.query.get("path").unwrap_or_default()) {
        ("", "") if matches!(*request.method(), Method::GET | Method::HEAD) => {
            // Links of the page would lead elsewhere (kubernetes issue 4958).
            return redirect(&format!("{prefix}/{query}"));
        }
        ("", path) => {
            let path: Vec<String> = path.trim_start_matches('/').split('/').map(location::escape).collect();
            format!("/{}", path.join("/"))
        }
        (rest, _) => rest.to_owned(),
    };
    let route = Route { host: address.host, port: address.port, path_and_query: format!("{path}{query}") };
    if let Ok(uri) = HeaderValue::try_from(format!("{prefix}{path}")) {
        request.headers_mut().insert("x-forwarded-uri", uri);
    }
    let host = call.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(uri.authority().map(|a| a.as_str())).unwrap_or_default().to_owned();
    if let (false, Ok(host)) = (request.headers().contains_key(header::HOST), host.parse()) {
        // HTTP/2 has no such header; what we speak on has.
        request.headers_mut().insert(header::HOST, host);
    }
    let answer = backend.forward(&route, request).await?;
    let backend = route.authority();
    mend(answer, rewrite::Page { prefix, backend: &backend, host: &host }).await
}

fn backend(call: &Call<'_>, target: &Target<'_>) -> Result<(Backend, Address), Status> {
    let storage = &call.server.storage;
    let stored = |plural: &str, namespace: &str, name: &str| {
        let resource = api::resource("", "v1", plural);
        let resource = resource.ok_or_else(|| Status::internal(format_args!("{plural} are not served")))?;
        storage.read(resource, namespace, name)?.ok_or_else(|| Status::not_found("", plural, name))
    };
    let address = match &*call.resource.plural {
        "nodes" => {
            let (host, port) = kubelet_of(call, target.name)?;
            if target.port.is_empty() || target.port == port.to_string() {
                return Ok((kubelets(call)?.clone(), Address { tls: true, host, port }));
            }
            target.node(&host)?
        }
        "services" => {
            let service = match target.port.parse::<u16>() {
                Ok(_) => stored("services", call.namespace(), target.name)?,
                Err(_) => Value::Null,
            };
            let endpoints = stored("endpoints", call.namespace(), target.name)?;
            let mut random = [0; 8];
            call.server.entropy.fill(&mut random);
            let pod_has = |namespace: &str, name: &str, ip: &str| {
                let pod = stored("pods", namespace, name).unwrap_or_default();
                let addresses = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
                addresses.iter().any(|address| address["ip"] == ip)
            };
            let id = &call.info.name;
            target.service(id, &service, &endpoints, usize::from_le_bytes(random), pod_has)?
        }
        _ => target.pod(&stored("pods", call.namespace(), target.name)?)?,
    };
    Ok((Backend::proxy(address.tls)?, address))
}

fn redirect(location: &str) -> Result<Response<Body>, Status> {
    let mut response = response::empty(301);
    let location = HeaderValue::try_from(location).map_err(|e| Status::bad_request(e.to_string()))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Links and redirects in the answer come back through the proxy.
async fn mend(mut answer: Response<Body>, page: rewrite::Page<'_>) -> Result<Response<Body>, Status> {
    if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let text = |answer: &Response<Body>, name: header::HeaderName| {
        answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let location = text(&answer, header::LOCATION);
    if !location.is_empty() {
        if let Ok(location) = HeaderValue::try_from(&*page.link(&location)) {
            answer.headers_mut().insert(header::LOCATION, location);
        }
        return Ok(answer);
    }
    let kind = text(&answer, header::CONTENT_TYPE);
    let encoding = text(&answer, header::CONTENT_ENCODING);
    if kind.split(';').next().unwrap_or_default().trim() != "text/html"
        || !matches!(&*encoding, "" | "gzip" | "deflate")
    {
        return Ok(answer);
    }
    let (mut parts, content) = answer.into_parts();
    let content = response::read(content, LARGEST_PAGE).await?;
    if let Some(new) = rewritten(&content, &encoding, page) {
        // Of an answer to HEAD the length is not ours to know.
        parts.headers.remove(header::CONTENT_LENGTH);
        return Ok(Response::from_parts(parts, body(new)));
    }
    Ok(Response::from_parts(parts, body(content)))
}

/// The page with its links mended, packed as it came; `None` for what cannot be read.
fn rewritten(content: &[u8], encoding: &str, page: rewrite::Page<'_>) -> Option<Vec<u8>> {
    if content.is_empty() {
        return None;
    }
    let limit = LARGEST_PAGE as u64;
    let mut text = String::new();
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(content).take(limit).read_to_string(&mut text),
        "deflate" => flate2::read::DeflateDecoder::new(content).take(limit).read_to_string(&mut text),
        _ => { content }.read_to_string(&mut text),
    }
    .ok()?;
    let html = page.html(&text);
    match encoding {
        "gzip" => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(html.as_bytes()).ok()?;
            packed.finish().ok()
        }
        "deflate" => {
            let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(html.as_bytes()).ok()?;
            packed.finish().ok()
        }
        _ => Some(html.into_bytes()),
    }
}
