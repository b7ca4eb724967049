//! TLS identities that can be exchanged while connections are served.

use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::issue::Pair;

/// A certificate with its key that servers present and clients show; [`Identity::set`] exchanges it, and the
/// next handshake uses the new one.
#[derive(Debug)]
pub struct Identity {
    current: ArcSwap<CertifiedKey>,
}

impl Identity {
    pub fn new(pair: &Pair) -> Result<Arc<Identity>> {
        Ok(Arc::new(Identity { current: ArcSwap::from_pointee(certified_key(pair)?) }))
    }

    /// What is shown now.
    pub fn key(&self) -> Arc<CertifiedKey> {
        self.current.load_full()
    }

    pub fn set(&self, pair: &Pair) -> Result<()> {
        self.current.store(Arc::new(certified_key(pair)?));
        Ok(())
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl rustls::client::ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified_key(pair: &Pair) -> Result<CertifiedKey> {
    let chain = certificates(&pair.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).context("reading a private key")?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).context("reading a private key")?;
    Ok(CertifiedKey::new(chain, key))
}

/// Every certificate of a PEM text.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("reading a certificate")
}
