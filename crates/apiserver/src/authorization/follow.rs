//! Keeps what authorizers know level with the store, by watch. Nothing runs on its own: a decision first takes
//! in what has been written since the last one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use apimachinery::schema::Resource;
use etcd::{EventKind, KeyRange, Range, Store, Watch, WatchStream};
use serde_json::Value;

use super::{Authorizer, Mode};
use crate::storage;

const RBAC: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];
const NODE: [(&str, &str, &str); 4] = [
    ("", "v1", "pods"),
    ("", "v1", "persistentvolumes"),
    ("storage.k8s.io", "v1", "volumeattachments"),
    ("resource.k8s.io", "v1", "resourceslices"),
];

/// The sets of resources that are followed: roles for everybody, the rest only when a kubelet asks.
pub struct Followed {
    store: Store,
    rbac: Set,
    node: Set,
}

impl Followed {
    pub fn new(store: &Store, modes: &[Mode]) -> Self {
        let find = |(group, version, plural)| api::resource(group, version, plural);
        let rbac = RBAC.iter().filter_map(|plural| find((super::rbac::GROUP, "v1", plural)));
        let node = NODE.into_iter().filter_map(find);
        Self {
            store: store.clone(),
            rbac: Set::new(if modes.contains(&Mode::Rbac) { rbac.collect() } else { Vec::new() }),
            node: Set::new(if modes.contains(&Mode::Node) { node.collect() } else { Vec::new() }),
        }
    }

    /// Takes in everything that is visible in the store, roles always, the rest if `node`.
    pub fn catch_up(&self, node: bool, authorizer: &Authorizer) {
        let revision = self.store.revision();
        self.rbac.catch_up(
            &self.store,
            revision,
            || authorizer.rbac.clear(),
            |r, ns, name, object| {
                authorizer.rbac.observe(&r.plural, ns, name, object);
            },
        );
        if node {
            self.node.catch_up(
                &self.store,
                revision,
                || authorizer.node.clear(),
                |r, ns, name, object| {
                    authorizer.node.observe(&r.plural, ns, name, object);
                },
            );
        }
    }
}

/// Resources that are known together: all of them level with the store, or none.
pub(crate) struct Set {
    resources: Vec<&'static Resource>,
    /// Everything through this revision has been taken in.
    seen: AtomicI64,
    /// One for each resource; none before the first load and after one broke.
    streams: Mutex<Vec<WatchStream>>,
}

impl Set {
    pub(crate) fn new(resources: Vec<&'static Resource>) -> Self {
        Self { resources, seen: AtomicI64::new(0), streams: Mutex::default() }
    }

    pub(crate) fn catch_up(
        &self,
        store: &Store,
        revision: i64,
        clear: impl Fn(),
        observe: impl Fn(&Resource, &str, &str, Option<&Value>),
    ) {
        if self.seen.load(Ordering::Acquire) >= revision || self.resources.is_empty() {
            return;
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let level = self.resources.len() == streams.len()
            && self.resources.iter().zip(streams.iter_mut()).all(|(r, stream)| drain(r, stream, &observe));
        if !level {
            // The first time, or a stream fell behind the compaction: from the beginning.
            streams.clear();
            clear();
            for resource in &self.resources {
                match load(store, resource, &observe) {
                    Some(stream) => streams.push(stream),
                    // The store stops. What is not known is not allowed.
                    None => return clear(),
                }
            }
        }
        self.seen.fetch_max(revision, Ordering::AcqRel);
    }
}

/// Takes in what has come; false when the stream has broken.
fn drain(
    resource: &Resource,
    stream: &mut WatchStream,
    observe: &impl Fn(&Resource, &str, &str, Option<&Value>),
) -> bool {
    while let Some(next) = stream.next_published() {
        let Ok(batch) = next else { return false };
        for event in &batch.events {
            let value = (event.kind == EventKind::Put).then_some(event.kv.value.as_ref());
            tell(resource, &event.kv.key, value, observe);
        }
    }
    true
}

/// Reads every object and gives a stream of what comes after.
fn load(
    store: &Store,
    resource: &Resource,
    observe: &impl Fn(&Resource, &str, &str, Option<&Value>),
) -> Option<WatchStream> {
    let prefix = storage::prefix(resource, "").ok()?;
    let found = store.range(&Range::prefix(prefix.clone())).ok()?;
    for kv in &found.kvs {
        tell(resource, &kv.key, Some(&kv.value), observe);
    }
    Some(store.watch(Watch::new(KeyRange::prefix(prefix)).start_revision(found.revision + 1)))
}

fn tell(
    resource: &Resource,
    key: &[u8],
    value: Option<&[u8]>,
    observe: &impl Fn(&Resource, &str, &str, Option<&Value>),
) {
    let key = String::from_utf8_lossy(key);
    let mut parts = key.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let namespace = if resource.namespaced { parts.next().unwrap_or_default() } else { "" };
    let object = match value.map(|v| storage::decode(resource, v)) {
        None => None,
        Some(Ok(object)) => Some(object),
        Some(Err(error)) => {
            tracing::error!(%key, %error, "an object for authorization is unreadable and counts as absent");
            None
        }
    };
    observe(resource, namespace, name, object.as_ref());
}
