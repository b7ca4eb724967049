//! The status of the node.

use std::collections::BTreeMap;

use api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use api::resource::Quantity;
use client::Patch;
use jiff::{SignedDuration, Timestamp};

use crate::context::Context;
use crate::pod::status::seconds;

const NAMES_PER_IMAGE: usize = 5;

/// What hardly ever changes.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    port: u16,
    info: NodeSystemInfo,
    images: Vec<ContainerImage>,
}

/// The processor family as Go names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Identity {
    /// Reads what the machine says of itself; what it does not say stays empty.
    pub fn read(context: &Context, port: u16) -> Identity {
        let system = linux::sysinfo::system().ok();
        let info = NodeSystemInfo {
            architecture: architecture().into(),
            operating_system: "linux".into(),
            boot_id: linux::sysinfo::boot_id().unwrap_or_default(),
            machine_id: linux::sysinfo::machine_id().unwrap_or_default(),
            system_uuid: linux::sysinfo::system_uuid().unwrap_or_default(),
            kernel_version: system.as_ref().map(|s| s.release.clone()).unwrap_or_default(),
            os_image: system.map(|s| s.os_image).unwrap_or_default(),
            container_runtime_version: "containerd://Unknown".into(),
            kubelet_version: context.config.version.clone(),
            kube_proxy_version: String::new(),
            swap: None,
        };
        Identity { port, info, images: Vec::new() }
    }

    /// Asks the runtime for its version and its images.
    pub async fn refresh(&mut self, context: &Context) {
        let client = &context.runtime.client;
        if let Ok(v) = client.version().await {
            self.info.container_runtime_version = format!("{}://{}", v.runtime_name, v.runtime_version);
        }
        if let Ok(mut images) = client.list_images().await {
            // The largest first, as upstream has them.
            images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
            images.truncate(context.config.node_status_max_images);
            let image = |i: cri::v1::Image| ContainerImage {
                names: Some(i.repo_digests.into_iter().chain(i.repo_tags).take(NAMES_PER_IMAGE).collect()),
                size_bytes: i64::try_from(i.size).ok(),
            };
            self.images = images.into_iter().map(image).collect();
        }
    }
}

fn processors(milli: i64) -> Quantity {
    Quantity(apimachinery::quantity::Quantity::from_milli(milli).canonical())
}

/// The status now, over the one before.
pub async fn status(context: &Context, identity: &Identity, old: &NodeStatus) -> NodeStatus {
    let config = &context.config;
    let machine = &context.machine;
    let ki = |bytes: i64| Quantity(format!("{}Ki", bytes / 1024));
    let capacity = BTreeMap::from([
        ("cpu".to_owned(), processors(machine.milli_cpu)),
        ("memory".to_owned(), ki(machine.memory)),
        ("ephemeral-storage".to_owned(), ki(machine.disk)),
        ("pods".to_owned(), Quantity(config.max_pods.to_string())),
    ]);
    let [cpu, memory, disk] = context.allocatable;
    let mut allocatable = capacity.clone();
    allocatable.insert("cpu".into(), processors(cpu));
    allocatable.insert("memory".into(), ki(memory));
    allocatable.insert("ephemeral-storage".into(), Quantity(disk.to_string()));
    let address = |type_: &str, address: &str| NodeAddress { type_: type_.into(), address: address.into() };
    let mut addresses: Vec<_> = context.host_ips.iter().map(|ip| address("InternalIP", ip)).collect();
    addresses.push(address("Hostname", &config.hostname));

    let now = context.clock.now();
    let previous = old.conditions.as_deref().unwrap_or_default();
    NodeStatus {
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        addresses: Some(addresses),
        conditions: Some(conditions(previous, &Pressure::measure(context), &ready(context), now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(identity.port) }),
        }),
        node_info: Some(identity.info.clone()),
        images: Some(identity.images.clone()),
        declared_features: Some(vec![client::streaming::NODE_SPEAKS_WEBSOCKET.to_owned()]),
        ..NodeStatus::default()
    }
}

/// Which resources are short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

impl Pressure {
    fn measure(context: &Context) -> Pressure {
        let limits = &context.config.eviction_hard;
        let memory =
            linux::sysinfo::memory().is_ok_and(|m| m.available < limits.memory_available.of(m.total));
        let disk = linux::mount::usage(&context.config.root_dir).is_ok_and(|u| {
            u.available < limits.nodefs_available.of(u.capacity)
                || u.inodes_free < limits.nodefs_inodes_free.of(u.inodes)
        });
        let number = |path: &str, field: usize| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.split([' ', '/', '\n']).nth(field).and_then(|n| n.parse::<u64>().ok())
        };
        let most = number("/proc/sys/kernel/pid_max", 0);
        let running = number("/proc/loadavg", 4);
        let pids = most
            .zip(running)
            .is_some_and(|(most, running)| most.saturating_sub(running) < limits.pid_available.of(most));
        Pressure { memory, disk, pids }
    }
}

/// Why the node is not ready, if it is not.
fn ready(context: &Context) -> Vec<String> {
    let readiness = context.readiness.borrow().clone();
    let mut why: Vec<String> =
        [readiness.runtime, readiness.network].into_iter().filter_map(Result::err).collect();
    why.dedup();
    why
}

