//! Many clients, each waiting for its answer before it asks again: single ConfigMaps made, read, changed and
//! deleted, and Deployments applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connection::{Ask, Connection, Form, Target};
use crate::usage::{micros, processor, quantile};

/// Nothing runs longer than this.
const LIMIT: Duration = Duration::from_secs(300);
/// Where the objects lie that GET and LIST read.
pub const FILLED: &str = "/api/v1/namespaces/default/configmaps";
/// Operations before the measured ones, for both sides to warm up.
const WARM_UP: usize = 500;
const VALUE: &str = "0123456789abcdefghijklmnopqrstuv";

/// A ConfigMap with 256 bytes of data.
pub fn config_map(name: &str) -> Bytes {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"value": VALUE.repeat(8)},
    });
    Bytes::from(object.to_string())
}

/// The request of a number: what every client does again and again.
type Operation = Arc<dyn Fn(usize) -> Ask + Send + Sync>;

/// Clients and what they do together.
#[derive(Clone, Copy, clap::Args)]
pub struct Load {
    /// The server's process, whose processor time is taken
    #[arg(long)]
    pub pid: u32,
    /// Each has a connection of its own
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    #[arg(long, default_value_t = 20_000)]
    pub operations: usize,
}

/// Creates the objects that GET and LIST read.
pub async fn fill(target: &Target, collection: &str, count: usize) -> Result<Value> {
    let collection = collection.to_owned();
    let operation = move |n| Ask::new(Method::POST, &*collection, config_map(&format!("filled-{n}")));
    work(target, Arc::new(operation), 16, count).await
}

/// `operations` of one kind by clients that are not measured.
pub(crate) async fn work(
    target: &Target,
    operation: Operation,
    clients: usize,
    operations: usize,
) -> Result<Value> {
    closed_loop(target, operation, clients, 0..0, operations, None).await
}

/// Creates ConfigMaps.
pub async fn create(target: &Target, load: Load) -> Result<Value> {
    target.connect().await?.namespace("bench").await?;
    let tag = std::process::id();
    let operation = move |n| {
        let body = config_map(&format!("created-{tag}-{n}"));
        Ask::new(Method::POST, "/api/v1/namespaces/bench/configmaps", body)
    };
    measured(target, Arc::new(operation), load).await
}

/// Reads single ConfigMaps among so many, in a stride that meets every one, far from in order.
pub async fn get(target: &Target, load: Load, among: usize, form: Form) -> Result<Value> {
    let operation = move |n: usize| {
        let chosen = n.wrapping_mul(7919) % among.max(1);
        Ask { accept: form.accept(), ..Ask::get(format!("{FILLED}/filled-{chosen}")) }
    };
    measured(target, Arc::new(operation), load).await
}

/// Creates ConfigMaps, replaces each without naming a version, patches it (JSON merge), and deletes it.
pub async fn writes(target: &Target, load: Load) -> Result<Value> {
    target.connect().await?.namespace("bench").await?;
    let tag = std::process::id();
    let path = move |n: usize| format!("/api/v1/namespaces/bench/configmaps/written-{tag}-{n}");
    let replaced = move |n: usize| {
        let name = format!("written-{tag}-{n}");
        let value = VALUE.to_uppercase().repeat(8);
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
    };
    let create = move |n| {
        let body = config_map(&format!("written-{tag}-{n}"));
        Ask::new(Method::POST, "/api/v1/namespaces/bench/configmaps", body)
    };
    let put = move |n| Ask::new(Method::PUT, path(n), replaced(n).to_string());
    let patch = move |n| Ask {
        content_type: "application/merge-patch+json",
        ..Ask::new(Method::PATCH, path(n), json!({"data": {"value": VALUE}}).to_string())
    };
    let delete = move |n| Ask::new(Method::DELETE, path(n), Bytes::new());
    let mut results = serde_json::Map::new();
    let all: [(&str, Operation); 4] = [
        ("create", Arc::new(create)),
        ("put", Arc::new(put)),
        ("patch", Arc::new(patch)),
        ("delete", Arc::new(delete)),
    ];
    for (name, operation) in all {
        results.insert(name.to_owned(), measured(target, operation, load).await?);
    }
    Ok(results.into())
}

