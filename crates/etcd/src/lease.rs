//! Leases: keys that go away together unless their lease is kept alive.

use std::time::Duration;

use bytes::Bytes;

/// The longest time to live, in seconds; etcd's limit.
pub const MAX_TTL: i64 = 9_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGrantResponse {
    pub id: i64,
    /// In seconds; at least 1.
    pub ttl: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTimeToLiveResponse {
    /// In seconds, as granted.
    pub granted_ttl: i64,
    pub remaining: Duration,
    /// The keys on the lease, in order.
    pub keys: Vec<Bytes>,
}
