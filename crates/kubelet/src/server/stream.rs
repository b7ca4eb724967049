//! exec, attach and port-forward: the runtime gives an address, and the upgraded connection is joined with one to
//! that address, byte by byte. So SPDY and older WebSockets pass as they are; what runtimes do not speak,
//! `v5.channel.k8s.io` and tunnelled port-forward, is turned into SPDY here (KEP-4006).

use apimachinery::status::Status;
use bytes::Bytes;
use client::streaming::{self, Upgraded, remote_command, remote_command::Streams, tunnel, websocket};
use cri::v1;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Body, Shared, full, query, text};
use crate::pod::observed::State;
use crate::pod::spec;

/// Which streams a client wants.
fn wants(pairs: &[(String, String)]) -> Result<Streams, &'static str> {
    let flag = |names: [&str; 2]| {
        pairs.iter().any(|(k, v)| names.contains(&k.as_str()) && matches!(v.as_str(), "1" | "true"))
    };
    let tty = flag(["tty", "tty"]);
    let out = Streams {
        stdin: flag(["input", "stdin"]),
        stdout: flag(["output", "stdout"]),
        // A terminal has only one output.
        stderr: flag(["error", "stderr"]) && !tty,
        tty,
    };
    if out.stdin || out.stdout || out.stderr {
        Ok(out)
    } else {
        Err("you must specify at least 1 of stdin, stdout, stderr")
    }
}

/// The id of a running container.
async fn running(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    name: &str,
) -> Result<String, Response<Body>> {
    let observed = observed(shared, namespace, pod, uid).await?;
    match observed.container(name).filter(|c| c.state == State::Running) {
        Some(container) => Ok(container.id.clone()),
        None => Err(text(StatusCode::NOT_FOUND, format!("container not found (\"{name}\")"))),
    }
}

