//! Who is asking? [`Authenticator::identify`] tries a proxy's headers, the client certificate, then the bearer
//! token, and only where none was offered the anonymous user. A credential that was offered and is not good is 401, never
//! anonymous.
//!
//! One file per kind of credential: [`request_header`], [`x509`], [`service_account`] (over [`jwt`]),
//! [`legacy_token`], [`token_file`], [`bootstrap_token`], [`oidc`] (set by [`configuration`]), [`token_webhook`].
//! [`impersonation`] lets one user act as another, [`issuer`] publishes the keys.

pub mod bootstrap_token;
pub mod configuration;
pub mod impersonation;
pub mod issuer;
pub mod jwt;
pub mod legacy_token;
pub mod oidc;
pub mod request_header;
pub mod service_account;
pub mod token_file;
pub mod token_webhook;
pub mod x509;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::field::aggregate_messages;
use apimachinery::status::Status;
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use crate::request::UserInfo;
use crate::server::Peer;

pub const ANONYMOUS: &str = "system:anonymous";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The key in `extra` that names the credential: a token's `jti`, a certificate's fingerprint.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Reads the newest stored object: `(resource, namespace, name)`, all of the core group.
pub type Lookup = dyn Fn(&str, &str, &str) -> Option<Value> + Send + Sync;

/// A proven identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    pub user: Arc<UserInfo>,
    /// The audiences that the credential and the server share. Empty where credentials have none.
    pub audiences: Vec<String>,
}

/// How users prove who they are. Absent parts are off.
#[derive(Default)]
pub struct Config {
    pub anonymous: bool,
    /// With [`Config::anonymous`]: only there, if there are any.
    pub anonymous_paths: Vec<configuration::AnonymousCondition>,
    /// A proxy that is believed; its headers come before any other credential.
    pub request_header: Option<request_header::Verifier>,
    pub x509: Option<Arc<x509::Verifier>>,
    pub service_accounts: Option<Arc<service_account::Verifier>>,
    pub token_file: Option<token_file::Tokens>,
    /// `--enable-bootstrap-token-auth`.
    pub bootstrap_tokens: bool,
    /// Whose tokens are good besides the server's own.
    pub issuers: Vec<Arc<oidc::Issuer>>,
    /// Asked last.
    pub webhook: Option<token_webhook::Webhook>,
}

/// The chain of authenticators.
pub struct Authenticator {
    config: Config,
    anonymous: ArcSwap<configuration::Anonymous>,
    issuers: ArcSwap<Vec<Arc<oidc::Issuer>>>,
    cache: Cache<Authenticated>,
}

/// How long a token that was found good is taken for good, as upstream.
const TOKEN_CACHE: SignedDuration = SignedDuration::from_secs(10);
const TOKEN_CACHE_ENTRIES: usize = 4096;

impl Authenticator {
    pub fn new(mut config: Config) -> Self {
        let conditions = std::mem::take(&mut config.anonymous_paths);
        let anonymous = configuration::Anonymous { enabled: config.anonymous, conditions };
        let anonymous = ArcSwap::from_pointee(anonymous);
        let issuers = ArcSwap::from_pointee(std::mem::take(&mut config.issuers));
        Self { config, anonymous, issuers, cache: Cache::default() }
    }

    /// Believes other issuers from now on, and lets others in without a credential.
    pub fn reconfigure(&self, issuers: Vec<Arc<oidc::Issuer>>, anonymous: configuration::Anonymous) {
        self.issuers.store(Arc::new(issuers));
        self.anonymous.store(Arc::new(anonymous));
        self.cache.clear();
    }

