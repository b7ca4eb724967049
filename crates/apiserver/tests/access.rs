//! Denied means denied: the whole way of a request, for users who may not.

use std::sync::Arc;

use apiserver::authentication::{self, jwt, service_account, token_file};
use apiserver::request::UserInfo;
use apiserver::server::{Config, Peer, body};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const KEY: &str = include_str!("../src/authentication/testdata/ec-sec1.pem");
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub fn config(anonymous: bool) -> Config {
    let keys = jwt::VerifyingKey::from_pem(KEY.as_bytes()).unwrap();
    let issuer = service_account::Issuer::new(ISSUER, jwt::SigningKey::from_pem(KEY.as_bytes()).unwrap());
    let verifier = service_account::Verifier::new(vec![ISSUER.into()], vec![ISSUER.into()], keys, true);
    let mut config = Config::new(authentication::Config {
        anonymous,
        request_header: None,
        x509: None,
        service_accounts: Some(Arc::new(verifier)),
        token_file: Some(
            token_file::Tokens::parse("jane-token,jane,1,dev\nroot-token,root,0,system:masters").unwrap(),
        ),
        bootstrap_tokens: false,
        ..authentication::Config::default()
    });
    config.issuer = Some(Arc::new(issuer));
    config.advertise = Some(([192, 0, 2, 7].into(), 6443));
    config.service_cidrs = vec!["10.96.0.0/24".parse().unwrap()];
    config
}

pub async fn cluster(anonymous: bool) -> World {
    let world = World::with(config(anonymous));
    apiserver::bootstrap::run(&world.server).await.unwrap();
    let account = json!({"metadata": {"name": "default"}});
    world.post("/api/v1/namespaces/default/serviceaccounts", account).await.ok();
    world
}

/// A request with headers only, as from a connection without a certificate.
async fn ask(world: &World, method: &str, path: &str, headers: &[(&str, &str)], object: Value) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let bytes = if object.is_null() { Vec::new() } else { object.to_string().into_bytes() };
    let request = request.header("content-type", "application/json").body(body(bytes)).unwrap();
    let response = world.server.handle(Peer::Plain, request).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        code: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

async fn get(world: &World, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("authorization", &bearer)] };
    ask(world, "GET", path, headers, Value::Null).await
}

#[tokio::test]
async fn anonymous_reaches_only_public_information() {
    let world = cluster(true).await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(get(&world, path, "").await.code, 200, "{path}");
    }
    let pods = "/api/v1/namespaces/default/pods";
    let (code, reason, message) = get(&world, pods, "").await.fault();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    for path in ["/api", "/apis", "/metrics", "/openapi/v3", "/readyz/etcd", "/"] {
        let (code, _, message) = get(&world, path, "").await.fault();
        let expect = format!("forbidden: User \"system:anonymous\" cannot get path \"{path}\"");
        assert_eq!((code, message), (403, expect));
    }
}

#[tokio::test]
async fn no_anonymous_requests() {
    let world = cluster(false).await;
    for path in ["/healthz", "/api", "/api/v1/pods", "/nonsense"] {
        let fault = get(&world, path, "").await.fault();
        assert_eq!(fault, (401, "Unauthorized".into(), "Unauthorized".into()), "{path}");
    }
    assert_eq!(get(&world, "/healthz", "jane-token").await.code, 200);
}

#[tokio::test]
async fn tokens() {
    let world = cluster(true).await;
    let pods = "/api/v1/namespaces/default/pods";
    for token in ["nonsense", "a.b.c", "jane-tokenx"] {
        let fault = get(&world, pods, token).await.fault();
        assert_eq!(fault, (401, "Unauthorized".into(), "Unauthorized".into()), "{token}");
    }
    assert_eq!(get(&world, pods, "root-token").await.code, 200);
    let (code, _, message) = get(&world, pods, "jane-token").await.fault();
    assert_eq!(code, 403);
    assert!(message.contains("User \"jane\" cannot list resource \"pods\""), "{message}");
}

