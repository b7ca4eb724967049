//! Deletes what nobody owns any more: watches the metadata of every kind, keeps the graph of owners, and
//! carries out background, foreground and orphaning deletion.

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::meta::v1::{DeleteOptions, ObjectMeta, OwnerReference, Preconditions};
use client::{ApiResource, Client, Event, Gvr, PartialObject, Patch, SharedInformers, WorkQueue};
use serde_json::json;
use tokio::time::Instant;

use crate::context::Context;
use crate::error::Doing;
use crate::{Error, Result};
use graph::{FOREGROUND, Graph, Node, ORPHAN, Standing, Task, Verdict, judge};

const WORKERS: usize = 20;
/// New kinds are looked for this often.
const DISCOVER: Duration = Duration::from_secs(30);
/// So long the start waits for kinds that do not list.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many absent owners are remembered.
const ABSENT: usize = 500;

pub(crate) fn start(context: &Context) {
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        graph: Mutex::default(),
        queue: WorkQueue::new(),
        kinds: Mutex::default(),
        absent: Mutex::default(),
    });
    // Informers of its own, so that one kind that cannot be listed holds up nobody else; under the identity of
    // all informers.
    let informers = SharedInformers::new(context.informers.client().clone(), context.entropy.clone());
    let run = context.clone();
    context.spawn(async move {
        controller.follow(&informers, &run).await;
        let synced = tokio::time::timeout(PATIENCE, informers.wait_for_sync(&run.shutdown)).await;
        if synced.is_err() {
            tracing::warn!("some kinds do not list; collecting garbage without them");
        }
        tracing::debug!(objects = controller.graph().len(), "the graph of owners is built");
        let (queue, this) = (controller.queue.clone(), controller.clone());
        run.work("garbage_collector_attempt_to_delete", &queue, WORKERS, move |task| {
            let this = this.clone();
            async move { this.sync(task).await }
        });
        loop {
            tokio::time::sleep(DISCOVER).await;
            controller.follow(&informers, &run).await;
        }
    });
}

struct Controller {
    client: Client,
    graph: Mutex<Graph>,
    queue: WorkQueue<Task>,
    /// Resources by apiVersion and kind.
    kinds: Mutex<BTreeMap<(String, String), ApiResource>>,
    absent: Mutex<Absent>,
}

/// Owners that were not there when asked for: they never come back, uids are used once.
#[derive(Default)]
struct Absent {
    known: BTreeSet<(String, String, String)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Controller {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        lock(&self.graph)
    }

    fn queue_all(&self, tasks: Vec<Task>) {
        tasks.into_iter().for_each(|task| self.queue.add(task));
    }

