//! Rolls a Deployment's pods from one template to the next by sizing ReplicaSets.
//!
//! The numbers are worked out in `size`, conditions in `status`, revisions in `revision`; here is the order of
//! things and the writing.

mod revision;
mod size;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use api::core::v1::Pod;
use api::meta::v1::{DeleteOptions, LabelSelector, ObjectMeta};
use client::{Client, Event, EventType, Key, Patch, Recorder, Store, WorkQueue, key_of};
use kinds::pod_template;
use serde_json::json;

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

    /// Makes the ReplicaSet of the Deployment's template if there is none.
    async fn ensure_new(&self, rollout: &mut Rollout) -> Result<()> {
        if rollout.new.is_some() {
            return Ok(());
        }
        let next = revision::max_revision(&rollout.old) + 1;
        let mut set = new_set(&rollout.d);
        let size = size::new_size(&rollout.d, size::total(&rollout.old), 0);
        set.spec.get_or_insert_default().replicas = Some(size);
        revision::annotate_new(&rollout.d, &mut set, next, false);
        let set_name = name(&set).to_owned();
        let created = match self.client.create(&set).await {
            Ok(created) => created,
            Err(error) if error.is_already_exists() => return self.collide(rollout, &set_name, error).await,
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let message = format!("Failed to create new replica set {set_name:?}: {}", error.chain());
                    if status::deadline(&rollout.d).is_some() {
                        self.progress(rollout, "False", "ReplicaSetCreateError", message.clone());
                        // The refusal is what is reported; whether noting it succeeds matters less.
                        let _ = self.write_rollout(rollout).await;
                    }
                    self.recorder.event(&rollout.d, EventType::Warning, "ReplicaSetCreateError", message);
                }
                return Err(error).doing(|| format!("creating ReplicaSet {set_name}"));
            }
        };
        if size > 0 {
            let message = format!("Scaled up replica set {set_name} from 0 to {size}");
            self.recorder.event(&rollout.d, EventType::Normal, "ScalingReplicaSet", message);
        }
        rollout.new = Some(created);
        let mut dirty = set_revision(&mut rollout.d, next.to_string());
        if status::deadline(&rollout.d).is_some() {
            let message = format!("Created new replica set {set_name:?}");
            self.progress(rollout, "True", "NewReplicaSetCreated", message);
            dirty = true;
        }
        if dirty { self.write_rollout(rollout).await } else { Ok(()) }
    }

    /// A ReplicaSet of the name is there: made by us a moment ago, or with the same hash by chance.
    async fn collide(&self, rollout: &mut Rollout, set_name: &str, error: client::Error) -> Result<()> {
        let doing = || format!("looking at ReplicaSet {set_name}");
        let found = self.client.get::<ReplicaSet>(namespace(&rollout.d), set_name).await.doing(doing)?;
        let ours = owners::controller_of(&found.metadata).is_some_and(|owner| owner.uid == uid(&rollout.d));
        let template = found.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let same = template
            .zip(rollout.d.spec.as_ref())
            .is_some_and(|(template, spec)| pod_template::equal_ignoring_hash(template, &spec.template));
        if ours && same {
            rollout.new = Some(found);
            return self.note_revision(rollout).await;
        }
        let status = rollout.d.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
        self.write_rollout(rollout).await?;
        Err(error).doing(|| format!("creating ReplicaSet {set_name}, whose name is taken"))
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

    /// Sizes one ReplicaSet. With `annotate` its note of the Deployment's size is written in any case.
    async fn resize(&self, rollout: &mut Rollout, step: Step, annotate: bool) -> Result<()> {
        let Some(set) = rollout.all().into_iter().find(|rs| name(*rs) == step.name).cloned() else {
            return Ok(());
        };
        let before = size(&set);
        if before == step.size && !annotate {
            return Ok(());
        }
        let mut changed = set;
        let annotated = revision::annotate_size(&rollout.d, &mut changed);
        if before == step.size && !annotated {
            return Ok(());
        }
        changed.spec.get_or_insert_default().replicas = Some(step.size);
        let written = self.client.update(&changed).await;
        rollout.put(written.doing(|| format!("scaling ReplicaSet {}", step.name))?);
        if before != step.size {
            let way = if before < step.size { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {} from {before} to {}", step.name, step.size);
            self.recorder.event(&rollout.d, EventType::Normal, "ScalingReplicaSet", message);
        }
        Ok(())
    }

    async fn clean_up(&self, rollout: &Rollout) -> Result<()> {
        for set in revision::superfluous(&rollout.d, &rollout.old) {
            let options = DeleteOptions::default();
            match self.client.delete::<ReplicaSet>(namespace(set), name(set), &options).await {
                Err(error) if !error.is_not_found() => {
                    return Err(error).doing(|| format!("deleting old ReplicaSet {}", name(set)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn write_status(&self, mut rollout: Rollout) -> Result<()> {
        let now = self.context.now();
        let wanted = status::calculate(&rollout.d, &rollout.all(), rollout.new.as_ref(), &now);
        if rollout.d.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        rollout.d.status = Some(wanted);
        self.write(rollout.d).await.map(|_| ())
    }

    async fn write_rollout_status(&self, mut rollout: Rollout) -> Result<()> {
        let now = self.context.now();
        let wanted = status::rollout(&rollout.d, &rollout.all(), rollout.new.as_ref(), &now);
        if rollout.d.status.as_ref() == Some(&wanted) {
            self.look_again(&rollout.d, &wanted);
            return Ok(());
        }
        rollout.d.status = Some(wanted);
        self.write(rollout.d).await.map(|_| ())
    }

    /// A rollout that does not move is looked at again when its deadline is over.
    fn look_again(&self, d: &Deployment, status: &DeploymentStatus) {
        let current = status::find(d.status.as_ref(), status::PROGRESSING);
        let (Some(seconds), Some(current)) = (status::deadline(d), current) else { return };
        if status::is_complete(d, status) || current.reason.as_deref() == Some(status::TIMED_OUT) {
            return;
        }
        let Some(updated) = &current.last_update_time else { return };
        let passed = self.context.clock.now().duration_since(updated.0).as_secs();
        let left = u64::try_from(i64::from(seconds) - passed).unwrap_or_default();
        if left < 1 {
            self.queue.add_rate_limited(key_of(d));
        } else {
            self.queue.add_after(key_of(d), Duration::from_secs(left + 1));
        }
    }

    async fn write_rollout(&self, rollout: &mut Rollout) -> Result<()> {
        rollout.d = self.write(rollout.d.clone()).await?;
        Ok(())
    }

    /// Writes the status, and with it the revision annotation, as upstream does in one request.
    async fn write(&self, d: Deployment) -> Result<Deployment> {
        let doing = || format!("writing the status of Deployment {}", name(&d));
        let revision = |d: &Deployment| d.metadata.annotations.as_ref()?.get(revision::REVISION).cloned();
        let written = match self.client.update_status(&d).await {
            // It is gone, and with it everything that there was to say.
            Err(error) if error.is_not_found() => return Ok(d),
            written => written.doing(doing)?,
        };
        match revision(&d) {
            wanted @ Some(_) if revision(&written) != wanted => {
                let change = json!({"metadata": {"annotations": {revision::REVISION: wanted}}});
                let patch = Patch::Merge(change);
                self.client.patch(namespace(&d), name(&d), &patch).await.doing(doing)
            }
            _ => Ok(written),
        }
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

/// The ReplicaSet for the Deployment's template, not yet sized.
fn new_set(d: &Deployment) -> ReplicaSet {
    let spec = d.spec.clone().unwrap_or_default();
    let collisions = d.status.as_ref().and_then(|status| status.collision_count);
    let hash = pod_template::hash(&spec.template, collisions);
    let labelled = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(pod_template::TEMPLATE_HASH.into(), hash.clone());
        Some(labels)
    };
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    meta.labels = labelled(meta.labels.take());
    let labels = meta.labels.clone();
    let mut selector = spec.selector;
    selector.match_labels = labelled(selector.match_labels.take());
    let room = 253 - 1 - hash.len();
    let stem: String = name(d).chars().take(room).collect();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{stem}-{hash}")),
            namespace: d.metadata.namespace.clone(),
            labels,
            owner_references: Some(vec![owners::controller_ref(d)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: None,
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}
