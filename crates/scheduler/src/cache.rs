//! The scheduler's picture of the cluster: nodes with their pods, including those that it has just assigned and
//! whose binding the API has not confirmed yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::Node;

use crate::types::{NodeInfo, PodInfo};

/// Nodes by name. Synchronous; the shell keeps it under a lock.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: BTreeMap<String, NodeInfo>,
    /// uid → node, of every pod that counts somewhere.
    placed: BTreeMap<String, String>,
    /// How many nodes have an image, by reference.
    images: BTreeMap<String, usize>,
}

impl Cache {
    /// The nodes that are known (not only heard of through pods), by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|node| node.node.is_some())
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|node| node.node.is_some())
    }

    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let info = self.nodes.entry(name).or_default();
        let before: Vec<String> = info.images.keys().cloned().collect();
        info.set_node(node);
        let after: Vec<String> = info.images.keys().cloned().collect();
        for image in before {
            if let Some(count) = self.images.get_mut(&image) {
                *count -= 1;
            }
        }
        for image in after {
            *self.images.entry(image).or_default() += 1;
        }
        self.images.retain(|_, count| *count > 0);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(info) = self.nodes.get_mut(name) else { return };
        for image in std::mem::take(&mut info.images).into_keys() {
            if let Some(count) = self.images.get_mut(&image) {
                *count = count.saturating_sub(1);
            }
        }
        info.node = None;
        if info.pods.is_empty() {
            self.nodes.remove(name);
        }
    }

    /// Counts a pod on its node: when the scheduler has just assigned it, when the API confirms that, and for
    /// pods that came with a node. Counting again replaces what was there.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        self.placed.insert(pod.uid.clone(), node.to_owned());
        let info = self.nodes.entry(node.to_owned()).or_default();
        if info.name.is_empty() {
            info.name = node.to_owned();
        }
        info.add_pod(pod);
    }

    /// The pod is gone, has ended, or could not be bound.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(name) = self.placed.remove(uid) else { return };
        if let Some(info) = self.nodes.get_mut(&name) {
            info.remove_pod(uid);
            if info.pods.is_empty() && info.node.is_none() {
                self.nodes.remove(&name);
            }
        }
    }

    /// How many pods count somewhere.
    pub fn pods(&self) -> usize {
        self.placed.len()
    }

    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }
}
