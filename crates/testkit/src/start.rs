//! From a server's start to its first 200 on `/readyz`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::connection::Target;
use crate::usage::{micros, quantile};

const LIMIT: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(1);

/// Starts the program `repeat` times; each time waits until it is ready, asks it to end, and waits for that.
pub async fn run(target: &Target, program: &[String], repeat: usize) -> Result<Value> {
    let [name, args @ ..] = program else { bail!("no program was named") };
    let mut taken = Vec::new();
    for _ in 0..repeat {
        let begin = Instant::now();
        let mut server = Command::new(name)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        tokio::time::timeout(LIMIT, ready(target)).await.context("the server did not become ready")?;
        taken.push(micros(begin.elapsed()));
        let pid = server.id().context("the server has ended by itself")?;
        Command::new("kill").arg(pid.to_string()).status().await.context("asking the server to end")?;
        tokio::time::timeout(LIMIT, server.wait()).await.context("the server did not end")??;
    }
    taken.sort_unstable();
    Ok(json!({
        "starts": repeat,
        "medianMillis": f64::from(quantile(&taken, 0.5)) / 1e3,
        "slowestMillis": f64::from(quantile(&taken, 1.0)) / 1e3,
    }))
}

/// Waits until `/readyz` answers 200.
pub async fn ready(target: &Target) {
    loop {
        if let Ok(mut connection) = target.connect().await {
            // The port may be open before everything behind it is.
            for _ in 0..1000 {
                if connection.is_ready().await {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