async fn observed(
    shared: &Shared,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<crate::pod::observed::Observed, Response<Body>> {
    let missing = || text(StatusCode::NOT_FOUND, "pod does not exist");
    let handle = match uid {
        Some(uid) => shared.pods.get(uid).or_else(|| shared.pods.find(namespace, name)),
        None => shared.pods.find(namespace, name),
    };
    let pod = handle.ok_or_else(missing)?.pod();
    if spec::namespace(&pod) != namespace || spec::name(&pod) != name {
        return Err(missing());
    }
    let observed = shared.context.runtime.observe(spec::uid(&pod)).await;
    observed.map_err(|e| text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

pub async fn exec(
    request: Request<Incoming>,
    shared: &Shared,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    container: &str,
) -> Response<Body> {
    let pairs = query(request.uri());
    let wants = match wants(&pairs) {
        Ok(wants) => wants,
        Err(error) => return text(StatusCode::BAD_REQUEST, error),
    };
    let cmd: Vec<String> = pairs.into_iter().filter(|(k, _)| k == "command").map(|(_, v)| v).collect();
    let container_id = match running(shared, namespace, pod, uid, container).await {
        Ok(id) => id,
        Err(refused) => return refused,
    };
    let Streams { stdin, stdout, stderr, tty } = wants;
    let asked = v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    let address = shared.context.runtime.client.exec(asked).await;
    command(request, address, wants).await
}

pub async fn attach(
    request: Request<Incoming>,
    shared: &Shared,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    container: &str,
) -> Response<Body> {
    let wants = match wants(&query(request.uri())) {
        Ok(wants) => wants,
        Err(error) => return text(StatusCode::BAD_REQUEST, error),
    };
    let container_id = match running(shared, namespace, pod, uid, container).await {
        Ok(id) => id,
        Err(refused) => return refused,
    };
    let Streams { stdin, stdout, stderr, tty } = wants;
    let asked = v1::AttachRequest { container_id, stdin, tty, stdout, stderr };
    let address = shared.context.runtime.client.attach(asked).await;
    command(request, address, wants).await
}

pub async fn port_forward(
    request: Request<Incoming>,
    shared: &Shared,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
) -> Response<Body> {
    let pairs = query(request.uri());
    let ports =
        pairs.iter().filter(|(k, _)| matches!(k.as_str(), "port" | "ports")).flat_map(|(_, v)| v.split(','));
    let Ok(port) = ports.map(str::parse::<i32>).collect::<Result<Vec<_>, _>>() else {
        return text(StatusCode::BAD_REQUEST, "unable to parse the ports");
    };
    let observed = match observed(shared, namespace, pod, uid).await {
        Ok(observed) => observed,
        Err(refused) => return refused,
    };
    let Some(sandbox) = observed.ready_sandbox() else {
        return text(StatusCode::NOT_FOUND, format!("failed to find sandboxID for pod {pod}_{namespace}"));
    };
    let asked = v1::PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port };
    let address = shared.context.runtime.client.port_forward(asked).await;
    join(request, address).await
}

/// exec or attach at an address of the runtime's.
async fn command(
    mut request: Request<Incoming>,
    address: Result<String, cri::Error>,
    streams: Streams,
) -> Response<Body> {
    let translated =
        websocket::offers(request.headers(), |protocol| protocol == remote_command::WEBSOCKET_PROTOCOL);
    if !translated {
        return join(request, address).await;
    }
    let address = match address {
        Ok(address) => address,
        Err(error) => return unavailable(&error),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let answer = websocket::handshake(request.method(), request.headers(), |offered| {
        websocket::choose(offered, &[remote_command::WEBSOCKET_PROTOCOL])
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => return refusal.map(full_body),
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => {
                let dial = dial_spdy(&address);
                remote_command::serve(TokioIo::new(client), streams, dial).await;
            }
            Err(error) => tracing::debug!("switching protocols: {error}"),
        }
    });
    answer.map(|()| full_body(""))
}

/// A SPDY connection to the runtime.
async fn dial_spdy(address: &str) -> Result<Upgraded<TokioIo<hyper::upgrade::Upgraded>>, Status> {
    let mut headers = HeaderMap::new();
    spdy_headers(&mut headers, remote_command::PROTOCOLS);
    let failed =
        |why: String| Status::internal(format_args!("error sending request: Post {address:?}: {why}"));
    let answer = ask(address, Method::POST, headers).await.map_err(failed)?;
    if !has_switched(&answer) {
        let body = answer.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let why = streaming::upgrade_error(&body);
        return Err(Status::internal(format_args!("unable to upgrade connection: {why}")));
    }
    let protocol = answer.headers().get(streaming::PROTOCOL_VERSION).and_then(|v| v.to_str().ok());
    let protocol = protocol.map(str::to_owned);
    let io = hyper::upgrade::on(answer).await;
    let io = io.map_err(|e| Status::internal(format_args!("unable to upgrade connection: {e}")))?;
    Ok(Upgraded { io: TokioIo::new(io), protocol })
}

fn spdy_headers<'a>(headers: &mut HeaderMap, protocols: impl IntoIterator<Item = &'a str>) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(streaming::SPDY));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    for protocol in protocols {
        headers.extend(
            HeaderValue::from_str(protocol)
                .ok()
                .map(|value| (http::HeaderName::from_static(streaming::PROTOCOL_VERSION), value)),
        );
    }
}

fn has_switched<B>(answer: &Response<B>) -> bool {
    let upgrade = answer.headers().get(header::UPGRADE).map(|v| v.as_bytes()).unwrap_or_default();
    answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && upgrade.eq_ignore_ascii_case(streaming::SPDY.as_bytes())
}

/// The runtime has given no address.
fn unavailable(error: &cri::Error) -> Response<Body> {
    let status = if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
    text(status, crate::images::describe(error))
}

fn full_body(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn join(request: Request<Incoming>, address: Result<String, cri::Error>) -> Response<Body> {
    let address = match address {
        Ok(address) => address,
        Err(error) => return unavailable(&error),
    };
    match pass_on(request, &address).await {
        Ok(response) => response,
        Err(error) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("connecting to the container runtime: {error}"))
        }
    }
}

