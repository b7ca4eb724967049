//! The status of a pod as the API shows it: a pure function. It follows upstream's `generateAPIPodStatus`.

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus,
    VolumeMountStatus,
};
use api::meta::v1::Time;
use jiff::Timestamp;

use super::conditions::{self, OWNED};
use super::observed::{Container as Seen, Observed, State};
use super::plan::should_start;
use super::{resources, spec};

/// Why a container is not started, by container name: reason and message.
pub type Reasons = BTreeMap<String, (String, String)>;

/// What probes say about running containers, by container id.
#[derive(Debug, Clone, Default)]
pub struct Probed {
    /// Past their startup probe, if they have one.
    pub started: BTreeSet<String>,
    /// Ready, which implies started.
    pub ready: BTreeSet<String>,
}

/// Everything that goes into a status.
pub struct Input<'a> {
    pub pod: &'a Pod,
    /// The status written last, or the API's when none was written since the start.
    pub old: &'a PodStatus,
    pub observed: &'a Observed,
    pub reasons: &'a Reasons,
    pub probed: &'a Probed,
    /// The node's addresses, the primary one first.
    pub host_ips: &'a [String],
    /// The runtime's name, the scheme of container ids: `containerd`.
    pub runtime: &'a str,
    /// No container will be started any more.
    pub terminal: bool,
    /// A phase that was decided elsewhere, with reason and message: eviction, deadline, rejection.
    pub verdict: Option<&'a Verdict>,
    pub now: Timestamp,
}

/// Why the kubelet ended a pod by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// The API's times have whole seconds.
pub fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn time_of(nanos: i64) -> Option<Time> {
    (nanos != 0).then(|| Timestamp::from_second(nanos.div_euclid(1_000_000_000)).ok().map(Time)).flatten()
}

pub fn status(input: &Input) -> PodStatus {
    let pod = input.pod;
    let pod_spec = spec::spec(pod);
    let old = input.old;
    let mut out = PodStatus {
        qos_class: Some(resources::qos_class(pod).into()),
        observed_generation: pod.metadata.generation,
        start_time: old.start_time.clone().or_else(|| Some(seconds(input.now))),
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ..PodStatus::default()
    };

    let ephemeral = spec::ephemeral_containers(pod);
    let list = |containers: &[Container], previous: &Option<Vec<ContainerStatus>>, init: bool| {
        let previous = previous.as_deref().unwrap_or_default();
        let list: Vec<_> = containers.iter().map(|c| container_status(input, c, previous, init)).collect();
        (!list.is_empty()).then_some(list)
    };
    out.container_statuses = list(&pod_spec.containers, &old.container_statuses, false).map(|mut l| {
        l.sort_by(|a, b| a.name.cmp(&b.name));
        l
    });
    out.init_container_statuses = list(spec::init_containers(pod), &old.init_container_statuses, true);
    out.ephemeral_container_statuses = list(&ephemeral, &old.ephemeral_container_statuses, false);

    if input.terminal {
        settle(pod, &mut out);
    }
    let all: Vec<ContainerStatus> = out
        .init_container_statuses
        .iter()
        .flatten()
        .chain(out.container_statuses.iter().flatten())
        .cloned()
        .collect();
    let mut phase = phase(pod, &all, input.terminal).to_owned();
    for earlier in [old.phase.as_deref(), spec::status(pod).phase.as_deref()] {
        if let Some(earlier) =
            earlier.filter(|e| spec::is_terminal(Some(e)) && !spec::is_terminal(Some(&phase)))
        {
            phase = earlier.to_owned();
        }
    }
    if old.phase.as_deref() == Some(&phase) {
        out.reason = old.reason.clone().or_else(|| spec::status(pod).reason.clone());
        out.message = old.message.clone().or_else(|| spec::status(pod).message.clone());
    }
    if let Some(verdict) = input.verdict {
        phase = "Failed".into();
        out.reason = Some(verdict.reason.clone());
        out.message = Some(verdict.message.clone());
    }
    if input.terminal && !spec::is_static(pod) && !spec::is_terminal(Some(&phase)) {
        phase = "Failed".into();
    }
    if let Some(settled) = spec::status(pod).phase.as_deref().filter(|p| spec::is_terminal(Some(p))) {
        phase = settled.to_owned();
    }

    let foreign = |c: &&PodCondition| !OWNED.contains(&c.type_.as_str());
    let kept: Vec<PodCondition> =
        spec::status(pod).conditions.iter().flatten().filter(foreign).cloned().collect();
    let mut all_conditions = kept.clone();
    all_conditions.extend(conditions::conditions(pod, input.observed, &all, &phase, &kept));
    let previous = old.conditions.as_deref().unwrap_or_default();
    for c in &mut all_conditions {
        let before = previous.iter().find(|p| p.type_ == c.type_);
        if let Some(since) =
            before.filter(|p| p.status == c.status).and_then(|p| p.last_transition_time.clone())
        {
            c.last_transition_time = Some(since);
        } else if OWNED.contains(&c.type_.as_str()) {
            c.last_transition_time = Some(seconds(input.now));
        }
    }
    out.conditions = Some(all_conditions);

    out.host_ip = input.host_ips.first().cloned();
    out.host_ips = (!input.host_ips.is_empty())
        .then(|| input.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let mut ips: Vec<String> = sorted_ips(input.observed.ips(), input.host_ips);
    if spec::host_network(pod) {
        ips = old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
        if ips.is_empty() {
            ips = input.host_ips.iter().take(1).cloned().collect();
        }
    }
    out.pod_ip = ips.first().cloned();
    out.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
    out.phase = Some(phase);
    out
}

/// What was never seen to end counts as failed, once no container will be started any more. Containers that the
/// pod's init containers never let start stay waiting.
fn settle(pod: &Pod, status: &mut PodStatus) {
    let inits = spec::init_containers(pod);
    let ended = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.terminated.is_some());
    let moved = |s: &ContainerStatus| {
        let waits = s.state.as_ref().is_none_or(|s| s.waiting.is_some());
        !waits || s.last_state.as_ref().is_some_and(|l| l.terminated.is_some())
    };
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let last_init = status.init_container_statuses.iter().flatten().next_back();
    let initialized = inits.is_empty() || statuses.iter().any(moved) || last_init.is_some_and(|s| s.ready);
    if !initialized {
        return;
    }
    for container in status.container_statuses.iter_mut().flatten().filter(|s| !ended(s)) {
        container.state = Some(terminated(ContainerStateTerminated {
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            exit_code: 137,
            ..ContainerStateTerminated::default()
        }));
    }
}

