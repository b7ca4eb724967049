//! Admission through the whole server: defaults and limits of a namespace, quotas under many writers, Pod Security.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use apimachinery::clock::Entropy;
use apiserver::authentication;
use apiserver::request::UserInfo;
use apiserver::server::{ApiServer, Config, Peer, body};
use futures::future::join_all;
use http::Request;
use serde_json::{Value, json};

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}]}})
}

/// A quota that its controller has taken note of.
async fn quota(w: &World, name: &str, spec: Value) {
    let hard = spec["hard"].clone();
    w.post(QUOTAS, json!({"metadata": {"name": name}, "spec": spec})).await.ok();
    let used: serde_json::Map<String, Value> =
        hard.as_object().unwrap().keys().map(|key| (key.clone(), json!("0"))).collect();
    let status = json!({"status": {"hard": hard, "used": used}});
    w.patch("merge", &format!("{QUOTAS}/{name}/status"), status).await.ok();
}

async fn used(w: &World, name: &str) -> Value {
    w.get(&format!("{QUOTAS}/{name}")).await.ok()["status"]["used"].clone()
}

#[tokio::test]
async fn limits_of_a_namespace() {
    let w = World::new().await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}},
        {"type": "Pod", "min": {"memory": "1Mi"}}]}});
    w.post("/api/v1/namespaces/default/limitranges", range).await.ok();
    let fault = w.post(PODS, pod("a", "2")).await.fault();
    assert_eq!(
        (fault.0, &*fault.2),
        (
            403,
            "pods \"a\" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, minimum memory usage per Pod \
             is 1Mi.  No request is specified]"
        )
    );
    let mut plain = pod("b", "1");
    plain["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "1Mi"}});
    let made = w.post(PODS, plain).await.ok();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "200m"}})
    );
    assert_eq!(made["status"]["qosClass"], "Burstable");
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
}

