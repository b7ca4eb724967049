//! The security context of a container: its own settings over the pod's.

use std::path::Path;

use api::core::v1::{Container, Pod, SeccompProfile, SecurityContext};
use cri::v1;

use super::spec;

/// The paths that are hidden in, and made read-only in, an ordinary container's /proc and /sys. They are moby's.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// How the node is set up.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Where Localhost seccomp profiles lie.
    pub seccomp_root: std::path::PathBuf,
    /// Upstream's `--seccomp-default`.
    pub seccomp_default: bool,
}

/// The user that an image asks for: a number or a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

/// The container's context, with the pod's settings where it has none.
pub fn effective(pod: &Pod, container: &Container) -> SecurityContext {
    let mut out = container.security_context.clone().unwrap_or_default();
    if let Some(of_pod) = &spec::spec(pod).security_context {
        out.run_as_user = out.run_as_user.or(of_pod.run_as_user);
        out.run_as_group = out.run_as_group.or(of_pod.run_as_group);
        out.run_as_non_root = out.run_as_non_root.or(of_pod.run_as_non_root);
        out.se_linux_options = out.se_linux_options.or_else(|| of_pod.se_linux_options.clone());
        out.seccomp_profile = out.seccomp_profile.or_else(|| of_pod.seccomp_profile.clone());
    }
    out
}

/// Refuses root where the pod forbids it.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let context = effective(pod, container);
    if context.run_as_non_root != Some(true) {
        return Ok(());
    }
    let whom = format!("(pod: {:?}, container: {})", spec::full(pod), container.name);
    match (context.run_as_user, image.uid, image.name.as_str()) {
        (Some(0), ..) => Err(format!("container's runAsUser breaks non-root policy {whom}")),
        (Some(_), ..) => Ok(()),
        (None, Some(0), _) => Err(format!("container has runAsNonRoot and image will run as root {whom}")),
        (None, None, name) if !name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {whom}"
        )),
        _ => Ok(()),
    }
}

/// The pod's namespaces. Each container has processes of its own unless the pod shares them.
pub fn namespaces(pod: &Pod) -> v1::NamespaceOption {
    let pod_spec = spec::spec(pod);
    let mode = |host: bool, otherwise: v1::NamespaceMode| if host { v1::NamespaceMode::Node } else { otherwise } as i32;
    let pid = if pod_spec.share_process_namespace == Some(true) {
        v1::NamespaceMode::Pod
    } else {
        v1::NamespaceMode::Container
    };
    v1::NamespaceOption {
        network: mode(spec::host_network(pod), v1::NamespaceMode::Pod),
        pid: mode(pod_spec.host_pid == Some(true), pid),
        ipc: mode(pod_spec.host_ipc == Some(true), v1::NamespaceMode::Pod),
        ..v1::NamespaceOption::default()
    }
}

/// fsGroup and the supplemental groups.
pub fn groups(pod: &Pod) -> (Vec<i64>, i32) {
    let Some(context) = &spec::spec(pod).security_context else { return Default::default() };
    let groups = context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied());
    let strict = context.supplemental_groups_policy.as_deref() == Some("Strict");
    let policy =
        if strict { v1::SupplementalGroupsPolicy::Strict } else { v1::SupplementalGroupsPolicy::Merge };
    (groups.collect(), policy as i32)
}

