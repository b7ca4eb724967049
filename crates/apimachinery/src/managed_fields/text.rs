//! FieldsV1 as the JSON text that they are kept as. A [`Tree`] says where in the text each element stands: one
//! allocation and one turn over the text, where a tree of values takes thousands.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use crate::codec::MAX_DEPTH;
use crate::codec::json::write_string;

/// Of a text as normal form has it: compact, with Go's escapes. So elements are the same if their texts are.
pub(super) struct Tree<'t> {
    text: &'t str,
    /// In the order of the text; the first one is the set itself.
    elements: Vec<Element>,
}

struct Element {
    /// Where its name begins and ends, without the quotes.
    name: [u32; 2],
    /// Where what is below it ends.
    end: u32,
    /// The first element that is not below it.
    next: u32,
}

/// The set itself.
pub(super) const ROOT: usize = 0;

impl<'t> Tree<'t> {
    /// `None`: it is anything but objects in objects.
    pub fn read(text: &'t str) -> Option<Tree<'t>> {
        let bytes = text.as_bytes();
        u32::try_from(bytes.len()).ok()?;
        let mut elements = Vec::with_capacity(bytes.len() / 16 + 1);
        let mut open: Vec<usize> = Vec::with_capacity(16);
        let (mut name, mut at) = ([0, 0], 0);
        loop {
            if *bytes.get(at)? != b'{' || open.len() == MAX_DEPTH {
                return None;
            }
            at += 1;
            open.push(elements.len());
            elements.push(Element { name, end: 0, next: 0 });
            loop {
                match *bytes.get(at)? {
                    b'}' => {
                        at += 1;
                        let next = elements.len() as u32;
                        let element = elements.get_mut(open.pop()?)?;
                        (element.end, element.next) = (at as u32, next);
                        if open.is_empty() {
                            return (at == bytes.len()).then_some(Tree { text, elements });
                        }
                    }
                    b',' => at += 1,
                    b'"' => break,
                    _ => return None,
                }
            }
            let begin = at + 1;
            at = begin;
            loop {
                at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
                if bytes[at] == b'"' {
                    break;
                }
                at += 2;
            }
            name = [begin as u32, at as u32];
            if *bytes.get(at + 1)? != b':' {
                return None;
            }
            at += 2;
        }
    }

    fn slice(&self, range: Range<u32>) -> &'t str {
        self.text.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// As it stands in the text, with its escapes.
    pub fn name(&self, at: usize) -> &'t str {
        self.elements.get(at).map_or("", |element| self.slice(element.name[0]..element.name[1]))
    }

    /// Without escapes.
    pub fn plain_name(&self, at: usize) -> Cow<'t, str> {
        let name = self.name(at);
        match name.contains('\\') {
            true => serde_json::from_str(&format!("\"{name}\"")).map_or(Cow::Borrowed(name), Cow::Owned),
            false => Cow::Borrowed(name),
        }
    }

    /// An element with all below it: `"f:name":{}`.
    fn whole(&self, at: usize) -> &'t str {
        self.elements.get(at).map_or("", |element| self.slice(element.name[0] - 1..element.end))
    }

    fn next(&self, at: usize) -> usize {
        self.elements.get(at).map_or(usize::MAX, |element| element.next as usize)
    }

    /// The elements right below one, in the order of the text.
    pub fn children(&self, of: usize) -> impl Iterator<Item = usize> {
        let end = self.next(of);
        std::iter::successors(Some(of + 1), |at| Some(self.next(*at))).take_while(move |at| *at < end)
    }

    /// Whether there is nothing below it, which stands for the element itself.
    pub fn is_leaf(&self, at: usize) -> bool {
        self.next(at) == at + 1
    }

    /// Whether an element that has others below it is a member itself.
    pub fn has_dot(&self, at: usize) -> bool {
        self.children(at).any(|child| self.name(child) == ".")
    }
}

/// What is below one element, for who asks for one after the other.
pub(super) struct Children<'x, 't> {
    tree: &'x Tree<'t>,
    first: usize,
    end: usize,
    /// Behind the one that was found last: nearly always it is the next that is asked for.
    at: usize,
    pub count: usize,
    pub has_dot: bool,
    /// By name, once there has been a search among many.
    sorted: Vec<usize>,
}

/// So many are looked through.
const FEW: usize = 64;

impl<'x, 't> Children<'x, 't> {
    pub fn of(tree: &'x Tree<'t>, at: usize) -> Children<'x, 't> {
        let (mut count, mut has_dot) = (0, false);
        for child in tree.children(at) {
            count += 1;
            has_dot |= tree.name(child) == ".";
        }
        let (first, end) = (at + 1, tree.next(at));
        Children { tree, first, end, at: first, count, has_dot, sorted: Vec::new() }
    }

