//! The control groups of pods: `kubepods`, below it one group per class, below that one per pod. Guaranteed pods
//! lie directly in `kubepods`. Names are the cgroupfs driver's.

use api::core::v1::Pod;
use linux::cgroup::Resources;

use super::{resources, spec};

const PREFIX: &str = "pod";

/// Where the pods of one kubelet live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Of the whole tree: `/` or a group per cluster, e.g. `/corten-a`.
    root: String,
}

impl Tree {
    pub fn new(root: &str) -> Tree {
        Tree { root: root.trim_end_matches('/').to_owned() }
    }

    /// `<root>/kubepods`.
    pub fn kubepods(&self) -> String {
        format!("{}/kubepods", self.root)
    }

    /// The group of a class.
    pub fn class(&self, qos_class: &str) -> String {
        match qos_class {
            "Guaranteed" => self.kubepods(),
            other => format!("{}/{}", self.kubepods(), other.to_ascii_lowercase()),
        }
    }

    /// The group of a pod, which its sandbox names as its parent.
    pub fn pod(&self, pod: &Pod) -> String {
        format!("{}/{PREFIX}{}", self.class(resources::qos_class(pod)), spec::uid(pod))
    }

    /// Every group that has pods below it.
    pub fn classes(&self) -> [String; 3] {
        ["Guaranteed", "Burstable", "BestEffort"].map(|c| self.class(c))
    }
}

/// The uid in a group's name.
pub fn uid_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).filter(|uid| !uid.is_empty())
}

/// A pod's own limits (upstream's `ResourceConfigForPod`).
pub fn pod_resources(pod: &Pod, enforce_cpu_limits: bool) -> Resources {
    let total = resources::total(pod);
    let mut out =
        Resources { cpu_shares: Some(resources::shares(total.cpu_request)), ..Resources::default() };
    match resources::qos_class(pod) {
        "BestEffort" => out.cpu_shares = Some(resources::shares(0)),
        _ => {
            if let Some(limit) = total.cpu_limit.filter(|l| *l > 0 && enforce_cpu_limits) {
                out.cpu_quota_us = Some(resources::quota(limit));
                out.cpu_period_us = Some(resources::CPU_PERIOD);
            }
            out.memory_limit = total.memory_limit.filter(|l| *l > 0);
        }
    }
    out
}

/// Shares of a class's group, from the pods in it: what burstable pods ask for together, and the least for best
/// effort.
pub fn class_shares<'a>(qos_class: &str, pods: impl Iterator<Item = &'a Pod>) -> u64 {
    let of_class = pods.filter(|p| resources::qos_class(p) == qos_class);
    match qos_class {
        "Burstable" => resources::shares(of_class.map(|p| resources::total(p).cpu_request).sum()),
        _ => resources::shares(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_drivers() {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("1-2".into());
        assert_eq!(Tree::new("/").pod(&pod), "/kubepods/besteffort/pod1-2");
        assert_eq!(
            Tree::new("/corten-a/").classes(),
            ["/corten-a/kubepods", "/corten-a/kubepods/burstable", "/corten-a/kubepods/besteffort"]
        );
        assert_eq!((uid_of("pod1-2"), uid_of("burstable"), uid_of("pod")), (Some("1-2"), None, None));
    }
}
