//! Watches over the nodes: one that has been silent too long is said to be unknown, and taints keep pods away
//! from nodes that are not well or send them off (`tainteviction` does the sending).

mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::coordination::v1::Lease;
use api::core::v1::{Node, ObjectReference, Pod, Taint};
use client::{Client, Event, EventType, Key, Patch, Recorder, Store, WorkQueue, key_of};
use jiff::SignedDuration;
use serde_json::json;
use tokio::time::Instant;

use crate::context::{Context, name, namespace, uid};
use crate::error::Doing;
use crate::pods::BY_NODE;
use crate::{Result, pods};
use plan::{Execute, Health, Zone};

const WORKERS: usize = 4;
const LEASES: &str = "kube-node-lease";
/// A node that has never reported gets this long.
const STARTUP: SignedDuration = SignedDuration::from_secs(60);
/// In a zone of more nodes than this, partly disrupted, evictions go on slowly.
const LARGE: usize = 50;
const SLOW: f64 = 0.01;

pub(crate) fn start(context: &Context) {
    let nodes = context.informers.get::<Node>();
    let leases = context.informers.get::<Lease>();
    let all_pods = context.informers.get::<Pod>();
    pods::index_by_node(&all_pods);
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        context: context.clone(),
        recorder: context.recorder("node-controller"),
        nodes: nodes.store().clone(),
        leases: leases.store().clone(),
        pods: all_pods.store().clone(),
        state: Mutex::default(),
    });
    let queue = WorkQueue::new();
    let handler_queue = queue.clone();
    nodes.add_handler(move |event| {
        let shows = |node: &Node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let conditions: Vec<_> = conditions.map(|c| (c.type_.clone(), c.status.clone())).collect();
            (conditions, node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable)))
        };
        // Heartbeats come every few seconds and say nothing here.
        let same = matches!(event, Event::Updated { old, new } if shows(old) == shows(new));
        if !same && !matches!(event, Event::Deleted(_)) {
            handler_queue.add(key_of(&**event.object()));
        }
    });
    let this = controller.clone();
    context.work("node_lifecycle_controller", &queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.sync(key).await }
    });
    let wait = context.clone();
    context.spawn(async move {
        if !wait.informers.wait_for_sync(&wait.shutdown).await {
            return;
        }
        loop {
            controller.monitor().await;
            tokio::time::sleep(wait.config.node_monitor_period).await;
        }
    });
}

struct Controller {
    client: Client,
    context: Context,
    recorder: Recorder,
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    health: BTreeMap<String, Health>,
    /// Uids of the nodes known so far.
    known: BTreeMap<String, String>,
    zones: BTreeMap<String, ZoneState>,
    /// No node of any zone is ready: more likely it is this process that hears nothing.
    all_lost: bool,
}

struct ZoneState {
    state: Zone,
    size: usize,
    tokens: f64,
    at: Instant,
}

impl ZoneState {
    fn rate(&self, healthy: f64, all_lost: bool) -> f64 {
        match self.state {
            _ if all_lost => 0.0,
            Zone::Normal | Zone::Full => healthy,
            Zone::Partial if self.size > LARGE => SLOW,
            Zone::Partial => 0.0,
        }
    }

    /// Takes the right to taint one node, if there is one.
    fn take(&mut self, rate: f64) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * rate).min(1.0);
        let take = rate > 0.0 && self.tokens >= 1.0;
        if take {
            self.tokens -= 1.0;
        }
        take
    }
}

