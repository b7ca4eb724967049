//! What is served and how it is asked for: forms of discovery, versions that are off by default, what is too
//! much at once.

use std::sync::Arc;

use apiserver::server::{Peer, Served, body, features::Gates};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::access::{cluster, config};
use crate::world::World;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[tokio::test]
async fn discovery_in_protobuf() {
    let world = cluster(true).await;
    for (path, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/apps", "APIGroup"),
        ("/api/v1", "APIResourceList"),
        ("/apis/apps/v1", "APIResourceList"),
    ] {
        let response = world.raw("GET", path, &[("accept", PROTOBUF)], Vec::new()).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &PROTOBUF.parse().unwrap())
        );
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.starts_with(b"k8s\0"), "{path}");
        let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(has(kind), "{path}");
        // As `kubectl` names what it reads.
        assert!(path != "/apis/apps/v1" || has("deployments/scale"));
    }
    let aggregated = format!("{PROTOBUF};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let response = world.raw("GET", "/apis", &[("accept", &aggregated)], Vec::new()).await;
    assert_eq!(response.headers()["content-type"], aggregated.as_str());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.starts_with(b"k8s\0"));
}

#[tokio::test]
async fn versions_that_are_off() {
    let bundles = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
    let world = cluster(true).await;
    assert_eq!(world.get(bundles).await.code, 404);
    assert_eq!(world.get("/apis/certificates.k8s.io/v1beta1").await.code, 404);

    let mut config = config(true);
    config.gates = Gates::parse("ClusterTrustBundle=true").unwrap();
    config.served =
        Served::parse("certificates.k8s.io/v1beta1,resource.k8s.io/v1beta1", &config.gates).unwrap();
    let world = World::with(config);
    apiserver::bootstrap::run(&world.server).await.unwrap();
    let group = world.get("/apis/certificates.k8s.io").await.ok();
    let versions: Vec<&str> =
        group["versions"].as_array().unwrap().iter().map(|v| v["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert_eq!(world.get(bundles).await.ok()["kind"], "ClusterTrustBundleList");
    let paths = world.get("/openapi/v3").await.ok()["paths"].clone();
    assert!(
        paths["apis/certificates.k8s.io/v1beta1"].is_object()
            && paths["apis/storage.k8s.io/v1beta1"].is_null()
    );
    assert_eq!(world.get("/apis/certificates.k8s.io/v1beta1/podcertificaterequests").await.code, 404);

    // Rules are those of the stable version, and so are the fields that errors name.
    let claim = |request: Value| {
        json!({"apiVersion": "resource.k8s.io/v1beta1", "kind": "ResourceClaim",
        "metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}})
    };
    let beta = "/apis/resource.k8s.io/v1beta1/namespaces/default/resourceclaims";
    for (request, code, field) in [
        (json!({"name": "a"}), 422, "spec.devices.requests[0]"),
        (
            json!({"name": "a", "deviceClassName": "x", "allocationMode": "Some"}),
            422,
            "spec.devices.requests[0].exactly.allocationMode",
        ),
        (json!({"name": "a", "deviceClassName": "x"}), 201, ""),
    ] {
        let answer = world.post(beta, claim(request)).await;
        let body: Value = serde_json::from_str(&answer.text).unwrap();
        let named = body["details"]["causes"][0]["field"].as_str().unwrap_or_default();
        assert_eq!((answer.code, named), (code, field), "{body}");
    }
    let made = world.get(&format!("{beta}/c")).await.ok();
    assert_eq!(made["spec"]["devices"]["requests"][0]["count"], 1);
    let stable = world.get("/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c").await.ok();
    assert_eq!(stable["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"], "x");
}

/// As `system:authenticated` only, so that limits count.
async fn ask(world: &World, path: &str) -> (u16, Value, String) {
    let user = apiserver::request::UserInfo::new("jane", &["system:authenticated"]);
    let request = Request::get(path).body(body("")).unwrap();
    let response = world.server.handle(Peer::Identity(user), request).await;
    let text = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let headers = json!({"schema": text("x-kubernetes-pf-flowschema-uid"),
        "level": text("x-kubernetes-pf-prioritylevel-uid"), "retry": text("retry-after")});
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, headers, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn requests_are_classified() {
    let world = cluster(true).await;
    let group = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let uid = |object: Value| object["metadata"]["uid"].clone();
    let default = uid(world.get(&format!("{group}/flowschemas/global-default")).await.ok());
    let (code, headers, _) = ask(&world, "/version").await;
    assert_eq!((code, &headers["schema"]), (200, &default));
    assert_eq!(ask(&world, "/api/v1/pods").await.1["schema"], default, "403 or not");
    // A schema and a level of one's own count at once, and refuse what is too much.
    let level = json!({"metadata": {"name": "narrow"}, "spec": {"type": "Limited",
        "limited": {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}});
    let level = uid(world.post(&format!("{group}/prioritylevelconfigurations"), level).await.ok());
    let schema = json!({"metadata": {"name": "jane"}, "spec": {"matchingPrecedence": 10,
        "priorityLevelConfiguration": {"name": "narrow"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "jane"}}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/version"]}]}]}});
    let schema = uid(world.post(&format!("{group}/flowschemas"), schema).await.ok());
    let (code, headers, text) = ask(&world, "/version").await;
    assert_eq!(code, 429, "{text}");
    assert_eq!(headers, json!({"schema": schema, "level": level, "retry": "1"}));
    assert_eq!(text, "Too many requests, please try again later.\n");
    assert_eq!(ask(&world, "/healthz").await.0, 200);
    world.delete(&format!("{group}/flowschemas/jane")).await.ok();
    assert_eq!(ask(&world, "/version").await.0, 200);
}

#[tokio::test]
async fn two_limits_without_fairness() {
    let mut config = config(true);
    config.fair = false;
    config.max_in_flight = (1, 1);
    let world = Arc::new(World::with(config));
    apiserver::bootstrap::run(&world.server).await.unwrap();
    // A request whose body does not end holds its place among those that write.
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let slow = futures::stream::once(async move {
        let _ = receiver.await;
        Ok::<_, apiserver::server::BoxError>(http_body::Frame::data(bytes::Bytes::new()))
    });
    let slow = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(slow));
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let jane = || Peer::Identity(apiserver::request::UserInfo::new("jane", &["system:authenticated"]));
    let held = {
        let (world, peer) = (world.clone(), jane());
        tokio::spawn(async move {
            world.server.handle(peer, Request::post(path).body(slow).unwrap()).await.status()
        })
    };
    tokio::task::yield_now().await;
    let again = world.server.handle(jane(), Request::post(path).body(body("{}")).unwrap()).await;
    assert_eq!((again.status().as_u16(), again.headers()["retry-after"].as_bytes()), (429, &b"1"[..]));
    assert_eq!(ask(&world, "/version").await.0, 200, "reading has a limit of its own");
    world.post("/api/v1/namespaces", json!({"metadata": {"name": "masters"}})).await.ok();
    drop(sender);
    assert_eq!(held.await.unwrap(), 400);
    assert!(
        world
            .get("/metrics")
            .await
            .text
            .contains("apiserver_dropped_requests_total{request_kind=\"mutating\"} 1\n")
    );
}