#[tokio::test]
async fn service_account_tokens() {
    let world = cluster(true).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = |seconds: i64| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds}})
    };
    for (seconds, why) in [
        (599, "may not specify a duration less than 10 minutes"),
        ((1 << 32) + 1, "may not specify a duration larger than 2^32 seconds"),
    ] {
        let (code, reason, message) = world.post(path, request(seconds)).await.fault();
        assert_eq!((code, reason.as_str()), (422, "Invalid"));
        let expect = format!(
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: {seconds}: {why}"
        );
        assert_eq!(message, expect);
    }
    let made = world.post(path, request(600)).await.ok();
    assert_eq!(
        (&made["metadata"]["name"], &made["spec"]["audiences"]),
        (&json!("default"), &json!([ISSUER]))
    );
    let token = made["status"]["token"].as_str().unwrap().to_owned();
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let bearer = format!("Bearer {token}");
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let who = ask(&world, "POST", me, &[("authorization", &bearer)], review.clone()).await.ok();
    let user = &who["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    // Without the right it is 403, expired it is 401, whatever is public.
    assert_eq!(get(&world, "/api/v1/nodes", &token).await.code, 403);
    world.advance(600 + 61);
    for path in ["/api/v1/nodes", "/healthz"] {
        let fault = get(&world, path, &token).await.fault();
        assert_eq!(fault, (401, "Unauthorized".into(), "Unauthorized".into()), "{path}");
    }
    let fresh = world.post(path, request(600)).await.ok();
    let fresh = fresh["status"]["token"].as_str().unwrap();
    assert_eq!(get(&world, "/healthz", fresh).await.code, 200);
    world.delete("/api/v1/namespaces/default/serviceaccounts/default").await.ok();
    world.advance(11);
    assert_eq!(get(&world, "/healthz", fresh).await.code, 401);
}

#[tokio::test]
async fn pod_bound_tokens() {
    let world = cluster(true).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = world.post("/api/v1/namespaces/default/pods", pod).await.ok();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = |uid: &str| {
        json!({"spec": {"expirationSeconds": 3607, "boundObjectRef":
        {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}})
    };
    let (code, _, message) = world.post(path, request("other")).await.fault();
    assert_eq!(code, 409, "{message}");
    let made = world.post(path, request(pod["metadata"]["uid"].as_str().unwrap())).await.ok();
    let token = made["status"]["token"].as_str().unwrap();
    // What the answer says is an hour; the token itself is good for a year.
    assert_eq!(made["status"]["expirationTimestamp"], "2023-11-14T23:13:27Z");
    world.advance(24 * 3600);
    assert_eq!(get(&world, "/healthz", token).await.code, 200);
    world.delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await.ok();
    world.advance(11);
    assert_eq!(get(&world, "/healthz", token).await.code, 401);
}

#[tokio::test]
async fn token_reviews() {
    let world = cluster(true).await;
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = |token: &str, audiences: Value| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}})
    };
    let made = world
        .post(
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            json!({"spec": {"audiences": ["vault"]}}),
        )
        .await
        .ok();
    let token = made["status"]["token"].as_str().unwrap();
    for (token, audiences, good) in [
        (token, json!(["vault"]), true),
        (token, json!([]), false),
        (token, json!(["bank"]), false),
        ("jane-token", json!([]), true),
        ("jane-token", json!(["vault"]), false),
        ("nonsense", json!([]), false),
    ] {
        let answer = world.post(path, review(token, audiences.clone())).await.ok();
        assert_eq!(answer["status"]["authenticated"] == true, good, "{audiences} {answer}");
        assert_eq!(answer["status"].get("error").is_some(), !good, "{audiences} {answer}");
    }
}

async fn as_user(world: &World, user: &str, method: &str, path: &str, object: Value) -> Answer {
    let root = ("authorization", "Bearer root-token");
    ask(world, method, path, &[root, ("impersonate-user", user)], object).await
}

