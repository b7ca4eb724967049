//! Questions to a pod's specification, with upstream's defaults for what is not set.

use std::sync::LazyLock;

use api::core::v1::{Container, Pod, PodSpec, PodStatus};

static NO_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
static NO_STATUS: LazyLock<PodStatus> = LazyLock::new(PodStatus::default);

/// Set on a pod that comes from a file; the value is its hash and its uid.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Where a pod comes from: `file`, or `api` when absent.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Set on the API's image of a pod that comes from a file.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

pub fn status(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap_or(&NO_STATUS)
}

/// `name_namespace(uid)`, as upstream's messages call a pod.
pub fn full(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether the pod comes from a file on this node.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// An init container that keeps running beside the pod's containers (KEP 753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The ephemeral containers as ordinary ones.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let convert = |c: &api::core::v1::EphemeralContainer| Container {
        args: c.args.clone(),
        command: c.command.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        image: c.image.clone(),
        image_pull_policy: c.image_pull_policy.clone(),
        name: c.name.clone(),
        security_context: c.security_context.clone(),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy.clone(),
        tty: c.tty,
        volume_mounts: c.volume_mounts.clone(),
        working_dir: c.working_dir.clone(),
        ..Container::default()
    };
    spec(pod).ephemeral_containers.iter().flatten().map(convert).collect()
}

/// A container of any sort by name.
pub fn container(pod: &Pod, name: &str) -> Option<Container> {
    let spec = spec(pod);
    let ordinary = spec.containers.iter().chain(init_containers(pod)).find(|c| c.name == name).cloned();
    ordinary.or_else(|| ephemeral_containers(pod).into_iter().find(|c| c.name == name))
}

/// Where messages and events locate a container: `spec.containers{name}`.
pub fn field_path(pod: &Pod, name: &str) -> String {
    let list = if init_containers(pod).iter().any(|c| c.name == name) {
        "initContainers"
    } else if spec(pod).ephemeral_containers.iter().flatten().any(|c| c.name == name) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    format!("spec.{list}{{{name}}}")
}

/// Whether a container that ended with `exit_code` is to be started again: its own rules first, then its own
/// policy, then the pod's (KEP 5307).
pub fn should_restart(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(on) = &rule.exit_codes else { continue };
        let listed = on.values.iter().flatten().any(|v| *v == exit_code);
        let matches = if on.operator == "NotIn" { !listed } else { listed };
        if matches {
            return rule.action == "Restart";
        }
    }
    match container.restart_policy.as_deref().unwrap_or_else(|| restart_policy(pod)) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Seconds that a pod is given to end: what the deletion says, else the specification, else 30.
pub fn grace_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(30)
        .max(0)
}

pub fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}
