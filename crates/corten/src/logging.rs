//! Logs: plain lines on standard error, or in a file when detached. `CORTEN_LOG` narrows or widens them with
//! tracing's filter syntax.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// Upstream's `-v` levels, roughly: 0 and 1 inform, 2 to 4 debug, above trace.
pub fn level(verbosity: u8) -> &'static str {
    match verbosity {
        0 | 1 => "info",
        2..=4 => "debug",
        _ => "trace",
    }
}

/// Starts logging for the whole process. `default` is a filter such as `info`.
pub fn start(default: &str, file: Option<&Path>) -> Result<()> {
    let filter = EnvFilter::try_from_env("CORTEN_LOG").unwrap_or_else(|_| {
        // Libraries only speak up when something is wrong.
        EnvFilter::new(format!("{default},hyper=warn,rustls=warn,h2=warn,tower=warn,hickory_proto=warn"))
    });
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
    match file {
        Some(path) => {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("opening the log {}", path.display()))?;
            subscriber.with_ansi(false).with_writer(Mutex::new(file)).init();
        }
        None => subscriber.with_writer(std::io::stderr).init(),
    }
    Ok(())
}