    pub fn find(&mut self, name: &str) -> Option<usize> {
        let tree = self.tree;
        if self.at < self.end && tree.name(self.at) == "." {
            self.at = tree.next(self.at);
        }
        let found = if self.at < self.end && tree.name(self.at) == name {
            self.at
        } else if self.count <= FEW {
            // onwards, then from the front: most lists are nearly in order
            let onwards = |at: usize, end: usize| {
                let step = |at: &usize| Some(tree.next(*at));
                std::iter::successors(Some(at), step).take_while(move |at| *at < end)
            };
            let mut all = onwards(self.at, self.end).chain(onwards(self.first, self.at));
            all.find(|child| tree.name(*child) == name)?
        } else {
            if self.sorted.is_empty() {
                self.sorted.extend(tree.children(self.first - 1));
                self.sorted.sort_unstable_by_key(|child| tree.name(*child));
            }
            let at = self.sorted.binary_search_by_key(&name, |child| tree.name(*child)).ok()?;
            self.sorted[at]
        };
        self.at = tree.next(found);
        Some(found)
    }
}

/// The name of an element as it stands in a text, from its plain form; `room` is for what has to be written anew.
pub(super) fn escaped<'n>(plain: &'n str, room: &'n mut Vec<u8>) -> &'n str {
    if plain
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b':' | b'-'..=b'/' | b'_'))
    {
        return plain;
    }
    room.clear();
    write_string(plain, room);
    let inner = room.get(1..room.len().saturating_sub(1)).unwrap_or_default();
    std::str::from_utf8(inner).unwrap_or_default()
}

/// The text without some elements: `keep` says of each what becomes of it.
pub(super) struct Cut<'x, 't> {
    pub tree: &'x Tree<'t>,
    pub out: String,
}

impl Cut<'_, '_> {
    /// Writes what is below `at`, an object, of which `member` tells whether the element itself stays. Of the
    /// elements that `cuts` names, in any order, goes what [`Cut::element`] says.
    ///
    /// # Returns
    /// Whether anything below stays.
    pub fn object(&mut self, at: usize, member: bool, cuts: &[(usize, super::set::Child<'_>)]) -> bool {
        self.out.push('{');
        let begin = self.out.len();
        if member {
            self.out.push_str("\".\":{}");
        }
        let bare = self.out.len();
        for child in self.tree.children(at) {
            if self.tree.name(child) == "." {
                continue;
            }
            let before = self.out.len();
            if before > begin {
                self.out.push(',');
            }
            let stays = match cuts.iter().find(|(cut, _)| *cut == child) {
                Some((_, set)) => self.element(child, set),
                None => {
                    self.out.push_str(self.tree.whole(child));
                    true
                }
            };
            if !stays {
                self.out.truncate(before);
            }
        }
        let any = self.out.len() > bare;
        if !any {
            self.out.truncate(begin);
        }
        self.out.push('}');
        any
    }

    fn element(&mut self, at: usize, set: &super::set::Child<'_>) -> bool {
        let member = (self.tree.is_leaf(at) || self.tree.has_dot(at)) && !set.member;
        self.out.push('"');
        self.out.push_str(self.tree.name(at));
        self.out.push_str("\":");
        let cuts = cuts(self.tree, at, set.children);
        self.object(at, member, &cuts) || member
    }
}

/// Which elements below one a set has something to say about.
pub(super) fn cuts<'s>(
    tree: &Tree<'_>,
    at: usize,
    set: &'s super::set::FieldSet,
) -> Vec<(usize, super::set::Child<'s>)> {
    let mut children = Children::of(tree, at);
    let mut name = Vec::new();
    let find = |(element, child): (&super::set::PathElement, super::set::Child<'s>)| {
        Some((children.find(escaped(&element.text(), &mut name))?, child))
    };
    set.children().filter_map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_elements_stand() {
        let text = r#"{"f:a":{},"f:b":{".":{},"k:{\"n\":\"x\"}":{".":{},"f:n":{}}},"v:\"1\"":{}}"#;
        let tree = Tree::read(text).unwrap();
        let names =
            |at| tree.children(at).map(|child| tree.plain_name(child).into_owned()).collect::<Vec<_>>();
        assert_eq!(names(ROOT), ["f:a", "f:b", "v:\"1\""]);
        let b = tree.children(ROOT).nth(1).unwrap();
        assert_eq!(names(b), [".", "k:{\"n\":\"x\"}"]);
        assert!(tree.has_dot(b) && !tree.is_leaf(b) && tree.is_leaf(1));
        let mut children = Children::of(&tree, ROOT);
        for name in ["f:b", r#"v:\"1\""#, "f:a", "f:b"] {
            assert_eq!(children.find(name).map(|at| tree.name(at)), Some(name));
        }
        assert_eq!(children.find("f:c"), None);
        for broken in ["", "{", "[]", "{}}", r#"{"a}"#, r#"{"a":1}"#, r#"{"a" {}}"#, r#"{"a\"#, "null"] {
            assert!(Tree::read(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn many() {
        let names: Vec<String> = (0..100).map(|n| format!("f:{n}")).collect();
        let inner: Vec<String> = names.iter().rev().map(|name| format!("\"{name}\":{{}}")).collect();
        let text = format!("{{{}}}", inner.join(","));
        let tree = Tree::read(&text).unwrap();
        let mut children = Children::of(&tree, ROOT);
        assert!(names.iter().all(|name| children.find(name).is_some_and(|at| tree.name(at) == name)));
        assert_eq!(children.find("f:100"), None);
    }
}
