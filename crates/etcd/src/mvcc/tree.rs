//! An ordered map whose clones share what they have in common.
//!
//! A clone costs one reference count; a change copies the nodes on its path that a clone still shares, and
//! changes the others in place. So a reader works on a snapshot for as long as it likes and stops nobody.

use std::sync::Arc;

use bytes::Bytes;

/// Entries per node: small, because a change after a clone copies a node at each level.
const MAX: usize = 32;
const MIN: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Tree<V> {
    root: Arc<Node<V>>,
}

#[derive(Debug, Clone)]
enum Node<V> {
    Leaf(Vec<(Bytes, V)>),
    Inner(Vec<Child<V>>),
}

#[derive(Debug)]
struct Child<V> {
    /// Not above any key of `node`, and above every key of the child before.
    from: Bytes,
    /// Entries below `node`.
    len: usize,
    node: Arc<Node<V>>,
}

impl<V> Clone for Child<V> {
    fn clone(&self) -> Self {
        Child { from: self.from.clone(), len: self.len, node: Arc::clone(&self.node) }
    }
}

impl<V: Clone> Default for Tree<V> {
    fn default() -> Self {
        Tree { root: Arc::new(Node::Leaf(Vec::new())) }
    }
}

impl<V: Clone> Tree<V> {
    pub(crate) fn len(&self) -> usize {
        self.root.len()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
                    return entries.get(at).map(|(_, value)| value);
                }
                Node::Inner(children) => node = &children.get(child_of(children, key))?.node,
            }
        }
    }

    /// Copies the path to `key` where a clone shares it, also when the key is not there.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
                    return entries.get_mut(at).map(|(_, value)| value);
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    node = Arc::make_mut(&mut children.get_mut(at)?.node);
                }
            }
        }
    }

    /// Sets `key` and gives back what it was before.
    pub(crate) fn insert(&mut self, key: Bytes, value: V) -> Option<V> {
        let (old, split) = Arc::make_mut(&mut self.root).insert(key, value);
        if let Some(right) = split {
            let left = Child { from: Bytes::new(), len: self.root.len(), node: Arc::clone(&self.root) };
            self.root = Arc::new(Node::Inner(vec![left, right]));
        }
        old
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        // Looked up first: a key that is not there must copy nothing.
        self.get(key)?;
        let old = Arc::make_mut(&mut self.root).remove(key);
        while let Node::Inner(children) = &*self.root {
            let Some([only]) = children.get(..).filter(|children| children.len() == 1) else { break };
            self.root = Arc::clone(&only.node);
        }
        old
    }

    /// How many keys are below `key`.
    fn rank(&self, key: &[u8]) -> usize {
        let mut node = &*self.root;
        let mut rank = 0;
        loop {
            match node {
                Node::Leaf(entries) => return rank + entries.partition_point(|(k, _)| k.as_ref() < key),
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    rank += children.iter().take(at).map(|child| child.len).sum::<usize>();
                    match children.get(at) {
                        Some(child) => node = &child.node,
                        None => return rank,
                    }
                }
            }
        }
    }

    /// How many keys are in `start..end`, without visiting them.
    pub(crate) fn count(&self, start: &[u8], end: Option<&[u8]>) -> usize {
        let end = end.map_or(self.len(), |end| self.rank(end));
        end.saturating_sub(self.rank(start))
    }

    /// The entries in `start..end`, in key order.
    pub(crate) fn range<'a>(&'a self, start: &[u8], end: Option<&'a [u8]>) -> Iter<'a, V> {
        let mut iter = Iter { stack: Vec::new(), leaf: [].iter(), end };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|(k, _)| k.as_ref() < start);
                    iter.leaf = entries.get(at..).unwrap_or_default().iter();
                    return iter;
                }
                Node::Inner(children) => {
                    let at = child_of(children, start);
                    let mut rest = children.get(at..).unwrap_or_default().iter();
                    match rest.next() {
                        Some(child) => node = &child.node,
                        None => return iter,
                    }
                    iter.stack.push(rest);
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_, V> {
        self.range(&[], None)
    }
}

/// The child that holds `key` if any does.
fn child_of<V>(children: &[Child<V>], key: &[u8]) -> usize {
    children.partition_point(|child| child.from.as_ref() <= key).saturating_sub(1)
}

/// Where to split a full node into which `at` was last inserted: in the middle, or, when keys come in order,
/// at the end, so that the left part stays full.
fn split_point(len: usize, at: usize) -> usize {
    if at + 1 == len { len - 1 } else { len / 2 }
}