/// The headers that belong to the upgrade.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let wanted = |name: &str| {
        matches!(name, "connection" | "upgrade" | "x-stream-protocol-version" | "origin" | "content-length")
            || name.starts_with("sec-websocket-")
    };
    headers.iter().filter(|(name, _)| wanted(name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// One request to the runtime, on a connection of its own.
async fn ask(address: &str, method: Method, headers: HeaderMap) -> Result<Response<Incoming>, String> {
    let uri: http::Uri = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let host = uri.authority().ok_or_else(|| format!("{address:?} names no host"))?.to_string();
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let stream = TcpStream::connect(&host).await.map_err(|e| e.to_string())?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection.with_upgrades());
    let mut onward = Request::builder().method(method).uri(path);
    if let Some(all) = onward.headers_mut() {
        *all = headers;
        let value = HeaderValue::from_str(&host).map_err(|e| e.to_string())?;
        all.insert(header::HOST, value);
    }
    let onward = onward.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    sender.send_request(onward).await.map_err(|e| e.to_string())
}

async fn pass_on(mut request: Request<Incoming>, address: &str) -> Result<Response<Body>, String> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Ok(text(StatusCode::BAD_REQUEST, "Upgrade request required"));
    }
    let inner: Vec<String> = match websocket::is_request(request.headers()) {
        true => websocket::protocols(request.headers())
            .into_iter()
            .filter_map(tunnel::inner)
            .map(str::to_owned)
            .collect(),
        false => Vec::new(),
    };
    let tunnelled = !inner.is_empty();
    let (method, headers) = if tunnelled {
        let mut headers = HeaderMap::new();
        spdy_headers(&mut headers, inner.iter().map(String::as_str));
        (Method::POST, headers)
    } else {
        (request.method().clone(), passed_on(request.headers()))
    };
    let mut answer = ask(address, method, headers).await?;
    let mut headers = answer.headers().clone();
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        return Ok(full(status, "text/plain; charset=utf-8", body));
    }
    if tunnelled {
        if !has_switched(&answer) {
            let why = "unable to upgrade: missing upgrade headers in response";
            return Ok(text(StatusCode::INTERNAL_SERVER_ERROR, why));
        }
        let agreed = headers.get(streaming::PROTOCOL_VERSION).and_then(|v| v.to_str().ok());
        let agreed = agreed.map(str::trim).filter(|protocol| !protocol.is_empty()).map(tunnel::outer);
        let choose = |offered: &[&str]| Ok(agreed.filter(|agreed| offered.contains(&&**agreed)));
        match websocket::handshake(request.method(), request.headers(), choose) {
            Ok(switched) => headers = switched.headers().clone(),
            Err(refusal) => return Ok(refusal.map(full_body)),
        }
    }
    let runtime = hyper::upgrade::on(&mut answer);
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let joined = async {
            let (client, runtime) = tokio::try_join!(client, runtime).map_err(std::io::Error::other)?;
            let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
            if tunnelled {
                tunnel::serve(client, runtime).await;
                return Ok((0, 0));
            }
            tokio::io::copy_bidirectional(&mut client, &mut runtime).await
        };
        if let Err(error) = joined.await {
            tracing::debug!("a stream ended: {error}");
        }
    });
    let mut response = Response::new(full_body(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_are_wanted() {
        let pairs = |text: &str| query(&format!("/?{text}").parse().expect("a uri"));
        let on = |stdin, stdout, stderr, tty| Ok(Streams { stdin, stdout, stderr, tty });
        for (text, expect) in [
            ("input=1&output=1&error=1", on(true, true, true, false)),
            ("stdin=true&stdout=true&stderr=true&tty=true", on(true, true, false, true)),
            ("output=0", Err("you must specify at least 1 of stdin, stdout, stderr")),
        ] {
            assert_eq!(wants(&pairs(text)), expect, "{text}");
        }
    }
}
