//! Where durable batches come in and go to the groups that watch their keys.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::Waker;

use bytes::Bytes;

use super::Batch;
use super::group::Group;
use crate::kv::{KeyRange, KeyValue};
use crate::sync::Mutex;

/// The groups are swept for batches outside the window each time this part of it has been dropped.
const SWEEP: usize = 4;

pub(crate) struct Hub {
    state: Mutex<State>,
    /// Everything through this revision has reached the groups.
    revision: AtomicI64,
    stopped: AtomicBool,
}

struct State {
    groups: Groups,
    window: VecDeque<Arc<Batch>>,
    window_bytes: usize,
    window_limit: usize,
    /// The window holds every batch from this revision on.
    window_from: i64,
    /// Bytes dropped from the window since the groups were swept.
    dropped: usize,
}

/// Groups by the shape of their range, so that the groups of a key are found without asking each.
#[derive(Default)]
struct Groups {
    keys: BTreeMap<Bytes, Arc<Group>>,
    prefixes: BTreeMap<Bytes, Arc<Group>>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
    others: BTreeMap<KeyRange, Arc<Group>>,
}

impl Hub {
    pub(crate) fn new(revision: i64, window_limit: usize) -> Self {
        Hub {
            state: Mutex::new(State {
                groups: Groups::default(),
                window: VecDeque::new(),
                window_bytes: 0,
                window_limit,
                window_from: revision + 1,
                dropped: 0,
            }),
            revision: AtomicI64::new(revision),
            stopped: AtomicBool::new(false),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Hands on what has just become visible; `revision` is the newest.
    pub(crate) fn publish(&self, batches: Vec<Arc<Batch>>, revision: i64) {
        let mut wake = Vec::new();
        let mut state = self.state.lock();
        for batch in batches {
            state.groups.push(&batch, &mut wake);
            state.window_bytes += batch.size();
            state.window.push_back(batch);
        }
        while state.window_bytes > state.window_limit
            && let Some(batch) = state.window.pop_front()
        {
            let size = batch.size();
            state.window_bytes -= size;
            state.dropped += size;
            state.window_from = batch.revision + 1;
        }
        if state.dropped > state.window_limit / SWEEP {
            state.dropped = 0;
            state.groups.all().for_each(|group| group.forget_before(state.window_from));
        }
        self.revision.store(revision, Ordering::Release);
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// No more events will come.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let mut wake = Vec::new();
        self.state.lock().groups.all().for_each(|group| group.wake_all(&mut wake));
        wake.into_iter().for_each(Waker::wake);
    }

    /// Joins the group of `range`: the place in it, the group, and the newest revision at that moment.
    pub(super) fn join(&self, range: &KeyRange) -> (usize, Arc<Group>, i64) {
        let mut state = self.state.lock();
        let revision = self.revision();
        let group = state.groups.join(range, revision);
        (group.enter(), group, revision)
    }

    pub(super) fn leave(&self, group: &Arc<Group>, place: usize) {
        group.leave(place);
        let mut state = self.state.lock();
        // The index and the leaving stream.
        if Arc::strong_count(group) == 2 {
            state.groups.remove(&group.range);
        }
    }

    /// The batches of `from..=to` within `range`, up to `max`, and the revision to go on from; `None` when
    /// the window does not reach back to `from`.
    pub(crate) fn recent(
        &self,
        range: &KeyRange,
        from: i64,
        to: i64,
        max: usize,
    ) -> Option<(Vec<Arc<Batch>>, i64)> {
        let state = self.state.lock();
        if from < state.window_from {
            return None;
        }
        let at = state.window.partition_point(|batch| batch.revision < from);
        let mut found = Vec::new();
        for batch in state.window.iter().skip(at).take_while(|batch| batch.revision <= to) {
            found.extend(batch.within(range));
            if found.len() == max {
                return Some((found, batch.revision + 1));
            }
        }
        Some((found, to + 1))
    }

    /// A version of a key, if its event is still in the window.
    pub(crate) fn version(&self, key: &[u8], revision: i64) -> Option<Arc<KeyValue>> {
        let state = self.state.lock();
        let at = state.window.binary_search_by_key(&revision, |batch| batch.revision).ok()?;
        state.window.get(at)?.version(key)
    }
}

impl Groups {
    fn all(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.keys.values().chain(self.prefixes.values()).chain(self.others.values())
    }

    fn join(&mut self, range: &KeyRange, revision: i64) -> Arc<Group> {
        let new = || Arc::new(Group::new(range.clone(), revision));
        if range.is_key() {
            Arc::clone(self.keys.entry(range.start.clone()).or_insert_with(new))
        } else if range.is_prefix() {
            Arc::clone(self.prefixes.entry(range.start.clone()).or_insert_with(|| {
                *self.lengths.entry(range.start.len()).or_default() += 1;
                new()
            }))
        } else {
            Arc::clone(self.others.entry(range.clone()).or_insert_with(new))
        }
    }

    fn remove(&mut self, range: &KeyRange) {
        if range.is_key() {
            self.keys.remove(&range.start);
        } else if range.is_prefix() {
            if self.prefixes.remove(&range.start).is_some()
                && let Some(count) = self.lengths.get_mut(&range.start.len())
            {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&range.start.len());
                }
            }
        } else {
            self.others.remove(range);
        }
    }

    fn of_key(&self, key: &[u8]) -> impl Iterator<Item = &Arc<Group>> {
        let prefixes = self
            .lengths
            .keys()
            .map_while(|len| key.get(..*len))
            .filter_map(|prefix| self.prefixes.get(prefix));
        let others = self.others.values().filter(|group| group.range.contains(key));
        self.keys.get(key).into_iter().chain(prefixes).chain(others)
    }

    fn push(&self, batch: &Arc<Batch>, wake: &mut Vec<Waker>) {
        if let [event] = batch.events.as_slice() {
            self.of_key(&event.kv.key).for_each(|group| group.push(Arc::clone(batch), wake));
            return;
        }
        let mut touched: Vec<&Arc<Group>> = Vec::new();
        for event in &batch.events {
            for group in self.of_key(&event.kv.key) {
                if !touched.iter().any(|other| Arc::ptr_eq(other, group)) {
                    touched.push(group);
                }
            }
        }
        for group in touched {
            if let Some(batch) = batch.within(&group.range) {
                group.push(batch, wake);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lives_as_long_as_its_watchers() {
        let hub = Hub::new(1, 100);
        let ranges = [
            KeyRange::key("a"),
            KeyRange::prefix("a/"),
            KeyRange::prefix("b/"),
            KeyRange::prefix("a/b/"),
            KeyRange::new("a", "m"),
            KeyRange::all(),
        ];
        let joined: Vec<_> = ranges.iter().chain(&ranges).map(|range| hub.join(range)).collect();
        let groups = |key: &str| hub.state.lock().groups.of_key(key.as_bytes()).count();
        let count = || hub.state.lock().groups.all().count();
        assert_eq!(count(), ranges.len());
        for (key, expected) in [("a", 3), ("a/b", 3), ("a/b/c", 4), ("b/", 3), ("z", 1), ("", 1)] {
            assert_eq!(groups(key), expected, "{key}");
        }
        for (left, (id, group, _)) in joined.into_iter().enumerate() {
            hub.leave(&group, id);
            drop(group);
            assert_eq!(count(), ranges.len() - (left + 1).saturating_sub(ranges.len()), "{left}");
        }
        assert!(hub.state.lock().groups.lengths.is_empty());
    }
}
