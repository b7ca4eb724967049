//! A kind, kept up to date: list, then watch, then the same again when the watch cannot go on.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use apimachinery::clock::Entropy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::JSON;
use crate::dynamic::{METADATA, METADATA_LIST};
use crate::{
    Backoff, Client, Error, Gvr, Key, Kind, ListParams, Object, PartialObject, Result, Store, WatchEvent,
    key_of,
};

/// The page size of a list from the store; a list with resourceVersion 0 is not paged, as in client-go.
const PAGE: u32 = 500;

/// What happened to an object.
pub enum Event<K> {
    /// It is new to the store.
    Added(Arc<K>),
    /// It changed. After a relist also when nothing changed but the list was read again.
    Updated {
        /// What the store had.
        old: Arc<K>,
        /// What it has now.
        new: Arc<K>,
    },
    /// It is gone; the last state seen, which need not be its very last.
    Deleted(Arc<K>),
}

impl<K> Event<K> {
    /// The object, in its newest known state.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Event::Added(object) | Event::Deleted(object) => object,
            Event::Updated { new, .. } => new,
        }
    }
}

/// What takes from an object, before it is kept, what nobody here reads.
pub(crate) type Trim<K> = fn(&mut K);
type Handler<K> = Box<dyn FnMut(&Event<K>) + Send>;

/// Keeps a [`Store`] of one kind current and tells handlers what changed. Cheap to clone.
pub struct Informer<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer { inner: self.inner.clone() }
    }
}

struct Inner<K> {
    client: Client,
    gvr: Gvr,
    namespace: String,
    params: ListParams,
    accept_list: &'static str,
    accept_watch: &'static str,
    entropy: Arc<dyn Entropy>,
    store: Store<K>,
    /// Held while the store changes and handlers run: so handlers see changes in order, and one that is added
    /// later neither misses a change nor sees one twice.
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
    running: AtomicBool,
    trim: Trim<K>,
    kind: PhantomData<fn() -> K>,
}

/// Managed fields are the bulk of most objects, and an update that leaves them out leaves them as they are.
fn without_managed_fields<K: Object>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

impl<K: Kind> Informer<K> {
    /// Of a typed kind, in one namespace or (empty) in all of them. Of `params` only the selectors count.
    /// Objects are kept without their managed fields.
    pub fn new(
        client: Client,
        namespace: &str,
        params: ListParams,
        entropy: Arc<dyn Entropy>,
    ) -> Informer<K> {
        Informer::build(client, K::gvr(), namespace, params, [JSON; 2], without_managed_fields, entropy)
    }
}

impl Informer<PartialObject> {
    /// Of the metadata of any resource, without managed fields.
    pub fn metadata(
        client: Client,
        gvr: Gvr,
        namespace: &str,
        params: ListParams,
        entropy: Arc<dyn Entropy>,
    ) -> Informer<PartialObject> {
        Informer::metadata_trimmed(client, gvr, namespace, params, without_managed_fields, entropy)
    }

    /// The same, with `trim` taking away what need not be kept.
    pub(crate) fn metadata_trimmed(
        client: Client,
        gvr: Gvr,
        namespace: &str,
        params: ListParams,
        trim: Trim<PartialObject>,
        entropy: Arc<dyn Entropy>,
    ) -> Informer<PartialObject> {
        Informer::build(client, gvr, namespace, params, [METADATA_LIST, METADATA], trim, entropy)
    }
}

