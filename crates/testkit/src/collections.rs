//! Whole collections: listed in a form, and deleted at once.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::connection::{Ask, Form, Target};
use crate::requests::{FILLED, fill};
use crate::usage::{micros, processor, quantile};

/// One LIST of everything filled right after the server's start (cold), then `repeat` more (warm), one after
/// the other.
pub async fn list(target: &Target, pid: u32, count: usize, repeat: usize, form: Form) -> Result<Value> {
    let mut connection = target.connect().await?;
    if !connection.is_ready().await {
        bail!("the server is not ready");
    }
    let mut once = async || -> Result<(usize, Duration, Duration)> {
        let (before, begin) = (processor(pid)?, Instant::now());
        let bytes = connection.exchange(Ask { accept: form.accept(), ..Ask::get(FILLED) }).await?;
        Ok((bytes, begin.elapsed(), processor(pid)?.saturating_sub(before)))
    };
    let (bytes, cold, cold_used) = once().await?;
    if bytes < count * 100 {
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

/// `count` ConfigMaps are made in a namespace of their own and deleted by one request.
pub async fn delete(target: &Target, pid: u32, count: usize) -> Result<Value> {
    const COLLECTION: &str = "/api/v1/namespaces/emptied/configmaps";
    let mut connection = target.connect().await?;
    connection.namespace("emptied").await?;
    fill(target, COLLECTION, count).await?;
    let (before, begin) = (processor(pid)?, Instant::now());
    connection.drain(Method::DELETE, COLLECTION, Bytes::new()).await?;
    let elapsed = begin.elapsed();
    let used = processor(pid)?.saturating_sub(before);
    let left = connection.json(Method::GET, &format!("{COLLECTION}?limit=1"), Bytes::new()).await?;
    if left["items"].as_array().is_none_or(|items| !items.is_empty()) {
        bail!("something is left after deleting the collection");
    }
    Ok(json!({"count": count, "seconds": elapsed.as_secs_f64(), "serverSeconds": used.as_secs_f64()}))
}
