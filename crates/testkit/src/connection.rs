//! One HTTP/2 connection over TLS to an API server, as the administrator of its data directory.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A LIST of thousands of objects goes through without waiting for the window.
const WINDOW: u32 = 8 << 20;

/// An API server on loopback, and who asks it.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Target {
    /// Reads `ca.crt`, `admin.crt` and `admin.key` of the directory `pki`.
    pub fn new(address: SocketAddr, pki: &Path) -> Result<Target> {
        if !address.ip().is_loopback() {
            bail!("{address} is not on this machine");
        }
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&pki.join("ca.crt"))? {
            roots.add(certificate).context("taking the cluster's CA")?;
        }
        let key_path = pki.join("admin.key");
        let key = PrivateKeyDer::from_pem_file(&key_path)
            .with_context(|| format!("reading {}", key_path.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&pki.join("admin.crt"))?, key)
            .context("taking the administrator's certificate")?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Target { address, tls: Arc::new(tls) })
    }

    /// A new connection. What carries it runs in a task of its own until the last handle is dropped.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await.context("connecting to the API server")?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.context("TLS")?;
        let (sender, carrier) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .context("HTTP/2")?;
        tokio::spawn(async move {
            // Its end shows in the requests that it carried.
            let _ = carrier.await;
        });
        Ok(Connection { sender, authority: self.address.to_string() })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading {}", path.display()))
}

/// A form in which answers are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    Json,
    Protobuf,
    /// `PartialObjectMetadata` in JSON, of a list or of one object by the request.
    Metadata,
    /// `Table` in JSON, as kubectl asks for it.
    Table,
}

impl Form {
    /// The header `Accept`.
    pub fn accept(self) -> &'static str {
        match self {
            Form::Json => JSON,
            Form::Protobuf => "application/vnd.kubernetes.protobuf",
            Form::Metadata => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Form::Table => "application/json;as=Table;g=meta.k8s.io;v=v1",
        }
    }
}

const JSON: &str = "application/json";

/// A request, all but whom it goes to.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub path: String,
    pub accept: &'static str,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Ask {
    /// With JSON in and out.
    pub fn new(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Ask {
        Ask { method, path: path.into(), accept: JSON, content_type: JSON, body: body.into() }
    }

    pub fn get(path: impl Into<String>) -> Ask {
        Ask::new(Method::GET, path, Bytes::new())
    }
}

/// A cheap handle on one connection.
#[derive(Clone)]
pub struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Connection {
    /// Sends one request; the answer's body is still to come. A status that is not 2xx is an error with the
    /// body's text.
    pub async fn send(&mut self, ask: Ask) -> Result<Response<Incoming>> {
        let Ask { method, path, accept, content_type, body } = ask;
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("https://{}{path}", self.authority))
            .header(header::USER_AGENT, "load/1")
            .header(header::ACCEPT, accept);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body))?).await?;
        if !answer.status().is_success() {
            let status = answer.status();
            let text = answer.into_body().collect().await?.to_bytes();
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&text));
        }
        Ok(answer)
    }

    /// [`Connection::send`] in JSON.
    pub async fn open(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        self.send(Ask::new(method, path, body)).await
    }

    /// Sends one request and reads the answer to its end, without keeping it.
    ///
    /// # Returns
    /// The length of the body in bytes.
    pub async fn exchange(&mut self, ask: Ask) -> Result<usize> {
        let mut answer = self.send(ask).await?.into_body();
        let mut length = 0;
        while let Some(frame) = answer.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }

    /// [`Connection::exchange`] in JSON.
    pub async fn drain(&mut self, method: Method, path: &str, body: Bytes) -> Result<usize> {
        self.exchange(Ask::new(method, path, body)).await
    }

    /// Sends one request and reads the answer as text.
    pub async fn text(&mut self, ask: Ask) -> Result<String> {
        let answer = self.send(ask).await?.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends one request and reads the answer as JSON.
    pub async fn json(&mut self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let answer = self.open(method, path, body).await?.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&answer).with_context(|| format!("reading the answer to {path}"))
    }

    /// Whether `/readyz` answers 200.
    pub async fn is_ready(&mut self) -> bool {
        let answer = self.open(Method::GET, "/readyz", Bytes::new()).await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Makes a namespace unless it is there.
    pub async fn namespace(&mut self, name: &str) -> Result<()> {
        if self.json(Method::GET, &format!("/api/v1/namespaces/{name}"), Bytes::new()).await.is_ok() {
            return Ok(());
        }
        let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.drain(Method::POST, "/api/v1/namespaces", Bytes::from(body.to_string())).await?;
        Ok(())
    }
}
