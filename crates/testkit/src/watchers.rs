//! Many watchers of one collection, and one writer at a steady pace.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connection::{Ask, Connection, Target};
use crate::requests::config_map;
use crate::usage::{micros, processor, quantile};

const COLLECTION: &str = "/api/v1/namespaces/bench/configmaps";
/// How long the last event may take to reach the last watcher.
const LIMIT: Duration = Duration::from_secs(60);

/// How many watch what.
pub struct Plan {
    pub watchers: usize,
    pub per_connection: usize,
    pub events: usize,
    /// From one write to the next.
    pub every: Duration,
}

/// Opens the watches, then writes `events` ConfigMaps one by one. Each watcher sees them in order, so its nth
/// line is the nth write; a delay counts from before the write's request to the line's end. An event's last delay is
/// that of the watcher who has it last.
pub async fn run(target: &Target, pid: u32, plan: &Plan) -> Result<Value> {
    let mut writer = target.connect().await?;
    writer.namespace("bench").await?;
    let listed = writer.json(Method::GET, &format!("{COLLECTION}?limit=1"), Bytes::new()).await?;
    let revision =
        listed.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("no resourceVersion")?;
    let path = format!("{COLLECTION}?watch=true&resourceVersion={revision}&timeoutSeconds=600");

    let sent: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let mut watchers = JoinSet::new();
    let mut open = 0;
    while open < plan.watchers {
        let connection = target.connect().await?;
        for _ in 0..plan.per_connection.clamp(1, plan.watchers - open) {
            let body = connection.clone().open(Method::GET, &path, Bytes::new()).await?.into_body();
            watchers.spawn(follow(body, sent.clone(), plan.events));
            open += 1;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let made = encodings(&mut writer).await?;
    let before = processor(pid)?;
    let begin = Instant::now();
    let mut pace = tokio::time::interval(plan.every);
    for number in 0..plan.events {
        pace.tick().await;
        let name = format!("watched-{}-{number}", std::process::id());
        sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        writer.drain(Method::POST, COLLECTION, config_map(&name)).await?;
    }
    let all = async {
        let (mut delays, mut last) = (Vec::new(), vec![0; plan.events]);
        while let Some(watcher) = watchers.join_next().await {
            let mut of_one = watcher.context("a watcher")??;
            for (last, delay) in last.iter_mut().zip(&of_one) {
                *last = (*last).max(*delay);
            }
            delays.append(&mut of_one);
        }
        Ok::<_, anyhow::Error>((delays, last))
    };
    let (mut delays, mut last) =
        tokio::time::timeout(LIMIT, all).await.context("not every watcher saw every event")??;
    let used = processor(pid)?.saturating_sub(before);
    let elapsed = begin.elapsed();
    let made = encodings(&mut writer).await? - made;
    delays.sort_unstable();
    last.sort_unstable();
    Ok(json!({
        "watchers": plan.watchers,
        "perConnection": plan.per_connection,
        "events": plan.events,
        "deliveriesPerSecond": delays.len() as f64 / elapsed.as_secs_f64(),
        "serverMicrosPerDelivery": used.as_secs_f64() * 1e6 / delays.len().max(1) as f64,
        "p50Micros": quantile(&delays, 0.5),
        "p99Micros": quantile(&delays, 0.99),
        "lastP50Micros": quantile(&last, 0.5),
        "lastP99Micros": quantile(&last, 0.99),
        "encodingsPerEvent": made / plan.events.max(1) as f64,
    }))
}

/// How often the server has made an encoding of an object so far, by its own counter.
async fn encodings(connection: &mut Connection) -> Result<f64> {
    const NAME: &str = "corten_object_encodings_total ";
    let text = connection.text(Ask { accept: "text/plain", ..Ask::get("/metrics") }).await?;
    let line = text.lines().find_map(|line| line.strip_prefix(NAME));
    line.with_context(|| format!("the server's metrics have no {NAME}"))?.trim().parse().context("a count")
}

/// Reads a watch until it has had `events` lines.
///
/// # Returns
/// The delay of each, in microseconds.
async fn follow(
    mut body: hyper::body::Incoming,
    sent: Arc<Mutex<Vec<Instant>>>,
    events: usize,
) -> Result<Vec<u32>> {
    let mut delays = Vec::with_capacity(events);
    while delays.len() < events {
        let Some(frame) = body.frame().await else { bail!("a watch ended after {} events", delays.len()) };
        let Ok(data) = frame?.into_data() else { continue };
        let lines = data.iter().filter(|byte| **byte == b'\n').count();
        if lines == 0 {
            continue;
        }
        let now = Instant::now();
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..lines {
            let begin = sent.get(delays.len()).context("an event came before its write")?;
            delays.push(micros(now.duration_since(*begin)));
        }
    }
    Ok(delays)
}
