//! exec, attach and port-forward: the runtime gives an address, and the upgraded connection is joined with one to
//! that address, byte by byte. So SPDY and WebSocket pass as they are.

use bytes::Bytes;
use cri::v1;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Body, Shared, full, query, text};
use crate::pod::observed::State;
use crate::pod::spec;

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wants {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

fn wants(pairs: &[(String, String)]) -> Result<Wants, &'static str> {
    let flag = |names: [&str; 2]| {
        pairs.iter().any(|(k, v)| names.contains(&k.as_str()) && matches!(v.as_str(), "1" | "true"))
    };
    let tty = flag(["tty", "tty"]);
    let out = Wants {
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
    let Wants { stdin, stdout, stderr, tty } = wants;
    let asked = v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    let address = shared.context.runtime.client.exec(asked).await;
    join(request, address).await
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
    let Wants { stdin, stdout, stderr, tty } = wants;
    let asked = v1::AttachRequest { container_id, stdin, tty, stdout, stderr };
    let address = shared.context.runtime.client.attach(asked).await;
    join(request, address).await
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

async fn join(request: Request<Incoming>, address: Result<String, cri::Error>) -> Response<Body> {
    let address = match address {
        Ok(address) => address,
        Err(error) => {
            let status =
                if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
            return text(status, crate::images::describe(&error));
        }
    };
    match tunnel(request, &address).await {
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

async fn tunnel(mut request: Request<Incoming>, address: &str) -> Result<Response<Body>, String> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Ok(text(StatusCode::BAD_REQUEST, "Upgrade request required"));
    }
    let uri: http::Uri = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let host = uri.authority().ok_or_else(|| format!("{address:?} names no host"))?.to_string();
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let stream = TcpStream::connect(&host).await.map_err(|e| e.to_string())?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection.with_upgrades());

    let mut onward = Request::builder().method(request.method()).uri(path);
    if let Some(headers) = onward.headers_mut() {
        *headers = passed_on(request.headers());
        let value = http::HeaderValue::from_str(&host).map_err(|e| e.to_string())?;
        headers.insert(header::HOST, value);
    }
    let onward = onward.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let mut answer = sender.send_request(onward).await.map_err(|e| e.to_string())?;
    let headers = answer.headers().clone();
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        return Ok(full(status, "text/plain; charset=utf-8", body));
    }
    let runtime = hyper::upgrade::on(&mut answer);
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let joined = async {
            let (client, runtime) = tokio::try_join!(client, runtime).map_err(std::io::Error::other)?;
            let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
            tokio::io::copy_bidirectional(&mut client, &mut runtime).await
        };
        if let Err(error) = joined.await {
            tracing::debug!("a stream ended: {error}");
        }
    });
    let mut response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
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
        let on = |stdin, stdout, stderr, tty| Ok(Wants { stdin, stdout, stderr, tty });
        for (text, expect) in [
            ("input=1&output=1&error=1", on(true, true, true, false)),
            ("stdin=true&stdout=true&stderr=true&tty=true", on(true, true, false, true)),
            ("output=0", Err("you must specify at least 1 of stdin, stdout, stderr")),
        ] {
            assert_eq!(wants(&pairs(text)), expect, "{text}");
        }
    }
}
