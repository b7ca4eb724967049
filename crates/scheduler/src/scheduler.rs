//! The shell: informers feed the cache and the queue, one loop decides, bindings run beside it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::core::v1::{Binding, Node, ObjectReference, Pod};
use api::meta::v1::ObjectMeta;
use apimachinery::clock::{Clock, Entropy};
use client::{Client, Event, EventType, Informer, Patch, Recorder, SharedInformers};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::cycle::{self, Unfit};
use crate::framework::{ClusterEvent, Plugin};
use crate::metrics::{Metrics, Outcome};
use crate::plugins::default_plugins;
use crate::queue::{Backoff, Queue};
use crate::types::PodInfo;

/// What the scheduler can be told; defaults are upstream's.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods that name another scheduler are left alone.
    pub scheduler_name: String,
    /// 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: usize,
    pub pod_initial_backoff: Duration,
    pub pod_max_backoff: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            scheduler_name: "default-scheduler".to_owned(),
            percentage_of_nodes_to_score: 0,
            pod_initial_backoff: Duration::from_secs(1),
            pod_max_backoff: Duration::from_secs(10),
        }
    }
}

struct Core {
    cache: Cache,
    queue: Queue,
}

/// A scheduler, ready to [`Scheduler::run`].
pub struct Scheduler {
    shared: Arc<Shared>,
    informers: SharedInformers,
}

struct Shared {
    config: Config,
    plugins: Vec<Box<dyn Plugin>>,
    core: Mutex<Core>,
    wake: Notify,
    client: Client,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    started: Instant,
    pods: Informer<Pod>,
    metrics: Metrics,
}

/// A view of a running scheduler for its metrics page. Cheap to clone.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

impl View {
    /// Makes what the scheduler counts part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Brings up to date what is a state and not an event, before somebody reads it.
    pub fn refresh(&self) {
        let core = self.shared.core();
        let ((active, backoff, unschedulable), gated) = (core.queue.lengths(), core.queue.gated());
        let pending = [
            ("active", active),
            ("backoff", backoff),
            ("gated", gated),
            ("unschedulable", unschedulable - gated),
        ];
        self.shared.metrics.state(pending, core.cache.nodes().count(), core.cache.pods());
    }
}

impl Scheduler {
    pub fn build(
        config: Config,
        client: Client,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        informers: SharedInformers,
    ) -> Scheduler {
        let backoff = Backoff { initial: config.pod_initial_backoff, most: config.pod_max_backoff };
        let shared = Arc::new(Shared {
            metrics: Metrics::new(&config.scheduler_name),
            config,
            plugins: default_plugins(),
            core: Mutex::new(Core { cache: Cache::default(), queue: Queue::new(backoff) }),
            wake: Notify::new(),
            client,
            clock,
            entropy,
            started: Instant::now(),
            pods: informers.get::<Pod>(),
        });
        Scheduler { shared, informers }
    }

    /// For the metrics page.
    pub fn view(&self) -> View {
        View { shared: self.shared.clone() }
    }

