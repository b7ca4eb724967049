//! The handle: everything that can be asked of a store.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::backup::Backup;
use crate::disk::Disk;
use crate::error::{Error, OpenError};
use crate::kv::{KeyRange, KeyValue};
use crate::lease::{LeaseGrantResponse, LeaseTimeToLiveResponse};
use crate::log::Segments;
use crate::mvcc::sequence::{Core, Reply, Request};
use crate::mvcc::{Effect, View, range};
use crate::queue::Queue;
use crate::txn::Compare;
use crate::txn::{
    DeleteResponse, Op, OpResponse, Put, PutResponse, Range, RangeResponse, Relation, Target, Txn,
    TxnResponse,
};
use crate::watch::{Batch, Event, EventKind, Hub, Watch, WatchStream};
use crate::writer::Writer;

/// A watcher that catches up reads about so much of the log at once.
const READ: usize = 256 << 10;

/// How a store is laid out and limited. The defaults are for production.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names the cluster in an empty directory; random. Ignored when the directory has one.
    pub cluster_id: u64,
    /// The size of a log segment, which is preallocated.
    pub segment_bytes: u64,
    /// A snapshot is written when the log after the last one has so many bytes (or as many as that snapshot,
    /// if it is larger).
    pub snapshot_bytes: u64,
    /// Recent events are kept in memory up to so many bytes, for watchers.
    pub window_bytes: usize,
    /// Operations in one branch of a transaction; etcd's `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// Keys and values in one transaction; etcd's `--max-request-bytes`.
    pub max_txn_bytes: usize,
    /// Requests that wait for the writer; more are refused with [`Error::TooManyRequests`].
    pub max_queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster_id: 0,
            segment_bytes: 16 << 20,
            snapshot_bytes: 32 << 20,
            window_bytes: 4 << 20,
            max_txn_ops: 128,
            max_txn_bytes: 3 << 19,
            max_queue: 10_000,
        }
    }
}

/// See [`Store::hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash {
    pub revision: i64,
    pub compact_revision: i64,
    pub hash: u32,
}

/// A handle to the store; a clone is the same store. Reads answer at once from what is durable; writes go
/// through the [`Writer`] and answer when they are durable.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// What everybody may see.
    pub view: ArcSwap<View>,
    pub hub: Hub,
    pub queue: Queue,
    /// The newest visible revision, for those who wait for one.
    pub visible: tokio::sync::watch::Sender<i64>,
    pub segments: Arc<Segments>,
    pub cluster_id: u64,
    pub config: Config,
}

impl Store {
    /// Opens the directory and recovers what it holds; an empty one becomes a new store. The writer must be
    /// run (or stepped) for anything to be written.
    pub fn open(config: Config, disk: Arc<dyn Disk>) -> Result<(Store, Writer), OpenError> {
        Writer::open(config, disk)
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Store { shared }
    }

    /// The newest revision: everything through it is durable and can be read. A new store is at 1, as etcd's.
    pub fn revision(&self) -> i64 {
        self.shared.view.load().revision
    }

