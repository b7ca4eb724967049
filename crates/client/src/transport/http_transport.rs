//! HTTP and HTTPS: HTTP/2 connections shared by many requests, HTTP/1.1 where the server offers no better.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::{Body, Transport, TransportError, tls};
use crate::kubeconfig::{Access, Stamp};

/// client-go's dial timeout.
const DIAL: Duration = Duration::from_secs(30);
/// How often files of tokens and certificates are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Servers allow a connection 100 to 250 streams, and watches hold theirs: past this many another is opened.
const STREAMS: usize = 90;
/// Idle HTTP/1.1 connections kept.
const IDLE: usize = 16;

/// A transport to one server. Connections are made on demand, shared, and made again when they break or when
/// the files with certificates change.
pub struct HttpTransport {
    inner: Arc<Inner>,
}

struct Inner {
    access: Access,
    scheme: Scheme,
    host: String,
    port: u16,
    authority: String,
    prefix: String,
    state: Mutex<State>,
    /// Held while a connection is made, so that requests that come at once share one.
    dialing: tokio::sync::Mutex<()>,
}

struct State {
    tls: Option<TlsConnector>,
    bearer: Option<HeaderValue>,
    stamps: Vec<Stamp>,
    looked: Instant,
    shared: Vec<Shared>,
    idle: Vec<http1::SendRequest<Full<Bytes>>>,
}

#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    streams: Arc<AtomicUsize>,
}

enum Connection {
    Shared(Shared),
    Own(http1::SendRequest<Full<Bytes>>),
}

impl HttpTransport {
    /// Reads certificates and token; connects at the first request. Must be called within a tokio runtime.
    pub fn new(access: Access) -> Result<HttpTransport, TransportError> {
        let server: Uri = access
            .server
            .parse()
            .map_err(|error| TransportError::config("reading the server's URL", error))?;
        let invalid = |what: &str| TransportError::config("reading the server's URL", what.to_owned());
        let scheme = server.scheme().cloned().ok_or_else(|| invalid("it has no scheme"))?;
        let host = server.host().ok_or_else(|| invalid("it has no host"))?;
        let port = server.port_u16().unwrap_or(if scheme == Scheme::HTTPS { 443 } else { 80 });
        let inner = Inner {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            authority: server.authority().map(ToString::to_string).unwrap_or_default(),
            prefix: server.path().trim_end_matches('/').to_owned(),
            state: Mutex::new(State {
                tls: if scheme == Scheme::HTTPS { Some(connector(&access)?) } else { None },
                bearer: access.bearer()?,
                stamps: access.stamps(),
                looked: Instant::now(),
                shared: Vec::new(),
                idle: Vec::new(),
            }),
            scheme,
            access,
            dialing: tokio::sync::Mutex::new(()),
        };
        Ok(HttpTransport { inner: Arc::new(inner) })
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.send(request).await })
    }
}

