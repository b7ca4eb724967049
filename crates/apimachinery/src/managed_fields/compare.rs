//! Which fields of an object there are, and which differ between two objects, by the field plan: lists that
//! are maps or sets are walked element by element, atomic ones are leaves.
//!
//! The rules are those of structured-merge-diff (`typed/tofieldset.go`, `typed/compare.go`).

use serde_json::{Map, Value};

use super::plan::{Group, Plan, Walk};
use super::set::{FieldSet, Part, PathElement};
use crate::schema::{Field, List, Omit, Schema, Shape, TypeId};

/// What a write did to an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

/// The fields of an object of the type `ty`: its leaves, every element of a list that merges, every entry of
/// a map, and empty maps.
pub fn set_of(schema: &Schema, ty: TypeId, object: &Value) -> FieldSet {
    let walk = Walk { schema };
    walk.set(Plan::Struct(&schema[ty]), object).below
}

/// What differs between two objects of one type. Without an old object, the new one is compared with an
/// empty object of its type (in which Go's struct fields are there, but empty).
pub fn compare(schema: &Schema, ty: TypeId, old: Option<&Value>, new: &Value) -> Comparison {
    let walk = Walk { schema };
    let old = old.map_or(Side::Zero, Side::Some);
    let diff = walk.compare(Plan::Struct(&schema[ty]), old, Side::Some(new));
    Comparison { added: diff.added.below, modified: diff.modified.below, removed: diff.removed.below }
}

#[derive(Clone, Copy)]
enum Side<'a> {
    Absent,
    /// The field of an empty object: there, and at its type's zero value.
    Zero,
    Some(&'a Value),
}

impl<'a> Side<'a> {
    fn is_absent(&self) -> bool {
        matches!(self, Side::Absent)
    }

    fn map(&self) -> Option<&'a Map<String, Value>> {
        match self {
            Side::Some(value) => value.as_object(),
            _ => None,
        }
    }

    fn list(&self) -> &'a [Value] {
        match self {
            Side::Some(Value::Array(list)) => list,
            _ => &[],
        }
    }
}

#[derive(Default)]
struct Diff {
    added: Part,
    modified: Part,
    removed: Part,
}

impl Diff {
    fn push(&mut self, element: PathElement, diff: Diff) {
        let parts = [
            (&mut self.added.below, diff.added),
            (&mut self.modified.below, diff.modified),
            (&mut self.removed.below, diff.removed),
        ];
        let last = parts.iter().rposition(|(_, part)| !part.is_empty());
        let mut element = Some(element);
        for (at, (set, part)) in parts.into_iter().enumerate() {
            let name = if Some(at) == last { element.take() } else { element.clone() };
            if let Some(name) = name {
                set.push(name, part);
            }
        }
    }
}

impl<'a> Walk<'a> {
    fn set(&self, plan: Plan<'a>, value: &Value) -> Part {
        let mut part = Part::default();
        match (plan, value) {
            (Plan::Struct(_) | Plan::Map(_) | Plan::Free, Value::Object(map)) => {
                for (key, value) in map {
                    let (name, plan, named) = self.entry(plan, key);
                    let mut below = self.set(plan, value);
                    below.member |= !named || value.is_null() || value.as_object().is_some_and(Map::is_empty);
                    part.below.push(PathElement::Field(name), below);
                }
            }
            (Plan::List(list), Value::Array(values)) => {
                for Group { element, first, more } in self.groups(list, values) {
                    let below = match more.is_empty() {
                        true => Part { member: true, ..self.set(self.plan(&list.element), first) },
                        false => Part::leaf(),
                    };
                    part.below.push(element, below);
                }
            }
            (Plan::Struct(_) | Plan::Map(_) | Plan::List(_), _) => {}
            (Plan::Leaf | Plan::Scalar(_) | Plan::Free, _) => part.member = true,
        }
        part
    }

    /// Everything there is at a place, which came or went as a whole.
    fn all(&self, plan: Plan<'a>, value: &Value) -> Part {
        let mut part = Part::leaf();
        match (plan, value) {
            (Plan::Struct(_) | Plan::Map(_) | Plan::Free, Value::Object(map)) => {
                for (key, value) in map {
                    let (name, plan, _) = self.entry(plan, key);
                    part.below.push(PathElement::Field(name), self.all(plan, value));
                }
            }
            (Plan::List(list), Value::Array(values)) => {
                let plan = self.plan(&list.element);
                for Group { element, first, more } in self.groups(list, values) {
                    part.below
                        .push(element, if more.is_empty() { self.all(plan, first) } else { Part::leaf() });
                }
            }
            _ => {}
        }
        part
    }

    fn compare(&self, plan: Plan<'a>, old: Side<'_>, new: Side<'_>) -> Diff {
        match (old, new) {
            (Side::Absent, Side::Some(value)) => {
                return Diff { added: self.all(plan, value), ..Diff::default() };
            }
            (Side::Some(value), Side::Absent) => {
                return Diff { removed: self.all(plan, value), ..Diff::default() };
            }
            _ => {}
        }
        match plan {
            Plan::Struct(_) | Plan::Map(_) => self.compare_maps(plan, old, new),
            Plan::List(list) => self.compare_lists(list, old, new),
            Plan::Scalar(shape) => leaf(old, new, |value| is_zero(shape, value)),
            Plan::Leaf => leaf(old, new, is_empty),
            Plan::Free => match (old.map(), new.map()) {
                (None, None) => leaf(old, new, is_empty),
                (Some(_), Some(_)) => self.compare_maps(plan, old, new),
                // a map came, went, or took another's place
                (a, b) => {
                    let nothing =
                        |side: &Side<'_>| matches!(side, Side::Absent | Side::Zero | Side::Some(Value::Null));
                    let mut diff = self.compare_maps(plan, old, new);
                    let other = if a.is_none() { old } else { new };
                    diff.modified.member |= !nothing(&other) && a.is_some() != b.is_some();
                    diff
                }
            },
        }
    }

