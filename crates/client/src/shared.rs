//! One informer per kind, shared by everybody in the process.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use apimachinery::clock::Entropy;
use tokio_util::sync::CancellationToken;

use crate::{Client, Gvr, Informer, Kind, ListParams, PartialObject};

/// Resource, form (whole objects or metadata) and selectors.
type EntryKey = (Gvr, &'static str, ListParams);
type Run = Box<dyn Fn(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;
type Wait = Box<dyn Fn(CancellationToken) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send>;

/// A factory of informers over all namespaces. Cheap to clone; clones share.
#[derive(Clone)]
pub struct SharedInformers {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    entropy: Arc<dyn Entropy>,
    entries: Mutex<BTreeMap<EntryKey, Entry>>,
}

struct Entry {
    informer: Box<dyn Any + Send>,
    run: Run,
    wait: Wait,
    started: bool,
}

impl SharedInformers {
    /// Over a client.
    pub fn new(client: Client, entropy: Arc<dyn Entropy>) -> SharedInformers {
        SharedInformers { inner: Arc::new(Inner { client, entropy, entries: Mutex::default() }) }
    }

    /// The client that the informers use.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The informer of a kind; the same one for everybody. It runs once [`SharedInformers::start`] is called.
    pub fn get<K: Kind>(&self) -> Informer<K> {
        self.select(ListParams::default())
    }

    /// The informer of those objects of a kind that selectors match; the same one for all who give the same.
    pub fn select<K: Kind>(&self, params: ListParams) -> Informer<K> {
        let (client, entropy) = (self.inner.client.clone(), self.inner.entropy.clone());
        self.shared((K::gvr(), "object", params.clone()), || Informer::<K>::new(client, "", params, entropy))
    }

    /// The metadata informer of a resource; the same one for everybody.
    pub fn metadata(&self, gvr: &Gvr) -> Informer<PartialObject> {
        let (client, entropy) = (self.inner.client.clone(), self.inner.entropy.clone());
        let all = ListParams::default();
        let key = (gvr.clone(), "metadata", all.clone());
        self.shared(key, || Informer::metadata(client, gvr.clone(), "", all, entropy))
    }

    /// A metadata informer that keeps names, owners and what deletion needs, and neither labels nor
    /// annotations; the same one for everybody.
    pub fn owners(&self, gvr: &Gvr) -> Informer<PartialObject> {
        let (client, entropy) = (self.inner.client.clone(), self.inner.entropy.clone());
        let all = ListParams::default();
        let trim = |object: &mut PartialObject| {
            let meta = &mut object.metadata;
            (meta.managed_fields, meta.labels, meta.annotations) = (None, None, None);
            meta.generate_name = None;
            (object.api_version, object.kind) = Default::default();
        };
        let key = (gvr.clone(), "owners", all.clone());
        self.shared(key, || Informer::metadata_trimmed(client, gvr.clone(), "", all, trim, entropy))
    }

    fn shared<K: crate::Object>(&self, key: EntryKey, make: impl FnOnce() -> Informer<K>) -> Informer<K> {
        let mut entries = self.entries();
        if let Some(found) = entries.get(&key).and_then(|e| e.informer.downcast_ref::<Informer<K>>()) {
            return found.clone();
        }
        let informer = make();
        let (runner, waiter) = (informer.clone(), informer.clone());
        let entry = Entry {
            informer: Box::new(informer.clone()),
            run: Box::new(move |shutdown| {
                let runner = runner.clone();
                Box::pin(async move { runner.run(shutdown).await })
            }),
            wait: Box::new(move |shutdown| {
                let waiter = waiter.clone();
                Box::pin(async move { waiter.wait_for_sync(&shutdown).await })
            }),
            started: false,
        };
        entries.insert(key, entry);
        informer
    }

    /// Starts those that were asked for and do not run yet, as tasks that end with `shutdown`. May be called
    /// again after more were asked for.
    pub fn start(&self, shutdown: &CancellationToken) {
        for entry in self.entries().values_mut() {
            if !entry.started {
                entry.started = true;
                tokio::spawn((entry.run)(shutdown.clone()));
            }
        }
    }

    /// Waits until all that have been asked for so far have synced, whether they are started yet or only will
    /// be; false if `shutdown` came first.
    pub async fn wait_for_sync(&self, shutdown: &CancellationToken) -> bool {
        let waits: Vec<_> = {
            let entries = self.entries();
            entries.values().map(|e| (e.wait)(shutdown.clone())).collect()
        };
        for wait in waits {
            if !wait.await {
                return false;
            }
        }
        true
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<EntryKey, Entry>> {
        self.inner.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
