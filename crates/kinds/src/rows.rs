//! Tables of validation: an object and how it is changed, and the faults that it then has, as `path: Type`.

use apimachinery::field::{Error, ErrorList};
use apimachinery::patch::merge;
use serde_json::Value;

/// A kind and an object of it without faults.
pub struct Subject {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub good: Value,
}

impl Subject {
    fn made(&self, patch: &Value) -> Value {
        let mut object = merge::apply(self.good.clone(), patch.clone()).expect("a merge patch");
        self.default(&mut object);
        object
    }

    fn default(&self, object: &mut Value) {
        let id = api::object_type(self.group, self.version, self.kind).expect("a built-in kind");
        apimachinery::codec::normal::normalize(api::schema(), id, object).expect("a good shape");
        crate::defaults::apply(id, object);
    }

    /// The object after defaults and what its strategy does to a new one.
    pub fn create(&self, patch: &Value) -> Value {
        let mut object = self.made(patch);
        (crate::strategy(self.group, self.kind).prepare_for_create)(&mut object);
        object
    }

    /// The faults of a new object, after `patch` on the good one.
    pub fn created(&self, patch: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        (crate::strategy(self.group, self.kind).validate)(&self.create(&patch), &mut errors);
        assert_eq!(short(&errors), expect, "{patch}\n{errors:#?}");
    }

    /// The one fault of a new object, in full.
    pub fn says(&self, patch: Value, expect: &str) {
        let mut errors = ErrorList::new();
        (crate::strategy(self.group, self.kind).validate)(&self.create(&patch), &mut errors);
        assert_eq!(apimachinery::field::aggregate(&errors).unwrap_or_default(), expect, "{patch}");
    }

    /// An old object and the new one after its strategy.
    pub fn update(&self, before: &Value, after: &Value, subresource: &str) -> (Value, Value) {
        let old = self.create(before);
        let mut new = merge::apply(old.clone(), after.clone()).expect("a merge patch");
        self.default(&mut new);
        (crate::strategy(self.group, self.kind).prepare_for_update)(&mut new, &old, subresource);
        (old, new)
    }

    /// The faults of a change: `before` on the good object is the old one, `after` on that the new one.
    pub fn updated(&self, before: Value, after: Value, subresource: &str, expect: &[&str]) {
        let (old, new) = self.update(&before, &after, subresource);
        let mut errors = ErrorList::new();
        (crate::strategy(self.group, self.kind).validate_update)(&new, &old, subresource, &mut errors);
        assert_eq!(short(&errors), expect, "{before} -> {after}\n{errors:#?}");
    }

    /// What the client is warned of when it makes this.
    pub fn warns(&self, patch: Value, expect: &[&str]) {
        let got = (crate::strategy(self.group, self.kind).warnings)(&self.create(&patch), None, "");
        assert_eq!(got, expect, "{patch}");
    }
}

/// `path: Type` of each fault, each one once.
fn short(errors: &[Error]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for error in errors {
        let text = format!("{}: {:?}", error.field, error.kind);
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}
