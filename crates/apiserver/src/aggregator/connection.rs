//! Connections to a server behind a Service: HTTP/2 where it is spoken, all requests on one connection; else
//! HTTP/1.1 with a few that are kept open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resolve::Address;
use crate::server::{Body, tls};

/// How long connecting and the handshake may take.
const CONNECT: Duration = Duration::from_secs(10);
/// After so long without a sign of life a connection with requests is asked for one, and given up so much later.
const SILENCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(15);
/// HTTP/1.1 connections kept for later.
const KEPT: usize = 4;
const H2: &[u8] = b"h2";
const H1: &[u8] = b"http/1.1";

/// A server, what to trust there, and the connections that are open to it.
pub(crate) struct Server {
    /// Offers HTTP/2 and 1.1. `Err`: why there is no speaking to it.
    tls: Result<Arc<ClientConfig>, String>,
    /// In its certificate.
    name: String,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    newer: Option<(Address, http2::SendRequest<Body>)>,
    older: Vec<(Address, http1::SendRequest<Body>)>,
}

enum Sender {
    Newer(http2::SendRequest<Body>),
    Older(http1::SendRequest<Body>),
}

impl Server {
    /// `authority`: PEM; with none, nothing is trusted unless `insecure`, which trusts everything. `identity` is shown
    /// to the server.
    pub(crate) fn new(
        name: String,
        authority: &[u8],
        insecure: bool,
        identity: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Self {
        Self { tls: config(authority, insecure, identity), name, open: Mutex::default() }
    }

    /// Why there is no speaking to it.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.tls.as_ref().err().map(String::as_str)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request whose target is a path, and gives the answer when its headers are there. Does not wait for
    /// ever only as far as connecting goes.
    ///
    /// # Errors
    /// What the transport says.
    pub(crate) async fn send(
        self: &Arc<Self>,
        to: &Address,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        // One that is open may have been closed at the other end in this moment: then the request comes back.
        while let Some(sender) = self.take(to) {
            match self.send_on(sender, to, request).await {
                Ok(answer) => return Ok(answer),
                Err((Some(back), _)) => request = back,
                Err((None, why)) => return Err(why),
            }
        }
        let sender = self.connect(to).await?;
        self.send_on(sender, to, request).await.map_err(|(_, why)| why)
    }

    /// Sends a request that asks for another protocol, on a connection of its own.
    ///
    /// # Errors
    /// What the transport says.
    pub(crate) async fn upgrade(
        &self,
        to: &Address,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let stream = self.dial(to, &[H1]).await?;
        let handshake = http1::Builder::new().handshake::<_, Body>(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an extension server ended");
            }
        });
        sender.send_request(request).await.map_err(|e| chain(&e))
    }

    fn take(&self, to: &Address) -> Option<Sender> {
        let mut open = self.open();
        if let Some((address, sender)) = &open.newer {
            if address == to && !sender.is_closed() {
                return Some(Sender::Newer(sender.clone()));
            }
            open.newer = None;
        }
        open.older.retain(|(_, sender)| !sender.is_closed());
        let at = open.older.iter().rposition(|(address, _)| address == to)?;
        Some(Sender::Older(open.older.remove(at).1))
    }

    /// `Err`: the request, if nothing of it was sent, and why.
    async fn send_on(
        self: &Arc<Self>,
        sender: Sender,
        to: &Address,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, (Option<Request<Body>>, String)> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut set = |uri: String| match uri.parse::<Uri>() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => tracing::debug!(%error, "the address of an extension server"),
        };
        match sender {
            Sender::Newer(mut sender) => {
                set(format!("https://{}{path}", to.authority()));
                request.headers_mut().remove(header::HOST);
                sender.try_send_request(request).await.map_err(|mut error| {
                    self.open().newer = None;
                    (error.take_message(), chain(error.error()))
                })
            }
            Sender::Older(mut sender) => {
                set(path);
                if let Ok(host) = to.authority().parse() {
                    request.headers_mut().insert(header::HOST, host);
                }
                let answer = sender.try_send_request(request).await;
                let answer = answer.map_err(|mut error| (error.take_message(), chain(error.error())))?;
                let (server, to) = (self.clone(), to.clone());
                // Free again when the answer has been read.
                tokio::spawn(async move {
                    if sender.ready().await.is_ok() {
                        let mut open = server.open();
                        if open.older.len() < KEPT {
                            open.older.push((to, sender));
                        }
                    }
                });
                Ok(answer)
            }
        }
    }

    async fn connect(&self, to: &Address) -> Result<Sender, String> {
        let stream = self.dial(to, &[H2, H1]).await?;
        let newer = stream.get_ref().1.alpn_protocol() == Some(H2);
        let stream = TokioIo::new(stream);
        let over = |error: Option<hyper::Error>| {
            if let Some(error) = error {
                tracing::debug!(%error, "a connection to an extension server ended");
            }
        };
        if newer {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).keep_alive_interval(SILENCE).keep_alive_timeout(PATIENCE);
            let (sender, connection) = builder.handshake(stream).await.map_err(|e| chain(&e))?;
            tokio::spawn(async move { over(connection.await.err()) });
            self.open().newer = Some((to.clone(), sender.clone()));
            return Ok(Sender::Newer(sender));
        }
        let (sender, connection) = http1::Builder::new().handshake(stream).await.map_err(|e| chain(&e))?;
        tokio::spawn(async move { over(connection.await.err()) });
        Ok(Sender::Older(sender))
    }

    async fn dial(&self, to: &Address, protocols: &[&[u8]]) -> Result<TlsStream<TcpStream>, String> {
        let mut tls = ClientConfig::clone(self.tls.as_ref().map_err(Clone::clone)?);
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(self.name.clone()).map_err(|e| format!("tls: {e}"))?;
        let target = to.authority();
        let connect = async {
            let stream = TcpStream::connect((to.host.as_str(), to.port)).await;
            let stream = stream.map_err(|e| format!("dial tcp {target}: {e}"))?;
            let _ = stream.set_nodelay(true);
            let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
            stream.map_err(|e| format!("tls: {e}"))
        };
        timeout(CONNECT, connect).await.map_err(|_| format!("dial tcp {target}: i/o timeout"))?
    }
}

fn config(
    authority: &[u8],
    insecure: bool,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| format!("setting up TLS: {e}"))?;
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(tls::any_server())
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority).flatten() {
            let _ = roots.add(certificate);
        }
        if roots.is_empty() && !authority.is_empty() {
            return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
        }
        builder.with_root_certificates(roots)
    };
    Ok(Arc::new(match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    }))
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text.push_str(": ");
        text.push_str(&why.to_string());
        cause = why.source();
    }
    text
}