fn connector(access: &Access) -> Result<TlsConnector, TransportError> {
    Ok(TlsConnector::from(Arc::new(tls::client_config(access)?)))
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn send(self: Arc<Self>, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        self.look();
        let mut retried = false;
        loop {
            let connection = self.connection().await?;
            match self.exchange(connection, &request).await {
                // The connection was found closed before the request left: nothing was done yet.
                Err(error) if !retried && (error.is_canceled() || error.is_closed()) => retried = true,
                Err(error) => return Err(TransportError::exchange(error)),
                Ok(response) => return Ok(response),
            }
        }
    }

    /// Reads files again if they have changed. What cannot be read leaves things as they were: a file that
    /// is being replaced is whole at the next look.
    fn look(&self) {
        let mut state = self.state();
        if state.looked.elapsed() < LOOK {
            return;
        }
        state.looked = Instant::now();
        let stamps = self.access.stamps();
        if stamps == state.stamps {
            return;
        }
        match (self.access.bearer(), connector(&self.access)) {
            (Ok(bearer), Ok(tls)) => {
                state.bearer = bearer;
                state.stamps = stamps;
                if state.tls.is_some() {
                    state.tls = Some(tls);
                    // New requests go over new connections; streams on the old ones run to their end.
                    state.shared.clear();
                    state.idle.clear();
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "cannot read credentials again; going on with the old ones");
            }
        }
    }

    fn ready(&self) -> Option<Connection> {
        let mut state = self.state();
        state.shared.retain(|c| !c.sender.is_closed());
        let free = state.shared.iter().find(|c| c.streams.load(Ordering::Relaxed) < STREAMS);
        if let Some(shared) = free {
            shared.streams.fetch_add(1, Ordering::Relaxed);
            return Some(Connection::Shared(shared.clone()));
        }
        while let Some(own) = state.idle.pop() {
            if own.is_ready() {
                return Some(Connection::Own(own));
            }
        }
        None
    }

    async fn connection(&self) -> Result<Connection, TransportError> {
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let guard = self.dialing.lock().await;
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let made = tokio::time::timeout(DIAL, self.dial()).await;
        drop(guard);
        let fail =
            |source| TransportError::Connect { address: format!("{}:{}", self.host, self.port), source };
        match made {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(source)) => Err(fail(source)),
            Err(_) => Err(fail("no answer within 30 s".into())),
        }
    }

    async fn dial(&self) -> Result<Connection, super::BoxError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let tls = self.state().tls.clone();
        let Some(tls) = tls else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(Connection::Own(sender));
        };
        let name = match self.access.tls_server_name.as_str() {
            "" => self.host.clone(),
            name => name.to_owned(),
        };
        let stream = tls.connect(ServerName::try_from(name)?, stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(Connection::Own(sender));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        let shared = Shared { sender, streams: Arc::new(AtomicUsize::new(1)) };
        self.state().shared.push(shared.clone());
        Ok(Connection::Shared(shared))
    }

    async fn exchange(
        self: &Arc<Self>,
        connection: Connection,
        request: &Request<Bytes>,
    ) -> Result<Response<Body>, hyper::Error> {
        let request = self.address(request, matches!(connection, Connection::Shared(_)));
        match connection {
            Connection::Shared(mut shared) => {
                let stream = Stream(shared.streams.clone());
                let response = shared.sender.send_request(request).await?;
                Ok(response.map(|body| Held { body, end: End::Stream(stream) }.boxed_unsync()))
            }
            Connection::Own(mut sender) => {
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let end = End::Own(Some((sender, self.clone())));
                Ok(response.map(|body| Held { body, end }.boxed_unsync()))
            }
        }
    }

    /// The request as it goes on the wire: with server, prefix and token.
    fn address(&self, request: &Request<Bytes>, absolute: bool) -> Request<Full<Bytes>> {
        let mut parts = request.clone().into_parts();
        let path = parts.0.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = format!("{}{path}", self.prefix);
        let uri = if absolute {
            Uri::builder()
                .scheme(self.scheme.clone())
                .authority(self.authority.as_str())
                .path_and_query(path)
                .build()
        } else {
            Uri::builder().path_and_query(path).build()
        };
        if let Ok(uri) = uri {
            parts.0.uri = uri;
        }
        if !absolute && let Ok(host) = HeaderValue::from_str(&self.authority) {
            parts.0.headers.insert(header::HOST, host);
        }
        if !parts.0.headers.contains_key(header::AUTHORIZATION)
            && let Some(bearer) = self.state().bearer.clone()
        {
            parts.0.headers.insert(header::AUTHORIZATION, bearer);
        }
        Request::from_parts(parts.0, Full::new(parts.1))
    }
}

/// Counts a stream of a shared connection while it lives.
struct Stream(Arc<AtomicUsize>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum End {
    Stream(#[expect(dead_code, reason = "held for its drop")] Stream),
    Own(Option<(http1::SendRequest<Full<Bytes>>, Arc<Inner>)>),
}

/// A body that gives its connection back when it has been read to its end.
struct Held {
    body: hyper::body::Incoming,
    end: End,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = super::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = polled {
            self.give_back();
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Held {
    fn give_back(&mut self) {
        if let End::Own(own) = &mut self.end
            && let Some((sender, inner)) = own.take()
        {
            let mut state = inner.state();
            if state.idle.len() < IDLE {
                state.idle.push(sender);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}
