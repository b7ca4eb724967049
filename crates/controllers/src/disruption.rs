//! The condition `DisruptionTarget`, by which a pod's owner learns that the pod does not go by its own fault
//! (KEP-3329).

use api::core::v1::Pod;
use api::meta::v1::Time;
use client::{Client, Patch};
use serde_json::{Value, json};

use crate::context::{name, namespace, uid};
use crate::error::Doing;
use crate::{Result, pods};

const TARGET: &str = "DisruptionTarget";

/// Why a pod is removed.
pub(crate) struct Disruption {
    pub(crate) reason: &'static str,
    pub(crate) message: &'static str,
}

/// The change of a pod's status; `None` if it is so already.
pub(crate) fn change(pod: &Pod, why: Option<Disruption>, fail: bool, now: Time) -> Option<Value> {
    let mut status = serde_json::Map::new();
    if fail && pods::phase(pod) != "Failed" {
        status.insert("phase".into(), json!("Failed"));
    }
    if let Some(why) = why {
        let current = pods::condition(pod.status.as_ref(), TARGET);
        let same = current.is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some(why.reason));
        let since = current.filter(|c| c.status == "True").and_then(|c| c.last_transition_time.clone());
        if !same {
            status.insert(
                "conditions".into(),
                json!([{"type": TARGET, "status": "True", "reason": why.reason, "message": why.message,
                    "lastTransitionTime": since.unwrap_or(now)}]),
            );
        }
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid(pod)}, "status": status}))
}

/// Writes [`change`].
pub(crate) async fn mark(
    client: &Client,
    pod: &Pod,
    why: Option<Disruption>,
    fail: bool,
    now: Time,
) -> Result<()> {
    let Some(change) = change(pod, why, fail, now) else { return Ok(()) };
    match client.patch_status::<Pod>(namespace(pod), name(pod), &Patch::Strategic(change)).await {
        Err(error) if error.is_not_found() => Ok(()),
        answer => answer.map(|_| ()).doing(|| format!("marking pod {}", name(pod))),
    }
}
