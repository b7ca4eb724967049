//! Connections: accept, TLS, HTTP/1.1 or HTTP/2, and an orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ApiServer, Peer};
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

async fn connection(
    server: Arc<ApiServer>,
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
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move {
            let request = request.map(response::incoming);
            Ok::<_, std::convert::Infallible>(server.handle(peer, request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
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
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, error = %error, "connection ended");
    }
}
