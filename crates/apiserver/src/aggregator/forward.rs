//! A request goes on to an extension server, and its answer comes back (upstream's `handler_proxy.go`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::time::{Instant, timeout, timeout_at};

use super::resolve::{self, Address};
use super::service::Reference;
use super::{Aggregator, Remote, Service};
use crate::proxy::backend::{clean_request, clean_response, is_upgrade};
use crate::proxy::service::locate;
use crate::request::{RequestInfo, UserInfo};
use crate::response;
use crate::server::{ApiServer, Body, BoxError, body};

/// Discovery should be quick, for everybody asks for all of it.
const DISCOVERY: Duration = Duration::from_secs(5);

impl Aggregator {
    /// Where the Service of an extension server leads now.
    ///
    /// # Errors
    /// In upstream's words.
    pub(crate) fn resolve(&self, server: &ApiServer, reference: &Reference) -> Result<Address, String> {
        let (service, slices) = behind(server, reference, self.config.to_endpoints);
        let (name, port) = (&reference.name, reference.port);
        if !self.config.to_endpoints {
            let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
            return resolve::cluster_ip(&service, port);
        }
        let mut random = [0; 8];
        server.entropy.fill(&mut random);
        let at = locate(name, port, service.as_ref(), &slices, usize::from_le_bytes(random));
        let (host, port) = at.map_err(|status| status.message)?;
        Ok(Address { host, port })
    }
}

/// A Service and, if they are asked for, its endpoint slices.
pub(super) fn behind(server: &ApiServer, reference: &Reference, slices: bool) -> (Option<Value>, Vec<Value>) {
    let storage = &server.storage;
    let Some(services) = api::resource("", "v1", "services") else { return (None, Vec::new()) };
    let service = storage.read(services, &reference.namespace, &reference.name).ok().flatten();
    let mut found = Vec::new();
    if let (true, Some(resource)) = (slices, api::resource("discovery.k8s.io", "v1", "endpointslices")) {
        let label = ("kubernetes.io/service-name", reference.name.as_str());
        let selector = apimachinery::labels::Selector::from_set([label]);
        for kv in storage.all(resource, &reference.namespace) {
            if storage.matches_labels(&kv, &selector) {
                found.extend(storage.decode(resource, &kv).ok());
            }
        }
    }
    (service, found)
}

