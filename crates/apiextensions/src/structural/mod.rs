//! Structural schemas: what a CustomResourceDefinition says about its objects, and what follows from it.
//!
//! A schema begins as JSON (`JSONSchemaProps`). [`rules::check`] says whether it is structural, [`compile`] makes
//! the small tree of [`Structural`] from one that is. The tree then prunes ([`prune`]), defaults ([`defaults`]),
//! validates ([`validate`], in the words of upstream's kube-openapi) and watches over lists ([`lists`]) and embedded
//! metadata ([`metadata`]). Rules in CEL are kept as text: they are compiled elsewhere.
//!
//! Where it comes from: upstream's `apiextensions-apiserver/pkg/apiserver/schema`, KEP-1693 (structural schemas),
//! KEP-4008 (ratcheting).
//!
//! Recursion follows a schema or an object, both of which the decoder keeps below [`apimachinery::codec::MAX_DEPTH`].

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

use apimachinery::schema::ListType;

mod compile;
pub mod defaults;
pub mod formats;
pub(crate) mod items;
pub mod lists;
pub mod metadata;
pub mod prune;
pub mod rules;
pub mod validate;

pub use compile::{Compiler, Unsupported, compile};

/// One node of a schema. Nodes that say the same are one node: schemas repeat themselves.
///
/// Below `allOf`, `anyOf`, `oneOf` and `not` only what limits values counts; [`rules::check`] holds that.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    /// `None`: any type (with `x-kubernetes-preserve-unknown-fields`), or an integer or a string.
    pub kind: Option<Kind>,
    pub items: Option<Arc<Structural>>,
    pub properties: Properties,
    pub additional: Additional,
    pub default: Option<Value>,
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-embedded-resource`: an object with kind, apiVersion and metadata.
    pub embedded: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-list-type`; `None` if not said, which is atomic.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`
    pub list_keys: Box<[Box<str>]>,
    /// `x-kubernetes-map-type: atomic`
    pub atomic_map: bool,
    /// `x-kubernetes-validations`
    pub rules: Box<[Rule]>,
    /// What limits values; most nodes say nothing.
    pub limits: Option<Box<Limits>>,
}

/// `type`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Array,
    Boolean,
    Integer,
    Number,
    Object,
    String,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Array, Kind::Boolean, Kind::Integer, Kind::Number, Kind::Object, Kind::String];

    /// As schemas say it: `array`, `boolean`, …
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Array => "array",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Object => "object",
            Kind::String => "string",
        }
    }

    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// `properties`, by name.
#[derive(Clone, Debug, Default)]
pub struct Properties(Box<[(Arc<str>, Arc<Structural>)]>);

type Property<'a> = (&'a Arc<str>, &'a Structural);

impl Properties {
    pub fn get(&self, name: &str) -> Option<&Structural> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.0.get(at).map(|(_, property)| &**property)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = Property<'_>> {
        self.into_iter()
    }

    /// As [`Properties::iter`], to be held on to.
    pub(crate) fn shared(&self) -> &[(Arc<str>, Arc<Structural>)] {
        &self.0
    }

    pub fn values(&self) -> impl Iterator<Item = &Structural> {
        self.iter().map(|(_, property)| property)
    }
}

impl<'a> IntoIterator for &'a Properties {
    type Item = Property<'a>;
    type IntoIter = std::iter::Map<
        std::slice::Iter<'a, (Arc<str>, Arc<Structural>)>,
        fn(&'a (Arc<str>, Arc<Structural>)) -> Property<'a>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, property)| (name, property))
    }
}

impl FromIterator<(Arc<str>, Arc<Structural>)> for Properties {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Arc<Structural>)>>(all: T) -> Properties {
        let mut all: Box<[_]> = all.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Properties(all)
    }
}

/// `additionalProperties`
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Not said: other fields are unknown ones.
    #[default]
    Absent,
    /// `true`: other fields may be, with nothing known about them.
    Any,
    /// `false`
    Never,
    Schema(Arc<Structural>),
}

impl Additional {
    pub fn schema(&self) -> Option<&Structural> {
        match self {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        }
    }
}

/// One of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    pub rule: Box<str>,
    pub message: Box<str>,
    pub message_expression: Box<str>,
    /// `FieldValueInvalid` and the like; empty: not said, which is `FieldValueInvalid`.
    pub reason: Box<str>,
    pub field_path: Box<str>,
    pub optional_old_self: Option<bool>,
}

/// What limits values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub format: Box<str>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub one_of_values: Box<[Value]>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Box<[Box<str>]>,
    pub all_of: Box<[Structural]>,
    pub any_of: Box<[Structural]>,
    pub one_of: Box<[Structural]>,
    pub not: Option<Box<Structural>>,
}

/// A regular expression that is compiled when it is first needed: most never are, and one costs kilobytes.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern { text: text.into(), compiled: OnceLock::new() }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// # Errors
    /// The expression is none.
    pub fn regex(&self) -> Result<&Regex, &str> {
        self.compiled.get_or_init(|| cel::re2::compile(&self.text)).as_ref().map_err(String::as_str)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl PartialEq for Structural {
    fn eq(&self, other: &Structural) -> bool {
        std::ptr::eq(self, other)
            || self.scalars() == other.scalars()
                && self.parts().eq(other.parts())
                && self.default == other.default
                && self.list_keys == other.list_keys
                && self.rules == other.rules
                && self.limits == other.limits
    }
}

impl Eq for Structural {}

/// By what is said of the node itself, and by which nodes it holds: good for nodes that are made from the bottom up.
impl Hash for Structural {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scalars().hash(state);
        for (name, part) in self.parts() {
            (name, std::ptr::from_ref(part)).hash(state);
        }
        (&self.default, &self.list_keys, &self.rules).hash(state);
        let Some(limits) = &self.limits else { return };
        let numbers = [limits.maximum, limits.minimum, limits.multiple_of];
        numbers.map(|number| number.map(f64::to_bits)).hash(state);
        let sizes = [limits.max_length, limits.min_length, limits.max_items, limits.min_items];
        (sizes, limits.max_properties, limits.min_properties).hash(state);
        (limits.exclusive_maximum, limits.exclusive_minimum, limits.unique_items).hash(state);
        (&limits.format, limits.pattern.as_ref().map(Pattern::text)).hash(state);
        (&limits.one_of_values, &limits.required).hash(state);
        (&limits.all_of, &limits.any_of, &limits.one_of, &limits.not).hash(state);
    }
}

impl Structural {
    fn scalars(&self) -> impl Hash + PartialEq {
        let flags =
            [self.nullable, self.int_or_string, self.embedded, self.preserve_unknown, self.atomic_map];
        let list_type = self.list_type.map(|list_type| match list_type {
            ListType::Atomic => 0,
            ListType::Set => 1,
            ListType::Map => 2,
        });
        let additional = match self.additional {
            Additional::Absent => 0,
            Additional::Any => 1,
            Additional::Never => 2,
            Additional::Schema(_) => 3,
        };
        (self.kind, flags, list_type, additional, self.items.is_some())
    }

    /// The nodes right below, properties by name.
    fn parts(&self) -> impl Iterator<Item = (Option<&Arc<str>>, &Structural)> {
        let others = self.items.as_deref().into_iter().chain(self.additional.schema());
        others.map(|part| (None, part)).chain(self.properties.iter().map(|(name, part)| (Some(name), part)))
    }

    /// What a field's values look like: its property's schema, or the one of all others.
    pub fn field(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or_else(|| self.additional.schema())
    }

    /// The same, as the root of a resource: kind, apiVersion and metadata are there without being said.
    #[must_use]
    pub fn as_root(mut self) -> Structural {
        self.embedded = true;
        self
    }

    /// Some node's default, or one of the root's.
    pub fn has_defaults(&self) -> bool {
        self.any(&|node| node.default.is_some())
    }

    /// Some node below, or this one, is so. What stands below `allOf` and the like does not count.
    pub fn any(&self, is_so: &dyn Fn(&Structural) -> bool) -> bool {
        is_so(self)
            || self.items.as_ref().is_some_and(|items| items.any(is_so))
            || self.additional.schema().is_some_and(|schema| schema.any(is_so))
            || self.properties.values().any(|property| property.any(is_so))
    }
}

/// Faults of one schema or object that are told; whoever has more of them finds out when these are mended.
pub(crate) const MOST_FAULTS: usize = 1000;

/// Fields that every resource has.
pub(crate) const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

#[cfg(test)]
mod tests;
