//! Sets of field paths and their JSON form, FieldsV1.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

use super::text::{ROOT, Tree};
use crate::codec::json;
use crate::field::quote;
use crate::schema::Name;

/// One step of a path. The order is the canonical one of FieldsV1: fields, then keys, values and indices.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// `f:name`, a field of a struct or a key of a map.
    Field(Name),
    /// `k:{"name":"x"}`, an element of a list by its keys, which are sorted by name.
    Key(Vec<(Name, Value)>),
    /// `v:"x"`, an element of a set.
    Value(Value),
    /// `i:0`, an element by its place. Nothing here makes them, but stored objects may hold them.
    Index(i64),
}

/// Sets and keys of lists are of scalars: a list of anything else is of one piece.
fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

impl PathElement {
    fn rank(&self) -> u8 {
        match self {
            PathElement::Field(_) => 0,
            PathElement::Key(_) => 1,
            PathElement::Value(_) => 2,
            PathElement::Index(_) => 3,
        }
    }

    /// From FieldsV1; `None` if it is no path element.
    pub fn parse(text: &str) -> Option<PathElement> {
        let (sort, rest) = text.split_once(':')?;
        Some(match sort {
            "f" => PathElement::Field(Name::Owned(rest.to_string())),
            "v" => PathElement::Value(serde_json::from_str(rest).ok().filter(is_scalar)?),
            "i" => PathElement::Index(rest.parse().ok()?),
            "k" => {
                let map: Map<String, Value> = serde_json::from_str(rest).ok()?;
                if !map.values().all(is_scalar) {
                    return None;
                }
                let mut keys: Vec<_> = map.into_iter().map(|(k, v)| (Name::Owned(k), v)).collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                PathElement::Key(keys)
            }
            _ => return None,
        })
    }

    /// As in FieldsV1.
    pub fn text(&self) -> String {
        match self {
            PathElement::Field(name) => ["f:", name].concat(),
            PathElement::Value(value) => format!("v:{value}"),
            PathElement::Index(index) => format!("i:{index}"),
            PathElement::Key(keys) => {
                let mut out = String::new();
                write_key(&mut out, keys.iter().map(|(name, value)| (&**name, value)));
                out
            }
        }
    }
}

/// `k:{"name":"x"}`; the keys come sorted by name.
pub(super) fn write_key<'k>(out: &mut String, keys: impl Iterator<Item = (&'k str, &'k Value)>) {
    out.push_str("k:{");
    for (at, (name, value)) in keys.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        match value {
            Value::String(text) => write_string(out, text),
            other => out.push_str(&other.to_string()),
        }
    }
    out.push('}');
}

