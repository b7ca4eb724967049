//! One probe, carried out.

use std::time::Duration;

use api::core::v1::{Container, Probe};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::http_get;
use crate::pod::env;

/// More of a command's output is not shown.
const MAX_OUTPUT: usize = 10 << 10;
const MAX_REDIRECTS: usize = 10;

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Success,
    /// It succeeded, with something to say.
    Warning(String),
    Failure(String),
}

/// Runs a probe; an error means that it could not be carried out.
pub async fn run(
    client: &cri::Client,
    id: &str,
    ip: &str,
    container: &Container,
    probe: &Probe,
) -> Result<Done, String> {
    let seconds = probe.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(1);
    let timeout = Duration::from_secs(seconds);
    if let Some(action) = &probe.exec {
        // Only values that stand in the specification are known here.
        let value = |name: &str| {
            let mut own = container.env.iter().flatten();
            own.find(|e| e.name == name).map(|e| e.value.clone().unwrap_or_default())
        };
        let command: Vec<String> = action.command.iter().flatten().map(|w| env::expand(w, value)).collect();
        exec(client, id, &command, timeout).await
    } else if let Some(action) = &probe.http_get {
        let target = http_get::target(action, container, ip, "probe")?;
        Ok(http(target, timeout).await)
    } else if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
        let port = http_get::port(&action.port, container)?;
        Ok(tcp(host, port, timeout).await)
    } else if let Some(action) = &probe.grpc {
        let port = u16::try_from(action.port).map_err(|_| format!("invalid port number: {}", action.port))?;
        let service = action.service.as_deref().unwrap_or_default();
        Ok(grpc(ip, port, service, timeout).await)
    } else {
        Err(format!("missing probe handler for container {}", container.name))
    }
}

async fn exec(client: &cri::Client, id: &str, command: &[String], timeout: Duration) -> Result<Done, String> {
    match client.exec_sync(id, command, timeout).await {
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            output.truncate(MAX_OUTPUT);
            let output = String::from_utf8_lossy(&output).into_owned();
            Ok(if answer.exit_code == 0 { Done::Success } else { Done::Failure(output) })
        }
        Err(error) if error.code() == cri::Code::DeadlineExceeded => {
            let command: Vec<String> = command.iter().map(|c| format!("{c:?}")).collect();
            Ok(Done::Failure(format!(
                "command timed out: {} timed out after {}",
                command.join(" "),
                crate::pod::backoff::go_duration(timeout)
            )))
        }
        Err(error) => Err(crate::images::describe(&error)),
    }
}

async fn http(mut target: http_get::Target, timeout: Duration) -> Done {
    for _ in 0..=MAX_REDIRECTS {
        let answer = match http_get::get(&target, timeout).await {
            Ok(answer) => answer,
            Err(error) => return Done::Failure(error),
        };
        match answer.status {
            200..=299 => return Done::Success,
            300..=399 => match answer.location.as_deref().map(|l| target.redirected(l)) {
                Some(Some(next)) => target = next,
                // Elsewhere: this server at least answers.
                _ => {
                    return Done::Warning(format!(
                        "Probe terminated redirects, Response body: {}",
                        answer.body
                    ));
                }
            },
            status => return Done::Failure(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Done::Failure(format!("Get {:?}: stopped after 10 redirects", target.url()))
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> Done {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Done::Success,
        Ok(Err(e)) => Done::Failure(format!("dial tcp {address}: connect: {}", http_get::go_error(&e))),
        Err(_) => Done::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

/// The gRPC health protocol: a request with the service's name, an answer with one number.
async fn grpc(host: &str, port: u16, service: &str, timeout: Duration) -> Done {
    let failed = |what: String| Done::Failure(what);
    let exchange = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|e| http_get::go_error(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let mut message = BytesMut::new();
        if !service.is_empty() {
            message.extend_from_slice(&[
                0x0a,
                u8::try_from(service.len()).map_err(|_| "the service's name is too long")?,
            ]);
            message.extend_from_slice(service.as_bytes());
        }
        let mut frame = BytesMut::from(&[0u8][..]);
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(&message);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let request = http::Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.36")
            .body(Full::new(Bytes::from(frame)))
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let headers = response.headers().clone();
        let collected = response.into_body().collect().await.map_err(|e| e.to_string())?;
        driver.abort();
        let code =
            |h: &http::HeaderMap| h.get("grpc-status").and_then(|v| v.to_str().ok()?.parse::<u32>().ok());
        let status = collected.trailers().and_then(code).or_else(|| code(&headers)).unwrap_or_default();
        let body = collected.to_bytes();
        Ok::<_, String>((status, body.get(5..).map(<[u8]>::to_vec).unwrap_or_default()))
    };
    match tokio::time::timeout(timeout, exchange).await {
        Err(_) => failed(format!(
            "timeout: failed to connect service \"{host}:{port}\" within {}",
            crate::pod::backoff::go_duration(timeout)
        )),
        Ok(Err(error)) => failed(format!("error: {error}")),
        Ok(Ok((12, _))) => failed(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into(),
        ),
        Ok(Ok((0, body))) => match body.as_slice() {
            [0x08, 1, ..] => Done::Success,
            [0x08, n, ..] => failed(format!("service unhealthy (responded with {n:?})")),
            _ => failed("service unhealthy (responded with \"UNKNOWN\")".into()),
        },
        Ok(Ok((code, _))) => failed(format!("error: health rpc probe failed with code {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that gives each path its own answer.
    async fn server() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 2048];
                let n = stream.read(&mut buffer).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                let answer = match text.split(' ').nth(1) {
                    Some("/ok") if text.contains("kube-probe/1.36") => "200 OK\r\n",
                    Some("/moved") => "302 Found\r\nLocation: /ok\r\n",
                    Some("/away") => "302 Found\r\nLocation: http://192.0.2.1/\r\n",
                    Some("/slow") => {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        "200 OK\r\n"
                    }
                    _ => "500 No\r\n",
                };
                let _ =
                    stream.write_all(format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n").as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn http_answers() {
        let port = server().await;
        for (path, expect) in [
            ("/ok", ""),
            ("/moved", ""),
            ("/away", "warning"),
            ("/bad", "HTTP probe failed with statuscode: 500"),
            ("/slow", "context deadline exceeded"),
        ] {
            let action = api::core::v1::HTTPGetAction {
                path: Some(path.into()),
                port: api::intstr::IntOrString::Int(i32::from(port)),
                ..Default::default()
            };
            let target =
                http_get::target(&action, &Container::default(), "127.0.0.1", "probe").expect("a target");
            let got = match http(target, Duration::from_millis(300)).await {
                Done::Success => String::new(),
                Done::Warning(_) => "warning".into(),
                Done::Failure(text) => text,
            };
            assert!(if expect.is_empty() { got.is_empty() } else { got.contains(expect) }, "{path}: {got}");
        }
    }

    #[tokio::test]
    async fn tcp_answers() {
        let port = server().await;
        assert_eq!(tcp("127.0.0.1", port, Duration::from_secs(1)).await, Done::Success);
        let free = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind")
            .local_addr()
            .expect("address")
            .port();
        let expect = format!("dial tcp 127.0.0.1:{free}: connect: connection refused");
        assert_eq!(tcp("127.0.0.1", free, Duration::from_secs(1)).await, Done::Failure(expect));
    }
}
