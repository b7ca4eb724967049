//! One watcher.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{FutureExt as _, Stream};

use super::group::{Group, Ready};
use super::{Batch, Watch};
use crate::error::Error;
use crate::store::Shared;

/// So many batches are taken at once.
const TAKE: usize = 64;

/// The events of a [`Watch`], revision by revision.
///
/// Yields `Err` once, as its last item: [`Error::Compacted`] when the start revision (or, for a watcher that
/// is very far behind, its next revision) has been compacted, [`Error::Stopped`] when the store stops.
pub struct WatchStream {
    shared: Arc<Shared>,
    group: Arc<Group>,
    /// In the group.
    place: usize,
    prev_kv: bool,
    /// The next revision to look for, after those in `ready`.
    next: i64,
    ready: VecDeque<Arc<Batch>>,
    ended: bool,
}

impl WatchStream {
    pub(crate) fn new(shared: Arc<Shared>, watch: &Watch) -> Self {
        let (place, group, revision) = shared.hub.join(&watch.keys);
        let next = if watch.start_revision > 0 { watch.start_revision } else { revision + 1 };
        WatchStream {
            shared,
            group,
            place,
            prev_kv: watch.prev_kv,
            next,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// The next revision with events in the range. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Arc<Batch>, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next poll yields a batch without looking further.
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Every event through this revision has been yielded. It moves on with the store also while nothing in
    /// the range changes, so it is what a bookmark says.
    pub fn progress(&mut self) -> i64 {
        if let Some(batch) = self.ready.front() {
            return batch.revision - 1;
        }
        let published = self.shared.hub.revision();
        // Nothing is taken, only looked whether there is something.
        if let Ready::Nothing = self.group.take(self.next, published, 0, &mut self.ready, None) {
            self.next = self.next.max(published + 1);
        }
        (self.next - 1).min(published)
    }

    /// The next batch of what has been published by now; `None` when all of that has been yielded. For those who come
    /// by now and then instead of waiting.
    pub fn next_published(&mut self) -> Option<Result<Arc<Batch>, Error>> {
        let published = self.shared.hub.revision();
        loop {
            match self.next().now_or_never() {
                Some(next) => return Some(next.unwrap_or(Err(Error::Stopped))),
                // A stretch of the log without events of ours takes more than one look.
                None if self.progress() < published => {}
                None => return None,
            }
        }
    }

    /// Fills `ready`; true when that was possible at once, false when the waker has been kept.
    fn fill(&mut self, cx: &Context<'_>) -> Result<bool, Error> {
        // Read before the group is asked: what it does not have by then comes later and wakes.
        let stopped = self.shared.hub.stopped();
        let published = self.shared.hub.revision();
        let waker = Some((self.place, cx.waker()));
        match self.group.take(self.next, published, TAKE, &mut self.ready, waker) {
            Ready::Batches(next) => {
                self.next = next;
                Ok(true)
            }
            Ready::Nothing if stopped => Err(Error::Stopped),
            // Stopped just now, perhaps before the waker was kept: look once more.
            Ready::Nothing if self.shared.hub.stopped() => Ok(true),
            Ready::Nothing => {
                self.next = self.next.max(published + 1);
                Ok(false)
            }
            Ready::Behind(to) => {
                let (batches, next) =
                    self.shared.events(&self.group.range, self.next, to, TAKE, self.prev_kv)?;
                self.ready.extend(batches);
                self.next = next;
                if self.ready.is_empty() {
                    // A stretch of the log without events of ours: let others run before the next one.
                    cx.waker().wake_by_ref();
                }
                Ok(!self.ready.is_empty())
            }
        }
    }
}

impl Stream for WatchStream {
    type Item = Result<Arc<Batch>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(batch)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.fill(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.hub.leave(&self.group, self.place);
    }
}
