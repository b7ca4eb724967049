//! What a controller has written and its informer has not yet shown: acting on the older state would make a
//! second one of what was just made.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use api::meta::v1::ObjectMeta;
use client::{Key, Kind, Store, key_of};
use tokio::time::Instant;

/// A write that never shows is forgotten: the object may have been deleted before it was noted.
const EXPIRES: Duration = Duration::from_secs(30);

/// The newest resourceVersion written, by object.
#[derive(Default)]
pub(crate) struct Written {
    versions: Mutex<BTreeMap<Key, (u64, Instant)>>,
}

impl Written {
    /// An object was written and came back.
    pub(crate) fn note<K: Kind>(&self, object: &K) {
        self.lock().insert(key_of(object), (version(object.metadata()), Instant::now()));
    }

    /// An object is gone.
    pub(crate) fn gone(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// Whether this is the state that was written last, so that it says nothing new.
    pub(crate) fn is_own<K: Kind>(&self, object: &K) -> bool {
        let versions = self.lock();
        versions.get(&key_of(object)).is_some_and(|(written, _)| *written == version(object.metadata()))
    }

    /// Whether the store is behind what was written, for any object that `concerns`.
    pub(crate) fn behind<K: Kind>(&self, store: &Store<K>, concerns: impl Fn(&Key) -> bool) -> bool {
        let mut versions = self.lock();
        versions.retain(|_, (_, at)| at.elapsed() < EXPIRES);
        versions.iter().filter(|(key, _)| concerns(key)).any(|(key, (written, _))| {
            store.get_key(key).is_none_or(|object| version(object.metadata()) < *written)
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, (u64, Instant)>> {
        self.versions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
