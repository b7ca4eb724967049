//! Credentials, good and bad: whatever is offered and not good is 401, never anonymous.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer as CaIssuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use serde_json::json;

use super::service_account::{Bound, Issuer, Ref, Request};
use super::*;

const NOW: &str = "2026-11-21T12:00:00Z";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn key() -> String {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem()
}

fn objects(resource: &str, namespace: &str, name: &str) -> Option<Value> {
    let uid = match (resource, namespace, name) {
        ("serviceaccounts", "ns", "sa") => "sa-uid",
        ("pods", "ns", "pod") => "pod-uid",
        ("pods", "ns", "gone") => {
            return Some(
                json!({"metadata": {"uid": "pod-uid", "deletionTimestamp": "2026-11-21T11:58:00Z"}}),
            );
        }
        ("pods", "ns", "going") => {
            return Some(
                json!({"metadata": {"uid": "pod-uid", "deletionTimestamp": "2026-11-21T11:59:30Z"}}),
            );
        }
        ("secrets", "ns", "secret") => "secret-uid",
        ("nodes", "", "node") => "node-uid",
        ("secrets", "kube-system", "bootstrap-token-abcdef") => {
            let encode = |s: &str| base64::engine::general_purpose::STANDARD.encode(s);
            return Some(json!({"type": "bootstrap.kubernetes.io/token", "metadata": {}, "data": {
                "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
                "usage-bootstrap-authentication": encode("true"),
                "expiration": encode("2026-11-21T12:30:00Z"),
                "auth-extra-groups": encode("system:bootstrappers:kubeadm:default-node-token")}}));
        }
        _ => return None,
    };
    Some(json!({"metadata": {"uid": uid}}))
}

fn request() -> Request<'static> {
    Request {
        namespace: "ns",
        service_account: Ref { name: "sa".into(), uid: "sa-uid".into() },
        bound: Bound::Nothing,
        audiences: vec!["api".into()],
        seconds: 3600,
        warn_after: None,
        now: now(),
        jti: "j".into(),
    }
}

fn bound(name: &str, uid: &str) -> Ref {
    Ref { name: name.into(), uid: uid.into() }
}

/// [`Authenticator::identify`], where nobody outside is asked.
fn identify(
    a: &Authenticator,
    peer: &Peer,
    headers: &HeaderMap,
    lookup: &Lookup,
    now: Timestamp,
) -> Result<Arc<UserInfo>, Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(a.identify(peer, headers, "/", lookup, now))
}

fn authenticator(keys: Vec<jwt::VerifyingKey>, anonymous: bool) -> Authenticator {
    let verifier = service_account::Verifier::new(vec![ISSUER.into()], vec!["api".into()], keys, true);
    Authenticator::new(Config {
        anonymous,
        request_header: None,
        x509: None,
        service_accounts: Some(Arc::new(verifier)),
        token_file: Some(token_file::Tokens::parse("secret,jane,42,\"dev,ops\"\nplain,joe,7\n").unwrap()),
        bootstrap_tokens: true,
        ..Config::default()
    })
}

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    headers
}

fn who(a: &Authenticator, token: &str, at: Timestamp) -> Result<String, u16> {
    identify(a, &Peer::Plain, &bearer(token), &objects, at).map(|u| u.name.clone()).map_err(|s| s.code)
}

const SA: &str = "system:serviceaccount:ns:sa";

