//! The work queue of a controller.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Metrics;
use crate::metrics::Meter;

/// client-go's exponential failure limiter: 5 ms, doubled by every failure, up to 1000 s.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LAST_DELAY: Duration = Duration::from_secs(1000);

/// A queue that holds every item at most once and never hands an item to two workers at a time: what is added
/// while it is being processed comes back after [`WorkQueue::done`]. First in, first out. Cheap to clone.
pub struct WorkQueue<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        WorkQueue { inner: self.inner.clone() }
    }
}

struct Inner<T> {
    core: Mutex<Core<T>>,
    changed: Notify,
}

impl<T: Ord + Hash + Clone> Default for WorkQueue<T> {
    fn default() -> Self {
        WorkQueue::new()
    }
}

impl<T: Ord + Hash + Clone> WorkQueue<T> {
    /// An empty queue.
    pub fn new() -> WorkQueue<T> {
        WorkQueue { inner: Arc::new(Inner { core: Mutex::new(Core::default()), changed: Notify::new() }) }
    }

    /// Counts from now on what goes through, under this name.
    pub fn measure(&self, metrics: &Metrics, name: &str)
    where
        T: Send + 'static,
    {
        self.core().meter = Some(metrics.queue(name));
    }

    /// Adds an item, unless it waits in the queue already.
    pub fn add(&self, item: T) {
        self.core().add(item);
        self.inner.changed.notify_one();
    }

    /// Adds an item after a delay; the earlier of two delays holds.
    pub fn add_after(&self, item: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(item);
        }
        self.core().add_at(item, Instant::now() + delay);
        self.inner.changed.notify_one();
    }

    /// Adds an item after a delay that doubles with every call until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, item: T) {
        let delay = {
            let mut core = self.core();
            if let Some(meter) = &core.meter {
                meter.retried();
            }
            core.failed(&item)
        };
        self.add_after(item, delay);
    }

    /// Forgets the failures of an item.
    pub fn forget(&self, item: &T) {
        self.core().failures.remove(item);
    }

    /// How often an item was added by [`WorkQueue::add_rate_limited`] since it was last forgotten.
    pub fn retries(&self, item: &T) -> u32 {
        self.core().failures.get(item).copied().unwrap_or_default()
    }

    /// The next item; `None` once the queue is shut down. The caller must call [`WorkQueue::done`] with it.
    /// Safe to drop before it is done.
    pub async fn get(&self) -> Option<T> {
        loop {
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = {
                let mut core = self.core();
                core.advance(Instant::now());
                if let Some(item) = core.take() {
                    if !core.queue.is_empty() {
                        self.inner.changed.notify_one();
                    }
                    return Some(item);
                }
                if core.closed {
                    self.inner.changed.notify_one();
                    return None;
                }
                core.next_due()
            };
            match next {
                None => changed.await,
                Some(due) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
            }
        }
    }

    /// Says that an item was processed.
    pub fn done(&self, item: &T) {
        self.core().done(item);
        self.inner.changed.notify_one();
    }

    /// Items that wait for a worker, without those that are delayed.
    pub fn len(&self) -> usize {
        self.core().queue.len()
    }

    /// Whether no item waits for a worker.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the queue: what waits is still handed out, nothing is added any more, then `get` answers `None`.
    pub fn shutdown(&self) {
        self.core().closed = true;
        self.inner.changed.notify_waiters();
        self.inner.changed.notify_one();
    }

    fn core(&self) -> MutexGuard<'_, Core<T>> {
        self.inner.core.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The synchronous heart: time comes in as an argument.
struct Core<T> {
    queue: VecDeque<T>,
    /// In the queue, or to be put there when processing ends.
    dirty: BTreeSet<T>,
    processing: BTreeSet<T>,
    /// Delayed items by the time they are due; the number keeps the order of equal times.
    delayed: BTreeMap<(Instant, u64), T>,
    due: BTreeMap<T, (Instant, u64)>,
    added: u64,
    failures: BTreeMap<T, u32>,
    closed: bool,
    meter: Option<Meter<T>>,
}

impl<T> Default for Core<T> {
    fn default() -> Self {
        Core {
            queue: VecDeque::new(),
            dirty: BTreeSet::new(),
            processing: BTreeSet::new(),
            delayed: BTreeMap::new(),
            due: BTreeMap::new(),
            added: 0,
            failures: BTreeMap::new(),
            closed: false,
            meter: None,
        }
    }
}

