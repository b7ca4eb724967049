//! What every controller is given, and the loop that its workers run.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use api::meta::v1::{LabelSelector, ObjectMeta, Time};
use apimachinery::clock::{Clock, Entropy};
use apimachinery::labels::Selector;
use client::{Client, Key, Kind, Metrics, Recorder, SharedInformers, WorkQueue};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Config, Result};

/// Handed to each controller at its start.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) informers: SharedInformers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) config: Arc<Config>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Where the queues count.
    pub(crate) metrics: Option<Metrics>,
}

impl Context {
    /// A recorder for events of one component.
    pub(crate) fn recorder(&self, component: &str) -> Recorder {
        Recorder::start(self.client.clone(), component, "", self.clock.clone(), self.shutdown.clone())
    }

    /// Now, as the API writes it: whole seconds.
    pub(crate) fn now(&self) -> Time {
        whole_seconds(self.clock.now())
    }

    /// Runs a task until it ends or the process is to stop.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs `workers` loops that take items, sync them, and put them back when that fails. They begin once
    /// every informer of the process has its first list. `name` is what the queue is counted under, upstream's.
    pub(crate) fn work<T, F, Fut>(&self, name: &'static str, queue: &WorkQueue<T>, workers: usize, sync: F)
    where
        T: Ord + Hash + Clone + std::fmt::Debug + Send + 'static,
        F: Fn(T) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        if let Some(metrics) = &self.metrics {
            queue.measure(metrics, name);
        }
        for _ in 0..workers {
            let (queue, sync, context) = (queue.clone(), sync.clone(), self.clone());
            self.spawn(async move {
                if !context.informers.wait_for_sync(&context.shutdown).await {
                    return;
                }
                while let Some(item) = queue.get().await {
                    match sync(item.clone()).await {
                        Ok(()) => queue.forget(&item),
                        Err(error) => {
                            if error.is_race() {
                                tracing::debug!(controller = name, ?item, error = %error.chain(), "sync again");
                            } else {
                                tracing::warn!(controller = name, ?item, error = %error.chain(), "sync failed");
                            }
                            queue.add_rate_limited(item.clone());
                        }
                    }
                    queue.done(&item);
                }
            });
        }
    }
}

/// A time without its fraction.
pub(crate) fn whole_seconds(now: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The key of an object's owner in the same namespace.
pub(crate) fn sibling(meta: &ObjectMeta, name: &str) -> Key {
    Key::new(meta.namespace.as_deref().unwrap_or_default(), name)
}

/// A typed label selector, ready to match. An invalid one matches nothing.
pub(crate) fn selector(typed: &LabelSelector) -> Selector {
    let value = serde_json::to_value(typed).unwrap_or_default();
    Selector::of_value(&value).unwrap_or(Selector::nothing())
}

/// A `key=value` selector as Services and replication controllers have it.
pub(crate) fn matches_set(set: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    set.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// The name of an object, empty if it has none.
pub(crate) fn name<K: Kind>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

/// The namespace of an object, empty if it has none.
pub(crate) fn namespace<K: Kind>(object: &K) -> &str {
    object.metadata().namespace.as_deref().unwrap_or_default()
}

/// The uid of an object, empty if it has none.
pub(crate) fn uid<K: Kind>(object: &K) -> &str {
    object.metadata().uid.as_deref().unwrap_or_default()
}

/// A number as `omitempty` writes it.
pub(crate) fn unless_zero(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}