#[test]
fn service_account_tokens() {
    let pem = key();
    let keys = jwt::VerifyingKey::from_pem(pem.as_bytes()).unwrap();
    let issuer = Issuer::new(ISSUER, jwt::SigningKey::from_pem(pem.as_bytes()).unwrap());
    let foreign = Issuer::new(ISSUER, jwt::SigningKey::from_pem(key().as_bytes()).unwrap());
    let elsewhere = Issuer::new("https://other", jwt::SigningKey::from_pem(pem.as_bytes()).unwrap());
    let pod = |name, uid| Request { bound: Bound::Pod(bound(name, uid), None), ..request() };
    let table = [
        ("plain", issuer.issue(request()), true),
        ("pod", issuer.issue(pod("pod", "pod-uid")), true),
        ("pod that is another one now", issuer.issue(pod("pod", "old-uid")), false),
        ("pod that never was", issuer.issue(pod("none", "pod-uid")), false),
        ("pod deleted two minutes ago", issuer.issue(pod("gone", "pod-uid")), false),
        ("pod deleted just now", issuer.issue(pod("going", "pod-uid")), true),
        (
            "secret",
            issuer.issue(Request { bound: Bound::Secret(bound("secret", "secret-uid")), ..request() }),
            true,
        ),
        (
            "another secret",
            issuer.issue(Request { bound: Bound::Secret(bound("x", "secret-uid")), ..request() }),
            false,
        ),
        ("node", issuer.issue(Request { bound: Bound::Node(bound("node", "node-uid")), ..request() }), true),
        (
            "another node",
            issuer.issue(Request { bound: Bound::Node(bound("node", "x")), ..request() }),
            false,
        ),
        (
            "a pod's node is only a note",
            issuer.issue(Request {
                bound: Bound::Pod(bound("pod", "pod-uid"), Some(bound("away", "x"))),
                ..request()
            }),
            true,
        ),
        ("another account", issuer.issue(Request { service_account: bound("sa", "x"), ..request() }), false),
        (
            "no such account",
            issuer.issue(Request { service_account: bound("y", "sa-uid"), ..request() }),
            false,
        ),
        ("another audience", issuer.issue(Request { audiences: vec!["vault".into()], ..request() }), false),
        ("no audience, as of old", issuer.issue(Request { audiences: vec![], ..request() }), true),
        ("another key", foreign.issue(request()), false),
        ("another issuer", elsewhere.issue(request()), false),
        (
            "from the future",
            issuer.issue(Request { now: now() + SignedDuration::from_mins(5), ..request() }),
            false,
        ),
        ("expired", issuer.issue(Request { now: now() - SignedDuration::from_hours(2), ..request() }), false),
        (
            "expired within the leeway",
            issuer.issue(Request { now: now() - SignedDuration::from_secs(3630), ..request() }),
            true,
        ),
    ];
    for (case, token, good) in table {
        let token = token.unwrap();
        let a = authenticator(keys.clone(), true);
        let expect = if good { Ok(SA.to_owned()) } else { Err(401) };
        assert_eq!(who(&a, &token, now()), expect, "{case}");
        if good {
            assert_eq!(who(&a, &token, now()), expect, "{case}, again");
        }
    }
}