    fn compare_maps(&self, plan: Plan<'a>, old: Side<'_>, new: Side<'_>) -> Diff {
        let (left, right) = (old.map(), new.map());
        let ty = match plan {
            Plan::Struct(ty) => Some(ty),
            _ => None,
        };
        let zero = ty.filter(|_| matches!(old, Side::Zero));
        let empty = |map: Option<&Map<String, Value>>| map.is_none_or(Map::is_empty);
        if empty(left) && empty(right) {
            return leaf(old, new, is_empty);
        }
        let mut diff = Diff::default();
        let nothing = Map::new();
        let mut left = left.unwrap_or(&nothing).iter().peekable();
        let mut push = |key: &str, field: Option<&'a Field>, old: Side<'_>, new: Side<'_>| {
            let (name, plan, _) = self.entry_of(plan, key, field);
            diff.push(PathElement::Field(name), self.compare(plan, old, new));
        };
        let field = |key: &str| ty.and_then(|ty| ty.field(key));
        for (key, value) in right.unwrap_or(&nothing) {
            while let Some((key, value)) = left.next_if(|(l, _)| *l < key) {
                push(key, field(key), Side::Some(value), Side::Absent);
            }
            match left.next_if(|(l, _)| *l == key) {
                Some((_, before)) if before == value => {}
                Some((_, before)) => push(key, field(key), Side::Some(before), Side::Some(value)),
                None => {
                    let field = field(key);
                    let there = zero.is_some() && field.is_some_and(is_there_when_zero);
                    push(key, field, if there { Side::Zero } else { Side::Absent }, Side::Some(value));
                }
            }
        }
        for (key, value) in left {
            push(key, field(key), Side::Some(value), Side::Absent);
        }
        came_or_went(old, new, &mut diff);
        diff
    }

    fn compare_lists(&self, list: &'a List, old: Side<'_>, new: Side<'_>) -> Diff {
        if old.list().is_empty() && new.list().is_empty() {
            return leaf(old, new, is_empty);
        }
        let plan = self.plan(&list.element);
        let mut diff = Diff::default();
        let mut left = self.groups(list, old.list()).into_iter().peekable();
        for after in self.groups(list, new.list()) {
            while let Some(before) = left.next_if(|l| l.element < after.element) {
                let inner = self.compare_groups(plan, Some(&before), None);
                diff.push(before.element, inner);
            }
            let before = left.next_if(|l| l.element == after.element);
            let inner = self.compare_groups(plan, before.as_ref(), Some(&after));
            diff.push(after.element, inner);
        }
        for before in left {
            let inner = self.compare_groups(plan, Some(&before), None);
            diff.push(before.element, inner);
        }
        came_or_went(old, new, &mut diff);
        diff
    }

    /// One key of a list. Where it stands more than once, its values count as a whole.
    fn compare_groups(&self, plan: Plan<'a>, old: Option<&Group<'_>>, new: Option<&Group<'_>>) -> Diff {
        let several = |group: Option<&Group<'_>>| group.is_some_and(|g| !g.more.is_empty());
        match (several(old), several(new)) {
            (false, false) => {
                let old = old.map_or(Side::Absent, |g| Side::Some(g.first));
                let new = new.map_or(Side::Absent, |g| Side::Some(g.first));
                if let (Side::Some(old), Side::Some(new)) = (old, new)
                    && old == new
                {
                    return Diff::default();
                }
                self.compare(plan, old, new)
            }
            (true, true) => {
                let mut diff = Diff::default();
                let same = |a: &Group<'_>, b: &Group<'_>| a.first == b.first && a.more == b.more;
                diff.modified.member = !old.zip(new).is_some_and(|(a, b)| same(a, b));
                diff
            }
            (true, false) => {
                let added = |group: &Group<'_>| self.compare(plan, Side::Absent, Side::Some(group.first));
                let mut diff = new.map(added).unwrap_or_default();
                diff.removed.member = true;
                diff
            }
            (false, true) => {
                let removed = |group: &Group<'_>| self.compare(plan, Side::Some(group.first), Side::Absent);
                let mut diff = old.map(removed).unwrap_or_default();
                diff.added.member = true;
                diff
            }
        }
    }
}

fn came_or_went(old: Side<'_>, new: Side<'_>, diff: &mut Diff) {
    if old.is_absent() {
        diff.added.member = true;
    } else if new.is_absent() {
        diff.removed.member = true;
    }
}

fn leaf(old: Side<'_>, new: Side<'_>, zero: impl Fn(&Value) -> bool) -> Diff {
    let mut diff = Diff::default();
    match (old, new) {
        (Side::Absent, _) | (_, Side::Absent) => came_or_went(old, new, &mut diff),
        (Side::Some(old), Side::Some(new)) => diff.modified.member = old != new,
        (Side::Zero, Side::Some(value)) | (Side::Some(value), Side::Zero) => {
            diff.modified.member = !zero(value);
        }
        (Side::Zero, Side::Zero) => {}
    }
    diff
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Whether this is how the zero value of the shape is written.
fn is_zero(shape: &Shape, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => match shape {
            Shape::Quantity => text == "0",
            Shape::Duration => text == "0s",
            _ => text.is_empty(),
        },
        Value::Array(_) | Value::Object(_) => is_empty(value),
    }
}

/// Whether an empty object of the type has the field at all in JSON.
fn is_there_when_zero(field: &Field) -> bool {
    match field.omit {
        Omit::Never => true,
        Omit::Empty => !field.pointer && field.shape.is_struct(),
        Omit::Zero => false,
    }
}
