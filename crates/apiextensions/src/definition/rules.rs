//! Rules (`x-kubernetes-validations`), as their definition is written.

use std::cell::OnceCell;
use std::sync::Arc;

use apimachinery::field::{Error, ErrorList, ErrorType, Path, go_json};
use cel::DeclType;
use serde_json::{Map, Value};

use super::costs::{Costs, RULE_LIMIT};
use super::list;
use crate::expressions::compile::{self as expression, Compiled, Environments};
use crate::structural::{Additional, Kind, Rule, Structural, compile};

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What is wrong with rules before anybody reads their expressions.
pub(super) fn texts(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let all = path.child("x-kubernetes-validations");
    let schema = OnceCell::new();
    let broken = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in list(fields, "x-kubernetes-validations").iter().enumerate() {
        let at = all.index(index);
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        let (expression, message) = (text("rule").trim(), text("message"));
        if expression.is_empty() {
            errors.push(Error::required(&at.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(Error::invalid(&at.child("message"), message, "must be non-empty if specified"));
        } else if broken(message.trim()) {
            errors.push(Error::invalid(&at.child("message"), message, "must not contain line breaks"));
        } else if broken(expression) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(Error::required(&at.child("message"), why));
        }
        let message_expression = text("messageExpression");
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&at.child("messageExpression"), why));
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.push(Error::not_supported(&at.child("reason"), reason, REASONS));
        }
        let of_path = at.child("fieldPath");
        let field_path = text("fieldPath");
        if field_path.is_empty() {
            continue;
        }
        if field_path.trim().is_empty() {
            errors.push(Error::invalid(&of_path, field_path, "must be non-empty if specified"));
        }
        if broken(field_path) {
            errors.push(Error::invalid(&of_path, field_path, "must not contain line breaks"));
        }
        // What is no schema is told of elsewhere.
        let schema = schema.get_or_init(|| compile(&Value::Object(fields.clone())).ok());
        if schema.as_ref().is_some_and(|schema| super::field_path(field_path, schema, true).is_err()) {
            errors.push(Error::invalid(&of_path, field_path, "must be a valid path"));
        }
    }
}

/// What the rules of a node see, and how often there can be such a node.
pub(super) struct Context<'a> {
    schema: &'a Structural,
    parent: Option<&'a Context<'a>>,
    step: Step<'a>,
    /// There are rules at this node or above.
    in_scope: bool,
    /// How often there can be a value here; none if nothing bounds it.
    cardinality: Option<u64>,
    /// Known once it has been asked for; none if expressions know no such type.
    declared: OnceCell<Option<Arc<DeclType>>>,
}

/// How a node is reached from its parent.
#[derive(Clone, Copy)]
enum Step<'a> {
    Property(&'a str),
    Element,
}

