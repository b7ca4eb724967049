//! What an extension server says of itself: its discovery and its OpenAPI. Fetched when it becomes available and
//! then once a minute by who watches over it ([`super::follow`]), so that no client waits for it. What it says is
//! measured and read field by field: it may be anything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::{Remote, Service, discovery, openapi};
use crate::request::UserInfo;
use crate::response;
use crate::server::{ApiServer, body};

/// How long one document may take.
const DISCOVERY: Duration = Duration::from_secs(5);
const SPECIFICATION: Duration = Duration::from_secs(60);
/// Documents are no longer than this, in bytes.
const LARGEST_DISCOVERY: usize = 8 << 20;
const LARGEST_SPECIFICATION: usize = 64 << 20;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// What is at hand.
#[derive(Default)]
pub(crate) struct Documents {
    /// The version's entry in the aggregated form, `{"version", "resources"}`.
    pub discovery: Option<Value>,
    /// The last fetch of it worked.
    pub fresh: bool,
    discovery_tag: String,
    /// Of its OpenAPI v3 document: the URL that names its contents.
    pub newer: Option<String>,
    /// Its part of an OpenAPI v2 document.
    pub older: Option<Arc<openapi::Specification>>,
    older_tag: String,
}

/// An answer.
pub(super) struct Got {
    pub code: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: header::HeaderName) -> String {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    }
}

/// What to ask for: a path, the forms that are taken, and the tag of what is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Question<'a> {
    pub path: &'a str,
    pub accept: &'a str,
    pub tag: &'a str,
    /// In bytes; 0: the answer's text does not matter.
    pub longest: usize,
}

/// Asks an extension server in the aggregator's own name.
///
/// # Errors
/// What the transport says.
pub(super) async fn ask(
    server: &ApiServer,
    remote: &Arc<Remote>,
    user: &UserInfo,
    question: Question<'_>,
    patience: Duration,
) -> Result<Got, String> {
    let address = server.aggregator.resolve(server, &remote.reference)?;
    let mut request = Request::get(question.path).body(body(Bytes::new())).map_err(|e| e.to_string())?;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver/v1.36"));
    for (name, text) in [(header::ACCEPT, question.accept), (header::IF_NONE_MATCH, question.tag)] {
        if let (false, Ok(value)) = (text.is_empty(), text.parse()) {
            headers.insert(name, value);
        }
    }
    super::forward::identify(headers, user).map_err(|e| e.to_string())?;
    let whole = async {
        let answer = remote.server.send(&address, request).await?;
        let (parts, content) = answer.into_parts();
        let body = match question.longest {
            0 => Bytes::new(),
            longest => {
                let content = content.map_err(Into::into).boxed_unsync();
                response::read(content, longest).await.map_err(|status| status.message)?
            }
        };
        Ok(Got { code: parts.status.as_u16(), headers: parts.headers, body })
    };
    timeout(patience, whole).await.map_err(|_| "context deadline exceeded".to_owned())?
}

fn aggregator() -> UserInfo {
    UserInfo::new("system:kube-aggregator", &["system:masters"])
}

fn reader() -> UserInfo {
    UserInfo::new("system:aggregator", &[])
}

/// Fetches the discovery of a version, and the address of its OpenAPI v3 document.
pub(super) async fn refresh(server: &ApiServer, service: &Service) {
    let Some(remote) = &service.remote else { return };
    let newer = newer(server, service, remote);
    let (found, newer) = tokio::join!(found(server, service, remote), newer);
    let mut documents = remote.documents();
    match found {
        Ok(found) => {
            documents.fresh = true;
            if let Some((entry, tag)) = found {
                (documents.discovery, documents.discovery_tag) = (Some(entry), tag);
            }
        }
        Err(why) => {
            documents.fresh = false;
            tracing::warn!(apiservice = %service.description.name, %why, "reading an extension server's discovery");
        }
    }
    if let Ok(newer) = newer {
        documents.newer = newer;
    }
}

