//! The pages that a component serves about itself: health for everybody, metrics for those who may.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use apimachinery::clock::Clock;
use apiserver::authentication::{request_header, x509};
use apiserver::metrics::{classic, process};
use apiserver::server::tls;
use bytes::Bytes;
use clap::Args;
use client::Client;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{client_of, read};
use crate::certificates::Pair;
use crate::certificates::issue::{Authority, Subject};
use crate::certificates::tls::Identity;
use crate::wiring::World;

/// A client that has not finished its handshake or its request's head by then is dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// One answer.
pub struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Page {
    pub fn text(body: impl Into<String>) -> Page {
        Page { status: StatusCode::OK, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    pub fn metrics(body: String) -> Page {
        Page { status: StatusCode::OK, content_type: "text/plain; version=0.0.4; charset=utf-8", body }
    }

    /// 200, or 503 when not `well`.
    pub fn json(well: bool, body: serde_json::Value) -> Page {
        let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Page { status, content_type: "application/json", body: body.to_string() }
    }

    fn error(status: StatusCode) -> Page {
        let body = status.canonical_reason().unwrap_or_default().to_owned();
        Page { status, ..Page::text(body) }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(self.content_type));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
        response
    }
}

/// The page of a path; `None` for 404.
pub type Pages = Arc<dyn Fn(&str) -> Option<Page> + Send + Sync>;

/// The pages of a component that has a leader. `refresh` is called before metrics are read.
pub fn leader_pages(
    name: &'static str,
    leads: Arc<AtomicBool>,
    mut registry: Registry,
    refresh: impl Fn() + Send + Sync + 'static,
) -> Pages {
    let leader = Family::<Vec<(&str, &str)>, Gauge>::default();
    registry.register(
        "leader_election_master_status",
        "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. \
         'name' is the string used to identify the lease",
        leader.clone(),
    );
    Arc::new(move |path| match path {
        "/healthz" | "/livez" | "/readyz" => Some(Page::text("ok")),
        "/metrics" => {
            leader.get_or_create(&vec![("name", name)]).set(leads.load(Ordering::Relaxed).into());
            refresh();
            let mut text = String::new();
            // Writing into a String cannot fail.
            let _ = encode(&mut text, &registry);
            let mut text = classic(&text);
            process::write(&mut text);
            Some(Page::metrics(text))
        }
        _ => None,
    })
}

/// Where a component serves its pages over HTTPS.
#[derive(Args, Clone, Debug)]
pub struct Serving {
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// 0 for none [default: 10257 for the controller manager, 10259 for the scheduler]
    #[arg(long, value_name = "P")]
    secure_port: Option<u16>,
    /// The server's certificate [default: one that is made at the start]
    #[arg(long, value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    tls_private_key_file: Option<PathBuf>,
    /// Who signs the certificates of clients that want the metrics
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Who signs the certificate of a proxy that says in headers whom it speaks for
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// The names in such a certificate; without any, every name is good
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',', default_value = "x-remote-user")]
    requestheader_username_headers: Vec<String>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',')]
    requestheader_uid_headers: Vec<String>,
    #[arg(long, value_name = "HEADERS", value_delimiter = ',', default_value = "x-remote-group")]
    requestheader_group_headers: Vec<String>,
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',', default_value = "x-remote-extra-")]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Who is asked whose a token is, when somebody wants the metrics
    #[arg(long, value_name = "FILE")]
    authentication_kubeconfig: Option<PathBuf>,
    /// Who is asked whether somebody may see the metrics
    #[arg(long, value_name = "FILE")]
    authorization_kubeconfig: Option<PathBuf>,
}

impl Serving {
    /// The proxies in front that are believed.
    fn proxies(&self) -> Result<Option<request_header::Verifier>> {
        let Some(ca) = &self.requestheader_client_ca_file else { return Ok(None) };
        let names = request_header::Names {
            username: self.requestheader_username_headers.clone(),
            uid: self.requestheader_uid_headers.clone(),
            group: self.requestheader_group_headers.clone(),
            extra_prefix: self.requestheader_extra_headers_prefix.clone(),
        };
        let allowed = self.requestheader_allowed_names.clone();
        let verifier = request_header::Verifier::new(names, allowed, read(ca)?.as_bytes());
        verifier.map(Some).context("--requestheader-client-ca-file and its headers")
    }

    /// Listens from now on until `shutdown`.
    pub async fn start(
        &self,
        name: &str,
        port: u16,
        pages: Pages,
        world: &World,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let port = self.secure_port.unwrap_or(port);
        if port == 0 {
            return Ok(());
        }
        let pair = match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(certificate), Some(key)) => Pair { certificate: read(certificate)?, key: read(key)? },
            (None, None) => self_signed(self.bind_address, world)?,
            _ => bail!("--tls-cert-file and --tls-private-key-file go together"),
        };
        let config = tls::server_config(Identity::new(&pair)?).context("preparing TLS")?;
        let ask = |file: &Option<PathBuf>| file.as_deref().map(|file| client_of(file, name)).transpose();
        let verifier = |pem: String| x509::Verifier::new(pem.as_bytes()).context("reading the client CA");
        let verifier =
            |file: &Option<PathBuf>| file.as_deref().map(read).transpose()?.map(verifier).transpose();
        let guard = Guard {
            certificates: verifier(&self.client_ca_file)?,
            proxies: self.proxies()?,
            clock: world.clock.clone(),
            authentication: ask(&self.authentication_kubeconfig)?,
            authorization: ask(&self.authorization_kubeconfig)?,
        };
        listen(SocketAddr::new(self.bind_address, port), Some(config), Some(guard), pages, shutdown).await
    }
}

