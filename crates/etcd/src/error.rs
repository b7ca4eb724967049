//! The ways a request to the store, or opening it, can fail.

use std::io;
use std::sync::Arc;

/// Why a request was not served. Where etcd has the same error, the text is etcd's, because it reaches users
/// of the Kubernetes API.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The oldest revision that can still be read.
        compact_revision: i64,
    },
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision { revision: i64 },
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: request is too large")]
    TooLarge,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The disk had no room for the write; the store is as before, and the next write may succeed.
    #[error("writing to the store's log: no space left on the disk")]
    NoSpace,
    /// The log cannot be written any more; what was read before can still be read.
    #[error("the store accepts no writes any more since {doing} failed")]
    Broken {
        doing: Arc<str>,
        #[source]
        source: Arc<io::Error>,
    },
    /// A value of an older revision could not be read back from the log.
    #[error("reading the store's history: {0}")]
    History(Arc<str>),
    /// The writer has ended, because the process is stopping.
    #[error("the store has been stopped")]
    Stopped,
}

/// Why a data directory could not be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory is in use by another process")]
    Locked,
    #[error("the data directory holds format version {found}, this build reads version {expected}")]
    Version { found: u32, expected: u32 },
    #[error("the directory is not a data directory of this store: it holds {found:?}")]
    Foreign { found: String },
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged { file: String, offset: u64, what: &'static str },
    #[error("{doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
}
