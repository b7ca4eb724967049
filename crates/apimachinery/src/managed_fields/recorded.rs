//! FieldsV1 as they are recorded, looked at and changed without being read into a set: of most entries, most
//! writes touch little or nothing.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::check::Fit;
use super::plan::{Plan, Walk};
use super::set::{FieldSet, write_key};
use super::text::{Children, Cut, ROOT, Tree, cuts, escaped};
use crate::schema::{List, ListType, Schema, Shape, TypeId};

/// Whether `object` fits its type and `recorded` is the set of its fields, without the trees of `reset` and the
/// members of `unowned`. Both are told in one go; a no says nothing about which of them it is.
pub(super) fn is_set_of(
    schema: &Schema,
    ty: TypeId,
    object: &Value,
    [reset, unowned]: [&FieldSet; 2],
    recorded: &Tree<'_>,
) -> bool {
    let fit = Fit { walk: Walk { schema }, duplicates: false };
    let mut compare = Compare { fit, tree: recorded, text: String::new(), name: Vec::new() };
    let without = Without { reset: Some(reset), unowned: Some(unowned) };
    compare.value(Plan::Struct(&schema[ty]), object, false, without, Some(ROOT)).is_some()
}

/// What is not to be recorded below some place.
#[derive(Clone, Copy)]
struct Without<'s> {
    reset: Option<&'s FieldSet>,
    unowned: Option<&'s FieldSet>,
}

impl<'s> Without<'s> {
    const NOTHING: Without<'static> = Without { reset: None, unowned: None };

    /// What is left out below an element; whether the element is left out as a whole; whether it is no member.
    fn at(self, name: &str) -> (Without<'s>, bool, bool) {
        let child = |set: Option<&'s FieldSet>| set.and_then(|set| set.field(name));
        let (reset, unowned) = (child(self.reset), child(self.unowned));
        let inside = Without { reset: reset.map(|c| c.children), unowned: unowned.map(|c| c.children) };
        (inside, reset.is_some_and(|c| c.member), unowned.is_some_and(|c| c.member))
    }
}

struct Compare<'a, 't> {
    fit: Fit<'a>,
    tree: &'t Tree<'t>,
    /// An element's name, and the same as it stands in a text.
    text: String,
    name: Vec<u8>,
}

impl<'a, 't> Compare<'a, 't> {
    /// Whether there is anything to record at a place; `None`: something else is recorded.
    fn value(
        &mut self,
        plan: Plan<'a>,
        value: &Value,
        member: bool,
        without: Without<'_>,
        node: Option<usize>,
    ) -> Option<bool> {
        if matches!(plan, Plan::Leaf | Plan::Scalar(_)) || matches!(plan, Plan::Free) && !value.is_object() {
            return node.is_some_and(|node| self.tree.is_leaf(node)).then_some(true);
        }
        let mut known = node.map(|node| Children::of(self.tree, node));
        let mut count = 0;
        match (plan, value) {
            (Plan::Struct(_) | Plan::Map(_) | Plan::Free, Value::Object(fields)) => {
                for (key, value) in fields {
                    let (plan, shape, named) = self.inside(plan, key)?;
                    let (inside, reset, unowned) = without.at(key);
                    if reset {
                        if shape.is_some_and(|shape| !self.fit.shape(shape, value)) {
                            return None;
                        }
                        continue;
                    }
                    let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                    self.text.clear();
                    self.text.push_str("f:");
                    self.text.push_str(key);
                    count +=
                        self.child((plan, shape), value, (!named || empty, unowned), inside, &mut known)?;
                }
            }
            (Plan::List(list), Value::Array(values)) => {
                // an element that is there twice is counted twice, and recorded once at most
                let plan = self.fit.walk.plan(&list.element);
                for value in values {
                    self.name_element(list, value)?;
                    let at = (plan, Some(&list.element));
                    count += self.child(at, value, (true, false), Without::NOTHING, &mut known)?;
                }
            }
            (Plan::Struct(_) | Plan::Map(_) | Plan::List(_), Value::Null) => {}
            _ => return None,
        }
        let Some(known) = known else { return (count == 0 && !member).then_some(false) };
        let dot = member && count > 0;
        let same = known.count == count + usize::from(dot) && known.has_dot == dot;
        (same && (member || count > 0)).then_some(true)
    }

