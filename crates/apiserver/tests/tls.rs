//! Over the wire: TLS, both versions of HTTP, and the way to a kubelet and back.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use apiserver::server::{serve, tls};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::{CertifiedKey, SingleCertAndKey},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{access, world::World};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn certificate(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub fn client(&self, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }
}

async fn connect(authority: &Authority, address: SocketAddr, alpn: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(authority.client(&[alpn]))).connect(name, stream).await.unwrap()
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://127.0.0.1{path}"))
        .header(header::AUTHORIZATION, "Bearer root-token")
}

/// A kubelet that logs one line, echoes what is said to a shell, and refuses attaching.
async fn kubelet(authority: &Authority) -> SocketAddr {
    let (chain, key) = authority.certificate();
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(|mut request: Request<Incoming>| async move {
                    assert!(request.headers().get(header::AUTHORIZATION).is_none());
                    let path = request.uri().path_and_query().unwrap().to_string();
                    let text = |code: u16, text: &str| {
                        Response::builder()
                            .status(code)
                            .body(Full::new(Bytes::from(text.to_owned())))
                            .unwrap()
                    };
                    let response = match path.as_str() {
                        "/containerLogs/default/p/c?stream=All" => text(200, "one line\n"),
                        "/exec/default/p/c?input=1&output=1&command=sh" => {
                            let upgrade = hyper::upgrade::on(&mut request);
                            tokio::spawn(async move {
                                let mut both = TokioIo::new(upgrade.await.unwrap());
                                let mut said = [0; 5];
                                both.read_exact(&mut said).await.unwrap();
                                said.reverse();
                                both.write_all(&said).await.unwrap();
                            });
                            let mut response = text(101, "");
                            response.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
                            response.headers_mut().insert(header::UPGRADE, "SPDY/3.1".parse().unwrap());
                            response
                        }
                        other => text(403, &format!("not {other}")),
                    };
                    Ok::<_, Infallible>(response)
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    address
}

async fn prepare(w: &World, kubelet: SocketAddr) {
    let node = json!({"metadata": {"name": "n1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port()}},
    }});
    w.post("/api/v1/nodes", node).await.ok();
    w.post("/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
    let pods = "/api/v1/namespaces/default/pods";
    w.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    w.post(pods, pod).await.ok();
    let binding = json!({"metadata": {"name": "p"}, "target": {"name": "n1"}});
    w.post(&format!("{pods}/p/binding"), binding).await.ok();
}

#[tokio::test]
async fn the_wire() {
    let authority = Authority::new();
    let mut config = access::config(false);
    config.kubelet_tls = Some(Arc::new(authority.client(&[])));
    let w = World::with(config);
    prepare(&w, kubelet(&authority).await).await;

    let (chain, key) = authority.certificate();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(
        w.server.clone(),
        listener,
        tls::server_config(resolver).unwrap(),
        shutdown.clone(),
    ));

    // HTTP/2: many requests and a watch on one connection.
    let stream = connect(&authority, address, "h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let h2 = tokio::spawn(connection);
    let pod = "/api/v1/namespaces/default/pods/p";
    let answer =
        sender.send_request(request("GET", pod).body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body: Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["spec"]["nodeName"], "n1");
    let path = "/api/v1/namespaces/default/configmaps?watch=true";
    let answer = sender.send_request(request("GET", path).body(Full::default()).unwrap()).await.unwrap();
    let mut watch = answer.into_body();
    w.post("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "a"}})).await.ok();
    let frame = watch.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(frame.starts_with(b"{\"type\":\"ADDED\""));

    // Nobody without a token.
    let nobody = Request::get("https://127.0.0.1/api").body(Full::default()).unwrap();
    assert_eq!(sender.send_request(nobody).await.unwrap().status(), StatusCode::UNAUTHORIZED);

    // HTTP/1.1: logs, and a tunnel to the kubelet.
    let open = || async {
        let stream = connect(&authority, address, "http/1.1").await;
        let (sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    };
    let mut sender = open().await;
    let logs = request("GET", &format!("{pod}/log")).body(Full::default()).unwrap();
    let logs = sender.send_request(logs).await.unwrap();
    assert_eq!(logs.status(), 200);
    assert_eq!(logs.into_body().collect().await.unwrap().to_bytes(), "one line\n");
    let exec = |command: &str| {
        request("POST", &format!("{pod}/{command}"))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "SPDY/3.1")
            .body(Full::default())
            .unwrap()
    };
    let answer = open().await.send_request(exec("exec?command=sh&stdin=true&stdout=true")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()[header::UPGRADE], "SPDY/3.1");
    let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    tunnel.write_all(b"abcde").await.unwrap();
    let mut said = [0; 5];
    tunnel.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"edcba");
    let refused = open().await.send_request(exec("attach?stdin=true")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);

    // The end: the watch ends in order, and so does the server.
    shutdown.cancel();
    while let Some(frame) = watch.frame().await {
        assert_eq!(frame.unwrap().into_data().unwrap(), "", "nothing but the end");
    }
    serving.await.unwrap();
    h2.await.unwrap().unwrap();
}
