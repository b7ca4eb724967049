//! Programs outside of the cluster that know tokens and rights: an issuer whose keys are found and rotated, and webhooks.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use apiserver::authentication::{self, configuration, jwt, oidc, token_webhook};
use apiserver::authorization::configuration::WebhookSettings;
use apiserver::authorization::{Asked, Mode, webhook};
use apiserver::remote::Endpoint;
use apiserver::server::{Config, Peer, body, tls};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::tls::Authority;
use crate::world::{Answer, World};

/// What the program says, and what it was asked.
#[derive(Default)]
struct Said {
    keys: Vec<Value>,
    asked: Vec<(String, Value)>,
}

struct Outside {
    url: String,
    pem: String,
    said: Arc<Mutex<Said>>,
}

impl Outside {
    async fn new() -> Self {
        let authority = Authority::new();
        let (chain, key) = authority.certificate();
        let config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let said = Arc::new(Mutex::new(Said::default()));
        let (own, state) = (url.clone(), said.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, own, state) = (acceptor.clone(), own.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, own.clone(), state.clone()));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, pem: authority.pem(), said }
    }

    fn endpoint(&self, path: &str) -> Endpoint {
        Endpoint::of(&format!("{}/{path}", self.url), Some(&self.pem)).unwrap()
    }

    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.said.lock().unwrap().asked)
    }
}

async fn answer(
    request: Request<Incoming>,
    own: String,
    state: Arc<Mutex<Said>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut said = state.lock().unwrap();
    said.asked.push((path.clone(), review.clone()));
    let spec = &review["spec"];
    let (code, answer) = match path.as_str() {
        "/.well-known/openid-configuration" => {
            (200, json!({"issuer": own, "jwks_uri": format!("{own}/keys")}))
        }
        "/keys" => (200, json!({ "keys": said.keys })),
        "/tokens" => match spec["token"].as_str() {
            Some("outsider") => {
                let user = json!({"username": "out", "uid": "7", "groups": ["g"], "extra": {"k": ["v"]}});
                (200, json!({"status": {"authenticated": true, "user": user}}))
            }
            Some("other") => (200, json!({"status": {"authenticated": true, "audiences": ["elsewhere"]}})),
            _ => (200, json!({"status": {"authenticated": false, "error": "nobody"}})),
        },
        "/access" => match spec["user"].as_str() {
            Some("yes") => (200, json!({"status": {"allowed": true, "reason": "so it is"}})),
            Some("never") => (200, json!({"status": {"allowed": false, "denied": true, "reason": "never"}})),
            Some("both") => (200, json!({"status": {"allowed": true, "denied": true}})),
            Some("ill") => (400, json!({})),
            _ => (200, json!({"status": {"allowed": false, "reason": "who?"}})),
        },
        _ => (404, json!({})),
    };
    let answer = Response::builder().status(code).body(Full::new(Bytes::from(answer.to_string())));
    Ok(answer.unwrap())
}

fn key() -> jwt::SigningKey {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    jwt::SigningKey::from_pem(key.serialize_pem().as_bytes()).unwrap()
}

async fn send(world: &World, method: &str, path: &str, token: &str, object: Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(body(if object.is_null() { String::new() } else { object.to_string() }))
        .unwrap();
    let (parts, body) = world.server.handle(Peer::Plain, request).await.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { code: parts.status.as_u16(), headers: parts.headers, text }
}

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Whom the server takes the bearer of a token for.
async fn who(world: &World, token: &str) -> Option<Value> {
    let answer = send(world, "POST", WHOAMI, token, json!({})).await;
    match answer.code {
        201 => Some(answer.json()["status"]["userInfo"].clone()),
        401 => None,
        code => panic!("{code}: {}", answer.text),
    }
}

fn believing(config: &str, outside: &Outside, own: &[String]) -> Result<Vec<Arc<oidc::Issuer>>, String> {
    let indented = outside.pem.replace('\n', "\n        ");
    let text = config.replace("URL", &outside.url).replace("PEM", &format!("|\n        {indented}"));
    let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{text}");
    let config = configuration::Configuration::parse(&text).map_err(|e| e.to_string())?;
    let all: Vec<String> = oidc::keys::ALGORITHMS.iter().map(|name| name.to_string()).collect();
    let compiled = config.compile(own).map_err(|e| e.to_string())?;
    let issuer = |(settings, mapper)| oidc::Issuer::new(&settings, mapper, &all).map(Arc::new);
    compiled.into_iter().map(issuer).collect()
}