impl<T: Ord + Clone> Core<T> {
    fn add(&mut self, item: T) {
        if self.closed || !self.dirty.insert(item.clone()) {
            return;
        }
        let key = self.meter.is_some().then(|| item.clone());
        if !self.processing.contains(&item) {
            self.queue.push_back(item);
        }
        if let (Some(meter), Some(key)) = (&mut self.meter, key) {
            meter.added(&key, self.queue.len());
        }
    }

    fn add_at(&mut self, item: T, at: Instant) {
        if self.closed {
            return;
        }
        if let Some(before) = self.due.get(&item) {
            if before.0 <= at {
                return;
            }
            self.delayed.remove(before);
        }
        self.added += 1;
        self.due.insert(item.clone(), (at, self.added));
        self.delayed.insert((at, self.added), item);
    }

    fn failed(&mut self, item: &T) -> Duration {
        let count = self.failures.entry(item.clone()).or_insert(0);
        let delay = FIRST_DELAY.saturating_mul(2u32.saturating_pow(*count)).min(LAST_DELAY);
        *count = count.saturating_add(1);
        delay
    }

    fn advance(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let item = entry.remove();
            self.due.remove(&item);
            self.add(item);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|(key, _)| key.0)
    }

    fn take(&mut self) -> Option<T> {
        let item = self.queue.pop_front()?;
        self.dirty.remove(&item);
        self.processing.insert(item.clone());
        if let Some(meter) = &mut self.meter {
            meter.taken(&item, self.queue.len());
        }
        Some(item)
    }

    fn done(&mut self, item: &T) {
        if self.processing.remove(item) && self.dirty.contains(item) {
            self.queue.push_back(item.clone());
        }
        if let Some(meter) = &mut self.meter {
            meter.done(item, self.queue.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_is_queued_once_and_processed_by_one() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.get().await, Some("a"));
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.get().await, Some("b"));
        assert!(queue.is_empty(), "a is being processed");
        queue.done(&"a");
        assert_eq!(queue.get().await, Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_through_is_counted() {
        let (queue, metrics) = (WorkQueue::new(), Metrics::default());
        let mut registry = prometheus_client::registry::Registry::default();
        metrics.register(&mut registry);
        queue.measure(&metrics, "q");
        for item in ["a", "b", "a", "c"] {
            queue.add(item);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        let item = queue.get().await.unwrap();
        tokio::time::advance(Duration::from_secs(50)).await;
        queue.add_rate_limited(item);
        queue.done(&item);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "workqueue_depth{name=\"q\"} 2",
            "workqueue_adds_total{name=\"q\"} 3",
            "workqueue_retries_total{name=\"q\"} 1",
            "workqueue_queue_duration_seconds_sum{name=\"q\"} 5.0",
            "workqueue_work_duration_seconds_sum{name=\"q\"} 50.0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_items_come_in_the_order_they_are_due() {
        let queue = WorkQueue::new();
        queue.add_after("late", Duration::from_secs(9));
        queue.add_after("early", Duration::from_secs(3));
        queue.add_after("late", Duration::from_secs(5));
        queue.add_after("late", Duration::from_secs(7));
        let start = Instant::now();
        assert_eq!(queue.get().await, Some("early"));
        assert_eq!(start.elapsed().as_secs(), 3);
        assert_eq!(queue.get().await, Some("late"));
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay() {
        let queue = WorkQueue::new();
        let mut delays = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            queue.add_rate_limited("x");
            let item = queue.get().await.unwrap();
            queue.done(&item);
            delays.push(start.elapsed().as_millis());
        }
        assert_eq!(delays[..4], [5, 10, 20, 40]);
        assert_eq!(delays[19], 1_000_000);
        queue.forget(&"x");
        assert_eq!(queue.retries(&"x"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_drains_and_wakes_every_worker() {
        let queue = WorkQueue::new();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut seen = 0;
                    while let Some(item) = queue.get().await {
                        queue.done(&item);
                        seen += 1;
                    }
                    seen
                })
            })
            .collect();
        for item in 0..10 {
            queue.add(item);
        }
        queue.shutdown();
        queue.add(99);
        let mut total = 0;
        for worker in workers {
            total += worker.await.unwrap();
        }
        assert_eq!(total, 10);
    }
}
