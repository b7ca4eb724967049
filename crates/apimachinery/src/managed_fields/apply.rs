//! Server-side apply: a configuration is what its manager wants to own, and nothing more.
//!
//! The order of steps is upstream's (`managedfields/internal`, structured-merge-diff's `merge.Updater.Apply`): the
//! configuration is laid over the object, what the manager has stopped applying is taken out, what others own and
//! this would change is a conflict.

use serde_json::Value;

use super::check::faults;
use super::compare::{compare, set_of};
use super::conflict::{Conflict, conflicts, status};
use super::entries::{Entry, Operation};
use super::merge::{Merged, merge};
use super::recorded::is_set_of;
use super::remove::{prune, remove, with_named};
use super::set::FieldSet;
use super::slot::{Slot, into_values};
use super::text::Tree;
use super::update::{Others, into_list};
use super::{Reset, UNOWNED, Writer, equal_but_for_owners, last_applied, take_managed};
use crate::gvk;
use crate::status::Status;

/// Whom everything belongs to that was there before an object's fields were tracked.
const BEFORE: &str = "before-first-apply";

/// What an apply makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object without its `managedFields`. What the configuration brought is as it was written, so that the
    /// whole may be out of normal form and has no defaults.
    pub object: Value,
    /// The list to put into its metadata; `None`: nobody owns anything.
    pub managed: Option<Value>,
    /// Whether anything but the owners differs from what was there.
    pub changed: bool,
    /// The object is in normal form after all.
    pub normal: bool,
}

/// Why a configuration is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 400
    #[error("{0}")]
    BadRequest(String),
    /// 409: others own what this would change.
    #[error("{} conflicts", .0.len())]
    Conflicts(Vec<Conflict>),
    /// 500 without a reason, as upstream answers what does not fit the type.
    #[error("{0}")]
    Other(String),
}

impl ApplyError {
    /// The answer to the request.
    pub fn to_status(&self) -> Status {
        match self {
            ApplyError::BadRequest(message) => Status::bad_request(message.as_str()),
            ApplyError::Conflicts(conflicts) => status(conflicts),
            ApplyError::Other(message) => Status::failure(500, "", message.as_str()),
        }
    }
}

/// What was owned by whoever applies now, when it applied the last time.
struct Last {
    fields: FieldSet,
    api_version: String,
}

