//! The watchers of one range.

use std::collections::VecDeque;
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
    /// One place per stream, filled while the stream waits.
    wakers: Vec<Option<Waker>>,
    /// Places of streams that left.
    free: Vec<usize>,
}

/// What a group has for a watcher.
pub(super) enum Ready {
    /// Batches were given; everything before this revision is in them or was not in the range.
    Batches(i64),
    /// Nothing; the waker has been kept if one was given.
    Nothing,
    /// The group does not reach back so far: read up to and including this revision elsewhere.
    Behind(i64),
}

impl Group {
    /// A group for everything after `revision`.
    pub(super) fn new(range: KeyRange, revision: i64) -> Self {
        let state = State {
            batches: VecDeque::new(),
            complete_from: revision + 1,
            wakers: Vec::new(),
            free: Vec::new(),
        };
        Group { range, state: Mutex::new(state) }
    }

    /// A place for a stream.
    pub(super) fn enter(&self) -> usize {
        let mut state = self.state.lock();
        state.free.pop().unwrap_or_else(|| {
            state.wakers.push(None);
            state.wakers.len() - 1
        })
    }

    pub(super) fn leave(&self, place: usize) {
        let mut state = self.state.lock();
        if let Some(waker) = state.wakers.get_mut(place) {
            *waker = None;
            state.free.push(place);
        }
    }

    pub(super) fn push(&self, batch: Arc<Batch>, wake: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        if state.batches.len() == MAX_BATCHES
            && let Some(dropped) = state.batches.pop_front()
        {
            state.complete_from = dropped.revision + 1;
        }
        state.batches.push_back(batch);
        wake.extend(state.wakers.iter_mut().filter_map(Option::take));
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
        wake.extend(self.state.lock().wakers.iter_mut().filter_map(Option::take));
    }

    /// What there is from revision `next` on, up to `max` batches, put into `into`. `published` must have been
    /// read before. With nothing there, the waker is kept at the stream's place.
    pub(super) fn take(
        &self,
        next: i64,
        published: i64,
        max: usize,
        into: &mut VecDeque<Arc<Batch>>,
        waker: Option<(usize, &Waker)>,
    ) -> Ready {
        let mut state = self.state.lock();
        if next < state.complete_from {
            return Ready::Behind(state.complete_from - 1);
        }
        // Most watchers miss no batch or one.
        let behind = state.batches.iter().rev().take(2).take_while(|batch| batch.revision >= next).count();
        let at = match behind {
            2 => state.batches.partition_point(|batch| batch.revision < next),
            few => state.batches.len() - few,
        };
        let here = state.batches.len();
        if at == here {
            if let Some((place, waker)) = waker
                && let Some(kept) = state.wakers.get_mut(place)
            {
                kept.get_or_insert_with(|| waker.clone()).clone_from(waker);
            }
            return Ready::Nothing;
        }
        let end = here.min(at + max);
        into.extend(state.batches.range(at..end).cloned());
        let last = if end > at { state.batches.get(end - 1).map(|batch| batch.revision) } else { None };
        Ready::Batches(match last {
            Some(last) if end == here => published.max(last) + 1,
            Some(last) => last + 1,
            None => next,
        })
    }
}