/// Who asks, for a server that believes us. What the client says of that is gone.
///
/// # Errors
/// Something of it cannot stand in a header.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), header::InvalidHeaderValue> {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes());
    headers.insert("x-remote-user", value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert("x-remote-uid", value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append("x-remote-group", value(group)?);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(())
}

/// What may not stand in a header's name, percent-encoded.
fn escaped(key: &str) -> String {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
    let one = |b: u8| if legal(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    key.bytes().map(one).collect()
}

/// Answers for an APIService that leads elsewhere; its faults are plain text, as upstream's.
pub(crate) async fn forward(
    server: &Arc<ApiServer>,
    service: &Service,
    user: &UserInfo,
    info: &RequestInfo,
    request: Request<Body>,
) -> Response<Body> {
    let Some(remote) = &service.remote else { return response::not_found() };
    if !service.description.available {
        return response::text(503, "service unavailable");
    }
    if let Some(fault) = remote.server.fault() {
        return response::text(500, fault);
    }
    let address = match server.aggregator.resolve(server, &remote.reference) {
        Ok(address) => address,
        Err(error) => {
            let name = &service.description.name;
            tracing::warn!(apiservice = %name, %error, "finding the way to an extension server");
            return response::text(503, "service unavailable");
        }
    };
    match passed_on(server, remote, &address, user, info, request).await {
        Ok(answer) => answer,
        Err((code, why)) => response::text(code, &why),
    }
}

async fn passed_on(
    server: &Arc<ApiServer>,
    remote: &Remote,
    address: &Address,
    user: &UserInfo,
    info: &RequestInfo,
    mut request: Request<Body>,
) -> Result<Response<Body>, (u16, String)> {
    let upgrade = is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (mut parts, content) = request.into_parts();
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    let headers = &mut parts.headers;
    clean_request(headers, upgrade.is_some());
    identify(headers, user).map_err(|e| (500, e.to_string()))?;
    let host = HeaderValue::try_from(address.authority()).map_err(|e| (500, e.to_string()))?;
    headers.insert("x-forwarded-host", host.clone());
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Ok(uri) = HeaderValue::try_from(parts.uri.path()) {
        headers.insert("x-forwarded-uri", uri);
    }
    headers.insert(header::HOST, host);
    let request = Request::from_parts(parts, content);
    if let Some(upgrade) = upgrade {
        let answer = remote.server.upgrade(address, request).await;
        let answer = answer.map_err(|why| (503, format!("error dialing backend: {why}")))?;
        return switched(answer, upgrade);
    }
    let unreachable = |why: &str| (503, format!("error trying to reach service: {why}"));
    let sent = remote.server.send(address, request);
    let is_discovery = !info.is_resource_request && info.path.trim_matches('/').split('/').count() == 3;
    let answer = match is_discovery {
        true => timeout(DISCOVERY, sent).await.map_err(|_| unreachable("context deadline exceeded"))?,
        false => sent.await,
    };
    let mut answer = answer.map_err(|why| unreachable(&why))?;
    let redirects = answer.status().is_redirection() && answer.headers().contains_key(header::LOCATION);
    if redirects && !server.aggregator.config.forwards_redirects {
        let why = "the backend attempted to redirect this request, which is not permitted";
        let mut refusal = Response::new(body(why));
        *refusal.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(refusal);
    }
    clean_response(answer.headers_mut());
    for name in ["credentials", "headers", "methods"] {
        answer.headers_mut().remove(format!("access-control-allow-{name}"));
    }
    let answer = answer.map(|content| content.map_err(Into::into).boxed_unsync());
    match info.is_long_running() {
        true => Ok(answer),
        false => Ok(answer.map(|content| bounded(content, server.settings.request_timeout))),
    }
}

/// A body that breaks off when it is not complete in time.
fn bounded(content: Body, patience: Duration) -> Body {
    if http_body::Body::is_end_stream(&content) {
        return content;
    }
    let end = Instant::now() + patience;
    let frames = futures::stream::unfold(Some(content), move |content| async move {
        let mut content = content?;
        match timeout_at(end, content.frame()).await {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(content))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(BoxError::from("the extension server took too long")), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The answer to a request for another protocol. If it is granted, a task carries bytes both ways.
fn switched(
    mut answer: Response<hyper::body::Incoming>,
    client: OnUpgrade,
) -> Result<Response<Body>, (u16, String)> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        if answer.status().as_u16() < 400 {
            let code = answer.status().as_u16();
            return Err((503, format!("invalid upgrade response: status code {code}")));
        }
        clean_response(answer.headers_mut());
        return Ok(answer.map(|content| content.map_err(Into::into).boxed_unsync()));
    }
    let there = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let (client, there) = match tokio::try_join!(client, there) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "switching protocols"),
        };
        // An end without a word is how these protocols usually stop.
        let (mut client, mut there) = (TokioIo::new(client), TokioIo::new(there));
        let _ = copy_bidirectional(&mut client, &mut there).await;
    });
    Ok(answer.map(|_| body(bytes::Bytes::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks() {
        let mut user = UserInfo::new("Jöhn", &["a", "b"]);
        user.uid = "7".into();
        user.extra.insert("example.com/Scope%".into(), vec!["x".into(), "y".into()]);
        let mut headers = HeaderMap::new();
        identify(&mut headers, &user).unwrap();
        let got: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let expect = [
            "x-remote-user=Jöhn",
            "x-remote-uid=7",
            "x-remote-group=a",
            "x-remote-group=b",
            "x-remote-extra-example.com%2fscope%25=x",
            "x-remote-extra-example.com%2fscope%25=y",
        ];
        assert_eq!(got, expect);
        user.name = "a\nb".into();
        assert!(identify(&mut HeaderMap::new(), &user).is_err());
    }
}
