//! The store: etcd's data model in one process. Revisions, reads at older revisions, transactions with
//! compares, leases, watches from a revision, compaction; on disk as a group-committed, checksummed log with
//! streamed snapshots.
//!
//! Start with [`Store`], the handle that everybody holds, and [`Writer`], the one thread that owns the disk.
//! A request goes `Store` → queue → `mvcc::sequence` (the state machine) → `log` → visible: the view that
//! readers load, then the watchers, then the answer. `disk` has the real files and a simulated disk that
//! loses what was not synced.
//!
//! **Invariants.** Nobody (reader, watcher, or the sender of a transaction) sees a revision before its batch
//! is durable. A transaction compares against the sequenced, not yet visible, state. After a crash no revision
//! that anybody saw is issued again. A failed sync is never tried again as if it could still succeed.
//!
//! It knows no Kubernetes: keys and values are bytes. It has one member and speaks no wire protocol. It reads
//! no clock and makes no threads or randomness: all are given in.

mod backup;
pub mod disk;
mod error;
mod kv;
mod lease;
mod log;
mod mvcc;
mod queue;
mod snapshot;
mod store;
mod sync;
mod txn;
mod upkeep;
mod watch;
mod writer;

pub use backup::{Backup, restore};
pub use error::{Error, OpenError};
pub use kv::{Derived, KeyRange, KeyValue};
pub use lease::{LeaseGrantResponse, LeaseTimeToLiveResponse, MAX_TTL};
pub use store::{Config, Hash, Store};
pub use txn::{
    Compare, DeleteResponse, Op, OpResponse, Put, PutResponse, Range, RangeResponse, Relation, Target, Txn,
    TxnResponse,
};
pub use watch::{Batch, Event, EventKind, Watch, WatchStream};
pub use writer::{Step, Writer};
