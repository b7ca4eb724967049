//! NodeAffinity: `nodeSelector`, required and preferred node affinity.

use std::collections::BTreeSet;

use kinds::pod::scheduling::{accepts_node, term_matches};

use crate::framework::{Cluster, ClusterEvent, Plugin, Rejection, scale};
use crate::types::{NodeInfo, PodInfo};

pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    /// Terms that each name their nodes by `metadata.name` leave only those: daemon pods look at one node.
    fn pre_filter(&self, pod: &PodInfo) -> Result<Option<BTreeSet<String>>, Rejection> {
        let affinity = pod.pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let required = affinity
            .and_then(|affinity| affinity.node_affinity.as_ref())
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let Some(required) = required else { return Ok(None) };
        let mut names = BTreeSet::new();
        for term in &required.node_selector_terms {
            let named = term
                .match_fields
                .iter()
                .flatten()
                .find(|field| field.key == "metadata.name" && field.operator == "In");
            match named {
                Some(field) => names.extend(field.values.iter().flatten().cloned()),
                None => return Ok(None),
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        Ok(Some(names))
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let accepts = |spec| accepts_node(spec, node.labels(), &node.name);
        if pod.pod.spec.as_ref().is_none_or(accepts) {
            return Ok(());
        }
        Err(Rejection::new(self.name(), "node(s) didn't match Pod's node affinity/selector"))
    }

    /// The sum of the weights of the preferred terms that match.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster<'_>) -> Option<i64> {
        let affinity = pod.pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        let matching = preferred.iter().filter(|term| {
            // An empty preferred term matches every node, unlike a required one.
            let empty = term.preference.match_expressions.as_ref().is_none_or(Vec::is_empty)
                && term.preference.match_fields.as_ref().is_none_or(Vec::is_empty);
            empty || term_matches(&term.preference, node.labels(), &node.name)
        });
        Some(matching.map(|term| i64::from(term.weight)).sum())
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, false);
    }

    fn unblocked_by(&self, event: ClusterEvent) -> bool {
        use ClusterEvent::*;
        matches!(event, NodeAdded | NodeLabels | PodUpdated)
    }
}
