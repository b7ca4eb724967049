//! What is there from the start, and what the server says of itself.

use serde_json::{Value, json};

use crate::access::{cluster, config};
use crate::world::World;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

#[tokio::test]
async fn objects_from_the_start() {
    let world = cluster(true).await;
    for path in [
        "/api/v1/namespaces/kube-system",
        "/api/v1/namespaces/kube-public",
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all",
        "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/exempt",
        &format!("{RBAC}/clusterrolebindings/cluster-admin"),
        &format!("{RBAC}/namespaces/kube-system/roles/extension-apiserver-authentication-reader"),
    ] {
        world.get(path).await.ok();
    }
    let service = world.get("/api/v1/namespaces/default/services/kubernetes").await.ok();
    assert_eq!(service["spec"]["clusterIPs"], json!(["10.96.0.1"]));
    let slice =
        world.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await.ok();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.7"]));
    // `admin` is a sum of sums.
    let admin = world.get(&format!("{RBAC}/clusterroles/admin")).await.ok();
    let has = |resource: &str| {
        admin["rules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["resources"].as_array().unwrap().contains(&json!(resource)))
    };
    assert!(has("rolebindings") && has("deployments") && has("pods/log"));
}

/// A second start finds everything as it was, and writes nothing but that it is there: its address and its Lease.
#[tokio::test]
async fn a_second_start_writes_that_it_is_there() {
    let world = cluster(true).await;
    let before = world.store.revision();
    apiserver::bootstrap::run(&world.server).await.unwrap();
    assert_eq!(world.store.revision(), before + 2);
}

/// Two servers on one store: the `kubernetes` Service leads to both, until one leaves.
#[tokio::test]
async fn several_servers() {
    let world = cluster(true).await;
    let mut other = config(true);
    other.advertise = Some(([192, 0, 2, 10].into(), 6443));
    other.hostname = "second".into();
    let other = world.another(other);
    apiserver::bootstrap::run(&other).await.unwrap();
    let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let ips = |e: &Value| {
        let list = e["subsets"][0]["addresses"].as_array().cloned().unwrap_or_default();
        list.iter().map(|a| a["ip"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until(&world, endpoints, |e| ips(e) == ["192.0.2.10", "192.0.2.7"]).await;
    until(&world, slices, |s| s["endpoints"].as_array().is_some_and(|e| e.len() == 2)).await;
    assert!(world.store.get(b"/registry/masterleases/192.0.2.10").is_some());
    let leases = world.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases").await.ok();
    let mut hosts: Vec<_> = leases["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["metadata"]["labels"]["apiserver.kubernetes.io/identity"] == "kube-apiserver")
        .map(|l| l["metadata"]["labels"]["kubernetes.io/hostname"].as_str().unwrap().to_owned())
        .collect();
    hosts.sort();
    assert_eq!(hosts, ["localhost", "second"]);
    // The second leaves, and says so.
    apiserver::bootstrap::leave(&other).await.unwrap();
    until(&world, endpoints, |e| ips(e) == ["192.0.2.7"]).await;
    other.stop();
    // The first one's address stays even if somebody takes it out of the store.
    world.store.delete(etcd::KeyRange::key("/registry/masterleases/192.0.2.7")).await.unwrap();
    until(&world, endpoints, |e| ips(e) == ["192.0.2.7"]).await;
}

/// Waits until a GET says what is expected.
async fn until(world: &World, path: &str, good: impl Fn(&Value) -> bool) {
    for _ in 0..400 {
        let answer = world.get(path).await;
        if answer.code == 200 && good(&answer.json()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{path}: {}", world.get(path).await.text);
}

#[tokio::test]
async fn what_is_taken_away_comes_back() {
    let world = cluster(true).await;
    let service = "/api/v1/namespaces/default/services/kubernetes";
    world.delete(service).await.ok();
    until(&world, service, |s| s["spec"]["clusterIP"] == "10.96.0.1").await;
    let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
    world.patch("merge", endpoints, json!({"subsets": null})).await.ok();
    until(&world, endpoints, |e| e["subsets"][0]["addresses"][0]["ip"] == "192.0.2.7").await;
    // A role that is a part of `view` is seen there, and leaves it again.
    let part = json!({"metadata": {"name": "part", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]}]});
    world.post(&format!("{RBAC}/clusterroles"), part).await.ok();
    let has = |role: &Value| role["rules"].as_array().unwrap().iter().any(|r| r["apiGroups"] == json!(["x"]));
    for role in ["view", "edit", "admin"] {
        until(&world, &format!("{RBAC}/clusterroles/{role}"), has).await;
    }
    world.delete(&format!("{RBAC}/clusterroles/part")).await.ok();
    until(&world, &format!("{RBAC}/clusterroles/admin"), |role| !has(role)).await;
}

#[tokio::test]
async fn ready_only_when_all_is_there() {
    let world = World::with(config(true));
    let answer = world.get("/readyz").await;
    assert_eq!(answer.code, 500);
    assert!(
        answer.text.contains("[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n"),
        "{}",
        answer.text
    );
    assert!(answer.text.ends_with("readyz check failed\n"), "{}", answer.text);
    assert_eq!((world.get("/livez").await.code, world.get("/livez/ping").await.code), (500, 200));
    apiserver::bootstrap::run(&world.server).await.unwrap();
    for page in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(world.get(page).await.text, "ok", "{page}");
    }
    let verbose = world.get("/readyz?verbose&exclude=ping&exclude=none").await.text;
    let begin = "[+]ping excluded: ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n";
    let end = "[+]shutdown ok\nwarn: some health checks cannot be excluded: no matches for \"none\"\n\
               readyz check passed\n";
    assert!(verbose.starts_with(begin) && verbose.ends_with(end), "{verbose}");
    assert!(verbose.contains("[+]poststarthook/rbac/bootstrap-roles ok\n"), "{verbose}");
    let alive = world.get("/livez?verbose").await.text;
    assert!(!alive.contains("shutdown") && alive.ends_with("livez check passed\n"), "{alive}");
    assert_eq!(world.get("/readyz/etcd").await.text, "ok");
    assert_eq!(world.get("/readyz/none").await.code, 404);
    // The end is announced before it comes.
    world.server.begin_shutdown();
    assert_eq!((world.get("/readyz").await.code, world.get("/livez").await.code), (500, 200));
    let indicators = world.get("/metrics/slis").await.text;
    for line in [
        "kubernetes_healthcheck{name=\"shutdown\",type=\"readyz\"} 0\n",
        "kubernetes_healthchecks_total{name=\"shutdown\",status=\"error\",type=\"readyz\"} 1\n",
        "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1\n",
    ] {
        assert!(indicators.contains(line), "{line}{indicators}");
    }
}

#[tokio::test]
async fn what_the_server_says_of_itself() {
    let world = cluster(true).await;
    let version = world.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36.2+corten"), "{version}");
    let api = world.get("/api").await.ok();
    assert_eq!(api["serverAddressByClientCIDRs"][0]["serverAddress"], "192.0.2.7:6443");
    for path in ["/apis", "/apis/apps", "/apis/apps/v1", "/api/v1", "/"] {
        world.get(path).await.ok();
    }
    for path in ["/apis/none", "/apis/apps/v9", "/api/v9", "/nothing"] {
        let answer = world.get(path).await;
        // Below what is served a route is looked for; elsewhere nobody is asked.
        let status = matches!(path, "/apis/apps/v9" | "/api/v9");
        assert_eq!((answer.code, answer.text == "404 page not found\n"), (404, !status), "{path}");
    }
    let open_id = world.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(open_id["jwks_uri"], "https://192.0.2.7:6443/openid/v1/jwks");
    assert_eq!(open_id["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let keys = world.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!(keys.json()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn openapi() {
    let world = cluster(true).await;
    let index = world.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let answer = world.get(url).await;
    assert_eq!(answer.headers["cache-control"], "public, immutable");
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(answer.json()["openapi"], "3.0.0");
    let known = world.send("GET", url, &[("if-none-match", &tag)], Vec::new()).await;
    assert_eq!(known.code, 304);
    let stale = world.get("/openapi/v3/apis/apps/v1?hash=OLD").await;
    assert_eq!((stale.code, stale.headers["location"].to_str().unwrap()), (301, url));
    let packed = world.raw("GET", url, &[("accept-encoding", "gzip")], Vec::new()).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(world.get("/openapi/v3/apis/none/v1").await.code, 404);
}

#[tokio::test]
async fn metrics() {
    let world = cluster(true).await;
    world.get("/api/v1/namespaces/default/pods").await.ok();
    let text = world.get("/metrics").await.text;
    for line in [
        "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",\
         scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1\n",
        "apiserver_storage_objects{resource=\"namespaces\"} 4\n",
        "# TYPE apiserver_request_total counter\n",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1\n",
        "process_resident_memory_bytes ",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} 245\n",
        "kubernetes_feature_enabled{name=\"WatchList\",stage=\"BETA\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
