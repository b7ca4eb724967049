//! One HTTP GET to a container, for probes and hooks: HTTP/1.1, any certificate accepted, a new connection each
//! time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::core::v1::{Container, HTTPGetAction};
use api::intstr::IntOrString;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// More of an answer is not read.
const MAX_BODY: usize = 10 << 10;

/// Where to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
}

/// A port by number, or by its name in the container.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match named {
                Some(p) => Some(p.container_port),
                None => name.parse().ok(),
            }
        }
    };
    match number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0) {
        Some(number) => Ok(number),
        None => Err(format!(
            "invalid port number: {}",
            match port {
                IntOrString::Int(n) => n.to_string(),
                IntOrString::String(s) => s.clone(),
            }
        )),
    }
}

/// The request that an action describes. `agent` is `probe` or `lifecycle`.
pub fn target(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: &str,
    agent: &str,
) -> Result<Target, String> {
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let mut headers: Vec<(String, String)> =
        action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
    let has =
        |headers: &[(String, String)], name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !has(&headers, "user-agent") {
        headers.push(("User-Agent".into(), format!("kube-{agent}/1.36")));
    }
    if !has(&headers, "accept") {
        headers.push(("Accept".into(), "*/*".into()));
    }
    headers.retain(|(name, value)| !(name.eq_ignore_ascii_case("accept") && value.is_empty()));
    let path = action.path.as_deref().unwrap_or("/");
    Ok(Target {
        https: action.scheme.as_deref() == Some("HTTPS"),
        host: host.to_owned(),
        port: port(&action.port, container)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers,
    })
}

impl Target {
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    /// The target of a redirect, if it stays at the same host.
    pub fn redirected(&self, location: &str) -> Option<Target> {
        let mut out = self.clone();
        if location.starts_with('/') {
            out.path = location.to_owned();
            return Some(out);
        }
        let uri: http::Uri = location.parse().ok()?;
        if uri.host()?.trim_matches(['[', ']']) != self.host {
            return None;
        }
        out.https = uri.scheme_str() == Some("https");
        out.port = uri.port_u16().unwrap_or(if out.https { 443 } else { 80 });
        out.path = uri.path_and_query().map_or("/".into(), ToString::to_string);
        Some(out)
    }
}

/// Sends the request. The text of an error is what a probe's event shows.
pub async fn get(target: &Target, timeout: Duration) -> Result<Answer, String> {
    let url = target.url();
    match tokio::time::timeout(timeout, exchange(target)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("Get {url:?}: {error}")),
        Err(_) => Err(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

async fn exchange(target: &Target) -> Result<Answer, String> {
    let address = target.authority();
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|e| format!("dial tcp {address}: connect: {}", go_error(&e)))?;
    if target.https {
        let name = rustls::pki_types::ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
        let stream =
            TlsConnector::from(any_certificate()).connect(name, stream).await.map_err(|e| e.to_string())?;
        send(target, TokioIo::new(stream)).await
    } else {
        send(target, TokioIo::new(stream)).await
    }
}

/// The error as Go words it.
pub fn go_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        _ => error.to_string(),
    }
}

async fn send<I>(target: &Target, io: I) -> Result<Answer, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    // The connection is driven here and ends with the answer.
    let request = async {
        let mut builder = http::Request::get(&target.path);
        let own_host = target.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("host"));
        builder = builder.header("Host", own_host.map_or_else(|| target.authority(), |(_, v)| v.clone()));
        for (name, value) in target.headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("host")) {
            builder = builder.header(name, value);
        }
        let request =
            builder.header("Connection", "close").body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let location =
            response.headers().get(http::header::LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).unwrap_or_default();
        Ok(Answer { status, location, body })
    };
    tokio::pin!(connection);
    tokio::pin!(request);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut request => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

fn any_certificate() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = Arc::new(AnyCertificate(provider.clone()));
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap_or_else(|_| rustls::ClientConfig::builder())
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            Arc::new(config)
        })
        .clone()
}

/// Probes ask whether a server answers, not who it is: upstream does not verify either.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
