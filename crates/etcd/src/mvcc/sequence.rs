//! The state machine: requests in, entries and answers out. No disk, no clock, no threads.
//!
//! [`Core`] holds the sequenced state, which is ahead of the visible one until its entries are durable. A
//! replicated log goes between [`Core::handle`] and making the resulting view visible.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Effect, Entry, Lease, Load, View, range};
use crate::error::Error;
use crate::kv::KeyValue;
use crate::lease::{LeaseGrantResponse, LeaseTimeToLiveResponse, MAX_TTL};
use crate::txn::{DeleteResponse, Op, OpResponse, PutResponse, RangeResponse, Txn, TxnResponse};
use crate::watch::{Batch, Event, EventKind};

#[derive(Debug)]
pub(crate) enum Request {
    Txn(Txn),
    /// Id 0: the store chooses.
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive(i64),
    Compact(i64),
}

impl Request {
    /// Roughly the bytes that it brings along.
    pub(crate) fn size(&self) -> usize {
        match self {
            Request::Txn(txn) => txn.size(),
            _ => 0,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Reply {
    Txn(TxnResponse),
    Grant(LeaseGrantResponse),
    /// The time to live, in seconds.
    KeepAlive(i64),
    TimeToLive(LeaseTimeToLiveResponse),
    /// The store's revision.
    Done(i64),
}

/// What came of one request: the answer may be given once the entry is durable.
pub(crate) struct Handled {
    pub reply: Reply,
    pub entry: Option<Entry>,
    pub batch: Option<Arc<Batch>>,
}

impl From<Reply> for Handled {
    fn from(reply: Reply) -> Self {
        Handled { reply, entry: None, batch: None }
    }
}

pub(crate) struct Core {
    /// Everything sequenced, also what is not yet durable.
    pub head: View,
    /// When leases run out, on the writer's clock. Not logged: after a start they run anew, as in etcd.
    deadlines: BTreeMap<i64, Duration>,
}

impl Core {
    pub(crate) fn new(view: View, now: Duration) -> Self {
        let mut core = Core { head: View::default(), deadlines: BTreeMap::new() };
        core.reset(view, now);
        core
    }

    /// Goes back to `view`, because what was sequenced after it did not become durable.
    pub(crate) fn reset(&mut self, view: View, now: Duration) {
        let old = std::mem::take(&mut self.deadlines);
        self.deadlines = view
            .leases
            .iter()
            .map(|(_, lease)| (lease.id, old.get(&lease.id).copied().unwrap_or(deadline(now, lease.ttl))))
            .collect();
        self.head = view;
    }

    /// Answers a transaction that changes nothing in either branch.
    pub(crate) fn read_only(view: &View, txn: &Txn, load: Load<'_>) -> Result<TxnResponse, Error> {
        let mut core = Core { head: view.clone(), deadlines: BTreeMap::new() };
        match core.txn(txn, load)?.reply {
            Reply::Txn(response) => Ok(response),
            other => unreachable!("a transaction was answered with {other:?}"),
        }
    }

    /// On error nothing has changed.
    pub(crate) fn handle(
        &mut self,
        request: &Request,
        now: Duration,
        load: Load<'_>,
    ) -> Result<Handled, Error> {
        match request {
            Request::Txn(txn) => self.txn(txn, load),
            Request::Grant { id, ttl } => self.grant(*id, *ttl, now),
            Request::Revoke(id) => self.revoke(*id),
            Request::KeepAlive(id) => {
                let lease = self.head.get_lease(*id).ok_or(Error::LeaseNotFound)?;
                self.deadlines.insert(*id, deadline(now, lease.ttl));
                Ok(Reply::KeepAlive(lease.ttl).into())
            }
            Request::TimeToLive(id) => {
                let lease = self.head.get_lease(*id).ok_or(Error::LeaseNotFound)?;
                let deadline = self.deadlines.get(id).copied().unwrap_or(now);
                Ok(Reply::TimeToLive(LeaseTimeToLiveResponse {
                    granted_ttl: lease.ttl,
                    remaining: deadline.saturating_sub(now),
                    keys: lease.keys.iter().map(|(key, ())| key.clone()).collect(),
                })
                .into())
            }
            Request::Compact(revision) => self.compact(*revision),
        }
    }

    /// The first lease that has run out.
    pub(crate) fn expired(&self, now: Duration) -> Option<i64> {
        // Leases are few (the API server makes one a minute), so no second index by deadline.
        self.deadlines
            .iter()
            .filter(|(_, at)| **at <= now)
            .min_by_key(|(id, at)| (**at, **id))
            .map(|(id, _)| *id)
    }

    /// When the next lease runs out.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        self.deadlines.values().min().copied()
    }

    fn txn(&mut self, txn: &Txn, load: Load<'_>) -> Result<Handled, Error> {
        let succeeded = txn.compare.iter().all(|compare| {
            let mut any = false;
            let mut found = self.head.keys.range(&compare.keys.start, compare.keys.end());
            found.all(|(_, kv)| {
                any = true;
                compare.holds_for(Some(kv))
            }) && (any || compare.holds_for(None))
        });
        let ops = if succeeded { &txn.success } else { &txn.failure };

        // Everything that can fail comes first, so that a refused transaction leaves nothing behind.
        let mut older = VecDeque::new();
        for op in ops {
            match op {
                Op::Put(put) if put.lease != 0 && self.head.get_lease(put.lease).is_none() => {
                    return Err(Error::LeaseNotFound);
                }
                Op::Range(read) if read.revision > 0 => {
                    older.push_back(range::range(&self.head, read, load)?);
                }
                _ => {}
            }
        }

        let before = self.head.revision;
        let mut change = Change::new(before + 1);
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Put(put) => {
                    let old = self.head.keys.get(&put.key);
                    let kv = Arc::new(KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        create_revision: old.map_or(change.revision, |old| old.create_revision),
                        mod_revision: change.revision,
                        version: old.map_or(1, |old| old.version + 1),
                        lease: put.lease,
                        ..KeyValue::default()
                    });
                    let prev = change.put(&mut self.head, &kv);
                    OpResponse::Put(PutResponse { revision: change.revision, kv, prev })
                }
                Op::Delete(keys) => {
                    let doomed: Vec<_> =
                        self.head.keys.range(&keys.start, keys.end()).map(|(key, _)| key.clone()).collect();
                    let deleted =
                        doomed.into_iter().filter_map(|key| change.delete(&mut self.head, key)).collect();
                    OpResponse::Delete(DeleteResponse { revision: self.head.revision, deleted })
                }
                Op::Range(read) if read.revision > 0 => {
                    OpResponse::Range(older.pop_front().unwrap_or_else(RangeResponse::default))
                }
                Op::Range(read) => OpResponse::Range(range::range(&self.head, read, load)?),
            });
        }
        let reply = Reply::Txn(TxnResponse { revision: self.head.revision, succeeded, responses });
        Ok(change.finish(reply))
    }

    fn grant(&mut self, id: i64, ttl: i64, now: Duration) -> Result<Handled, Error> {
        if ttl > MAX_TTL {
            return Err(Error::LeaseTtlTooLarge);
        }
        let chosen = id == 0;
        let id = if chosen { self.free_lease_id() } else { id };
        if self.head.get_lease(id).is_some() {
            return Err(Error::LeaseExists);
        }
        let ttl = ttl.max(1);
        self.deadlines.insert(id, deadline(now, ttl));
        let mut change = Change::new(self.head.revision);
        change.other(&mut self.head, Effect::Grant { id, ttl, chosen });
        Ok(change.finish(Reply::Grant(LeaseGrantResponse { id, ttl })))
    }

    fn free_lease_id(&self) -> i64 {
        let mut id = self.head.last_lease;
        loop {
            id = if id == i64::MAX { 1 } else { id.max(0) + 1 };
            if self.head.get_lease(id).is_none() {
                return id;
            }
        }
    }

    /// Deletes the lease and, at one revision, every key on it.
    fn revoke(&mut self, id: i64) -> Result<Handled, Error> {
        let lease: Lease = self.head.get_lease(id).cloned().ok_or(Error::LeaseNotFound)?;
        self.deadlines.remove(&id);
        let attached = lease.keys.len() > 0;
        let mut change = Change::new(self.head.revision + i64::from(attached));
        for (key, ()) in lease.keys.iter() {
            change.delete(&mut self.head, key.clone());
        }
        change.other(&mut self.head, Effect::Revoke { id });
        let revision = self.head.revision;
        Ok(change.finish(Reply::Done(revision)))
    }

    fn compact(&mut self, revision: i64) -> Result<Handled, Error> {
        if revision <= self.head.compact_revision {
            return Err(Error::Compacted { compact_revision: self.head.compact_revision });
        }
        if revision > self.head.revision {
            return Err(Error::FutureRevision { revision });
        }
        let mut change = Change::new(self.head.revision);
        change.other(&mut self.head, Effect::Compact { revision });
        let revision = self.head.revision;
        Ok(change.finish(Reply::Done(revision)))
    }
}

