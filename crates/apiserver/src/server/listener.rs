//! Connections: accept, TLS, HTTP/1.1 or HTTP/2, and an orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use super::{
    ApiServer, Body, Peer,
    pool::Pool,
    turns::{Begun, Turns},
    wire::Wire,
};
use crate::response;

/// A client that has not finished its TLS handshake by then is dropped (Go's server: 10 s).
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 client may take for its request head.
const HEADER: Duration = Duration::from_secs(32);
/// Requests and watches on one connection. Upstream allows 100, which makes clients with many watches open
/// several connections; here a watch costs little.
const MAX_STREAMS: u32 = 1024;
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// Windows that let a 3 MiB body through without waiting for the client at every 64 KiB.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// After the end was asked for, requests in flight have this long.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves connections, and looks after the store, until `shutdown`, then lets requests in flight end (watches end at once) and returns.
///
/// `tls` must offer ALPN `h2` and `http/1.1` and take client certificates without verifying them (see
/// [`super::tls::server_config`]). The caller may swap certificates behind the config's resolver at any time.
pub async fn serve(
    server: Arc<ApiServer>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let answers = Arc::new(Answers { begin: answer, pool: Pool::default() });
    let connections = TaskTracker::new();
    connections.spawn(super::upkeep::compact(server.clone(), shutdown.clone()));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                connections.spawn(connection(
                    server.clone(),
                    answers.clone(),
                    acceptor.clone(),
                    stream,
                    address,
                    shutdown.clone(),
                ));
            }
            Err(error) => {
                // Out of file descriptors or the like: give the others time to close theirs.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    // Watches would hold their connections until the drain is over.
    server.stop();
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections still open at the end of the drain");
    }
}

/// How a request is answered, and where its future goes.
struct Answers<F> {
    begin: fn(Arc<ApiServer>, Peer, http::Request<Body>) -> F,
    pool: Pool<F>,
}

async fn answer(server: Arc<ApiServer>, peer: Peer, request: http::Request<Body>) -> http::Response<Body> {
    server.handle(peer, request).await
}

async fn connection<F: Future<Output = http::Response<Body>> + Send + 'static>(
    server: Arc<ApiServer>,
    answers: Arc<Answers<F>>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake");
            return;
        }
        Err(_) => return,
    };
    let certificates: Arc<[Vec<u8>]> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.as_ref().to_vec())
        .collect();
    let peer = Peer::Tls { address, certificates };
    let goaway = CancellationToken::new();
    let asked = goaway.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        if request.version() == http::Version::HTTP_2 && server.wants_goaway() {
            asked.cancel();
        }
        let long = takes_long(&request);
        let answer = answers.pool.put((answers.begin)(server, peer, request.map(response::incoming)));
        async move {
            let answered = if long {
                // Not on the turn of the connection's other streams.
                AbortOnDropHandle::new(tokio::spawn(answer)).await
            } else {
                Ok(answer.await)
            };
            answered.inspect_err(|error| tracing::error!(%error, "a request panicked"))
        }
    });
    let (wire, begun) = (Wire::new(stream), Begun::default());
    let mut builder = auto::Builder::new(begun.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(wire.clone()), service);
    let mut connection = Turns::new(connection, wire, begun);
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        // What is in flight is still answered.
        () = async { tokio::select! { biased; () = shutdown.cancelled() => {}, () = goaway.cancelled() => {} } } => {
            connection.connection().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, error = %error, "connection ended");
    }
}

/// Lists, deletions of whole collections and documents take milliseconds of processor time; single objects and
/// the beginning of a watch take far less than going to another thread and back would be worth.
fn takes_long<B>(request: &http::Request<B>) -> bool {
    let uri = request.uri();
    if !matches!(*request.method(), http::Method::GET | http::Method::DELETE)
        || uri.query().is_some_and(|query| query.contains("watch="))
    {
        return false;
    }
    let mut parts = uri.path().split('/').skip(1);
    let group = match parts.next() {
        Some("api") => parts.next(),
        Some("apis") => parts.nth(1),
        _ => None,
    };
    if group.is_none() {
        return true;
    }
    match (parts.next(), parts.count()) {
        // Or a subresource of a namespace, which does no harm.
        (Some("namespaces"), more) => matches!(more, 0 | 2),
        (_, more) => more == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long() {
        for (method, uri, expect) in [
            ("GET", "/api/v1/pods", true),
            ("GET", "/api/v1/pods?limit=500", true),
            ("GET", "/api/v1/pods?watch=true", false),
            ("GET", "/api/v1/nodes/a", false),
            ("GET", "/api/v1/namespaces", true),
            ("GET", "/api/v1/namespaces/a", false),
            ("GET", "/api/v1/namespaces/a/pods", true),
            ("GET", "/api/v1/namespaces/a/pods/b", false),
            ("GET", "/api/v1/namespaces/a/pods/b/log", false),
            ("GET", "/apis/apps/v1/namespaces/a/deployments", true),
            ("GET", "/apis/apps/v1/namespaces/a/deployments/b", false),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", true),
            ("POST", "/apis/apps/v1/namespaces/a/deployments", false),
            ("GET", "/openapi/v3", true),
            ("GET", "/apis", true),
        ] {
            let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
            assert_eq!(takes_long(&request), expect, "{method} {uri}");
        }
    }
}
