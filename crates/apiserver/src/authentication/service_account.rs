//! Service account tokens: their claims, how they are issued and when they are good (upstream
//! `pkg/serviceaccount/claims.go`, `jwt.go`).

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Authenticated, CREDENTIAL_ID, Lookup, UserInfo, authenticated, jwt, legacy_token};

/// A requested life of exactly this many seconds, bound to a pod, comes from an old client's projected volume;
/// such a token gets [`EXTENDED_SECONDS`] and is only complained about in between.
pub const WARN_ONLY_SECONDS: i64 = 60 * 60 + 7;
/// A year.
pub const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;
/// How far clocks may be apart.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// Every claim of a token, with upstream's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<Seconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<Seconds>,
    #[serde(default)]
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(default, rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<Seconds>,
    #[serde(default)]
    pub sub: String,
}

/// Seconds since 1970. Other issuers write fractions, which do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Seconds(pub i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        f64::deserialize(d).map(|seconds| Self(seconds as i64))
    }
}

impl Seconds {
    fn time(self) -> Timestamp {
        let bounded = self.0.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Timestamp::from_second(bounded).unwrap_or(Timestamp::MAX)
    }
}

/// What Kubernetes adds to the standard claims.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kubernetes {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    #[serde(default)]
    pub serviceaccount: Ref,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<Seconds>,
}

/// An object, by name and identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Ref {
    pub fn to(object: &Value) -> Self {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        Self { name: text("name"), uid: text("uid") }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(d)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

/// What a token is tied to: with the object it dies.
#[derive(Clone, Debug, Default)]
pub enum Bound {
    #[default]
    Nothing,
    /// A pod and, where known, its node.
    Pod(Ref, Option<Ref>),
    Secret(Ref),
    Node(Ref),
}

/// What a token shall say.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub namespace: &'a str,
    pub service_account: Ref,
    pub bound: Bound,
    pub audiences: Vec<String>,
    /// Life in seconds, and after how many of them its use is complained about.
    pub seconds: i64,
    pub warn_after: Option<i64>,
    pub now: Timestamp,
    /// A fresh uid.
    pub jti: String,
}

