//! Laying an applied configuration over an object: leaves of the configuration win, maps and lists that merge
//! are merged. Nothing goes away by it.
//!
//! The rules are those of structured-merge-diff (`typed/merge.go`), order of lists included.

use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::plan::{Plan, Walk};
use super::set::PathElement;
use crate::schema::{List, Schema, Shape, TypeId};

/// What laying a configuration over an object did.
pub(super) struct Merged {
    pub changed: bool,
    /// The object is as much in normal form as it was: only texts have changed.
    pub normal: bool,
}

/// Lays `config`, in which no list has two elements of one key, over `object`. Both are of the type `ty`.
pub(super) fn merge(schema: &Schema, ty: TypeId, object: &mut Value, config: &Value) -> Merged {
    let merge = Merge { walk: Walk { schema }, normal: Cell::new(true) };
    let changed = merge.merge(Plan::Struct(&schema[ty]), object, config);
    Merged { changed, normal: merge.normal.get() }
}

struct Merge<'a> {
    walk: Walk<'a>,
    normal: Cell<bool>,
}

impl<'a> Merge<'a> {
    /// Whether that changed anything.
    fn merge(&self, plan: Plan<'a>, object: &mut Value, config: &Value) -> bool {
        match (plan, &mut *object, config) {
            (Plan::Struct(_) | Plan::Map(_) | Plan::Free, Value::Object(into), Value::Object(from)) => {
                self.merge_maps(plan, into, from)
            }
            // what is there is not taken away by saying null
            (Plan::Struct(_) | Plan::Map(_) | Plan::Free, Value::Object(into), Value::Null)
                if !into.is_empty() =>
            {
                false
            }
            (Plan::List(_), Value::Array(into), Value::Null) if !into.is_empty() => false,
            (Plan::List(list), Value::Array(into), Value::Array(from)) => {
                if let Some(changed) = self.merge_pairs(list, into, from) {
                    return changed;
                }
                self.normal.set(false);
                let before = into.clone();
                let old = std::mem::take(into);
                *into = self.merge_lists(list, old, from);
                *into != before
            }
            _ => {
                let changed = object != config;
                if changed {
                    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
                    let texts = matches!(plan, Plan::Scalar(Shape::String)) && text(object) && text(config);
                    self.normal.set(self.normal.get() && texts);
                    object.clone_from(config);
                }
                changed
            }
        }
    }

    fn merge_maps(&self, plan: Plan<'a>, into: &mut Map<String, Value>, from: &Map<String, Value>) -> bool {
        let mut changed = false;
        for (key, value) in from {
            match into.get_mut(key) {
                Some(there) => changed |= self.merge(self.walk.plan_at(plan, key).0, there, value),
                None => {
                    changed = true;
                    self.normal.set(false);
                    into.insert(key.clone(), value.clone());
                }
            }
        }
        changed
    }

    /// The usual case: both lists have the same elements in the same order. `None`: they have not.
    fn merge_pairs(&self, list: &'a List, into: &mut [Value], from: &[Value]) -> Option<bool> {
        let same = |(a, b): (&Value, &Value)| self.walk.compare_elements(list, a, b) == Some(Ordering::Equal);
        if into.len() != from.len() || !into.iter().zip(from).all(same) {
            return None;
        }
        let plan = self.walk.plan(&list.element);
        Some(into.iter_mut().zip(from).fold(false, |changed, (a, b)| self.merge(plan, a, b) || changed))
    }

    /// The elements of both: those of the object keep their places as long as the configuration does not order
    /// them otherwise.
    fn merge_lists(&self, list: &'a List, old: Vec<Value>, config: &[Value]) -> Vec<Value> {
        let plan = self.walk.plan(&list.element);
        let (mut names, mut values) = (Vec::with_capacity(old.len()), Vec::with_capacity(old.len()));
        for value in old {
            let Some(element) = self.walk.element(list, &value) else { continue };
            names.push(element);
            values.push(Some(value));
        }
        let config: Vec<(PathElement, &Value)> =
            config.iter().filter_map(|value| Some((self.walk.element(list, value)?, value))).collect();
        let (left, right) = (Places::of(names.iter()), Places::of(config.iter().map(|(name, _)| name)));
        let mut out = Vec::with_capacity(names.len().max(config.len()));
        for next in order(&left, &right) {
            match next {
                Next::Left(at) => out.extend(values.get_mut(at).and_then(Option::take)),
                Next::Right(at) => {
                    let Some((name, wanted)) = config.get(at) else { continue };
                    // of an element that is there twice nobody can say which one is meant
                    let there = left.only(name).and_then(|at| values.get_mut(at)).and_then(Option::take);
                    out.push(match there {
                        Some(mut value) => {
                            self.merge(plan, &mut value, wanted);
                            value
                        }
                        None => (*wanted).clone(),
                    });
                }
            }
        }
        out
    }
}

/// The names of a list's elements, in order and sorted.
struct Places<'n> {
    names: Vec<&'n PathElement>,
    sorted: Vec<usize>,
}

impl<'n> Places<'n> {
    fn of(names: impl Iterator<Item = &'n PathElement>) -> Places<'n> {
        let names: Vec<&PathElement> = names.collect();
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_by(|a, b| names[*a].cmp(names[*b]).then(a.cmp(b)));
        Places { names, sorted }
    }

    /// All places of one name.
    fn all(&self, name: &PathElement) -> &[usize] {
        let from = self.sorted.partition_point(|at| self.names[*at] < name);
        let more = self.sorted[from..].partition_point(|at| self.names[*at] == name);
        &self.sorted[from..from + more]
    }

    fn first(&self, name: &PathElement) -> Option<usize> {
        self.all(name).first().copied()
    }

    fn only(&self, name: &PathElement) -> Option<usize> {
        match self.all(name) {
            [at] => Some(*at),
            _ => None,
        }
    }
}

enum Next {
    /// An element that only the object has, or the first of several.
    Left(usize),
    /// An element of the configuration, merged with its like.
    Right(usize),
}

/// In which order the elements of two lists come when they are merged.
fn order(left: &Places<'_>, right: &Places<'_>) -> Vec<Next> {
    let mut order = Vec::with_capacity(left.names.len().max(right.names.len()));
    let mut shared = right.names.iter().filter(|name| left.first(name).is_some()).peekable();
    let mut done = vec![false; right.names.len()];
    let (mut l, mut r) = (0, 0);
    while l < left.names.len() || r < right.names.len() {
        if let (Some(mine), Some(theirs)) = (left.names.get(l), right.names.get(r)) {
            if mine == theirs {
                done[r] = true;
                order.push(Next::Right(r));
                (l, r) = (l + 1, r + 1);
                shared.next();
                continue;
            }
            let turn = shared.peek().is_none_or(|next| *next == mine);
            if !turn && right.first(mine).is_some() {
                l += 1;
                continue;
            }
        }
        if let Some(mine) = left.names.get(l) {
            match right.first(mine) {
                None => {
                    order.push(Next::Left(l));
                    l += 1;
                    continue;
                }
                Some(at) if done[at] => l += 1,
                Some(_) => {}
            }
        }
        if let Some(theirs) = right.names.get(r) {
            done[r] = true;
            order.push(Next::Right(r));
            if shared.peek().is_some_and(|next| *next == theirs) {
                shared.next();
            }
            r += 1;
        }
    }
    order
}
