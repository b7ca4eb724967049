//! What an applier has stopped applying goes away, unless somebody else owns it.
//!
//! The rule is that of structured-merge-diff's `merge.Updater.prune`: from the merged object goes what the
//! applier owned before and what, itself or something above it, nobody owns any more.

use serde_json::Value;

use super::plan::{Plan, Walk};
use super::set::{FieldSet, PathElement};
use crate::schema::{Schema, TypeId};

/// Removes from `object` what is in `last` and not held by `owned`, the sets of all managers (the applier's
/// new one among them).
pub(super) fn prune(schema: &Schema, ty: TypeId, object: &mut Value, last: &FieldSet, owned: &FieldSet) {
    let walk = Walk { schema };
    walk.prune(Plan::Struct(&schema[ty]), object, last, Some(owned), Above::default());
}

/// Without the members of `set` and everything below them. What only lost what it held stays, empty.
pub(super) fn remove(schema: &Schema, ty: TypeId, object: &mut Value, set: &FieldSet) {
    let walk = Walk { schema };
    walk.prune(Plan::Struct(&schema[ty]), object, set, None, Above::default());
}

/// The set with every field among its members that a type declares and that something below is a member of.
pub(super) fn with_named(schema: &Schema, ty: TypeId, set: &FieldSet) -> FieldSet {
    let walk = Walk { schema };
    set.map_members(Some(Plan::Struct(&schema[ty])), &|plan, element| {
        let Some((inside, named)) = plan.and_then(|plan| walk.inside(plan, element)) else {
            return (None, false);
        };
        (Some(inside), named)
    })
}

/// What is known of the way from the root.
#[derive(Clone, Copy, Default)]
struct Above {
    /// The applier owned something at or above this.
    was_owned: bool,
    /// And something between that and this, or this, nobody owns now.
    abandoned: bool,
}

impl<'a> Walk<'a> {
    fn prune(
        &self,
        plan: Plan<'a>,
        value: &mut Value,
        last: &FieldSet,
        owned: Option<&FieldSet>,
        above: Above,
    ) {
        match (plan, value) {
            (Plan::Struct(_) | Plan::Map(_) | Plan::Free, Value::Object(map)) => {
                // what the applier did not own stays, so that its set says where to look
                for (element, below) in last.children() {
                    let PathElement::Field(name) = element else { continue };
                    let Some(value) = map.get_mut(&**name) else { continue };
                    let (plan, named) = self.plan_at(plan, name);
                    let was = below.member || (named && owned.is_some());
                    if !self.stays(plan, value, (element, was, named), below.children, owned, above) {
                        map.remove(&**name);
                    }
                }
            }
            (Plan::List(list), Value::Array(values)) => {
                let plan = self.plan(&list.element);
                values.retain_mut(|value| {
                    let Some(element) = self.element(list, value) else { return true };
                    let Some(below) = last.child(&element) else { return true };
                    self.stays(plan, value, (&element, below.member, false), below.children, owned, above)
                });
            }
            _ => {}
        }
    }

    /// Whether what is at an element stays; what is below it may go.
    fn stays(
        &self,
        plan: Plan<'a>,
        value: &mut Value,
        (element, was, named): (&PathElement, bool, bool),
        last: &FieldSet,
        owned: Option<&FieldSet>,
        above: Above,
    ) -> bool {
        let Some(owned) = owned else {
            if !was {
                self.prune(plan, value, last, None, above);
            }
            return !was;
        };
        let own = owned.child(element);
        let is_owned = own.is_some_and(|own| own.member || named);
        // an empty list that merges is no field of the object
        let counts =
            |value: &Value| !(matches!(plan, Plan::List(_)) && value.as_array().is_some_and(Vec::is_empty));
        let counted = counts(value);
        let was_owned = above.was_owned || was;
        let here = Above { was_owned, abandoned: above.abandoned || (counted && was_owned && !is_owned) };
        if was && counted && here.abandoned {
            return false;
        }
        if !last.is_empty() {
            static NOTHING: FieldSet = FieldSet::new();
            self.prune(plan, value, last, Some(own.map_or(&NOTHING, |own| own.children)), here);
        }
        !(was && counted) || counts(value)
    }
}
