//! Calling webhooks, whatever they are asked: admission, conversion of custom objects.
//!
//! [`Client::target`] makes a [`Target`] of a `clientConfig`; targets that are the same share their connections, for as
//! long as somebody keeps one or asks for it. [`Client::post`] asks.
//!
//! As upstream: HTTP/1.1, so that the endpoints of a service share the load (kubernetes issue 75791), and HTTP/2 only
//! with a server on this machine; an answer must come within the timeout, all of it. Unlike upstream a redirect is
//! not followed, and an answer has a largest size: a webhook may be anybody's. Proxies from the environment are not
//! used.

mod connection;
mod tls;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apimachinery::{clock::Entropy, field::quote, status::Status};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::Value;
use tokio::time::Instant;

use self::connection::Peer;
use crate::{proxy::service, storage::Storage};

/// Why a webhook gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The `clientConfig` names nothing that can be called.
    #[error("could not get REST client: {0}")]
    Configuration(String),
    /// Nothing was answered. Shown as Go's `url.Error`.
    #[error("failed to call webhook: Post {}: {why}", quote(url))]
    Transport { url: String, why: String },
    /// Something else was answered than what is asked for.
    #[error("failed to call webhook: {0}")]
    Answer(String),
    /// A refusal of the request itself, or any other code than a success.
    #[error("failed to call webhook: {0}")]
    Status(Box<Status>),
}

impl Error {
    /// The HTTP status that metrics know it by.
    pub fn code(&self) -> u16 {
        match self {
            Error::Configuration(_) => 500,
            Error::Transport { .. } | Error::Answer(_) => 503,
            Error::Status(status) => status.code,
        }
    }
}

/// Where a webhook is reached. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    peer: Arc<Peer>,
    path: String,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}{}", self.peer.authority, self.path)
    }
}

/// How long an answer may take, and how large it may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub timeout: Duration,
    pub bytes: usize,
}

/// Makes targets, and finds the endpoints of services for them.
pub struct Client {
    storage: Storage,
    entropy: Arc<dyn Entropy>,
    /// Targets that are the same share their connections; with when they were last asked for.
    peers: Mutex<BTreeMap<Key, (Arc<Peer>, Instant)>>,
}

/// How long a target is remembered that nobody keeps.
const FORGET: Duration = Duration::from_secs(300);

/// Authority and bundle.
type Key = (String, Vec<u8>);

impl Client {
    pub fn new(storage: Storage, entropy: Arc<dyn Entropy>) -> Self {
        Self { storage, entropy, peers: Mutex::default() }
    }

    /// Of a `clientConfig`: `url` or `service`, and `caBundle`.
    ///
    /// # Errors
    /// [`Error::Configuration`] for what names nothing, or a bundle without certificates.
    pub fn target(&self, config: &Value) -> Result<Target, Error> {
        let wrong = |why: &str| Error::Configuration(why.to_owned());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let bundle = match config["caBundle"].as_str() {
            None => Vec::new(),
            Some(packed) => STANDARD
                .decode(packed)
                .map_err(|_| wrong("unable to load root certificates: unable to parse bytes as PEM block"))?,
        };
        if let Some(service) = config.get("service").filter(|service| service.is_object()) {
            let (namespace, name) = (text(&service["namespace"]), text(&service["name"]));
            let port = service["port"].as_u64().unwrap_or(443);
            let port = u16::try_from(port).map_err(|_| wrong("the port is none"))?;
            let host = format!("{name}.{namespace}.svc");
            let at = connection::At::Service { namespace, name, port };
            let authority = format!("{host}:{port}");
            return Ok(Target {
                peer: self.peer(authority, &host, at, bundle)?,
                path: path(&text(&service["path"])),
            });
        }
        let url = text(&config["url"]);
        if url.is_empty() {
            return Err(wrong("webhook configuration must have either service or URL"));
        }
        let uri: Uri = url.parse().map_err(|e| wrong(&format!("Unparsable URL: {e}")))?;
        let (Some(host), Some("https")) = (uri.host(), uri.scheme_str()) else {
            return Err(wrong("Unparsable URL: it is no https URL"));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let at = connection::At::Host { host: host.clone(), port: uri.port_u16().unwrap_or(443) };
        Ok(Target { peer: self.peer(authority, &host, at, bundle)?, path: path(uri.path()) })
    }

    fn peer(
        &self,
        authority: String,
        host: &str,
        at: connection::At,
        bundle: Vec<u8>,
    ) -> Result<Arc<Peer>, Error> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (authority, bundle);
        let now = Instant::now();
        if let Some((peer, asked)) = peers.get_mut(&key) {
            *asked = now;
            return Ok(peer.clone());
        }
        // Nobody holds it and nobody has asked for a while: its configuration is gone.
        peers.retain(|_, (peer, asked)| Arc::strong_count(peer) > 1 || now - *asked < FORGET);
        let peer = Peer::new(key.0.clone(), host, at, &key.1).map_err(Error::Configuration)?;
        let peer = Arc::new(peer);
        peers.insert(key, (peer.clone(), now));
        Ok(peer)
    }

