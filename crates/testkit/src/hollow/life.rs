//! What a kubelet would do next about a pod, and what it would say of it. Pure.
//!
//! Containers do nothing. One whose command is `false` fails as soon as it runs; in a pod that is not restarted
//! always, all others end well after a moment; the rest run until they are told to end.

use std::time::Duration;

use api::core::v1::{Container, Pod};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A pod's steps, in the only order in which they happen. Some are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// From Pending to Running and Ready.
    Start,
    /// Its containers end by themselves.
    Finish,
    /// It was deleted: its containers end, and the object goes.
    Stop,
}

/// Exit codes of a container that was told to end (SIGTERM), and of `false`.
const TERMINATED: i32 = 143;
const FAILED: i32 = 1;

/// The next step; none if only an event can change something.
pub fn next(pod: &Pod) -> Option<Step> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(Step::Stop);
    }
    let ends = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) != Some("Always");
    match phase(pod) {
        "" | "Pending" => Some(Step::Start),
        "Running" if ends => Some(Step::Finish),
        _ => None,
    }
}

/// How long a step takes, spread by the pod's uid so that not all pods of a node change at once.
pub fn takes(step: Step, pod: &Pod) -> Duration {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let spread = uid.bytes().fold(0u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1000);
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0).unsigned_abs();
    match step {
        Step::Start => Duration::from_millis(300 + spread),
        Step::Finish => Duration::from_millis(1500 + spread),
        Step::Stop => Duration::from_millis((200 + spread / 2).min(grace * 1000)),
    }
}

/// Whether the API server is told of a step: not that containers have ended which had not begun or ended before.
pub fn tells(step: Step, pod: &Pod) -> bool {
    step != Step::Stop || phase(pod) == "Running"
}

/// A strategic merge patch of the pod's status after a step.
///
/// # Parameters
/// - `host`, `address`: addresses of the node and of the pod
pub fn status(pod: &Pod, step: Step, now: Timestamp, host: &str, address: &str) -> Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let failed = step == Step::Stop || containers.clone().any(fails);
    let phase = match (step, failed) {
        (Step::Start, _) => "Running",
        (_, true) => "Failed",
        (_, false) => "Succeeded",
    };
    let running = step == Step::Start;
    let condition = |kind: &str, holds: bool| {
        let mut condition = json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "lastProbeTime": null,
            "lastTransitionTime": now,
            "observedGeneration": pod.metadata.generation,
        });
        if !running && kind != "PodReadyToStartContainers" && kind != "PodScheduled" {
            condition["reason"] = (if failed { "PodFailed" } else { "PodCompleted" }).into();
        }
        condition
    };
    let mut status = json!({
        "observedGeneration": pod.metadata.generation,
        "phase": phase,
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            condition("PodReadyToStartContainers", running),
            condition("Initialized", true),
            condition("Ready", running),
            condition("ContainersReady", running),
            condition("PodScheduled", true),
        ],
        "containerStatuses":
            containers.map(|container| container_status(pod, container, step, &now)).collect::<Vec<_>>(),
    });
    if running {
        status["startTime"] = now.into();
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

fn container_status(pod: &Pod, container: &Container, step: Step, now: &str) -> Value {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let id = format!("hollow://{uid}/{}", container.name);
    let image = container.image.as_deref().unwrap_or_default();
    let running = step == Step::Start;
    let code = match step {
        Step::Stop => TERMINATED,
        _ if fails(container) => FAILED,
        _ => 0,
    };
    let state = if running {
        json!({"running": {"startedAt": now}})
    } else {
        let reason = if code == 0 { "Completed" } else { "Error" };
        let ended = json!({"exitCode": code, "reason": reason, "finishedAt": now, "startedAt": now, "containerID": id});
        json!({"terminated": ended})
    };
    json!({
        "name": container.name,
        "image": image,
        "imageID": format!("hollow/{image}"),
        "containerID": id,
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn fails(container: &Container) -> bool {
    container.command.as_ref().is_some_and(|words| words.iter().map(String::as_str).eq(["false"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str, restart: &str, command: &str, deleted: bool) -> Pod {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "generation": 2, "deletionTimestamp": deleted},
            "spec": {"restartPolicy": restart, "containers": [{"name": "c", "command": [command]}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn steps() {
        for (phase, restart, deleted, expect, tells_of_it) in [
            ("Pending", "Always", false, Some(Step::Start), true),
            ("Pending", "Never", false, Some(Step::Start), true),
            ("Running", "Always", false, None, true),
            ("Running", "Never", false, Some(Step::Finish), true),
            ("Running", "OnFailure", false, Some(Step::Finish), true),
            ("Succeeded", "Never", false, None, true),
            ("Pending", "Always", true, Some(Step::Stop), false),
            ("Running", "Always", true, Some(Step::Stop), true),
            ("Failed", "Never", true, Some(Step::Stop), false),
        ] {
            let pod = pod(phase, restart, "true", deleted);
            assert_eq!(next(&pod), expect, "{phase} {restart} {deleted}");
            assert!(
                expect.is_none_or(|step| tells(step, &pod) == tells_of_it),
                "{phase} {restart} {deleted}"
            );
        }
    }

    #[test]
    fn statuses() {
        for (step, command, phase, ready, code) in [
            (Step::Start, "false", "Running", "True", None),
            (Step::Finish, "true", "Succeeded", "False", Some(0)),
            (Step::Finish, "false", "Failed", "False", Some(1)),
            (Step::Stop, "true", "Failed", "False", Some(143)),
        ] {
            let patch = status(&pod("", "Never", command, false), step, Timestamp::UNIX_EPOCH, "h", "a");
            let at = |path: &str| patch.pointer(path).cloned().unwrap_or_default();
            assert_eq!(at("/status/phase"), phase, "{step:?} {command}");
            assert_eq!(at("/status/conditions/2/status"), ready, "{step:?} {command}");
            let ended = at("/status/containerStatuses/0/state/terminated/exitCode");
            assert_eq!(ended.as_i64(), code, "{step:?} {command}");
        }
    }
}
