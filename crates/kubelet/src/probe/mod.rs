//! Probes of containers.
//!
//! [`state`] decides what a series of outcomes means (pure), [`run`] carries out one probe, and [`Probes`] has a
//! task per probe and holds the results.

pub mod run;
pub mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::core::v1::{Container, Pod, Probe};
use apimachinery::clock::Clock;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::events::Events;
use crate::pod::observed::{self, Observed};
use crate::pod::plan::{Health, Healths};
use crate::pod::spec;
use crate::pod::status::Probed;
use state::{Outcome, Series};

/// How often one probe is tried when it could not be carried out.
const TRIES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }

    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }
}

/// What is known of a running container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Results {
    startup: Option<bool>,
    liveness: Option<bool>,
    readiness: Option<bool>,
}

/// All probes of a node.
pub struct Probes {
    client: cri::Client,
    clock: Arc<dyn Clock>,
    events: Events,
    containers: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    uid: String,
    results: Arc<Mutex<Results>>,
    /// Wakes the probes that wait for the startup probe.
    started: Arc<Notify>,
    _stop: Vec<DropGuard>,
}

/// What one probing task needs.
struct Task {
    kind: Kind,
    pod: Arc<Pod>,
    container: Container,
    id: String,
    ip: String,
    started_at: Timestamp,
    results: Arc<Mutex<Results>>,
    started: Arc<Notify>,
    /// The pod's worker.
    wake: Arc<Notify>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probes {
    pub fn new(client: cri::Client, clock: Arc<dyn Clock>, events: Events) -> Probes {
        Probes { client, clock, events, containers: Mutex::default() }
    }

    /// Starts probing what runs, and stops probing what no longer does. `was_ready` tells whether the API knows a
    /// container as ready: after a restart of the kubelet it stays so until a probe fails.
    pub fn sync(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        observed: &Observed,
        was_ready: impl Fn(&str) -> bool,
        wake: &Arc<Notify>,
    ) {
        let uid = spec::uid(pod);
        let ip = match spec::host_network(pod) {
            true => "127.0.0.1".to_owned(),
            false => observed.ips().first().cloned().unwrap_or_default(),
        };
        let mut containers = lock(&self.containers);
        containers.retain(|id, e| e.uid != uid || observed.running().any(|c| &c.id == id));
        for seen in observed.running() {
            if containers.contains_key(&seen.id) {
                continue;
            }
            let Some(container) = spec::container(pod, &seen.name) else { continue };
            let regular_init =
                spec::init_containers(pod).iter().any(|c| c.name == seen.name && !spec::is_sidecar(c));
            if regular_init {
                continue;
            }
            let ready = was_ready(&seen.id);
            let results = Results {
                startup: (container.startup_probe.is_none() || ready).then_some(true),
                liveness: Some(true),
                readiness: Some(container.readiness_probe.is_none() || ready),
            };
            let entry = self.start(pod, container, seen, &ip, results, wake);
            containers.insert(seen.id.clone(), entry);
        }
    }

    fn start(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        container: Container,
        seen: &observed::Container,
        ip: &str,
        results: Results,
        wake: &Arc<Notify>,
    ) -> Entry {
        let results = Arc::new(Mutex::new(results));
        let started = Arc::new(Notify::new());
        let mut stop = Vec::new();
        for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
            let Some(probe) = kind.of(&container).cloned() else { continue };
            if kind == Kind::Startup && lock(&results).startup == Some(true) {
                continue;
            }
            let task = Task {
                kind,
                pod: pod.clone(),
                container: container.clone(),
                id: seen.id.clone(),
                ip: ip.to_owned(),
                started_at: Timestamp::from_nanosecond(i128::from(seen.started_at))
                    .unwrap_or(Timestamp::UNIX_EPOCH),
                results: results.clone(),
                started: started.clone(),
                wake: wake.clone(),
            };
            let token = CancellationToken::new();
            let (this, stopped) = (self.clone(), token.clone());
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => {}
                    () = this.probe(task, probe) => {}
                }
            });
            stop.push(token.drop_guard());
        }
        Entry { uid: spec::uid(pod).to_owned(), results, started, _stop: stop }
    }

    async fn probe(&self, task: Task, probe: Probe) {
        let mut series = Series::new(&probe);
        // Others wait until the container has started up.
        if task.kind != Kind::Startup {
            loop {
                let notified = task.started.notified();
                if lock(&task.results).startup == Some(true) {
                    break;
                }
                notified.await;
            }
        }
        let delay = series.delay();
        let running = self.clock.now().duration_since(task.started_at);
        let running = Duration::try_from(running).unwrap_or_default();
        tokio::time::sleep(delay.saturating_sub(running)).await;
        let mut ticks = tokio::time::interval(series.period());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = self.once(&task, &probe).await;
            let Some(result) = series.push(outcome) else { continue };
            let changed = {
                let mut results = lock(&task.results);
                let slot = match task.kind {
                    Kind::Startup => &mut results.startup,
                    Kind::Liveness => &mut results.liveness,
                    Kind::Readiness => &mut results.readiness,
                };
                slot.replace(result) != Some(result)
            };
            if changed {
                if task.kind == Kind::Startup && result {
                    // Several tasks may wait.
                    task.started.notify_waiters();
                }
                task.wake.notify_one();
            }
            match task.kind {
                // It has done its work; or the container is going to be killed.
                Kind::Startup => return,
                Kind::Liveness if !result => return,
                _ => {}
            }
        }
    }

    /// One probe with its tries, and an event when it did not succeed.
    async fn once(&self, task: &Task, probe: &Probe) -> Outcome {
        let name = task.kind.name();
        let mut error = String::new();
        for _ in 0..TRIES {
            match run::run(&self.client, &task.id, &task.ip, &task.container, probe).await {
                Ok(run::Done::Success) => return Outcome::Success,
                Ok(run::Done::Warning(output)) => {
                    let message = format!("{name} probe warning: {output}");
                    self.events.container(&task.pod, &task.container.name, true, "ProbeWarning", &message);
                    return Outcome::Success;
                }
                Ok(run::Done::Failure(output)) => {
                    let message = format!("{name} probe failed: {output}");
                    self.events.container(&task.pod, &task.container.name, true, "Unhealthy", &message);
                    return Outcome::Failure;
                }
                Err(text) => error = text,
            }
        }
        let message = format!("{name} probe errored and resulted in unknown state: {error}");
        self.events.container(&task.pod, &task.container.name, true, "Unhealthy", &message);
        Outcome::Unknown
    }

    /// What the plan needs to know.
    pub fn healths(&self, uid: &str) -> Healths {
        let containers = lock(&self.containers);
        let of_pod = containers.iter().filter(|(_, e)| e.uid == uid);
        let health = |r: Results| Health {
            liveness_failed: r.liveness == Some(false),
            startup_failed: r.startup == Some(false),
            started: r.startup == Some(true),
        };
        of_pod.map(|(id, e)| (id.clone(), health(*lock(&e.results)))).collect()
    }

    /// What the status needs to know.
    pub fn probed(&self, uid: &str) -> Probed {
        let mut out = Probed::default();
        for (id, entry) in lock(&self.containers).iter().filter(|(_, e)| e.uid == uid) {
            let results = *lock(&entry.results);
            if results.startup == Some(true) {
                out.started.insert(id.clone());
                if results.readiness == Some(true) {
                    out.ready.insert(id.clone());
                }
            }
        }
        out
    }

    /// Stops all probes of a pod.
    pub fn remove(&self, uid: &str) {
        lock(&self.containers).retain(|_, e| e.uid != uid);
    }

    /// Liveness and startup must not end a container that is ending already.
    pub fn quiet(&self, uid: &str) {
        for entry in lock(&self.containers).values().filter(|e| e.uid == uid) {
            entry.started.notify_waiters();
            let mut results = lock(&entry.results);
            results.liveness = Some(true);
        }
    }
}
