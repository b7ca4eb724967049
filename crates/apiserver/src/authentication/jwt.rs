//! JSON web tokens, as thin as service accounts need them: compact form, ES256 and RS256, keys from PEM.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::der_parser;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Why a key or a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading a key: {0}")]
    Key(String),
    #[error("signing a token failed")]
    Sign,
    #[error("token is malformed: {0}")]
    Malformed(&'static str),
    #[error("invalid signature, no keys found")]
    NoKey,
    #[error("invalid signature")]
    Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
}

/// A key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    pub algorithm: Algorithm,
    /// Upstream's `kid`: the SHA-256 of the key's SubjectPublicKeyInfo, base64url.
    pub id: String,
    /// An uncompressed P-256 point, or an `RSAPublicKey` in DER: what ring takes.
    raw: Vec<u8>,
}

/// `SubjectPublicKeyInfo` up to the point, for a P-256 key.
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The algorithm identifier of an RSA key, NULL parameters included.
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n if n < 0x80 => out.push(n as u8),
        n if n < 0x100 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
    out
}

impl VerifyingKey {
    fn new(algorithm: Algorithm, raw: Vec<u8>) -> Self {
        let spki = match algorithm {
            Algorithm::Es256 => [P256_SPKI, &raw].concat(),
            Algorithm::Rs256 => {
                let bits = der(0x03, &[&[0], raw.as_slice()].concat());
                der(0x30, &[RSA_ALGORITHM, &bits].concat())
            }
        };
        Self { algorithm, id: URL_SAFE_NO_PAD.encode(Sha256::digest(spki)), raw }
    }

    fn from_spki(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, Error> {
        let raw = spki.subject_public_key.data.to_vec();
        match spki.parsed() {
            Ok(PublicKey::RSA(_)) => Ok(Self::new(Algorithm::Rs256, raw)),
            Ok(PublicKey::EC(_)) if raw.len() == 65 => Ok(Self::new(Algorithm::Es256, raw)),
            _ => Err(Error::Key("only RSA and P-256 keys are supported".into())),
        }
    }

    /// Every key in a PEM file: public keys, the public halves of private keys, the keys of certificates.
    pub fn from_pem(pem: &[u8]) -> Result<Vec<Self>, Error> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|e| Error::Key(e.to_string()))?;
            let parse = |e: &dyn std::fmt::Display| Error::Key(e.to_string());
            match kind {
                SectionKind::PublicKey => {
                    let (_, spki) = SubjectPublicKeyInfo::from_der(&der).map_err(|e| parse(&e))?;
                    keys.push(Self::from_spki(&spki)?);
                }
                SectionKind::Certificate => {
                    let (_, cert) = X509Certificate::from_der(&der).map_err(|e| parse(&e))?;
                    keys.push(Self::from_spki(cert.public_key())?);
                }
                _ => {}
            }
        }
        for key in PrivateKeyDer::pem_slice_iter(pem).flatten() {
            keys.push(SigningKey::from_der(&key)?.public);
        }
        if keys.is_empty() {
            return Err(Error::Key("data does not contain any valid RSA or ECDSA public keys".into()));
        }
        Ok(keys)
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.raw).verify(message, signature).is_ok()
    }

    /// The key as a JSON web key, for `/openid/v1/jwks`.
    pub fn to_jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self.algorithm {
            Algorithm::Es256 => {
                let (x, y) = self.raw.get(1..).unwrap_or_default().split_at(32);
                json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
                    "x": encode(x), "y": encode(y)})
            }
            Algorithm::Rs256 => {
                let (n, e) = rsa_parts(&self.raw).unwrap_or_default();
                json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                    "n": encode(&n), "e": encode(&e)})
            }
        }
    }
}

/// Modulus and exponent of an `RSAPublicKey`, without the sign byte.
fn rsa_parts(raw: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, sequence) = der_parser::der::parse_der_sequence(raw).ok()?;
    let items = sequence.as_sequence().ok()?;
    let unsigned = |i: usize| {
        let bytes = items.get(i)?.as_slice().ok()?;
        Some(bytes.iter().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>())
    };
    Some((unsigned(0)?, unsigned(1)?))
}

