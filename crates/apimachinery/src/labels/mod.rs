//! Labels and what selects by them: the text form (`app=a,tier in (x,y),!canary`) and `meta/v1.LabelSelector`.

mod parse;
mod selector;

use std::fmt;

use serde_json::{Map, Value};

use crate::field::{self, Error as FieldError, ErrorList, Path};
use crate::names;

pub use selector::{LabelSelector, LabelSelectorRequirement, Validation, format};

/// Why a selector cannot be read; upstream's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    Exists,
    DoesNotExist,
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
}

impl Operator {
    /// As in messages: `in`, `=`, `gt`.
    pub const fn text(self) -> &'static str {
        match self {
            Operator::Exists => "exists",
            Operator::DoesNotExist => "!",
            Operator::In => "in",
            Operator::NotIn => "notin",
            Operator::Equals => "=",
            Operator::DoubleEquals => "==",
            Operator::NotEquals => "!=",
            Operator::GreaterThan => "gt",
            Operator::LessThan => "lt",
        }
    }
}

/// One condition on one label. Values are sorted when they come from text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// Checks key, number and form of the values.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Requirement, Error> {
        Requirement::at(&Path::NIL, key, operator, values)
    }

    /// [`Requirement::new`] with the place that errors name.
    pub fn at(
        path: &Path<'_>,
        key: &str,
        operator: Operator,
        values: Vec<String>,
    ) -> Result<Requirement, Error> {
        let mut errors = ErrorList::new();
        errors.extend(key_error(key, &path.child("key")));
        let at = path.child("values");
        let wrong = match operator {
            Operator::In | Operator::NotIn => {
                values.is_empty().then_some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
                (values.len() != 1).then_some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist => {
                (!values.is_empty()).then_some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan => {
                (values.len() != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
        };
        errors.extend(wrong.map(|detail| FieldError::invalid(&at, values.clone(), detail)));
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (i, value) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(&at.index(i), value.as_str(), detail));
            }
        }
        for (i, value) in values.iter().enumerate() {
            let messages = names::is_label_value(value);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(&at.index(i).key(key), value.as_str(), messages.join("; ")));
            }
        }
        match field::aggregate(&errors) {
            Some(message) => Err(Error(message)),
            None => Ok(Requirement { key: key.to_string(), operator, values }),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether it holds for a label with this value, or without it.
    pub fn matches(&self, label: Option<&str>) -> bool {
        let has = |label: &str| self.values.iter().any(|v| v == label);
        match (self.operator, label) {
            (Operator::In | Operator::Equals | Operator::DoubleEquals, label) => label.is_some_and(has),
            (Operator::NotIn | Operator::NotEquals, label) => !label.is_some_and(has),
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::GreaterThan | Operator::LessThan, label) => {
                let number = |text: &str| text.parse::<i64>().ok();
                let pair = label.and_then(number).zip(self.values.first().and_then(|v| number(v)));
                pair.is_some_and(|(have, want)| match self.operator {
                    Operator::GreaterThan => have > want,
                    _ => have < want,
                })
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort_unstable();
        let (key, values) = (&self.key, values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// All requirements must hold, sorted by key; or nothing at all matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Matches every object.
    pub const fn everything() -> Selector {
        Selector { requirements: Vec::new(), nothing: false }
    }

    /// Matches no object.
    pub const fn nothing() -> Selector {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// These requirements, in the order of their keys.
    pub fn new(mut requirements: Vec<Requirement>) -> Selector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }

    /// `key=value` for each pair, unchecked: an equality selector of a Service or ReplicationController.
    pub fn from_set<K: AsRef<str>, V: AsRef<str>>(set: impl IntoIterator<Item = (K, V)>) -> Selector {
        let equals = |(key, value): (K, V)| Requirement {
            key: key.as_ref().to_string(),
            operator: Operator::Equals,
            values: vec![value.as_ref().to_string()],
        };
        Selector::new(set.into_iter().map(equals).collect())
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Selector, Error> {
        parse::parse(text, &Path::NIL).map(Selector::new)
    }

    /// Whether it matches every object.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it matches none.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Both this and the other must match.
    pub fn and(self, other: Selector) -> Selector {
        if self.nothing || other.nothing {
            return Selector::nothing();
        }
        Selector::new(self.requirements.into_iter().chain(other.requirements).collect())
    }

    /// Whether labels match that `lookup` knows.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(lookup(&r.key)))
    }

    /// [`Selector::matches`] over typed labels, which may be absent.
    pub fn matches_map(&self, labels: Option<&std::collections::BTreeMap<String, String>>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }

    /// [`Selector::matches`] over a JSON map of labels, which may be absent.
    pub fn matches_json(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }

    /// [`Selector::matches`] over `metadata.labels` of an object.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches_json(object["metadata"]["labels"].as_object())
    }

    /// The value that a match must have at `key`, if the selector fixes it.
    pub fn requires_exact_match(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.key == key)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [one]) => Some(one),
            _ => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

fn key_error(key: &str, path: &Path<'_>) -> Option<FieldError> {
    let messages = names::is_qualified_name(key);
    (!messages.is_empty()).then(|| FieldError::invalid(path, key, messages.join("; ")))
}

/// The key of a label.
pub fn validate_label_name(key: &str, path: &Path<'_>) -> ErrorList {
    names::is_qualified_name(key).into_iter().map(|m| FieldError::invalid(path, key, m)).collect()
}

/// A map of labels, as in `metadata.labels`. Errors name the map, not the key.
pub fn validate_labels(labels: Option<&Map<String, Value>>, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(validate_label_name(key, path));
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::is_label_value(value).into_iter().map(|m| FieldError::invalid(path, value, m)));
    }
    errors
}

#[cfg(test)]
mod tests;