    /// The oldest revision that can be read; 0 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.shared.view.load().compact_revision
    }

    /// The newest version of one key. The cheapest way to read.
    pub fn get(&self, key: &[u8]) -> Option<Arc<KeyValue>> {
        self.shared.view.load().keys.get(key).cloned()
    }

    /// Whether there is a key that begins with `prefix`.
    pub fn has_prefix(&self, prefix: &[u8]) -> bool {
        let view = self.shared.view.load();
        view.keys.range(prefix, None).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// Reads a snapshot; blocks no writer, whatever its size. Versions of older revisions may be read from
    /// disk.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], [`Error::History`].
    pub fn range(&self, request: &Range) -> Result<RangeResponse, Error> {
        let mut tries = 0;
        loop {
            let view = self.shared.view.load_full();
            let read = range::range(&view, request, &|revision, key| self.shared.version(revision, key));
            match read {
                // A compaction took away the place in the log that our view names, but not the version: a
                // newer view has it elsewhere.
                Err(Error::Compacted { .. }) if request.revision >= self.compact_revision() && tries < 3 => {
                    tries += 1;
                }
                read => return read,
            }
        }
    }

    /// See [`Txn`]. Answers when its changes are durable.
    ///
    /// # Errors
    /// [`Error::DuplicateKey`], [`Error::EmptyKey`], [`Error::TooManyOps`], [`Error::TooLarge`],
    /// [`Error::TooManyRequests`], [`Error::LeaseNotFound`], [`Error::Compacted`],
    /// [`Error::FutureRevision`]: nothing was changed. [`Error::NoSpace`]: nothing was changed, and a later
    /// write may succeed. [`Error::Broken`], [`Error::Stopped`]: whether it was changed shows after a restart.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        txn.validate(self.shared.config.max_txn_ops, self.shared.config.max_txn_bytes)?;
        if txn.is_read_only() {
            let view = self.shared.view.load_full();
            return Core::read_only(&view, &txn, &|revision, key| self.shared.version(revision, key));
        }
        match self.shared.queue.propose(Request::Txn(txn)).await? {
            Reply::Txn(response) => Ok(response),
            other => unreachable!("a transaction was answered with {other:?}"),
        }
    }

    /// Puts unconditionally.
    pub async fn put(&self, put: Put) -> Result<PutResponse, Error> {
        let txn = Txn { success: vec![Op::Put(put)], ..Txn::default() };
        match self.txn(txn).await?.responses.pop() {
            Some(OpResponse::Put(response)) => Ok(response),
            other => unreachable!("a put was answered with {other:?}"),
        }
    }

    /// Deletes every key of the range.
    pub async fn delete(&self, keys: KeyRange) -> Result<DeleteResponse, Error> {
        let txn = Txn { success: vec![Op::Delete(keys)], ..Txn::default() };
        match self.txn(txn).await?.responses.pop() {
            Some(OpResponse::Delete(response)) => Ok(response),
            other => unreachable!("a deletion was answered with {other:?}"),
        }
    }

    /// Puts if the key's newest version was made at `mod_revision` (0: if it is absent). Otherwise the
    /// current version, or `None` if there is none, comes back in `Err`.
    pub async fn put_if(
        &self,
        put: Put,
        mod_revision: i64,
    ) -> Result<Result<PutResponse, Option<Arc<KeyValue>>>, Error> {
        let key = put.key.clone();
        let mut response = self.if_mod_revision(key, mod_revision, Op::Put(put)).await?;
        match response.responses.pop() {
            Some(OpResponse::Put(response)) => Ok(Ok(response)),
            Some(OpResponse::Range(mut response)) => Ok(Err(response.kvs.pop())),
            other => unreachable!("a put was answered with {other:?}"),
        }
    }

    /// Deletes one key if its newest version was made at `mod_revision`; otherwise as [`Store::put_if`].
    pub async fn delete_if(
        &self,
        key: impl Into<Bytes>,
        mod_revision: i64,
    ) -> Result<Result<DeleteResponse, Option<Arc<KeyValue>>>, Error> {
        let key = key.into();
        let mut response = self.if_mod_revision(key.clone(), mod_revision, Op::delete(key)).await?;
        match response.responses.pop() {
            Some(OpResponse::Delete(response)) => Ok(Ok(response)),
            Some(OpResponse::Range(mut response)) => Ok(Err(response.kvs.pop())),
            other => unreachable!("a deletion was answered with {other:?}"),
        }
    }

    async fn if_mod_revision(&self, key: Bytes, mod_revision: i64, op: Op) -> Result<TxnResponse, Error> {
        let keys = KeyRange::key(key);
        let compare = Compare {
            keys: keys.clone(),
            relation: Relation::Equal,
            target: Target::ModRevision(mod_revision),
        };
        let failure = vec![Op::Range(Range::new(keys))];
        self.txn(Txn { compare: vec![compare], success: vec![op], failure }).await
    }

    /// Starts watching. Nothing is missed between this call and the first poll.
    pub fn watch(&self, watch: Watch) -> WatchStream {
        WatchStream::new(Arc::clone(&self.shared), &watch)
    }

    /// Waits until everything through `revision` can be read.
    ///
    /// # Errors
    /// [`Error::Stopped`] when it will not come any more.
    pub async fn wait_for(&self, revision: i64) -> Result<(), Error> {
        let mut visible = self.shared.visible.subscribe();
        let reached = visible.wait_for(|newest| *newest >= revision).await;
        // i64::MAX says that nothing will come.
        if reached.is_ok() && self.revision() >= revision { Ok(()) } else { Err(Error::Stopped) }
    }

    /// Makes a lease of `ttl` seconds; id 0 lets the store choose.
    ///
    /// # Errors
    /// [`Error::LeaseExists`], [`Error::LeaseTtlTooLarge`], and as [`Store::txn`].
    pub async fn lease_grant(&self, id: i64, ttl: i64) -> Result<LeaseGrantResponse, Error> {
        match self.shared.queue.propose(Request::Grant { id, ttl }).await? {
            Reply::Grant(response) => Ok(response),
            other => unreachable!("a lease grant was answered with {other:?}"),
        }
    }

    /// Lets the lease run its whole time again; gives back that time in seconds.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<i64, Error> {
        match self.shared.queue.propose(Request::KeepAlive(id)).await? {
            Reply::KeepAlive(ttl) => Ok(ttl),
            other => unreachable!("a lease keep-alive was answered with {other:?}"),
        }
    }

    /// Ends the lease and deletes its keys. Gives back the store's revision.
    pub async fn lease_revoke(&self, id: i64) -> Result<i64, Error> {
        self.done(Request::Revoke(id)).await
    }

    pub async fn lease_time_to_live(&self, id: i64) -> Result<LeaseTimeToLiveResponse, Error> {
        match self.shared.queue.propose(Request::TimeToLive(id)).await? {
            Reply::TimeToLive(response) => Ok(response),
            other => unreachable!("a lease time-to-live was answered with {other:?}"),
        }
    }

    /// The ids of all leases, in order.
    pub fn leases(&self) -> Vec<i64> {
        self.shared.view.load().leases.iter().map(|(_, lease)| lease.id).collect()
    }

    /// A checksum over the newest state; equal on stores that hold the same.
    pub fn hash(&self) -> Hash {
        let view = self.shared.view.load_full();
        let mut hasher = crc32fast::Hasher::new();
        for (key, kv) in view.keys.iter() {
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(&(kv.value.len() as u64).to_le_bytes());
            hasher.update(&kv.value);
            for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
                hasher.update(&number.to_le_bytes());
            }
        }
        Hash { revision: view.revision, compact_revision: view.compact_revision, hash: hasher.finalize() }
    }

    /// The newest state as a stream of bytes, for [`crate::restore`]; without older revisions.
    pub fn backup(&self) -> Backup {
        Backup::new(&self.shared.view.load(), self.shared.cluster_id)
    }

    /// Forgets what only revisions before `revision` can see. Gives back the store's revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] when that was done already, [`Error::FutureRevision`], and as [`Store::txn`].
    pub async fn compact(&self, revision: i64) -> Result<i64, Error> {
        self.done(Request::Compact(revision)).await
    }

    async fn done(&self, request: Request) -> Result<i64, Error> {
        match self.shared.queue.propose(request).await? {
            Reply::Done(revision) => Ok(revision),
            other => unreachable!("a request was answered with {other:?}"),
        }
    }

    /// Lets the writer finish what is queued, close the log and end.
    pub fn stop(&self) {
        self.shared.queue.stop();
    }
}

