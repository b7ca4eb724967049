//! The keys of an issuer: found through discovery, fetched when a token names one that is not known, and so
//! rotated whenever the issuer does it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::remote::Endpoint;

/// How long the issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// After discovery failed, for how long it is not tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// The signing algorithms that there are (upstream's list, but for ES512, whose curve the library lacks).
pub const ALGORITHMS: [&str; 8] = ["ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// A public key of an issuer.
#[derive(Debug)]
pub struct Key {
    id: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The curve, and the point without compression.
    Ec(String, Vec<u8>),
}

#[derive(Deserialize)]
struct JsonKeySet {
    #[serde(default)]
    keys: Vec<JsonKey>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonKey {
    kty: String,
    kid: String,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl Key {
    fn new(json: JsonKey) -> Option<Self> {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let kind = match json.kty.as_str() {
            "RSA" => {
                let plain =
                    |text: &str| Some(decode(text)?.into_iter().skip_while(|b| *b == 0).collect::<Vec<u8>>());
                Kind::Rsa { n: plain(&json.n)?, e: plain(&json.e)? }
            }
            "EC" => {
                let length: usize = match json.crv.as_str() {
                    "P-256" => 32,
                    "P-384" => 48,
                    _ => return None,
                };
                let mut point = vec![4];
                for text in [&json.x, &json.y] {
                    let part = decode(text)?;
                    point.extend(std::iter::repeat_n(0, length.checked_sub(part.len())?));
                    point.extend(part);
                }
                Kind::Ec(json.crv, point)
            }
            _ => return None,
        };
        Some(Self { id: json.kid, kind })
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::Rsa { n, e } => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            Kind::Ec(curve, point) => {
                let parameters: &dyn VerificationAlgorithm = match (curve.as_str(), algorithm) {
                    ("P-256", "ES256") => &signature::ECDSA_P256_SHA256_FIXED,
                    ("P-384", "ES384") => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => return false,
                };
                UnparsedPublicKey::new(parameters, point).verify(message, signature).is_ok()
            }
        }
    }
}

/// The keys of a key set (RFC 7517) that can be used; others are passed over.
///
/// # Errors
/// When it is no key set.
pub fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: JsonKeySet = serde_json::from_slice(bytes).map_err(|e| format!("reading the keys: {e}"))?;
    Ok(set.keys.into_iter().filter_map(Key::new).collect())
}

/// A token in compact form, apart.
pub struct Token<'a> {
    pub algorithm: String,
    key: String,
    signed: &'a str,
    signature: Vec<u8>,
    /// The claims, not believed before [`Keys::verify`].
    pub claims: serde_json::Map<String, serde_json::Value>,
}

impl<'a> Token<'a> {
    /// # Errors
    /// When it is no token in compact form.
    pub fn parse(token: &'a str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            #[serde(default)]
            kid: String,
            #[serde(default)]
            crit: Option<serde_json::Value>,
        }
        let wrong = || "malformed token".to_owned();
        let (signed, signature) = token.rsplit_once('.').ok_or_else(wrong)?;
        let (header, payload) = signed.split_once('.').ok_or_else(wrong)?;
        let decode =
            |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|e| format!("error decoding token: {e}"));
        let read = |e: serde_json::Error| format!("while unmarshaling token: {e}");
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(read)?;
        if header.crit.is_some() {
            return Err("token has extensions that are not understood".into());
        }
        let claims = serde_json::from_slice(&decode(payload)?).map_err(read)?;
        Ok(Self { algorithm: header.alg, key: header.kid, signed, signature: decode(signature)?, claims })
    }

    fn is_signed_by(&self, keys: &[Key]) -> bool {
        let mut fit = keys.iter().filter(|key| self.key.is_empty() || key.id == self.key);
        fit.any(|key| key.verify(&self.algorithm, self.signed.as_bytes(), &self.signature))
    }
}

/// Where an issuer's keys are, and what they were last.
pub struct Keys {
    issuer: String,
    /// Where the issuer describes itself.
    discovery: Endpoint,
    authorities: Option<String>,
    known: ArcSwapOption<Vec<Key>>,
    fetching: Mutex<Fetching>,
}

#[derive(Default)]
struct Fetching {
    keys: Option<Endpoint>,
    failed: Option<(Instant, String)>,
}

impl Keys {
    /// Nothing is fetched before the first token comes.
    ///
    /// # Errors
    /// When a URL or the authorities do not read.
    pub fn new(issuer: &str, discovery: &str, authorities: Option<&str>) -> Result<Self, String> {
        let url = match discovery {
            "" => format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')),
            url => url.to_owned(),
        };
        let discovery = Endpoint::of(&url, authorities).map_err(|e| e.to_string())?;
        let authorities = authorities.map(str::to_owned);
        let (known, fetching) = (ArcSwapOption::empty(), Mutex::default());
        Ok(Self { issuer: issuer.into(), discovery, authorities, known, fetching })
    }

    /// Whether one of the issuer's keys signed this. Keys are fetched if none of those known did.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify(&self, token: &Token<'_>) -> Result<(), String> {
        let known = self.known.load_full();
        if known.as_ref().is_some_and(|keys| token.is_signed_by(keys)) {
            return Ok(());
        }
        let mut fetching = self.fetching.lock().await;
        // Somebody may have fetched while this one waited.
        let newer =
            self.known.load_full().filter(|keys| known.as_ref().is_none_or(|old| !Arc::ptr_eq(old, keys)));
        let keys = match newer {
            Some(keys) => keys,
            None => {
                let keys = Arc::new(self.fetch(&mut fetching).await?);
                self.known.store(Some(keys.clone()));
                keys
            }
        };
        drop(fetching);
        match token.is_signed_by(&keys) {
            true => Ok(()),
            false => Err("failed to verify signature: failed to verify id token signature".into()),
        }
    }

    async fn fetch(&self, state: &mut Fetching) -> Result<Vec<Key>, String> {
        if let Some((when, why)) = &state.failed
            && when.elapsed() < PAUSE
        {
            return Err(format!("authenticator not initialized: {why}"));
        }
        let found = match self.endpoint(state).await {
            Ok(endpoint) => {
                let bytes = endpoint.get(None, PATIENCE).await.map_err(|e| format!("fetching keys: {e}"));
                bytes.and_then(|bytes| parse(&bytes))
            }
            Err(why) => {
                tracing::error!(issuer = self.issuer, error = why, "discovering an issuer of tokens");
                state.failed = Some((Instant::now(), why.clone()));
                return Err(why);
            }
        };
        state.failed = None;
        found
    }

    async fn endpoint<'a>(&self, state: &'a mut Fetching) -> Result<&'a Endpoint, String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Description {
            issuer: String,
            jwks_uri: String,
        }
        if state.keys.is_none() {
            let bytes = self.discovery.get(None, PATIENCE).await.map_err(|e| e.to_string())?;
            let found: Description = serde_json::from_slice(&bytes)
                .map_err(|e| format!("oidc: failed to decode provider discovery object: {e}"))?;
            if found.issuer != self.issuer {
                return Err(format!(
                    "oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                    self.issuer, found.issuer
                ));
            }
            if found.jwks_uri.is_empty() {
                return Err("provider did not return JWKS URL".into());
            }
            let keys =
                Endpoint::of(&found.jwks_uri, self.authorities.as_deref()).map_err(|e| e.to_string())?;
            state.keys = Some(keys);
        }
        state.keys.as_ref().ok_or_else(|| "no keys".to_owned())
    }
}