/// The version's entry and its tag; `None`: as it was.
async fn found(
    server: &ApiServer,
    service: &Service,
    remote: &Arc<Remote>,
) -> Result<Option<(Value, String)>, String> {
    let of = &service.description;
    let tag = remote.documents().discovery_tag.clone();
    let question = Question { path: "/apis", accept: AGGREGATED, tag: &tag, longest: LARGEST_DISCOVERY };
    let got = ask(server, remote, &aggregator(), question, DISCOVERY).await?;
    let form = got.header(header::CONTENT_TYPE).to_ascii_lowercase();
    let aggregated = form.contains("g=apidiscovery.k8s.io") && form.contains("as=apigroupdiscoverylist");
    match got.code {
        304 if !tag.is_empty() => return Ok(None),
        503 => return Err("the server is unavailable".into()),
        200 if aggregated => {
            let list: Value = serde_json::from_slice(&got.body).map_err(|e| e.to_string())?;
            let entry = discovery::entry(&list, &of.group, &of.version);
            return Ok(Some((entry, got.header(header::ETAG))));
        }
        _ => {}
    }
    // Older servers know only the older form.
    let path = format!("/apis/{}/{}", of.group, of.version);
    let question = Question { path: &path, accept: "application/json", tag: "", longest: LARGEST_DISCOVERY };
    let got = ask(server, remote, &aggregator(), question, DISCOVERY).await?;
    if got.code != 200 {
        return Err(format!("{path}: status {}", got.code));
    }
    let list: Value = serde_json::from_slice(&got.body).map_err(|e| e.to_string())?;
    Ok(Some((discovery::converted(&list, &of.version), String::new())))
}

/// The URL of the version's OpenAPI v3 document; `None`: it has none.
async fn newer(
    server: &ApiServer,
    service: &Service,
    remote: &Arc<Remote>,
) -> Result<Option<String>, String> {
    let of = &service.description;
    let question =
        Question { path: "/openapi/v3", accept: "application/json", tag: "", longest: LARGEST_DISCOVERY };
    let got = ask(server, remote, &reader(), question, DISCOVERY).await?;
    if got.code != 200 {
        return Ok(None);
    }
    let index: Value = serde_json::from_slice(&got.body).map_err(|e| e.to_string())?;
    let path = format!("apis/{}/{}", of.group, of.version);
    let url = index["paths"][&path]["serverRelativeURL"].as_str();
    // It is the server's own path, and nothing else: we go there.
    let own = format!("/openapi/v3/{path}");
    Ok(url.filter(|url| url.split('?').next() == Some(&*own)).map(str::to_owned))
}

/// Fetches the version's part of the server's OpenAPI v2 document.
pub(super) async fn refresh_older(server: &ApiServer, service: &Service) {
    let Some(remote) = &service.remote else { return };
    let of = &service.description;
    let tag = remote.documents().older_tag.clone();
    let question = Question {
        path: "/openapi/v2",
        accept: "application/json",
        tag: &tag,
        longest: LARGEST_SPECIFICATION,
    };
    let got = match ask(server, remote, &reader(), question, SPECIFICATION).await {
        Ok(got) if got.code == 200 => got,
        Ok(got) if got.code == 304 => return,
        Ok(_) => {
            let mut documents = remote.documents();
            (documents.older, documents.older_tag) = (None, String::new());
            return;
        }
        Err(why) => {
            return tracing::warn!(apiservice = %of.name, %why, "reading an extension server's OpenAPI");
        }
    };
    let prefix = format!("/apis/{}/{}/", of.group, of.version);
    match openapi::Specification::read(&got.body, &prefix) {
        Ok(specification) => {
            let mut documents = remote.documents();
            (documents.older, documents.older_tag) =
                (Some(Arc::new(specification)), got.header(header::ETAG));
        }
        Err(why) => tracing::warn!(apiservice = %of.name, %why, "reading an extension server's OpenAPI"),
    }
}
