//! Defaults are values of their schema.
//!
//! Source: `schema/defaulting/validation.go`.

use apimachinery::field::{self, Error, ErrorList, Path};
use apimachinery::schema::{Schema, TypeId};
use serde_json::Value;

use super::CheckMeta;
use crate::expressions::Rules;
use crate::structural::defaults::{Step, surround};
use crate::structural::{META_FIELDS, Structural, metadata, prune, validate};

pub(super) struct Defaults<'a> {
    meta: (&'a Schema, TypeId),
    check_meta: CheckMeta<'a>,
    /// They may say nothing that would be pruned.
    pruned: bool,
    /// What rules about them may cost, all together.
    budget: i64,
}

/// There is no budget for more.
struct Stop;

/// Where a node is.
struct At<'a> {
    node: &'a Structural,
    /// The resource that the node is part of, and the way from there.
    resource: &'a Structural,
    way: Vec<Step>,
    /// In the metadata, kind or apiVersion of the resource.
    within_meta: bool,
}

impl<'a> Defaults<'a> {
    pub fn new(meta: (&'a Schema, TypeId), check_meta: CheckMeta<'a>, pruned: bool) -> Defaults<'a> {
        Defaults { meta, check_meta, pruned, budget: Rules::BUDGET }
    }

    /// Every default in the schema of a resource.
    pub fn check(mut self, root: &Structural, path: &Path<'_>, errors: &mut ErrorList) {
        let at = At { node: root, resource: root, way: Vec::new(), within_meta: false };
        // That it stopped is told by the last error.
        let _ = self.node(at, path, errors);
    }

    fn node(&mut self, mut at: At<'_>, path: &Path<'_>, errors: &mut ErrorList) -> Result<(), Stop> {
        let node = at.node;
        if node.embedded {
            at = At { node, resource: node, way: Vec::new(), within_meta: false };
        }
        if let Some(default) = &node.default {
            let path = path.child("default");
            let good = match at.within_meta {
                true => self.of_meta(default, &at, &path, errors),
                false => self.value(default, node, &path, errors),
            };
            if let Some(default) = good {
                self.rules(&default, node, &path, errors)?;
            }
        }
        let below = |node, step: Step, within_meta| {
            let mut way = at.way.clone();
            way.push(step);
            At { node, resource: at.resource, way, within_meta }
        };
        if let Some(items) = &node.items {
            self.node(below(items, Step::Index, at.within_meta), &path.child("items"), errors)?;
        }
        let all = path.child("properties");
        for (name, property) in &node.properties {
            let within_meta = at.within_meta || node.embedded && META_FIELDS.contains(&&**name);
            let at = below(property, Step::Field((**name).into()), within_meta);
            self.node(at, &all.key(name), errors)?;
        }
        Ok(())
    }

    /// A default within kind, apiVersion or metadata, which is judged in its place in an object.
    fn of_meta(
        &self,
        default: &Value,
        at: &At<'_>,
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) -> Option<Value> {
        let mut object = surround(default.clone(), &at.way);
        for (field, value) in [("apiVersion", "validation/v1"), ("kind", "Validation")] {
            if object.get(field).is_none() {
                object[field] = value.into();
            }
        }
        let mut why = None;
        if let Err(error) = metadata::coerce(&mut object, at.resource, self.meta, &Path::NIL) {
            why = Some(error.to_string());
        } else {
            let mut faults = ErrorList::new();
            metadata::validate(&mut object, at.resource, &Path::NIL, self.check_meta, &mut faults);
            why = field::aggregate(&faults).or(why);
        }
        if let Some(why) = why {
            let why = format!("must result in valid metadata: {why}");
            errors.push(Error::invalid(path, default.clone(), why));
            return None;
        }
        let faults = validate::validate(default, at.node, None, path);
        let good = faults.is_empty().then(|| default.clone());
        errors.extend(faults);
        good
    }

    /// A default; the value that comes of it, if it is good.
    fn value(
        &self,
        default: &Value,
        node: &Structural,
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) -> Option<Value> {
        let mut coerced = default.clone();
        let malformed = metadata::coerce(&mut coerced, node, self.meta, path).err();
        if self.pruned {
            let mut pruned = default.clone();
            let gone = match node.embedded {
                true => prune::prune(&mut pruned, node),
                false => prune::prune_value(&mut pruned, node),
            };
            if !gone.is_empty() || pruned != *default {
                errors.push(Error::invalid(path, coerced.clone(), "must not have unknown fields"));
            }
        }
        if let Some(why) = malformed {
            errors.push(why);
            return None;
        }
        let before = errors.len();
        metadata::validate(&mut coerced, node, path, self.check_meta, errors);
        if errors.len() == before {
            errors.extend(validate::validate(&coerced, node, None, path));
        }
        (errors.len() == before).then_some(coerced)
    }

    /// A default obeys rules as a value that stays, and as one that is new.
    fn rules(
        &mut self,
        default: &Value,
        node: &Structural,
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) -> Result<(), Stop> {
        let rules = Rules::at(node, node.embedded);
        if rules.is_empty() {
            return Ok(());
        }
        let mut left = self.budget;
        let mut faults = rules.validate_strictly(node, default, Some(default), path, &mut left);
        if faults.is_empty() {
            let mut budget = self.budget;
            faults = rules.validate_strictly(node, default, None, path, &mut budget);
            left = left.min(budget);
        }
        errors.extend(faults);
        self.budget = left;
        if left < 0 { Err(Stop) } else { Ok(()) }
    }
}
