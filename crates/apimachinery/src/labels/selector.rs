//! `meta/v1.LabelSelector`, the structured form that stands in objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Operator, Requirement, Selector, validate_label_name};
use crate::field::{Error as FieldError, ErrorList, Path, quote};
use crate::names;

/// Labels that must be equal, and expressions that must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

/// One expression; `operator` is `In`, `NotIn`, `Exists` or `DoesNotExist`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSelectorRequirement {
    #[serde(default)]
    pub key: String,
    #[serde(default)]
    pub operator: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// What a validation lets pass, for objects stored before a rule existed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validation {
    pub allow_invalid_label_value: bool,
    pub allow_unknown_operator: bool,
}

impl LabelSelector {
    /// From JSON; `None` for `null`, absent (`Value::Null`) or something of another shape.
    pub fn from_value(value: &Value) -> Option<LabelSelector> {
        if value.is_null() {
            return None;
        }
        LabelSelector::deserialize(value).ok()
    }

    fn labels(&self) -> impl Iterator<Item = (&String, &String)> {
        self.match_labels.iter().flatten()
    }

    fn expressions(&self) -> &[LabelSelectorRequirement] {
        self.match_expressions.as_deref().unwrap_or_default()
    }

    /// Without any condition, so that it matches everything.
    pub fn is_empty(&self) -> bool {
        self.labels().next().is_none() && self.expressions().is_empty()
    }

    /// The selector it stands for. An absent one ([`Selector::of`]) matches nothing, an empty one everything.
    pub fn to_selector(&self) -> Result<Selector, Error> {
        let mut requirements = Vec::new();
        for (key, value) in self.labels() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in self.expressions() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(Error(format!("{} is not a valid label selector operator", quote(other))));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Selector::new(requirements))
    }

    /// The structured form of a text selector, as `kubectl create` and `scale.status.selector` readers need it.
    pub fn parse(text: &str) -> Result<LabelSelector, Error> {
        let selector = Selector::parse(text)
            .map_err(|e| Error(format!("couldn't parse the selector string \"{text}\": {e}")))?;
        let (mut labels, mut expressions) = (BTreeMap::new(), Vec::new());
        for requirement in selector.requirements {
            let operator = match requirement.operator {
                Operator::Equals | Operator::DoubleEquals => {
                    labels.insert(requirement.key, requirement.values.into_iter().next().unwrap_or_default());
                    continue;
                }
                Operator::In => "In",
                Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                other @ (Operator::GreaterThan | Operator::LessThan) => {
                    return Err(Error(format!("{} isn't supported in label selectors", quote(other.text()))));
                }
                other => {
                    return Err(Error(format!(
                        "{} is not a valid label selector operator",
                        quote(other.text())
                    )));
                }
            };
            expressions.push(LabelSelectorRequirement {
                key: requirement.key,
                operator: operator.to_string(),
                values: Some(requirement.values),
            });
        }
        Ok(LabelSelector { match_labels: Some(labels), match_expressions: Some(expressions) })
    }

    /// Every fault of the selector, `path` being where it stands.
    pub fn validate(&self, options: Validation, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let labels = path.child("matchLabels");
        for (key, value) in self.labels() {
            errors.extend(validate_label_name(key, &labels));
            for message in names::is_label_value(value) {
                errors.push(FieldError::invalid(&labels, value.as_str(), message));
            }
        }
        let expressions = path.child("matchExpressions");
        for (i, expression) in self.expressions().iter().enumerate() {
            errors.extend(expression.validate(options, &expressions.index(i)));
        }
        errors
    }
}

impl LabelSelectorRequirement {
    fn validate(&self, options: Validation, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let (at, values) = (path.child("values"), self.values.as_deref().unwrap_or_default());
        match self.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors
                    .push(FieldError::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&at, detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other if !options.allow_unknown_operator => {
                let detail = "not a valid selector operator";
                errors.push(FieldError::invalid(&path.child("operator"), other, detail));
            }
            _ => {}
        }
        errors.extend(validate_label_name(&self.key, &path.child("key")));
        if !options.allow_invalid_label_value {
            for (i, value) in values.iter().enumerate() {
                for message in names::is_label_value(value) {
                    errors.push(FieldError::invalid(&at.index(i), value.as_str(), message));
                }
            }
        }
        errors
    }
}

impl Selector {
    /// The selector of a `LabelSelector` that may be absent (then nothing matches).
    pub fn of(selector: Option<&LabelSelector>) -> Result<Selector, Error> {
        selector.map_or_else(|| Ok(Selector::nothing()), LabelSelector::to_selector)
    }

    /// [`Selector::of`] over JSON; `null` is absent.
    pub fn of_value(value: &Value) -> Result<Selector, Error> {
        if value.is_null() {
            return Ok(Selector::nothing());
        }
        let selector =
            LabelSelector::deserialize(value).map_err(|e| Error(format!("reading a label selector: {e}")))?;
        selector.to_selector()
    }
}

/// A selector as tables and `describe` print it: `<none>` if it matches everything, `<error>` if it is invalid.
pub fn format(selector: Option<&LabelSelector>) -> String {
    match Selector::of(selector).map(|s| s.to_string()) {
        Err(_) => "<error>".to_string(),
        Ok(text) if text.is_empty() => "<none>".to_string(),
        Ok(text) => text,
    }
}
