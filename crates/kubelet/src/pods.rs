//! All pods of the node with their workers, whatever source they come from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::core::v1::Pod;
use tokio::sync::Notify;

use crate::context::Context;
use crate::pod::spec;
use crate::worker::{self, Handle};

#[derive(Default)]
struct Table {
    workers: BTreeMap<String, Handle>,
    /// The API's images of static pods, by namespace and name.
    mirrors: BTreeMap<(String, String), Arc<Pod>>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Pods {
    context: Arc<Context>,
    table: Arc<Mutex<Table>>,
    /// Told whenever a pod comes or goes.
    pub changed: Arc<Notify>,
}

impl Pods {
    pub fn new(context: Arc<Context>) -> Pods {
        Pods { context, table: Arc::default(), changed: Arc::default() }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new or changed pod.
    pub fn put(&self, pod: Arc<Pod>) {
        if spec::is_mirror(&pod) {
            self.table().mirrors.insert(full_name(&pod), pod);
            return;
        }
        let uid = spec::uid(&pod).to_owned();
        let mut table = self.table();
        if let Some(handle) = table.workers.get(&uid) {
            handle.desired.send_modify(|d| {
                d.pod = pod;
                d.removed = false;
            });
            return;
        }
        let (this, of) = (self.clone(), uid.clone());
        let handle = worker::spawn(self.context.clone(), pod, move || {
            this.table().workers.remove(&of);
            this.changed.notify_one();
        });
        table.workers.insert(uid, handle);
        drop(table);
        self.changed.notify_one();
    }

    /// A pod that its source does not have any more.
    pub fn remove(&self, pod: &Pod) {
        if spec::is_mirror(pod) {
            self.table().mirrors.remove(&full_name(pod));
            self.changed.notify_one();
            return;
        }
        if let Some(handle) = self.table().workers.get(spec::uid(pod)) {
            handle.desired.send_modify(|d| d.removed = true);
        }
    }

    pub fn get(&self, uid: &str) -> Option<Handle> {
        self.table().workers.get(uid).cloned()
    }

    /// By namespace and name; a running one before one that is ending.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Handle> {
        let table = self.table();
        let named = |h: &&Handle| {
            let pod = h.pod();
            spec::namespace(&pod) == namespace && spec::name(&pod) == name
        };
        let all: Vec<&Handle> = table.workers.values().filter(named).collect();
        let alive = all.iter().find(|h| h.pod().metadata.deletion_timestamp.is_none());
        alive.or(all.first()).map(|h| (*h).clone())
    }

    pub fn uids(&self) -> Vec<String> {
        self.table().workers.keys().cloned().collect()
    }

    /// Everything, by uid.
    pub fn list(&self) -> Vec<Handle> {
        self.table().workers.values().cloned().collect()
    }

    pub fn mirror(&self, pod: &Pod) -> Option<Arc<Pod>> {
        self.table().mirrors.get(&full_name(pod)).cloned()
    }

    pub fn mirrors(&self) -> Vec<Arc<Pod>> {
        self.table().mirrors.values().cloned().collect()
    }

    /// Makes the worker of a pod look again.
    pub fn wake(&self, uid: &str) {
        if let Some(handle) = self.table().workers.get(uid) {
            handle.wake.notify_one();
        }
    }
}

fn full_name(pod: &Pod) -> (String, String) {
    (spec::namespace(pod).to_owned(), spec::name(pod).to_owned())
}