    /// Finds out who sent these headers over a connection with this peer certificate, for this path. 401 with upstream's
    /// body if what they offer is not good, or if they offer nothing and anonymous requests are off there. Why a
    /// credential failed is logged and not told.
    pub fn identify<'a>(
        &'a self,
        peer: &Peer,
        headers: &HeaderMap,
        path: &'a str,
        lookup: &Lookup,
        now: Timestamp,
    ) -> impl Future<Output = Result<Arc<UserInfo>, Status>> + Send + use<'a> {
        let mut offered = self.offered(peer, headers, lookup, now);
        async move {
            if let Offered::Token(token, faults) = offered {
                offered = match self.ask(&token, None, faults, now).await {
                    Ok(Some(found)) => Offered::User(found.user),
                    Ok(None) => Offered::Bad("invalid bearer token".into()),
                    Err(why) => Offered::Bad(why),
                };
            }
            match offered {
                Offered::User(user) => return Ok(user),
                Offered::Nothing if self.anonymous.load().allows(path) => {
                    return Ok(Arc::new(UserInfo::new(ANONYMOUS, &[UNAUTHENTICATED])));
                }
                Offered::Bad(why) => tracing::warn!(error = %why, "could not authenticate a request"),
                Offered::Nothing | Offered::Token(..) => {}
            }
            Err(Status::unauthorized("Unauthorized"))
        }
    }

    /// What can be said without asking anybody outside.
    fn offered(&self, peer: &Peer, headers: &HeaderMap, lookup: &Lookup, now: Timestamp) -> Offered {
        let mut failure = None;
        match peer {
            Peer::Identity(user) => return Offered::User(Arc::new(user.clone())),
            Peer::Tls { certificates, .. } if !certificates.is_empty() => {
                let proxy =
                    || Some(self.config.request_header.as_ref()?.authenticate(certificates, headers, now));
                let own = || Some(self.config.x509.as_ref()?.authenticate(certificates, now));
                for ask in [&proxy as &dyn Fn() -> Option<Result<_, String>>, &own] {
                    match ask() {
                        Some(Ok(Some(user))) => return Offered::User(user),
                        Some(Err(e)) => failure = Some(e),
                        Some(Ok(None)) | None => {}
                    }
                }
            }
            Peer::Tls { .. } | Peer::Plain => {}
        }
        if let Some(token) = bearer_token(headers) {
            return match self.known(&token, None, lookup, now) {
                Ok(found) => Offered::User(found.user),
                Err(faults) => Offered::Token(token, faults),
            };
        }
        failure.map_or(Offered::Nothing, Offered::Bad)
    }

    /// Checks a bearer token, for `audiences` if given and else for the server's own. `None`: nobody knows this
    /// kind of token. `Err`: why it is not good, as all say who know it.
    pub fn authenticate_token<'a>(
        &'a self,
        token: &'a str,
        audiences: Option<&'a [String]>,
        lookup: &Lookup,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Authenticated>, String>> + Send + use<'a> {
        let known = self.known(token, audiences, lookup, now);
        async move {
            match known {
                Ok(found) => Ok(Some(found)),
                Err(faults) => self.ask(token, audiences, faults, now).await,
            }
        }
    }

    /// What is known here of a token, or what is wrong with it so far.
    fn known(
        &self,
        token: &str,
        audiences: Option<&[String]>,
        lookup: &Lookup,
        now: Timestamp,
    ) -> Result<Authenticated, Vec<String>> {
        if audiences.is_none()
            && let Some(found) = self.cache.get(token, now)
        {
            return Ok(found);
        }
        match self.local(token, audiences, lookup, now) {
            Ok(Some((found, expires))) => {
                if let Some(expires) = expires.filter(|_| audiences.is_none()) {
                    self.cache.put(token, now, expires.min(now + TOKEN_CACHE), found.clone());
                }
                Ok(found)
            }
            Ok(None) => Err(Vec::new()),
            Err(why) => Err(vec![why]),
        }
    }

    /// Those whom others know: first the issuers, then the webhook.
    async fn ask(
        &self,
        token: &str,
        audiences: Option<&[String]>,
        mut faults: Vec<String>,
        now: Timestamp,
    ) -> Result<Option<Authenticated>, String> {
        let issuers = self.issuers.load_full();
        let mut next = 0;
        while let Some(issuer) = issuers.get(next).cloned() {
            next += 1;
            match issuer.authenticate(token, now).await {
                Ok(Some(found)) => {
                    let authenticated = Authenticated { user: found.user, audiences: Vec::new() };
                    if audiences.is_none() {
                        let until = found.expires.min(now + TOKEN_CACHE);
                        self.cache.put(token, now, until, authenticated.clone());
                    }
                    return Ok(Some(authenticated));
                }
                Ok(None) => {}
                Err(why) => faults.push(why),
            }
        }
        if let Some(webhook) = &self.config.webhook {
            match webhook.authenticate(token, audiences, now).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(why) => faults.push(why),
            }
        }
        match aggregate_messages(faults) {
            Some(why) => Err(why),
            None => Ok(None),
        }
    }

    /// Who asks nobody outside. With a user whose token is worth remembering, until when.
    fn local(
        &self,
        token: &str,
        audiences: Option<&[String]>,
        lookup: &Lookup,
        now: Timestamp,
    ) -> Result<Option<(Authenticated, Option<Timestamp>)>, String> {
        if let Some(user) = self.config.token_file.as_ref().and_then(|t| t.get(token)) {
            return Ok(Some((Authenticated { user, audiences: Vec::new() }, None)));
        }
        let mut fault = None;
        if let Some(verifier) = &self.config.service_accounts {
            match verifier.authenticate(token, audiences, lookup, now) {
                Ok(Some(found)) => return Ok(Some((found.authenticated, Some(found.expires)))),
                Ok(None) => {}
                Err(why) => fault = Some(why),
            }
        }
        if self.config.bootstrap_tokens
            && let Some(user) = bootstrap_token::authenticate(token, lookup, now)?
        {
            return Ok(Some((Authenticated { user, audiences: Vec::new() }, None)));
        }
        fault.map_or(Ok(None), Err)
    }

    /// Believes clients' certificates of other authorities (PEM) from now on.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn trust_clients_of(&self, authorities: &[u8]) -> Result<(), x509::Error> {
        self.config.x509.as_ref().map_or(Ok(()), |verifier| verifier.rotate(authorities))
    }

    /// The same of proxies.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn trust_proxies_of(&self, authorities: &[u8]) -> Result<(), x509::Error> {
        self.config.request_header.as_ref().map_or(Ok(()), |verifier| verifier.rotate(authorities))
    }

    /// What verifies service account tokens, if they are on.
    pub fn service_accounts(&self) -> Option<&Arc<service_account::Verifier>> {
        self.config.service_accounts.as_ref()
    }

    /// The proxy that is believed, if there is one.
    pub fn request_header(&self) -> Option<&request_header::Verifier> {
        self.config.request_header.as_ref()
    }

    /// The certificates that clients' certificates must come from, in PEM.
    pub fn client_ca(&self) -> Option<String> {
        self.config.x509.as_ref().map(|v| v.ca_pem())
    }

    /// The server's own audiences, the default of TokenRequest and TokenReview.
    pub fn audiences(&self) -> &[String] {
        self.config.service_accounts.as_ref().map(|v| v.audiences()).unwrap_or_default()
    }
}

