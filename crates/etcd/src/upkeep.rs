//! What the writer does between batches, a small piece at a time: trimming what was compacted, writing
//! snapshots, removing log segments that nothing needs any more.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::disk::Disk;
use crate::log::recovery::Recovered;
use crate::log::{Log, Position, segment_name};
use crate::mvcc::sequence::Core;
use crate::mvcc::{Effect, Entry, compact};
use crate::snapshot::{Content, LogEnd, SnapshotWriter, snapshot_name};
use crate::store::{Config, Shared};

/// Keys whose history is trimmed in one step.
const TRIM: usize = 256;
/// So many segments to read again at a start are a reason for a snapshot, however small they are.
const MAX_SEGMENTS: u64 = 16;
/// After a snapshot or a trimming that failed, the next try is so much later.
const RETRY: Duration = Duration::from_secs(60);

pub(crate) struct Upkeep {
    disk: Arc<dyn Disk>,
    cluster_id: u64,
    snapshot_bytes: u64,
    /// Log that a start would have to read again.
    replay: u64,
    /// Where the log stood when `replay` was last counted.
    end: Option<Position>,
    /// The segment at which a start begins to read.
    from_segment: u64,
    /// Size of the last snapshot: writing one is worth it only when the log has grown by as much.
    last_size: u64,
    last_snapshot: Option<u64>,
    snapshot: Option<(SnapshotWriter, u64)>,
    /// The last key trimmed; `None` when there is nothing to trim.
    trim: Option<Option<Bytes>>,
    retry: Duration,
}

impl Upkeep {
    pub(crate) fn new(disk: Arc<dyn Disk>, config: &Config, recovered: &Recovered) -> Self {
        Upkeep {
            disk,
            cluster_id: recovered.cluster_id,
            snapshot_bytes: config.snapshot_bytes,
            replay: recovered.replayed,
            end: None,
            from_segment: recovered.from_segment,
            last_size: 0,
            last_snapshot: recovered.snapshot,
            snapshot: None,
            // A compaction may have been cut short by a crash.
            trim: Some(None),
            retry: Duration::ZERO,
        }
    }

    /// Takes note of entries that have become durable.
    pub(crate) fn committed(&mut self, entries: &[Entry], log: &Log) {
        let (end, _) = log.end();
        let before = self.end.replace(end).unwrap_or(Position::new(end.segment(), 0));
        self.replay += match end.segment() == before.segment() {
            true => end.offset() - before.offset(),
            false => end.offset(),
        };
        if entries
            .iter()
            .flat_map(|entry| &entry.effects)
            .any(|effect| matches!(effect, Effect::Compact { .. }))
        {
            self.trim = Some(None);
        }
    }

    /// Does one piece; true when there is more to do.
    pub(crate) fn step(&mut self, shared: &Shared, core: &mut Core, log: &Log, now: Duration) -> bool {
        if now < self.retry {
            return false;
        }
        if let Some((snapshot, keep)) = self.snapshot.take() {
            self.snapshot_step(shared, snapshot, keep, now);
        } else if let Some(from) = self.trim.take() {
            self.trim_step(shared, core, from, now);
        } else if self.wants_snapshot(shared, log) {
            self.begin_snapshot(shared, core, log, now);
        }
        self.snapshot.is_some() || self.trim.is_some()
    }

    fn trim_step(&mut self, shared: &Shared, core: &mut Core, from: Option<Bytes>, now: Duration) {
        let from_bound = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let load = |revision, key: &_| shared.version(revision, key);
        match compact::step(&mut core.head, from_bound, TRIM, &load) {
            Ok(next) => {
                // Between batches everything sequenced is visible, so this only takes away.
                shared.view.store(Arc::new(core.head.clone()));
                match next {
                    Some(last) => self.trim = Some(Some(last)),
                    None => shared.segments.forget_before(core.head.compact_revision),
                }
            }
            Err(error) => {
                tracing::error!(%error, "trimming the store's history");
                self.trim = Some(from);
                self.retry = now.saturating_add(RETRY);
            }
        }
    }

    fn wants_snapshot(&self, shared: &Shared, log: &Log) -> bool {
        let tail = log.end().0.segment();
        let oldest = shared.segments.oldest().unwrap_or(tail);
        let needed = shared.segments.positions().list.front().map_or(tail, |first| first.segment());
        self.replay >= self.snapshot_bytes.max(self.last_size)
            || tail - self.from_segment.min(tail) >= MAX_SEGMENTS
            || (self.replay > 0 && needed.saturating_sub(oldest) >= 2 && self.replay >= self.last_size)
    }

    fn begin_snapshot(&mut self, shared: &Shared, core: &Core, log: &Log, now: Duration) {
        let (position, chain) = log.end();
        let end = LogEnd { position, next_seq: chain.next_seq, prev: chain.prev };
        let positions = shared.segments.positions().clone();
        let keep = positions.list.front().map_or(position, |first| *first.min(&position)).segment();
        let content = Content { view: core.head.clone(), positions, end };
        self.replay = 0;
        self.end = Some(position);
        match SnapshotWriter::begin(&*self.disk, content, self.cluster_id) {
            Ok(snapshot) => self.snapshot = Some((snapshot, keep)),
            Err(error) => self.snapshot_failed(&error, now),
        }
    }

    fn snapshot_step(&mut self, shared: &Shared, mut snapshot: SnapshotWriter, keep: u64, now: Duration) {
        match snapshot.step(&*self.disk) {
            Ok(false) => self.snapshot = Some((snapshot, keep)),
            Ok(true) => {
                self.last_size = snapshot.size();
                self.from_segment = snapshot.end.position.segment();
                let old = self.last_snapshot.replace(snapshot.end.next_seq);
                let old = old.filter(|old| *old != snapshot.end.next_seq).map(snapshot_name);
                let segments = shared.segments.drop_before(keep).into_iter().map(segment_name);
                for name in old.into_iter().chain(segments) {
                    if let Err(error) = self.disk.remove(&name) {
                        // The next start removes it.
                        tracing::warn!(%error, name, "removing a file that the store no longer needs");
                    }
                }
            }
            Err(error) => {
                snapshot.abandon(&*self.disk);
                self.snapshot_failed(&error, now);
            }
        }
    }

    fn snapshot_failed(&mut self, error: &std::io::Error, now: Duration) {
        tracing::error!(%error, "writing a snapshot of the store");
        self.replay = self.snapshot_bytes.max(self.last_size);
        self.retry = now.saturating_add(RETRY);
    }
}
