//! Every custom resource there is, level with the store: a lookup first takes in what was written since the last one,
//! so that a definition is served the moment its status says so.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use apimachinery::{
    gvk,
    schema::{Resource, ResourceRef},
};
use etcd::{EventKind, KeyRange, KeyValue, Range, Store, Watch, WatchStream};

use tokio_util::sync::CancellationToken;

use super::Definition;
use crate::storage;

/// A definition and the records of its served versions, in order of preference.
type Entry = (Arc<Definition>, Vec<Arc<Resource>>);

/// Group and plural.
type Key = (Box<str>, Box<str>);

/// The definitions that are served.
pub struct Catalog {
    store: Store,
    crds: Option<&'static Resource>,
    /// Ends with the server.
    shutdown: CancellationToken,
    /// Everything through this revision has been taken in.
    seen: AtomicI64,
    /// Counts changes: whoever keeps something made of all definitions makes it anew.
    generation: AtomicU64,
    stream: Mutex<Option<WatchStream>>,
    /// By group and plural.
    known: RwLock<BTreeMap<Key, Entry>>,
}

impl Catalog {
    pub fn new(store: &Store, shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            store: store.clone(),
            crds: api::resource("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
            seen: AtomicI64::new(0),
            generation: AtomicU64::new(1),
            stream: Mutex::default(),
            known: RwLock::default(),
        }
    }

    /// The resource of this name in this version, if it is custom and served.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<ResourceRef> {
        // Groups of definitions are domains.
        if !group.contains('.') {
            return None;
        }
        let entry = self.definition(group, plural)?;
        entry.1.into_iter().find(|resource| resource.version == version).map(ResourceRef::Custom)
    }

    /// The resource of this name, in the version that is preferred.
    pub fn preferred(&self, group: &str, plural: &str) -> Option<ResourceRef> {
        self.definition(group, plural)?.1.into_iter().next().map(ResourceRef::Custom)
    }

    /// The resource of this kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<ResourceRef> {
        self.catch_up();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let of_group = known.iter().filter(|((g, _), _)| **g == *group);
        let mut records = of_group.flat_map(|(_, (_, records))| records);
        records.find(|r| r.version == version && r.kind == kind).cloned().map(ResourceRef::Custom)
    }

    fn definition(&self, group: &str, plural: &str) -> Option<Entry> {
        self.catch_up();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(Box::from(group), Box::from(plural))).cloned()
    }

    /// Every record that clients are shown: by group, then by version in order of preference, then by plural name.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.catch_up();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let shown = known.values().filter(|(definition, _)| definition.established);
        let mut all: Vec<_> = shown.flat_map(|(_, records)| records.iter().cloned()).collect();
        all.sort_by(|a, b| a.group.cmp(&b.group).then_with(|| gvk::compare_versions(&b.version, &a.version)));
        all
    }

    /// Whether a group has anything to show.
    pub fn has_group(&self, group: &str) -> bool {
        self.catch_up();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|((g, _), (definition, _))| **g == *group && definition.established)
    }

    /// A number that changes whenever the definitions do.
    pub fn generation(&self) -> u64 {
        self.catch_up();
        self.generation.load(Ordering::Acquire)
    }

    fn catch_up(&self) {
        let revision = self.store.revision();
        if self.seen.load(Ordering::Acquire) >= revision {
            return;
        }
        let mut stream = lock(&self.stream);
        if !stream.as_mut().is_some_and(|stream| self.drain(stream)) {
            // The first time, or the stream fell behind the compaction: from the beginning.
            *stream = self.load();
        }
        self.seen.fetch_max(revision, Ordering::AcqRel);
    }

    /// Takes in what has come; false when the stream has broken.
    fn drain(&self, stream: &mut WatchStream) -> bool {
        while let Some(next) = stream.next_published() {
            let Ok(batch) = next else { return false };
            for event in &batch.events {
                let now = (event.kind == EventKind::Put).then_some(&event.kv);
                self.observe(&event.kv.key, now);
            }
        }
        true
    }

    fn load(&self) -> Option<WatchStream> {
        let prefix = storage::prefix(self.crds?, "").ok()?;
        let found = self.store.range(&Range::prefix(prefix.clone())).ok()?;
        let gone: Vec<Entry> = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *known).into_values().collect()
        };
        gone.iter().for_each(|(definition, _)| definition.current.cancel());
        for kv in &found.kvs {
            self.observe(&kv.key, Some(kv));
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        Some(self.store.watch(Watch::new(KeyRange::prefix(prefix)).start_revision(found.revision + 1)))
    }

    fn observe(&self, key: &[u8], kv: Option<&Arc<KeyValue>>) {
        let key = String::from_utf8_lossy(key);
        let name = key.rsplit('/').next().unwrap_or_default();
        let Some((plural, group)) = name.split_once('.') else { return };
        let at = (Box::from(group), Box::from(plural));
        let before = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&at).cloned();
        let before = before.map(|(definition, _)| definition);
        let entry = kv.and_then(|kv| Definition::read(self.crds?, kv, before.as_deref(), &self.shutdown));
        // Whoever watches objects by what no longer holds begins anew.
        if let Some(before) = before
            && entry.as_ref().is_none_or(|(now, _)| !now.is_as(&before))
        {
            before.current.cancel();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match entry {
            Some(entry) => drop(known.insert(at, entry)),
            None => drop(known.remove(&at)),
        }
        drop(known);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
