//! The state: every key's newest version and an index of the older ones, as one persistent value.
//!
//! Start with [`View`]. [`range`] reads it, [`sequence`] turns requests into [`Entry`]s and applies them,
//! [`compact`] forgets.

pub(crate) mod compact;
pub(crate) mod history;
pub(crate) mod range;
pub(crate) mod sequence;
pub(crate) mod tree;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::kv::KeyValue;
use history::History;
use tree::Tree;

/// The store at one revision. A clone is cheap and stays as it is, whatever is written afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub revision: i64,
    /// The oldest revision that can be read.
    pub compact_revision: i64,
    pub keys: Tree<Arc<KeyValue>>,
    /// Per key, oldest first, what is no longer newest and not yet forgotten.
    pub history: Tree<History>,
    /// By [`lease_key`].
    pub leases: Tree<Lease>,
    /// The last lease id that the store chose itself.
    pub last_lease: i64,
}

/// A version that has been overwritten or deleted, or a deletion.
#[derive(Debug, Clone)]
pub(crate) enum Older {
    /// To be read back from the log, where this revision lies.
    Logged(i64),
    /// Was made before the compacted revision, so the log does not keep it; still current at that revision.
    Kept(Arc<KeyValue>),
    Deleted(i64),
}

impl Older {
    pub(crate) fn revision(&self) -> i64 {
        match self {
            Older::Logged(revision) | Older::Deleted(revision) => *revision,
            Older::Kept(kv) => kv.mod_revision,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Lease {
    pub id: i64,
    /// In seconds.
    pub ttl: i64,
    pub keys: Tree<()>,
}

pub(crate) fn lease_key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// What is logged and applied as one: all of it at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The store's revision after this entry.
    pub revision: i64,
    pub effects: Vec<Effect>,
}

impl Entry {
    /// It has a revision of its own.
    pub(crate) fn changes_keys(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Put(_) | Effect::Delete(_)))
    }
}

/// One change, with its outcome, so that applying it again needs no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Put(Arc<KeyValue>),
    Delete(Bytes),
    Grant { id: i64, ttl: i64, chosen: bool },
    Revoke { id: i64 },
    Compact { revision: i64 },
}

/// Reads back a version from the log, given its revision and key.
pub(crate) type Load<'a> = &'a dyn Fn(i64, &Bytes) -> Result<Arc<KeyValue>, Error>;

impl View {
    /// Applies an entry of the log. `None` when it is not the next one.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<()> {
        if entry.revision != self.revision + i64::from(entry.changes_keys()) {
            return None;
        }
        for effect in &entry.effects {
            self.apply_effect(entry.revision, effect);
        }
        Some(())
    }

    pub(crate) fn apply_effect(&mut self, revision: i64, effect: &Effect) -> Option<Arc<KeyValue>> {
        match effect {
            Effect::Put(kv) => {
                self.revision = revision;
                let prev = self.keys.insert(kv.key.clone(), Arc::clone(kv));
                if let Some(prev) = &prev {
                    self.remember(prev, None);
                }
                let old_lease = prev.as_ref().map_or(0, |prev| prev.lease);
                if old_lease != kv.lease {
                    self.lease(old_lease, |lease| {
                        lease.keys.remove(&kv.key);
                    });
                    self.lease(kv.lease, |lease| {
                        lease.keys.insert(kv.key.clone(), ());
                    });
                }
                prev
            }
            Effect::Delete(key) => {
                self.revision = revision;
                let prev = self.keys.remove(key)?;
                self.remember(&prev, Some(revision));
                self.lease(prev.lease, |lease| {
                    lease.keys.remove(key);
                });
                Some(prev)
            }
            Effect::Grant { id, ttl, chosen } => {
                if *chosen {
                    self.last_lease = *id;
                }
                let lease = Lease { id: *id, ttl: *ttl, keys: Tree::default() };
                self.leases.insert(lease_key(*id), lease);
                None
            }
            Effect::Revoke { id } => {
                self.leases.remove(&lease_key(*id));
                None
            }
            Effect::Compact { revision } => {
                self.compact_revision = *revision;
                None
            }
        }
    }

    /// Adds a key-value of a snapshot. `None` when it does not fit: its revisions or its lease.
    pub(crate) fn restore(&mut self, kv: Arc<KeyValue>) -> Option<()> {
        if kv.mod_revision > self.revision || (kv.lease != 0 && self.get_lease(kv.lease).is_none()) {
            return None;
        }
        self.lease(kv.lease, |lease| {
            lease.keys.insert(kv.key.clone(), ());
        });
        self.keys.insert(kv.key.clone(), kv).is_none().then_some(())
    }

    fn remember(&mut self, prev: &Arc<KeyValue>, deleted: Option<i64>) {
        let older = if prev.mod_revision < self.compact_revision {
            Older::Kept(Arc::clone(prev))
        } else {
            Older::Logged(prev.mod_revision)
        };
        let entries = std::iter::once(older).chain(deleted.map(Older::Deleted));
        match self.history.get_mut(&prev.key) {
            Some(history) => entries.for_each(|older| history.push(older)),
            None => {
                self.history.insert(prev.key.clone(), entries.collect());
            }
        }
    }

    fn lease(&mut self, id: i64, change: impl FnOnce(&mut Lease)) {
        if id != 0
            && let Some(lease) = self.leases.get_mut(&id.to_be_bytes())
        {
            change(lease);
        }
    }

    pub(crate) fn get_lease(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id.to_be_bytes())
    }
}
