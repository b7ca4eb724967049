//! Making certificates: ECDSA P-256 throughout, with the names that upstream's kubeadm gives them.

use std::net::IpAddr;

use anyhow::{Context, Result};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Authorities live ten years, everything they sign one year unless it is told otherwise; all are renewed when a
/// third of that is left.
pub const AUTHORITY_DAYS: i64 = 3650;
pub const LEAF_DAYS: i64 = 365;

/// Clocks of machines that talk to each other differ a little: certificates count from five minutes ago.
pub const BACKDATE_SECONDS: i64 = 300;

const DAY: i64 = 86_400;

/// A certificate with its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Whom a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The user name for the API server (CN).
    pub common_name: String,
    /// The groups (O).
    pub organizations: Vec<String>,
    /// DNS names and addresses; empty for clients.
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub server: bool,
    pub client: bool,
}

impl Subject {
    pub fn client(common_name: &str, organizations: &[&str]) -> Subject {
        Subject {
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|group| (*group).to_owned()).collect(),
            client: true,
            ..Subject::default()
        }
    }

    pub fn server(common_name: &str, names: Vec<String>, addresses: Vec<IpAddr>) -> Subject {
        Subject { common_name: common_name.to_owned(), names, addresses, server: true, ..Subject::default() }
    }
}

/// A certificate authority: its own pair, ready to sign.
pub struct Authority {
    pub pair: Pair,
}

impl Authority {
    /// A new authority; with `key` an existing one is renewed: the same key and name, so that everything signed
    /// before stays valid.
    pub fn new(common_name: &str, key: Option<&str>, now: Timestamp) -> Result<Authority> {
        let key = match key {
            Some(pem) => KeyPair::from_pem(pem).context("reading an authority's key")?,
            None => new_key()?,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.subject_alt_names = vec![SanType::DnsName(common_name.try_into()?)];
        valid(&mut params, now, AUTHORITY_DAYS * DAY)?;
        let certificate = params.self_signed(&key).context("signing an authority")?.pem();
        Ok(Authority { pair: Pair { certificate, key: key.serialize_pem() } })
    }

    /// Signs a new certificate with a new key, for [`LEAF_DAYS`].
    pub fn sign(&self, subject: &Subject, now: Timestamp) -> Result<Pair> {
        self.sign_for(subject, now, LEAF_DAYS * DAY)
    }

    /// Signs a new certificate with a new key that ends `seconds` from now.
    pub fn sign_for(&self, subject: &Subject, now: Timestamp, seconds: i64) -> Result<Pair> {
        let authority_key = KeyPair::from_pem(&self.pair.key).context("reading the authority's key")?;
        let issuer = Issuer::from_ca_cert_pem(&self.pair.certificate, authority_key)
            .context("reading the authority's certificate")?;
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&subject.common_name, &subject.organizations);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if subject.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if subject.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        for dns in &subject.names {
            params.subject_alt_names.push(SanType::DnsName(dns.as_str().try_into()?));
        }
        params.subject_alt_names.extend(subject.addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, seconds)?;
        let certificate = params
            .signed_by(&key, &issuer)
            .with_context(|| format!("signing the certificate for {}", subject.common_name))?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The key pair that signs service account tokens: private and public key in PEM.
pub fn service_account_key() -> Result<(String, String)> {
    let key = new_key()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("generating a key")
}

fn name(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn valid(params: &mut CertificateParams, now: Timestamp, seconds: i64) -> Result<()> {
    let from = now.as_second() - BACKDATE_SECONDS;
    params.not_before = time::OffsetDateTime::from_unix_timestamp(from)?;
    params.not_after = time::OffsetDateTime::from_unix_timestamp(now.as_second() + seconds)?;
    Ok(())
}
