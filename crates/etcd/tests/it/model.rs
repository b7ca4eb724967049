//! What a store should do, said as simply as possible: the whole state is kept for every revision.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::*;

pub type State = BTreeMap<Bytes, Arc<KeyValue>>;

#[derive(Clone)]
pub struct Model {
    /// The state at each revision from 1 on.
    pub states: Vec<Rc<State>>,
    pub events: Vec<Rc<Batch>>,
    pub compact_revision: i64,
    /// Time to live and deadline.
    pub leases: BTreeMap<i64, (i64, Duration)>,
    pub last_lease: i64,
}

#[derive(Debug, Clone)]
pub enum Request {
    Txn(Txn),
    Grant(i64, i64),
    Revoke(i64),
    KeepAlive(i64),
    Compact(i64),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Txn(TxnResponse),
    Grant(LeaseGrantResponse),
    KeepAlive(i64),
    Done(i64),
}

impl Model {
    pub fn new() -> Self {
        Model {
            states: vec![Rc::default()],
            events: Vec::new(),
            compact_revision: 0,
            leases: BTreeMap::new(),
            last_lease: 0,
        }
    }

    pub fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    pub fn state(&self, revision: i64) -> &State {
        &self.states[revision as usize - 1]
    }

    pub fn newest(&self) -> &State {
        self.state(self.revision())
    }

    pub fn range(&self, state: &State, range: &Range, revision: i64) -> Result<RangeResponse, Error> {
        if range.revision > self.revision() {
            return Err(Error::FutureRevision { revision: range.revision });
        }
        if range.revision > 0 && range.revision < self.compact_revision {
            return Err(Error::Compacted { compact_revision: self.compact_revision });
        }
        let state = if range.revision > 0 { self.state(range.revision) } else { state };
        let mut kvs: Vec<_> = state.values().filter(|kv| range.keys.contains(&kv.key)).cloned().collect();
        let count = kvs.len();
        if range.limit > 0 {
            kvs.truncate(range.limit);
        }
        if range.count_only {
            kvs.clear();
        }
        let more = !range.count_only && kvs.len() < count;
        if range.keys_only {
            for kv in &mut kvs {
                *kv = Arc::new(KeyValue {
                    key: kv.key.clone(),
                    create_revision: kv.create_revision,
                    mod_revision: kv.mod_revision,
                    version: kv.version,
                    lease: kv.lease,
                    ..KeyValue::default()
                });
            }
        }
        Ok(RangeResponse { revision, kvs, count, more })
    }

    fn compare(&self, compare: &Compare) -> bool {
        let state = self.newest();
        let found: Vec<_> = state.values().filter(|kv| compare.keys.contains(&kv.key)).collect();
        let absent = Arc::new(KeyValue::default());
        let missing = found.is_empty();
        let subjects = if missing { vec![&absent] } else { found };
        subjects.into_iter().all(|kv| {
            let ordering = match &compare.target {
                Target::Value(_) if missing => return false,
                Target::Value(value) => kv.value.cmp(value),
                Target::Version(n) => kv.version.cmp(n),
                Target::CreateRevision(n) => kv.create_revision.cmp(n),
                Target::ModRevision(n) => kv.mod_revision.cmp(n),
                Target::Lease(n) => kv.lease.cmp(n),
            };
            match compare.relation {
                Relation::Equal => ordering.is_eq(),
                Relation::NotEqual => ordering.is_ne(),
                Relation::Greater => ordering.is_gt(),
                Relation::Less => ordering.is_lt(),
            }
        })
    }