    /// Finds what kinds there are and follows those that can be listed, watched and deleted.
    async fn follow(self: &Arc<Self>, informers: &SharedInformers, context: &Context) {
        let resources = loop {
            match self.client.discover().await {
                Ok(resources) => break resources,
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "discovery failed");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let mut fresh = Vec::new();
        {
            let mut kinds = lock(&self.kinds);
            for resource in resources {
                let followed = resource.preferred
                    && ["list", "watch", "delete"].iter().all(|verb| resource.can(verb))
                    && resource.gvr.resource != "events";
                let key = (resource.gvr.group_version().to_string(), resource.kind.clone());
                let gvr = resource.gvr.clone();
                if kinds.insert(key, resource).is_none() && followed {
                    fresh.push(gvr);
                }
            }
        }
        for gvr in fresh {
            let this = self.clone();
            let informer = informers.owners(&gvr);
            informer.add_handler(move |event: &Event<PartialObject>| this.changed(&gvr, event));
        }
        informers.start(&context.shutdown);
    }

    fn changed(&self, gvr: &Gvr, event: &Event<PartialObject>) {
        let tasks = match event {
            Event::Deleted(object) => {
                object.metadata.uid.as_deref().map(|uid| self.graph().remove(uid)).unwrap_or_default()
            }
            Event::Updated { old, new } if old.metadata.uid != new.metadata.uid => {
                // Deleted and made anew between two looks.
                let mut graph = self.graph();
                let mut tasks = old.metadata.uid.as_deref().map(|uid| graph.remove(uid)).unwrap_or_default();
                tasks.extend(graph.put(gvr, &new.metadata));
                tasks
            }
            Event::Added(object) | Event::Updated { new: object, .. } => {
                self.graph().put(gvr, &object.metadata)
            }
        };
        self.queue_all(tasks);
    }

    async fn sync(&self, task: Task) -> Result<()> {
        let begun = Instant::now();
        let answer = match &task {
            Task::Delete(uid) => self.delete(uid).await,
            Task::Orphan(uid) => self.orphan(uid).await,
        };
        tracing::trace!(?task, seconds = begun.elapsed().as_secs_f64(), "garbage looked at");
        answer
    }

    /// The object as it is now; `None` if it is gone or another one has its name.
    async fn live(&self, uid: &str, node: &Node) -> Result<Option<ObjectMeta>> {
        match self.client.dynamic(&node.gvr).get_metadata(&node.namespace, &node.name).await {
            Ok(object) if object.metadata.uid.as_deref() == Some(uid) => Ok(Some(object.metadata)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).doing(|| format!("looking at {} {}", node.gvr.resource, node.name)),
        }
    }

    async fn delete(&self, uid: &str) -> Result<()> {
        let Some(node) = self.graph().get(uid).cloned() else { return Ok(()) };
        if node.deleting && !node.deleting_dependents {
            return Ok(());
        }
        let Some(meta) = self.live(uid, &node).await? else {
            // The informer will say so as well; what depends on it need not wait for that.
            let tasks = self.graph().remove(uid);
            self.queue_all(tasks);
            return Ok(());
        };
        if node.deleting_dependents {
            let blocking = self.graph().blocking(uid);
            if blocking.is_empty() {
                return self.remove_finalizer(&node, &meta, FOREGROUND).await;
            }
            let waiting = blocking.into_iter().filter(|(_, dependent)| !dependent.deleting_dependents);
            self.queue_all(waiting.map(|(uid, _)| Task::Delete(uid)).collect());
            return Ok(());
        }
        let mut owners = Vec::new();
        for owner in meta.owner_references.iter().flatten() {
            if let Some(standing) = self.standing(&node, owner).await? {
                owners.push((owner.uid.clone(), standing));
            } else {
                return Ok(());
            }
        }
        let dependents = self.graph().dependents(uid);
        match judge(&meta, &owners, &dependents) {
            Verdict::Keep => Ok(()),
            Verdict::Forget(gone) => {
                self.set_owners(&node, &meta, |owner| (!gone.contains(&owner.uid)).then_some(owner)).await
            }
            Verdict::Delete { policy, unblock } => {
                if unblock {
                    let free = |owner| Some(OwnerReference { block_owner_deletion: Some(false), ..owner });
                    self.set_owners(&node, &meta, free).await?;
                }
                let options = DeleteOptions {
                    propagation_policy: Some(policy.into()),
                    preconditions: Some(Preconditions {
                        uid: Some(uid.to_owned()),
                        // What was judged is this state; unblocking has just changed it.
                        resource_version: meta.resource_version.clone().filter(|_| !unblock),
                    }),
                    ..DeleteOptions::default()
                };
                tracing::debug!(resource = %node.gvr.resource, name = %node.name, policy, "collecting");
                match self.client.dynamic(&node.gvr).delete(&node.namespace, &node.name, &options).await {
                    Err(error) if error.is_not_found() => Ok(()),
                    answer => answer.doing(|| format!("deleting {} {}", node.gvr.resource, node.name)),
                }
            }
        }
    }

    /// How an owner stands; `None` if nothing can be said and the object is best left alone.
    async fn standing(&self, node: &Node, owner: &OwnerReference) -> Result<Option<Standing>> {
        let found = lock(&self.kinds).get(&(owner.api_version.clone(), owner.kind.clone())).cloned();
        let Some(resource) = found else {
            return Err(Error::NotYet(format!("kind {} of {} is not known", owner.kind, owner.api_version)));
        };
        let namespace = if resource.namespaced { node.namespace.clone() } else { String::new() };
        if resource.namespaced && namespace.is_empty() {
            tracing::debug!(name = %node.name, "a cluster-scoped object names a namespaced owner");
            return Ok(None);
        }
        if let Some(known) = self.graph().get(&owner.uid)
            && known.name == owner.name
            && known.namespace == namespace
            && !known.deleting_dependents
        {
            // When it goes after all, its removal brings this object here again.
            return Ok(Some(Standing::Solid));
        }
        let place = (owner.uid.clone(), namespace.clone(), owner.name.clone());
        if lock(&self.absent).known.contains(&place) {
            return Ok(Some(Standing::Absent));
        }
        match self.client.dynamic(&resource.gvr).get_metadata(&namespace, &owner.name).await {
            Ok(object) if object.metadata.uid.as_deref() == Some(&owner.uid) => {
                let waits = object.metadata.deletion_timestamp.is_some()
                    && object.metadata.finalizers.iter().flatten().any(|f| f == FOREGROUND);
                Ok(Some(if waits { Standing::Waiting } else { Standing::Solid }))
            }
            Err(error) if !error.is_not_found() => {
                Err(error).doing(|| format!("looking for owner {} {}", owner.kind, owner.name))
            }
            _ => {
                let mut absent = lock(&self.absent);
                if absent.known.len() >= ABSENT {
                    absent.known.clear();
                }
                absent.known.insert(place);
                Ok(Some(Standing::Absent))
            }
        }
    }

    async fn orphan(&self, uid: &str) -> Result<()> {
        let Some(node) = self.graph().get(uid).cloned().filter(|node| node.orphaning) else { return Ok(()) };
        let dependents = self.graph().dependents(uid);
        for (dependent_uid, dependent) in dependents {
            if let Some(meta) = self.live(&dependent_uid, &dependent).await? {
                self.set_owners(&dependent, &meta, |owner| (owner.uid != uid).then_some(owner)).await?;
            }
        }
        match self.live(uid, &node).await? {
            Some(meta) => self.remove_finalizer(&node, &meta, ORPHAN).await,
            None => Ok(()),
        }
    }

    /// Rewrites an object's owner references; those for which `map` answers nothing go.
    async fn set_owners(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        map: impl Fn(OwnerReference) -> Option<OwnerReference>,
    ) -> Result<()> {
        let before = meta.owner_references.clone().unwrap_or_default();
        let after: Vec<OwnerReference> = before.iter().cloned().filter_map(map).collect();
        if after == before {
            return Ok(());
        }
        let owners = if after.is_empty() { json!(null) } else { json!(after) };
        self.patch(node, meta, "ownerReferences", owners).await
    }

    async fn remove_finalizer(&self, node: &Node, meta: &ObjectMeta, finalizer: &str) -> Result<()> {
        let before = meta.finalizers.clone().unwrap_or_default();
        let after: Vec<String> = before.iter().filter(|f| *f != finalizer).cloned().collect();
        if after.len() == before.len() {
            return Ok(());
        }
        let finalizers = if after.is_empty() { json!(null) } else { json!(after) };
        self.patch(node, meta, "finalizers", finalizers).await
    }

    /// Lists in metadata are replaced whole, so the change holds only for the state that was seen. A JSON
    /// merge patch is what custom resources understand too.
    async fn patch(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        field: &str,
        value: serde_json::Value,
    ) -> Result<()> {
        let mut change = json!({"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}});
        change["metadata"][field] = value;
        let dynamic = self.client.dynamic(&node.gvr);
        match dynamic.patch_metadata(&node.namespace, &node.name, &Patch::Merge(change)).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer
                .map(|_| ())
                .doing(|| format!("changing {field} of {} {}", node.gvr.resource, node.name)),
        }
    }
}
