//! The server's certificate and the authority for clients, read again whenever the files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;

/// Why the server cannot speak TLS.
#[derive(Debug, thiserror::Error)]
#[error("reading {path}: {reason}")]
pub struct TlsError {
    path: String,
    reason: String,
}

pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    ca: Option<PathBuf>,
    current: Mutex<(Vec<Option<SystemTime>>, TlsAcceptor)>,
}

impl Tls {
    pub fn build(config: &Config) -> Result<Tls, TlsError> {
        let (cert, key) = (config.tls_cert_file.clone(), config.tls_private_key_file.clone());
        let ca = config.client_ca_file.clone();
        let first = (stamps(&cert, &key, ca.as_deref()), load(&cert, &key, ca.as_deref())?);
        Ok(Tls { cert, key, ca, current: Mutex::new(first) })
    }

    /// For a new connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.cert, &self.key, self.ca.as_deref());
        if current.0 != stamps {
            match load(&self.cert, &self.key, self.ca.as_deref()) {
                Ok(acceptor) => *current = (stamps, acceptor),
                // Half written, perhaps: the old ones serve until the next connection.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        current.1.clone()
    }
}

fn stamps(cert: &Path, key: &Path, ca: Option<&Path>) -> Vec<Option<SystemTime>> {
    let modified = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    [Some(cert), Some(key), ca].into_iter().flatten().map(modified).collect()
}

fn load(cert: &Path, key: &Path, ca: Option<&Path>) -> Result<TlsAcceptor, TlsError> {
    let fail = |path: &Path, reason: String| TlsError { path: path.display().to_string(), reason };
    let read = |path: &Path| -> Result<Vec<CertificateDer<'static>>, TlsError> {
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| fail(path, e.to_string()))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| fail(cert, e.to_string()))?;
    let builder = match ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(read(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| fail(path, e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| fail(key, e.to_string()))?;
    let mut config = builder.with_single_cert(read(cert)?, private).map_err(|e| fail(cert, e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
