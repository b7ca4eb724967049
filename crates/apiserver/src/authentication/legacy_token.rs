//! Service account tokens of old: kept in a Secret of type `kubernetes.io/service-account-token`, without an end
//! and without an audience (upstream `pkg/serviceaccount/legacy.go`). They die with the Secret.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::{Lookup, UserInfo, authenticated, jwt, same, service_account};

pub const ISSUER: &str = "kubernetes/serviceaccount";
/// A Secret with this label is not taken any more.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// The day of the last use, `2026-11-21`.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

/// Secrets whose tokens were used, by namespace and name, until somebody notes that on them.
#[derive(Default)]
pub struct Used(Mutex<BTreeSet<(String, String)>>);

impl Used {
    /// What was used since the last call.
    pub fn take(&self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Checks a token of this issuer. `lookup`: whether the objects behind it must exist, and where they are.
pub fn authenticate(
    token: &str,
    keys: &[Arc<jwt::VerifyingKey>],
    lookup: Option<&Lookup>,
    used: &Used,
) -> Result<Arc<UserInfo>, String> {
    let claims: Claims = jwt::verify(token, keys).map_err(|e| e.to_string())?;
    for (claim, name) in [
        (&claims.sub, "sub"),
        (&claims.namespace, "namespace"),
        (&claims.secret, "secretName"),
        (&claims.account, "serviceAccountName"),
        (&claims.uid, "serviceAccountUID"),
    ] {
        if claim.is_empty() {
            return Err(format!("{name} claim is missing"));
        }
    }
    if claims.sub != service_account::user_name(&claims.namespace, &claims.account) {
        return Err("sub claim is invalid".into());
    }
    if let Some(lookup) = lookup {
        check(token, &claims, lookup)?;
        let mut used = used.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert((claims.namespace.clone(), claims.secret.clone()));
    }
    let mut user = UserInfo::new(claims.sub, &[]);
    user.uid = claims.uid;
    user.groups.extend(service_account::groups(&claims.namespace));
    Ok(authenticated(user))
}

fn check(token: &str, claims: &Claims, lookup: &Lookup) -> Result<(), String> {
    let Claims { namespace, secret: secret_name, account: name, uid: claimed, .. } = claims;
    let deleted = |object: &Value| object["metadata"].get("deletionTimestamp").is_some_and(Value::is_string);
    let secret = lookup("secrets", namespace, secret_name)
        .filter(|secret| !deleted(secret))
        .ok_or("Token has been invalidated")?;
    let kept =
        secret["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    if !same(&kept, token.as_bytes()) {
        return Err("Token does not match server's copy".into());
    }
    let account = lookup("serviceaccounts", namespace, name)
        .ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    if deleted(&account) {
        return Err(format!("ServiceAccount {namespace}/{name} has been deleted"));
    }
    let uid = account["metadata"]["uid"].as_str().unwrap_or_default();
    if uid != claimed {
        return Err(format!("ServiceAccount UID ({uid}) does not match claim ({claimed})"));
    }
    if secret["metadata"]["labels"][INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{secret_name} for service account {namespace}/{name} has been marked \
             invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
             '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_in_secrets() {
        let pem = include_str!("testdata/ec-sec1.pem");
        let key = jwt::SigningKey::from_pem(pem.as_bytes()).unwrap();
        let keys = [Arc::new(key.public.clone())];
        let claims = |sub: &str, uid: &str| {
            json!({"iss": ISSUER, "sub": sub, "kubernetes.io/serviceaccount/namespace": "ns",
                "kubernetes.io/serviceaccount/secret.name": "s",
                "kubernetes.io/serviceaccount/service-account.name": "sa",
                "kubernetes.io/serviceaccount/service-account.uid": uid})
        };
        let own = "system:serviceaccount:ns:sa";
        let good = key.sign(&claims(own, "u1")).unwrap();
        let account = json!({"metadata": {"uid": "u1"}});
        let secret = |token: &str| json!({"metadata": {}, "data": {"token": STANDARD.encode(token)}});
        let marked = json!({"metadata": {"labels": {INVALID_SINCE: "2026-01-01"}}, "data": {"token": STANDARD.encode(&good)}});
        let other = key.sign(&claims(own, "u2")).unwrap();
        let foreign = key.sign(&claims("system:serviceaccount:ns:other", "u1")).unwrap();
        let table = [
            ("good", &good, secret(&good), &account, "ok"),
            ("no secret", &good, Value::Null, &account, "Token has been invalidated"),
            ("another copy", &good, secret(&other), &account, "Token does not match server's copy"),
            ("no account", &good, secret(&good), &Value::Null, "serviceaccounts \"sa\" not found"),
            (
                "made anew",
                &other,
                secret(&other),
                &account,
                "ServiceAccount UID (u1) does not match claim (u2)",
            ),
            ("another's", &foreign, secret(&foreign), &account, "sub claim is invalid"),
            (
                "marked",
                &good,
                marked,
                &account,
                "the token in secret ns/s for service account ns/sa has been marked",
            ),
        ];
        for (case, token, secret, account, expect) in table {
            let account = account.clone();
            let lookup = move |resource: &str, _: &str, _: &str| {
                let found = if resource == "secrets" { &secret } else { &account };
                (!found.is_null()).then(|| found.clone())
            };
            let used = Used::default();
            let got = authenticate(token, &keys, Some(&lookup), &used);
            match got {
                Ok(user) => {
                    assert_eq!((case, expect), ("good", "ok"));
                    assert_eq!(user.name, own);
                    assert_eq!(used.take().len(), 1);
                }
                Err(why) => assert!(why.starts_with(expect), "{case}: {why}"),
            }
        }
        assert!(authenticate(&good, &keys, None, &Used::default()).is_ok());
    }
}
