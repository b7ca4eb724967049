//! Pods as objects, by the thousand: nobody runs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connection::{Ask, Connection, Form, Target};
use crate::requests::work;

const LIMIT: Duration = Duration::from_secs(300);
const CLIENTS: usize = 16;

/// A pod of one container; `variables` of its environment make it large (22 of them: 3 KiB as it is stored).
fn pod(name: &str, variables: usize) -> Bytes {
    let environment: Vec<Value> = (0..variables)
        .map(|v| json!({"name": format!("VARIABLE_{v}"), "value": format!("the value of {v}")}))
        .collect();
    let labels = json!({"app": "crowd", "tier": "backend", "pod-template-hash": "6f6d9f7b7c"});
    let container = json!({
        "name": "main",
        "image": "registry.example.org/some/image:v1.2.3",
        "env": environment,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    });
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"automountServiceAccountToken": false, "containers": [container]},
    });
    Bytes::from(object.to_string())
}

/// The namespace, and in it what a pod needs that controllers would have made.
async fn namespace(connection: &mut Connection, name: &str) -> Result<()> {
    connection.namespace(name).await?;
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    if connection.json(Method::GET, &format!("{path}/default"), Bytes::new()).await.is_err() {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        connection.drain(Method::POST, &path, account.to_string().into()).await?;
    }
    Ok(())
}

/// Creates `count` pods of about 3 KiB.
///
/// # Returns
/// How many bytes are stored of them: what a sample of 500 has in protobuf, times their number.
pub async fn store(target: &Target, count: usize) -> Result<Value> {
    const SAMPLE: usize = 500;
    const COLLECTION: &str = "/api/v1/namespaces/stored/pods";
    let mut connection = target.connect().await?;
    namespace(&mut connection, "stored").await?;
    let create = |n| Ask::new(Method::POST, COLLECTION, pod(&format!("stored-{n}"), 22));
    work(target, Arc::new(create), CLIENTS, count).await?;
    let sample = Ask { accept: Form::Protobuf.accept(), ..Ask::get(format!("{COLLECTION}?limit={SAMPLE}")) };
    let each = connection.exchange(sample).await? / SAMPLE.min(count).max(1);
    Ok(json!({"pods": count, "bytesEach": each, "bytes": each * count}))
}

/// Opens watches of all pods, each on a connection of its own; then `count` pods are made and bound to nodes, by
/// 16 clients as fast as they can.
pub async fn bind(target: &Target, watchers: usize, count: usize) -> Result<Value> {
    let mut connection = target.connect().await?;
    namespace(&mut connection, "crowd").await?;
    let listed = connection.json(Method::GET, "/api/v1/namespaces/crowd/pods?limit=1", Bytes::new()).await?;
    let revision =
        listed.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("no resourceVersion")?;
    let path = format!("/api/v1/pods?watch=true&resourceVersion={revision}&timeoutSeconds=600");
    let mut watches = JoinSet::new();
    for _ in 0..watchers {
        let body = target.connect().await?.open(Method::GET, &path, Bytes::new()).await?.into_body();
        // Made, and bound.
        watches.spawn(follow(body, 2 * count));
    }
    let begin = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(make_and_bind(target.connect().await?, next.clone(), count));
    }
    let all = async {
        while let Some(client) = clients.join_next().await {
            client.context("a client")??;
        }
        let written = begin.elapsed();
        let mut cut_off = 0;
        while let Some(watch) = watches.join_next().await {
            cut_off += usize::from(!watch.context("a watcher")??);
        }
        Ok::<_, anyhow::Error>((written, cut_off))
    };
    let (written, cut_off) = tokio::time::timeout(LIMIT, all).await.context("not everybody is done")??;
    Ok(json!({
        "watchers": watchers,
        "pods": count,
        "cutOff": cut_off,
        "writtenSeconds": written.as_secs_f64(),
        "seenSeconds": begin.elapsed().as_secs_f64(),
    }))
}

async fn make_and_bind(mut connection: Connection, next: Arc<AtomicUsize>, end: usize) -> Result<()> {
    const COLLECTION: &str = "/api/v1/namespaces/crowd/pods";
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return Ok(());
        }
        let name = format!("crowd-{}-{number}", std::process::id());
        connection.drain(Method::POST, COLLECTION, pod(&name, 0)).await?;
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": format!("node-{}", number % 100)});
        let binding =
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
        let path = format!("{COLLECTION}/{name}/binding");
        connection.drain(Method::POST, &path, binding.to_string().into()).await?;
    }
}

/// Reads a watch until it has had `events` lines.
///
/// # Returns
/// Whether it got there: false if it was ended before.
async fn follow(mut body: hyper::body::Incoming, events: usize) -> Result<bool> {
    let mut seen = 0;
    while seen < events {
        let Some(frame) = body.frame().await else { return Ok(false) };
        let Ok(frame) = frame else { return Ok(false) };
        let Ok(data) = frame.into_data() else { continue };
        // An error is the last event of a watch, and the server ends it then.
        if data.starts_with(b"{\"type\":\"ERROR\"") {
            return Ok(false);
        }
        seen += data.iter().filter(|byte| **byte == b'\n').count();
    }
    Ok(true)
}
