//! What clients and work queues count, under client-go's names.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

type Labels = Vec<(&'static str, String)>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// Upstream's buckets of the queues: from 10 ns by tens.
fn queue_times() -> Histogram {
    Histogram::new([1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0])
}

/// Upstream's buckets of requests.
fn request_times() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0])
}

/// Counters of one component. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
    request_durations: Durations,
    depth: Family<Labels, Gauge>,
    adds: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    waited: Durations,
    worked: Durations,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: Family::default(),
            request_durations: Family::new_with_constructor(request_times),
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waited: Family::new_with_constructor(queue_times),
            worked: Family::new_with_constructor(queue_times),
        }
    }
}

impl Metrics {
    /// Makes everything that is counted here part of a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host",
            self.requests.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host",
            self.request_durations.clone(),
        );
        registry.register("workqueue_depth", "Current depth of workqueue", self.depth.clone());
        registry.register("workqueue_adds", "Total number of adds handled by workqueue", self.adds.clone());
        registry.register(
            "workqueue_retries",
            "Total number of retries handled by workqueue",
            self.retries.clone(),
        );
        registry.register(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested",
            self.waited.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes",
            self.worked.clone(),
        );
    }

    /// Counts one answered request.
    pub(crate) fn request(&self, method: &str, host: &str, code: Option<u16>, took: Duration) {
        let label = |name: &'static str, value: &str| (name, value.to_owned());
        // As client-go names a request that got no answer.
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        let labels = vec![label("code", &code), label("host", host), label("method", method)];
        self.requests.get_or_create(&labels).inc();
        let labels = vec![label("host", host), label("verb", method)];
        self.request_durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// What one queue counts with.
    pub(crate) fn queue<T>(&self, name: &str) -> Meter<T> {
        let labels = vec![("name", name.to_owned())];
        Meter {
            depth: self.depth.get_or_create_owned(&labels),
            adds: self.adds.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
            waited: self.waited.get_or_create_owned(&labels),
            worked: self.worked.get_or_create_owned(&labels),
            added: BTreeMap::new(),
            begun: BTreeMap::new(),
        }
    }
}

/// The counters of one queue, and since when items wait and are worked on.
pub(crate) struct Meter<T> {
    depth: Gauge,
    adds: Counter,
    retries: Counter,
    waited: Histogram,
    worked: Histogram,
    added: BTreeMap<T, Instant>,
    begun: BTreeMap<T, Instant>,
}

impl<T: Ord + Clone> Meter<T> {
    /// An item was added; `depth` items wait now.
    pub(crate) fn added(&mut self, item: &T, depth: usize) {
        self.adds.inc();
        self.added.entry(item.clone()).or_insert_with(Instant::now);
        self.set_depth(depth);
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    /// A worker took an item.
    pub(crate) fn taken(&mut self, item: &T, depth: usize) {
        let now = Instant::now();
        if let Some(added) = self.added.remove(item) {
            self.waited.observe((now - added).as_secs_f64());
        }
        self.begun.insert(item.clone(), now);
        self.set_depth(depth);
    }

    /// The worker is done with it.
    pub(crate) fn done(&mut self, item: &T, depth: usize) {
        if let Some(begun) = self.begun.remove(item) {
            self.worked.observe(begun.elapsed().as_secs_f64());
        }
        self.set_depth(depth);
    }

    fn set_depth(&self, depth: usize) {
        self.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }
}
