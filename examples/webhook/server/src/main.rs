//! A webhook of admission, small and whole: HTTPS with a certificate that it makes for itself when it starts, and of
//! which it tells the API server by writing the authority into its own configurations.
//!
//! `rules` is what it decides, without I/O; `certificate` is what it shows; everything else is here. `/mutate` and
//! `/validate` take an `AdmissionReview` of `admission.k8s.io/v1`, `/healthz` says that it runs.

mod certificate;
mod rules;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use client::{Access, Client, Gvr, HttpTransport, Patch};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const GROUP: &str = "admissionregistration.k8s.io";
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An object is at most 3 MiB, and a review may hold it twice.
const LARGEST: usize = 8 << 20;
const HANDSHAKE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let from = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let service = from("SERVICE", "policy.webhook-example.svc");
    let configuration = from("CONFIGURATION", "webhook-example");
    let port: u16 = from("PORT", "8443").parse().context("PORT is no port")?;

    let (tls, authority) = certificate::make(&service).context("making a certificate")?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await.context("listening")?;
    println!("answering for {service} on port {port}");
    let host = from("KUBERNETES_SERVICE_HOST", "");
    if !host.is_empty() {
        let access = Access::in_cluster(Path::new(ACCOUNT), &host, &from("KUBERNETES_SERVICE_PORT", "443"));
        tokio::spawn(introduce(access, configuration, authority));
    }
    serve(listener, TlsAcceptor::from(Arc::new(tls))).await
}

async fn serve(listener: TcpListener, tls: TlsAcceptor) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        let tls = tls.clone();
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else { return };
            let served = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
            if let Err(error) = served {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let decide = match (request.method(), path.as_str()) {
        (&Method::GET, "/healthz") => return Ok(Response::new("ok\n".into())),
        (&Method::POST, "/mutate") => rules::mutate,
        (&Method::POST, "/validate") => rules::validate,
        _ => return text(404, "not found\n"),
    };
    let Ok(body) = Limited::new(request.into_body(), LARGEST).collect().await else {
        return text(413, "too large\n");
    };
    let Ok(review) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return text(400, "not an AdmissionReview\n");
    };
    let asked = &review["request"];
    println!("{path}: {} {} {}/{}", asked["operation"], asked["resource"], asked["namespace"], asked["name"]);
    let review = rules::review(&review, decide);
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
    Ok(answer.body(review.to_string().into())?)
}

fn text(code: u16, text: &'static str) -> Result<Response<Full<Bytes>>> {
    Ok(Response::builder().status(code).body(text.into())?)
}

/// Writes the authority into both configurations, until both have it.
async fn introduce(access: Access, name: String, authority: String) {
    let bundle = STANDARD.encode(authority);
    for plural in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        while let Err(error) = write(&access, plural, &name, &bundle).await {
            eprintln!("writing the authority into {plural}/{name}: {error:#}");
            tokio::time::sleep(RETRY).await;
        }
        println!("{plural}/{name} knows the authority");
    }
}

async fn write(access: &Access, plural: &'static str, name: &str, bundle: &str) -> Result<()> {
    let client = Client::new(Arc::new(HttpTransport::new(access.clone())?), "webhook-example");
    let patch = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}]);
    let configurations = client.dynamic(&Gvr::new(GROUP, "v1", plural));
    configurations.patch("", name, &Patch::Json(patch), "").await?;
    Ok(())
}
