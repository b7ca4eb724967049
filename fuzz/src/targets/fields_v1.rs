//! Sets of fields in their JSON form (FieldsV1), one or two of them on lines of their own, and lists of them.

use apimachinery::codec::json;
use apimachinery::managed_fields::{FieldSet, PathElement, decode, encode};
use serde_json::Value;

use super::first_line;
use crate::bounded;

pub fn run(bytes: &[u8]) {
    let (first, second) = first_line(bytes);
    if let Some(element) = PathElement::parse(&String::from_utf8_lossy(first)) {
        let written = element.text();
        assert_eq!(PathElement::parse(&written).as_ref(), Some(&element), "written as {written}");
    }
    let Ok((first, _)) = json::parse(first) else { return };
    entries(&first);
    let set = |value: &Value| FieldSet::from_json(&value.to_string());
    let Some(a) = bounded(|| set(&first)) else { return };
    round(&a);
    let second = json::parse(second).ok().and_then(|(value, _)| set(&value));
    let Some(b) = second else { return };
    round(&b);

    let both = a.clone().union(b.clone());
    assert!(a.is_subset(&both) && b.is_subset(&both), "a union has both");
    assert_eq!(both, b.clone().union(a.clone()), "a union, the other way round");
    assert!(both.len() <= a.len() + b.len());
    let common = a.intersection(&b);
    assert!(common.is_subset(&a) && common.is_subset(&b), "an intersection is in both");
    assert_eq!(a.intersects(&b), !common.is_empty());
    let mut rest = a.clone();
    rest.subtract(&b);
    assert!(rest.is_subset(&a) && !rest.intersects(&b), "what is left is of the first alone");
    assert_eq!(rest.len() + common.len(), a.len());
    assert_eq!(rest.clone().union(common), a, "both parts make the whole");
    let mut trees = a.clone();
    trees.subtract_trees(&b);
    assert!(trees.is_subset(&rest));
    let mut none = a.clone();
    none.subtract(&a);
    assert!(none.is_empty());
}

fn round(set: &FieldSet) {
    let text = set.to_json();
    assert_eq!(FieldSet::from_json(&text).as_ref(), Some(set), "{text}");
    let (read, duplicates) = json::parse(text.as_bytes()).expect("JSON that was written is read");
    assert_eq!(FieldSet::from_json(&read.to_string()).as_ref(), Some(set), "{text}");
    assert_eq!(duplicates, [""; 0], "{text}");
}

fn entries(list: &Value) {
    let Ok(known) = decode(Some(list)) else { return };
    let written = encode(known.clone());
    let read = decode(written.as_ref()).expect("managed fields that were written");
    assert_eq!(encode(read), written);
    assert_eq!(known.is_empty(), written.is_none());
}