impl Shared {
    /// A version that is no longer the newest.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the log does not hold that revision any more, [`Error::History`].
    pub(crate) fn version(&self, revision: i64, key: &Bytes) -> Result<Arc<KeyValue>, Error> {
        if let Some(kv) = self.hub.version(key, revision) {
            return Ok(kv);
        }
        let entry = self.segments.entry(revision)?.ok_or_else(|| self.compacted())?;
        let found = entry.effects.into_iter().find_map(|effect| match effect {
            Effect::Put(kv) if kv.key == key => Some(kv),
            _ => None,
        });
        found.ok_or_else(|| Error::History(format!("revision {revision} does not hold the key").into()))
    }

    fn compacted(&self) -> Error {
        Error::Compacted { compact_revision: self.view.load().compact_revision }
    }

    /// The batches of `from..=to` in `keys`, up to `max`, and the revision to go on from; sometimes fewer than
    /// there are, so that one call does not take long.
    pub(crate) fn events(
        &self,
        keys: &KeyRange,
        from: i64,
        to: i64,
        max: usize,
        prev_kv: bool,
    ) -> Result<(Vec<Arc<Batch>>, i64), Error> {
        // In this order: a compaction becomes visible before its revisions leave the index. So what is before
        // the index and not compacted has no events: the revision that a store begins with.
        let first = {
            let positions = self.segments.positions();
            if positions.list.is_empty() { to + 1 } else { positions.first }
        };
        let view = self.view.load_full();
        if from < view.compact_revision {
            return Err(self.compacted());
        }
        if let Some(recent) = self.hub.recent(keys, from, to, max) {
            return Ok(recent);
        }
        let mut cursor = self.segments.cursor();
        let mut batches = Vec::new();
        for revision in from.max(first)..=to {
            let entry = cursor.entry(revision)?.ok_or_else(|| self.compacted())?;
            let mut events = Vec::new();
            for effect in entry.effects {
                let (kind, kv) = match effect {
                    Effect::Put(kv) => (EventKind::Put, kv),
                    Effect::Delete(key) => (EventKind::Delete, KeyValue::tombstone(key, revision)),
                    _ => continue,
                };
                if keys.contains(&kv.key) {
                    let prev = if prev_kv { self.before(&view, &kv.key, revision)? } else { None };
                    events.push(Event { kind, kv, prev });
                }
            }
            if !events.is_empty() {
                batches.push(Arc::new(Batch { revision, events }));
            }
            if batches.len() == max || cursor.read > READ || revision - from > 4096 {
                return Ok((batches, revision + 1));
            }
        }
        Ok((batches, to + 1))
    }

    /// The version before an event, unless it has been compacted.
    fn before(&self, view: &View, key: &Bytes, revision: i64) -> Result<Option<Arc<KeyValue>>, Error> {
        match range::before(view, key, revision, &|revision, key| self.version(revision, key)) {
            Err(Error::Compacted { .. }) => Ok(None),
            found => found,
        }
    }
}
