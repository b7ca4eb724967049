//! Keeps as many pods as each ReplicaSet asks for, and each ReplicationController, its older form.

mod plan;
mod replicated;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use api::core::v1::{Pod, ReplicationController};
use api::meta::v1::DeleteOptions;
use apimachinery::labels::Selector;
use client::{Client, Event, EventType, Key, Recorder, Store, WorkQueue, key_of};
use futures::future::join_all;

use crate::context::{Context, name, namespace, selector, uid};
use crate::error::Doing;
use crate::expectations::Expectations;
use crate::{Error, Result, owners, pods};
use plan::Scale;
use replicated::Replicated;

const WORKERS: usize = 5;

pub(crate) fn start(context: &Context) {
    start_for::<ReplicaSet>(context, "replicaset");
}

/// The same for ReplicationControllers.
pub(crate) fn start_old(context: &Context) {
    start_for::<ReplicationController>(context, "replicationmanager");
}

/// `queue_name` is what its queue is counted under.
fn start_for<K: Replicated>(context: &Context, queue_name: &'static str) {
    let sets = context.informers.get::<K>();
    let all_pods = context.informers.get::<Pod>();
    all_pods.store().add_index(owners::INDEX, |pod| vec![owners::index_value(&pod.metadata)]);
    let controller = Arc::new(Controller {
        context: context.clone(),
        client: context.client.clone(),
        recorder: context.recorder(K::CONTROLLER),
        sets: sets.store().clone(),
        pods: all_pods.store().clone(),
        queue: WorkQueue::new(),
        expectations: Expectations::default(),
    });
    let this = controller.clone();
    sets.add_handler(move |event| {
        if let Event::Deleted(set) = event {
            this.expectations.forget(&key_of(&**set));
        }
        this.queue.add(key_of(&**event.object()));
    });
    let this = controller.clone();
    all_pods.add_handler(move |event| this.pod_changed(event));
    let queue = controller.queue.clone();
    context.work(queue_name, &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller<K> {
    context: Context,
    client: Client,
    recorder: Recorder,
    sets: Store<K>,
    pods: Store<Pod>,
    queue: WorkQueue<Key>,
    expectations: Expectations,
}

impl<K: Replicated> Controller<K> {
    /// The set that a pod's controller reference names, if it is still that one.
    fn owner(&self, pod: &Pod) -> Option<Arc<K>> {
        let owner = owners::controller_of(&pod.metadata).filter(|owner| owner.kind == K::KIND)?;
        self.sets.get(namespace(pod), &owner.name).filter(|set| uid(&**set) == owner.uid)
    }

    fn pod_changed(&self, event: &Event<Pod>) {
        match event {
            Event::Added(pod) if pod.metadata.deletion_timestamp.is_some() => self.pod_deleted(pod),
            Event::Added(pod) => match self.owner(pod) {
                Some(set) => {
                    let key = key_of(&*set);
                    self.expectations.creation_seen(&key);
                    self.queue.add(key);
                }
                None => self.orphan(pod),
            },
            Event::Deleted(pod) => self.pod_deleted(pod),
            Event::Updated { old, new } => {
                if old.metadata.resource_version == new.metadata.resource_version {
                    return;
                }
                if new.metadata.deletion_timestamp.is_some() {
                    self.pod_deleted(new);
                    if old.metadata.labels != new.metadata.labels {
                        self.pod_deleted(old);
                    }
                    return;
                }
                let moved = owners::controller_of(&old.metadata) != owners::controller_of(&new.metadata);
                if moved && let Some(set) = self.owner(old) {
                    self.queue.add(key_of(&*set));
                }
                match self.owner(new) {
                    Some(set) => {
                        let key = key_of(&*set);
                        let min_ready = plan::min_ready(&set.as_set());
                        if !pods::is_ready(old) && pods::is_ready(new) && min_ready > 0 {
                            let wait = Duration::from_secs(u64::try_from(min_ready).unwrap_or_default());
                            self.queue.add_after(key.clone(), wait);
                        }
                        self.queue.add(key);
                    }
                    None if moved || old.metadata.labels != new.metadata.labels => self.orphan(new),
                    None => {}
                }
            }
        }
    }

    fn pod_deleted(&self, pod: &Pod) {
        if let Some(set) = self.owner(pod) {
            let key = key_of(&*set);
            self.expectations.deletion_seen(&key, &key_of(pod));
            self.queue.add(key);
        }
    }

    /// A pod without a controller may be adopted by any set that matches it.
    fn orphan(&self, pod: &Pod) {
        if owners::controller_of(&pod.metadata).is_some() {
            return;
        }
        for set in self.sets.list_namespace(namespace(pod)) {
            let selector = set_selector(&set.as_set());
            if !selector.is_everything() && selector.matches_map(pod.metadata.labels.as_ref()) {
                self.queue.add(key_of(&*set));
            }
        }
    }

    async fn sync(&self, key: Key) -> Result<()> {
        let Some(owner) = self.sets.get_key(&key) else {
            self.expectations.forget(&key);
            return Ok(());
        };
        let set = owner.as_set();
        let satisfied = self.expectations.satisfied(&key);
        let selector = set_selector(&set);
        let mut candidates = self.pods.by_index(owners::INDEX, uid(&*set));
        let terminating = candidates
            .iter()
            .filter(|pod| pods::is_terminating(pod) && selector.matches_map(pod.metadata.labels.as_ref()))
            .count();
        candidates.extend(self.pods.by_index(owners::INDEX, &owners::orphans(&key.namespace)));
        candidates.retain(|pod| pods::is_active(pod));
        let active = owners::claim_all(&self.client, &*owner, &selector, candidates).await?;
        let mut failure = None;
        if satisfied && set.metadata.deletion_timestamp.is_none() {
            let now = self.context.clock.now();
            failure = match plan::scale(&set, &active, &self.related(&set), now) {
                Scale::Right => None,
                Scale::Create(number) => self.create(&key, &owner, number).await.err(),
                Scale::Delete(chosen) => self.delete(&key, &owner, chosen).await.err(),
            };
        }
        let now = self.context.clock.now();
        let text = failure.as_ref().map(failure_text);
        let status = K::of_its(plan::status(&set, &active, terminating, text.as_deref(), now));
        let updated = self.write_status(&owner, status.clone()).await?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let min_ready = plan::min_ready(&updated.as_set());
        if min_ready > 0 && status.ready_replicas != status.available_replicas {
            let next = active.iter().filter_map(|pod| pods::available_in(pod, min_ready, now)).min();
            let all = Duration::from_secs(u64::try_from(min_ready).unwrap_or_default());
            self.queue.add_after(key, next.unwrap_or(all));
        }
        Ok(())
    }

    /// All pods of all sets of the same owner: companions when pods to delete are chosen.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let Some(owner) = owners::controller_of(&set.metadata) else {
            return self.pods.by_index(owners::INDEX, uid(set));
        };
        let siblings = self.sets.list_namespace(namespace(set));
        siblings
            .iter()
            .filter(|other| owners::controller_of(other.metadata()).is_some_and(|o| o.uid == owner.uid))
            .flat_map(|other| self.pods.by_index(owners::INDEX, uid(&**other)))
            .collect()
    }

    /// Makes pods in batches that double while they succeed, so that a set whose pods are refused does not
    /// ask for all of them.
    async fn create(&self, key: &Key, set: &K, number: usize) -> Result<()> {
        self.expectations.expect_creations(key, number);
        let pod = plan::pod(&set.as_set(), owners::controller_ref(set));
        let mut left = number;
        let mut batch = 1;
        while left > 0 {
            let size = left.min(batch);
            let answers = join_all((0..size).map(|_| self.client.create(&pod))).await;
            left -= size;
            batch *= 2;
            let mut failed = None;
            for answer in answers {
                match answer {
                    Ok(made) => {
                        let message = format!("Created pod: {}", name(&made));
                        self.recorder.event(set, EventType::Normal, "SuccessfulCreate", message);
                    }
                    // Every creation will fail until the namespace is gone: nothing to do, nothing to expect.
                    Err(error) if error.is_namespace_terminating() => self.expectations.creation_seen(key),
                    Err(error) => {
                        self.expectations.creation_seen(key);
                        let message = format!("Error creating: {}", error.chain());
                        self.recorder.event(set, EventType::Warning, "FailedCreate", message);
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                (0..left).for_each(|_| self.expectations.creation_seen(key));
                return Err(error).doing(|| format!("creating a pod of {} {key}", K::KIND));
            }
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, set: &K, chosen: Vec<Arc<Pod>>) -> Result<()> {
        let keys: BTreeSet<Key> = chosen.iter().map(|pod| key_of(&**pod)).collect();
        self.expectations.expect_deletions(key, keys);
        let options = DeleteOptions::default();
        let deletions =
            chosen.iter().map(|pod| self.client.delete::<Pod>(namespace(&**pod), name(&**pod), &options));
        let answers = join_all(deletions).await;
        let mut failed = None;
        for (pod, answer) in chosen.iter().zip(answers) {
            match answer {
                Ok(()) => {
                    let message = format!("Deleted pod: {}", name(&**pod));
                    self.recorder.event(set, EventType::Normal, "SuccessfulDelete", message);
                }
                Err(error) => {
                    self.expectations.deletion_seen(key, &key_of(&**pod));
                    if !error.is_not_found() {
                        let message = format!("Error deleting: {}", error.chain());
                        self.recorder.event(set, EventType::Warning, "FailedDelete", message);
                        failed = failed.or(Some(error));
                    }
                }
            }
        }
        match failed {
            Some(error) => Err(error).doing(|| format!("deleting a pod of {} {key}", K::KIND)),
            None => Ok(()),
        }
    }

    async fn write_status(&self, set: &K, status: ReplicaSetStatus) -> Result<K> {
        if set.as_set().status.as_ref() == Some(&status) {
            return Ok(set.clone());
        }
        let doing = || format!("writing the status of {} {}", K::KIND, name(set));
        let mut wanted = set.with_status(status);
        match self.client.update_status(&wanted).await {
            Err(error) if error.is_conflict() => {
                // Only this controller writes the status: an outdated base does not make it wrong.
                let fresh = self.client.get::<K>(namespace(set), name(set)).await.doing(doing)?;
                if uid(&fresh) != uid(set) {
                    return Err(Error::NotYet(format!("{} {} is another object by now", K::KIND, name(set))));
                }
                *wanted.metadata_mut() = fresh.metadata().clone();
                self.client.update_status(&wanted).await.doing(doing)
            }
            Err(error) if error.is_not_found() => Ok(wanted),
            answer => answer.doing(doing),
        }
    }
}

fn failure_text(error: &Error) -> String {
    error.client().map_or_else(|| error.to_string(), |error| error.chain())
}

fn set_selector(set: &ReplicaSet) -> Selector {
    set.spec.as_ref().map_or(Selector::nothing(), |spec| selector(&spec.selector))
}