/// At most one address per family, the node's primary family first.
pub fn sorted_ips(ips: &[String], host_ips: &[String]) -> Vec<String> {
    let is_v6 = |ip: &str| ip.contains(':');
    let v6_first = host_ips.first().is_some_and(|ip| is_v6(ip));
    let pick = |v6: bool| ips.iter().find(|ip| is_v6(ip) == v6).cloned();
    [pick(v6_first), pick(!v6_first)].into_iter().flatten().collect()
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: (!reason.is_empty()).then(|| reason.into()),
            message: (!message.is_empty()).then(|| message.into()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(state: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(state), ..ContainerState::default() }
}

/// The state of one life of a container.
fn state_of(seen: &Seen, runtime: &str, old: Option<&ContainerStatus>) -> ContainerState {
    let id = Some(format!("{runtime}://{}", seen.id));
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    match seen.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time_of(seen.started_at) }),
            ..ContainerState::default()
        },
        State::Exited => terminated(ContainerStateTerminated {
            container_id: id,
            exit_code: seen.exit_code,
            started_at: time_of(seen.started_at),
            finished_at: time_of(seen.finished_at),
            reason: text(&seen.reason),
            message: text(&seen.message),
            signal: None,
        }),
        State::Unknown if old.and_then(|o| o.state.as_ref()).is_some_and(|s| s.running.is_some()) => {
            terminated(ContainerStateTerminated {
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                exit_code: 137,
                ..ContainerStateTerminated::default()
            })
        }
        State::Created | State::Unknown => waiting("", ""),
    }
}

