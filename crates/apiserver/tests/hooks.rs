//! A webhook server of the tests' own: HTTPS, answers by path, and remembers what it was asked.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use apiserver::server::tls;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a path answers to a review: a `response` without its uid, or something else altogether.
pub enum Reply {
    Response(Value),
    Raw(u16, &'static str, Vec<u8>),
    Hang,
    /// Closes the connection without a word.
    Close,
    /// An answer that drips, a byte at a time, for ever.
    Drip,
}

pub type Answer = dyn Fn(&str, &Value) -> Reply + Send + Sync;

pub struct Hooks {
    pub port: u16,
    /// Base64 of PEM, as `caBundle` wants it.
    pub bundle: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    connections: Arc<AtomicUsize>,
}

impl Hooks {
    /// With a certificate of an authority, for the names that tests use.
    pub async fn new(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1", "localhost", "hooks.default.svc"].map(String::from).to_vec();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Self::serve(certificate.der().clone(), &key, issuer.pem(), Arc::new(answer)).await
    }

    /// With a certificate that vouches for itself, as `openssl req -x509` makes it.
    pub async fn self_signed(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let allow = |_: &str, _: &Value| Reply::Response(json!({"allowed": true}));
        Self::serve(certificate.der().clone(), &key, certificate.pem(), Arc::new(allow)).await
    }

    async fn serve(
        certificate: rustls::pki_types::CertificateDer<'static>,
        key: &KeyPair,
        pem: String,
        answer: Arc<Answer>,
    ) -> Self {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (record, count) = (asked.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, record, count) =
                    (acceptor.clone(), answer.clone(), record.clone(), count.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let service = service_fn(move |request: Request<Incoming>| {
                        respond(request, answer.clone(), record.clone())
                    });
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { port, bundle: STANDARD.encode(pem), asked, connections }
    }

    /// Paths and reviews' requests, since the last time.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn url(&self, path: &str) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/{path}", self.port), "caBundle": self.bundle})
    }
}

type Out = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>>;

async fn respond(
    request: Request<Incoming>,
    answer: Arc<Answer>,
    record: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Out, std::io::Error> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    assert!(request.uri().query().unwrap_or_default().starts_with("timeout="));
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
    let bytes = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let mut review: Value = serde_json::from_slice(&bytes).unwrap();
    let asked = review["request"].take();
    record.lock().unwrap().push((path.clone(), asked.clone()));
    let whole = |bytes: Vec<u8>| {
        Full::new(Bytes::from(bytes)).map_err(|never: Infallible| match never {}).boxed_unsync()
    };
    let (code, kind, body) = match answer(&path, &asked) {
        Reply::Response(mut response) => {
            if response.get("uid").is_none() {
                response["uid"] = asked["uid"].clone();
            }
            review.as_object_mut().unwrap().remove("request");
            review["response"] = response;
            (200, "application/json", whole(review.to_string().into_bytes()))
        }
        Reply::Raw(code, kind, bytes) => (code, kind, whole(bytes)),
        Reply::Hang => std::future::pending().await,
        Reply::Close => return Err(std::io::Error::other("closed")),
        Reply::Drip => {
            let drops = futures::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok(http_body::Frame::data(Bytes::from_static(b" "))), ()))
            });
            (200, "application/json", http_body_util::StreamBody::new(drops).boxed_unsync())
        }
    };
    let answer = Response::builder().status(code).header(header::CONTENT_TYPE, kind);
    let answer = if code == 302 { answer.header(header::LOCATION, "/elsewhere") } else { answer };
    answer.body(body).map_err(std::io::Error::other)
}

/// A patch as a response has it.
pub fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}