impl<K: Object> Informer<K> {
    fn build(
        client: Client,
        gvr: Gvr,
        namespace: &str,
        params: ListParams,
        accept: [&'static str; 2],
        trim: Trim<K>,
        entropy: Arc<dyn Entropy>,
    ) -> Informer<K> {
        let [accept_list, accept_watch] = accept;
        let params = ListParams {
            label_selector: params.label_selector,
            field_selector: params.field_selector,
            ..ListParams::default()
        };
        Informer {
            inner: Arc::new(Inner {
                client,
                gvr,
                namespace: namespace.into(),
                params,
                accept_list,
                accept_watch,
                entropy,
                store: Store::new(),
                handlers: Mutex::new(Vec::new()),
                synced: watch::Sender::new(false),
                running: AtomicBool::new(false),
                trim,
                kind: PhantomData,
            }),
        }
    }

    /// Which resource this follows.
    pub fn gvr(&self) -> &Gvr {
        &self.inner.gvr
    }

    /// The objects.
    pub fn store(&self) -> &Store<K> {
        &self.inner.store
    }

    /// Calls `handler` for every change from now on, in order, and first with `Added` for what is there
    /// already. It runs inside the informer: it must be quick, and must not add a handler to this informer.
    pub fn add_handler(&self, mut handler: impl FnMut(&Event<K>) + Send + 'static) {
        let mut handlers = self.handlers();
        for object in self.inner.store.list() {
            handler(&Event::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Whether the first list is in the store and the handlers have seen it.
    pub fn has_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Waits for [`Informer::has_synced`]; false if `shutdown` came first.
    pub async fn wait_for_sync(&self, shutdown: &CancellationToken) -> bool {
        let mut synced = self.inner.synced.subscribe();
        tokio::select! {
            biased;
            done = synced.wait_for(|synced| *synced) => done.is_ok(),
            () = shutdown.cancelled() => false,
        }
    }

    /// Runs until `shutdown`. A second run of the same informer returns at once.
    pub async fn run(&self, shutdown: CancellationToken) {
        if self.inner.running.swap(true, Ordering::SeqCst) {
            return;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut backoff = Backoff::reflector();
        // "0" lets the server answer from what it has at hand. After an error the newest state is asked for,
        // since a state as old as the one that was just found too old would not help.
        let mut from = "0";
        loop {
            match self.list(from).await {
                Ok(resource_version) => {
                    backoff.reset();
                    self.watch(resource_version).await;
                    from = "";
                }
                Err(error) => {
                    if error.is_gone() {
                        from = "";
                    }
                    tracing::warn!(resource = %self.inner.gvr.resource, error = %error.chain(), "list failed");
                }
            }
            tokio::time::sleep(backoff.next(self.inner.entropy.as_ref())).await;
        }
    }

    /// Reads everything, replaces the store's content, and answers the list's resourceVersion.
    async fn list(&self, from: &str) -> Result<String> {
        let inner = &self.inner;
        let mut params = inner.params.clone();
        params.resource_version = from.into();
        if from.is_empty() {
            params.limit = PAGE;
        }
        let mut items: Vec<K> = Vec::new();
        loop {
            let page =
                inner.client.list_as::<K>(&inner.gvr, &inner.namespace, &params, inner.accept_list).await;
            let page = page?;
            items.extend(page.items.into_iter().map(|mut item| {
                (inner.trim)(&mut item);
                item
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => {
                    params.continue_token = token;
                    params.resource_version.clear();
                }
                None => {
                    let resource_version = page.metadata.resource_version.unwrap_or_default();
                    self.replace(items);
                    return Ok(resource_version);
                }
            }
        }
    }

    /// Watches on from a resourceVersion, again and again, until a new list is needed.
    async fn watch(&self, mut resource_version: String) {
        let inner = &self.inner;
        let mut backoff = Backoff::reflector();
        loop {
            let mut params = inner.params.clone();
            params.resource_version = resource_version.clone();
            params.timeout_seconds = self.watch_seconds();
            let opened =
                inner.client.watch_as::<K>(&inner.gvr, &inner.namespace, &params, inner.accept_watch).await;
            let mut progressed = false;
            let failed = match opened {
                Ok(mut stream) => loop {
                    match stream.next().await {
                        Some(Ok(event)) => {
                            progressed = true;
                            self.apply(event, &mut resource_version);
                        }
                        Some(Err(error)) => break Some(error),
                        None => break None,
                    }
                },
                Err(error) => Some(error),
            };
            if progressed {
                backoff.reset();
            }
            match failed {
                // The server ended it, as it does every few minutes.
                None if progressed => continue,
                None => {}
                Some(Error::Transport(error)) => {
                    tracing::debug!(resource = %inner.gvr.resource, %error, "watch broke; resuming");
                }
                Some(error) => {
                    if error.is_gone() {
                        tracing::debug!(resource = %inner.gvr.resource, "watch is too old; listing again");
                    } else {
                        tracing::warn!(resource = %inner.gvr.resource, error = %error.chain(), "watch failed");
                    }
                    return;
                }
            }
            tokio::time::sleep(backoff.next(inner.entropy.as_ref())).await;
        }
    }

    /// Five to ten minutes, spread so that the watches of a process do not all end at once.
    fn watch_seconds(&self) -> u32 {
        let base = Duration::from_secs(300);
        crate::backoff::jitter(base, 1.0, self.inner.entropy.as_ref()).as_secs() as u32
    }

    fn apply(&self, event: WatchEvent<K>, resource_version: &mut String) {
        let mut handlers = self.handlers();
        let event = match event {
            WatchEvent::Bookmark { resource_version: at, .. } => {
                *resource_version = at;
                return;
            }
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                note(&object, resource_version);
                self.put(object)
            }
            WatchEvent::Deleted(object) => {
                note(&object, resource_version);
                if self.inner.store.remove(&key_of(&object)).is_none() {
                    return;
                }
                Event::Deleted(Arc::new(object))
            }
        };
        handlers.iter_mut().for_each(|handler| handler(&event));
    }

    fn put(&self, mut object: K) -> Event<K> {
        (self.inner.trim)(&mut object);
        let new = Arc::new(object);
        match self.inner.store.put(new.clone()) {
            Some(old) => Event::Updated { old, new },
            None => Event::Added(new),
        }
    }

    fn replace(&self, items: Vec<K>) {
        let mut handlers = self.handlers();
        let listed: BTreeSet<Key> = items.iter().map(key_of).collect();
        for key in self.inner.store.keys() {
            if !listed.contains(&key)
                && let Some(object) = self.inner.store.remove(&key)
            {
                let event = Event::Deleted(object);
                handlers.iter_mut().for_each(|handler| handler(&event));
            }
        }
        for item in items {
            let event = self.put(item);
            handlers.iter_mut().for_each(|handler| handler(&event));
        }
        drop(handlers);
        self.inner.synced.send_replace(true);
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<Handler<K>>> {
        self.inner.handlers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn note<K: Object>(object: &K, resource_version: &mut String) {
    if let Some(at) = &object.meta().resource_version {
        resource_version.clone_from(at);
    }
}