impl<'a> Context<'a> {
    pub fn root(schema: &'a Structural) -> Context<'a> {
        Context {
            schema,
            parent: None,
            step: Step::Element,
            in_scope: !schema.rules.is_empty(),
            cardinality: Some(1),
            declared: OnceCell::new(),
        }
    }

    pub fn items(&'a self) -> Option<Context<'a>> {
        self.schema.items.as_deref().map(|schema| self.child(schema, Step::Element))
    }

    pub fn additional(&'a self) -> Option<Context<'a>> {
        self.schema.additional.schema().map(|schema| self.child(schema, Step::Element))
    }

    pub fn property(&'a self, name: &'a str) -> Option<Context<'a>> {
        self.schema.properties.get(name).map(|schema| self.child(schema, Step::Property(name)))
    }

    fn child(&'a self, schema: &'a Structural, step: Step<'a>) -> Context<'a> {
        Context {
            schema,
            parent: Some(self),
            step,
            in_scope: self.in_scope || !schema.rules.is_empty(),
            cardinality: self
                .cardinality
                .zip(elements(self.schema))
                .map(|(all, each)| all.saturating_mul(each)),
            declared: OnceCell::new(),
        }
    }

    /// The declaration, taken from the parent's where there is one, since making it is expensive.
    fn declared(&self) -> Option<&Arc<DeclType>> {
        let make = || {
            let above = self.parent.filter(|parent| parent.in_scope);
            if let Some(parent) = above {
                let parent = parent.declared()?;
                let known = match self.step {
                    Step::Property(name) => expression::declared_property(parent, name),
                    Step::Element => expression::declared_element(parent),
                };
                if let Some(known) = known.filter(|known| !matches!(known.kind, cel::Kind::Preserved)) {
                    return Some(known.clone());
                }
            }
            expression::declare(self.schema, self.parent.is_none() || self.schema.embedded)
        };
        self.declared.get_or_init(make).as_ref()
    }
}

/// How many values a node holds for each value of its own; none if nothing bounds them.
fn elements(schema: &Structural) -> Option<u64> {
    let limit = |limit: Option<i64>| limit.map(|limit| limit.max(0) as u64);
    let limits = schema.limits.as_deref();
    match schema.kind {
        Some(Kind::Array) => limit(limits?.max_items),
        Some(Kind::Object) if !matches!(schema.additional, Additional::Absent) => {
            limit(limits?.max_properties)
        }
        _ => Some(1),
    }
}

/// What is known of where a rule stands.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    /// It may not be too expensive.
    pub limited: bool,
    pub uncorrelatable: Option<&'a Path<'a>>,
}

/// What is wrong with expressions, and what they cost together.
#[derive(Default)]
pub(super) struct Expressions {
    pub errors: ErrorList,
    pub costs: Costs,
}

impl Expressions {
    /// The rules of one node.
    pub fn check(
        &mut self,
        context: &Context<'_>,
        fields: &Map<String, Value>,
        within: Within<'_>,
        path: &Path<'_>,
    ) {
        if context.schema.rules.is_empty() {
            return;
        }
        let all = path.child("x-kubernetes-validations");
        let Some(declared) = context.declared() else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: \
                       unable to convert structural schema to CEL declarations";
            self.errors.push(Error::internal(&all, why));
            return;
        };
        let mut environments = Environments::new(declared);
        let times = context.cardinality.unwrap_or_else(|| declared.max_cardinality());
        let given = list(fields, "x-kubernetes-validations");
        for (index, (rule, given)) in context.schema.rules.iter().zip(given).enumerate() {
            let compiled = expression::compile(rule, context.schema, &mut environments, true);
            self.rule(rule, given, compiled, times, within, &all.index(index));
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        given: &Value,
        compiled: Compiled,
        times: u64,
        within: Within<'_>,
        path: &Path<'_>,
    ) {
        let at = path.child("rule");
        let cost = compiled.cost.saturating_mul(times);
        if within.limited && cost > RULE_LIMIT {
            let why = super::costs::message("estimated rule cost", cost, RULE_LIMIT);
            self.errors.push(Error::forbidden(&at, why));
        }
        self.costs.observe(&at, cost);
        if let Some(why) = compiled.error {
            self.errors.push(of_rule(&at, given, &why));
        }
        let of_message = path.child("messageExpression");
        if let Some(why) = compiled.message_error {
            self.errors.push(of_rule(&of_message, given, &why));
        } else if compiled.message.is_some() {
            let cost = compiled.message_cost;
            if within.limited && cost > RULE_LIMIT {
                let why = super::costs::message("estimated messageExpression cost", cost, RULE_LIMIT);
                self.errors.push(Error::forbidden(&of_message, why));
            }
            self.costs.observe(&of_message, cost);
        }
        if compiled.uses_old {
            if let Some(place) = within.uncorrelatable {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
                );
                self.errors.push(Error::invalid(&at, &*rule.rule, why));
            }
        } else if let Some(optional) = rule.optional_old_self {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(&path.child("optionalOldSelf"), optional, why));
        }
    }
}

/// A fault that shows the rule as upstream holds it, its fields in this order.
fn of_rule(path: &Path<'_>, rule: &Value, why: &str) -> Error {
    let text = |field: &str| go_json(&rule[field].as_str().unwrap_or_default().into());
    let shown = format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{},"FieldPath":{},"OptionalOldSelf":{}}}"#,
        text("rule"),
        text("message"),
        text("messageExpression"),
        go_json(&rule["reason"]),
        text("fieldPath"),
        rule["optionalOldSelf"],
    );
    Error { kind: ErrorType::Invalid, field: path.text(), bad_value: None, detail: format!("{shown}: {why}") }
}
