//! The watchers of one range.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::Batch;
use crate::kv::KeyRange;
use crate::sync::Mutex;

/// A group keeps at most so many batches for its watchers; one that is further behind reads the window.
const MAX_BATCHES: usize = 1024;

pub(super) struct Group {
    pub range: KeyRange,
    state: Mutex<State>,
}

struct State {
    batches: VecDeque<Arc<Batch>>,
    /// `batches` holds everything in the range from this revision on.
    complete_from: i64,
    /// By stream, so that the order of waking depends on nothing else.
    wakers: BTreeMap<u64, Waker>,
}

/// What a group has for a watcher.
pub(super) enum Ready {
    /// The next batches; everything before the given revision is in them or was not in the range.
    Batches(Vec<Arc<Batch>>, i64),
    /// Nothing; the waker has been kept if one was given.
    Nothing,
    /// The group does not reach back so far: read up to and including this revision elsewhere.
    Behind(i64),
}

impl Group {
    /// A group for everything after `revision`.
    pub(super) fn new(range: KeyRange, revision: i64) -> Self {
        let state = State { batches: VecDeque::new(), complete_from: revision + 1, wakers: BTreeMap::new() };
        Group { range, state: Mutex::new(state) }
    }

    pub(super) fn push(&self, batch: Arc<Batch>, wake: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        if state.batches.len() == MAX_BATCHES
            && let Some(dropped) = state.batches.pop_front()
        {
            state.complete_from = dropped.revision + 1;
        }
        state.batches.push_back(batch);
        wake.extend(std::mem::take(&mut state.wakers).into_values());
    }

    /// Lets go of batches that the window does not hold any more.
    pub(super) fn forget_before(&self, revision: i64) {
        let mut state = self.state.lock();
        while let Some(first) = state.batches.front().map(|batch| batch.revision)
            && first < revision
        {
            state.batches.pop_front();
            state.complete_from = first + 1;
        }
    }

    pub(super) fn wake_all(&self, wake: &mut Vec<Waker>) {
        wake.extend(std::mem::take(&mut self.state.lock().wakers).into_values());
    }

    pub(super) fn leave(&self, stream: u64) {
        self.state.lock().wakers.remove(&stream);
    }

    /// What there is from revision `next` on, up to `max` batches. `published` must have been read before.
    pub(super) fn take(
        &self,
        next: i64,
        published: i64,
        max: usize,
        stream: u64,
        waker: Option<&Waker>,
    ) -> Ready {
        let mut state = self.state.lock();
        if next < state.complete_from {
            return Ready::Behind(state.complete_from - 1);
        }
        let at = state.batches.partition_point(|batch| batch.revision < next);
        let batches: Vec<_> = state.batches.iter().skip(at).take(max).cloned().collect();
        match batches.last().map(|batch| batch.revision) {
            Some(last) if at + batches.len() == state.batches.len() => {
                Ready::Batches(batches, published.max(last) + 1)
            }
            Some(last) => Ready::Batches(batches, last + 1),
            None => {
                if let Some(waker) = waker {
                    state.wakers.insert(stream, waker.clone());
                }
                Ready::Nothing
            }
        }
    }
}