impl Controller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Taints that follow from conditions at once: NoSchedule.
    async fn sync(&self, key: Key) -> Result<()> {
        let Some(node) = self.nodes.get_key(&key) else { return Ok(()) };
        let now = self.context.now();
        if let Some(taints) = plan::taints(&node, true, Execute::Leave, &now) {
            self.write_taints(&node, taints).await?;
        }
        Ok(())
    }

    /// One look at all nodes.
    async fn monitor(&self) {
        let nodes = self.nodes.list();
        self.note_membership(&nodes);
        let mut seen = Vec::new();
        for node in nodes {
            match self.check(&node).await {
                Ok(node) => seen.push(node),
                Err(error) => {
                    tracing::warn!(node = name(&*node), error = %error.chain(), "node's health not updated");
                }
            }
        }
        let (entered, left) = self.judge_zones(&seen);
        if entered {
            tracing::info!("no node is ready: nothing is evicted until one is");
        }
        if left {
            let now = self.context.clock.now();
            self.state().health.values_mut().for_each(|health| health.at = now);
        }
        for node in &seen {
            let execute = self.execute(node);
            let now = self.context.now();
            if let Some(taints) = plan::taints(node, false, execute, &now)
                && let Err(error) = self.write_taints(node, taints).await
            {
                tracing::debug!(node = name(node), error = %error.chain(), "taints not written; next pass again");
            }
        }
    }

    fn note_membership(&self, nodes: &[Arc<Node>]) {
        let mut state = self.state();
        let now: BTreeMap<String, String> =
            nodes.iter().map(|node| (name(&**node).to_owned(), uid(&**node).to_owned())).collect();
        let before = std::mem::replace(&mut state.known, now.clone());
        state.health.retain(|name, _| now.get(name).is_some_and(|uid| before.get(name) == Some(uid)));
        drop(state);
        for (name, uid) in now.iter().filter(|(name, _)| !before.contains_key(*name)) {
            self.event(name, uid, "RegisteredNode", format!("Registered Node {name} in Controller"));
        }
        for (name, uid) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
            self.event(name, uid, "RemovingNode", format!("Removing Node {name} from Controller"));
        }
    }

    /// Updates what is known of one node, and what it is said to be.
    async fn check(&self, node: &Node) -> Result<Node> {
        let now = self.context.clock.now();
        let renewed = self.leases.get(LEASES, name(node)).and_then(|lease| {
            lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref().map(|time| time.0))
        });
        let health = {
            let mut state = self.state();
            let health = plan::observe(state.health.get(name(node)), node, renewed, now);
            state.health.insert(name(node).to_owned(), health.clone());
            health
        };
        let grace = match plan::ready(node) {
            None => STARTUP,
            Some(_) => {
                SignedDuration::try_from(self.context.config.node_monitor_grace_period).unwrap_or(STARTUP)
            }
        };
        let was_ready = plan::ready(node) == Some("True");
        let mut node = node.clone();
        if plan::is_silent(&health, grace, now)
            && let Some(status) = plan::unknown(&node, &self.context.now())
        {
            node.status = Some(status);
            node = self.client.update_status(&node).await.doing(|| "writing the node's status".into())?;
        }
        if was_ready && plan::ready(&node) != Some("True") {
            let message = format!("Node {} status is now: NodeNotReady", name(&node));
            self.event(name(&node), uid(&node), "NodeNotReady", message);
        }
        if matches!(plan::ready(&node), Some("False" | "Unknown")) {
            self.mark_pods(&node).await;
        }
        Ok(node)
    }

    /// Pods of a node that is not ready are not ready.
    async fn mark_pods(&self, node: &Node) {
        for pod in self.pods.by_index(BY_NODE, name(node)) {
            if !pods::is_ready(&pod) {
                continue;
            }
            let change = json!({"metadata": {"uid": uid(&*pod)}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": self.context.now()}]}});
            let patch = Patch::Strategic(change);
            match self.client.patch_status::<Pod>(namespace(&*pod), name(&*pod), &patch).await {
                Ok(_) => self.recorder.event(&*pod, EventType::Warning, "NodeNotReady", "Node is not ready"),
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::warn!(pod = name(&*pod), error = %error.chain(), "pod not marked; next pass again");
                }
            }
        }
    }

    /// Works out the zones' states; answers whether all nodes are lost now and were not, and the reverse.
    fn judge_zones(&self, nodes: &[Node]) -> (bool, bool) {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for node in nodes {
            let labels = node.metadata.labels.as_ref();
            if labels.is_some_and(|l| l.contains_key("node.kubernetes.io/exclude-disruption")) {
                continue;
            }
            let count = counts.entry(plan::zone_of(node)).or_default();
            if plan::ready(node) == Some("True") { count.0 += 1 } else { count.1 += 1 }
        }
        let mut state = self.state();
        state.zones.retain(|zone, _| counts.contains_key(zone));
        let mut all_lost = !counts.is_empty();
        for (zone, (ready, not_ready)) in counts {
            let judged = plan::zone(ready, not_ready);
            all_lost &= judged == Zone::Full;
            let fresh = ZoneState { state: judged, size: 0, tokens: 1.0, at: Instant::now() };
            let entry = state.zones.entry(zone).or_insert(fresh);
            entry.state = judged;
            entry.size = ready + not_ready;
        }
        let before = std::mem::replace(&mut state.all_lost, all_lost);
        (all_lost && !before, before && !all_lost)
    }

    fn execute(&self, node: &Node) -> Execute {
        let mut state = self.state();
        if state.all_lost {
            return Execute::Remove;
        }
        let rate = self.context.config.node_eviction_rate;
        let zone = plan::zone_of(node);
        let may_add = plan::wants_new_taint(node)
            && state.zones.get_mut(&zone).is_some_and(|zone| {
                let rate = zone.rate(rate, false);
                zone.take(rate)
            });
        Execute::Follow { may_add }
    }

    async fn write_taints(&self, node: &Node, taints: Vec<Taint>) -> Result<()> {
        let taints = if taints.is_empty() { json!(null) } else { json!(taints) };
        // Taints are one list: the change holds only for the node as it was seen.
        let change = json!({"metadata": {"resourceVersion": node.metadata.resource_version, "uid": uid(node)},
            "spec": {"taints": taints}});
        match self.client.patch::<Node>("", name(node), &Patch::Merge(change)).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_| ()).doing(|| format!("tainting node {}", name(node))),
        }
    }

    fn event(&self, name: &str, uid: &str, reason: &str, message: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        };
        self.recorder.record(about, EventType::Normal, reason, message);
    }
}