/// `system:serviceaccount:ns:name`.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The groups of every service account of a namespace.
pub fn groups(namespace: &str) -> [String; 2] {
    ["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]
}

/// Issues tokens.
pub struct Issuer {
    pub issuer: String,
    /// `--service-account-max-token-expiration`, in seconds: longer lives are cut off.
    pub longest_seconds: Option<i64>,
    /// `--service-account-extend-token-expiration`: tokens of old clients last [`EXTENDED_SECONDS`].
    pub extend: bool,
    key: ArcSwap<jwt::SigningKey>,
}

impl Issuer {
    pub fn new(issuer: impl Into<String>, key: jwt::SigningKey) -> Self {
        let key = ArcSwap::from_pointee(key);
        Self { issuer: issuer.into(), longest_seconds: None, extend: true, key }
    }

    /// Signs with another key from now on.
    pub fn rotate(&self, key: jwt::SigningKey) {
        self.key.store(Arc::new(key));
    }

    pub fn issue(&self, request: Request<'_>) -> Result<String, jwt::Error> {
        self.key.load().sign(&claims(&self.issuer, request))
    }
}

fn claims(issuer: &str, r: Request<'_>) -> Claims {
    let now = r.now.as_second();
    let (pod, secret, node) = match r.bound {
        Bound::Nothing => (None, None, None),
        Bound::Pod(pod, node) => (Some(pod), None, node),
        Bound::Secret(secret) => (None, Some(secret), None),
        Bound::Node(node) => (None, None, Some(node)),
    };
    Claims {
        aud: r.audiences,
        exp: Some(Seconds(now.saturating_add(r.seconds))),
        iat: Some(Seconds(now)),
        iss: issuer.into(),
        jti: r.jti,
        nbf: Some(Seconds(now)),
        sub: user_name(r.namespace, &r.service_account.name),
        kubernetes: Kubernetes {
            namespace: r.namespace.into(),
            node,
            pod,
            secret,
            serviceaccount: r.service_account,
            warnafter: r.warn_after.map(|after| Seconds(now.saturating_add(after))),
        },
    }
}

/// A good token, and until when it is one.
pub struct Verified {
    pub authenticated: Authenticated,
    pub expires: Timestamp,
}

/// Verifies tokens of known issuers with known keys.
pub struct Verifier {
    issuers: Vec<String>,
    audiences: Vec<String>,
    keys: ArcSwap<Vec<Arc<jwt::VerifyingKey>>>,
    /// `--service-account-lookup`: whether the objects behind a token must still exist.
    lookup: bool,
    /// Secrets whose tokens were used.
    pub legacy_used: legacy_token::Used,
}

impl Verifier {
    pub fn new(
        issuers: Vec<String>,
        audiences: Vec<String>,
        keys: Vec<jwt::VerifyingKey>,
        lookup: bool,
    ) -> Self {
        let keys = keys.into_iter().map(Arc::new).collect();
        let keys = ArcSwap::from_pointee(keys);
        Self { issuers, audiences, keys, lookup, legacy_used: legacy_token::Used::default() }
    }

    /// Verifies with other keys from now on.
    pub fn rotate(&self, keys: Vec<jwt::VerifyingKey>) {
        self.keys.store(Arc::new(keys.into_iter().map(Arc::new).collect()));
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    pub fn keys(&self) -> Vec<Arc<jwt::VerifyingKey>> {
        self.keys.load().as_ref().clone()
    }

    /// `None` if the token does not claim to be from one of our issuers.
    pub fn authenticate(
        &self,
        token: &str,
        audiences: Option<&[String]>,
        lookup: &Lookup,
        now: Timestamp,
    ) -> Result<Option<Verified>, String> {
        #[derive(Deserialize)]
        struct Claimed {
            #[serde(default)]
            iss: String,
        }
        let Some(claimed) = jwt::unverified_claims::<Claimed>(token) else { return Ok(None) };
        let wanted = audiences.unwrap_or(&self.audiences);
        if claimed.iss == legacy_token::ISSUER {
            // It names no audience: it is for the API server.
            let shared: Vec<String> = self.audiences.iter().filter(|a| wanted.contains(a)).cloned().collect();
            if shared.is_empty() && !self.audiences.is_empty() {
                return Err(format!("token is for {:?} and not for {wanted:?}", self.audiences));
            }
            let lookup = self.lookup.then_some(lookup);
            let user = legacy_token::authenticate(token, &self.keys.load(), lookup, &self.legacy_used)?;
            let authenticated = Authenticated { user, audiences: shared };
            return Ok(Some(Verified { authenticated, expires: Timestamp::MAX }));
        }
        if !self.issuers.contains(&claimed.iss) {
            return Ok(None);
        }
        let claims: Claims = jwt::verify(token, &self.keys.load()).map_err(|e| e.to_string())?;
        if !self.issuers.contains(&claims.iss) {
            return Err(format!("token issuer {:?} is invalid", claims.iss));
        }
        // Tokens of old have no audience: they are for the API server.
        let own = if claims.aud.is_empty() { &self.audiences } else { &claims.aud };
        let shared: Vec<String> = own.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if shared.is_empty() && !self.audiences.is_empty() {
            return Err(format!("token audiences {own:?} is invalid for the target audiences {wanted:?}"));
        }
        check_times(&claims, now)?;
        if self.lookup {
            check_objects(&claims.kubernetes, lookup, now)?;
        }
        let expires = claims.exp.map_or(Timestamp::MAX, Seconds::time);
        Ok(Some(Verified { authenticated: Authenticated { user: user(claims), audiences: shared }, expires }))
    }
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<(), String> {
    if claims.nbf.is_some_and(|t| now + LEEWAY < t.time()) {
        return Err("service account token is not valid yet".into());
    }
    if claims.exp.is_some_and(|t| now - LEEWAY > t.time()) {
        return Err("service account token has expired".into());
    }
    if claims.iat.is_some_and(|t| now + LEEWAY < t.time()) {
        return Err("service account token is issued in the future".into());
    }
    Ok(())
}

/// The service account and what the token is bound to must exist, be the same ones as then, and not have been
/// deleted a while ago.
fn check_objects(k: &Kubernetes, lookup: &Lookup, now: Timestamp) -> Result<(), String> {
    let account = &k.serviceaccount;
    let Some(object) = lookup("serviceaccounts", &k.namespace, &account.name) else {
        return Err(format!("serviceaccounts {:?} not found", account.name));
    };
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    if uid != account.uid {
        return Err(format!("service account UID ({uid}) does not match claim ({})", account.uid));
    }
    if is_deleted(&object, now) {
        return Err(format!("service account {}/{} has been deleted", k.namespace, account.name));
    }
    // The node of a pod's token is a note, not a tie.
    let node = k.node.as_ref().filter(|_| k.pod.is_none());
    let ties = [
        ("secrets", "secret", "secret", k.namespace.as_str(), k.secret.as_ref()),
        ("pods", "pod", "Pod", &k.namespace, k.pod.as_ref()),
        ("nodes", "node", "Node", "", node),
    ];
    for (resource, word, title, namespace, tie) in ties {
        let Some(tie) = tie else { continue };
        let gone = || "service account token has been invalidated".to_owned();
        let object = lookup(resource, namespace, &tie.name).ok_or_else(gone)?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if uid != tie.uid {
            return Err(format!(
                "{title} UID ({uid}) does not match service account {word} ref claim ({})",
                tie.uid
            ));
        }
        if is_deleted(&object, now) {
            return Err(gone());
        }
    }
    Ok(())
}

fn is_deleted(object: &Value, now: Timestamp) -> bool {
    let at = object["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    at.is_some_and(|at| at < now - LEEWAY)
}

fn user(claims: Claims) -> Arc<UserInfo> {
    let k = claims.kubernetes;
    let mut user = UserInfo::new(user_name(&k.namespace, &k.serviceaccount.name), &[]);
    user.groups.extend(groups(&k.namespace));
    user.uid = k.serviceaccount.uid;
    let mut extra = |key: &str, value: String| {
        if !value.is_empty() {
            user.extra.insert(key.into(), vec![value]);
        }
    };
    if !claims.jti.is_empty() {
        extra(CREDENTIAL_ID, format!("JTI={}", claims.jti));
    }
    if let Some(pod) = k.pod {
        extra("authentication.kubernetes.io/pod-name", pod.name);
        extra("authentication.kubernetes.io/pod-uid", pod.uid);
    }
    if let Some(node) = k.node {
        extra("authentication.kubernetes.io/node-name", node.name);
        extra("authentication.kubernetes.io/node-uid", node.uid);
    }
    authenticated(user)
}
