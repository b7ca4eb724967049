//! The configuration of a container.

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod};
use cri::v1;

use super::security::{self, ImageUser};
use super::{env, labels, resources};

/// What was found out for this start of a container.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// How often it has been started before.
    pub restart_count: i32,
    /// The runtime's name of the image.
    pub image_ref: String,
    pub image_user: ImageUser,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<v1::Mount>,
    pub memory_capacity: i64,
    /// Whether CPU limits are enforced (upstream's `--cpu-cfs-quota`).
    pub cpu_quota: bool,
    pub node: security::Node,
    /// The id of the container whose processes an ephemeral container joins.
    pub target: Option<String>,
}

/// Errors are texts for the container's status.
pub fn config(pod: &Pod, container: &Container, input: &Input) -> Result<v1::ContainerConfig, String> {
    security::verify_non_root(pod, container, &input.image_user)?;
    let mut context = security::container(pod, container, &input.image_user, &input.node)?;
    if let (Some(target), Some(namespaces)) = (&input.target, &mut context.namespace_options)
        && namespaces.pid == v1::NamespaceMode::Container as i32
    {
        namespaces.pid = v1::NamespaceMode::Target as i32;
        namespaces.target_id = target.clone();
    }
    let value = |name: &str| input.env.get(name).cloned();
    let expand =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|word| env::expand(word, value)).collect();
    let attempt = u32::try_from(input.restart_count).unwrap_or_default();
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(v1::ImageSpec {
            image: input.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..v1::ImageSpec::default()
        }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: input
            .env
            .iter()
            .map(|(k, v)| v1::KeyValue { key: k.clone(), value: v.clone().into_bytes() })
            .collect(),
        mounts: input.mounts.clone(),
        labels: labels::container_labels(pod, container),
        annotations: labels::container_annotations(pod, container, input.restart_count),
        log_path: format!("{}/{}.log", container.name, input.restart_count),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(linux_resources(pod, container, input)),
            security_context: Some(context),
        }),
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|l| l.stop_signal.as_deref())
            .and_then(v1::Signal::from_str_name)
            .unwrap_or_default() as i32,
        ..v1::ContainerConfig::default()
    })
}

fn linux_resources(pod: &Pod, container: &Container, input: &Input) -> v1::LinuxContainerResources {
    let quota = resources::quota(resources::limit(container, "cpu"));
    v1::LinuxContainerResources {
        cpu_period: if input.cpu_quota { resources::CPU_PERIOD as i64 } else { 0 },
        cpu_quota: if input.cpu_quota { quota } else { 0 },
        cpu_shares: resources::shares(resources::request(container, "cpu")) as i64,
        memory_limit_in_bytes: resources::limit(container, "memory"),
        oom_score_adj: resources::oom_score_adj(pod, container, input.memory_capacity),
        ..v1::LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn commands_are_expanded_and_limits_set() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": []}}))
            .expect("a pod");
        let c: Container =
            serde_json::from_value(json!({"name": "c", "image": "i", "command": ["echo", "$(A) $(B)"],
            "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}))
            .expect("a container");
        let input = Input {
            restart_count: 3,
            env: [("A".into(), "1".into())].into(),
            memory_capacity: 1 << 30,
            cpu_quota: true,
            ..Input::default()
        };
        let got = config(&pod, &c, &input).expect("a config");
        assert_eq!(got.command, ["echo", "1 $(B)"]);
        assert_eq!((got.log_path.as_str(), got.metadata.map(|m| m.attempt)), ("c/3.log", Some(3)));
        let r = got.linux.and_then(|l| l.resources).expect("resources");
        assert_eq!(
            (r.cpu_quota, r.cpu_period, r.cpu_shares, r.memory_limit_in_bytes),
            (50_000, 100_000, 512, 64 << 20)
        );
    }
}
