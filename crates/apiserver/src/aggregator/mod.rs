//! The aggregator: other servers answer for some groups and versions, and clients do not notice (upstream's
//! kube-aggregator, KEP-263).
//!
//! Every group and version has an APIService. Those of what is served here are registered by [`registration`]; one
//! with a Service leads elsewhere: [`follow`] watches whether that server can be asked and writes it into the
//! status, [`forward`] carries requests there in the name of who asks, [`documents`] keeps its discovery and OpenAPI
//! at hand, which [`discovery`] and [`openapi`] merge into our own.
//!
//! What is known of APIServices follows the store by watch and is taken in when a request comes. Without extension
//! servers nothing runs and a request costs one comparison.
//!
//! **Invariant.** A request is authenticated and authorized here before anything of it goes elsewhere, and it goes
//! nowhere without saying who asks.

pub(crate) mod availability;
pub(crate) mod connection;
pub(crate) mod discovery;
mod documents;
pub(crate) mod follow;
mod forward;
pub(crate) mod openapi;
pub mod registration;
pub(crate) mod resolve;
pub mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use etcd::Store;
use rustls::client::ResolvesClientCert;
use serde_json::Value;
use tokio::sync::Notify;

pub(crate) use self::forward::forward;
use self::service::{Description, Reference, group_version};
use crate::authorization::Set;

/// What the aggregator is told.
#[derive(Clone, Default)]
pub struct Config {
    /// `--proxy-client-cert-file`: shown to extension servers, which then believe who we say asks.
    pub identity: Option<Arc<dyn ResolvesClientCert>>,
    /// `--enable-aggregator-routing`: go to a Service's endpoints, not to its cluster IP.
    pub to_endpoints: bool,
    /// `--aggregator-reject-forwarding-redirect`.
    pub forwards_redirects: bool,
}

/// An APIService and, if it leads elsewhere, what is at hand of there.
pub(crate) struct Service {
    pub description: Description,
    pub remote: Option<Arc<Remote>>,
}

/// An extension server as one APIService names it.
pub(crate) struct Remote {
    pub reference: Reference,
    pub server: Arc<connection::Server>,
    pub documents: Mutex<documents::Documents>,
}

impl Remote {
    pub(crate) fn documents(&self) -> MutexGuard<'_, documents::Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of APIServices.
pub struct Aggregator {
    config: Config,
    followed: Set,
    /// By name.
    known: RwLock<BTreeMap<String, Arc<Service>>>,
    /// How many of them lead elsewhere.
    remote: AtomicUsize,
    /// The versions of custom kinds that are served; `None`: nobody has said yet.
    custom: Mutex<Option<BTreeSet<registration::GroupVersion>>>,
    /// Custom versions have come or gone.
    changed: Notify,
    /// By name and reason: how often it became unavailable.
    lost: Mutex<BTreeMap<(String, String), u64>>,
    merged: openapi::Merged,
}

impl Aggregator {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            followed: Set::new(api::resource(service::OWN_GROUP, "v1", "apiservices").into_iter().collect()),
            known: RwLock::default(),
            remote: AtomicUsize::new(0),
            custom: Mutex::default(),
            changed: Notify::new(),
            lost: Mutex::default(),
            merged: openapi::Merged::default(),
        }
    }

    /// These are the versions of custom kinds that are served now: their APIServices are made and kept, those of others
    /// go. Cheap when nothing has changed.
    pub fn serve_custom(&self, versions: BTreeSet<registration::GroupVersion>) {
        let mut custom = self.custom();
        if custom.as_ref() != Some(&versions) {
            *custom = Some(versions);
            self.changed.notify_one();
        }
    }

    fn custom(&self) -> MutexGuard<'_, Option<BTreeSet<registration::GroupVersion>>> {
        self.custom.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has been written since the last time.
    fn catch_up(&self, store: &Store) {
        let clear = || {
            self.write(|known| known.clear());
        };
        self.followed
            .catch_up(store, store.revision(), clear, |_, _, name, object| self.observe(name, object));
    }

    fn write(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Service>>)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let remote = known.values().filter(|service| service.remote.is_some()).count();
        self.remote.store(remote, Ordering::Release);
    }

    fn observe(&self, name: &str, object: Option<&Value>) {
        self.write(|known| {
            let before = known.remove(name);
            let Some(object) = object else { return };
            let description = Description::new(object);
            let remote = description.service.as_ref().map(|reference| {
                // What is open and known stays, as long as it is the same server.
                let kept = before.as_ref().and_then(|before| before.remote.clone());
                kept.filter(|kept| kept.reference == *reference).unwrap_or_else(|| self.remote(reference))
            });
            known.insert(name.to_owned(), Arc::new(Service { description, remote }));
        });
    }

    fn remote(&self, reference: &Reference) -> Arc<Remote> {
        let identity = self.config.identity.clone();
        let name = reference.server_name();
        let server = connection::Server::new(name, &reference.authority, reference.insecure, identity);
        Arc::new(Remote {
            reference: reference.clone(),
            server: Arc::new(server),
            documents: Mutex::default(),
        })
    }

    /// Every APIService, by name.
    pub(crate) fn services(&self, store: &Store) -> Vec<Arc<Service>> {
        self.catch_up(store);
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The APIService of that name.
    pub(crate) fn service(&self, store: &Store, name: &str) -> Option<Arc<Service>> {
        self.catch_up(store);
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The APIService that takes a path elsewhere.
    pub(crate) fn elsewhere(&self, store: &Store, path: &str) -> Option<Arc<Service>> {
        self.catch_up(store);
        if self.remote.load(Ordering::Acquire) == 0 {
            return None;
        }
        let (group, version) = group_version(path)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&registration::name_of(group, version)).filter(|found| found.remote.is_some()).cloned()
    }

    /// An APIService that was available is no longer.
    fn count_loss(&self, name: &str, reason: &str) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost.entry((name.to_owned(), reason.to_owned())).or_default() += 1;
    }

    /// Under upstream's names (`controllers/status/metrics`).
    pub(crate) fn write_metrics(&self, store: &Store, out: &mut String) {
        out.push_str(
            "# HELP aggregator_unavailable_apiservice [ALPHA] Gauge of APIServices which are marked as unavailable \
             broken down by APIService name.\n# TYPE aggregator_unavailable_apiservice gauge\n",
        );
        for service in self.services(store) {
            let (name, down) = (&service.description.name, i32::from(!service.description.available));
            let _ = writeln!(out, "aggregator_unavailable_apiservice{{name=\"{name}\"}} {down}");
        }
        out.push_str(
            "# HELP aggregator_unavailable_apiservice_total [ALPHA] Counter of APIServices which are marked as \
             unavailable broken down by APIService name and reason.\n\
             # TYPE aggregator_unavailable_apiservice_total counter\n",
        );
        for ((name, reason), count) in &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(
                out,
                "aggregator_unavailable_apiservice_total{{name=\"{name}\",reason=\"{reason}\"}} {count}"
            );
        }
    }
}