#[test]
fn tampered_tokens() {
    let pem = key();
    let a = authenticator(jwt::VerifyingKey::from_pem(pem.as_bytes()).unwrap(), true);
    let signing = jwt::SigningKey::from_pem(pem.as_bytes()).unwrap();
    let good = Issuer::new(ISSUER, signing).issue(request()).unwrap();
    assert_eq!(who(&a, &good, now()), Ok(SA.into()));
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let other = URL_SAFE_NO_PAD.encode(payload.replace("ns:sa", "kube-system:admin"));
    for (case, token) in [
        ("payload", format!("{}.{other}.{}", parts[0], parts[2])),
        ("alg none", format!("{}.{}.", encode(json!({"alg": "none"})), parts[1])),
        (
            "alg RS256 with an EC key",
            format!("{}.{}.{}", encode(json!({"alg": "RS256"})), parts[1], parts[2]),
        ),
        ("alg HS256", format!("{}.{}.{}", encode(json!({"alg": "HS256"})), parts[1], parts[2])),
        (
            "unknown key id",
            format!("{}.{}.{}", encode(json!({"alg": "ES256", "kid": "x"})), parts[1], parts[2]),
        ),
        ("crit", format!("{}.{}.{}", encode(json!({"alg": "ES256", "crit": ["b64"]})), parts[1], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.x")),
        ("not base64", format!("{}.{}.%%%", parts[0], parts[1])),
        ("garbage", "garbage".into()),
    ] {
        assert_eq!(who(&a, &token, now()), Err(401), "{case}");
    }
}

#[test]
fn a_cached_token_still_expires() {
    let pem = key();
    let a = authenticator(jwt::VerifyingKey::from_pem(pem.as_bytes()).unwrap(), true);
    let issuer = Issuer::new(ISSUER, jwt::SigningKey::from_pem(pem.as_bytes()).unwrap());
    let token = issuer.issue(Request { now: now() - SignedDuration::from_secs(3595), ..request() }).unwrap();
    assert_eq!(who(&a, &token, now()), Ok(SA.into()));
    let gone = |_: &str, _: &str, _: &str| None;
    let at = |seconds| now() + SignedDuration::from_secs(seconds);
    let ask = |at| identify(&a, &Peer::Plain, &bearer(&token), &gone, at).map(|_| ());
    // Kept for the five seconds that it has, not for ten.
    assert!(ask(at(4)).is_ok());
    assert!(ask(at(6)).is_err());
}

#[test]
fn keys_rotate() {
    let (old, new) = (key(), key());
    let mut keys = jwt::VerifyingKey::from_pem(old.as_bytes()).unwrap();
    keys.extend(jwt::VerifyingKey::from_pem(new.as_bytes()).unwrap());
    let a = authenticator(keys.clone(), true);
    for pem in [&old, &new] {
        let issuer = Issuer::new(ISSUER, jwt::SigningKey::from_pem(pem.as_bytes()).unwrap());
        assert_eq!(who(&a, &issuer.issue(request()).unwrap(), now()), Ok(SA.into()));
    }
    a.config.service_accounts.as_ref().unwrap().rotate(keys[1..].to_vec());
    let issuer = Issuer::new(ISSUER, jwt::SigningKey::from_pem(old.as_bytes()).unwrap());
    assert_eq!(who(&a, &issuer.issue(request()).unwrap(), now()), Err(401));
}

/// Keys in every form that openssl writes; the ids are SHA-256 sums that openssl gave for the public keys.
#[test]
fn key_files() {
    const RSA: &str = "7Ypuz-cPvuFWmQJIGS_muyVp24QmXNXgy9qhGWwEMkQ";
    const EC: &str = "crdiCgnIVatY_sxGxnAwvkmtptJ9IY2mZl2QuYcJDNg";
    for (pem, private, id) in [
        (include_str!("testdata/rsa-pkcs1.pem"), true, RSA),
        (include_str!("testdata/rsa-pkcs8.pem"), true, RSA),
        (include_str!("testdata/rsa-public.pem"), false, RSA),
        (include_str!("testdata/ec-sec1.pem"), true, EC),
        (include_str!("testdata/ec-public.pem"), false, EC),
    ] {
        let public = jwt::VerifyingKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(public.iter().map(|k| k.id.as_str()).collect::<Vec<_>>(), [id]);
        let jwk = public[0].to_jwk();
        let fields = if id == RSA { ["n", "e"] } else { ["x", "y"] };
        assert!(fields.iter().all(|f| jwk[f].as_str().is_some_and(|v| !v.is_empty())), "{jwk}");
        if private {
            let issuer = Issuer::new(ISSUER, jwt::SigningKey::from_pem(pem.as_bytes()).unwrap());
            let token = issuer.issue(request()).unwrap();
            assert_eq!(who(&authenticator(public, true), &token, now()), Ok(SA.into()));
        }
    }
}

#[test]
fn key_ids_and_forms() {
    let pem = key();
    let signing = jwt::SigningKey::from_pem(pem.as_bytes()).unwrap();
    let pair = KeyPair::from_pem(&pem).unwrap();
    let public = pair.public_key_pem();
    let from_public = jwt::VerifyingKey::from_pem(public.as_bytes()).unwrap();
    assert_eq!(from_public, std::slice::from_ref(&signing.public));
    let expect = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
    assert_eq!(signing.public.id, expect);
    let jwk = signing.public.to_jwk();
    assert_eq!(
        (jwk["kty"].as_str(), jwk["crv"].as_str(), jwk["kid"].as_str()),
        (Some("EC"), Some("P-256"), Some(&*expect))
    );
    assert!(jwt::VerifyingKey::from_pem(b"nothing").is_err());
}

#[test]
fn headers() {
    let a = authenticator(Vec::new(), true);
    let strict = authenticator(Vec::new(), false);
    let none = |a: &Authenticator, h: &HeaderMap| {
        identify(a, &Peer::Plain, h, &objects, now())
            .map(|u| (u.name.clone(), u.groups.clone()))
            .map_err(|s| s.code)
    };
    let groups = |g: &[&str]| g.iter().map(|g| g.to_string()).collect::<Vec<_>>();
    let anonymous = Ok((ANONYMOUS.to_owned(), groups(&[UNAUTHENTICATED])));
    assert_eq!(none(&a, &HeaderMap::new()), anonymous);
    assert_eq!(none(&strict, &HeaderMap::new()), Err(401));
    let header = |value: &str| {
        let mut h = HeaderMap::new();
        h.insert(header::AUTHORIZATION, value.parse().unwrap());
        h
    };
    for (value, expect) in [
        ("Bearer secret", Ok(("jane".to_owned(), groups(&["dev", "ops", AUTHENTICATED])))),
        ("bearer plain", Ok(("joe".to_owned(), groups(&[AUTHENTICATED])))),
        ("Bearer nonsense", Err(401)),
        ("Bearer ", anonymous.clone()),
        ("Basic amFuZTpzZWNyZXQ=", anonymous.clone()),
    ] {
        assert_eq!(none(&a, &header(value)), expect, "{value}");
    }
    let status = identify(&a, &Peer::Plain, &header("Bearer nonsense"), &objects, now()).unwrap_err();
    assert_eq!((status.code, &*status.reason, &*status.message), (401, "Unauthorized", "Unauthorized"));
    let mut socket = HeaderMap::new();
    socket.insert(header::UPGRADE, "websocket".parse().unwrap());
    let protocols = format!(
        "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{}",
        URL_SAFE_NO_PAD.encode("secret")
    );
    socket.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.parse().unwrap());
    assert_eq!(none(&a, &socket).unwrap().0, "jane");
    let inside = Peer::Identity(UserInfo::new("system:kube-scheduler", &[AUTHENTICATED]));
    let found = identify(&a, &inside, &header("Bearer nonsense"), &objects, now()).unwrap();
    assert_eq!(found.name, "system:kube-scheduler");
}

#[test]
fn bootstrap_tokens() {
    let a = authenticator(Vec::new(), true);
    let at = |minutes| now() + SignedDuration::from_mins(minutes);
    let good = Ok("system:bootstrap:abcdef".to_owned());
    assert_eq!(who(&a, "abcdef.0123456789abcdef", now()), good);
    assert_eq!(who(&a, "abcdef.0123456789abcdee", now()), Err(401));
    assert_eq!(who(&a, "abcdeg.0123456789abcdef", now()), Err(401));
    assert_eq!(who(&a, "abcdef.0123456789abcdef", at(31)), Err(401));
    let user = identify(&a, &Peer::Plain, &bearer("abcdef.0123456789abcdef"), &objects, now()).unwrap();
    assert_eq!(
        user.groups,
        ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", AUTHENTICATED]
    );
}

#[test]
fn what_a_token_says_of_its_pod() {
    let pem = key();
    let a = authenticator(jwt::VerifyingKey::from_pem(pem.as_bytes()).unwrap(), true);
    let issuer = Issuer::new(ISSUER, jwt::SigningKey::from_pem(pem.as_bytes()).unwrap());
    let bound = Bound::Pod(bound("pod", "pod-uid"), Some(bound("node", "node-uid")));
    let token = issuer
        .issue(Request {
            bound,
            seconds: service_account::EXTENDED_SECONDS,
            warn_after: Some(3607),
            ..request()
        })
        .unwrap();
    let claims: Value = jwt::unverified_claims(&token).unwrap();
    let t = now().as_second();
    assert_eq!(
        claims,
        json!({"aud": ["api"], "exp": t + 31_536_000, "iat": t, "iss": ISSUER, "jti": "j", "nbf": t, "sub": SA,
            "kubernetes.io": {"namespace": "ns", "node": {"name": "node", "uid": "node-uid"},
                "pod": {"name": "pod", "uid": "pod-uid"}, "serviceaccount": {"name": "sa", "uid": "sa-uid"},
                "warnafter": t + 3607}})
    );
    let user = identify(&a, &Peer::Plain, &bearer(&token), &objects, now()).unwrap();
    assert_eq!(user.uid, "sa-uid");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]);
    let extra = |k: &str| user.extra[&format!("authentication.kubernetes.io/{k}")].clone();
    assert_eq!(extra("pod-name"), ["pod"]);
    assert_eq!(extra("node-uid"), ["node-uid"]);
    assert_eq!(extra("credential-id"), ["JTI=j"]);
}

struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "ca");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { params, key, pem }
}

fn client(ca: &Ca, name: &str, usage: ExtendedKeyUsagePurpose, years: (i32, i32)) -> Peer {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![usage];
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let issuer = CaIssuer::from_params(&ca.params, &ca.key);
    let cert = params.signed_by(&key, &issuer).unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    Peer::Tls { address, certificates: vec![cert.der().to_vec()].into() }
}

#[test]
fn client_certificates() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (own, other) = (ca(), ca());
    let verifier = Arc::new(x509::Verifier::new(own.pem.as_bytes()).unwrap());
    let a = Authenticator::new(Config {
        anonymous: true,
        request_header: None,
        x509: Some(verifier.clone()),
        service_accounts: None,
        token_file: Some(token_file::Tokens::parse("secret,jane,42").unwrap()),
        bootstrap_tokens: false,
        ..Config::default()
    });
    let ask = |peer: &Peer, headers: &HeaderMap| {
        identify(&a, peer, headers, &objects, now()).map(|u| u.name.clone()).map_err(|s| s.code)
    };
    let none = HeaderMap::new();
    let good = client(&own, "admin", ClientAuth, (2026, 2030));
    let table = [
        ("good", &good, &none, Ok("admin".to_owned())),
        ("server usage", &client(&own, "admin", ServerAuth, (2026, 2030)), &none, Err(401)),
        ("expired", &client(&own, "admin", ClientAuth, (2020, 2021)), &none, Err(401)),
        ("not yet", &client(&own, "admin", ClientAuth, (2028, 2030)), &none, Err(401)),
        ("another CA", &client(&other, "admin", ClientAuth, (2026, 2030)), &none, Err(401)),
        ("nobody", &client(&own, "", ClientAuth, (2026, 2030)), &none, Ok(ANONYMOUS.to_owned())),
        (
            "bad, but a good token",
            &client(&other, "admin", ClientAuth, (2026, 2030)),
            &bearer("secret"),
            Ok("jane".into()),
        ),
        ("good, and a bad token", &good, &bearer("x"), Ok("admin".to_owned())),
    ];
    for (case, peer, headers, expect) in table {
        assert_eq!(ask(peer, headers), expect, "{case}");
        assert_eq!(ask(peer, headers), expect, "{case}, again");
    }
    let user = identify(&a, &good, &none, &objects, now()).unwrap();
    assert_eq!(user.groups, ["system:masters", AUTHENTICATED]);
    assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    // Known or not, a certificate of a CA that is trusted no more is worth nothing.
    verifier.rotate(other.pem.as_bytes()).unwrap();
    assert_eq!(ask(&good, &none), Err(401));
}
