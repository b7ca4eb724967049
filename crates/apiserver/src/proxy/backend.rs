//! Carrying a request to a node or a pod and its answer back.

use std::{sync::Arc, time::Duration};

use apimachinery::{field::quote, status::Status};
use bytes::Bytes;
use client::streaming::{self, Upgraded, websocket};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{response, server::Body};

/// How long a node may take to accept a connection and finish the handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// What is read of a kubelet's refusal.
const LARGEST_ERROR: usize = 64 << 10;

/// Where a request goes: a kubelet's address and port, and path with query there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub host: String,
    pub port: u16,
    pub path_and_query: String,
}

/// Connections to kubelets, or to what is proxied.
#[derive(Clone)]
pub struct Backend {
    /// None: in the clear.
    tls: Option<Arc<rustls::ClientConfig>>,
    /// What answers speaks for the node, not for itself.
    kubelet: bool,
}

impl Backend {
    /// `tls` trusts the CA of the kubelets' serving certificates and presents the API server's client
    /// certificate (through a resolver, if that is rotated).
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls: Some(tls), kubelet: true }
    }

    /// For pods and the like: nobody vouches for their certificates, if they have any.
    ///
    /// # Errors
    /// 500 when TLS cannot be set up.
    pub fn proxy(tls: bool) -> Result<Self, Status> {
        let config = || {
            let builder = rustls::ClientConfig::builder_with_provider(crate::server::tls::provider())
                .with_safe_default_protocol_versions()
                .map_err(|e| Status::internal(format_args!("setting up TLS: {e}")))?;
            let builder = builder.dangerous();
            let any = crate::server::tls::any_server();
            Ok::<_, Status>(Arc::new(builder.with_custom_certificate_verifier(any).with_no_client_auth()))
        };
        Ok(Self { tls: tls.then(config).transpose()?, kubelet: false })
    }

    /// Sends the request and answers with what the node says. When the node switches protocols, so does the
    /// answer, and a task carries bytes both ways until either side ends.
    pub async fn forward(&self, route: &Route, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let client_upgrade = is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let uri: Uri = route
            .path_and_query
            .parse()
            .map_err(|e| Status::internal(format_args!("parsing the address on the node: {e}")))?;
        let (mut parts, body) = request.into_parts();
        parts.uri = uri;
        parts.version = http::Version::HTTP_11;
        parts.extensions.clear();
        clean_request(&mut parts.headers, client_upgrade.is_some());
        if self.kubelet
            && let Ok(host) = route.authority().parse()
        {
            parts.headers.insert(header::HOST, host);
        }
        let request = Request::from_parts(parts, body);
        let sent = self.send(route, request).await;
        let mut response = sent.map_err(|what| self.unreachable(route, client_upgrade.is_some(), &what))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            if client_upgrade.is_some() && response.status().as_u16() < 400 {
                let code = response.status().as_u16();
                return Err(Status::failure(
                    500,
                    "",
                    format!("invalid upgrade response: status code {code}"),
                ));
            }
            clean_response(response.headers_mut());
            return Ok(response.map(|b| b.map_err(Into::into).boxed_unsync()));
        }
        let Some(client_upgrade) = client_upgrade else {
            return Err(Status::internal("the node switched protocols without being asked"));
        };
        let node_upgrade = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (client, node) = match tokio::try_join!(client_upgrade, node_upgrade) {
                Ok(both) => both,
                Err(error) => return tracing::debug!(%error, "switching protocols"),
            };
            // An end without a word is how these protocols usually stop.
            let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
            let _ = copy_bidirectional(&mut client, &mut node).await;
        });
        Ok(response.map(|_| crate::server::body(Bytes::new())))
    }

    /// As upstream's proxies answer: the transport's error as it is.
    fn unreachable(&self, route: &Route, upgrade: bool, what: &str) -> Status {
        match (upgrade, self.kubelet) {
            (true, _) => Status::failure(500, "", format!("error dialing backend: {what}")),
            (false, true) => Status::failure(500, "", format!("Get {}: {what}", quote(&route.url()))),
            (false, false) => Status::service_unavailable(format!("error trying to reach service: {what}")),
        }
    }

    /// Asks a kubelet to switch to SPDY/3.1, offering `protocols`, the best first.
    ///
    /// # Errors
    /// What the transport says.
    pub(crate) async fn ask_for_spdy(
        &self,
        route: &Route,
        protocols: &[&str],
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::post(&route.path_and_query)
            .header(header::HOST, route.authority())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, streaming::SPDY)
            .header(header::CONTENT_LENGTH, 0);
        for protocol in protocols {
            request = request.header(streaming::PROTOCOL_VERSION, *protocol);
        }
        let request = request.body(crate::server::body(Bytes::new())).map_err(|e| e.to_string())?;
        self.send(route, request).await
    }

    /// A SPDY connection to a kubelet.
    ///
    /// # Errors
    /// 500 with upstream's words.
    pub(crate) async fn dial_spdy(
        &self,
        route: &Route,
        protocols: &[&str],
    ) -> Result<Upgraded<TokioIo<hyper::upgrade::Upgraded>>, Status> {
        let answer = self.ask_for_spdy(route, protocols).await.map_err(|what| {
            let url = quote(&route.url());
            Status::internal(format_args!("error sending request: Post {url}: {what}"))
        })?;
        if !has_switched(&answer) {
            let body = answer.into_body().map_err(Into::into).boxed_unsync();
            let body = response::read(body, LARGEST_ERROR).await.unwrap_or_default();
            let why = streaming::upgrade_error(&body);
            return Err(Status::internal(format_args!("unable to upgrade connection: {why}")));
        }
        let protocol = answer.headers().get(streaming::PROTOCOL_VERSION).and_then(|v| v.to_str().ok());
        let protocol = protocol.map(str::to_owned);
        let io = hyper::upgrade::on(answer).await;
        let io = io.map_err(|e| Status::internal(format_args!("unable to upgrade connection: {e}")))?;
        Ok(Upgraded { io: TokioIo::new(io), protocol })
    }

    /// One request on a connection of its own.
    async fn send(&self, route: &Route, request: Request<Body>) -> Result<Response<Incoming>, String> {
        let target = route.authority();
        let name = ServerName::try_from(route.host.clone()).map_err(|e| e.to_string())?;
        let connect = async {
            let stream = TcpStream::connect(&target).await.map_err(|e| format!("dial tcp {target}: {e}"))?;
            let _ = stream.set_nodelay(true);
            let Some(tls) = self.tls.clone() else { return Ok(Box::new(stream) as Box<dyn Wire>) };
            let stream = TlsConnector::from(tls).connect(name, stream).await;
            stream.map(|stream| Box::new(stream) as Box<dyn Wire>).map_err(|e| format!("tls: {e}"))
        };
        let late = |_| format!("dial tcp {target}: i/o timeout");
        let stream = timeout(CONNECT, connect).await.map_err(late)??;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = %error, "connection to a node ended");
            }
        });
        sender.send_request(request).await.map_err(|e| e.to_string())
    }
}

