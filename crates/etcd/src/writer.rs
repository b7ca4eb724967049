//! The one who writes: takes what is queued, sequences it, makes it durable, makes it visible, answers.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::disk::Disk;
use crate::error::{Error, OpenError};
use crate::mvcc::View;
use crate::mvcc::sequence::{Core, Handled, Request};
use crate::queue::{Proposal, Queue};
use crate::store::{Config, Shared, Store};
use crate::watch::Hub;

/// So many requests at most become durable with one sync.
const MAX_BATCH: usize = 4096;

/// Owns the disk. Run it in a thread of its own, or step it by hand. When it is dropped, everything that
/// waits gets [`Error::Stopped`].
pub struct Writer {
    shared: Arc<Shared>,
    core: Core,
    started: bool,
}

/// What a [`Writer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Requests answered, and leases that ran out.
    pub handled: usize,
    /// There is upkeep (a snapshot, compaction) to go on with: step again soon.
    pub busy: bool,
    /// When the next lease runs out.
    pub next_expiry: Option<Duration>,
}

impl Writer {
    pub(crate) fn open(config: Config, _disk: Arc<dyn Disk>) -> Result<(Store, Writer), OpenError> {
        // etcd's first revision is 1, and the first change makes it 2.
        let view = View { revision: 1, ..View::default() };
        let shared = Arc::new(Shared {
            hub: Hub::new(view.revision, config.window_bytes),
            queue: Queue::new(config.max_queue),
            visible: tokio::sync::watch::Sender::new(view.revision),
            view: ArcSwap::from_pointee(view.clone()),
            config,
        });
        let core = Core::new(view, Duration::ZERO);
        Ok((Store::from_shared(Arc::clone(&shared)), Writer { shared, core, started: false }))
    }

    /// Blocks until [`Store::stop`]. `now` is a clock that never goes back; only differences matter.
    pub fn run(mut self, mut now: impl FnMut() -> Duration) {
        loop {
            let time = now();
            let step = self.step(time);
            let timeout = match (step.busy, step.next_expiry) {
                (true, _) => Some(Duration::ZERO),
                (false, Some(at)) => Some(at.saturating_sub(time)),
                (false, None) => None,
            };
            if !self.shared.queue.wait(timeout) {
                break;
            }
        }
        self.step(now());
    }

    /// As [`Writer::run`] with the runtime's (perhaps virtual) time, for simulations in one thread: between
    /// its awaits it does its disk work in place, so it is not for a real disk.
    pub async fn drive(mut self) {
        let start = tokio::time::Instant::now();
        loop {
            let time = start.elapsed();
            let step = self.step(time);
            if step.busy {
                tokio::task::yield_now().await;
                continue;
            }
            let expiry = async {
                match step.next_expiry {
                    Some(at) => tokio::time::sleep_until(start + at).await,
                    None => std::future::pending().await,
                }
            };
            let go_on = tokio::select! {
                biased;
                go_on = self.shared.queue.arrived() => go_on,
                () = expiry => true,
            };
            if !go_on {
                break;
            }
        }
        self.step(start.elapsed());
    }

    /// Handles what is queued as one batch, revokes leases that have run out by `now`, and does one small
    /// piece of upkeep.
    pub fn step(&mut self, now: Duration) -> Step {
        if !std::mem::replace(&mut self.started, true) {
            self.core = Core::new(self.core.head.clone(), now);
        }
        let mut proposals = Vec::new();
        self.shared.queue.take(MAX_BATCH, &mut proposals);
        let (mut batches, mut answers) = (Vec::new(), Vec::new());
        let mut handled_count = proposals.len();
        let shared = Arc::clone(&self.shared);
        let load = |revision, key: &_| shared.version(revision, key);
        for Proposal { request, reply } in proposals {
            match self.core.handle(&request, now, &load) {
                Ok(Handled { reply: answer, batch, .. }) => {
                    batches.extend(batch);
                    answers.push((reply, Ok(answer)));
                }
                Err(error) => answers.push((reply, Err(error))),
            }
        }
        while let Some(id) = self.core.expired(now) {
            handled_count += 1;
            match self.core.handle(&Request::Revoke(id), now, &load) {
                Ok(handled) => batches.extend(handled.batch),
                Err(error) => {
                    tracing::error!(%error, lease = id, "revoking a lease that has run out");
                    break;
                }
            }
        }
        let revision = self.core.head.revision;
        self.shared.view.store(Arc::new(self.core.head.clone()));
        self.shared.hub.publish(batches, revision);
        self.shared.visible.send_if_modified(|visible| std::mem::replace(visible, revision) != revision);
        for (reply, answer) in answers {
            // The asker may have gone.
            let _ = reply.send(answer);
        }
        Step { handled: handled_count, busy: false, next_expiry: self.core.next_expiry() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close(Error::Stopped);
        self.shared.hub.stop();
        self.shared.visible.send_replace(i64::MAX);
    }
}
