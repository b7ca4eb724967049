//! What the kubelet reads: the query of a request for logs or a session, and the lines of a log.

use jiff::Timestamp;
use kubelet::logs::{Formatter, Options, parse};

use super::first_line;
use crate::{bounded, is_large};

/// A query as the kubelet reads it.
pub fn decoded_query(uri: &http::Uri) -> Vec<(String, String)> {
    kubelet::query(uri)
}

/// The first line is a query, the others are a log.
pub fn run(bytes: &[u8]) {
    bounded(|| read(bytes));
}

fn read(bytes: &[u8]) {
    let (query, log) = first_line(bytes);
    let asked = asked(&String::from_utf8_lossy(query)).unwrap_or_default();
    let mut whole = Formatter::new(asked.clone());
    let text = whole.push(log);
    if let Some(limit) = asked.limit_bytes {
        assert!(text.len() <= limit);
        assert_eq!(whole.is_full(), text.len() == limit);
    }
    if is_large(bytes) {
        return;
    }
    // where a read ends makes no difference
    let mut pieces = Formatter::new(asked.clone());
    let parts: Vec<u8> = log.chunks(7).flat_map(|piece| pieces.push(piece)).collect();
    assert_eq!(parts, text, "{asked:?}");
    for line in log.split(|b| *b == b'\n') {
        if let Some(line) = parse(line) {
            assert!(matches!(line.stream, "stdout" | "stderr"));
        }
    }
}

fn asked(query: &str) -> Option<Options> {
    let uri: http::Uri = format!("/containerLogs/n/p/c?{query}").parse().ok()?;
    let now = Timestamp::from_second(1_700_000_000).unwrap_or_default();
    let (options, _) = kubelet::log_options(&decoded_query(&uri), now).ok()?;
    assert!(options.limit_bytes.is_none_or(|limit| limit > 0));
    Some(options)
}