fn write_string(out: &mut String, text: &str) {
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// As in the paths of upstream's messages: `.name`, `[name="x",port=80]`, `[="x"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn text(value: &Value) -> String {
            match value {
                Value::String(text) => quote(text),
                other => other.to_string(),
            }
        }
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
                write!(f, "[{}]", keys.join(","))
            }
            PathElement::Value(value) => write!(f, "[={}]", text(value)),
            PathElement::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &PathElement) -> Ordering {
        match (self, other) {
            (PathElement::Field(a), PathElement::Field(b)) => a.cmp(b),
            (PathElement::Key(a), PathElement::Key(b)) => {
                let pairs = a.iter().zip(b).map(|(a, b)| a.0.cmp(&b.0).then_with(|| order(&a.1, &b.1)));
                let first = pairs.into_iter().find(|order| order.is_ne());
                first.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (PathElement::Value(a), PathElement::Value(b)) => order(a, b),
            (PathElement::Index(a), PathElement::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &PathElement) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &PathElement) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PathElement {}

fn number(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
    }
}

/// The order of values: numbers, texts, booleans, lists, maps, null.
pub(super) fn order(a: &Value, b: &Value) -> Ordering {
    fn rank(value: &Value) -> u8 {
        match value {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => number(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
            a.to_string().cmp(&b.to_string())
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

/// A set of paths: a tree whose nodes are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: Vec<Node>,
}

/// One element below some path. In a set, a node is a member or has children.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    element: PathElement,
    member: bool,
    children: FieldSet,
}

/// A path within a set: itself, and what is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub member: bool,
    pub below: FieldSet,
}

impl Part {
    pub fn leaf() -> Part {
        Part { member: true, below: FieldSet::default() }
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// An element of a set: whether it is a member, and what is below it.
#[derive(Clone, Copy)]
pub(super) struct Child<'s> {
    pub member: bool,
    pub children: &'s FieldSet,
}

/// What [`FieldSet::make_whole`] finds at an element.
pub(super) enum Inside<T> {
    Whole,
    More(T),
    Unknown,
}

fn by_element(node: &Node, element: &PathElement) -> Ordering {
    node.element.cmp(element)
}

impl FieldSet {
    pub const fn new() -> FieldSet {
        FieldSet { nodes: Vec::new() }
    }

    /// A set of paths that consist of field names only: `[["status"], ["metadata", "name"]]`.
    pub fn of_fields(paths: &[&[&str]]) -> FieldSet {
        let mut set = FieldSet::new();
        for path in paths {
            set.insert(path.iter().map(|name| PathElement::Field(Name::Owned((*name).to_string()))));
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many paths it holds.
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|node| usize::from(node.member) + node.children.len()).sum()
    }

    /// Adds a path. An empty path adds nothing.
    pub fn insert(&mut self, path: impl IntoIterator<Item = PathElement>) {
        let mut path = path.into_iter().peekable();
        let mut set = self;
        while let Some(element) = path.next() {
            let at = match set.nodes.binary_search_by(|node| by_element(node, &element)) {
                Ok(at) => at,
                Err(at) => {
                    set.nodes.insert(at, Node { element, member: false, children: FieldSet::new() });
                    at
                }
            };
            let node = &mut set.nodes[at];
            node.member |= path.peek().is_none();
            set = &mut node.children;
        }
    }

    /// Whether this very path is a member.
    pub fn has(&self, path: &[PathElement]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Some(node) = self.get(first) else { return false };
        if rest.is_empty() { node.member } else { node.children.has(rest) }
    }

    fn get(&self, element: &PathElement) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| by_element(node, element)).ok()?;
        self.nodes.get(at)
    }

    /// What is at and below an element.
    pub(super) fn child(&self, element: &PathElement) -> Option<Child<'_>> {
        self.get(element).map(|node| Child { member: node.member, children: &node.children })
    }

    /// What is at and below a field.
    pub(super) fn field(&self, name: &str) -> Option<Child<'_>> {
        let by_name = |node: &Node| match &node.element {
            PathElement::Field(field) => (**field).cmp(name),
            _ => Ordering::Greater,
        };
        let node = self.nodes.get(self.nodes.binary_search_by(by_name).ok()?)?;
        Some(Child { member: node.member, children: &node.children })
    }

    /// Every element that is a member or has members below it, in order.
    pub(super) fn children(&self) -> impl Iterator<Item = (&PathElement, Child<'_>)> {
        self.nodes.iter().map(|node| (&node.element, Child { member: node.member, children: &node.children }))
    }

    /// The set with further members: `more` says of an element what is known inside of it and whether it is to be
    /// a member.
    pub(super) fn map_members<T: Copy>(
        &self,
        at: T,
        more: &impl Fn(T, &PathElement) -> (T, bool),
    ) -> FieldSet {
        let node = |node: &Node| {
            let (inside, member) = more(at, &node.element);
            Node {
                element: node.element.clone(),
                member: node.member || member,
                children: node.children.map_members(inside, more),
            }
        };
        FieldSet { nodes: self.nodes.iter().map(node).collect() }
    }

    /// Every path, those of a set's own elements before those below them (upstream's order).
    pub(super) fn for_each<'s>(
        &'s self,
        path: &mut Vec<&'s PathElement>,
        visit: &mut impl FnMut(&[&PathElement]),
    ) {
        for node in self.nodes.iter().filter(|node| node.member) {
            path.push(&node.element);
            visit(path);
            path.pop();
        }
        for node in &self.nodes {
            path.push(&node.element);
            node.children.for_each(path, visit);
            path.pop();
        }
    }

    /// Whether all members are members of `other`.
    pub fn is_subset(&self, other: &FieldSet) -> bool {
        self.nodes.iter().all(|node| {
            let same = other.get(&node.element);
            (!node.member || same.is_some_and(|same| same.member))
                && (node.children.is_empty()
                    || same.is_some_and(|same| node.children.is_subset(&same.children)))
        })
    }

    /// Only what is at or below one of the patterns; `None` stands for any element.
    pub(super) fn retain_matching(&mut self, patterns: &[&[Option<&str>]]) {
        self.filter(|node| {
            let matches = |pattern: &&&[Option<&str>]| match pattern.first() {
                Some(Some(name)) => matches!(&node.element, PathElement::Field(field) if field == name),
                Some(None) => true,
                None => false,
            };
            let inside: Vec<&[Option<&str>]> =
                patterns.iter().filter(matches).filter_map(|pattern| pattern.get(1..)).collect();
            if inside.iter().any(|rest| rest.is_empty()) {
                return;
            }
            node.member = false;
            node.children.retain_matching(&inside);
        });
    }

    /// Makes the paths of fields that count as one value such: `whole` says what is known inside of an element,
    /// or that it is one.
    pub(super) fn make_whole<T: Copy>(&mut self, at: T, whole: &impl Fn(T, &PathElement) -> Inside<T>) {
        for node in &mut self.nodes {
            match whole(at, &node.element) {
                Inside::Whole => (node.member, node.children) = (true, FieldSet::new()),
                Inside::More(inside) => node.children.make_whole(inside, whole),
                Inside::Unknown => {}
            }
        }
    }

    /// Appends what is at `element`, which must come after all that is there. Nothing is appended for nothing.
    pub(super) fn push(&mut self, element: PathElement, part: Part) {
        if !part.is_empty() {
            debug_assert!(self.nodes.last().is_none_or(|last| last.element < element));
            self.nodes.push(Node { element, member: part.member, children: part.below });
        }
    }

    /// Paths that are in either.
    pub fn union(self, other: FieldSet) -> FieldSet {
        if self.is_empty() {
            return other;
        }
        let mut nodes = Vec::with_capacity(self.nodes.len() + other.nodes.len());
        let mut right = other.nodes.into_iter().peekable();
        for mut node in self.nodes {
            while let Some(before) = right.next_if(|r| r.element < node.element) {
                nodes.push(before);
            }
            if let Some(same) = right.next_if(|r| r.element == node.element) {
                node.member |= same.member;
                node.children = node.children.union(same.children);
            }
            nodes.push(node);
        }
        nodes.extend(right);
        FieldSet { nodes }
    }

    fn filter(&mut self, change: impl Fn(&mut Node)) {
        self.nodes.retain_mut(|node| {
            change(node);
            node.member || !node.children.is_empty()
        });
    }

    /// Without the members of `other`. Paths below a member of it stay.
    pub fn subtract(&mut self, other: &FieldSet) {
        if other.is_empty() {
            return;
        }
        self.filter(|node| {
            if let Some(same) = other.get(&node.element) {
                node.member &= !same.member;
                node.children.subtract(&same.children);
            }
        });
    }

    /// Without the members of `other` and everything below them.
    pub fn subtract_trees(&mut self, other: &FieldSet) {
        if other.is_empty() {
            return;
        }
        self.filter(|node| match other.get(&node.element) {
            Some(same) if same.member => (node.member, node.children) = (false, FieldSet::new()),
            Some(same) => node.children.subtract_trees(&same.children),
            None => {}
        });
    }

    /// Whether both have a member in common.
    pub fn intersects(&self, other: &FieldSet) -> bool {
        self.nodes.iter().any(|node| {
            other
                .get(&node.element)
                .is_some_and(|same| (node.member && same.member) || node.children.intersects(&same.children))
        })
    }

    /// Paths that are in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let both = |node: &Node| {
            let same = other.get(&node.element)?;
            let (member, children) = (node.member && same.member, node.children.intersection(&same.children));
            (member || !children.is_empty()).then(|| Node { element: node.element.clone(), member, children })
        };
        FieldSet { nodes: self.nodes.iter().filter_map(both).collect() }
    }

    /// FieldsV1 as JSON text in the canonical order, escaped as Go does.
    pub fn to_json(&self) -> String {
        self.written(false)
    }

    /// FieldsV1 as they are recorded: ordered by text, as the JSON is that others make of them and send back.
    pub(super) fn to_text(&self) -> String {
        self.written(true)
    }

    fn written(&self, by_text: bool) -> String {
        let mut out = Vec::new();
        self.write(false, by_text, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    fn write(&self, this: bool, by_text: bool, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut comma = false;
        if this && !self.is_empty() {
            out.extend_from_slice(b"\".\":{}");
            comma = true;
        }
        let mut nodes: Vec<(String, &Node)> =
            self.nodes.iter().map(|node| (node.element.text(), node)).collect();
        if by_text && !nodes.is_sorted_by(|a, b| a.0 <= b.0) {
            nodes.sort_by(|a, b| a.0.cmp(&b.0));
        }
        for (text, node) in nodes {
            if comma {
                out.push(b',');
            }
            comma = true;
            json::write_string(&text, out);
            out.push(b':');
            node.children.write(node.member, by_text, out);
        }
        out.push(b'}');
    }

    /// Reads FieldsV1. Keys of an unknown sort are left out; `None` if a known one is malformed.
    pub fn from_json(text: &str) -> Option<FieldSet> {
        read(&Tree::read(text)?, ROOT).map(|part| part.below)
    }
}

fn read(tree: &Tree<'_>, at: usize) -> Option<Part> {
    let mut part = Part::default();
    for child in tree.children(at) {
        let key = tree.plain_name(child);
        if key == "." {
            part.member = true;
            continue;
        }
        let Some(element) = PathElement::parse(&key) else {
            match key.as_bytes() {
                [b'f' | b'v' | b'k' | b'i', b':', ..] => return None,
                [_, b':', ..] => continue,
                _ => return None,
            }
        };
        let below = read(tree, child)?;
        let node = Node { element, member: below.member, children: below.below };
        part.below.nodes.push(node);
    }
    // an empty object stands for the path itself
    part.member |= part.below.is_empty();
    let ascending = |pair: &[Node]| matches!(pair, [a, b] if a.element < b.element);
    if part.below.nodes.windows(2).all(ascending) {
        return Some(part);
    }
    part.below.nodes.sort_by(|a, b| a.element.cmp(&b.element));
    // `i:0` and `i:-0` are one element, and so are keys in another order
    part.below.nodes.dedup_by(|again, known| {
        let one = again.element.cmp(&known.element).is_eq();
        if one {
            known.member |= again.member;
            let (a, b) = (std::mem::take(&mut known.children), std::mem::take(&mut again.children));
            known.children = a.union(b);
        }
        one
    });
    Some(part)
}