impl Writer<'_> {
    /// Applies `config`, a configuration of this `kind` as the client sent it, to `live`, which is in normal form
    /// (`None`: there is no such object yet).
    ///
    /// With `force`, what others own is taken from them.
    pub fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        kind: &str,
        force: bool,
    ) -> Result<Applied, ApplyError> {
        self.check(config, kind)?;
        let mut object = live.cloned().unwrap_or_else(|| Value::Object(Default::default()));
        let entries = into_list(take_managed(&mut object).unwrap_or_default());
        super::entries::check(&entries)
            .map_err(|why| ApplyError::Other(format!("failed to decode managed fields: {why}")))?;
        let entries = match entries.is_empty() && live.is_some() {
            true => Writer { manager: BEFORE, ..*self }.record(None, &object, entries),
            false => entries,
        };
        let mut slots: Vec<Slot> = entries.into_iter().map(Slot::new).collect();
        let at = slots
            .iter()
            .position(|slot| slot.is_of(self.manager, Operation::Apply, self.api_version, self.subresource));
        let before = at.map(|at| slots.remove(at));
        let recorded = before.as_ref().is_some_and(|slot| self.is_recorded(slot, config));
        if !recorded {
            self.check_type(config)?;
        }

        let Merged { changed, mut normal } = merge(self.schema, self.ty, &mut object, config);
        let mut changed = changed || live.is_none();
        normal &= live.is_some();
        let mut entry = match before {
            Some(slot) if recorded => slot,
            mut before => {
                let mut mine = set_of(self.schema, self.ty, config);
                self.reset.filter(&mut mine);
                let last = before.as_mut().and_then(|slot| self.last(slot, &mine));
                if let Some(last) = last {
                    self.take_back(&mut object, last, &mine, &mut slots);
                    normal = false;
                    changed = live.is_none_or(|live| !equal_but_for_owners(live, &object));
                }
                mine.subtract(&UNOWNED);
                Slot::of(&Entry {
                    manager: self.manager.to_owned(),
                    operation: Operation::Apply,
                    api_version: self.api_version.to_owned(),
                    subresource: self.subresource.to_owned(),
                    // a write that changes nothing leaves the time as it was, also where there was none
                    time: before.as_ref().and_then(|slot| slot.text("time").parse().ok()),
                    fields: mine,
                })
            }
        };
        match live {
            Some(live) if changed => self.settle(live, &object, &mut slots, force)?,
            _ => slots.retain(|slot| self.ty_of(slot.text("apiVersion")).is_some()),
        }
        if changed {
            entry.set_time(self.now);
        }
        if !entry.is_empty() {
            slots.push(entry);
        }
        if self.manager == last_applied::MANAGER && last_applied::of(&object).is_some() {
            last_applied::set(&mut object, config);
        }
        let entries = into_values(slots);
        let managed = (!entries.is_empty()).then_some(Value::Array(entries));
        Ok(Applied { object, managed, changed, normal: normal || !changed })
    }

    /// Whether the configuration may be applied to anything.
    fn check(&self, config: &Value, kind: &str) -> Result<(), ApplyError> {
        let text = |key: &str| config[key].as_str().unwrap_or_default();
        if text("apiVersion") != self.api_version || text("kind") != kind {
            let named = named(text("apiVersion"), text("kind"));
            return Err(ApplyError::BadRequest(format!("invalid object type: {named}")));
        }
        if config["metadata"]["managedFields"].is_array() {
            return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
        }
        Ok(())
    }

    /// Whether the configuration is one of the type.
    fn check_type(&self, config: &Value) -> Result<(), ApplyError> {
        match faults(self.schema, self.ty, config, false) {
            None => Ok(()),
            Some(why) => Err(ApplyError::Other(format!(
                "failed to create typed patch object ({}): {why}",
                describe(config)
            ))),
        }
    }

    /// Whether the manager applies the very fields that it applied the last time, with values of their types.
    fn is_recorded(&self, slot: &Slot, config: &Value) -> bool {
        let Reset::Fields(reset) = self.reset else { return false };
        let Some(recorded) = Tree::read(slot.recorded()) else { return false };
        slot.text("apiVersion") == self.api_version
            && is_set_of(self.schema, self.ty, config, [reset, &UNOWNED], &recorded)
    }

    /// What was applied the last time, if part of it is not applied this time.
    fn last(&self, slot: &mut Slot, mine: &FieldSet) -> Option<Last> {
        let api_version = slot.text("apiVersion").to_owned();
        let same = api_version == self.api_version;
        let (ty, _) = match same {
            true => (self.ty, Value::Null),
            false => (self.convert)(&Value::Null, self.api_version, &api_version)?,
        };
        let fields = std::mem::take(slot.fields(self.schema, ty));
        let all_there = fields.is_empty() || same && fields.is_subset(mine);
        (!all_there).then_some(Last { fields, api_version })
    }

    /// Takes out of the object what the manager applied the last time, does not any more, and nobody else owns.
    fn take_back(&self, object: &mut Value, last: Last, mine: &FieldSet, slots: &mut [Slot]) {
        let ours = |slot: &Slot| slot.text("apiVersion") == self.api_version;
        if last.api_version == self.api_version && slots.iter().all(ours) {
            let mut owned = mine.clone();
            for slot in slots {
                owned = owned.union(slot.fields(self.schema, self.ty).clone());
            }
            prune(self.schema, self.ty, object, &last.fields, &owned);
        } else if let Some(pruned) = self.take_back_between(object, &last, mine, slots) {
            *object = pruned;
        }
    }

    /// [`Writer::take_back`] where managers speak different versions: step by step, in the version of each, as
    /// upstream does it. `None`: the version of the last time is not served any more.
    fn take_back_between(
        &self,
        object: &Value,
        last: &Last,
        mine: &FieldSet,
        slots: &mut [Slot],
    ) -> Option<Value> {
        let convert = |object: &Value, from: &str, to: &str| match from == to {
            true => Some((self.ty_of(to)?, object.clone())),
            false => (self.convert)(object, from, to),
        };
        let (last_ty, merged) = convert(object, self.api_version, &last.api_version)?;
        let last_set = with_named(self.schema, last_ty, &last.fields);
        let mut pruned = merged.clone();
        remove(self.schema, last_ty, &mut pruned, &last_set);

        // the version of the last time first, then the others
        let mut versions: Vec<String> = vec![last.api_version.clone(), self.api_version.to_owned()];
        versions.extend(slots.iter().map(|slot| slot.text("apiVersion").to_owned()));
        let (mut seen, mut at) = (Vec::new(), last.api_version.clone());
        for version in versions {
            if seen.contains(&version) {
                continue;
            }
            let Some((ty, whole)) = convert(object, self.api_version, &version) else { continue };
            let Some((_, mut rest)) = convert(&pruned, &at, &version) else { continue };
            let mut owned = match version == self.api_version {
                true => mine.clone(),
                false => FieldSet::new(),
            };
            for slot in slots.iter_mut().filter(|slot| slot.text("apiVersion") == version) {
                owned = owned.union(slot.fields(self.schema, ty).clone());
            }
            let named = |set: &FieldSet| with_named(self.schema, ty, set);
            let mut gone = named(&set_of(self.schema, ty, &whole));
            gone.subtract(&named(&set_of(self.schema, ty, &rest)));
            gone.subtract(&named(&owned));
            rest = whole;
            remove(self.schema, ty, &mut rest, &gone);
            pruned = rest;
            at.clone_from(&version);
            seen.push(version);
        }
        let (_, pruned) = convert(&pruned, &at, &last.api_version)?;
        let named = |object: &Value| with_named(self.schema, last_ty, &set_of(self.schema, last_ty, object));
        let mut gone = named(&merged);
        gone.subtract(&named(&pruned));
        let gone = gone.intersection(&last_set);
        let mut result = merged;
        remove(self.schema, last_ty, &mut result, &gone);
        convert(&result, &last.api_version, self.api_version).map(|(_, object)| object)
    }

    fn ty_of(&self, version: &str) -> Option<crate::schema::TypeId> {
        match version == self.api_version {
            true => Some(self.ty),
            false => (self.convert)(&Value::Null, self.api_version, version).map(|(ty, _)| ty),
        }
    }

    /// Takes from the others what changes hands and what is gone, unless that is a conflict.
    fn settle(
        &self,
        live: &Value,
        object: &Value,
        slots: &mut Vec<Slot>,
        force: bool,
    ) -> Result<(), ApplyError> {
        if slots.is_empty() {
            return Ok(());
        }
        let diff = self.reset.filter_all(compare(self.schema, self.ty, Some(live), object));
        let changed = diff.modified.union(diff.added);
        let mut others = Others::default();
        let mut found = Vec::new();
        for slot in slots.iter_mut().filter(|_| !force) {
            let (ty, changed) = match slot.text("apiVersion") == self.api_version {
                true => (self.ty, &changed),
                false => match others.of(self, slot.text("apiVersion"), Some(live), object) {
                    Some(other) => (other.ty, &other.changed),
                    None => continue,
                },
            };
            if slot.may_own(changed) {
                let shared = slot.fields(self.schema, ty).intersection(changed);
                conflicts(slot, &shared, &mut found);
            }
        }
        if !found.is_empty() && self.manager == last_applied::MANAGER {
            let allowed = last_applied::allowed(self.schema, self.ty, self.api_version, live);
            if let Some(allowed) = allowed {
                found.retain(|conflict| !allowed.has(&conflict.path));
            }
        }
        if !found.is_empty() {
            return Err(ApplyError::Conflicts(found));
        }
        slots.retain_mut(|slot| {
            if slot.text("apiVersion") == self.api_version {
                slot.subtract(self.schema, self.ty, [&changed, &diff.removed]);
            } else {
                let other = others.of(self, slot.text("apiVersion"), Some(live), object);
                let Some(other) = other else { return false };
                slot.subtract(self.schema, other.ty, [&other.changed, &other.removed]);
            }
            !slot.is_empty()
        });
        Ok(())
    }
}

/// `apps/v1, Kind=Deployment`
fn named(api_version: &str, kind: &str) -> String {
    let (group, version) = gvk::split(api_version).unwrap_or(("", api_version));
    format!("{group}/{version}, Kind={kind}")
}

/// An object as upstream's messages about configurations name it: `default/x; apps/v1, Kind=Deployment`.
pub(super) fn describe(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!(
        "{}/{}; {}",
        text(&metadata["namespace"]),
        text(&metadata["name"]),
        named(&text(&object["apiVersion"]), &text(&object["kind"]))
    )
}

/// The answer when the applied object cannot be read as its type.
pub fn unreadable(config: &Value, why: impl std::fmt::Display) -> ApplyError {
    ApplyError::Other(format!(
        "failed to convert new object ({}) to proper version: unable to convert unstructured object to {}: {why}",
        describe(config),
        named(config["apiVersion"].as_str().unwrap_or_default(), config["kind"].as_str().unwrap_or_default())
    ))
}
