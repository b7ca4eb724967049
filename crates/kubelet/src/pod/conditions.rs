//! The conditions that the kubelet writes into a pod's status.

use api::core::v1::{ContainerStatus, Pod, PodCondition};

use super::observed::Observed;
use super::{plan, spec};

/// The kubelet's own conditions, in the order in which they are written. Others are kept as they are.
pub const OWNED: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

/// All of the kubelet's conditions, without transition times. `others` are the conditions of readiness gates.
pub fn conditions(
    pod: &Pod,
    observed: &Observed,
    statuses: &[ContainerStatus],
    phase: &str,
    others: &[PodCondition],
) -> Vec<PodCondition> {
    let sandbox_ready = !plan::sandbox_changed(pod, observed).0;
    let containers_ready = containers_ready(pod, statuses, phase);
    let ready = ready(pod, &containers_ready, others);
    let mut all = vec![
        condition("PodReadyToStartContainers", sandbox_ready, "", String::new()),
        initialized(pod, statuses, phase),
        ready,
        containers_ready,
        condition("PodScheduled", true, "", String::new()),
    ];
    for c in &mut all {
        c.observed_generation = pod.metadata.generation;
    }
    all
}

fn condition(type_: &str, holds: bool, reason: &str, message: String) -> PodCondition {
    PodCondition {
        type_: type_.into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: (!reason.is_empty()).then(|| reason.into()),
        message: (!message.is_empty()).then_some(message),
        ..PodCondition::default()
    }
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

/// `[a b]`, as Go prints a list of strings.
fn go_list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn containers_ready(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in sidecars.chain(&spec::spec(pod).containers) {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if !s.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => {
            return condition("ContainersReady", false, "PodCompleted", String::new());
        }
        "Failed" => return condition("ContainersReady", false, "PodFailed", String::new()),
        _ => {}
    }
    let mut messages = Vec::new();
    if !unknown.is_empty() {
        messages.push(format!("containers with unknown status: {}", go_list(&unknown)));
    }
    if !unready.is_empty() {
        messages.push(format!("containers with unready status: {}", go_list(&unready)));
    }
    if messages.is_empty() {
        condition("ContainersReady", true, "", String::new())
    } else {
        condition("ContainersReady", false, "ContainersNotReady", messages.join(", "))
    }
}

fn ready(pod: &Pod, containers_ready: &PodCondition, others: &[PodCondition]) -> PodCondition {
    if containers_ready.status != "True" {
        return PodCondition { type_: "Ready".into(), ..containers_ready.clone() };
    }
    let mut messages = Vec::new();
    for gate in spec::spec(pod).readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match others.iter().find(|c| &c.type_ == name) {
            None => {
                messages
                    .push(format!("corresponding condition of pod readiness gate {name:?} does not exist."));
            }
            Some(c) if c.status != "True" => {
                let status = &c.status;
                messages
                    .push(format!("the status of pod readiness gate {name:?} is not \"True\", but {status}"));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        condition("Ready", true, "", String::new())
    } else {
        condition("Ready", false, "ReadinessGatesNotReady", messages.join(", "))
    }
}

fn initialized(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in spec::init_containers(pod) {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) => {
                let done = if spec::is_sidecar(container) { s.started == Some(true) } else { s.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition("Initialized", true, "PodCompleted", String::new());
    }
    if any_started(pod, statuses) {
        return condition("Initialized", true, "", String::new());
    }
    let mut messages = Vec::new();
    if !unknown.is_empty() {
        messages.push(format!("containers with unknown status: {}", go_list(&unknown)));
    }
    if !incomplete.is_empty() {
        messages.push(format!("containers with incomplete status: {}", go_list(&incomplete)));
    }
    if messages.is_empty() {
        condition("Initialized", true, "", String::new())
    } else {
        condition("Initialized", false, "ContainersNotInitialized", messages.join(", "))
    }
}

/// Whether any of the pod's own containers has been started, now or before.
fn any_started(pod: &Pod, statuses: &[ContainerStatus]) -> bool {
    spec::spec(pod).containers.iter().any(|c| {
        find(statuses, &c.name).is_some_and(|s| {
            let state = s.state.as_ref();
            let ended = |s: Option<&api::core::v1::ContainerState>| s.is_some_and(|s| s.terminated.is_some());
            state.is_some_and(|s| s.running.is_some()) || ended(state) || ended(s.last_state.as_ref())
        })
    })
}
