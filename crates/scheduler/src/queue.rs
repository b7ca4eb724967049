//! Pods that wait for a node: ready ones by priority, those that back off, and those that nothing has changed
//! for. Synchronous; `now` is the time since some fixed moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::framework::ClusterEvent;
use crate::types::PodInfo;

/// A pod that does not fit is tried again after this long even if nothing is known to have changed (upstream's
/// `DefaultPodMaxInUnschedulablePodsDuration`).
const UNSCHEDULABLE_FOR: Duration = Duration::from_secs(300);

/// Back-off between attempts: upstream's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub most: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// After an error the time must pass; after a change in the cluster it only orders the tries.
    Backoff {
        until: Duration,
        error: bool,
    },
    Unschedulable {
        since: Duration,
    },
    /// Popped; what happens meanwhile decides where it goes when it comes back.
    InFlight {
        changed: bool,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    /// When it first entered: among equals the oldest goes first.
    order: u64,
    attempts: u32,
    /// Who refused it last.
    plugins: BTreeSet<&'static str>,
}

type Rank = (Reverse<i32>, u64, String);

/// The queue. A pod is in exactly one place.
#[derive(Debug)]
pub struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<Rank>,
    backoff: BTreeSet<(Duration, String)>,
    config: Backoff,
    next_order: u64,
}

/// Tells whether a plugin that refused a pod can change its mind by an event.
pub type Unblocks<'a> = &'a dyn Fn(&str, ClusterEvent) -> bool;

impl Queue {
    pub fn new(config: Backoff) -> Queue {
        Queue {
            entries: BTreeMap::new(),
            active: BTreeSet::new(),
            backoff: BTreeSet::new(),
            config,
            next_order: 0,
        }
    }

    fn rank(entry: &Entry) -> Rank {
        (Reverse(entry.pod.priority), entry.order, entry.pod.uid.clone())
    }

    fn put(&mut self, uid: &str, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match &entry.place {
            Place::Active => {
                self.active.remove(&Queue::rank(entry));
            }
            Place::Backoff { until, .. } => {
                self.backoff.remove(&(*until, uid.to_owned()));
            }
            _ => {}
        }
        entry.place = place;
        match &entry.place {
            Place::Active => {
                self.active.insert(Queue::rank(entry));
            }
            Place::Backoff { until, .. } => {
                self.backoff.insert((*until, uid.to_owned()));
            }
            _ => {}
        }
    }

