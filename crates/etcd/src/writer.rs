//! The one who writes: takes what is queued, sequences it, makes it durable, makes it visible, answers.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::disk::Disk;
use crate::error::{Error, OpenError};
use crate::log::record::Chain;
use crate::log::{Failed, Log, recovery};
use crate::mvcc::sequence::{Core, Reply, Request};
use crate::mvcc::{Entry, View};
use crate::queue::{Proposal, Queue};
use crate::store::{Config, Shared, Store};
use crate::upkeep::Upkeep;
use crate::watch::{self, Batch, Hub};

/// So many requests, or so many bytes, at most become durable with one sync.
const MAX_BATCH: usize = 4096;
const MAX_BATCH_BYTES: usize = 4 << 20;

/// After a write that failed for want of room, leases that have run out are tried again so much later.
const RETRY: Duration = Duration::from_secs(1);

/// Owns the disk. Run it in a thread of its own, or step it by hand. When it is dropped, everything that
/// waits gets [`Error::Stopped`].
pub struct Writer {
    shared: Arc<Shared>,
    core: Core,
    log: Log,
    upkeep: Upkeep,
    started: bool,
    /// Why nothing can be written any more.
    broken: Option<Error>,
    /// Leases are not revoked before.
    retry: Duration,
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

type Answer = Result<Reply, Error>;

/// One group commit: what was sequenced together.
#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    batches: Vec<Arc<Batch>>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

impl Writer {
    pub(crate) fn open(config: Config, disk: Arc<dyn Disk>) -> Result<(Store, Writer), OpenError> {
        let recovered = recovery::open(&*disk, config.cluster_id)?;
        let upkeep = Upkeep::new(Arc::clone(&disk), &config, &recovered);
        let recovery::Recovered { cluster_id, view, segments, last_segment, chain, .. } = recovered;
        let log = Log::begin(
            disk,
            Arc::clone(&segments),
            cluster_id,
            config.segment_bytes,
            last_segment + 1,
            Chain { salt: 0, ..chain },
        )
        .map_err(|source| OpenError::Io { doing: "making a log segment".into(), source })?;
        let shared = Arc::new(Shared {
            hub: Hub::new(view.revision, config.window_bytes),
            queue: Queue::new(config.max_queue),
            visible: tokio::sync::watch::Sender::new(view.revision),
            view: ArcSwap::from_pointee(view.clone()),
            segments,
            cluster_id,
            config,
        });
        let store = Store::from_shared(Arc::clone(&shared));
        let core = Core::new(view, Duration::ZERO);
        let retry = Duration::ZERO;
        Ok((store, Writer { shared, core, log, upkeep, started: false, broken: None, retry }))
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
        self.finish(now());
    }

    /// As [`Writer::run`] with the runtime's (perhaps virtual) time, for simulations in one thread: between
    /// its awaits it does its disk work in place, so it is not for a real disk.
    pub async fn drive(mut self) {
        let start = tokio::time::Instant::now();
        loop {
            let step = self.step(start.elapsed());
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
        self.finish(start.elapsed());
    }

    /// Handles what is still queued, and closes the log.
    pub fn finish(mut self, now: Duration) {
        self.shared.queue.refuse(Error::Stopped);
        while self.broken.is_none() && !self.shared.queue.is_empty() {
            self.step(now);
        }
        if self.broken.is_none()
            && let Err(error) = self.log.close()
        {
            tracing::warn!(error = %Error::from(error), "closing the store's log");
        }
    }

    /// Handles what is queued as one batch, revokes leases that have run out by `now`, and does one small
    /// piece of upkeep.
    pub fn step(&mut self, now: Duration) -> Step {
        if !std::mem::replace(&mut self.started, true) {
            self.core = Core::new(self.core.head.clone(), now);
        }
        let mut handled = 0;
        let mut busy = false;
        if self.broken.is_none() {
            let group = self.sequence(now, &mut handled);
            self.commit(group, now);
            if self.broken.is_none() {
                busy = self.upkeep.step(&self.shared, &mut self.core, &self.log, now);
            }
        }
        let next_expiry = match &self.broken {
            Some(_) => None,
            None => self.core.next_expiry().map(|at| at.max(self.retry)),
        };
        Step { handled, busy: busy || !self.shared.queue.is_empty(), next_expiry }
    }

    fn sequence(&mut self, now: Duration, handled: &mut usize) -> Group {
        let mut group = Group::default();
        let mut proposals = Vec::new();
        self.shared.queue.take(MAX_BATCH, MAX_BATCH_BYTES, &mut proposals);
        *handled += proposals.len();
        let shared = &*self.shared;
        for Proposal { request, reply } in proposals {
            // What this group itself has just overwritten is not in the log yet.
            let load = |revision, key: &Bytes| match watch::version(&group.batches, revision, key) {
                Some(kv) => Ok(kv),
                None => shared.version(revision, key),
            };
            let answer = self.core.handle(&request, now, &load).map(|handled| {
                group.entries.extend(handled.entry);
                group.batches.extend(handled.batch);
                handled.reply
            });
            group.answers.push((reply, answer));
        }
        if now >= self.retry {
            while let Some(id) = self.core.expired(now) {
                *handled += 1;
                match self
                    .core
                    .handle(&Request::Revoke(id), now, &|revision, key| shared.version(revision, key))
                {
                    Ok(handled) => {
                        group.entries.extend(handled.entry);
                        group.batches.extend(handled.batch);
                    }
                    Err(error) => {
                        tracing::error!(%error, lease = id, "revoking a lease that has run out");
                        self.retry = now.saturating_add(RETRY);
                        break;
                    }
                }
            }
        }
        group
    }

    /// Makes the group durable, then visible, then answers. Between the first and the second is where a
    /// replicated log waits for its majority.
    fn commit(&mut self, group: Group, now: Duration) {
        if !group.entries.is_empty() {
            match self.log.append(&group.entries) {
                Ok(positions) => {
                    let mut index = self.shared.segments.positions();
                    for (entry, position) in group.entries.iter().zip(positions) {
                        if entry.changes_keys() {
                            index.push(entry.revision, position);
                        }
                    }
                }
                Err(failed) => return self.fail(group, failed, now),
            }
            let revision = self.core.head.revision;
            self.shared.view.store(Arc::new(self.core.head.clone()));
            self.shared.hub.publish(group.batches, revision);
            self.shared.visible.send_if_modified(|visible| std::mem::replace(visible, revision) != revision);
            self.upkeep.committed(&group.entries, &self.log);
        }
        for (reply, answer) in group.answers {
            // The asker may have gone.
            let _ = reply.send(answer);
        }
    }

    /// Nobody has seen anything of this group: goes back to what is visible.
    fn fail(&mut self, group: Group, failed: Failed, now: Duration) {
        let broken = matches!(failed, Failed::Broken(..));
        let error = Error::from(failed);
        tracing::error!(%error, cause = std::error::Error::source(&error), "a write has failed");
        self.core.reset(View::clone(&self.shared.view.load()), now);
        self.retry = now.saturating_add(RETRY);
        for (reply, _) in group.answers {
            let _ = reply.send(Err(error.clone()));
        }
        if broken {
            self.shared.queue.close(error.clone());
            self.broken = Some(error);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close(Error::Stopped);
        self.shared.hub.stop();
        self.shared.visible.send_replace(i64::MAX);
    }
}