    /// Posts JSON and gives the body of a successful answer.
    ///
    /// # Errors
    /// In upstream's words whatever keeps an answer from coming, within the limits.
    pub async fn post(&self, target: &Target, body: Bytes, limits: Limits) -> Result<Bytes, Error> {
        let query = format!("{}?timeout={}s", target.path, limits.timeout.as_secs().max(1));
        let url = format!("https://{}{query}", target.peer.authority);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::ACCEPT, "application/json, */*"),
            (header::CONTENT_TYPE, "application/json"),
            (header::USER_AGENT, "kube-apiserver-admission"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let locate = || self.locate(&target.peer.at);
        let answer = target.peer.post(&query, headers, body, limits.bytes, &locate);
        let answer = match tokio::time::timeout(limits.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(connection::Fault::Before("context deadline exceeded".to_owned())),
        };
        match answer {
            Ok(answer) => read(answer),
            Err(connection::Fault::Before(why)) => Err(Error::Transport { url, why }),
            Err(connection::Fault::Within(why)) => Err(Error::Answer(format!(
                "unexpected error when reading response body. Please retry. Original error: {why}"
            ))),
        }
    }

    fn locate(&self, at: &connection::At) -> Result<(String, u16), Status> {
        let connection::At::Service { namespace, name, port } = at else {
            let connection::At::Host { host, port } = at else { return Err(Status::internal("no address")) };
            return Ok((host.clone(), *port));
        };
        let served = |group: &str, plural: &str| {
            let found = api::resource(group, "v1", plural);
            found.ok_or_else(|| Status::internal(format_args!("{plural} are not served")))
        };
        let service = self.storage.read(served("", "services")?, namespace, name)?;
        let slices = served("discovery.k8s.io", "endpointslices")?;
        let mut of_service = Vec::new();
        for kv in self.storage.all(slices, namespace) {
            if crate::storage::scan::label(&kv.value, "kubernetes.io/service-name") == Some(name) {
                of_service.push(self.storage.decode(slices, &kv)?);
            }
        }
        let mut random = [0; 8];
        self.entropy.fill(&mut random);
        service::locate(name, *port, service.as_ref(), &of_service, usize::from_le_bytes(random))
    }
}

/// As Go cleans it: one slash before, none behind.
fn path(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

/// The body of a success, whatever it calls itself: upstream reads all of it as JSON, and many a server written in Go
/// says that it is plain text. Else what it says is wrong.
fn read(answer: http::Response<Bytes>) -> Result<Bytes, Error> {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (status, body) = (answer.status(), answer.into_body());
    if (StatusCode::OK..=StatusCode::PARTIAL_CONTENT).contains(&status) {
        return match body.is_empty() {
            true => Err(Error::Answer(format!(
                "0-length response with status code: {} and content type: {kind}",
                status.as_u16()
            ))),
            false => Ok(body),
        };
    }
    if let Ok(told) = serde_json::from_slice::<Status>(&body)
        && told.kind == "Status"
        && told.status != "Success"
        && !told.status.is_empty()
    {
        let told = if told.code == 0 { told.with_code(500) } else { told };
        return Err(Error::Status(Box::new(told)));
    }
    let text = match kind.is_empty() || kind.starts_with("text/") {
        true => String::from_utf8_lossy(&body).trim().chars().take(LONGEST_ERROR).collect(),
        false => "unknown".to_owned(),
    };
    let about = ("", "", "");
    let told = Status::generic_server_response(status.as_u16(), "POST", about, &text, 0, true);
    Err(Error::Status(Box::new(told)))
}

/// Characters of a plain answer that go into an error, as client-go has it.
const LONGEST_ERROR: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |code: u16, kind: &str, body: &str, expect: Result<&str, &str>| {
            let mut answer = http::Response::builder().status(code);
            if !kind.is_empty() {
                answer = answer.header(header::CONTENT_TYPE, kind);
            }
            let got = read(answer.body(Bytes::from(body.to_owned())).unwrap());
            let got =
                got.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|e| e.to_string());
            let expect = expect.map(str::to_owned).map_err(|why| format!("failed to call webhook: {why}"));
            assert_eq!(got, expect, "{code} {kind} {body}");
        };
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","code":418}"#;
        check(200, "application/json", "{}", Ok("{}"));
        check(200, "", "{}", Ok("{}"));
        check(200, "application/json; charset=utf-8", "{}", Ok("{}"));
        check(200, "text/plain", "{}", Ok("{}"));
        check(
            200,
            "application/json",
            "",
            Err("0-length response with status code: 200 and content type: application/json"),
        );
        check(
            500,
            "text/plain",
            "oh no\n",
            Err("an error on the server (\"oh no\") has prevented the request from succeeding"),
        );
        check(404, "", "404 page not found", Err("the server could not find the requested resource"));
        check(
            302,
            "",
            "",
            Err("the server responded with the status code 302 but did not return more information"),
        );
        check(500, "application/json", status, Err("no"));
    }
}