#[tokio::test]
async fn quotas() {
    let w = World::new().await;
    // Nobody has counted yet.
    let hard = json!({"hard": {"pods": "2", "requests.cpu": "1"}});
    w.post(QUOTAS, json!({"metadata": {"name": "new"}, "spec": hard})).await.ok();
    w.post(PODS, pod("free", "1")).await.ok();
    w.delete(&format!("{PODS}/free")).await.ok();
    quota(&w, "q", json!({"hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "1"}})).await;

    let dry = format!("{PODS}?dryRun=All");
    w.post(&dry, pod("a", "600m")).await.ok();
    assert_eq!(used(&w, "q").await, json!({"count/configmaps": "0", "pods": "0", "requests.cpu": "0"}));
    w.post(PODS, pod("a", "600m")).await.ok();
    assert_eq!(used(&w, "q").await, json!({"count/configmaps": "0", "pods": "1", "requests.cpu": "600m"}));
    let fault = w.post(PODS, pod("b", "500m")).await.fault();
    assert_eq!(
        (fault.0, &*fault.1, &*fault.2),
        (
            403,
            "Forbidden",
            "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: \
             requests.cpu=1"
        )
    );
    assert_eq!(w.post(&dry, pod("b", "500m")).await.code, 403);
    let plain = json!({"metadata": {"name": "b"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let fault = w.post(PODS, plain).await.fault();
    assert_eq!(fault.2, "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c");

    let maps = "/api/v1/namespaces/default/configmaps";
    w.post(maps, json!({"metadata": {"generateName": "m-"}})).await.ok();
    let fault = w.post(maps, json!({"metadata": {"generateName": "m-"}})).await.fault();
    assert!(
        fault.2.ends_with(
            "requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"
        )
    );

    // An update costs the difference.
    quota(&w, "s", json!({"hard": {"services": "5", "services.nodeports": "1"}})).await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]}});
    w.post(services, service).await.ok();
    assert_eq!(used(&w, "s").await, json!({"services": "1", "services.nodeports": "0"}));
    let path = format!("{services}/s");
    let fault = w.patch("merge", &path, json!({"spec": {"type": "NodePort"}})).await.fault();
    assert_eq!(
        fault.2,
        "services \"s\" is forbidden: exceeded quota: s, requested: services.nodeports=2, used: services.nodeports=0, \
         limited: services.nodeports=1"
    );
    let one = json!({"spec": {"type": "NodePort", "ports": [{"port": 1, "name": "a"}]}});
    w.patch("merge", &path, one).await.ok();
    assert_eq!(used(&w, "s").await, json!({"services": "1", "services.nodeports": "1"}));
}

/// Random numbers besides those of the world's own server.
struct Other(AtomicU64);

impl Entropy for Other {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.0.fetch_add(0x2545_f491_4f6c_dd1d, Ordering::Relaxed);
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A second server on the world's store.
fn another(w: &World) -> Arc<ApiServer> {
    let authentication = authentication::Config {
        anonymous: true,
        request_header: None,
        x509: None,
        service_accounts: None,
        token_file: None,
        bootstrap_tokens: false,
        ..authentication::Config::default()
    };
    let config = Config::new(authentication);
    ApiServer::build(config, w.store.clone(), w.clock.clone(), Arc::new(Other(AtomicU64::new(7))))
}

/// The code of a create.
async fn post(server: &Arc<ApiServer>, path: &str, object: &Value) -> u16 {
    let admin = UserInfo::new("admin", &["system:masters", "system:authenticated"]);
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(body(object.to_string().into_bytes())).unwrap();
    server.handle(Peer::Identity(admin), request).await.status().as_u16()
}

/// Many writers at once never get more than there is, and get all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn quotas_are_exact() {
    let w = World::new().await;
    quota(&w, "count", json!({"hard": {"pods": "50"}})).await;
    quota(&w, "cpu", json!({"hard": {"requests.cpu": "4"}})).await;
    // The second server knows nothing of the line before the first one.
    let other = another(&w);
    let pods: Vec<Value> = (0..120).map(|i| pod(&format!("p{i}"), "100m")).collect();
    let servers = [&w.server, &other].into_iter().cycle();
    let codes = join_all(servers.zip(&pods).map(|(server, pod)| post(server, PODS, pod))).await;
    let made = codes.iter().filter(|code| **code == 201).count();
    let refused = codes.iter().filter(|code| **code == 403).count();
    let stored = w.get(PODS).await.ok()["items"].as_array().unwrap().len();
    assert_eq!(stored, made);
    assert!(made <= 40, "{made}");
    // Who lost too many races to the other server is told so, and may have been charged.
    assert_eq!(made + refused + codes.iter().filter(|code| **code == 409).count(), 120, "{codes:?}");
    let cpu = used(&w, "cpu").await["requests.cpu"].as_str().unwrap().to_owned();
    let cpu = apimachinery::quantity::Quantity::parse(&cpu).unwrap().milli_value();
    assert!(cpu <= 4000 && cpu >= i64::try_from(made).unwrap() * 100, "{cpu} {made}");
}

/// One server alone: exactly what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn quotas_of_one_server_are_exact() {
    let w = World::new().await;
    quota(&w, "cpu", json!({"hard": {"requests.cpu": "4"}})).await;
    let pods: Vec<Value> = (0..120).map(|i| pod(&format!("p{i}"), "100m")).collect();
    let codes = join_all(pods.iter().map(|pod| post(&w.server, PODS, pod))).await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 40, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 403).count(), 80, "{codes:?}");
    assert_eq!(used(&w, "cpu").await, json!({"requests.cpu": "4"}));
}

#[tokio::test]
async fn pod_security() {
    let w = World::new().await;
    let namespace = "/api/v1/namespaces/default";
    let host = |name: &str| json!({"metadata": {"name": name}, "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}});
    w.post(PODS, host("before")).await.ok();
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let labelled = w.patch("merge", namespace, labels).await;
    assert_eq!(labelled.code, 200, "{}", labelled.text);
    let warnings: Vec<&str> =
        labelled.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(
        warnings,
        [
            r#"299 - "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"""#,
            r#"299 - "before: host namespaces""#,
        ]
    );
    let fault = w.post(PODS, host("after")).await.fault();
    assert_eq!(
        (fault.0, &*fault.1, &*fault.2),
        (
            403,
            "Forbidden",
            "pods \"after\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
        )
    );
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": host("x")["spec"]});
    let deployment = json!({"metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = w.post("/apis/apps/v1/namespaces/default/deployments", deployment).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(
        made.headers["warning"],
        r#"299 - "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)""#
    );
    let bad = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "none"}}});
    assert_eq!(w.patch("merge", namespace, bad).await.code, 422);
}
