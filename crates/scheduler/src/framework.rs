//! The framework: the points at which plugins take part (KEP-624).
//!
//! A pod goes through PreEnqueue, QueueSort, PreFilter, Filter, Score with normalization, Reserve and Permit,
//! all of them synchronous; binding is the shell's. A plugin implements the points that it cares about.

use std::collections::BTreeSet;

use crate::types::{NodeInfo, PodInfo};

/// The highest score a plugin gives; the lowest is 0.
pub const MAX_NODE_SCORE: i64 = 100;

/// Why a plugin refuses a pod, on a node or at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    /// Upstream's texts: users and tests match on them.
    pub reasons: Vec<String>,
}

impl Rejection {
    pub fn new(plugin: &'static str, reason: impl Into<String>) -> Rejection {
        Rejection { plugin, reasons: vec![reason.into()] }
    }
}

/// What has changed in the cluster, as far as pods that did not fit may care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    NodeAdded,
    NodeLabels,
    NodeTaints,
    NodeAllocatable,
    NodeUnschedulable,
    /// A pod that had a node is gone, or asks for less.
    AssignedPodFreed,
    /// The waiting pod itself was changed.
    PodUpdated,
}

/// A plugin of the scheduling framework. Every method has the answer of a plugin that does not care.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// How much its score counts.
    fn weight(&self) -> i64 {
        1
    }

    /// Whether the pod may enter the queue of pods to be scheduled.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Looks at the pod once before the nodes; may say that only some nodes come into question.
    fn pre_filter(&self, _pod: &PodInfo) -> Result<Option<BTreeSet<String>>, Rejection> {
        Ok(None)
    }

    /// Whether the node can take the pod.
    fn filter(&self, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// How good the node is for the pod; `None` when the plugin has no opinion about this pod. `nodes` is the
    /// number of all nodes, `with_image` tells on how many of them an image is.
    fn score(&self, _pod: &PodInfo, _node: &NodeInfo, _cluster: &Cluster<'_>) -> Option<i64> {
        None
    }

    /// Brings the scores of all nodes to 0..=[`MAX_NODE_SCORE`].
    fn normalize(&self, _scores: &mut [i64]) {}

    /// Whether the event can make a pod schedulable that this plugin has refused.
    fn unblocked_by(&self, _event: ClusterEvent) -> bool {
        true
    }
}

/// Facts about all nodes that scoring uses.
pub struct Cluster<'a> {
    pub nodes: usize,
    pub with_image: &'a dyn Fn(&str) -> usize,
}

/// Scales so that the best is [`MAX_NODE_SCORE`], turned around when less is better (upstream's
/// `helper.DefaultNormalizeScore`).
pub fn scale(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = match (most, reverse) {
            (0, true) => MAX_NODE_SCORE,
            (0, false) => 0,
            (most, true) => MAX_NODE_SCORE - *score * MAX_NODE_SCORE / most,
            (most, false) => *score * MAX_NODE_SCORE / most,
        };
    }
}
