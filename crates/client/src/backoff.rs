//! Growing, jittered delays.

use std::time::Duration;

use apimachinery::clock::Entropy;

/// Delays that double up to a limit, each lengthened by a random part of itself, as client-go's reflector
/// does (800 ms to 30 s, jitter up to the whole delay).
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// From `first`, doubling, up to `limit`.
    pub fn new(first: Duration, limit: Duration) -> Backoff {
        Backoff { first, limit, next: first }
    }

    /// What the reflector of client-go uses.
    pub fn reflector() -> Backoff {
        Backoff::new(Duration::from_millis(800), Duration::from_secs(30))
    }

    /// The next delay.
    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.limit);
        jitter(delay, 1.0, entropy)
    }

    /// Starts again with the first delay.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `delay` lengthened by a random part of `factor * delay`.
pub(crate) fn jitter(delay: Duration, factor: f64, entropy: &dyn Entropy) -> Duration {
    let mut bytes = [0u8; 4];
    entropy.fill(&mut bytes);
    let part = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    delay + delay.mul_f64(factor * part)
}
