//! TLS as Go's `RequestClientCert`: a client may send a certificate, the handshake only checks that it owns
//! the key, and the authenticator decides what the certificate is worth.

use std::sync::Arc;

use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// A server configuration for [`super::serve`]. `certificates` is asked at every handshake, so that
/// rotation needs no restart.
///
/// # Errors
/// When the ring provider lacks the default protocol versions, which would be a build fault.
pub fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, Error> {
    server_config_with(certificates, &Agreement::default())
}

/// What a handshake may agree on. The default: TLS 1.2 and 1.3, with every cipher suite of the library.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// TLS 1.3 and nothing older.
    pub only_tls13: bool,
    /// Of TLS 1.2; empty: all. Those of TLS 1.3 are not chosen, as in Go.
    pub suites: Vec<CipherSuite>,
}

/// The cipher suites that there are, by the names that upstream's flags use, and whether they are of TLS 1.3.
pub fn suites() -> Vec<(String, CipherSuite, bool)> {
    let each = provider().cipher_suites.clone().into_iter();
    each.filter_map(|suite| {
        let name = suite.suite().as_str()?.replacen("TLS13_", "TLS_", 1);
        Some((name, suite.suite(), suite.tls13().is_some()))
    })
    .collect()
}

/// As [`server_config`], with a say in what is agreed on.
///
/// # Errors
/// When nothing is left to agree on.
pub fn server_config_with(
    certificates: Arc<dyn ResolvesServerCert>,
    agreement: &Agreement,
) -> Result<Arc<ServerConfig>, Error> {
    let mut provider = rustls::crypto::ring::default_provider();
    if !agreement.suites.is_empty() {
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || agreement.suites.contains(&suite.suite()));
    }
    let only = [&rustls::version::TLS13];
    let versions = if agreement.only_tls13 { &only } else { rustls::DEFAULT_VERSIONS };
    let verifier = Arc::new(AnyClientCertificate { algorithms: provider.signature_verification_algorithms });
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The ring provider, shared by everything here that speaks TLS as a client.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes any server for who it says it is: what upstream does with kubelets when no CA of theirs is given.
pub fn any_server() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyServer { algorithms: provider().signature_verification_algorithms })
}

#[derive(Debug)]
struct AnyServer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct AnyClientCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClientCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