/// Listens without TLS, for everybody; port 0 is nowhere.
pub async fn start_plain(address: SocketAddr, pages: Pages, shutdown: &CancellationToken) -> Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    listen(address, None, None, pages, shutdown).await
}

/// As upstream does it for a component that is given none.
fn self_signed(address: IpAddr, world: &World) -> Result<Pair> {
    let now = world.clock.now();
    let addresses = if address.is_unspecified() {
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]
    } else {
        vec![address]
    };
    Authority::new("localhost-ca", None, now)?
        .sign(&Subject::server("localhost", vec!["localhost".to_owned()], addresses), now)
}

async fn listen(
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    guard: Option<Guard>,
    pages: Pages,
    shutdown: &CancellationToken,
) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let (shutdown, guard) = (shutdown.clone(), guard.map(Arc::new));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (tls, guard, pages) = (tls.clone(), guard.clone(), pages.clone());
                    let ended = shutdown.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            biased;
                            () = ended.cancelled() => {}
                            () = connection(stream, tls, guard, pages) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    Ok(())
}

async fn connection(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    guard: Option<Arc<Guard>>,
    pages: Pages,
) {
    let service = |chain: Arc<[Vec<u8>]>| {
        service_fn(move |request: Request<hyper::body::Incoming>| {
            let (guard, pages, chain) = (guard.clone(), pages.clone(), chain.clone());
            async move {
                Ok::<_, std::convert::Infallible>(answer(&request, &chain, guard, &pages).await.response())
            }
        })
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let ended = match tls {
        None => server.serve_connection(TokioIo::new(stream), service(Arc::new([]))).await,
        Some(config) => {
            match tokio::time::timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => {
                    let sent = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    let chain = sent.iter().map(|certificate| certificate.to_vec()).collect();
                    server.serve_connection(TokioIo::new(stream), service(chain)).await
                }
                _ => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection to the health pages: {error}");
    }
}

/// `chain` is what the client sent, not verified.
async fn answer<B>(
    request: &Request<B>,
    chain: &Arc<[Vec<u8>]>,
    guard: Option<Arc<Guard>>,
    pages: &Pages,
) -> Page {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Page::error(StatusCode::METHOD_NOT_ALLOWED);
    }
    let path = request.uri().path();
    // Upstream's default of --authorization-always-allow-paths.
    if let Some(guard) = guard.filter(|_| !matches!(path, "/healthz" | "/livez" | "/readyz"))
        && let Err(status) = guard.check(request, chain).await
    {
        return Page::error(status);
    }
    pages(path).unwrap_or_else(|| Page::error(StatusCode::NOT_FOUND))
}

/// Who may see more than the health: the API server says. Without anybody to ask, nobody.
struct Guard {
    certificates: Option<x509::Verifier>,
    /// Proxies in front that have asked for credentials themselves, and say in headers whose they were.
    proxies: Option<request_header::Verifier>,
    clock: Arc<dyn Clock>,
    authentication: Option<Client>,
    authorization: Option<Client>,
}

/// A user as reviews name one.
fn named(user: &apiserver::request::UserInfo) -> UserInfo {
    UserInfo {
        username: Some(user.name.clone()),
        groups: Some(user.groups.clone()),
        uid: (!user.uid.is_empty()).then(|| user.uid.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
    }
}

impl Guard {
    /// A proxy's word comes first. A certificate that is good names the user, else a token does, else it is anybody.
    async fn check<B>(&self, request: &Request<B>, chain: &Arc<[Vec<u8>]>) -> Result<(), StatusCode> {
        let failed = |error: client::Error| {
            tracing::warn!(error = %error.chain(), "asking who may see a page");
            StatusCode::INTERNAL_SERVER_ERROR
        };
        let proxied = match &self.proxies {
            // A client of another authority speaks for itself, whatever its headers say.
            Some(proxies) if !chain.is_empty() => {
                proxies.authenticate(chain, request.headers(), self.clock.now()).ok().flatten()
            }
            _ => None,
        };
        let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let verified = match &self.certificates {
            Some(verifier) if !chain.is_empty() && proxied.is_none() => {
                verifier.authenticate(chain, self.clock.now()).map_err(|_| StatusCode::UNAUTHORIZED)?
            }
            _ => None,
        };
        let user = match (proxied.or(verified), bearer.and_then(|value| value.strip_prefix("Bearer "))) {
            (Some(user), _) => named(&user),
            (None, None) => UserInfo {
                username: Some("system:anonymous".to_owned()),
                groups: Some(vec!["system:unauthenticated".to_owned()]),
                ..UserInfo::default()
            },
            (None, Some(token)) => {
                let asked = self.authentication.as_ref().ok_or(StatusCode::UNAUTHORIZED)?;
                let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
                let review = TokenReview { spec, ..TokenReview::default() };
                let said = asked.create(&review).await.map_err(failed)?.status.unwrap_or_default();
                said.user.filter(|_| said.authenticated == Some(true)).ok_or(StatusCode::UNAUTHORIZED)?
            }
        };
        let asked = self.authorization.as_ref().ok_or(StatusCode::FORBIDDEN)?;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(request.uri().path().to_owned()),
                    verb: Some(request.method().as_str().to_lowercase()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let said = asked.create(&review).await.map_err(failed)?.status.unwrap_or_default();
        if said.allowed { Ok(()) } else { Err(StatusCode::FORBIDDEN) }
    }
}
