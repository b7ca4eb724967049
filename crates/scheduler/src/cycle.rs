//! The decision for one pod: which nodes can take it, and which of them is best. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::Cache;
use crate::framework::{Cluster, Plugin, Rejection};
use crate::types::{NodeInfo, PodInfo};

/// Why no node takes the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    pub nodes: usize,
    /// Set when the pod was refused before any node was looked at.
    pub pre_filter: String,
    /// Reason → number of nodes.
    pub reasons: BTreeMap<String, usize>,
    /// The plugins whose minds must change.
    pub plugins: BTreeSet<&'static str>,
}

impl Unfit {
    fn add(&mut self, rejection: Rejection) {
        self.plugins.insert(rejection.plugin);
        for reason in rejection.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }
}

/// Upstream's `FitError`: tools and people read this in events.
impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if !self.pre_filter.is_empty() {
            return write!(f, " {}.", self.pre_filter);
        }
        let mut reasons: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, " {}.", reasons.join(", "))
    }
}

/// Fewer nodes than this are always all looked at.
const LEAST_NODES: usize = 100;

/// How many nodes that fit are enough before the search ends (upstream's `numFeasibleNodesToFind`): with
/// `percentage` 0 it falls from 50 % to 5 % as clusters grow.
pub fn enough(nodes: usize, percentage: usize) -> usize {
    if nodes < LEAST_NODES {
        return nodes;
    }
    let percentage =
        if percentage == 0 { 50usize.saturating_sub(nodes / 125).max(5) } else { percentage.min(100) };
    (nodes * percentage / 100).max(LEAST_NODES)
}

