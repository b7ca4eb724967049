//! WebSockets of clients: commands and port-forwards that kubelets are asked for over SPDY, logs, and watches.
//!
//! The protocols themselves are in [`client::streaming`]; here they meet requests. Each stream is a task of its own
//! once the client has its 101.

mod watch;

use std::sync::Arc;

use apimachinery::status::Status;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use client::streaming::{
    PROTOCOL_VERSION,
    remote_command::{self, Streams},
    tunnel,
    websocket::{self, Message},
};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

pub(crate) use self::watch::watch;
use crate::{
    proxy::{Backend, Route, backend},
    response,
    server::{ApiServer, Body, body},
};

/// What a log is asked for with, as upstream's `wsstream` has it.
const READER_PROTOCOLS: [&str; 3] = ["", "binary.k8s.io", BASE64];
const BASE64: &str = "base64.binary.k8s.io";
/// The longest message of a log.
const BLOCK: usize = 32 << 10;

/// Runs `stream` on the client's connection once that is ours.
fn take_over<F>(
    upgrade: OnUpgrade,
    stream: impl FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => stream(TokioIo::new(connection)).await,
            Err(error) => tracing::debug!(%error, "switching protocols"),
        }
    });
}

/// exec and attach with `v5.channel.k8s.io`: answered at once; what goes wrong after that is told inside.
pub(crate) fn command(
    server: &Arc<ApiServer>,
    kubelet: &Backend,
    route: Route,
    streams: Streams,
    mut request: Request<Body>,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let served = [remote_command::WEBSOCKET_PROTOCOL];
    let answer = websocket::handshake(request.method(), request.headers(), |offered| {
        websocket::choose(offered, &served)
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => {
            server.metrics.translated(400);
            return refusal.map(body);
        }
    };
    let (server, kubelet) = (server.clone(), kubelet.clone());
    take_over(upgrade, async move |connection| {
        let dial = kubelet.dial_spdy(&route, &remote_command::PROTOCOLS);
        let code = remote_command::serve(connection, streams, dial).await;
        server.metrics.translated(code);
    });
    answer.map(|()| body(Bytes::new()))
}

/// A port-forward inside a WebSocket. The kubelet is asked first: what it refuses with is the answer.
pub(crate) async fn port_forward(
    server: &Arc<ApiServer>,
    kubelet: &Backend,
    route: &Route,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let upgrade = hyper::upgrade::on(&mut request);
    let offered = websocket::protocols(request.headers());
    let inner: Vec<&str> = offered.into_iter().filter_map(tunnel::inner).collect();
    let dialed = kubelet.ask_for_spdy(route, &inner).await;
    let mut dialed =
        dialed.map_err(|what| Status::failure(500, "", format!("error dialing backend: {what}")))?;
    if dialed.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = dialed.status().as_u16();
        server.metrics.tunnelled(code);
        if code < 400 {
            return Err(Status::failure(500, "", format!("invalid upgrade response: status code {code}")));
        }
        backend::clean_response(dialed.headers_mut());
        return Ok(dialed.map(|b| b.map_err(Into::into).boxed_unsync()));
    }
    if !backend::has_switched(&dialed) {
        server.metrics.tunnelled(500);
        return Ok(response::text(500, "unable to upgrade: missing upgrade headers in response"));
    }
    let agreed = dialed.headers().get(PROTOCOL_VERSION).and_then(|v| v.to_str().ok());
    let agreed = agreed.map(str::trim).filter(|protocol| !protocol.is_empty()).map(tunnel::outer);
    // A client that offered nothing of it gets none, as of upstream's upgrader.
    let choose = |offered: &[&str]| Ok(agreed.filter(|agreed| offered.contains(&&**agreed)));
    let answer = match websocket::handshake(request.method(), request.headers(), choose) {
        Ok(answer) => answer,
        Err(refusal) => {
            server.metrics.tunnelled(500);
            return Ok(refusal.map(body));
        }
    };
    server.metrics.tunnelled(101);
    let dialed = hyper::upgrade::on(dialed);
    take_over(upgrade, async move |connection| match dialed.await {
        Ok(kubelet) => tunnel::serve(connection, TokioIo::new(kubelet)).await,
        Err(error) => tracing::debug!(%error, "switching protocols"),
    });
    Ok(answer.map(|()| body(Bytes::new())))
}

/// A log that a client asked for over WebSocket: `answer` is the log.
pub(crate) fn log(
    method: &Method,
    headers: &HeaderMap,
    upgrade: OnUpgrade,
    answer: Response<Body>,
) -> Response<Body> {
    let choose = |offered: &[&str]| websocket::choose(offered, &READER_PROTOCOLS);
    let switched = match websocket::handshake(method, headers, choose) {
        Ok(switched) => switched,
        Err(refusal) => return refusal.map(body),
    };
    let base64 =
        switched.headers().get(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(|chosen| chosen == BASE64);
    let message = move |block: Bytes| match base64 {
        true => Message::text(STANDARD.encode(block)),
        false => Message::Binary(block),
    };
    // An empty one first: the client is connected.
    let blocks = bytes_of(answer.into_body()).flat_map(|bytes| stream::iter(blocks(bytes)));
    let messages = stream::iter([Bytes::new()]).chain(blocks).map(message);
    take_over(upgrade, async move |connection| websocket::send(connection, messages).await);
    switched.map(|()| body(Bytes::new()))
}

/// The bytes of a body, up to its end or to where it breaks off.
fn bytes_of(body: Body) -> BoxStream<'static, Bytes> {
    let next = |mut body: Body| async move {
        loop {
            let frame = body.frame().await?.ok()?;
            if let Ok(bytes) = frame.into_data() {
                return Some((bytes, body));
            }
        }
    };
    stream::unfold(body, next).boxed()
}

/// The bytes in pieces of no more than [`BLOCK`].
fn blocks(mut bytes: Bytes) -> Vec<Bytes> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        out.push(bytes.split_to(bytes.len().min(BLOCK)));
    }
    out
}
