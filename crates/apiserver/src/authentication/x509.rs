//! Client certificates: common name is the user, organisations are the groups.
//!
//! The TLS handshake only proves that the client has the key; here the chain is checked against the client CA,
//! with validity and the client-auth usage.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CREDENTIAL_ID, UserInfo, authenticated};

/// Why a CA bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("reading the client CA: {0}")]
pub struct Error(String);

/// A chain that was found good, and who that is.
struct Known {
    until: Timestamp,
    user: Arc<UserInfo>,
}

const KNOWN_FOR: SignedDuration = SignedDuration::from_secs(60);
const KNOWN_ENTRIES: usize = 1024;

/// A client CA, and the chains known to be good under it: they are checked at most once a minute, and another
/// CA knows none.
struct Trust {
    pem: String,
    verifier: Arc<dyn ClientCertVerifier>,
    known: RwLock<HashMap<Arc<[Vec<u8>]>, Known>>,
}

/// Knows the client CA.
pub struct Verifier {
    trust: ArcSwap<Trust>,
}

impl Verifier {
    /// With the certificates of a PEM bundle as roots.
    pub fn new(ca_pem: &[u8]) -> Result<Self, Error> {
        Ok(Self { trust: ArcSwap::from_pointee(trust(ca_pem)?) })
    }

    /// Trusts another bundle from now on, open connections included.
    pub fn rotate(&self, ca_pem: &[u8]) -> Result<(), Error> {
        self.trust.store(Arc::new(trust(ca_pem)?));
        Ok(())
    }

    /// The bundle that is trusted now.
    pub fn ca_pem(&self) -> String {
        self.trust.load().pem.clone()
    }

    /// Who sent this chain (DER, the client's own certificate first). `None` if it is good and names nobody.
    pub fn authenticate(
        &self,
        chain: &Arc<[Vec<u8>]>,
        now: Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, String> {
        let trust = self.trust.load_full();
        if let Some(known) = trust.known.read().unwrap_or_else(PoisonError::into_inner).get(chain)
            && now < known.until
        {
            return Ok(Some(known.user.clone()));
        }
        let Some((leaf, intermediates)) = chain.split_first() else { return Ok(None) };
        let intermediates: Vec<_> =
            intermediates.iter().map(|c| CertificateDer::from(c.as_slice())).collect();
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().max(0) as u64));
        trust
            .verifier
            .verify_client_cert(&CertificateDer::from(leaf.as_slice()), &intermediates, time)
            .map_err(|e| format!("verifying a client certificate: {e}"))?;
        let (_, cert) =
            X509Certificate::from_der(leaf).map_err(|e| format!("reading a client certificate: {e}"))?;
        let Some(user) = user(&cert, leaf) else { return Ok(None) };
        let not_after = Timestamp::from_second(cert.validity().not_after.timestamp()).unwrap_or(now);
        let until = not_after.min(now + KNOWN_FOR);
        let mut known = trust.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_ENTRIES {
            known.clear();
        }
        known.insert(chain.clone(), Known { until, user: user.clone() });
        Ok(Some(user))
    }
}

fn trust(ca_pem: &[u8]) -> Result<Trust, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|e| Error(e.to_string()))?;
        roots.add(certificate).map_err(|e| Error(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(Error("no certificate in it".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().map_err(|e| Error(e.to_string()))?;
    Ok(Trust { pem: String::from_utf8_lossy(ca_pem).into_owned(), verifier, known: RwLock::default() })
}

/// The user that a certificate names. Go takes the last common name, and so do we.
fn user(cert: &X509Certificate<'_>, der: &[u8]) -> Option<Arc<UserInfo>> {
    let subject = cert.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?;
    if name.is_empty() {
        return None;
    }
    let mut user = UserInfo::new(name, &[]);
    user.groups.extend(subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned));
    let fingerprint: String = Sha256::digest(der).iter().map(|b| format!("{b:02x}")).collect();
    user.extra.insert(CREDENTIAL_ID.into(), vec![format!("X509SHA256={fingerprint}")]);
    Some(authenticated(user))
}
