//! `metrics.k8s.io` with nothing installed: kubelets of our own say what is used.

use std::convert::Infallible;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use apiserver::server::tls;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{access, tls::Authority, world::World};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

fn used(name: &str, cpu: u64, memory: u64) -> Value {
    json!({"name": name, "cpu": {"time": "2026-01-02T03:04:05Z", "usageNanoCores": cpu},
        "memory": {"time": "2026-01-02T03:04:05Z", "workingSetBytes": memory}})
}

/// A kubelet with two pods, and how often it was asked.
async fn kubelet(authority: &Authority) -> (u16, Arc<AtomicUsize>) {
    let (chain, key) = authority.certificate();
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(move |request: Request<Incoming>| {
                    let target = request.uri().to_string();
                    assert_eq!(target, "/stats/summary?only_cpu_and_memory=true");
                    count.fetch_add(1, Ordering::Relaxed);
                    let pod = |name: &str| {
                        json!({"podRef": {"name": name, "namespace": "default"},
                            "containers": [used("b", 1_000_000, 2048), used("a", 2_000_000, 1 << 20)]})
                    };
                    let text = json!({"node": used("", 250_000_000, 1 << 30), "pods": [pod("p"), pod("q")]});
                    async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text.to_string())))) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (port, asked)
}

async fn cluster() -> (World, Arc<AtomicUsize>) {
    let authority = Authority::new();
    let (port, asked) = kubelet(&authority).await;
    let mut config = access::config(true);
    config.kubelet_tls = Some(Arc::new(authority.client(&[])));
    let world = World::with(config);
    apiserver::bootstrap::run(&world.server).await.unwrap();
    world
        .post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}))
        .await
        .ok();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (name, port) in [("n1", port), ("lost", nobody)] {
        let node = json!({"metadata": {"name": name, "labels": {"disk": name}},
            "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
        world.post("/api/v1/nodes", node).await.ok();
    }
    for (name, node, phase) in
        [("p", "n1", "Running"), ("q", "n1", "Succeeded"), ("r", "lost", "Running"), ("s", "", "Pending")]
    {
        let mut pod = json!({"metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "a", "image": "i"}]}});
        if !node.is_empty() {
            pod["spec"]["nodeName"] = node.into();
        }
        world.post("/api/v1/namespaces/default/pods", pod).await.ok();
        let status = json!({"status": {"phase": phase}});
        world.patch("merge", &format!("/api/v1/namespaces/default/pods/{name}/status"), status).await.ok();
    }
    (world, asked)
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn with_nothing_installed() {
    let (world, asked) = cluster().await;
    let list = world.get(METRICS).await.ok();
    assert_eq!(list["resources"][0]["name"], "nodes");
    assert_eq!(asked.load(Ordering::Relaxed), 0);

    // A node that does not answer has no figures, and does not stand in anybody's way.
    let nodes = world.get(&format!("{METRICS}/nodes")).await.ok();
    assert_eq!((&nodes["kind"], names(&nodes)), (&json!("NodeMetricsList"), vec!["n1"]));
    let node = world.get(&format!("{METRICS}/nodes/n1")).await.ok();
    assert_eq!(node["usage"], json!({"cpu": "250m", "memory": "1Gi"}));
    assert_eq!(
        (&node["kind"], &node["timestamp"], &node["window"]),
        (&json!("NodeMetrics"), &json!("2026-01-02T03:04:05Z"), &json!("10s"))
    );
    assert_eq!(node["metadata"]["labels"], json!({"disk": "n1"}));

    let pods = world.get(&format!("{METRICS}/pods")).await.ok();
    assert_eq!(names(&pods), ["p"]);
    assert_eq!(
        pods["items"][0]["containers"],
        json!([{"name": "a", "usage": {"cpu": "2m", "memory": "1Mi"}},
            {"name": "b", "usage": {"cpu": "1m", "memory": "2Ki"}}])
    );
    for (query, expect) in [
        ("", 1),
        ("?labelSelector=app%3Dp", 1),
        ("?labelSelector=app%3Dq", 0),
        ("?fieldSelector=metadata.name%3Dp", 1),
        ("?fieldSelector=metadata.name!%3Dp", 0),
    ] {
        let list = world.get(&format!("{METRICS}/namespaces/default/pods{query}")).await.ok();
        assert_eq!(names(&list).len(), expect, "{query}");
    }
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let path = format!("{METRICS}/namespaces/default/pods");
    let table = world.send("GET", &path, &[("accept", table)], Vec::new()).await.ok();
    assert_eq!(table["rows"][0]["cells"], json!(["p", "3m", "1026Ki", "10s"]));
    // All of this was one question.
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    for (path, code, message) in [
        ("/nodes/none", 404, "nodes \"none\" not found"),
        ("/nodes/lost", 404, "nodes.metrics.k8s.io \"lost\" not found"),
        ("/namespaces/default/pods/q", 404, "pods.metrics.k8s.io \"default/q\" not found"),
        ("/namespaces/default/pods/none", 404, "pods \"none\" not found"),
        ("/other", 404, "the server could not find the requested resource"),
        (
            "/nodes?fieldSelector=spec.x%3D1",
            400,
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("/nodes?labelSelector=%3D%3D", 400, ""),
    ] {
        let answer = world.get(&format!("{METRICS}{path}")).await;
        let (got, _, text) = answer.fault();
        assert_eq!(got, code, "{path} {text}");
        assert!(text.contains(message), "{path}: {text}");
    }
    assert_eq!(world.delete(&format!("{METRICS}/nodes/n1")).await.code, 405);
}

/// Whoever registers the version has it, and gives it back.
#[tokio::test]
async fn it_steps_aside() {
    let (world, _) = cluster().await;
    let groups = |list: Value| {
        let groups = list["groups"].as_array().unwrap().clone();
        groups.iter().filter(|group| group["name"] == "metrics.k8s.io").count()
    };
    assert_eq!(groups(world.get("/apis").await.ok()), 1);
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let object = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": "metrics.k8s.io",
        "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
        "service": {"namespace": "kube-system", "name": "metrics-server"}}});
    world.post(services, object).await.ok();
    let answer = world.get(&format!("{METRICS}/nodes")).await;
    assert_eq!((answer.code, answer.text.as_str()), (503, "service unavailable\n"));
    assert_eq!(groups(world.get("/apis").await.ok()), 1);
    world.delete(&format!("{services}/v1beta1.metrics.k8s.io")).await.ok();
    assert_eq!(names(&world.get(&format!("{METRICS}/nodes")).await.ok()), ["n1"]);
}
