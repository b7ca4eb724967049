//! How an object goes: gracefully, held by finalizers, or now (upstream's `Delete` in
//! `registry/generic/registry/store.go` and `BeforeDelete` in `registry/rest/delete.go`).

use apimachinery::status::{Details, Status};
use serde_json::Value;

use super::{
    generic::{Outcome, RACES, Scope},
    hooks, meta, strategy,
};
use crate::{
    handlers::options::DeleteOptions,
    request::{Operation, Options},
    storage,
};

/// What a deletion comes to.
pub enum Deletion {
    /// It is under way already.
    Nothing,
    /// Remove the object.
    Remove,
    /// Store this state; somebody else finishes.
    Mark(Value),
    /// Store this state, so that watchers see it, and remove the object right after.
    MarkAndRemove(Value),
}

impl Scope<'_> {
    /// Deletes an object, gracefully where the kind has grace, now where nothing holds it. The boolean tells
    /// whether it is gone.
    pub async fn delete(&self, options: &DeleteOptions) -> Result<(Outcome, bool), Status> {
        self.delete_if(options, true).await
    }

    /// The same for a deletion that was admitted as something else: an eviction.
    pub async fn delete_unasked(&self, options: &DeleteOptions) -> Result<(Outcome, bool), Status> {
        self.delete_if(options, false).await
    }

    async fn delete_if(&self, options: &DeleteOptions, asks: bool) -> Result<(Outcome, bool), Status> {
        let key = storage::key(self.resource, self.namespace, self.name)?;
        let hooks = hooks(self.resource);
        let mut options = options.clone();
        for _ in 0..RACES {
            let Some(kv) = self.server.storage.store().get(&key) else { return Err(self.not_found()) };
            let old = self.decode(&kv).await?;
            meta::preconditions(
                &old,
                &self.resource.group,
                &self.resource.kind,
                options.uid.as_deref(),
                options.resource_version.as_deref(),
            )?;
            if asks {
                self.check_deletion(&old, (&options).into()).await?;
            }
            let plan = self.plan_deletion(&old, &mut options, hooks);
            let marked = match plan {
                Deletion::Nothing => return Ok((self.after(old, false), false)),
                Deletion::Remove => None,
                Deletion::Mark(object) => Some((object, false)),
                Deletion::MarkAndRemove(object) => Some((object, true)),
            };
            let (mut last, mut revision, mut kv_now) = (old, kv.mod_revision, None);
            if let Some((mut object, remove)) = marked {
                if !options.dry_run {
                    let value = self.server.encode(self.resource, &mut object).await?;
                    match self.server.storage.put(self.resource, key.clone(), value, revision).await? {
                        Ok(kv) => {
                            revision = kv.mod_revision;
                            kv_now = Some(kv);
                        }
                        Err(_) => continue,
                    }
                }
                last = object;
                meta::set(&mut last, "resourceVersion", Some(revision.to_string().into()));
                if !remove {
                    let outcome = match kv_now {
                        Some(kv) => self.stored(kv).await?,
                        None => Outcome::Object(last),
                    };
                    return Ok((outcome, false));
                }
                // The version that the client knew is the one before our own mark.
                options.resource_version = None;
            }
            if options.dry_run {
                return Ok((self.after(last, true), true));
            }
            let beside = (hooks.beside_delete)(&last);
            match self.server.storage.delete_with(key.clone(), revision, beside).await? {
                Ok(deleted_at) => {
                    (hooks.after_delete)(self.server, &last);
                    meta::set(&mut last, "resourceVersion", Some(deleted_at.to_string().into()));
                    return Ok((self.after(last, true), true));
                }
                // Gone between our two steps: as wanted.
                Err(None) => return Ok((self.after(last, true), true)),
                Err(Some(_)) => {}
            }
        }
        Err(self.conflict("the object is being modified too often; please try again"))
    }

    /// Both kinds of admission see a deletion with the old object and no new one.
    async fn check_deletion(&self, old: &Value, options: Options<'_>) -> Result<(), Status> {
        self.admit(Operation::Delete, &mut Value::Null, Some(old), options).await?;
        self.check(Operation::Delete, &Value::Null, Some(old), options).await
    }

    fn plan_deletion(&self, old: &Value, options: &mut DeleteOptions, hooks: &super::Hooks) -> Deletion {
        let now = self.server.clock.now();
        if let Some(plan) = hooks.deletion.and_then(|plan| plan(old, options, now)) {
            return plan;
        }
        let mut object = old.clone();
        let graceful = meta::before_delete(&mut object, options, now, hooks.grace);
        if graceful == meta::Graceful::Pending {
            return Deletion::Nothing;
        }
        let policy = strategy::garbage_collection(self.resource);
        if let Some(finalizers) = meta::deletion_finalizers(&object, options, policy) {
            meta::set_finalizers(&mut object, finalizers);
        }
        let held = !meta::finalizers(&object).is_empty();
        match graceful {
            meta::Graceful::No if held => {
                meta::mark_as_deleting(&mut object, now);
                Deletion::Mark(object)
            }
            meta::Graceful::No => Deletion::Remove,
            _ if held || options.grace_period_seconds.unwrap_or(0) > 0 => Deletion::Mark(object),
            _ => Deletion::MarkAndRemove(object),
        }
    }

    /// What a deletion answers: the object for kinds that show it and for those not yet gone, else a Status.
    fn after(&self, last: Value, gone: bool) -> Outcome {
        if !gone || strategy::returns_deleted(self.resource) {
            return Outcome::Object(last);
        }
        Outcome::Done(Box::new(Status::success(Some(Details {
            name: meta::name(&last).to_owned(),
            group: self.resource.group.to_string(),
            kind: self.resource.plural.to_string(),
            uid: meta::text(&last, "uid").to_owned(),
            ..Details::default()
        }))))
    }
}
