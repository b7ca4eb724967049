//! Watching: events in revision order, from now or from an older revision.
//!
//! Start with [`WatchStream`]. Watchers of one range share a `Group`: an event is matched and stored once
//! per group, whatever the number of watchers. The events themselves live in one window of the newest ones,
//! limited in bytes; a watcher that falls out of it reads the log until it has caught up, and nobody waits
//! for it.

mod group;
mod hub;
mod stream;

use std::sync::Arc;

pub use stream::WatchStream;

pub(crate) use hub::Hub;

use crate::kv::{KeyRange, KeyValue};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// The new version; of a deletion only `key` and `mod_revision`.
    pub kv: Arc<KeyValue>,
    /// The version before. Always set where it is known at no cost; in a catch-up from the log only if
    /// [`Watch::prev_kv`] asks for it. `None` also when it has been compacted.
    pub prev: Option<Arc<KeyValue>>,
}

/// All events of one revision in the watched range; never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub revision: i64,
    pub events: Vec<Event>,
}

impl Batch {
    fn size(&self) -> usize {
        let event = |event: &Event| event.kv.size() + event.prev.as_ref().map_or(0, |prev| prev.size());
        self.events.iter().map(event).sum::<usize>() + size_of::<Batch>()
    }

    /// The version of a key that was put at this revision.
    fn version(&self, key: &[u8]) -> Option<Arc<KeyValue>> {
        let put = |event: &&Event| event.kind == EventKind::Put && event.kv.key == key;
        self.events.iter().find(put).map(|event| Arc::clone(&event.kv))
    }

    /// The part in `range`; `None` when empty.
    fn within(self: &Arc<Self>, range: &KeyRange) -> Option<Arc<Batch>> {
        let inside = self.events.iter().filter(|event| range.contains(&event.kv.key)).count();
        if inside == self.events.len() {
            return Some(Arc::clone(self));
        }
        if inside == 0 {
            return None;
        }
        let events = self.events.iter().filter(|event| range.contains(&event.kv.key)).cloned().collect();
        Some(Arc::new(Batch { revision: self.revision, events }))
    }
}

/// The version of a key that was put at `revision`, if that is among `batches`, which are in order.
pub(crate) fn version(batches: &[Arc<Batch>], revision: i64, key: &[u8]) -> Option<Arc<KeyValue>> {
    let at = batches.binary_search_by_key(&revision, |batch| batch.revision).ok()?;
    batches.get(at)?.version(key)
}

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    pub keys: KeyRange,
    /// The first revision of interest; 0: what comes after now. May lie in the future.
    pub start_revision: i64,
    /// Also read the version before each event where that costs reading.
    pub prev_kv: bool,
}

impl Watch {
    pub fn new(keys: KeyRange) -> Self {
        Watch { keys, start_revision: 0, prev_kv: true }
    }

    pub fn start_revision(self, start_revision: i64) -> Self {
        Watch { start_revision, ..self }
    }
}