/// Whether an answer has switched to SPDY.
pub(crate) fn has_switched<B>(answer: &Response<B>) -> bool {
    let header = |name: HeaderName| {
        let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_ascii_lowercase()
    };
    answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && header(header::CONNECTION).contains("upgrade")
        && header(header::UPGRADE).contains("spdy/3.1")
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Route {
    /// Host and port as they stand in an address.
    pub fn authority(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// As it is told in errors.
    fn url(&self) -> String {
        format!("https://{}{}", self.authority(), self.path_and_query)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// `Connection: Upgrade`, however written.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// The node learns nothing of who asked, and hop-by-hop headers stay on their hop.
pub(crate) fn clean_request(headers: &mut HeaderMap, upgrade: bool) {
    let private: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-") || name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in private {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
    // A browser's token is among the protocols of its WebSocket.
    if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        let protocols = websocket::protocols(headers).join(", ");
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        if let (false, Ok(protocols)) = (protocols.is_empty(), protocols.parse()) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        }
    }
    if !upgrade {
        hop_by_hop(headers);
        headers.remove(header::UPGRADE);
    }
}

pub(crate) fn clean_response(headers: &mut HeaderMap) {
    hop_by_hop(headers);
    // Whoever serves the proxied page does not speak for the API server.
    headers.remove(HeaderName::from_static("access-control-allow-origin"));
}

fn hop_by_hop(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::TRAILER] {
        headers.remove(name);
    }
    headers.remove(HeaderName::from_static("keep-alive"));
    headers.remove(HeaderName::from_static("proxy-connection"));
}