/// Finds the best node for the pod. `start` is where in the list of nodes the search begins, so that large
/// clusters are not always filled from the same end; `tie` picks among equally good nodes.
pub fn schedule(
    pod: &PodInfo,
    cache: &Cache,
    plugins: &[Box<dyn Plugin>],
    percentage: usize,
    start: usize,
    tie: u64,
) -> Result<String, Unfit> {
    let nodes: Vec<&NodeInfo> = cache.nodes().collect();
    let mut unfit = Unfit { nodes: nodes.len(), ..Unfit::default() };
    let mut only: Option<BTreeSet<String>> = None;
    for plugin in plugins {
        match plugin.pre_filter(pod) {
            Ok(None) => {}
            Ok(Some(names)) => {
                only = Some(match only {
                    None => names,
                    Some(before) => before.intersection(&names).cloned().collect(),
                });
            }
            Err(rejection) => {
                unfit.pre_filter = rejection.reasons.join(", ");
                unfit.plugins.insert(rejection.plugin);
                return Err(unfit);
            }
        }
    }

    let wanted = enough(nodes.len(), percentage);
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let from = if nodes.is_empty() { 0 } else { start % nodes.len() };
    for node in nodes[from..].iter().chain(&nodes[..from]) {
        if feasible.len() >= wanted {
            break;
        }
        if only.as_ref().is_some_and(|only| !only.contains(&node.name)) {
            unfit.add(Rejection::new("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
            continue;
        }
        match plugins.iter().find_map(|plugin| plugin.filter(pod, node).err()) {
            None => feasible.push(node),
            Some(rejection) => unfit.add(rejection),
        }
    }
    match feasible.as_slice() {
        [] => Err(unfit),
        [one] => Ok(one.name.clone()),
        several => Ok(best(pod, several, cache, plugins, nodes.len(), tie)),
    }
}

fn best(
    pod: &PodInfo,
    feasible: &[&NodeInfo],
    cache: &Cache,
    plugins: &[Box<dyn Plugin>],
    nodes: usize,
    tie: u64,
) -> String {
    let with_image = |image: &str| cache.nodes_with_image(image);
    let cluster = Cluster { nodes, with_image: &with_image };
    let mut totals = vec![0i64; feasible.len()];
    for plugin in plugins {
        let scores: Option<Vec<i64>> =
            feasible.iter().map(|node| plugin.score(pod, node, &cluster)).collect();
        let Some(mut scores) = scores else { continue };
        plugin.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * plugin.weight();
        }
    }
    let most = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<&&NodeInfo> =
        feasible.iter().zip(&totals).filter(|(_, total)| **total == most).map(|(node, _)| node).collect();
    winners
        .get((tie % winners.len().max(1) as u64) as usize)
        .map_or_else(String::new, |node| node.name.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::default_plugins;

    fn node(name: &str, spec: Value, labels: Value) -> Value {
        json!({
            "metadata": {"name": name, "labels": labels}, "spec": spec,
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3"},
                       "images": [{"names": ["app:1"], "sizeBytes": 500_000_000}]},
        })
    }

    fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
        let mut whole = json!({"containers": [{"name": "c", "image": "x"}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let object = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": whole});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
    }

    fn cache(nodes: &[Value], placed: &[(&str, Value)]) -> Cache {
        let mut cache = Cache::default();
        for node in nodes {
            cache.set_node(Arc::new(serde_json::from_value(node.clone()).unwrap()));
        }
        for (index, (node, spec)) in placed.iter().enumerate() {
            cache.place(pod(&format!("placed{index}"), spec.clone()), node);
        }
        cache
    }

    fn check(cache: &Cache, spec: Value, expect: &str) {
        let got = match schedule(&pod("p", spec.clone()), cache, &default_plugins(), 0, 0, 0) {
            Ok(node) => node,
            Err(unfit) => unfit.to_string(),
        };
        assert_eq!(got, expect, "{spec}");
    }

    fn asks(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}]})
    }

    #[test]
    fn no_nodes() {
        check(&cache(&[], &[]), json!({}), "no nodes available to schedule pods");
    }

    #[test]
    fn room() {
        let nodes = [node("a", json!({}), json!({})), node("b", json!({}), json!({}))];
        let one = cache(&nodes, &[("a", asks("1500m"))]);
        check(&one, asks("1"), "b");
        check(&one, asks("3"), "0/2 nodes are available: 2 Insufficient cpu.");
        let full =
            cache(&nodes, &[("a", asks("1500m")), ("b", json!({})), ("b", json!({})), ("b", json!({}))]);
        check(&full, asks("1"), "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods.");
        check(
            &one,
            json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]}),
            "0/2 nodes are available: 2 Insufficient example.com/gpu.",
        );
    }

    #[test]
    fn nodes_that_refuse() {
        let taint = json!({"taints": [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]});
        let nodes =
            [node("a", taint, json!({})), node("b", json!({"unschedulable": true}), json!({"disk": "ssd"}))];
        let cache = cache(&nodes, &[]);
        check(
            &cache,
            json!({}),
            "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.",
        );
        check(&cache, json!({"tolerations": [{"key": "dedicated", "operator": "Exists"}]}), "a");
        check(&cache, json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "ssd"}}), "b");
        check(
            &cache,
            json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "hdd"}}),
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
        );
        check(
            &cache,
            json!({"tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields":
                [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]}}}}),
            "b",
        );
    }

    #[test]
    fn host_ports() {
        let port = |address: &str| {
            json!({"containers": [{"name": "c", "ports":
            [{"containerPort": 80, "hostPort": 80, "hostIP": address, "protocol": "TCP"}]}]})
        };
        let cache = cache(&[node("a", json!({}), json!({}))], &[("a", port("127.0.0.1"))]);
        check(&cache, port("127.0.0.2"), "a");
        check(
            &cache,
            port(""),
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
        );
    }

    #[test]
    fn ranking() {
        let prefer = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
        check(&cache(&[node("a", prefer, json!({})), node("b", json!({}), json!({}))], &[]), json!({}), "b");
        let nodes = [node("a", json!({}), json!({})), node("b", json!({}), json!({"zone": "b"}))];
        check(
            &cache(&nodes, &[]),
            json!({"affinity": {"nodeAffinity":
            {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions":
                [{"key": "zone", "operator": "Exists"}]}}]}}}),
            "b",
        );
        check(&cache(&nodes, &[("a", asks("1"))]), asks("100m"), "b");
    }

    #[test]
    fn enough_nodes() {
        for (nodes, percentage, expect) in [
            (50, 0, 50),
            (100, 0, 100),
            (1000, 0, 420),
            (5000, 0, 500),
            (6000, 0, 300),
            (1000, 30, 300),
            (200, 30, 100),
        ] {
            assert_eq!(enough(nodes, percentage), expect, "{nodes} {percentage}");
        }
    }
}
