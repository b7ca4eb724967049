//! Carries out what a rollout has decided: makes, sizes and deletes ReplicaSets and writes the status.

use std::collections::BTreeMap;
use std::time::Duration;

use api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use api::meta::v1::{DeleteOptions, ObjectMeta};
use client::{EventType, Patch, key_of};
use kinds::pod_template;
use serde_json::json;

use super::size::{self, Step, size};
use super::{Controller, Rollout, revision, set_revision, status};
use crate::context::{name, namespace, uid};
use crate::error::Doing;
use crate::{Result, owners};

impl Controller {
    /// Makes the ReplicaSet of the Deployment's template if there is none.
    pub(super) async fn ensure_new(&self, rollout: &mut Rollout) -> Result<()> {
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

    /// Sizes one ReplicaSet. With `annotate` its note of the Deployment's size is written in any case.
    pub(super) async fn resize(&self, rollout: &mut Rollout, step: Step, annotate: bool) -> Result<()> {
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

    pub(super) async fn clean_up(&self, rollout: &Rollout) -> Result<()> {
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

    pub(super) async fn write_status(&self, mut rollout: Rollout) -> Result<()> {
        let now = self.context.now();
        let wanted = status::calculate(&rollout.d, &rollout.all(), rollout.new.as_ref(), &now);
        if rollout.d.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        rollout.d.status = Some(wanted);
        self.write(rollout.d).await.map(|_| ())
    }

    pub(super) async fn write_rollout_status(&self, mut rollout: Rollout) -> Result<()> {
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

    pub(super) async fn write_rollout(&self, rollout: &mut Rollout) -> Result<()> {
        rollout.d = self.write(rollout.d.clone()).await?;
        Ok(())
    }

    /// Writes the status, and with it the revision annotation, as upstream does in one request.
    pub(super) async fn write(&self, d: Deployment) -> Result<Deployment> {
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
