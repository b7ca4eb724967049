//! Pods: what became of their containers, in a few words.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cell::{condition, created, is_true, list, name, number, since, string, text_or, time};
use super::{AGE, Column, Columns, NAME};

pub(super) const POD: Columns = Columns {
    definitions: &[
        NAME,
        Column::text("Ready", "Containers that are ready, of all that run along."),
        Column::text("Status", "What the containers are doing, taken together."),
        Column::text("Restarts", "Restarts of the containers, and how long ago the last one was."),
        AGE,
        Column::wide("IP", "Address of the pod."),
        Column::wide("Node", "Node that the pod is on."),
        Column::wide("Nominated Node", "Node on which room is being made for the pod."),
        Column::wide("Readiness Gates", "Readiness gates that are passed."),
    ],
    cells,
    conditions,
    order: None,
};

fn conditions(pod: &Value) -> Vec<Value> {
    let done = |reason: &str, message: &str| {
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    };
    match string(&pod["status"]["phase"]) {
        "Succeeded" => done("Succeeded", "The pod has completed successfully."),
        "Failed" => done("Failed", "The pod failed."),
        _ => Vec::new(),
    }
}

/// Restarts of some containers and when the last of them ended.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += number(&status["restartCount"]);
        self.last = self.last.max(time(&status["lastState"]["terminated"]["finishedAt"]));
    }
}

/// What the loop over containers found.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

/// Why a container ended: a reason, a signal or an exit code.
fn ended(terminated: &Value) -> String {
    match (string(&terminated["reason"]), number(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

fn summary(pod: &Value) -> Summary {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let reason = text_or(&status["reason"], string(&status["phase"]));
    let mut reason = string(&reason).to_string();
    let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if list(&status["conditions"]).iter().any(gated) {
        reason = "SchedulingGated".to_string();
    }
    let init = list(&spec["initContainers"]);
    let sidecar = |name: &Value| init.iter().any(|c| &c["name"] == name && c["restartPolicy"] == "Always");
    let sidecars = init.iter().filter(|c| c["restartPolicy"] == "Always").count();
    let total = list(&spec["containers"]).len() + sidecars;
    let (mut all, mut of_sidecars, mut ready) = (Restarts::default(), Restarts::default(), 0);

    let mut initializing = false;
    for (at, container) in list(&status["initContainerStatuses"]).iter().enumerate() {
        let is_sidecar = sidecar(&container["name"]);
        all.add(container);
        if is_sidecar {
            of_sidecars.add(container);
        }
        let terminated = &container["state"]["terminated"];
        let waiting = string(&container["state"]["waiting"]["reason"]);
        if !terminated.is_null() && number(&terminated["exitCode"]) == 0 {
            continue;
        }
        if is_sidecar && container["started"] == true {
            ready += usize::from(container["ready"] == true);
            continue;
        }
        reason = match (terminated.is_null(), waiting) {
            (false, _) => format!("Init:{}", ended(terminated)),
            (true, "" | "PodInitializing") => format!("Init:{at}/{}", init.len()),
            (true, waiting) => format!("Init:{waiting}"),
        };
        initializing = true;
        break;
    }
    if initializing && !is_true(condition(pod, "Initialized")) {
        return Summary { reason, ready, total, restarts: all };
    }

    let mut restarts = of_sidecars;
    let (mut running, mut failure) = (false, None);
    // from the last to the first, so that the first container's reason stays
    for container in list(&status["containerStatuses"]).iter().rev() {
        restarts.add(container);
        let state = &container["state"];
        let waiting = string(&state["waiting"]["reason"]);
        if !waiting.is_empty() {
            reason = waiting.to_string();
        } else if !state["terminated"].is_null() {
            reason = ended(&state["terminated"]);
            if number(&state["terminated"]["exitCode"]) != 0 {
                failure = Some(reason.clone());
            }
        } else if container["ready"] == true && !state["running"].is_null() {
            running = true;
            ready += 1;
        }
    }
    if reason == "Completed" {
        reason = match failure {
            _ if running && is_ready(pod) => "Running".to_string(),
            Some(failure) => failure,
            None if running => "NotReady".to_string(),
            None => reason,
        };
    }
    Summary { reason, ready, total, restarts }
}

fn is_ready(pod: &Value) -> bool {
    list(&pod["status"]["conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let Summary { mut reason, ready, total, restarts } = summary(pod);
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        if status["reason"] == "NodeLost" {
            reason = "Unknown".to_string();
        } else if !matches!(string(&status["phase"]), "Succeeded" | "Failed") {
            reason = "Terminating".to_string();
        }
    }
    let restarts = match restarts.last {
        Some(last) if restarts.count != 0 => {
            format!("{} ({} ago)", restarts.count, since(&Value::String(last.to_string()), now))
        }
        _ => restarts.count.to_string(),
    };
    let gates = list(&spec["readinessGates"]);
    let passed = gates.iter().filter(|gate| is_true(condition(pod, string(&gate["conditionType"])))).count();
    let gates = match gates.len() {
        0 => "<none>".to_string(),
        all => format!("{passed}/{all}"),
    };
    vec![
        name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.into(),
        created(pod, now),
        text_or(&status["podIPs"][0]["ip"], "<none>"),
        text_or(&spec["nodeName"], "<none>"),
        text_or(&status["nominatedNodeName"], "<none>"),
        gates.into(),
    ]
}
