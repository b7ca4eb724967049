//! Requests to programs outside of the cluster that the administrator names: webhooks of authentication and
//! authorization, issuers of tokens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use client::{Access, HttpTransport, Secret, Transport as _};
use futures::future::BoxFuture;
use http::{Method, Request, Uri, header};
use serde_json::Value;

/// Answers longer than this are not read.
const LARGEST: usize = 4 << 20;
/// How often a request is tried in all, and how long is waited before the second time; half as much again before
/// each further one (upstream `apiserver/pkg/util/webhook`).
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Where Go looks for the authorities that the machine believes.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Configuration(String),
    /// No answer that could be read; the text names the request.
    #[error("{0}")]
    Transport(String),
    /// An answer that is no success.
    #[error("{1}")]
    Code(u16, String),
}

/// One URL of another program.
pub struct Endpoint {
    transport: HttpTransport,
    url: String,
    path: Uri,
}

impl Endpoint {
    /// The server of a kubeconfig file's current context, by the URL that stands there.
    ///
    /// # Errors
    /// When the file, or what it names, does not read.
    pub fn from_kubeconfig(file: &Path) -> Result<Self, Error> {
        let access =
            Access::from_kubeconfig(file, None).map_err(|e| Error::Configuration(with_causes(&e)))?;
        Self::new(access)
    }

    /// A URL, with the authorities (PEM) that its server is believed by, or the machine's.
    ///
    /// # Errors
    /// When either does not read.
    pub fn of(url: &str, authorities: Option<&str>) -> Result<Self, Error> {
        let authorities = match authorities {
            Some(pem) => Some(Secret::Inline(pem.as_bytes().to_vec())),
            None => system_roots().map(Secret::File),
        };
        Self::new(Access { server: url.into(), certificate_authority: authorities, ..Access::default() })
    }

    fn new(mut access: Access) -> Result<Self, Error> {
        if access.certificate_authority.is_none() && !access.insecure_skip_tls_verify {
            access.certificate_authority = system_roots().map(Secret::File);
        }
        let url = access.server.clone();
        let wrong = |e: &dyn std::fmt::Display| Error::Configuration(format!("{url:?} is not a URL: {e}"));
        let parsed: Uri = url.parse().map_err(|e| wrong(&e))?;
        let authority = parsed.authority().ok_or_else(|| wrong(&"it names no host"))?;
        access.server = format!("{}://{authority}", parsed.scheme_str().unwrap_or("https"));
        let path = parsed.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(|e| wrong(&e))?;
        let transport = HttpTransport::new(access).map_err(|e| Error::Configuration(with_causes(&e)))?;
        Ok(Self { transport, url, path })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks once, with a bearer token if there is one.
    ///
    /// # Errors
    /// No answer, or one that is no success.
    pub async fn get(&self, token: Option<&str>, patience: Duration) -> Result<Bytes, Error> {
        let mut request = Request::get(self.path.clone());
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(Method::GET, request, Bytes::new(), patience).await
    }

    /// Posts JSON and reads JSON; tries again after failures that may pass. One try takes no longer than `patience`.
    ///
    /// # Errors
    /// The last failure.
    pub async fn post(&self, body: &Value, patience: Duration) -> Result<Value, Error> {
        let bytes = Bytes::from(body.to_string());
        let mut wait = FIRST_WAIT;
        for left in (0..TRIES).rev() {
            let request = Request::post(self.path.clone())
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json");
            let failure = match self.send(Method::POST, request, bytes.clone(), patience).await {
                Ok(answer) => {
                    return serde_json::from_slice(&answer)
                        .map_err(|e| Error::Transport(format!("reading the answer of {}: {e}", self.url)));
                }
                Err(failure) => failure,
            };
            if left == 0 || !may_pass(&failure) {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            wait = wait * 3 / 2;
        }
        Err(Error::Transport(format!("no answer from {}", self.url)))
    }

    fn send(
        &self,
        method: Method,
        request: http::request::Builder,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(async move {
            let verb = if method == Method::GET { "Get" } else { "Post" };
            let request = request.header(header::USER_AGENT, "kube-apiserver/v1.36").body(body);
            let request = request.map_err(|e| self.failed(verb, &e.to_string()))?;
            let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            let (code, bytes) = tokio::time::timeout(patience, self.exchange(verb, request))
                .await
                .map_err(|_| self.failed(verb, late))??;
            if code.is_success() {
                return Ok(bytes);
            }
            let text = String::from_utf8_lossy(&bytes);
            let text: String = text.trim().chars().take(500).collect();
            let why = format!("{verb} {:?}: an answer of {code}: {text}", self.url);
            Err(Error::Code(code.as_u16(), why))
        })
    }

    async fn exchange(
        &self,
        verb: &str,
        request: Request<Bytes>,
    ) -> Result<(http::StatusCode, Bytes), Error> {
        let answer = self.transport.send(request).await;
        let answer = answer.map_err(|e| self.failed(verb, &with_causes(&e)))?;
        let code = answer.status();
        let body = crate::response::read(answer.into_body(), LARGEST).await;
        Ok((code, body.map_err(|e| self.failed(verb, &e.message))?))
    }

    fn failed(&self, verb: &str, why: &str) -> Error {
        Error::Transport(format!("{verb} {:?}: {why}", self.url))
    }
}

/// Whether another try may do better.
fn may_pass(failure: &Error) -> bool {
    match failure {
        Error::Configuration(_) => false,
        // What could not be reached at all is down; what broke off may be restarting.
        Error::Transport(text) => text.contains("deadline exceeded") || text.contains("reset"),
        Error::Code(code, _) => matches!(code, 429 | 500 | 503 | 504),
    }
}

fn system_roots() -> Option<PathBuf> {
    SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
