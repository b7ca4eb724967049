//! The config maps and secrets that this node's pods refer to, each watched by itself: a node may read only
//! what its pods need, and a change reaches them without asking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::core::v1::{ConfigMap, Pod, Secret};
use apimachinery::clock::Entropy;
use client::{Client, Informer, Kind, ListParams};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::pod::env::{self, Found};
use crate::pod::spec;

/// How long a new reference may take to be read for the first time.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them.
pub struct Objects {
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
}

type Users = Arc<Mutex<BTreeMap<String, Arc<Notify>>>>;

struct Watched<K> {
    client: Client,
    entropy: Arc<dyn Entropy>,
    entries: Mutex<BTreeMap<(String, String), Entry<K>>>,
}

struct Entry<K> {
    informer: Informer<K>,
    users: Users,
    _stop: DropGuard,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Kind> Watched<K> {
    fn new(client: Client, entropy: Arc<dyn Entropy>) -> Watched<K> {
        Watched { client, entropy, entries: Mutex::default() }
    }

    /// Sets which names a pod uses. `wake` is told of changes.
    fn set(
        &self,
        uid: &str,
        namespace: &str,
        names: &std::collections::BTreeSet<String>,
        wake: Option<&Arc<Notify>>,
    ) {
        let mut entries = lock(&self.entries);
        entries.retain(|(ns, name), entry| {
            let wanted = wake.is_some() && ns == namespace && names.contains(name);
            let mut users = lock(&entry.users);
            if !wanted {
                users.remove(uid);
            }
            !users.is_empty()
        });
        let Some(wake) = wake else { return };
        for name in names {
            let entry = entries
                .entry((namespace.to_owned(), name.clone()))
                .or_insert_with(|| self.watch(namespace, name));
            lock(&entry.users).insert(uid.to_owned(), wake.clone());
        }
    }

    fn watch(&self, namespace: &str, name: &str) -> Entry<K> {
        let only = ListParams::fields(format!("metadata.name={name}"));
        let informer = Informer::<K>::new(self.client.clone(), namespace, only, self.entropy.clone());
        let users: Users = Arc::default();
        let told = users.clone();
        informer.add_handler(move |_| {
            for wake in lock(&told).values() {
                wake.notify_one();
            }
        });
        let stop = CancellationToken::new();
        let (running, until) = (informer.clone(), stop.clone());
        tokio::spawn(async move { running.run(until).await });
        Entry { informer, users, _stop: stop.drop_guard() }
    }

    async fn get(&self, namespace: &str, name: &str) -> Found<K> {
        let informer =
            lock(&self.entries).get(&(namespace.to_owned(), name.to_owned())).map(|e| e.informer.clone());
        let Some(informer) = informer else { return Found::No };
        let never = CancellationToken::new();
        if tokio::time::timeout(PATIENCE, informer.wait_for_sync(&never)).await.is_err() {
            let kind = K::KIND.to_ascii_lowercase();
            return Found::Unknown(format!(
                "failed to sync {kind} cache: timed out waiting for the condition"
            ));
        }
        match informer.store().get(namespace, name) {
            Some(object) => Found::Yes(object),
            None => Found::No,
        }
    }
}

impl Objects {
    pub fn new(client: Client, entropy: Arc<dyn Entropy>) -> Objects {
        Objects {
            config_maps: Watched::new(client.clone(), entropy.clone()),
            secrets: Watched::new(client, entropy),
        }
    }

    /// Watches what a pod refers to; its worker is woken when something changes.
    pub fn register(&self, pod: &Pod, wake: &Arc<Notify>) {
        let references = env::references(pod);
        let (uid, namespace) = (spec::uid(pod), spec::namespace(pod));
        self.config_maps.set(uid, namespace, &references.config_maps, Some(wake));
        self.secrets.set(uid, namespace, &references.secrets, Some(wake));
    }

    /// Stops watching for a pod.
    pub fn unregister(&self, pod: &Pod) {
        let none = Default::default();
        self.config_maps.set(spec::uid(pod), spec::namespace(pod), &none, None);
        self.secrets.set(spec::uid(pod), spec::namespace(pod), &none, None);
    }

    /// Everything that a registered pod refers to.
    pub async fn resolve(&self, pod: &Pod) -> env::Sources {
        let references = env::references(pod);
        let namespace = spec::namespace(pod);
        let mut out = env::Sources::default();
        for name in references.config_maps {
            let found = self.config_maps.get(namespace, &name).await;
            out.config_maps.insert(name, found);
        }
        for name in references.secrets {
            let found = self.secrets.get(namespace, &name).await;
            out.secrets.insert(name, found);
        }
        out
    }
}