/// What a request offers to prove who sent it, as far as is known here.
enum Offered {
    User(Arc<UserInfo>),
    /// A token that nobody here knows, with what is wrong with it.
    Token(String, Vec<String>),
    Bad(String),
    Nothing,
}

/// Makes a user one of `system:authenticated`, as every authenticator but the anonymous one does.
fn authenticated(mut user: UserInfo) -> Arc<UserInfo> {
    if user.name != ANONYMOUS && !user.groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    Arc::new(user)
}

/// Equal, compared without a short cut, so that time tells nothing about a secret but its length.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

/// Percent-decoded; a key with a broken escape stays as it is.
fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut bytes = key.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return key.to_owned(),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

/// The token of an `Authorization: Bearer` header, or of a WebSocket's protocol list (browsers cannot set the
/// header).
fn bearer_token(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        let mut parts = value.trim().splitn(3, ' ');
        let scheme = parts.next()?;
        let token = parts.next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            return Some(token.to_owned());
        }
    }
    if !headers.contains_key(header::UPGRADE) {
        return None;
    }
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let encoded = protocols
        .flat_map(|v| v.split(','))
        .find_map(|p| p.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok().filter(|t| !t.is_empty())
}

/// What was found out about tokens a moment ago, by their hash. Full, it forgets all.
struct Cache<T>(Mutex<HashMap<[u8; 32], (Timestamp, T)>>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Cache<T> {
    fn get(&self, token: &str, now: Timestamp) -> Option<T> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, found) = entries.get(&hash(token))?;
        (now < *until).then(|| found.clone())
    }

    fn put(&self, token: &str, now: Timestamp, until: Timestamp, found: T) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= TOKEN_CACHE_ENTRIES {
            entries.retain(|_, (until, _)| now < *until);
            if entries.len() >= TOKEN_CACHE_ENTRIES {
                entries.clear();
            }
        }
        entries.insert(hash(token), (until, found));
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests;