fn container_status(
    input: &Input,
    container: &Container,
    previous: &[ContainerStatus],
    init: bool,
) -> ContainerStatus {
    let pod = input.pod;
    let old = previous.iter().find(|s| s.name == container.name);
    let seen: Vec<&Seen> =
        input.observed.containers.iter().filter(|c| c.name == container.name).take(2).collect();
    let default_reason =
        if spec::init_containers(pod).is_empty() { "ContainerCreating" } else { "PodInitializing" };

    let mut out = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(default_reason, "")),
        last_state: Some(ContainerState::default()),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    };
    match seen.first() {
        None => {
            if let Some(old) = old {
                let running = old.state.as_ref().is_some_and(|s| s.running.is_some());
                let ended = old.state.as_ref().and_then(|s| s.terminated.as_ref());
                out.restart_count = old.restart_count;
                out.last_state = old.last_state.clone().or(Some(ContainerState::default()));
                if ended.is_some() {
                    out = old.clone();
                } else if running && out.last_state.as_ref().is_none_or(|s| s.terminated.is_none()) {
                    out.last_state = Some(terminated(ContainerStateTerminated {
                        reason: Some("ContainerStatusUnknown".into()),
                        message: Some(
                            "The container could not be located when the pod was deleted.  The container used to be Running"
                                .into(),
                        ),
                        exit_code: 137,
                        ..ContainerStateTerminated::default()
                    }));
                    if pod.metadata.deletion_timestamp.is_none() {
                        out.restart_count += 1;
                    }
                }
            }
        }
        Some(now) => {
            out.restart_count = now.restart_count;
            out.image = now.image.clone();
            out.image_id = now.image_ref.clone();
            out.container_id = Some(format!("{}://{}", input.runtime, now.id));
            out.state = Some(state_of(now, input.runtime, old));
            out.user = now.user.as_ref().map(|u| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: u.uid,
                    gid: u.gid,
                    supplemental_groups: Some(u.supplemental_groups.clone()),
                }),
            });
            out.resources = Some(container.resources.clone().unwrap_or_default());
            out.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
            if let Some(before) = seen.get(1) {
                out.last_state = Some(state_of(before, input.runtime, None));
            } else if let Some(before) = old.filter(|o| o.container_id == out.container_id) {
                // The former life has been collected, and is still remembered.
                out.last_state = before.last_state.clone().or(Some(ContainerState::default()));
            }
        }
    }

    let newest = seen.first().copied();
    if init && newest.is_none() && any_regular_created(input) && !spec::is_sidecar(container) {
        if out.state.as_ref().is_some_and(|s| s.waiting.is_some()) {
            out.state = Some(terminated(ContainerStateTerminated {
                reason: Some("Completed".into()),
                message: Some(
                    "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
                        .into(),
                ),
                ..ContainerStateTerminated::default()
            }));
        }
    } else if !(init
        && newest
            .is_some_and(|s| s.state == State::Exited && s.exit_code == 0 && !spec::is_sidecar(container)))
        && should_start(pod, container, input.observed)
        && let Some((reason, message)) = input.reasons.get(&container.name)
    {
        if out.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            out.last_state = out.state.take();
        }
        out.state = Some(waiting(reason, message));
    }

    probe_results(input, container, newest, init, &mut out);
    out
}

/// Sets `started` and `ready`.
fn probe_results(
    input: &Input,
    container: &Container,
    newest: Option<&Seen>,
    init: bool,
    out: &mut ContainerStatus,
) {
    let running = newest.filter(|_| out.state.as_ref().is_some_and(|s| s.running.is_some()));
    if init && !spec::is_sidecar(container) {
        let ended = out.state.as_ref().and_then(|s| s.terminated.as_ref());
        out.ready = ended.is_some_and(|t| t.exit_code == 0);
        out.started = Some(running.is_some());
        return;
    }
    let is = |set: &BTreeSet<String>| running.is_some_and(|c| set.contains(&c.id));
    out.started = Some(is(&input.probed.started));
    out.ready = is(&input.probed.ready);
}

fn any_regular_created(input: &Input) -> bool {
    spec::spec(input.pod).containers.iter().any(|c| input.observed.container(&c.name).is_some())
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let list: Vec<_> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only.filter(|r| *r),
            recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".into()),
            ..VolumeMountStatus::default()
        })
        .collect();
    (!list.is_empty()).then_some(list)
}