fn seccomp(profile: Option<&SeccompProfile>, node: &Node) -> Result<v1::SecurityProfile, String> {
    use v1::security_profile::ProfileType;
    let of = |t: ProfileType, path: Option<&Path>| v1::SecurityProfile {
        profile_type: t as i32,
        localhost_ref: path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    Ok(match profile {
        None if node.seccomp_default => of(ProfileType::RuntimeDefault, None),
        None => of(ProfileType::Unconfined, None),
        Some(p) => match (p.type_.as_str(), p.localhost_profile.as_deref()) {
            ("RuntimeDefault", _) => of(ProfileType::RuntimeDefault, None),
            ("Localhost", Some(name)) if !name.is_empty() => {
                of(ProfileType::Localhost, Some(&node.seccomp_root.join(name)))
            }
            ("Localhost", _) => {
                return Err("localhostProfile must be set if seccompProfile type is Localhost.".into());
            }
            _ => of(ProfileType::Unconfined, None),
        },
    })
}

/// What the runtime is told.
pub fn container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    node: &Node,
) -> Result<v1::LinuxContainerSecurityContext, String> {
    let context = effective(pod, container);
    let (supplemental_groups, supplemental_groups_policy) = groups(pod);
    let unmasked = context.proc_mount.as_deref() == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let user = context.run_as_user.or(image.uid);
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: context.capabilities.as_ref().map(|c| v1::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            ..v1::Capability::default()
        }),
        privileged: context.privileged == Some(true),
        namespace_options: Some(namespaces(pod)),
        selinux_options: context.se_linux_options.as_ref().map(|o| v1::SeLinuxOption {
            user: o.user.clone().unwrap_or_default(),
            role: o.role.clone().unwrap_or_default(),
            r#type: o.type_.clone().unwrap_or_default(),
            level: o.level.clone().unwrap_or_default(),
        }),
        run_as_user: user.map(|value| v1::Int64Value { value }),
        run_as_group: context.run_as_group.map(|value| v1::Int64Value { value }),
        run_as_username: if user.is_none() { image.name.clone() } else { String::new() },
        readonly_rootfs: context.read_only_root_filesystem == Some(true),
        supplemental_groups,
        supplemental_groups_policy,
        no_new_privs: context.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(context.seccomp_profile.as_ref(), node)?),
        ..v1::LinuxContainerSecurityContext::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn root_is_refused_where_forbidden() {
        let image = |uid, name: &str| ImageUser { uid, name: name.into() };
        for (pod_context, own, image, expect) in [
            (json!({}), json!({}), image(Some(0), ""), ""),
            (json!({"runAsNonRoot": true}), json!({}), image(Some(0), ""), "image will run as root"),
            (json!({"runAsNonRoot": true}), json!({"runAsUser": 5}), image(Some(0), ""), ""),
            (
                json!({"runAsNonRoot": true, "runAsUser": 0}),
                json!({}),
                image(Some(1), ""),
                "breaks non-root policy",
            ),
            (json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), image(Some(0), ""), ""),
            (json!({"runAsNonRoot": true}), json!({}), image(None, "web"), "non-numeric user (web)"),
        ] {
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [], "securityContext": pod_context}}))
                    .expect("a pod");
            let c: Container =
                serde_json::from_value(json!({"name": "c", "securityContext": own})).expect("a container");
            let got = verify_non_root(&pod, &c, &image).err().unwrap_or_default();
            assert!(
                if expect.is_empty() { got.is_empty() } else { got.contains(expect) },
                "{pod_context} {own}: {got}"
            );
        }
    }

    #[test]
    fn settings_reach_the_runtime() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "shareProcessNamespace": true,
            "securityContext": {"runAsUser": 7, "fsGroup": 9, "supplementalGroups": [10], "seccompProfile": {"type": "RuntimeDefault"}}}}))
        .expect("a pod");
        let c: Container = serde_json::from_value(json!({"name": "c", "securityContext": {
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "runAsGroup": 8, "procMount": "Unmasked"}}))
        .expect("a container");
        let got = container(&pod, &c, &ImageUser::default(), &Node::default()).expect("a context");
        assert_eq!(got.run_as_user.map(|v| v.value), Some(7));
        assert_eq!(got.run_as_group.map(|v| v.value), Some(8));
        assert_eq!(got.supplemental_groups, [9, 10]);
        assert!(got.no_new_privs && got.readonly_rootfs && got.masked_paths.is_empty());
        assert_eq!(
            got.seccomp.map(|s| s.profile_type),
            Some(v1::security_profile::ProfileType::RuntimeDefault as i32)
        );
        assert_eq!(got.namespace_options.map(|n| n.pid), Some(v1::NamespaceMode::Pod as i32));
    }
}
