//! Whom a webhook's connection believes: the configuration's `caBundle`, else what this machine trusts. What is wrong
//! with a certificate is told in the words that users know.

use std::sync::{Arc, LazyLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What this machine trusts. Read once: it hardly ever changes, and hardly any webhook needs it.
static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> =
    LazyLock::new(|| rustls_native_certs::load_native_certs().certs);

/// `bundle` is PEM; empty: the machine's roots. `h2` offers HTTP/2 besides HTTP/1.1.
///
/// # Errors
/// A bundle without a certificate, in upstream's words.
pub fn client_config(bundle: &[u8], h2: bool) -> Result<Arc<ClientConfig>, String> {
    let own: Vec<CertificateDer<'static>> = match bundle {
        [] => Vec::new(),
        pem => CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect(),
    };
    if own.is_empty() && !bundle.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
    }
    let mut roots = RootCertStore::empty();
    let all = if bundle.is_empty() { SYSTEM.clone() } else { own.clone() };
    roots.add_parsable_certificates(all);
    let provider = crate::server::tls::provider();
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let inner = inner.map_err(|_| "x509: certificate signed by unknown authority".to_owned())?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, own }))
        .with_no_client_auth();
    config.alpn_protocols = match h2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    Ok(Arc::new(config))
}

/// As usual; and as Go has it, who presents the very certificate that is in the bundle is believed, whatever that
/// certificate says of itself. Many webhooks run with one that `openssl req -x509` has made.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        if verified.is_ok() || !self.own.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
            return verified;
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        let (_, certificate) =
            X509Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let validity = certificate.validity();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > validity.not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A failed handshake in Go's words.
pub fn fault(error: &std::io::Error) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ => error.to_string(),
        };
    };
    let of_certificate = |why: &str| format!("tls: failed to verify certificate: x509: {why}");
    match error {
        rustls::Error::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::NotValidForNameContext { expected, presented } => {
                let expected = expected.to_str();
                let names: Vec<&str> = presented.iter().map(|name| plain(name)).collect();
                of_certificate(&match names.as_slice() {
                    [] => format!("certificate is not valid for any names, but wanted to match {expected}"),
                    names => format!("certificate is valid for {}, not {expected}", names.join(", ")),
                })
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                of_certificate("certificate has expired or is not yet valid")
            }
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::ApplicationVerificationFailure => {
                of_certificate("certificate signed by unknown authority")
            }
            // Says "invalid peer certificate", and then what.
            _ if error.to_string().contains("CaUsedAsEndEntity") => {
                of_certificate("certificate signed by unknown authority")
            }
            other => of_certificate(&other.to_string()),
        },
        other => format!("tls: {other}"),
    }
}

/// The name in what rustls prints as `DnsName("x")` or `IpAddress(x)`.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}