/// The pod's phase from its containers' states, as upstream's `getPhase`. Public for its table of tests.
pub fn phase(pod: &Pod, statuses: &[ContainerStatus], terminal: bool) -> &'static str {
    let find = |name: &str| statuses.iter().find(|s| s.name == name);
    let (mut pending_init, mut pending_sidecar) = (0, 0);
    let (mut unknown, mut running, mut waiting) = (0, 0, 0);
    let (mut stopped, mut stopped_for_good, mut succeeded) = (0, 0, 0);
    let mut failed_for_good = false;
    let mut has_initialized = false;

    for c in spec::init_containers(pod) {
        let status = find(&c.name);
        let state = status.and_then(|s| s.state.as_ref());
        let last = status.and_then(|s| s.last_state.as_ref()?.terminated.as_ref());
        if spec::is_sidecar(c) {
            match state {
                Some(s) if s.running.is_some() => {
                    running += 1;
                    if status.is_none_or(|s| s.started != Some(true)) {
                        pending_sidecar += 1;
                    }
                }
                Some(s) if s.terminated.is_some() => {}
                Some(s) if s.waiting.is_some() => {
                    if last.is_none() {
                        pending_sidecar += 1;
                        waiting += 1;
                    }
                }
                _ => {
                    unknown += 1;
                    pending_sidecar += i32::from(status.is_some());
                }
            }
            continue;
        }
        let ended = match state {
            Some(s) if s.terminated.is_some() => s.terminated.as_ref(),
            Some(s) if s.waiting.is_some() => last,
            _ => None,
        };
        match ended {
            None => pending_init += 1,
            Some(t) if t.exit_code != 0 => failed_for_good |= !spec::should_restart(pod, c, t.exit_code),
            Some(_) => {}
        }
    }
    for c in &spec::spec(pod).containers {
        let status = find(&c.name);
        let state = status.and_then(|s| s.state.as_ref());
        let last = status.and_then(|s| s.last_state.as_ref()?.terminated.as_ref());
        let mut stop = |exit_code: i32| {
            stopped += 1;
            stopped_for_good += i32::from(!spec::should_restart(pod, c, exit_code));
        };
        match state {
            Some(s) if s.running.is_some() => {
                running += 1;
                has_initialized = true;
            }
            Some(ContainerState { terminated: Some(t), .. }) => {
                stop(t.exit_code);
                succeeded += i32::from(t.exit_code == 0);
                has_initialized = true;
            }
            Some(s) if s.waiting.is_some() => match last {
                Some(t) => {
                    stop(t.exit_code);
                    has_initialized = true;
                }
                None => waiting += 1,
            },
            _ => unknown += 1,
        }
    }

    if failed_for_good {
        return "Failed";
    }
    if pending_init > 0 || (pending_sidecar > 0 && !has_initialized) || waiting > 0 {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        let outcome = if stopped == succeeded { "Succeeded" } else { "Failed" };
        if terminal && !spec::is_static(pod) {
            return outcome;
        }
        return if stopped != stopped_for_good { "Running" } else { outcome };
    }
    "Pending"
}

/// The strategic merge patch that brings the API's status from `old` to `new`; `None` when they agree. The uid
/// makes it fail for another pod of the same name.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<serde_json::Value> {
    use serde_json::{Map, Value, json};
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) =
        (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return None;
    };
    let mut changes = Map::new();
    for (key, value) in &new {
        if old.get(key) == Some(value) {
            continue;
        }
        let merge_key = match key.as_str() {
            "conditions" => "type",
            "podIPs" | "hostIPs" => "ip",
            _ => {
                changes.insert(key.clone(), value.clone());
                continue;
            }
        };
        let none = Vec::new();
        let before = old.get(key).and_then(Value::as_array).unwrap_or(&none);
        let after = value.as_array().unwrap_or(&none);
        let same = |a: &Value, b: &Value| a.get(merge_key) == b.get(merge_key);
        let mut list: Vec<Value> = after.iter().filter(|a| !before.contains(a)).cloned().collect();
        for change in &mut list {
            // What the new one lacks has to be taken away by name.
            let gone = before.iter().find(|b| same(b, change)).and_then(Value::as_object).cloned();
            if let (Some(gone), Some(change)) = (gone, change.as_object_mut()) {
                for field in gone.keys().filter(|f| !change.contains_key(*f)).cloned().collect::<Vec<_>>() {
                    change.insert(field, Value::Null);
                }
            }
        }
        for b in before.iter().filter(|b| !after.iter().any(|a| same(a, b))) {
            list.push(json!({"$patch": "delete", merge_key: b.get(merge_key)}));
        }
        let order: Vec<Value> = after.iter().map(|a| json!({merge_key: a.get(merge_key)})).collect();
        changes.insert(format!("$setElementOrder/{key}"), Value::Array(order));
        changes.insert(key.clone(), Value::Array(list));
    }
    for key in old.keys().filter(|k| !new.contains_key(*k)) {
        changes.insert(key.clone(), Value::Null);
    }
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
