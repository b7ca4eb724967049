//! The configuration of a pod's sandbox.

use api::core::v1::Pod;
use cri::v1;

use super::{hosts, labels, security, spec};

/// What the node adds.
#[derive(Debug, Clone, Default)]
pub struct Input {
    pub attempt: u32,
    pub cgroup_parent: String,
    pub dns: v1::DnsConfig,
    pub cluster_domain: String,
    /// Where the pod's logs go, see [`log_directory`].
    pub log_directory: String,
    /// The kubelet's root directory, see [`labels::OWNER`].
    pub owner: String,
}

/// `NAMESPACE_NAME_UID`, the name of a pod's log directory.
pub fn log_directory(pod: &Pod) -> String {
    format!("{}_{}_{}", spec::namespace(pod), spec::name(pod), spec::uid(pod))
}

pub fn config(pod: &Pod, input: &Input) -> Result<v1::PodSandboxConfig, String> {
    let host_network = spec::host_network(pod);
    let pod_spec = spec::spec(pod);
    let context = pod_spec.security_context.as_ref();
    let (supplemental_groups, supplemental_groups_policy) = security::groups(pod);
    let privileged = |c: &api::core::v1::Container| {
        c.security_context.as_ref().is_some_and(|s| s.privileged == Some(true))
    };
    let sysctls = context.and_then(|c| c.sysctls.as_ref()).into_iter().flatten();
    Ok(v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: spec::name(pod).into(),
            uid: spec::uid(pod).into(),
            namespace: spec::namespace(pod).into(),
            attempt: input.attempt,
        }),
        hostname: if host_network { String::new() } else { hosts::kernel_name(pod, &input.cluster_domain)? },
        log_directory: input.log_directory.clone(),
        dns_config: Some(input.dns.clone()),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod, &input.owner),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: input.cgroup_parent.clone(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(security::namespaces(pod)),
                run_as_user: context.and_then(|c| c.run_as_user).map(|value| v1::Int64Value { value }),
                run_as_group: context.and_then(|c| c.run_as_group).map(|value| v1::Int64Value { value }),
                supplemental_groups,
                supplemental_groups_policy,
                privileged: pod_spec.containers.iter().chain(spec::init_containers(pod)).any(privileged),
                seccomp: Some(v1::SecurityProfile {
                    profile_type: v1::security_profile::ProfileType::RuntimeDefault as i32,
                    localhost_ref: String::new(),
                }),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            // runc knows names with dots only.
            sysctls: sysctls.map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
            ..v1::LinuxPodSandboxConfig::default()
        }),
    })
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    let pod_spec = spec::spec(pod);
    let ports =
        pod_spec.containers.iter().chain(spec::init_containers(pod)).flat_map(|c| c.ports.iter().flatten());
    let mapping = |p: &api::core::v1::ContainerPort| v1::PortMapping {
        protocol: match p.protocol.as_deref() {
            Some("UDP") => v1::Protocol::Udp,
            Some("SCTP") => v1::Protocol::Sctp,
            _ => v1::Protocol::Tcp,
        } as i32,
        container_port: p.container_port,
        host_port: p.host_port.unwrap_or_default(),
        host_ip: p.host_ip.clone().unwrap_or_default(),
    };
    ports.map(mapping).collect()
}