impl<V: Clone> Node<V> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.iter().map(|child| child.len).sum(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn insert(&mut self, key: Bytes, value: V) -> (Option<V>, Option<Child<V>>) {
        match self {
            Node::Leaf(entries) => {
                let at = match entries.binary_search_by(|(k, _)| k.cmp(&key)) {
                    Ok(at) => match entries.get_mut(at) {
                        Some((_, old)) => return (Some(std::mem::replace(old, value)), None),
                        None => return (None, None),
                    },
                    Err(at) => at,
                };
                entries.insert(at, (key, value));
                if entries.len() <= MAX {
                    return (None, None);
                }
                let right = entries.split_off(split_point(entries.len(), at));
                let from = right.first().map(|(key, _)| key.clone()).unwrap_or_default();
                let right = Child { from, len: right.len(), node: Arc::new(Node::Leaf(right)) };
                (None, Some(right))
            }
            Node::Inner(children) => {
                let at = child_of(children, &key);
                let Some(child) = children.get_mut(at) else { return (None, None) };
                let (old, split) = Arc::make_mut(&mut child.node).insert(key, value);
                if old.is_none() {
                    child.len += 1;
                }
                let Some(right) = split else { return (old, None) };
                child.len -= right.len;
                children.insert(at + 1, right);
                if children.len() <= MAX {
                    return (old, None);
                }
                let right = children.split_off(split_point(children.len(), at + 1));
                let from = right.first().map(|child| child.from.clone()).unwrap_or_default();
                let len = right.iter().map(|child| child.len).sum();
                (old, Some(Child { from, len, node: Arc::new(Node::Inner(right)) }))
            }
        }
    }

    /// `key` must be there.
    fn remove(&mut self, key: &[u8]) -> Option<V> {
        match self {
            Node::Leaf(entries) => {
                let at = entries.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
                Some(entries.remove(at).1)
            }
            Node::Inner(children) => {
                let at = child_of(children, key);
                let child = children.get_mut(at)?;
                let old = Arc::make_mut(&mut child.node).remove(key);
                child.len -= usize::from(old.is_some());
                if child.node.width() == 0 {
                    children.remove(at);
                } else if child.node.width() < MIN {
                    merge(children, at);
                }
                old
            }
        }
    }
}

/// Joins the narrow child `at` with a neighbour when both fit in one node.
fn merge<V: Clone>(children: &mut Vec<Child<V>>, at: usize) {
    let width = |at: usize| children.get(at).map_or(usize::MAX / 2, |child| child.node.width());
    let left = if at > 0 && width(at - 1) + width(at) <= MAX {
        at - 1
    } else if width(at) + width(at + 1) <= MAX {
        at
    } else {
        return;
    };
    let right = children.remove(left + 1);
    if let Some(left) = children.get_mut(left) {
        left.len += right.len;
        match (Arc::make_mut(&mut left.node), Arc::unwrap_or_clone(right.node)) {
            (Node::Leaf(left), Node::Leaf(right)) => left.extend(right),
            (Node::Inner(left), Node::Inner(right)) => left.extend(right),
            _ => unreachable!("neighbours are at one level"),
        }
    }
}

pub(crate) struct Iter<'a, V> {
    stack: Vec<std::slice::Iter<'a, Child<V>>>,
    leaf: std::slice::Iter<'a, (Bytes, V)>,
    end: Option<&'a [u8]>,
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a Bytes, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                if self.end.is_some_and(|end| key.as_ref() >= end) {
                    self.leaf = [].iter();
                    self.stack.clear();
                    return None;
                }
                return Some((key, value));
            }
            let mut node = loop {
                match self.stack.last_mut()?.next() {
                    Some(child) => break &*child.node,
                    None => self.stack.pop(),
                };
            };
            while let Node::Inner(children) = node {
                let mut rest = children.iter();
                node = &rest.next()?.node;
                self.stack.push(rest);
            }
            if let Node::Leaf(entries) = node {
                self.leaf = entries.iter();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u16) -> Bytes {
        format!("{n:04}").into()
    }

    fn check(tree: &Tree<u32>, model: &BTreeMap<Bytes, u32>, from: u16, to: u16) {
        assert_eq!(tree.len(), model.len());
        assert!(tree.iter().eq(model.iter()));
        let (from, to) = (key(from.min(to)), key(from.max(to)));
        assert!(tree.range(&from, Some(&to)).eq(model.range(from.clone()..to.clone())));
        assert_eq!(tree.count(&from, Some(&to)), model.range(from.clone()..to).count());
        assert_eq!(tree.count(&from, None), model.range(from..).count());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn is_a_map(ops in prop::collection::vec((0u16..1500, 0u32..5), 0..3000), from in 0u16..1500, to in 0u16..1500) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
            let mut snapshots = Vec::new();
            for (at, (n, what)) in ops.iter().enumerate() {
                if *what < 2 {
                    prop_assert_eq!(tree.remove(&key(*n)), model.remove(&key(*n)));
                } else {
                    prop_assert_eq!(tree.insert(key(*n), *what), model.insert(key(*n), *what));
                }
                prop_assert_eq!(tree.get(&key(*n)), model.get(&key(*n)));
                if at % 500 == 0 {
                    snapshots.push((tree.clone(), model.clone()));
                }
            }
            check(&tree, &model, from, to);
            for (tree, model) in &snapshots {
                check(tree, model, from, to);
            }
        }

        #[test]
        fn drains(len in 0u16..1500, by in 1u16..7) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
            for n in 0..len {
                tree.insert(key(n), 1);
                model.insert(key(n), 1);
            }
            check(&tree, &model, 0, len);
            for n in (0..len).filter(|n| n % 7 >= by) {
                tree.remove(&key(n));
                model.remove(&key(n));
            }
            check(&tree, &model, len / 3, len / 2);
            for n in 0..len {
                tree.remove(&key(n));
            }
            prop_assert_eq!(tree.len(), 0);
        }
    }
}
