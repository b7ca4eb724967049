//! The group `batch`.

mod cron_job;
mod indexes;
mod job;
mod job_status;
mod policies;

use apimachinery::field::{Error, Path};
use serde_json::Value;

use crate::strategy::Strategy;

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "CronJob" => &cron_job::STRATEGY,
        "Job" => &job::STRATEGY,
        _ => return None,
    })
}

/// An `Invalid` that does not show the value.
fn invalid_without_value(path: &Path<'_>, why: &str) -> Error {
    Error { bad_value: None, ..Error::invalid(path, Value::Null, why) }
}

/// `["a" "b"]`, as Go prints a list of texts.
fn quoted_list(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("[{}]", quoted.join(" "))
}