enum Pair {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A key that signs tokens. New clusters have P-256; RSA keys of clusters that are taken over go on signing.
pub struct SigningKey {
    pair: Pair,
    pub public: VerifyingKey,
    random: SystemRandom,
}

impl SigningKey {
    /// The first private key of a PEM file: PKCS#8, SEC1 or PKCS#1.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| Error::Key(e.to_string()))?;
        Self::from_der(&key)
    }

    fn from_der(key: &PrivateKeyDer<'_>) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let rejected = |e: ring::error::KeyRejected| Error::Key(e.to_string());
        let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = match key {
            PrivateKeyDer::Pkcs1(der) => {
                Pair::Rsa(Box::new(RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(rejected)?))
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                match EcdsaKeyPair::from_pkcs8(curve, der, &random) {
                    Ok(pair) => Pair::Ec(Box::new(pair)),
                    Err(_) => Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).map_err(rejected)?)),
                }
            }
            PrivateKeyDer::Sec1(der) => {
                let (private, public) = sec1_parts(der.secret_sec1_der())
                    .ok_or_else(|| Error::Key("EC key is malformed or lacks its public key".into()))?;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, &private, &public, &random);
                Pair::Ec(Box::new(pair.map_err(rejected)?))
            }
            _ => return Err(Error::Key("unknown kind of private key".into())),
        };
        let public = match &pair {
            Pair::Ec(pair) => VerifyingKey::new(Algorithm::Es256, pair.public_key().as_ref().to_vec()),
            Pair::Rsa(pair) => VerifyingKey::new(Algorithm::Rs256, pair.public_key().as_ref().to_vec()),
        };
        Ok(Self { pair, public, random })
    }

    /// Signs claims into the compact form.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        let header = Header { alg: self.public.algorithm, kid: self.public.id.clone(), crit: None };
        let part = |v: Result<Vec<u8>, serde_json::Error>| {
            v.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).map_err(|_| Error::Sign)
        };
        let header = part(serde_json::to_vec(&header))?;
        let mut token = format!("{header}.{}", part(serde_json::to_vec(claims))?);
        let signature = match &self.pair {
            Pair::Ec(pair) => {
                pair.sign(&self.random, token.as_bytes()).map_err(|_| Error::Sign)?.as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut out)
                    .map_err(|_| Error::Sign)?;
                out
            }
        };
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

/// Private scalar and public point of an `ECPrivateKey` (RFC 5915).
fn sec1_parts(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, sequence) = der_parser::der::parse_der_sequence(der).ok()?;
    let items = sequence.as_sequence().ok()?;
    let private = items.get(1)?.as_slice().ok()?.to_vec();
    // [1] EXPLICIT BIT STRING: two headers of two bytes each, one byte of unused bits, the point.
    let tagged = items.iter().find(|i| i.header.tag().0 == 1 && i.header.is_contextspecific())?;
    let (_, bits) = der_parser::der::parse_der_bitstring(tagged.as_slice().ok()?).ok()?;
    Some((private, bits.as_bitstring().ok()?.data.to_vec()))
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: Algorithm,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    kid: String,
    /// Extensions that a verifier must understand; we understand none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Value>,
}

/// The claims of a token in compact form, nothing checked: to see whose token it claims to be. `None` if it is
/// no such token.
pub fn unverified_claims<T: for<'a> Deserialize<'a>>(token: &str) -> Option<T> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Checks the signature with the keys of the token's key id (all, if it has none) and gives the claims. Times,
/// issuer and audience are the caller's to check.
pub fn verify<T: for<'a> Deserialize<'a>>(token: &str, keys: &[Arc<VerifyingKey>]) -> Result<T, Error> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Error::Malformed("not three parts"))?;
    let (header, payload) = signed.split_once('.').ok_or(Error::Malformed("not three parts"))?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed("not base64url"));
    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| Error::Malformed("header not understood"))?;
    if header.crit.is_some() {
        return Err(Error::Malformed("critical header not understood"));
    }
    let signature = decode(signature)?;
    let mut any = false;
    for key in keys.iter().filter(|k| header.kid.is_empty() || k.id == header.kid) {
        any = true;
        if key.algorithm == header.alg && key.verify(signed.as_bytes(), &signature) {
            return serde_json::from_slice(&decode(payload)?)
                .map_err(|_| Error::Malformed("claims not understood"));
        }
    }
    Err(if any { Error::Signature } else { Error::NoKey })
}
