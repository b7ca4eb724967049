//! An informer's cache: objects by namespace and name, with indexes.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{Key, Object, key_of};

type IndexFn<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;
type ByName<K> = BTreeMap<String, Arc<K>>;

/// A read handle on an informer's objects. Cheap to clone. Everything it lists is ordered by namespace and
/// name. Objects are shared and never changed in place.
pub struct Store<K> {
    inner: Arc<RwLock<Core<K>>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone() }
    }
}

impl<K: Object> Default for Store<K> {
    fn default() -> Self {
        Store::new()
    }
}

impl<K: Object> Store<K> {
    /// An empty one. Informers make their own; tests of what reads stores fill one with [`Store::put`].
    pub fn new() -> Store<K> {
        Store { inner: Arc::new(RwLock::new(Core::default())) }
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read().objects.get(namespace)?.get(name).cloned()
    }

    /// One object by its key.
    pub fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    /// All objects.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().objects.values().flat_map(|names| names.values().cloned()).collect()
    }

    /// All objects of one namespace.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().objects.get(namespace).map(|names| names.values().cloned().collect()).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().objects.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.read().objects.is_empty()
    }

    /// Adds an index: `values` says under which values an object is found. An index of that name stays as it
    /// is, so that several users may ask for the same one.
    pub fn add_index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        let mut core = self.write();
        if core.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { values: Arc::new(values), found: BTreeMap::new() };
        for object in core.objects.values().flat_map(BTreeMap::values) {
            index.insert(object);
        }
        core.indexes.insert(name, index);
    }

    /// The objects under a value of an index; none if there is no index of that name.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let core = self.read();
        let found = core.indexes.get(name).and_then(|index| index.found.get(value));
        found.map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// The values that an index has at the moment.
    pub fn index_values(&self, name: &str) -> Vec<String> {
        self.read().indexes.get(name).map(|index| index.found.keys().cloned().collect()).unwrap_or_default()
    }

    /// Sets an object and hands back what was there.
    pub fn put(&self, object: Arc<K>) -> Option<Arc<K>> {
        self.write().put(object)
    }

    /// Removes an object and hands it back.
    pub fn remove(&self, key: &Key) -> Option<Arc<K>> {
        self.write().remove(key)
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<Key> {
        let core = self.read();
        let pairs = core.objects.iter().flat_map(|(ns, names)| names.keys().map(move |name| (ns, name)));
        pairs.map(|(ns, name)| Key::new(ns, name)).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Core<K>> {
        self.inner.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Core<K>> {
        self.inner.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The synchronous heart of a store.
struct Core<K> {
    objects: BTreeMap<String, ByName<K>>,
    indexes: BTreeMap<&'static str, Index<K>>,
}

impl<K> Default for Core<K> {
    fn default() -> Self {
        Core { objects: BTreeMap::new(), indexes: BTreeMap::new() }
    }
}

struct Index<K> {
    values: IndexFn<K>,
    found: BTreeMap<String, BTreeMap<Key, Arc<K>>>,
}

impl<K: Object> Index<K> {
    fn insert(&mut self, object: &Arc<K>) {
        for value in (self.values)(object) {
            self.found.entry(value).or_default().insert(key_of(object.as_ref()), object.clone());
        }
    }

    fn remove(&mut self, object: &Arc<K>) {
        let key = key_of(object.as_ref());
        for value in (self.values)(object) {
            if let Some(objects) = self.found.get_mut(&value) {
                objects.remove(&key);
                if objects.is_empty() {
                    self.found.remove(&value);
                }
            }
        }
    }
}

impl<K: Object> Core<K> {
    fn put(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let Key { namespace, name } = key_of(object.as_ref());
        let old = self.objects.entry(namespace).or_default().insert(name, object.clone());
        for index in self.indexes.values_mut() {
            if let Some(old) = &old {
                index.remove(old);
            }
            index.insert(&object);
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let names = self.objects.get_mut(&key.namespace)?;
        let old = names.remove(&key.name)?;
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        for index in self.indexes.values_mut() {
            index.remove(&old);
        }
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::v1::Pod;

    fn pod(namespace: &str, name: &str, node: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(namespace.into());
        pod.metadata.name = Some(name.into());
        pod.spec.get_or_insert_default().node_name = Some(node.into());
        Arc::new(pod)
    }

    fn names(pods: Vec<Arc<Pod>>) -> Vec<String> {
        pods.iter().map(|pod| key_of(pod.as_ref()).to_string()).collect()
    }

    #[test]
    fn indexes_follow_changes() {
        let store = Store::new();
        store.put(pod("b", "x", "n1"));
        store.add_index("node", |pod: &Pod| {
            pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect()
        });
        store.put(pod("a", "y", "n1"));
        store.put(pod("a", "x", "n2"));
        assert_eq!(names(store.list()), ["a/x", "a/y", "b/x"]);
        assert_eq!(names(store.by_index("node", "n1")), ["a/y", "b/x"]);
        store.put(pod("b", "x", "n2"));
        assert_eq!(names(store.by_index("node", "n1")), ["a/y"]);
        assert_eq!(names(store.by_index("node", "n2")), ["a/x", "b/x"]);
        store.remove(&Key::new("a", "y"));
        assert_eq!(store.index_values("node"), ["n2"]);
        assert_eq!(names(store.list_namespace("a")), ["a/x"]);
        assert!(store.get("a", "y").is_none());
    }
}
