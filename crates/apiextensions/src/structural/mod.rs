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

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use apimachinery::schema::ListType;

mod compile;
pub mod defaults;
pub mod formats;
pub mod lists;
pub mod metadata;
pub mod prune;
pub mod rules;
pub mod validate;

pub use compile::{Unsupported, compile};

/// One node of a schema.
///
/// Below `allOf`, `anyOf`, `oneOf` and `not` only what limits values counts; [`rules::check`] holds that.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    /// `None`: any type (with `x-kubernetes-preserve-unknown-fields`), or an integer or a string.
    pub kind: Option<Kind>,
    pub items: Option<Box<Structural>>,
    pub properties: BTreeMap<Box<str>, Structural>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Schema(Box<Structural>),
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default)]
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

impl Structural {
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

/// Fields that every resource has.
pub(crate) const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

#[cfg(test)]
mod tests;
