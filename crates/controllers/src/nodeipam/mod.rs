//! Gives each node its part of the cluster's address range, and takes it back when the node goes.

mod pool;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::core::v1::{Node, ObjectReference};
use client::{Client, Event, EventType, Key, Patch, Recorder, Store, WorkQueue, key_of};
use serde_json::json;

use crate::context::{Context, name, uid};
use crate::error::Doing;
use crate::{Error, Result};
pub(crate) use pool::Pools;

/// One at a time: an allocation must be known before the next is made.
const WORKERS: usize = 1;

pub(crate) fn start(context: &Context) {
    let config = &context.config;
    if config.cluster_cidr.is_empty() {
        tracing::info!("no cluster address range is given; nodes get no pod ranges");
        return;
    }
    let mut pools = match Pools::parse(&config.cluster_cidr, config.node_cidr_mask_size) {
        Ok(pools) => pools,
        Err(error) => {
            tracing::error!(%error, "nodes get no pod ranges");
            return;
        }
    };
    // Where it overlaps, no node gets what Services may get.
    for range in config.service_cluster_ip_range.split(',').map(str::trim) {
        pools.occupy(range);
    }
    let nodes = context.informers.get::<Node>();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        recorder: context.recorder("cidrAllocator"),
        nodes: nodes.store().clone(),
        state: Mutex::new(State { pools, given: BTreeMap::new() }),
    });
    let queue = WorkQueue::new();
    let (this, handler_queue) = (controller.clone(), queue.clone());
    nodes.add_handler(move |event| {
        // What nodes have is noted before any worker begins, so that nothing is given twice.
        let node = event.object();
        let ranges = ranges(node);
        match event {
            Event::Deleted(_) => this.state().release(name(&**node), &ranges),
            _ if ranges.is_empty() => handler_queue.add(key_of(&**node)),
            _ => this.state().occupy(name(&**node), &ranges),
        }
    });
    context.work("cidrallocator_node", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

fn ranges(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many = spec.pod_cidrs.clone().unwrap_or_default();
    if many.is_empty() {
        spec.pod_cidr.clone().filter(|one| !one.is_empty()).into_iter().collect()
    } else {
        many
    }
}

struct Controller {
    client: Client,
    recorder: Recorder,
    nodes: Store<Node>,
    state: Mutex<State>,
}

struct State {
    pools: Pools,
    /// Ranges chosen for nodes whose store entry may not show them yet.
    given: BTreeMap<String, Vec<String>>,
}

impl State {
    fn occupy(&mut self, node: &str, ranges: &[String]) {
        ranges.iter().for_each(|range| self.pools.occupy(range));
        // The node shows what it was given; from now on its own word counts.
        if let Some(given) = self.given.remove(node) {
            given.iter().filter(|range| !ranges.contains(range)).for_each(|range| self.pools.release(range));
        }
    }

    fn release(&mut self, node: &str, ranges: &[String]) {
        let given = self.given.remove(node).unwrap_or_default();
        ranges.iter().chain(&given).for_each(|range| self.pools.release(range));
    }
}

impl Controller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn sync(&self, key: Key) -> Result<()> {
        let Some(node) = self.nodes.get_key(&key) else { return Ok(()) };
        if !ranges(&node).is_empty() {
            return Ok(());
        }
        let chosen = {
            let mut state = self.state();
            match state.given.get(&key.name).cloned() {
                Some(given) => Some(given),
                None => {
                    let chosen = state.pools.take();
                    if let Some(chosen) = &chosen {
                        state.given.insert(key.name.clone(), chosen.clone());
                    }
                    chosen
                }
            }
        };
        let Some(chosen) = chosen else {
            let about = ObjectReference {
                kind: Some("Node".into()),
                name: Some(key.name.clone()),
                uid: Some(uid(&*node).into()),
                ..ObjectReference::default()
            };
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.recorder.record(about, EventType::Normal, "CIDRNotAvailable", message);
            return Err(Error::NotYet(format!("no pod range is left for node {key}")));
        };
        let change =
            json!({"metadata": {"uid": uid(&*node)}, "spec": {"podCIDR": chosen[0], "podCIDRs": chosen}});
        match self.client.patch::<Node>("", &key.name, &Patch::Strategic(change)).await {
            Ok(_) => Ok(()),
            // Whether it was written is not known without an answer, so the choice stands for the next try.
            Err(error) => {
                if error.is_not_found() || error.is_invalid() || error.is_conflict() {
                    self.state().release(&key.name, &[]);
                }
                if error.is_not_found() {
                    Ok(())
                } else {
                    Err(error).doing(|| format!("giving node {key} its pod range"))
                }
            }
        }
    }
}
