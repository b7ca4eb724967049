//! Creates, reads and lists of ConfigMaps: many clients, each waiting for its answer before it asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connection::{Connection, Target};
use crate::usage::{micros, processor, quantile};

/// Nothing runs longer than this.
const LIMIT: Duration = Duration::from_secs(180);
/// Where the objects lie that GET and LIST read.
pub const FILLED: &str = "/api/v1/namespaces/default/configmaps";
/// Operations before the measured ones, for both sides to warm up.
const WARM_UP: usize = 500;

/// A ConfigMap with 256 bytes of data.
pub fn config_map(name: &str) -> Bytes {
    const VALUE: &str = "0123456789abcdefghijklmnopqrstuv";
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"value": VALUE.repeat(8)},
    });
    Bytes::from(object.to_string())
}

/// What every client does again and again.
#[derive(Clone, Copy)]
enum Operation {
    Fill,
    Create,
    Get { among: usize },
}

impl Operation {
    async fn run(self, connection: &mut Connection, tag: &str, number: usize) -> Result<()> {
        let (method, path, body) = match self {
            Operation::Fill => (Method::POST, FILLED.to_owned(), config_map(&format!("filled-{number}"))),
            Operation::Create => (
                Method::POST,
                "/api/v1/namespaces/bench/configmaps".to_owned(),
                config_map(&format!("created-{tag}-{number}")),
            ),
            Operation::Get { among } => {
                // A stride that meets every object, far from in order.
                let chosen = number.wrapping_mul(7919) % among.max(1);
                (Method::GET, format!("{FILLED}/filled-{chosen}"), Bytes::new())
            }
        };
        connection.drain(method, &path, body).await.map(|_| ())
    }
}

/// Creates the objects that GET and LIST read.
pub async fn fill(target: &Target, count: usize, clients: usize) -> Result<Value> {
    closed_loop(target, Operation::Fill, clients, 0, count, None).await
}

/// `operations` creates by `clients`, each on a connection of its own, after a warm-up.
pub async fn create(target: &Target, pid: u32, clients: usize, operations: usize) -> Result<Value> {
    target.connect().await?.namespace("bench").await?;
    closed_loop(target, Operation::Create, clients, WARM_UP, operations, Some(pid)).await
}

/// `operations` reads of single objects by `clients`, each on a connection of its own, after a warm-up.
pub async fn get(
    target: &Target,
    pid: u32,
    clients: usize,
    operations: usize,
    among: usize,
) -> Result<Value> {
    closed_loop(target, Operation::Get { among }, clients, WARM_UP, operations, Some(pid)).await
}

async fn closed_loop(
    target: &Target,
    operation: Operation,
    clients: usize,
    warm_up: usize,
    operations: usize,
    pid: Option<u32>,
) -> Result<Value> {
    let mut connections = Vec::new();
    for _ in 0..clients.max(1) {
        connections.push(target.connect().await?);
    }
    let tag: Arc<str> = format!("{}", std::process::id()).into();
    let mut connections = round(connections, operation, &tag, 0..warm_up).await?.0;
    let used = pid.map(processor).transpose()?;
    let begin = Instant::now();
    let mut taken;
    (connections, taken) = round(connections, operation, &tag, warm_up..warm_up + operations).await?;
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
    operation: Operation,
    tag: &Arc<str>,
    numbers: std::ops::Range<usize>,
) -> Result<(Vec<Connection>, Vec<u32>)> {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let (next, tag, end) = (next.clone(), tag.clone(), numbers.end);
        clients.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok::<_, anyhow::Error>((connection, taken));
                }
                let begin = Instant::now();
                operation.run(&mut connection, &tag, number).await?;
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

/// One LIST of everything filled right after the server's start (cold), then `repeat` more (warm), one after
/// the other.
pub async fn list(target: &Target, pid: u32, count: usize, repeat: usize) -> Result<Value> {
    let mut connection = target.connect().await?;
    if !connection.is_ready().await {
        bail!("the server is not ready");
    }
    let mut once = async || -> Result<(usize, Duration, Duration)> {
        let (before, begin) = (processor(pid)?, Instant::now());
        let bytes = connection.drain(Method::GET, FILLED, Bytes::new()).await?;
        Ok((bytes, begin.elapsed(), processor(pid)?.saturating_sub(before)))
    };
    let (bytes, cold, cold_used) = once().await?;
    if bytes < count * 256 {
        bail!("a LIST of {count} objects had {bytes} bytes only");
    }
    let (mut taken, mut used) = (Vec::new(), Duration::ZERO);
    for _ in 0..repeat {
        let (_, elapsed, of_one) = once().await?;
        taken.push(micros(elapsed));
        used += of_one;
    }
    taken.sort_unstable();
    Ok(json!({
        "bytes": bytes,
        "coldMillis": cold.as_secs_f64() * 1e3,
        "coldServerMillis": cold_used.as_secs_f64() * 1e3,
        "warmMillis": f64::from(quantile(&taken, 0.5)) / 1e3,
        "warmServerMillis": used.as_secs_f64() * 1e3 / repeat.max(1) as f64,
    }))
}