    pub fn apply(&mut self, request: &Request, now: Duration) -> Result<Answer, Error> {
        match request {
            Request::Txn(txn) => self.txn(txn).map(Answer::Txn),
            Request::Grant(id, ttl) => {
                let mut id = *id;
                if id == 0 {
                    id = self.last_lease + 1;
                    while self.leases.contains_key(&id) {
                        id += 1;
                    }
                    self.last_lease = id;
                }
                if self.leases.contains_key(&id) {
                    return Err(Error::LeaseExists);
                }
                let ttl = *ttl.max(&1);
                self.leases.insert(id, (ttl, now + Duration::from_secs(ttl as u64)));
                Ok(Answer::Grant(LeaseGrantResponse { id, ttl }))
            }
            Request::Revoke(id) => {
                self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
                let ops =
                    self.newest().values().filter(|kv| kv.lease == *id).map(|kv| Op::delete(kv.key.clone()));
                let txn = Txn { success: ops.collect(), ..Txn::default() };
                self.txn(&txn)?;
                Ok(Answer::Done(self.revision()))
            }
            Request::KeepAlive(id) => {
                let (ttl, deadline) = self.leases.get_mut(id).ok_or(Error::LeaseNotFound)?;
                *deadline = now + Duration::from_secs(*ttl as u64);
                Ok(Answer::KeepAlive(*ttl))
            }
            Request::Compact(revision) => {
                if *revision <= self.compact_revision {
                    return Err(Error::Compacted { compact_revision: self.compact_revision });
                }
                if *revision > self.revision() {
                    return Err(Error::FutureRevision { revision: *revision });
                }
                self.compact_revision = *revision;
                Ok(Answer::Done(self.revision()))
            }
        }
    }

    /// The leases that have run out, first the one that ran out first.
    pub fn expired(&self, now: Duration) -> Vec<i64> {
        let mut expired: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.1 <= now)
            .map(|(id, lease)| (lease.1, *id))
            .collect();
        expired.sort();
        expired.into_iter().map(|(_, id)| id).collect()
    }

    pub fn restart(&mut self, now: Duration) {
        for (ttl, deadline) in self.leases.values_mut() {
            *deadline = now + Duration::from_secs(*ttl as u64);
        }
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, Error> {
        for branch in [&txn.success, &txn.failure] {
            let puts: Vec<_> = branch
                .iter()
                .filter_map(|op| if let Op::Put(put) = op { Some(&put.key) } else { None })
                .collect();
            let twice = puts.iter().any(|key| puts.iter().filter(|other| other == &key).count() > 1);
            let deleted = branch
                .iter()
                .any(|op| matches!(op, Op::Delete(keys) if puts.iter().any(|key| keys.contains(key))));
            if twice || deleted {
                return Err(Error::DuplicateKey);
            }
        }
        let succeeded = txn.compare.iter().all(|compare| self.compare(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let before = self.revision();
        let mut state = self.newest().clone();
        let (mut responses, mut events) = (Vec::new(), Vec::new());
        for op in ops {
            let revision = before + i64::from(!events.is_empty());
            responses.push(match op {
                Op::Put(put) => {
                    if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                        return Err(Error::LeaseNotFound);
                    }
                    let old = state.get(&put.key).cloned();
                    let kv = Arc::new(KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        create_revision: old.as_ref().map_or(before + 1, |old| old.create_revision),
                        mod_revision: before + 1,
                        version: old.as_ref().map_or(0, |old| old.version) + 1,
                        lease: put.lease,
                        ..KeyValue::default()
                    });
                    state.insert(put.key.clone(), Arc::clone(&kv));
                    events.push(Event { kind: EventKind::Put, kv: Arc::clone(&kv), prev: old.clone() });
                    OpResponse::Put(PutResponse { revision: before + 1, kv, prev: old })
                }
                Op::Delete(keys) => {
                    let deleted: Vec<_> =
                        state.values().filter(|kv| keys.contains(&kv.key)).cloned().collect();
                    for prev in &deleted {
                        state.remove(&prev.key);
                        let kv = KeyValue {
                            key: prev.key.clone(),
                            mod_revision: before + 1,
                            ..KeyValue::default()
                        };
                        let prev = Some(Arc::clone(prev));
                        events.push(Event { kind: EventKind::Delete, kv: Arc::new(kv), prev });
                    }
                    let revision = before + i64::from(!events.is_empty());
                    OpResponse::Delete(DeleteResponse { revision, deleted })
                }
                // An older revision is answered as the store was before this transaction.
                Op::Range(range) => {
                    let header = if range.revision > 0 { before } else { revision };
                    OpResponse::Range(self.range(&state, range, header)?)
                }
            });
        }
        if !events.is_empty() {
            self.states.push(Rc::new(state));
            self.events.push(Rc::new(Batch { revision: self.revision(), events }));
        }
        Ok(TxnResponse { revision: self.revision(), succeeded, responses })
    }
}