const ISSUER: &str = "jwt:
- issuer:
    url: URL
    audiences: [us, them]
    audienceMatchPolicy: MatchAny
    certificateAuthority: PEM
  claimValidationRules:
  - {expression: 'claims.hd == \"example.org\"', message: 'not of ours'}
  - {claim: kind, requiredValue: person}
  claimMappings:
    username: {expression: 'claims.sub + (claims.?admin.orValue(false) ? \":admin\" : \"\")'}
    groups: {claim: roles, prefix: 'oidc:'}
    uid: {claim: uid}
    extra: [{key: example.org/tenant, valueExpression: 'claims.tenant__dot__id'}]
  userValidationRules:
  - {expression: '!user.username.startsWith(\"system:\")', message: 'reserved'}
";

#[tokio::test]
async fn issuers() {
    let outside = Outside::new().await;
    let (first, second) = (key(), key());
    outside.said.lock().unwrap().keys = vec![first.public.to_jwk(), json!({"kty": "oct", "k": "AA"})];
    let mut config = Config::new(authentication::Config {
        issuers: believing(ISSUER, &outside, &[]).unwrap(),
        ..authentication::Config::default()
    });
    config.authorization = vec![Mode::AlwaysAllow.into()];
    let world = World::with(config);
    let claims = |more: Value| {
        let mut claims = json!({
            "iss": outside.url, "aud": "us", "exp": 1_700_003_600, "sub": "jane", "uid": "u", "jti": "j",
            "hd": "example.org", "kind": "person", "roles": ["dev", "ops"], "tenant.id": ["t"],
        });
        for (key, value) in more.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    };
    let expect = json!({
        "username": "jane", "uid": "u", "groups": ["oidc:dev", "oidc:ops", "system:authenticated"],
        "extra": {"authentication.kubernetes.io/credential-id": ["JTI=j"], "example.org/tenant": ["t"]},
    });
    let good = first.sign(&claims(json!({}))).unwrap();
    assert_eq!(who(&world, &good).await, Some(expect.clone()));
    for (more, name) in [
        (json!({"admin": true, "roles": "one"}), Some("jane:admin")),
        (json!({"aud": ["x", "them"]}), Some("jane")),
        (json!({"aud": ["x"]}), None),
        (json!({"exp": 1_700_000_000}), None),
        (json!({"exp": null}), None),
        (json!({"nbf": 1_700_000_200}), Some("jane")),
        (json!({"nbf": 1_700_000_400}), None),
        (json!({"iss": "https://elsewhere"}), None),
        (json!({"hd": "example.com"}), None),
        (json!({"kind": "machine"}), None),
        (json!({"sub": "system:admin"}), None),
        (json!({"sub": ""}), None),
        (json!({"sub": 7}), None),
        (json!({"roles": 7}), None),
    ] {
        let found = who(&world, &first.sign(&claims(more.clone())).unwrap()).await;
        assert_eq!(found.as_ref().and_then(|user| user["username"].as_str()), name, "{more}");
    }
    // Discovered once, and the keys fetched once.
    let paths: Vec<String> = outside.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/.well-known/openid-configuration", "/keys"]);
    // A key that is not known is looked for each time, and once it is published believed.
    let rotated = second.sign(&claims(json!({}))).unwrap();
    assert_eq!(who(&world, &rotated).await, None);
    outside.said.lock().unwrap().keys = vec![second.public.to_jwk()];
    assert_eq!(who(&world, &rotated).await, Some(expect));
    assert_eq!(outside.asked().len(), 2);
    // What was found good a moment ago still is, and then no longer.
    assert!(who(&world, &good).await.is_some());
    world.advance(11);
    assert_eq!(who(&world, &good).await, None);
    let forged = rotated.rsplit_once('.').unwrap().0.to_owned() + ".AAAA";
    assert_eq!(who(&world, &forged).await, None);
    // Others are believed, and nobody without a token but at one path.
    let condition = configuration::AnonymousCondition { path: "/livez/ping".into() };
    let anonymous = configuration::Anonymous { enabled: true, conditions: vec![condition] };
    world.server.authenticator.reconfigure(Vec::new(), anonymous);
    assert_eq!(who(&world, &rotated).await, None);
    for (path, code) in [("/livez/ping", 200), ("/livez", 401), ("/version", 401)] {
        let request = Request::get(path).body(body("")).unwrap();
        assert_eq!(world.server.handle(Peer::Plain, request).await.status(), code, "{path}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_issuers() {
    let outside = Outside::new().await;
    let head = "jwt: [{issuer: {url: 'https://i', audiences: [a]}, claimMappings: {username: ";
    let table = [
        (
            "jwt: [{}]".to_owned(),
            "[jwt[0].issuer.url: Required value, jwt[0].issuer.audiences: Required value: at least one \
          jwt[0].issuer.audiences is required, jwt[0].claimMappings.username: Required value: claim or expression is required]",
        ),
        (
            format!("{head}{{claim: sub}}}}}}]"),
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required",
        ),
        (format!("{head}{{claim: sub, expression: a}}}}}}]"), "claim and expression can't both be set"),
        (format!("{head}{{expression: claims.email}}}}}}]"), "claims.email_verified must be used in"),
        (
            format!("{head}{{expression: 'claims.'}}}}}}]"),
            "compilation failed: ERROR: <input>:1:8: Syntax error",
        ),
        (
            format!(
                "{head}{{claim: sub, prefix: ''}}, extra: [{{key: K8s.io/a, valueExpression: 'x'}}]}}}}]"
            ),
            "must be lowercase",
        ),
        (
            format!(
                "{head}{{claim: sub, prefix: ''}}}}, claimValidationRules: [{{expression: claims.a}}]}}]"
            ),
            "jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.a\": must evaluate to bool",
        ),
        (
            format!(
                "{head}{{claim: sub, prefix: ''}}}}, userValidationRules: [{{expression: user.nam == ''}}]}}]"
            ),
            "undefined field 'nam'",
        ),
        (
            "anonymous: {enabled: false, conditions: [{path: /a}]}".into(),
            "enabled should be set to true when conditions",
        ),
        ("jwt: [{issuer: {urls: a}}]".into(), "strict decoding error: unknown field"),
    ];
    for (text, expect) in table {
        let found = believing(&text, &outside, &[]).err().unwrap_or_default();
        assert!(found.contains(expect), "{text}: {found}");
    }
}

#[tokio::test]
async fn tokens_that_a_webhook_knows() {
    let outside = Outside::new().await;
    let own = vec!["api".to_owned()];
    let holds = jiff::SignedDuration::from_secs(120);
    let hook = token_webhook::Webhook::new(outside.endpoint("tokens"), "v1", holds, own).unwrap();
    let mut config =
        Config::new(authentication::Config { webhook: Some(hook), ..authentication::Config::default() });
    config.authorization = vec![Mode::AlwaysAllow.into()];
    let world = World::with(config);
    let expect = json!({
        "username": "out", "uid": "7", "groups": ["g", "system:authenticated"], "extra": {"k": ["v"]},
    });
    for _ in 0..2 {
        assert_eq!(who(&world, "outsider").await, Some(expect.clone()));
        assert_eq!(who(&world, "nobody").await, None);
    }
    let asked = outside.asked();
    assert_eq!(asked.len(), 2, "both answers are remembered");
    assert_eq!(
        (&asked[0].1["apiVersion"], &asked[0].1["spec"]["token"]),
        (&json!("authentication.k8s.io/v1"), &json!("outsider"))
    );
    world.advance(121);
    assert!(who(&world, "outsider").await.is_some());
    assert_eq!(outside.asked().len(), 1);
    let review = |token: &str, audience: &str| json!({"spec": {"token": token, "audiences": [audience]}});
    for (token, audience, authenticated) in [
        ("outsider", "api", true),
        ("outsider", "x", false),
        ("other", "elsewhere", true),
        ("other", "api", false),
    ] {
        let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
        let answer = send(&world, "POST", reviews, "outsider", review(token, audience)).await.ok();
        assert_eq!(
            answer["status"]["authenticated"].as_bool().unwrap_or_default(),
            authenticated,
            "{token} {audience}"
        );
    }
}

#[tokio::test]
async fn rights_that_a_webhook_knows() {
    let outside = Outside::new().await;
    let hook = |policy: &str, condition: &str, path: &str| {
        let mut settings = WebhookSettings::of_flags(
            "",
            "v1",
            std::time::Duration::from_secs(60),
            std::time::Duration::ZERO,
        );
        settings.failure_policy = policy.into();
        let conditions = match condition {
            "" => Vec::new(),
            source => vec![webhook::Condition::compile(source).unwrap()],
        };
        Asked::Webhook(Arc::new(webhook::Webhook::new(
            "w".into(),
            outside.endpoint(path),
            settings,
            conditions,
        )))
    };
    let tokens = ["yes", "never", "both", "ill", "else"].map(|name| format!("{name},{name},0"));
    let mut config = Config::new(authentication::Config {
        token_file: authentication::token_file::Tokens::parse(&tokens.join("\n")).ok(),
        ..authentication::Config::default()
    });
    config.authorization = vec![hook("NoOpinion", "", "access")];
    let world = World::with(config);
    let maps = "/api/v1/namespaces/n/configmaps?labelSelector=a%3Db&fieldSelector=metadata.name%3Dx";
    for (user, code, words) in [
        ("yes", 200, ""),
        ("never", 403, "in the namespace \\\"n\\\": never"),
        ("both", 500, "both allow and deny response"),
        ("ill", 500, "Internal Server Error: \"/api/v1/namespaces/n/configmaps\": Post"),
        ("else", 403, "who?"),
    ] {
        let answer = send(&world, "GET", maps, user, Value::Null).await;
        assert_eq!(answer.code, code, "{user}: {}", answer.text);
        assert!(words.is_empty() || answer.text.contains(words), "{user}: {}", answer.text);
    }
    let asked = outside.asked();
    assert_eq!(
        asked[0].1["spec"],
        json!({
            "resourceAttributes": {
                "namespace": "n", "verb": "list", "version": "v1", "resource": "configmaps", "name": "x",
                "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["x"]}]},
                "labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]},
            },
            "user": "yes", "groups": ["system:authenticated"], "uid": "0",
        })
    );
    // Good news hold for a while, bad ones are asked for again.
    for user in ["yes", "else"] {
        send(&world, "GET", maps, user, Value::Null).await;
    }
    assert_eq!(outside.asked().len(), 1);
    let access =
        |user: &str| json!({"spec": {"user": user, "nonResourceAttributes": {"path": "/x", "verb": "get"}}});
    for (user, expect) in [
        ("yes", json!({"allowed": true, "reason": "so it is"})),
        ("never", json!({"allowed": false, "denied": true, "reason": "never"})),
    ] {
        let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = send(&world, "POST", reviews, "yes", access(user)).await.ok();
        assert_eq!(answer["status"], expect, "{user}");
    }
    outside.asked();
    for (policy, condition, path, code, calls) in [
        ("Deny", "", "none", 500, 1),
        ("Deny", "request.user == 'somebody'", "access", 200, 0),
        ("Deny", "request.resourceAttributes.verb == 'get'", "access", 200, 0),
        (
            "Deny",
            "request.resourceAttributes.fieldSelector.requirements[0].key == 'metadata.name'",
            "access",
            403,
            1,
        ),
        ("Deny", "request.nonResourceAttributes.path == '/x'", "access", 500, 0),
        ("NoOpinion", "request.nonResourceAttributes.path == '/x'", "access", 200, 0),
    ] {
        let asked = vec![hook(policy, condition, path), Mode::AlwaysAllow.into()];
        world.server.authorizer.reconfigure(asked);
        let answer = send(&world, "GET", maps, "never", Value::Null).await;
        assert_eq!(
            (answer.code, outside.asked().len()),
            (code, calls),
            "{policy} {condition}: {}",
            answer.text
        );
    }
    for (source, why) in [
        ("request.user", "must evaluate to bool but got string"),
        ("request.usr == ''", "compilation failed: ERROR: <input>:1:8: undefined field 'usr'"),
    ] {
        let found = webhook::Condition::compile(source).err().unwrap();
        assert!(found.contains(why), "{found}");
    }
}
