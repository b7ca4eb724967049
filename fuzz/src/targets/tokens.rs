//! What clients hand back or prove themselves with: `continue` tokens and bearer tokens.

use std::sync::{Arc, LazyLock};

use apiserver::authentication::jwt::{self, SigningKey, VerifyingKey};
use apiserver::authentication::service_account::Verifier;
use apiserver::authentication::{Authenticator, Config, bootstrap_token, token_file};
use apiserver::request::UserInfo;
use apiserver::server::Peer;
use apiserver::storage::continue_token;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bounded;

const ISSUER: &str = "https://kubernetes.default.svc";
/// One key of each kind; their private halves are nowhere.
const KEYS: &str = include_str!("keys.pem");

static PUBLIC: LazyLock<Vec<VerifyingKey>> =
    LazyLock::new(|| VerifyingKey::from_pem(KEYS.as_bytes()).expect("the keys are committed"));

/// A server's whole chain.
static CHAIN: LazyLock<Authenticator> = LazyLock::new(|| {
    let audiences = vec![ISSUER.to_owned()];
    let service_accounts = Verifier::new(vec![ISSUER.into()], audiences, PUBLIC.clone(), true);
    Authenticator::new(Config {
        anonymous: false,
        request_header: None,
        x509: None,
        service_accounts: Some(Arc::new(service_accounts)),
        token_file: token_file::Tokens::parse("known-token,somebody,1,\"a,b\"\n").ok(),
        bootstrap_tokens: true,
        ..Config::default()
    })
});

/// Nobody outside is asked, so nothing waits.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without anything")
});

pub fn run(bytes: &[u8]) {
    bounded(|| token(bytes));
}

fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(found) = continue_token::decode(&text) {
        let again = continue_token::encode(&found.start, found.revision);
        assert_eq!(continue_token::decode(&again), Ok(found.clone()));
        assert!(!found.start.split('/').any(|part| part == ".."), "{}", found.start);
    }

    let keys: Vec<_> = PUBLIC.iter().cloned().map(Arc::new).collect();
    assert!(jwt::verify::<Value>(&text, &keys).is_err(), "a signature nobody can make");
    let _ = jwt::unverified_claims::<Value>(&text);
    let now = Timestamp::from_second(1_700_000_000).unwrap_or_default();
    let _ = bootstrap_token::authenticate(&text, &lookup, now);
    let _ = token_file::Tokens::parse(&text);
    let _ = SigningKey::from_pem(bytes).map(|key| key.public.to_jwk());
    let _ =
        VerifyingKey::from_pem(bytes).map(|keys| keys.iter().map(VerifyingKey::to_jwk).collect::<Vec<_>>());

    for (name, prefix) in [
        (header::AUTHORIZATION, ""),
        (header::AUTHORIZATION, "Bearer "),
        (header::SEC_WEBSOCKET_PROTOCOL, "base64url.bearer.authorization.k8s.io."),
    ] {
        let Ok(value) = HeaderValue::from_bytes(format!("{prefix}{text}").as_bytes()) else { return };
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let found = RUNTIME.block_on(CHAIN.identify(&Peer::Plain, &headers, "/", &lookup, now));
        if let Ok(user) = found {
            assert!(known(&user), "{user:?} by {text:?}");
        }
    }
}

/// Who has a secret that an input can contain.
fn known(user: &UserInfo) -> bool {
    user.name == "somebody" || user.name == "system:bootstrap:abcdef"
}

/// One bootstrap token is there.
fn lookup(resource: &str, namespace: &str, name: &str) -> Option<Value> {
    let there = (resource, namespace, name) == ("secrets", "kube-system", "bootstrap-token-abcdef");
    there.then(|| {
        json!({
            "metadata": {"name": name, "namespace": namespace},
            "type": "bootstrap.kubernetes.io/token",
            "data": {
                "token-id": "YWJjZGVm",
                "token-secret": "MDEyMzQ1Njc4OWFiY2RlZg==",
                "usage-bootstrap-authentication": "dHJ1ZQ==",
            },
        })
    })
}