fn deadline(now: Duration, ttl: i64) -> Duration {
    now.saturating_add(Duration::from_secs(ttl.max(0).unsigned_abs()))
}

/// Collects the effects and events of one entry while applying them.
struct Change {
    revision: i64,
    effects: Vec<Effect>,
    events: Vec<Event>,
}

impl Change {
    fn new(revision: i64) -> Self {
        Change { revision, effects: Vec::new(), events: Vec::new() }
    }

    fn put(&mut self, head: &mut View, kv: &Arc<KeyValue>) -> Option<Arc<KeyValue>> {
        let effect = Effect::Put(Arc::clone(kv));
        let prev = head.apply_effect(self.revision, &effect);
        self.effects.push(effect);
        self.events.push(Event { kind: EventKind::Put, kv: Arc::clone(kv), prev: prev.clone() });
        prev
    }

    fn delete(&mut self, head: &mut View, key: bytes::Bytes) -> Option<Arc<KeyValue>> {
        let effect = Effect::Delete(key.clone());
        let prev = head.apply_effect(self.revision, &effect)?;
        self.effects.push(effect);
        let kv = KeyValue::tombstone(key, self.revision);
        self.events.push(Event { kind: EventKind::Delete, kv, prev: Some(Arc::clone(&prev)) });
        Some(prev)
    }

    fn other(&mut self, head: &mut View, effect: Effect) {
        head.apply_effect(self.revision, &effect);
        self.effects.push(effect);
    }

    fn finish(self, reply: Reply) -> Handled {
        let entry =
            (!self.effects.is_empty()).then_some(Entry { revision: self.revision, effects: self.effects });
        let batch = (!self.events.is_empty())
            .then(|| Arc::new(Batch { revision: self.revision, events: self.events }));
        Handled { reply, entry, batch }
    }
}
