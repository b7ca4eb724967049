//! What a controller has asked for and not yet seen: until it has, its informers' stores are behind its own
//! acts, and counting in them would act twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use client::Key;
use tokio::time::Instant;

/// After this time an expectation no longer holds things up: what was expected got lost.
const EXPIRES: Duration = Duration::from_secs(5 * 60);

/// Expectations by the key of the object that is synced.
#[derive(Default)]
pub(crate) struct Expectations {
    by_key: Mutex<BTreeMap<Key, Expected>>,
}

struct Expected {
    creations: usize,
    deletions: BTreeSet<Key>,
    since: Instant,
}

impl Expectations {
    /// Creations are about to be asked for.
    pub(crate) fn expect_creations(&self, key: &Key, creations: usize) {
        let expected = Expected { creations, deletions: BTreeSet::new(), since: Instant::now() };
        self.lock().insert(key.clone(), expected);
    }

    /// Deletions are about to be asked for.
    pub(crate) fn expect_deletions(&self, key: &Key, deletions: BTreeSet<Key>) {
        let expected = Expected { creations: 0, deletions, since: Instant::now() };
        self.lock().insert(key.clone(), expected);
    }

    /// One was created, or will not be.
    pub(crate) fn creation_seen(&self, key: &Key) {
        if let Some(expected) = self.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// One was deleted, or will not be.
    pub(crate) fn deletion_seen(&self, key: &Key, deleted: &Key) {
        if let Some(expected) = self.lock().get_mut(key) {
            expected.deletions.remove(deleted);
        }
    }

    /// The object is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// Everything that was asked for has been seen, or has been waited for too long.
    pub(crate) fn satisfied(&self, key: &Key) -> bool {
        self.lock().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > EXPIRES
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Expected>> {
        self.by_key.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn satisfied_when_seen_or_expired() {
        let expectations = Expectations::default();
        let (key, pod) = (Key::new("n", "rs"), Key::new("n", "p"));
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.creation_seen(&key);
        assert!(!expectations.satisfied(&key));
        expectations.creation_seen(&key);
        assert!(expectations.satisfied(&key));
        expectations.expect_deletions(&key, BTreeSet::from([pod.clone()]));
        expectations.creation_seen(&key);
        assert!(!expectations.satisfied(&key));
        expectations.deletion_seen(&key, &pod);
        expectations.deletion_seen(&key, &pod);
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 1);
        tokio::time::advance(EXPIRES + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
    }
}
