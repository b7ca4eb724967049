//! Rolls a Deployment's pods from one template to the next by sizing ReplicaSets.
//!
//! The numbers are worked out in `size`, conditions in `status`, revisions in `revision`; here is the order of
//! things; `apply` carries it out.

mod apply;
mod revision;
mod size;
mod status;

use std::sync::Arc;

use api::apps::v1::{Deployment, ReplicaSet};
use api::core::v1::Pod;
use api::meta::v1::{LabelSelector, ObjectMeta};
use client::{Client, Event, EventType, Key, Recorder, Store, WorkQueue, key_of};

use crate::context::{Context, name, namespace, selector, sibling, uid};
use crate::error::Doing;
use crate::{Error, Result, owners, pods};
use size::{Step, size, wanted};

const WORKERS: usize = 5;

pub(crate) fn start(context: &Context) {
    let deployments = context.informers.get::<Deployment>();
    let sets = context.informers.get::<ReplicaSet>();
    let all_pods = context.informers.get::<Pod>();
    sets.store().add_index(owners::INDEX, |set| vec![owners::index_value(&set.metadata)]);
    all_pods.store().add_index(owners::INDEX, |pod| vec![owners::index_value(&pod.metadata)]);
    let controller = Arc::new(Controller {
        context: context.clone(),
        client: context.client.clone(),
        recorder: context.recorder("deployment-controller"),
        deployments: deployments.store().clone(),
        sets: sets.store().clone(),
        pods: all_pods.store().clone(),
        queue: WorkQueue::new(),
    });
    let queue = controller.queue.clone();
    deployments.add_handler(move |event| queue.add(key_of(&**event.object())));
    let this = controller.clone();
    sets.add_handler(move |event| this.set_changed(event));
    let this = controller.clone();
    all_pods.add_handler(move |event| {
        if let Event::Deleted(pod) = event {
            this.pod_deleted(pod);
        }
    });
    let queue = controller.queue.clone();
    context.work("deployment", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    context: Context,
    client: Client,
    recorder: Recorder,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    queue: WorkQueue<Key>,
}

/// A Deployment and its ReplicaSets in the course of one sync.
struct Rollout {
    d: Deployment,
    new: Option<ReplicaSet>,
    old: Vec<ReplicaSet>,
}

impl Rollout {
    fn all(&self) -> Vec<&ReplicaSet> {
        self.old.iter().chain(&self.new).collect()
    }

    fn active(&self) -> Vec<ReplicaSet> {
        self.all().into_iter().filter(|rs| size(rs) > 0).cloned().collect()
    }

    fn active_old(&self) -> Vec<ReplicaSet> {
        self.old.iter().filter(|rs| size(rs) > 0).cloned().collect()
    }

    /// Puts a ReplicaSet in the place of the one of its name.
    fn put(&mut self, changed: ReplicaSet) {
        let place = self.old.iter_mut().chain(&mut self.new).find(|rs| name(*rs) == name(&changed));
        if let Some(place) = place {
            *place = changed;
        }
    }
}

impl Controller {
    fn owner(&self, meta: &ObjectMeta) -> Option<Key> {
        let owner = owners::controller_of(meta).filter(|owner| owner.kind == "Deployment")?;
        let key = sibling(meta, &owner.name);
        self.deployments.get_key(&key).filter(|d| uid(&**d) == owner.uid).map(|_| key)
    }

    fn set_changed(&self, event: &Event<ReplicaSet>) {
        let set = event.object();
        if let Event::Updated { old, new } = event
            && owners::controller_of(&old.metadata) != owners::controller_of(&new.metadata)
            && let Some(key) = self.owner(&old.metadata)
        {
            self.queue.add(key);
        }
        if let Some(key) = self.owner(&set.metadata) {
            self.queue.add(key);
        } else if owners::controller_of(&set.metadata).is_none() && !matches!(event, Event::Deleted(_)) {
            for d in self.deployments.list_namespace(namespace(&**set)) {
                let Some(spec) = &d.spec else { continue };
                let selector = selector(&spec.selector);
                if !selector.is_everything() && selector.matches_map(set.metadata.labels.as_ref()) {
                    self.queue.add(key_of(&*d));
                }
            }
        }
    }

    /// With strategy Recreate the new pods wait for the last old one to go.
    fn pod_deleted(&self, pod: &Pod) {
        let Some(owner) = owners::controller_of(&pod.metadata) else { return };
        let Some(set) = self.sets.get(namespace(pod), &owner.name).filter(|set| uid(&**set) == owner.uid)
        else {
            return;
        };
        if let Some(key) = self.owner(&set.metadata)
            && self.deployments.get_key(&key).is_some_and(|d| !size::is_rolling(&d))
        {
            self.queue.add(key);
        }
    }

    async fn sync(&self, key: Key) -> Result<()> {
        let Some(found) = self.deployments.get_key(&key) else { return Ok(()) };
        let mut d = Deployment::clone(&found);
        let Some(spec) = d.spec.clone() else { return Ok(()) };
        if spec.selector == LabelSelector::default() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&d, EventType::Warning, "SelectingAll", message);
            let generation = d.metadata.generation;
            if d.status.as_ref().and_then(|status| status.observed_generation) < generation {
                d.status.get_or_insert_default().observed_generation = generation;
                self.write(d).await?;
            }
            return Ok(());
        }
        let mut candidates = self.sets.by_index(owners::INDEX, uid(&d));
        candidates.extend(self.sets.by_index(owners::INDEX, &owners::orphans(&key.namespace)));
        let sets = owners::claim_all(&self.client, &d, &selector(&spec.selector), candidates).await?;
        let sets: Vec<ReplicaSet> = sets.iter().map(|set| ReplicaSet::clone(set)).collect();
        let (new, old) = revision::split(&d, sets);
        let mut rollout = Rollout { d, new, old };
        if rollout.d.metadata.deletion_timestamp.is_some() {
            self.note_revision(&mut rollout).await?;
            return self.write_status(rollout).await;
        }
        self.note_pause(&mut rollout).await?;
        self.note_revision(&mut rollout).await?;
        let paused = spec.paused == Some(true);
        if paused || is_scaled(&rollout) {
            self.scale(&mut rollout).await?;
            if paused {
                self.clean_up(&rollout).await?;
            }
            return self.write_status(rollout).await;
        }
        match spec.strategy.and_then(|strategy| strategy.type_).as_deref() {
            Some("Recreate") => self.recreate(rollout).await,
            Some("RollingUpdate") => self.roll(rollout).await,
            other => {
                let strategy = other.unwrap_or_default();
                Err(Error::NotYet(format!("unexpected deployment strategy type: {strategy}")))
            }
        }
    }

    /// A pause is noted so that the time of it does not count as lack of progress.
    async fn note_pause(&self, rollout: &mut Rollout) -> Result<()> {
        if status::deadline(&rollout.d).is_none() {
            return Ok(());
        }
        let paused = rollout.d.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
        let reason =
            status::find(rollout.d.status.as_ref(), status::PROGRESSING).and_then(|c| c.reason.clone());
        let noted = reason.as_deref() == Some(status::PAUSED);
        if reason.as_deref() == Some(status::TIMED_OUT) || paused == noted {
            return Ok(());
        }
        let (reason, message) = if paused {
            (status::PAUSED, "Deployment is paused")
        } else {
            (status::RESUMED, "Deployment is resumed")
        };
        self.progress(rollout, "Unknown", reason, message.into());
        self.write_rollout(rollout).await
    }

    fn progress(&self, rollout: &mut Rollout, is: &str, reason: &str, message: String) {
        let condition = status::condition(status::PROGRESSING, is, reason, message, &self.context.now());
        status::set(rollout.d.status.get_or_insert_default(), condition);
    }

    /// Gives the new ReplicaSet, if there is one, its revision, and the Deployment the same.
    async fn note_revision(&self, rollout: &mut Rollout) -> Result<()> {
        let Some(new) = &rollout.new else { return Ok(()) };
        let next = revision::max_revision(&rollout.old) + 1;
        let mut changed = new.clone();
        let annotated = revision::annotate_new(&rollout.d, &mut changed, next, true);
        let min_ready = rollout.d.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
        let spec = changed.spec.get_or_insert_default();
        let ready_changed = spec.min_ready_seconds.unwrap_or_default() != min_ready;
        if annotated || ready_changed {
            spec.min_ready_seconds = crate::context::unless_zero(min_ready);
            let written = self.client.update(&changed).await;
            rollout.new = Some(written.doing(|| format!("annotating ReplicaSet {}", name(&changed)))?);
            // As upstream: the Deployment's own revision follows in the next sync, which this write causes.
            return Ok(());
        }
        let revision = changed.metadata.annotations.unwrap_or_default().remove(revision::REVISION);
        let mut dirty = set_revision(&mut rollout.d, revision.unwrap_or_default());
        let progressing = status::find(rollout.d.status.as_ref(), status::PROGRESSING).is_some();
        if status::deadline(&rollout.d).is_some() && !progressing {
            let message = format!("Found new replica set {:?}", changed.metadata.name.unwrap_or_default());
            self.progress(rollout, "True", "FoundNewReplicaSet", message);
            dirty = true;
        }
        if dirty { self.write_rollout(rollout).await } else { Ok(()) }
    }

    async fn roll(&self, mut rollout: Rollout) -> Result<()> {
        self.ensure_new(&mut rollout).await?;
        let Some(new) = &rollout.new else { return Ok(()) };
        let (have, want) = (size(new), wanted(&rollout.d));
        let target = match have.cmp(&want) {
            std::cmp::Ordering::Equal => have,
            std::cmp::Ordering::Greater => want,
            std::cmp::Ordering::Less => size::new_size(&rollout.d, size::total(rollout.all()), have),
        };
        if target != have {
            let step = Step { name: name(new).into(), size: target };
            self.resize(&mut rollout, step, false).await?;
            return self.write_rollout_status(rollout).await;
        }
        let steps = size::shrink_old(&rollout.d, &rollout.active_old(), new);
        if !steps.is_empty() {
            for step in steps {
                self.resize(&mut rollout, step, false).await?;
            }
            return self.write_rollout_status(rollout).await;
        }
        self.finish(rollout).await
    }

    async fn recreate(&self, mut rollout: Rollout) -> Result<()> {
        let active = rollout.active_old();
        if !active.is_empty() {
            for set in active {
                self.resize(&mut rollout, Step { name: name(&set).into(), size: 0 }, false).await?;
            }
            return self.write_rollout_status(rollout).await;
        }
        let old_pods_run = rollout.old.iter().any(|set| {
            set.status.as_ref().is_some_and(|status| status.replicas > 0)
                || self.pods.by_index(owners::INDEX, uid(set)).iter().any(|pod| !pods::is_terminal(pod))
        });
        if old_pods_run {
            return self.write_rollout_status(rollout).await;
        }
        self.ensure_new(&mut rollout).await?;
        if let Some(new) = &rollout.new {
            let step = Step { name: name(new).into(), size: wanted(&rollout.d) };
            self.resize(&mut rollout, step, false).await?;
        }
        self.finish(rollout).await
    }

    async fn finish(&self, rollout: Rollout) -> Result<()> {
        if rollout.d.status.as_ref().is_some_and(|status| status::is_complete(&rollout.d, status)) {
            self.clean_up(&rollout).await?;
        }
        self.write_rollout_status(rollout).await
    }

    /// After a change of `spec.replicas`, or while paused.
    async fn scale(&self, rollout: &mut Rollout) -> Result<()> {
        if let Some(one) = size::active_or_latest(rollout.new.as_ref(), &rollout.old) {
            let step = Step { name: name(one).into(), size: wanted(&rollout.d) };
            return self.resize(rollout, step, false).await;
        }
        let saturated = rollout.new.as_ref().is_some_and(|new| size::is_saturated(&rollout.d, new));
        if saturated {
            for old in rollout.active_old() {
                self.resize(rollout, Step { name: name(&old).into(), size: 0 }, false).await?;
            }
        } else if size::is_rolling(&rollout.d) {
            for step in size::proportional(&rollout.d, &rollout.active()) {
                self.resize(rollout, step, true).await?;
            }
        }
        Ok(())
    }
}

fn set_revision(d: &mut Deployment, revision: String) -> bool {
    let annotations = d.metadata.annotations.get_or_insert_default();
    if annotations.get(revision::REVISION) == Some(&revision) {
        return false;
    }
    annotations.insert(revision::REVISION.into(), revision);
    true
}

/// Whether the Deployment's size is not the one that its active ReplicaSets were sized for.
fn is_scaled(rollout: &Rollout) -> bool {
    rollout.active().iter().any(|set| {
        size::annotation(set, revision::DESIRED_REPLICAS).is_some_and(|size| size != wanted(&rollout.d))
    })
}
