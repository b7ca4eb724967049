//! Requests and responses: ranges, compares, puts, deletions, transactions.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::kv::{KeyRange, KeyValue};

/// Which key-values to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub keys: KeyRange,
    /// 0 is the newest revision.
    pub revision: i64,
    /// At most so many key-values; 0 is no limit.
    pub limit: usize,
    /// Return the key-values with empty values.
    pub keys_only: bool,
    /// Return only `count`.
    pub count_only: bool,
}

impl Range {
    /// Everything in `keys` at the newest revision.
    pub fn new(keys: KeyRange) -> Self {
        Range { keys, revision: 0, limit: 0, keys_only: false, count_only: false }
    }

    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::key(key))
    }

    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    pub fn revision(self, revision: i64) -> Self {
        Range { revision, ..self }
    }

    pub fn limit(self, limit: usize) -> Self {
        Range { limit, ..self }
    }

    pub fn count_only(self) -> Self {
        Range { count_only: true, ..self }
    }

    pub fn keys_only(self) -> Self {
        Range { keys_only: true, ..self }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's newest revision when this was read (etcd's header revision), also for a read at an
    /// older revision.
    pub revision: i64,
    /// In key order.
    pub kvs: Vec<Arc<KeyValue>>,
    /// How many keys the range holds at that revision, whatever the limit.
    pub count: usize,
    /// The limit cut something off.
    pub more: bool,
}

/// A condition over every key of a range. A key that is absent has version, revisions and lease 0, and a
/// compare of its value is false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub keys: KeyRange,
    pub relation: Relation,
    pub target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// What is compared, and with which value: the key's is on the left side of the relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Bytes),
    Lease(i64),
}

impl Compare {
    /// The key's newest version was made at `revision`; 0: the key is absent.
    pub fn mod_revision(key: impl Into<Bytes>, revision: i64) -> Self {
        Compare { keys: KeyRange::key(key), relation: Relation::Equal, target: Target::ModRevision(revision) }
    }

    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self::mod_revision(key, 0)
    }

    pub(crate) fn holds_for(&self, kv: Option<&KeyValue>) -> bool {
        let number = |read: fn(&KeyValue) -> i64, with: i64| kv.map_or(0, read).cmp(&with);
        let ordering = match &self.target {
            Target::Version(with) => number(|kv| kv.version, *with),
            Target::CreateRevision(with) => number(|kv| kv.create_revision, *with),
            Target::ModRevision(with) => number(|kv| kv.mod_revision, *with),
            Target::Lease(with) => number(|kv| kv.lease, *with),
            Target::Value(with) => match kv {
                Some(kv) => kv.value.cmp(with),
                None => return false,
            },
        };
        match self.relation {
            Relation::Equal => ordering.is_eq(),
            Relation::NotEqual => ordering.is_ne(),
            Relation::Greater => ordering.is_gt(),
            Relation::Less => ordering.is_lt(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    /// Kept as given: a slice of a larger buffer keeps the whole buffer alive.
    pub value: Bytes,
    /// 0 is none.
    pub lease: i64,
}

impl Put {
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Put { key: key.into(), value: value.into(), lease: 0 }
    }

    pub fn lease(self, lease: i64) -> Self {
        Put { lease, ..self }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put(Put),
    Delete(KeyRange),
    Range(Range),
}

impl Op {
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Op::Put(Put::new(key, value))
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Op::Delete(KeyRange::key(key))
    }

    /// Reads one key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Op::Range(Range::key(key))
    }
}

/// If all of `compare` hold, `success` is done, else `failure`; all of it at one revision, or none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResponse {
    /// The revision of this transaction's changes, or, when it changed nothing, the newest before it.
    pub revision: i64,
    /// Which branch was taken.
    pub succeeded: bool,
    /// One for each operation of the branch taken.
    pub responses: Vec<OpResponse>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResponse {
    Put(PutResponse),
    Delete(DeleteResponse),
    Range(RangeResponse),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutResponse {
    /// The revision of the put.
    pub revision: i64,
    /// The new version, the very one that the map and the watchers hold.
    pub kv: Arc<KeyValue>,
    pub prev: Option<Arc<KeyValue>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteResponse {
    /// The revision of the deletion; when nothing was deleted, the newest before it.
    pub revision: i64,
    /// What was deleted, in key order.
    pub deleted: Vec<Arc<KeyValue>>,
}

impl Txn {
    /// Refuses what etcd refuses before looking at any state: empty keys, too many operations, a key that is
    /// put twice, or put and deleted, in one branch.
    pub(crate) fn validate(&self, max_ops: usize, max_bytes: usize) -> Result<(), Error> {
        if [self.compare.len(), self.success.len(), self.failure.len()].iter().any(|len| *len > max_ops) {
            return Err(Error::TooManyOps);
        }
        for branch in [&self.success, &self.failure] {
            let mut puts = std::collections::BTreeSet::new();
            for op in branch {
                if let Op::Put(put) = op {
                    if put.key.is_empty() {
                        return Err(Error::EmptyKey);
                    }
                    if !puts.insert(&put.key) {
                        return Err(Error::DuplicateKey);
                    }
                }
            }
            for op in branch {
                if let Op::Delete(keys) = op
                    && puts.range::<Bytes, _>(&keys.start..).next().is_some_and(|put| keys.contains(put))
                {
                    return Err(Error::DuplicateKey);
                }
            }
        }
        if self.size() > max_bytes {
            return Err(Error::TooLarge);
        }
        Ok(())
    }

    /// The bytes of keys and values to be put.
    pub(crate) fn size(&self) -> usize {
        let size = |op: &Op| match op {
            Op::Put(put) => put.key.len() + put.value.len(),
            _ => 0,
        };
        self.success.iter().chain(&self.failure).map(size).fold(0, usize::saturating_add)
    }

    /// Neither branch can change anything, so it need not be sequenced.
    pub(crate) fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, Op::Range(_)))
    }
}