    /// A pod without a node, new or changed. `gated` when a plugin keeps it out for now; then only a change of
    /// the pod itself brings it in.
    pub fn set(&mut self, pod: Arc<PodInfo>, gated: Option<&'static str>, now: Duration) {
        let uid = pod.uid.clone();
        if !self.entries.contains_key(&uid) {
            let order = self.next_order;
            self.next_order += 1;
            let place = Place::Unschedulable { since: now };
            let entry = Entry { pod: pod.clone(), place, order, attempts: 0, plugins: BTreeSet::new() };
            self.entries.insert(uid.clone(), entry);
        }
        let Some(entry) = self.entries.get_mut(&uid) else { return };
        let place = match (&entry.place, gated) {
            (Place::InFlight { .. }, _) => Place::InFlight { changed: true },
            (_, Some(_)) => Place::Unschedulable { since: now },
            (Place::Backoff { until, error }, None) => Place::Backoff { until: *until, error: *error },
            (_, None) => Place::Active,
        };
        // Taken out of its place before its rank can change with its priority.
        self.put(&uid, Place::Unschedulable { since: now });
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.pod = pod;
            entry.plugins = gated.into_iter().collect();
        }
        self.put(&uid, place);
    }

    /// The pod is gone, has a node, or is not ours.
    pub fn remove(&mut self, uid: &str) {
        self.put(uid, Place::InFlight { changed: false });
        self.entries.remove(uid);
    }

    /// The next pod to be scheduled. With nothing else to do, one that backs off is taken early, as upstream
    /// does since 1.33.
    pub fn pop(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        while let Some((until, uid)) = self.backoff.first().cloned()
            && until <= now
        {
            self.put(&uid, Place::Active);
        }
        let uid = match self.active.first() {
            Some((_, _, uid)) => uid.clone(),
            None => self.early()?,
        };
        self.put(&uid, Place::InFlight { changed: false });
        let entry = self.entries.get_mut(&uid)?;
        entry.attempts += 1;
        Some(entry.pod.clone())
    }

    /// The first pod that backs off though something has changed for it.
    fn early(&self) -> Option<String> {
        let waiting = self.backoff.iter().map(|(_, uid)| uid);
        let may = |uid: &&String| {
            self.entries
                .get(*uid)
                .is_some_and(|entry| matches!(entry.place, Place::Backoff { error: false, .. }))
        };
        waiting.into_iter().find(may).cloned()
    }

    /// A popped pod did not fit. `plugins` are those that refused it; none means that an error came between,
    /// and it is tried again after its back-off.
    pub fn failed(&mut self, uid: &str, plugins: BTreeSet<&'static str>, now: Duration) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let changed = entry.place == Place::InFlight { changed: true };
        let error = plugins.is_empty();
        entry.plugins = plugins;
        let until = now + self.backoff_of(uid);
        let again = Place::Backoff { until, error };
        self.put(uid, if changed || error { again } else { Place::Unschedulable { since: now } });
    }

    fn backoff_of(&self, uid: &str) -> Duration {
        let attempts = self.entries.get(uid).map_or(1, |entry| entry.attempts.max(1));
        let factor = 1u32.checked_shl(attempts - 1).unwrap_or(u32::MAX);
        self.config.initial.saturating_mul(factor).min(self.config.most)
    }

    /// Something changed: whoever may fit now goes back, after its back-off.
    pub fn event(&mut self, event: ClusterEvent, unblocks: Unblocks<'_>, now: Duration) {
        let mut moved = Vec::new();
        for (uid, entry) in &mut self.entries {
            match &mut entry.place {
                Place::Unschedulable { .. } if entry.plugins.iter().any(|plugin| unblocks(plugin, event)) => {
                    moved.push(uid.clone());
                }
                Place::InFlight { changed } => *changed = true,
                _ => {}
            }
        }
        for uid in moved {
            let until = now + self.backoff_of(&uid);
            self.put(&uid, Place::Backoff { until, error: false });
        }
    }

    /// Tries those again that have waited too long for an event.
    pub fn flush(&mut self, now: Duration) {
        let stale: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| match entry.place {
                Place::Unschedulable { since } => {
                    entry.pod.gates.is_empty() && now.saturating_sub(since) >= UNSCHEDULABLE_FOR
                }
                _ => false,
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in stale {
            self.put(&uid, Place::Active);
        }
    }

    /// When [`Queue::pop`] or [`Queue::flush`] will next have something to do by the passing of time alone.
    pub fn next(&self) -> Option<Duration> {
        let backoff = self.backoff.first().map(|(until, _)| *until);
        let stale = self.entries.values().filter_map(|entry| match entry.place {
            Place::Unschedulable { since } if entry.pod.gates.is_empty() => Some(since + UNSCHEDULABLE_FOR),
            _ => None,
        });
        backoff.into_iter().chain(stale).min()
    }

    /// How many of the unschedulable ones wait for their gates.
    pub fn gated(&self) -> usize {
        let gated = |entry: &&Entry| {
            matches!(entry.place, Place::Unschedulable { .. }) && !entry.pod.gates.is_empty()
        };
        self.entries.values().filter(gated).count()
    }

    /// How often a pod that waits was tried.
    pub fn attempts(&self, uid: &str) -> u32 {
        self.entries.get(uid).map_or(0, |entry| entry.attempts)
    }

    /// How many pods are (ready, backing off, unschedulable).
    pub fn lengths(&self) -> (usize, usize, usize) {
        let unschedulable = |entry: &&Entry| matches!(entry.place, Place::Unschedulable { .. });
        (self.active.len(), self.backoff.len(), self.entries.values().filter(unschedulable).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECOND: Duration = Duration::from_secs(1);

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        let object = json!({"metadata": {"name": name, "uid": name}, "spec": {"containers": [], "priority": priority}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
    }

    fn queue() -> Queue {
        Queue::new(Backoff { initial: SECOND, most: 10 * SECOND })
    }

    fn pop(queue: &mut Queue, seconds: u32) -> String {
        queue.pop(seconds * SECOND).map_or_else(String::new, |pod| pod.uid.clone())
    }

    #[test]
    fn priority_then_age() {
        let mut queue = queue();
        for (name, priority) in [("low", 0), ("high", 10), ("later", 10)] {
            queue.set(pod(name, priority), None, Duration::ZERO);
        }
        queue.set(pod("low", 20), None, Duration::ZERO);
        let order: Vec<String> = (0..4).map(|_| pop(&mut queue, 0)).collect();
        assert_eq!(order, ["low", "high", "later", ""]);
    }

    #[test]
    fn what_does_not_fit_waits_for_an_event() {
        let mut queue = queue();
        let fit = |plugin: &str, event: ClusterEvent| plugin == "Fit" && event == ClusterEvent::NodeAdded;
        queue.set(pod("p", 0), None, Duration::ZERO);
        assert_eq!(pop(&mut queue, 0), "p");
        queue.failed("p", ["Fit"].into(), Duration::ZERO);
        queue.event(ClusterEvent::NodeLabels, &fit, Duration::ZERO);
        assert_eq!(pop(&mut queue, 100), "", "no event for it");
        queue.event(ClusterEvent::NodeAdded, &fit, 100 * SECOND);
        assert_eq!(queue.lengths(), (0, 1, 0));
        // It backs off, but others go first and nobody else is there.
        queue.set(pod("q", 0), None, 100 * SECOND);
        assert_eq!(pop(&mut queue, 100), "q");
        assert_eq!(pop(&mut queue, 100), "p");
    }

    #[test]
    fn errors_back_off() {
        let mut queue = queue();
        queue.set(pod("p", 0), None, Duration::ZERO);
        for (attempt, wait) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10)] {
            let now = attempt * 100;
            assert_eq!(pop(&mut queue, now), "p");
            queue.failed("p", BTreeSet::new(), now * SECOND);
            assert_eq!(queue.next(), Some((now + wait) * SECOND));
            assert_eq!(pop(&mut queue, now + wait - 1), "");
        }
    }

    #[test]
    fn an_event_during_the_attempt_is_not_missed() {
        let mut queue = queue();
        queue.set(pod("p", 0), None, Duration::ZERO);
        assert_eq!(pop(&mut queue, 0), "p");
        queue.event(ClusterEvent::NodeAdded, &|_, _| false, Duration::ZERO);
        queue.failed("p", ["Fit"].into(), Duration::ZERO);
        assert_eq!(pop(&mut queue, 0), "p");
        queue.failed("p", ["Fit"].into(), 3 * SECOND);
        queue.flush(302 * SECOND);
        assert_eq!(pop(&mut queue, 302), "");
        queue.flush(303 * SECOND);
        assert_eq!(pop(&mut queue, 303), "p");
    }

    #[test]
    fn gates_keep_out() {
        let mut queue = queue();
        queue.set(pod("p", 0), Some("SchedulingGates"), Duration::ZERO);
        assert_eq!(pop(&mut queue, 1000), "");
        queue.set(pod("p", 0), None, Duration::ZERO);
        assert_eq!(pop(&mut queue, 1000), "p");
        queue.remove("p");
        queue.failed("p", BTreeSet::new(), Duration::ZERO);
        assert_eq!(queue.lengths(), (0, 0, 0));
    }
}