    /// Schedules until `shutdown`, then waits for bindings that are under way.
    pub async fn run(self, shutdown: CancellationToken) {
        let shared = self.shared;
        let recorder = Recorder::start(
            shared.client.clone(),
            &shared.config.scheduler_name,
            "",
            shared.clock.clone(),
            shutdown.clone(),
        );
        let nodes = self.informers.get::<Node>();
        let on_node = shared.clone();
        nodes.add_handler(move |event| on_node.node_event(event));
        let on_pod = shared.clone();
        shared.pods.add_handler(move |event| on_pod.pod_event(event));
        self.informers.start(&shutdown);
        if !self.informers.wait_for_sync(&shutdown).await {
            return;
        }
        let bindings = TaskTracker::new();
        let mut start = 0;
        while !shutdown.is_cancelled() {
            let wake = shared.wake.notified();
            shared.core().queue.flush(shared.now());
            loop {
                let begun = Instant::now();
                let Some((pod, outcome)) = shared.decide(start) else { break };
                start += 1;
                bindings.spawn(shared.clone().finish(pod, outcome, recorder.clone(), begun));
                // One decision after another must not keep this thread from everything else.
                tokio::task::yield_now().await;
                if shutdown.is_cancelled() {
                    break;
                }
            }
            let next = shared.core().queue.next();
            let until = shared.started + next.unwrap_or(Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = wake => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
        bindings.close();
        bindings.wait().await;
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn tell(&self, core: &mut Core, event: ClusterEvent) {
        let unblocks = |name: &str, event: ClusterEvent| {
            self.plugins.iter().any(|plugin| plugin.name() == name && plugin.unblocked_by(event))
        };
        core.queue.event(event, &unblocks, self.now());
        self.wake.notify_one();
    }

    fn node_event(&self, event: &Event<Node>) {
        let mut core = self.core();
        match event {
            Event::Added(node) => {
                core.cache.set_node(node.clone());
                self.tell(&mut core, ClusterEvent::NodeAdded);
            }
            Event::Updated { old, new } => {
                core.cache.set_node(new.clone());
                for event in node_changes(old, new) {
                    self.tell(&mut core, event);
                }
            }
            Event::Deleted(node) => {
                core.cache.remove_node(node.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }

    fn pod_event(&self, event: &Event<Pod>) {
        let mut core = self.core();
        match event {
            Event::Deleted(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                core.queue.remove(uid);
                if core.cache.is_placed(uid) {
                    core.cache.remove_pod(uid);
                    self.tell(&mut core, ClusterEvent::AssignedPodFreed);
                }
            }
            Event::Added(pod) | Event::Updated { new: pod, .. } => {
                if let Event::Updated { old, new } = event
                    && old.metadata.uid == new.metadata.uid
                    && old.spec == new.spec
                    && ended(old) == ended(new)
                    && old.metadata.deletion_timestamp.is_some() == new.metadata.deletion_timestamp.is_some()
                {
                    // Only its status: nothing that scheduling looks at.
                    return;
                }
                self.set_pod(&mut core, pod);
            }
        }
    }

    fn set_pod(&self, core: &mut Core, pod: &Arc<Pod>) {
        let info = Arc::new(PodInfo::new(pod.clone()));
        if ended(pod) {
            core.queue.remove(&info.uid);
            if core.cache.is_placed(&info.uid) {
                core.cache.remove_pod(&info.uid);
                self.tell(core, ClusterEvent::AssignedPodFreed);
            }
        } else if !info.node_name().is_empty() {
            core.queue.remove(&info.uid);
            let node = info.node_name().to_owned();
            core.cache.place(info, &node);
        } else if pod.metadata.deletion_timestamp.is_some() || self.foreign(pod) {
            core.queue.remove(&info.uid);
        } else if !core.cache.is_placed(&info.uid) {
            let gate = self.plugins.iter().find_map(|plugin| plugin.pre_enqueue(&info).err());
            core.queue.set(info, gate.map(|rejection| rejection.plugin), self.now());
            self.wake.notify_one();
        }
    }

    fn foreign(&self, pod: &Pod) -> bool {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.unwrap_or("default-scheduler") != self.config.scheduler_name
    }

    /// Decides about the next pod. One that fits counts on its node from now on.
    fn decide(&self, start: usize) -> Option<(Arc<PodInfo>, Result<String, Unfit>)> {
        let mut core = self.core();
        let pod = core.queue.pop(self.now())?;
        let mut tie = [0; 8];
        self.entropy.fill(&mut tie);
        let percentage = self.config.percentage_of_nodes_to_score;
        let tie = u64::from_le_bytes(tie);
        let outcome = cycle::schedule(&pod, &core.cache, &self.plugins, percentage, start, tie);
        match &outcome {
            Ok(node) => core.cache.place(pod.clone(), node),
            Err(unfit) => core.queue.failed(&pod.uid, plugins_of(unfit), self.now()),
        }
        Some((pod, outcome))
    }

    async fn finish(
        self: Arc<Shared>,
        pod: Arc<PodInfo>,
        outcome: Result<String, Unfit>,
        recorder: Recorder,
        begun: Instant,
    ) {
        match outcome {
            Ok(node) => {
                let attempts = self.core().queue.attempts(&pod.uid);
                let outcome = self.bind(&pod, &node, &recorder).await;
                self.metrics.attempted(outcome, begun.elapsed(), attempts);
            }
            Err(unfit) => {
                self.metrics.attempted(Outcome::Unschedulable, begun.elapsed(), 0);
                self.explain(&pod, &unfit.to_string(), "Unschedulable", &recorder).await;
            }
        }
    }

    async fn bind(&self, pod: &Arc<PodInfo>, node: &str, recorder: &Recorder) -> Outcome {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.key.name.clone()),
                namespace: Some(pod.key.namespace.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let bound: Result<serde_json::Value, client::Error> = self
            .client
            .create_subresource::<Pod, _, _>(&pod.key.namespace, &pod.key.name, "binding", &binding)
            .await;
        match bound {
            Ok(_) => {
                self.core().queue.remove(&pod.uid);
                let message =
                    format!("Successfully assigned {}/{} to {node}", pod.key.namespace, pod.key.name);
                recorder.event(pod.pod.as_ref(), EventType::Normal, "Scheduled", message);
                Outcome::Scheduled
            }
            Err(error) => {
                {
                    let mut core = self.core();
                    core.cache.remove_pod(&pod.uid);
                    core.queue.failed(&pod.uid, BTreeSet::new(), self.now());
                }
                self.wake.notify_one();
                if !error.is_not_found() {
                    let message = format!("binding {} to {node}: {error}", pod.key.name);
                    self.explain(pod, &message, "SchedulerError", recorder).await;
                }
                Outcome::Error
            }
        }
    }

    /// Says in an event and in the pod's condition why it has no node.
    async fn explain(&self, pod: &Arc<PodInfo>, message: &str, reason: &str, recorder: &Recorder) {
        recorder.event(pod.pod.as_ref(), EventType::Warning, "FailedScheduling", message);
        let current = self.pods.store().get_key(&pod.key).unwrap_or_else(|| pod.pod.clone());
        let conditions = current.status.as_ref().and_then(|status| status.conditions.as_ref());
        let same = conditions.into_iter().flatten().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some(reason)
                && condition.message.as_deref() == Some(message)
        });
        if same {
            return;
        }
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.uid},
            "status": {"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
                "lastTransitionTime": self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "observedGeneration": current.metadata.generation,
            }]},
        }));
        let patched = self.client.patch_status::<Pod>(&pod.key.namespace, &pod.key.name, &patch).await;
        if let Err(error) = patched
            && !error.is_not_found()
        {
            tracing::warn!(pod = %pod.key, "writing why the pod has no node: {error}");
        }
    }
}

/// The plugins that an unfit pod waits for; with no node at all, whatever happens to nodes matters.
fn plugins_of(unfit: &Unfit) -> BTreeSet<&'static str> {
    if unfit.plugins.is_empty() { ["NodeName"].into() } else { unfit.plugins.clone() }
}

fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What of a node's change can matter to pods that wait.
fn node_changes(old: &Node, new: &Node) -> Vec<ClusterEvent> {
    let spec = |node: &Node| node.spec.clone().unwrap_or_default();
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let mut events = Vec::new();
    if old.metadata.labels != new.metadata.labels {
        events.push(ClusterEvent::NodeLabels);
    }
    let (before, after) = (spec(old), spec(new));
    if before.taints != after.taints {
        events.push(ClusterEvent::NodeTaints);
    }
    if before.unschedulable != after.unschedulable {
        events.push(ClusterEvent::NodeUnschedulable);
    }
    if allocatable(old) != allocatable(new) {
        events.push(ClusterEvent::NodeAllocatable);
    }
    events
}