/// Server-side applies of Deployments of 10 KiB: each changes one value; the same in YAML; and each changes
/// nothing.
pub async fn apply(target: &Target, load: Load) -> Result<Value> {
    const OBJECTS: usize = 128;
    target.connect().await?.namespace("applied").await?;
    let operation = |yaml: bool, round: usize| -> Operation {
        Arc::new(move |n| {
            let name = format!("applied-{}", n % OBJECTS);
            let object = deployment(&name, round + n / OBJECTS);
            let body = match yaml {
                true => apimachinery::codec::yaml::to_string(&object),
                false => object.to_string(),
            };
            let path = format!("/apis/apps/v1/namespaces/applied/deployments/{name}?fieldManager=load");
            let content_type = "application/apply-patch+yaml";
            Ask { content_type, ..Ask::new(Method::PATCH, path, body) }
        })
    };
    let rounds = (WARM_UP + load.operations) / OBJECTS + 1;
    let json = measured(target, operation(false, 0), load).await?;
    let yaml = measured(target, operation(true, rounds), load).await?;
    let last: Operation = {
        let same = operation(false, 2 * rounds);
        Arc::new(move |n| same(n % OBJECTS))
    };
    work(target, last.clone(), 1, OBJECTS).await?;
    let unchanged = measured(target, last, load).await?;
    let bytes = deployment("applied-0", 0).to_string().len();
    Ok(json!({"json": json, "yaml": yaml, "unchanged": unchanged, "bytes": bytes}))
}

/// A Deployment of about 10 KiB in JSON, as people write them: four containers with 36 variables each.
fn deployment(name: &str, version: usize) -> Value {
    let container = |c: usize| {
        let variables: Vec<Value> = (0..36)
            .map(|v| json!({"name": format!("VARIABLE_{v}"), "value": format!("the value of {v} in {c}")}))
            .collect();
        json!({
            "name": format!("container-{c}"),
            "image": "registry.example.org/some/image:v1.2.3",
            "args": ["--first=1", "--second=2", "--third=3"],
            "env": variables,
            "ports": [{"name": "http", "containerPort": 8080 + c}, {"name": "metrics", "containerPort": 9090 + c}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/var/lib/data"}, {"name": "tmp", "mountPath": "/tmp"}],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 20},
        })
    };
    let labels = json!({"app": name, "tier": "backend", "team": "storage"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels, "annotations": {"version": version.to_string()}},
                "spec": {
                    "containers": (0..4).map(container).collect::<Vec<_>>(),
                    "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    })
}

/// After a warm-up: the numbers below [`WARM_UP`] come first, so a later operation finds all of an earlier one's.
pub(crate) async fn measured(target: &Target, operation: Operation, load: Load) -> Result<Value> {
    closed_loop(target, operation, load.clients, 0..WARM_UP, load.operations, Some(load.pid)).await
}

async fn closed_loop(
    target: &Target,
    operation: Operation,
    clients: usize,
    warm_up: std::ops::Range<usize>,
    operations: usize,
    pid: Option<u32>,
) -> Result<Value> {
    let mut connections = Vec::new();
    for _ in 0..clients.max(1) {
        connections.push(target.connect().await?);
    }
    let numbers = warm_up.end..warm_up.end + operations;
    let connections = round(connections, &operation, warm_up).await?.0;
    let used = pid.map(processor).transpose()?;
    let begin = Instant::now();
    let (connections, mut taken) = round(connections, &operation, numbers).await?;
    let elapsed = begin.elapsed();
    let used = match (pid, used) {
        (Some(pid), Some(before)) => Some(processor(pid)?.saturating_sub(before)),
        _ => None,
    };
    drop(connections);
    taken.sort_unstable();
    let per_operation = |used: Duration| used.as_secs_f64() * 1e6 / operations.max(1) as f64;
    Ok(json!({
        "operations": operations,
        "clients": clients,
        "perSecond": operations as f64 / elapsed.as_secs_f64(),
        "p50Micros": quantile(&taken, 0.5),
        "p99Micros": quantile(&taken, 0.99),
        "serverMicrosPerOperation": used.map(per_operation),
    }))
}

/// All connections work off the numbers together.
///
/// # Returns
/// The connections, and how long each operation took, in microseconds.
async fn round(
    connections: Vec<Connection>,
    operation: &Operation,
    numbers: std::ops::Range<usize>,
) -> Result<(Vec<Connection>, Vec<u32>)> {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let (next, operation, end) = (next.clone(), operation.clone(), numbers.end);
        clients.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok::<_, anyhow::Error>((connection, taken));
                }
                let ask = operation(number);
                let begin = Instant::now();
                connection.exchange(ask).await?;
                taken.push(micros(begin.elapsed()));
            }
        });
    }
    let all = async {
        let (mut connections, mut taken) = (Vec::new(), Vec::new());
        while let Some(client) = clients.join_next().await {
            let (connection, mut of_one) = client.context("a client")??;
            connections.push(connection);
            taken.append(&mut of_one);
        }
        Ok((connections, taken))
    };
    tokio::time::timeout(LIMIT, all).await.context("the load did not end in time")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_has_ten_kibibytes() {
        let length = deployment("applied-0", 0).to_string().len();
        assert!((10_000..10_500).contains(&length), "{length}");
    }
}
