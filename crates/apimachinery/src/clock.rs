//! Time and randomness as arguments. Real implementations live in `linux`, simulated ones in tests.

use jiff::Timestamp;

/// The wall clock: what goes into `creationTimestamp`, conditions, certificates and tokens.
/// Delays and timeouts use `tokio::time`, which follows virtual time by itself.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// A source of random bytes: uids, generated names, keys.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}
