//! Labels and annotations on sandboxes and containers: the kubelet's memory, in the runtime. The names are
//! upstream's, so that either kubelet can go on with the other's pods.

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod};
use cri::v1;

use super::spec;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Which kubelet made a sandbox: its root directory. Several kubelets may share one runtime, and each collects
/// only what is its own.
pub const OWNER: &str = "corten.dev/kubelet-root";

type Map = BTreeMap<String, String>;

/// A sandbox's labels.
pub fn sandbox_labels(pod: &Pod) -> Map {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(POD_NAME.into(), spec::name(pod).into());
    labels.insert(POD_NAMESPACE.into(), spec::namespace(pod).into());
    labels.insert(POD_UID.into(), spec::uid(pod).into());
    labels
}

/// A sandbox's annotations: the pod's, and the owner.
pub fn sandbox_annotations(pod: &Pod, owner: &str) -> Map {
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(OWNER.into(), owner.into());
    annotations
}

/// A container's labels.
pub fn container_labels(pod: &Pod, container: &Container) -> Map {
    BTreeMap::from([
        (POD_NAME.into(), spec::name(pod).into()),
        (POD_NAMESPACE.into(), spec::namespace(pod).into()),
        (POD_UID.into(), spec::uid(pod).into()),
        (CONTAINER_NAME.into(), container.name.clone()),
    ])
}

/// A container's annotations.
pub fn container_annotations(pod: &Pod, container: &Container, restart_count: i32) -> Map {
    let mut map = BTreeMap::from([
        (HASH.into(), format!("{:x}", hash(container))),
        (RESTART_COUNT.into(), restart_count.to_string()),
        (MESSAGE_PATH.into(), container.termination_message_path.clone().unwrap_or_default()),
        (MESSAGE_POLICY.into(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        map.insert(DELETION_GRACE.into(), seconds.to_string());
    }
    if let Some(seconds) = spec::spec(pod).termination_grace_period_seconds {
        map.insert(TERMINATION_GRACE.into(), seconds.to_string());
    }
    let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(text) = hook.and_then(|h| serde_json::to_string(h).ok()) {
        map.insert(PRE_STOP.into(), text);
    }
    let ports = container.ports.as_ref().filter(|p| !p.is_empty());
    if let Some(text) = ports.and_then(|p| serde_json::to_string(p).ok()) {
        map.insert(PORTS.into(), text);
    }
    map
}

/// The hash by which a container is compared with its specification: upstream's 32 bit FNV-1a over a printed
/// byte slice of the JSON of name and image, since nothing else of a running container may change.
pub fn hash(container: &Container) -> u64 {
    let fields =
        serde_json::json!({"image": container.image.as_deref().unwrap_or_default(), "name": container.name});
    let json = fields.to_string();
    let bytes: Vec<String> = json.bytes().map(|b| b.to_string()).collect();
    let printed = format!("([]uint8)[{}]", bytes.join(" "));
    let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    u64::from(printed.bytes().fold(0x811c_9dc5, fnv))
}

pub fn hash_of(annotations: &Map) -> Option<u64> {
    annotations.get(HASH).and_then(|text| u64::from_str_radix(text, 16).ok())
}

pub fn restart_count_of(annotations: &Map) -> i32 {
    annotations.get(RESTART_COUNT).and_then(|text| text.parse().ok()).unwrap_or_default()
}

pub fn container_name(labels: &Map, metadata: Option<&v1::ContainerMetadata>) -> String {
    let by_label = labels.get(CONTAINER_NAME).cloned();
    by_label.or_else(|| metadata.map(|m| m.name.clone())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is upstream's own, in container_hash_test.go.
    #[test]
    fn the_hash_is_upstreams() {
        let container = Container {
            name: "test_container".into(),
            image: Some("foo/image:v1".into()),
            ..Container::default()
        };
        assert_eq!(hash(&container), 0x8e45_cbd0);
    }
}
