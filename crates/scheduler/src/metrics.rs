//! What the scheduler counts, under upstream's names.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// Upstream's buckets: 15 from 1 ms by twos.
fn attempt_times() -> Histogram {
    Histogram::new((0..15).map(|step| 0.001 * f64::from(1u32 << step)))
}

/// How an attempt to find a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Scheduled => "scheduled",
            Outcome::Unschedulable => "unschedulable",
            Outcome::Error => "error",
        }
    }
}

pub(crate) struct Metrics {
    /// The scheduler's name: upstream has one profile per name.
    profile: String,
    attempts: Family<Labels, Counter>,
    durations: Durations,
    attempts_per_pod: Histogram,
    pending: Family<Labels, Gauge>,
    cache: Family<Labels, Gauge>,
}

impl Metrics {
    pub(crate) fn new(profile: &str) -> Metrics {
        Metrics {
            profile: profile.to_owned(),
            attempts: Family::default(),
            durations: Family::new_with_constructor(attempt_times),
            attempts_per_pod: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0]),
            pending: Family::default(),
            cache: Family::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, \
             while 'error' means an internal scheduler problem",
            self.attempts.clone(),
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            self.durations.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod",
            self.attempts_per_pod.clone(),
        );
        registry.register(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue type",
            self.pending.clone(),
        );
        registry.register(
            "scheduler_cache_size",
            "Number of nodes and pods in the scheduler cache",
            self.cache.clone(),
        );
    }

    /// An attempt is over; `attempts` is how many there were for this pod.
    pub(crate) fn attempted(&self, outcome: Outcome, took: Duration, attempts: u32) {
        let labels = vec![("profile", self.profile.clone()), ("result", outcome.name().to_owned())];
        self.attempts.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        if outcome == Outcome::Scheduled {
            self.attempts_per_pod.observe(f64::from(attempts));
        }
    }

    /// How many pods wait, and how much is known.
    pub(crate) fn state(&self, pending: [(&'static str, usize); 4], nodes: usize, pods: usize) {
        let set = |family: &Family<Labels, Gauge>, label: &'static str, value: &str, count: usize| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.get_or_create(&vec![(label, value.to_owned())]).set(count);
        };
        for (queue, count) in pending {
            set(&self.pending, "queue", queue, count);
        }
        set(&self.cache, "type", "nodes", nodes);
        set(&self.cache, "type", "pods", pods);
    }
}