#[tokio::test]
async fn roles_count_at_once() {
    let world = cluster(true).await;
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(get(&world, pods, "jane-token").await.code, 403);
    let binding = json!({"metadata": {"name": "jane"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup":
        "rbac.authorization.k8s.io"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    world.post(bindings, binding).await.ok();
    // `view` is a sum of roles, so this also shows that sums are made.
    assert_eq!(get(&world, pods, "jane-token").await.code, 200);
    assert_eq!(get(&world, "/api/v1/namespaces/kube-system/pods", "jane-token").await.code, 403);
    assert_eq!(get(&world, "/api/v1/namespaces/default/secrets", "jane-token").await.code, 403);
    let ask =
        json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "pods"}}});
    let may = |world: Arc<World>, user: &'static str| {
        let ask = ask.clone();
        async move {
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            as_user(&world, user, "POST", path, ask).await.ok()["status"].clone()
        }
    };
    let world = Arc::new(world);
    let status = may(world.clone(), "jane").await;
    assert_eq!(status["allowed"], true);
    assert_eq!(
        status["reason"],
        "RBAC: allowed by RoleBinding \"jane/default\" of ClusterRole \"view\" to User \"jane\""
    );
    assert_eq!(may(world.clone(), "joe").await, json!({"allowed": false}));
    let rules = as_user(
        &world,
        "jane",
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        json!({"spec": {"namespace": "default"}}),
    );
    let rules = rules.await.ok();
    let has = |resource: &str| {
        let all = rules["status"]["resourceRules"].as_array().unwrap();
        all.iter().any(|r| r["resources"].as_array().unwrap().contains(&json!(resource)))
    };
    assert!(has("pods") && has("selfsubjectaccessreviews") && !has("secrets"), "{rules}");
    assert_eq!(rules["status"]["incomplete"], false);
    world.delete(&format!("{bindings}/jane")).await.ok();
    assert_eq!(get(&world, pods, "jane-token").await.code, 403);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let world = cluster(true).await;
    let group = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let bind = |role: &str, user: &str| {
        json!({"metadata": {"name": format!("{user}-{role}")},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}})
    };
    world.post(&format!("{group}/rolebindings"), bind("admin", "jane")).await.ok();
    let role = |verbs: Value, resource: &str| {
        json!({"metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]})
    };
    let roles = format!("{group}/roles");
    let refused = as_user(&world, "jane", "POST", &roles, role(json!(["get"]), "nodes")).await.fault();
    assert_eq!((refused.0, refused.1.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.2,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], \
         Verbs:[\"get\"]}"
    );
    as_user(&world, "jane", "POST", &roles, role(json!(["get"]), "pods")).await.ok();
    let bindings = format!("{group}/rolebindings");
    assert_eq!(as_user(&world, "jane", "POST", &bindings, bind("cluster-admin", "joe")).await.code, 403);
    assert_eq!(as_user(&world, "jane", "POST", &bindings, bind("none", "joe")).await.fault().0, 404);
    as_user(&world, "jane", "POST", &bindings, bind("view", "joe")).await.ok();
}

#[tokio::test]
async fn impersonation() {
    let world = cluster(true).await;
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let jane = ("authorization", "Bearer jane-token");
    let root = ("authorization", "Bearer root-token");
    let fault = ask(&world, "POST", me, &[jane, ("impersonate-user", "joe")], review.clone()).await.fault();
    assert_eq!(
        (fault.0, fault.2.as_str()),
        (
            403,
            "selfsubjectreviews.authentication.k8s.io is forbidden: User \"jane\" cannot \
               impersonate-on:user-info:create resource \"selfsubjectreviews\" in API group \
               \"authentication.k8s.io\" at the cluster scope"
        )
    );
    let fault = ask(&world, "POST", me, &[root, ("impersonate-group", "g")], review.clone()).await.fault();
    assert_eq!((fault.0, fault.1.as_str()), (400, "BadRequest"));
    let headers = [
        root,
        ("impersonate-user", "joe"),
        ("impersonate-group", "g"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-scopes", "view"),
    ];
    let who = ask(&world, "POST", me, &headers, review.clone()).await.ok();
    assert_eq!(
        who["status"]["userInfo"],
        json!({"username": "joe", "uid": "7", "groups": ["g", "system:authenticated"], "extra": {"scopes": ["view"]}})
    );
    let account = ("impersonate-user", "system:serviceaccount:default:default");
    let who = ask(&world, "POST", me, &[root, account], review).await.ok();
    assert_eq!(
        who["status"]["userInfo"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
}

#[tokio::test]
async fn kubelets_stay_on_their_node() {
    let world = cluster(true).await;
    let node = || UserInfo::new("system:node:one", &["system:nodes", "system:authenticated"]);
    let call = async |method: http::Method, path: &str, object: Option<Value>| {
        world.server.call(node(), method, path, object.as_ref()).await
    };
    world.post("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "mine"}})).await.ok();
    world.post("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "other"}})).await.ok();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i",
        "envFrom": [{"secretRef": {"name": "mine"}}]}]}});
    let secret = |name: &str| format!("/api/v1/namespaces/default/secrets/{name}");
    assert_eq!(call(http::Method::GET, &secret("mine"), None).await.unwrap_err().code, 403);
    world.post("/api/v1/namespaces/default/pods", pod).await.ok();
    call(http::Method::GET, &secret("mine"), None).await.unwrap();
    let refused = call(http::Method::GET, &secret("other"), None).await.unwrap_err();
    assert_eq!(
        refused.message,
        "secrets \"other\" is forbidden: User \"system:node:one\" cannot get resource \"secrets\" in API group \"\" in \
         the namespace \"default\": no relationship found between node 'one' and this object"
    );
    let node = json!({"metadata": {"name": "one"}});
    call(http::Method::POST, "/api/v1/nodes", Some(node)).await.unwrap();
    let other = json!({"metadata": {"name": "two"}});
    assert_eq!(call(http::Method::POST, "/api/v1/nodes", Some(other)).await.unwrap_err().code, 403);
    call(http::Method::GET, "/api/v1/pods?fieldSelector=spec.nodeName%3Done", None).await.unwrap();
    assert_eq!(call(http::Method::GET, "/api/v1/pods", None).await.unwrap_err().code, 403);
}
