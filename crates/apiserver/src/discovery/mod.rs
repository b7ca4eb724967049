//! What the server serves: `/api`, `/apis` and below, in the old form (one document per version) and the
//! aggregated one; `/version`; the list of paths at `/`.
//!
//! Everything comes from [`Served`](crate::server::Served); nothing is kept between requests.

mod aggregated;
mod legacy;

use apimachinery::status::Status;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::authentication::issuer;
use crate::health;
use crate::negotiation::{self, Format};
use crate::request::{Query, RequestInfo};
use crate::response;
use crate::server::{ApiServer, Body};

/// What `/version` says. The minor version decides what clients believe we can do.
pub const GIT_VERSION: &str = concat!("v1.36.2+corten", env!("CARGO_PKG_VERSION"));

/// Answers discovery paths; `None` for others.
pub fn handle(
    server: &ApiServer,
    info: &RequestInfo,
    query: &Query,
    request: &Request<Body>,
) -> Option<Response<Body>> {
    let path = info.path.strip_suffix('/').unwrap_or(&info.path);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let headers = request.headers();
    let all = server.resources();
    let served = &all[..];
    let refused = |status: &Status| Some(response::status(status, negotiation::for_error(headers, query)));
    // Routes take GET and nothing else; the lists of groups take any method.
    let routed = !matches!(parts.as_slice(), [] | ["apis"] | ["apis", _]);
    let is_get = *request.method() == Method::GET;
    let mut document = match parts.as_slice() {
        [] => json!({ "paths": paths(server) }),
        ["version"] => version(),
        ["api"] | ["apis"] => {
            let core = parts == ["api"];
            match wanted(headers) {
                Form::Aggregated(_) if core && !is_get => return refused(&response::wrong_method()),
                Form::Aggregated(format) => {
                    let mut document = aggregated::document(core, served);
                    if !core {
                        server.aggregator.add_to_aggregated(server.storage.store(), &mut document);
                    }
                    return Some(aggregated::answer(&document, format, headers));
                }
                Form::Legacy if core => legacy::versions(server),
                Form::Legacy => {
                    let mut document = legacy::groups(served);
                    server.aggregator.add_to_groups(server.storage.store(), &mut document);
                    document
                }
            }
        }
        ["api", "v1"] => legacy::resources(served, "", "v1")?,
        ["apis", group] => {
            let own = legacy::group(served, group);
            server.aggregator.group(server.storage.store(), group, own)?
        }
        ["apis", group, version] => legacy::resources(served, group, version)?,
        [".well-known", "openid-configuration"] if is_get => return open_id(server, headers),
        ["openid", "v1", "jwks"] if is_get => {
            let keys = issuer::jwks(server.authenticator.service_accounts()?);
            return Some(public(issuer::JWKS_MEDIA_TYPE, &keys));
        }
        [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"] => {
            return refused(&response::wrong_method());
        }
        _ => return None,
    };
    if routed {
        let only_json = parts == ["version"];
        let forms = if only_json { negotiation::Route::Json } else { negotiation::Route::Object };
        let checked = if is_get { negotiation::route(headers, forms) } else { Err(response::wrong_method()) };
        if let Err(status) = checked {
            return refused(&status);
        }
        if only_json {
            return Some(response::value(200, &document, negotiation::json(headers, query)));
        }
    }
    Some(match negotiation::output(headers, query) {
        Ok(output) => {
            if output.format == Format::Protobuf && document.get("apiVersion").is_none() {
                // The oldest documents leave it out in JSON; the envelope needs it.
                document["apiVersion"] = "v1".into();
            }
            response::value(200, &document, output)
        }
        Err(status) => response::status(&status, negotiation::for_error(headers, query)),
    })
}

fn open_id(server: &ApiServer, headers: &HeaderMap) -> Option<Response<Body>> {
    let verifier = server.authenticator.service_accounts()?;
    let uri = match (&server.settings.jwks_uri, server.settings.advertise) {
        (Some(uri), _) => uri.clone(),
        (None, Some((address, port))) => {
            format!("https://{}{}", std::net::SocketAddr::new(address, port), issuer::JWKS_PATH)
        }
        (None, None) => {
            format!("https://{}{}", headers.get(header::HOST)?.to_str().ok()?, issuer::JWKS_PATH)
        }
    };
    let document = issuer::configuration(verifier, &uri);
    Some(public("application/json", &document))
}

fn public(media_type: &'static str, document: &Value) -> Response<Body> {
    let mut response = response::bytes(200, media_type, document.to_string());
    let cache = HeaderValue::from_static(issuer::CACHE_CONTROL);
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response
}

fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{arch}"),
    })
}

fn paths(server: &ApiServer) -> Vec<String> {
    let mut all: Vec<String> = [
        issuer::CONFIGURATION_PATH,
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        issuer::JWKS_PATH,
        "/version",
    ]
    .map(String::from)
    .into();
    all.extend(health::paths());
    for resource in server.resources().iter().filter(|r| !r.group.is_empty()) {
        all.push(format!("/apis/{}", resource.group));
        all.push(format!("/apis/{}/{}", resource.group, resource.version));
    }
    all.extend(server.aggregator.paths(server.storage.store()));
    all.sort_unstable();
    all.dedup();
    all
}

/// Which form of `/api` and `/apis` a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Legacy,
    /// `apidiscovery.k8s.io/v2`, the only version since v1.36.
    Aggregated(Format),
}

/// The first form in `Accept` that we have.
fn wanted(headers: &HeaderMap) -> Form {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    for clause in accept.flat_map(|v| v.split(',')) {
        let mut parts = clause.split(';').map(str::trim);
        let format = match parts.next() {
            Some("application/json" | "application/*" | "*/*") => Format::Json,
            Some("application/yaml") => Format::Yaml,
            Some(other) if other == Format::Protobuf.media_type() => Format::Protobuf,
            _ => continue,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        for parameter in parts {
            match parameter.split_once('=') {
                Some(("as", v)) => kind = v,
                Some(("g", v)) => group = v,
                Some(("v", v)) => version = v,
                _ => {}
            }
        }
        match (kind, group, version) {
            ("", ..) => return Form::Legacy,
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => return Form::Aggregated(format),
            _ => {}
        }
    }
    Form::Legacy
}

/// The quoted tag of a document, as upstream: a SHA-512 sum in capitals.
fn etag(document: &[u8]) -> String {
    let sum: String = Sha512::digest(document).iter().map(|b| format!("{b:02X}")).collect();
    format!("\"{sum}\"")
}

#[cfg(test)]
mod tests;