/// The four conditions, Ready last, as upstream orders them.
pub fn conditions(
    previous: &[NodeCondition],
    pressure: &Pressure,
    not_ready: &[String],
    now: Timestamp,
) -> Vec<NodeCondition> {
    let pressures = [
        (
            "MemoryPressure",
            pressure.memory,
            ["KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"],
            ["kubelet has insufficient memory available", "kubelet has sufficient memory available"],
        ),
        (
            "DiskPressure",
            pressure.disk,
            ["KubeletHasDiskPressure", "KubeletHasNoDiskPressure"],
            ["kubelet has disk pressure", "kubelet has no disk pressure"],
        ),
        (
            "PIDPressure",
            pressure.pids,
            ["KubeletHasInsufficientPID", "KubeletHasSufficientPID"],
            ["kubelet has insufficient PID available", "kubelet has sufficient PID available"],
        ),
    ];
    let make = |type_: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { "True" } else { "False" };
        let before = previous.iter().find(|c| c.type_ == type_).filter(|c| c.status == status);
        NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: Some(seconds(now)),
            last_transition_time: before
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(seconds(now))),
        }
    };
    let mut out: Vec<_> = pressures
        .into_iter()
        .map(|(type_, holds, reasons, messages)| {
            let which = usize::from(!holds);
            make(type_, holds, reasons[which], messages[which].to_owned())
        })
        .collect();
    out.push(match not_ready {
        [] => make("Ready", true, "KubeletReady", "kubelet is posting ready status".into()),
        [one] => make("Ready", false, "KubeletNotReady", one.clone()),
        many => make("Ready", false, "KubeletNotReady", format!("[{}]", many.join(", "))),
    });
    out
}

/// Whether two statuses differ in more than their heartbeats.
fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |s: &NodeStatus| {
        let mut s = s.clone();
        for c in s.conditions.iter_mut().flatten() {
            c.last_heartbeat_time = None;
        }
        s
    };
    still(a) != still(b)
}

/// Writes the status when it has changed, or when it has not been written for long.
pub async fn report(
    context: &Context,
    identity: &Identity,
    reported: &mut Option<(NodeStatus, Timestamp)>,
) -> Result<(), String> {
    let name = &context.config.node_name;
    let old = match reported {
        Some((old, _)) => old.clone(),
        None => {
            let node: Node = context.client.get("", name).await.map_err(|e| e.chain())?;
            node.status.unwrap_or_default()
        }
    };
    let new = status(context, identity, &old).await;
    let now = context.clock.now();
    if let Some((_, at)) = reported {
        let longest =
            SignedDuration::try_from(context.config.node_status_report_frequency).unwrap_or_default();
        if !differs(&old, &new) && now.duration_since(*at) < longest {
            return Ok(());
        }
    }
    let boot = old.node_info.as_ref().map(|i| i.boot_id.as_str()).unwrap_or_default();
    if reported.is_none() && !boot.is_empty() && boot != identity.info.boot_id {
        let message = format!("Node {name} has been rebooted, boot id: {}", identity.info.boot_id);
        context.events.node(true, "Rebooted", &message);
    }
    tell(context, &old, &new);
    let mut patch = serde_json::to_value(&new).map_err(|e| e.to_string())?;
    if let (Some(patch), Ok(serde_json::Value::Object(old))) =
        (patch.as_object_mut(), serde_json::to_value(&old))
    {
        patch.retain(|key, value| old.get(key) != Some(value));
        // Else addresses that are no longer there would stay: the list is merged.
        if let Some(serde_json::Value::Array(list)) = patch.get_mut("addresses") {
            list.push(serde_json::json!({"$patch": "replace"}));
        }
    }
    let patch = Patch::Strategic(serde_json::json!({"status": patch}));
    match context.client.patch_status::<Node>("", name, &patch).await {
        Ok(_) => {
            *reported = Some((new, now));
            Ok(())
        }
        Err(error) => {
            *reported = None;
            Err(error.chain())
        }
    }
}

/// Events for conditions that changed.
fn tell(context: &Context, old: &NodeStatus, new: &NodeStatus) {
    let before = old.conditions.as_deref().unwrap_or_default();
    for c in new.conditions.iter().flatten() {
        if before.iter().any(|b| b.type_ == c.type_ && b.status == c.status) {
            continue;
        }
        let reason = match (c.type_.as_str(), c.status.as_str()) {
            ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
            ("MemoryPressure", _) => "NodeHasSufficientMemory",
            ("DiskPressure", "True") => "NodeHasDiskPressure",
            ("DiskPressure", _) => "NodeHasNoDiskPressure",
            ("PIDPressure", "True") => "NodeHasInsufficientPID",
            ("PIDPressure", _) => "NodeHasSufficientPID",
            ("Ready", "True") => "NodeReady",
            _ => "NodeNotReady",
        };
        let name = &context.config.node_name;
        context.events.node(false, reason, &format!("Node {name} status is now: {reason}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_times_follow_the_status_only() {
        let at = |s: i64| Timestamp::from_second(s).expect("in range");
        let first = conditions(&[], &Pressure::default(), &["a".into(), "b".into()], at(10));
        let ready = |list: &[NodeCondition]| list.last().cloned().expect("a condition");
        assert_eq!(ready(&first).message.as_deref(), Some("[a, b]"));
        assert_eq!(
            first.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
        );
        let second = conditions(&first, &Pressure { disk: true, ..Pressure::default() }, &[], at(20));
        let times: Vec<i64> =
            second.iter().map(|c| c.last_transition_time.as_ref().map_or(0, |t| t.0.as_second())).collect();
        assert_eq!(times, [10, 20, 10, 20]);
        assert_eq!(ready(&second).reason.as_deref(), Some("KubeletReady"));
    }
}
