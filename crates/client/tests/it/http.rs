use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use client::{Access, Client, HttpTransport, Secret};
use futures::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::net::TcpListener;

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Answers every request with what it was, and how many connections there have been.
async fn echo(
    request: Request<Incoming>,
    client: String,
    connections: usize,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let version = format!("{:?}", request.version());
    let uri = request.uri().path_and_query().unwrap().to_string();
    let header =
        |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let (token, agent) = (header("authorization"), header("user-agent"));
    let size = request.into_body().collect().await.unwrap().to_bytes().len();
    let body = json!({"version": version, "uri": uri, "token": token, "agent": agent, "size": size,
        "client": client, "connections": connections});
    Ok(Response::new(Full::new(Bytes::from(body.to_string()))))
}

async fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let connections = count.fetch_add(1, Ordering::SeqCst) + 1;
            let tls = tls.clone();
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let Some(tls) = tls else {
                    let service = service_fn(|request| echo(request, String::new(), connections));
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    return;
                };
                let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else { return };
                let certificates = stream.get_ref().1.peer_certificates();
                let client = certificates.map(|c| format!("{} bytes", c[0].len())).unwrap_or_default();
                let service = service_fn(|request| echo(request, client.clone(), connections));
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

fn server_config(authority: &Authority, alpn: &[&str]) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (certificate, key) = authority.issue("localhost");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn client(access: Access) -> Client {
    Client::new(Arc::new(HttpTransport::new(access).unwrap()), "corten-test/1")
}

fn inline(text: &str) -> Option<Secret> {
    Some(Secret::Inline(text.as_bytes().to_vec()))
}

#[tokio::test]
async fn http2_over_tls_with_a_client_certificate_shares_one_connection() {
    let authority = Authority::new();
    let address = serve(Some(server_config(&authority, &["h2", "http/1.1"]))).await;
    let (certificate, key) = authority.issue("me");
    let client = client(Access {
        server: format!("https://{address}/prefix/"),
        tls_server_name: "localhost".into(),
        certificate_authority: inline(&authority.pem),
        client_certificate: inline(&certificate),
        client_key: inline(&key),
        ..Access::default()
    });
    let answers = join_all((0..50).map(|i| {
        let client = client.clone();
        async move { client.get_path::<Value>(&format!("/x?i={i}")).await.unwrap() }
    }))
    .await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer["uri"], format!("/prefix/x?i={i}"));
        assert_eq!(answer["version"], "HTTP/2.0");
        assert_eq!(answer["connections"], 1);
        assert_eq!(answer["agent"], "corten-test/1");
        assert!(answer["client"].as_str().unwrap().ends_with("bytes"), "no client certificate came");
    }
}

#[tokio::test]
async fn http1_with_a_token_reuses_connections() {
    let authority = Authority::new();
    for tls in [None, Some(server_config(&authority, &["http/1.1"]))] {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = serve(tls).await;
        let client = client(Access {
            server: format!("{scheme}://{address}"),
            tls_server_name: "localhost".into(),
            certificate_authority: inline(&authority.pem),
            token: inline("abc\n"),
            ..Access::default()
        });
        for _ in 0..3 {
            let answer: Value = client.get_path("/x").await.unwrap();
            assert_eq!(answer["version"], "HTTP/1.1");
            assert_eq!(answer["token"], "Bearer abc");
            assert_eq!(answer["connections"], 1);
        }
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let (theirs, ours) = (Authority::new(), Authority::new());
    let address = serve(Some(server_config(&theirs, &["h2"]))).await;
    let access = |authority: &Authority, insecure| Access {
        server: format!("https://localhost:{}", address.port()),
        certificate_authority: inline(&authority.pem),
        insecure_skip_tls_verify: insecure,
        ..Access::default()
    };
    assert!(client(access(&theirs, false)).get_path::<Value>("/").await.is_ok());
    let error = client(access(&ours, false)).get_path::<Value>("/").await.unwrap_err();
    assert!(error.chain().contains("invalid peer certificate"), "{}", error.chain());
    assert!(client(access(&ours, true)).get_path::<Value>("/").await.is_ok());
}

#[tokio::test]
async fn a_rotated_certificate_and_a_lost_connection_lead_to_a_new_connection() {
    let authority = Authority::new();
    let address = serve(Some(server_config(&authority, &["h2"]))).await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "one").unwrap();
    let client = client(Access {
        server: format!("https://{address}"),
        tls_server_name: "localhost".into(),
        certificate_authority: inline(&authority.pem),
        token: Some(Secret::File(token.clone())),
        ..Access::default()
    });
    let first: Value = client.get_path("/").await.unwrap();
    assert_eq!((&first["token"], &first["connections"]), (&json!("Bearer one"), &json!(1)));
    std::fs::write(&token, "another").unwrap();
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    let second: Value = client.get_path("/").await.unwrap();
    assert_eq!((&second["token"], &second["connections"]), (&json!("Bearer another"), &json!(2)));
}
