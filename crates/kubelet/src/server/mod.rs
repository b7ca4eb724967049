//! The kubelet's HTTPS server: logs, exec, attach, port-forward, and what the node knows of its pods.
//!
//! A request is authenticated, then authorized, then answered; nothing is answered before. The paths are
//! upstream's.

mod auth;
mod logs;
mod metrics;
mod stream;
mod tls;
mod usage;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use api::core::v1::Pod;
use bytes::Bytes;
use client::Client;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::Context;
use crate::pods::Pods;
use auth::Auth;
pub use logs::options as log_options;
pub use tls::TlsError;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The server about to run.
pub struct Server {
    listener: TcpListener,
    tls: tls::Tls,
    auth: Auth,
}

struct Shared {
    context: Arc<Context>,
    pods: Pods,
    auth: Auth,
    rates: tokio::sync::Mutex<usage::Rates>,
}

fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// A text for humans.
fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    full(status, "text/plain; charset=utf-8", body.into())
}

fn json_of(value: &serde_json::Value) -> Response<Body> {
    full(StatusCode::OK, "application/json", value.to_string())
}

impl Server {
    pub fn build(config: &Config, listener: TcpListener, client: Client) -> Result<Server, TlsError> {
        Ok(Server { listener, tls: tls::Tls::build(config)?, auth: Auth::new(config, client) })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Serves until `shutdown`.
    pub async fn run(self, context: Arc<Context>, pods: Pods, shutdown: CancellationToken) {
        let Server { listener, tls, auth } = self;
        let shared = Arc::new(Shared { context, pods, auth, rates: Default::default() });
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, most likely.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let (shared, acceptor, until) = (shared.clone(), tls.acceptor(), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = until.cancelled() => {}
                    () = connection(stream, acceptor, shared) => {}
                }
            });
        }
    }
}

async fn connection(stream: TcpStream, acceptor: tokio_rustls::TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream));
    let Ok(Ok(stream)) = handshake.await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
    let certificate = Arc::new(certificate);
    let service = service_fn(move |request| {
        let (shared, certificate) = (shared.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(answer(request, &shared, certificate.as_deref()).await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared, certificate: Option<&[u8]>) -> Response<Body> {
    let node = &shared.context.config.node_name;
    match shared.auth.check(&request, certificate, node).await {
        Ok(()) => route(request, shared).await,
        Err(refusal) => text(refusal.status, refusal.text),
    }
}

async fn route(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.filter(|p| !p.is_empty()).collect();
    let get = request.method() == Method::GET;
    match (first, rest.as_slice()) {
        ("healthz", _) if get => text(StatusCode::OK, "ok"),
        ("pods", []) if get => pods(shared),
        ("runningpods", []) if get => running_pods(shared).await,
        ("containerLogs", [namespace, pod, container]) if get => {
            logs::answer(&request, shared, namespace, pod, container).await
        }
        ("exec", [namespace, pod, container]) => {
            stream::exec(request, shared, namespace, pod, None, container).await
        }
        ("exec", [namespace, pod, uid, container]) => {
            stream::exec(request, shared, namespace, pod, Some(uid), container).await
        }
        ("attach", [namespace, pod, container]) => {
            stream::attach(request, shared, namespace, pod, None, container).await
        }
        ("attach", [namespace, pod, uid, container]) => {
            stream::attach(request, shared, namespace, pod, Some(uid), container).await
        }
        ("portForward", [namespace, pod]) => {
            stream::port_forward(request, shared, namespace, pod, None).await
        }
        ("portForward", [namespace, pod, uid]) => {
            stream::port_forward(request, shared, namespace, pod, Some(uid)).await
        }
        ("metrics", []) if get => metrics::answer(shared).await,
        ("metrics", ["resource"]) if get => metrics::resource(shared),
        ("stats", ["summary"]) if get => {
            let brief = query(request.uri())
                .iter()
                .any(|(key, value)| key == "only_cpu_and_memory" && value == "true");
            metrics::summary(shared, brief).await
        }
        ("configz", []) if get => configz(shared),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn list(pods: Vec<Pod>) -> Response<Body> {
    let item = |pod: Pod| {
        let mut value = serde_json::to_value(pod).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            // Items of a list do not repeat what they are.
            object.remove("apiVersion");
            object.remove("kind");
        }
        value
    };
    let items: Vec<_> = pods.into_iter().map(item).collect();
    json_of(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The pods that are to run here, as the kubelet sees them.
fn pods(shared: &Shared) -> Response<Body> {
    let with_status = |handle: crate::worker::Handle| {
        let mut pod = (*handle.pod()).clone();
        pod.status = Some(handle.status());
        pod
    };
    list(shared.pods.list().into_iter().map(with_status).collect())
}

/// The pods that the runtime has, wanted or not.
async fn running_pods(shared: &Shared) -> Response<Body> {
    let overview = match shared.context.runtime.overview().await {
        Ok(overview) => overview,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let running = overview.into_iter().filter(|(_, pod)| pod.sandboxes.values().any(|ready| *ready));
    let pod = |(uid, seen): (String, crate::runtime::Overview)| {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid);
        pod.metadata.name = Some(seen.name);
        pod.metadata.namespace = Some(seen.namespace);
        pod.spec = Some(Default::default());
        pod
    };
    list(running.map(pod).collect())
}

/// The part of the configuration that clients look at.
fn configz(shared: &Shared) -> Response<Body> {
    let c = &shared.context.config;
    json_of(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": c.address,
        "port": c.port,
        "readOnlyPort": c.read_only_port,
        "clusterDomain": c.cluster_domain,
        "clusterDNS": c.cluster_dns,
        "maxPods": c.max_pods,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": c.cgroup_root,
        "cgroupsPerQOS": c.cgroups_per_qos,
        "cpuCFSQuota": c.cpu_cfs_quota,
        "containerRuntimeEndpoint": c.container_runtime_endpoint,
        "staticPodPath": c.static_pod_path,
        "resolvConf": c.resolver_config,
        "serializeImagePulls": c.serialize_image_pulls,
        "nodeLeaseDurationSeconds": c.node_lease_duration.as_secs(),
        "seccompDefault": c.seccomp_default,
        "podLogsDir": c.pod_logs_dir,
    }}))
}

/// Answers `ok` to everybody on `/healthz`, without TLS; it is bound to the loopback address.
pub async fn health(listener: TcpListener, shutdown: CancellationToken) {
    let handle = |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok"),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        })
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service_fn(handle)).await;
        });
    }
}

/// The query of a request, decoded.
pub fn query(uri: &http::Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty());
    pairs
        .map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k), decode(v))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(b) = bytes.get(at) {
        let hex =
            bytes.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        match (b, hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*b),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn queries_are_decoded() {
        let uri: http::Uri =
            "/x?command=sh&command=-c&command=echo%20a%2Bb+c&tty&bad=%zz".parse().expect("a uri");
        let got: Vec<String> = super::query(&uri).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(got, ["command=sh", "command=-c", "command=echo a+b c", "tty=", "bad=%zz"]);
    }
}
