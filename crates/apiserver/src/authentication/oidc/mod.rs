//! Tokens of other issuers: JSON web tokens whose keys the issuer publishes (OpenID Connect discovery), and whose claims
//! say who the user is. [`keys`] finds out who signed, [`claims`] what that means.
//!
//! Not here: distributed claims.

pub mod claims;
pub mod keys;

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::configuration;
use super::{UserInfo, authenticated};

/// How far ahead of this machine's the clock of an issuer may be.
const LEEWAY: SignedDuration = SignedDuration::from_mins(5);

/// One issuer.
pub struct Issuer {
    url: String,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    keys: keys::Keys,
    mapper: claims::Mapper,
}

/// A good token's user, and until when it is one.
pub struct Verified {
    pub user: Arc<UserInfo>,
    pub expires: Timestamp,
}

impl Issuer {
    /// `algorithms`: those that tokens may be signed with.
    ///
    /// # Errors
    /// When a URL or the authorities do not read, or an algorithm is unknown.
    pub fn new(
        settings: &configuration::Issuer,
        mapper: claims::Mapper,
        algorithms: &[String],
    ) -> Result<Self, String> {
        if let Some(unknown) = algorithms.iter().find(|a| !keys::ALGORITHMS.contains(&a.as_str())) {
            return Err(format!("oidc: unsupported signing alg: {unknown:?}"));
        }
        let authorities = Some(settings.certificate_authority.as_str()).filter(|pem| !pem.is_empty());
        Ok(Self {
            url: settings.url.clone(),
            audiences: settings.audiences.clone(),
            algorithms: algorithms.to_vec(),
            keys: keys::Keys::new(&settings.url, &settings.discovery_url, authorities)?,
            mapper,
        })
    }

    /// `None` if the token is not this issuer's.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn authenticate<'a>(
        &'a self,
        token: &'a str,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Verified>, String>> {
        Box::pin(self.verify(token, now))
    }

    async fn verify(&self, token: &str, now: Timestamp) -> Result<Option<Verified>, String> {
        let Ok(token) = keys::Token::parse(token) else { return Ok(None) };
        let issuer = match token.claims.get("iss").and_then(Value::as_str).unwrap_or_default() {
            "accounts.google.com" => "https://accounts.google.com",
            issuer => issuer,
        };
        if issuer != self.url {
            return Ok(None);
        }
        let wrong = |why: String| format!("oidc: verify token: {why}");
        self.check_audience(&token.claims).map_err(wrong)?;
        let expires = check_times(&token.claims, now).map_err(wrong)?;
        if !self.algorithms.contains(&token.algorithm) {
            let why = format!(
                "oidc: malformed jwt: unexpected signature algorithm {:?}; expected {:?}",
                token.algorithm, self.algorithms
            );
            return Err(wrong(why));
        }
        self.keys.verify(&token).await.map_err(wrong)?;
        let user = self.mapper.user(&token.claims)?;
        Ok(Some(Verified { user: authenticated(user), expires }))
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), String> {
        let found: Vec<&str> = match claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        match found.iter().any(|audience| self.audiences.iter().any(|own| own == audience)) {
            true => Ok(()),
            false => Err(format!("oidc: expected audience in {:?} got {found:?}", self.audiences)),
        }
    }
}

fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, String> {
    let time = |name: &str| -> Result<Option<Timestamp>, String> {
        match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let seconds = value.as_f64().ok_or_else(|| format!("the claim {name} is no time"))?;
                let bounded = (seconds as i64).clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
                Ok(Some(Timestamp::from_second(bounded).unwrap_or(Timestamp::MAX)))
            }
        }
    };
    let expires = time("exp")?.unwrap_or(Timestamp::UNIX_EPOCH);
    if expires <= now {
        return Err(format!("oidc: token is expired (Token Expiry: {expires})"));
    }
    match time("nbf")? {
        Some(begins) if now + LEEWAY < begins => {
            Err(format!("oidc: current time {now} before the nbf (not before) time: {begins}"))
        }
        _ => Ok(expires),
    }
}