    /// The plan and shape of a field or entry, and whether the type declares it; `None`: it does not fit.
    fn inside(&self, plan: Plan<'a>, key: &str) -> Option<(Plan<'a>, Option<&'a Shape>, bool)> {
        match plan {
            Plan::Struct(ty) => match ty.field(key) {
                Some(field) => Some((self.fit.walk.plan_of_field(field), Some(&field.shape), true)),
                None => (ty.preserve_unknown || ty.fields.is_empty()).then_some((Plan::Free, None, false)),
            },
            Plan::Map(shape) => Some((self.fit.walk.plan(shape), Some(shape), false)),
            _ => Some((Plan::Free, None, false)),
        }
    }

    /// One element, whose name is in `text`: 1 if there is anything to record.
    fn child(
        &mut self,
        (plan, shape): (Plan<'a>, Option<&'a Shape>),
        value: &Value,
        (member, unowned): (bool, bool),
        without: Without<'_>,
        known: &mut Option<Children<'_, '_>>,
    ) -> Option<usize> {
        let name = escaped(&self.text, &mut self.name);
        let node = known.as_mut().and_then(|known| known.find(name));
        let whole = matches!(plan, Plan::Leaf | Plan::Scalar(_));
        if whole && shape.is_some_and(|shape| !self.fit.shape(shape, value)) {
            return None;
        }
        if unowned && (whole || matches!(plan, Plan::Free) && !value.is_object()) {
            return node.is_none().then_some(0);
        }
        let there = self.value(plan, value, member && !unowned, without, node)?;
        (there == node.is_some()).then_some(usize::from(there))
    }

    fn name_element(&mut self, list: &'a List, value: &Value) -> Option<()> {
        self.text.clear();
        if list.kind == ListType::Set {
            let known = !matches!(value, Value::Null | Value::Array(_) | Value::Object(_));
            return known.then(|| write!(self.text, "v:{value}").ok())?;
        }
        let map = value.as_object()?;
        let mut keys: Vec<_> = Vec::with_capacity(list.keys.len());
        keys.extend(list.keys.iter().filter_map(|name| Some((&**name, self.fit.walk.key(list, name, map)?))));
        if keys.is_empty() {
            return None;
        }
        keys.sort_unstable_by_key(|(name, _)| *name);
        write_key(&mut self.text, keys.iter().map(|(name, value)| (*name, &**value)));
        Some(())
    }
}

/// The text without the members of `set`. `None`: it takes reading to say what is left.
pub(super) fn subtract(recorded: &str, set: &FieldSet) -> Option<String> {
    let tree = Tree::read(recorded)?;
    if !is_plain(&tree, ROOT, set) {
        return None;
    }
    let mut cut = Cut { tree: &tree, out: String::with_capacity(recorded.len()) };
    cut.object(ROOT, false, &cuts(&tree, ROOT, set));
    Some(cut.out)
}

/// Where the set has a leaf and more is recorded below it, the field may count as one value by now.
fn is_plain(tree: &Tree<'_>, at: usize, set: &FieldSet) -> bool {
    cuts(tree, at, set).iter().all(|(inner, child)| {
        let more = || tree.children(*inner).any(|below| tree.name(below) != ".");
        !(child.member && child.children.is_empty() && more()) && is_plain(tree, *inner, child.children)
    })
}

/// Whether a member of `set` may be recorded too, by the text of the elements. Where the set has a leaf and more is
/// recorded below it, the field may count as one value by now. A text that cannot be read says yes.
pub(super) fn intersects(recorded: &str, set: &FieldSet) -> bool {
    !set.is_empty()
        && !recorded.is_empty()
        && Tree::read(recorded).is_none_or(|tree| shares(&tree, ROOT, set))
}

fn shares(tree: &Tree<'_>, at: usize, set: &FieldSet) -> bool {
    cuts(tree, at, set).iter().any(|(inner, child)| {
        let shared = || child.children.is_empty() || tree.is_leaf(*inner) || tree.has_dot(*inner);
        (child.member && shared()) || shares(tree, *inner, child.children)
    })
}
