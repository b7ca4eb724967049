//! An object held to rules.

use std::sync::Arc;

use apimachinery::field::{Error, ErrorType, Path};
use cel::cost::PER_CALL_LIMIT;
use cel::{DeclType, Error as Failure, Program, Value as Data};
use serde_json::Value;

use super::correlate::{Pair, Ratchet};
use super::{Findings, Node, Own, Prepared};
use crate::structural::items::Items;
use crate::structural::{Kind, MOST_FAULTS, Rule, Structural};

/// Bytes of the longest message that an expression may give.
const LONGEST_MESSAGE: usize = 5 * 1024;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Holds a resource to its rules; what was wrong before and has not changed is only warned of.
pub(super) fn run(
    node: &Node,
    schema: &Structural,
    value: &Value,
    old: Option<&Value>,
    path: &Path<'_>,
    results: (&mut i64, &mut Findings),
) {
    let pair = old.map(|old| Pair::new(value, old, schema));
    let ratchet = Ratchet { current: pair.as_ref(), parent: None };
    let at = At { node, schema, declared: None, value, old, ratchet, path };
    let (budget, findings) = results;
    // Why it ended is among the findings.
    let _ = Walk { budget, findings }.visit(at);
}

/// The same, with everything told.
pub(super) fn run_strictly(
    node: &Node,
    schema: &Structural,
    value: &Value,
    old: Option<&Value>,
    path: &Path<'_>,
    results: (&mut i64, &mut Findings),
) {
    let at = At { node, schema, declared: None, value, old, ratchet: Ratchet::default(), path };
    let (budget, findings) = results;
    let _ = Walk { budget, findings }.visit(at);
}

struct Walk<'w> {
    budget: &'w mut i64,
    findings: &'w mut Findings,
}

/// A place in an object.
#[derive(Clone, Copy)]
struct At<'a> {
    node: &'a Node,
    schema: &'a Structural,
    /// How expressions see the value, if a node above has found out.
    declared: Option<&'a Arc<DeclType>>,
    value: &'a Value,
    old: Option<&'a Value>,
    ratchet: Ratchet<'a>,
    path: &'a Path<'a>,
}

/// There is no budget for more, or enough has been found.
struct Stop;

impl Walk<'_> {
    /// A node first, then what is in it, whether the node was good or not. Null is not held to the rules of its own
    /// schema.
    fn visit(&mut self, mut at: At<'_>) -> Result<(), Stop> {
        if at.value.is_null() {
            return Ok(());
        }
        if self.findings.errors.len().max(self.findings.warnings.len()) >= MOST_FAULTS {
            return Err(Stop);
        }
        at.old = at.old.filter(|old| !old.is_null());
        if let Some(own) = &at.node.own {
            at.declared = self.rules(own, &at)?;
        }
        match at.value {
            Value::Object(fields) => {
                if let (Some(node), Some(schema)) = (&at.node.additional, at.schema.additional.schema()) {
                    let declared = at.declared.and_then(|it| super::compile::declared_element(it));
                    for (name, value) in fields {
                        let path = at.path.key(name);
                        self.field(At { node, schema, declared, value, path: &path, ..at }, name)?;
                    }
                }
                for (name, node) in &at.node.properties {
                    let (Some(value), Some(schema)) = (fields.get(&**name), at.schema.properties.get(name))
                    else {
                        continue;
                    };
                    let declared = at.declared.and_then(|it| super::compile::declared_property(it, name));
                    let path = at.path.child(name);
                    self.field(At { node, schema, declared, value, path: &path, ..at }, name)?;
                }
            }
            Value::Array(items) => {
                let (Some(node), Some(schema)) = (&at.node.items, at.schema.items.as_deref()) else {
                    return Ok(());
                };
                let declared = at.declared.and_then(|it| super::compile::declared_element(it));
                let before = Items::new(at.schema, at.old.and_then(Value::as_array));
                for (index, value) in items.iter().enumerate() {
                    let old = before.get(value);
                    let (pair, parent) = at.ratchet.item(value, old);
                    let ratchet = Ratchet { current: pair.as_ref(), parent };
                    let path = at.path.index(index);
                    self.visit(At { node, schema, declared, value, old, ratchet, path: &path })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A field, given with what its object was.
    fn field(&mut self, at: At<'_>, name: &str) -> Result<(), Stop> {
        let old = at.old.and_then(|old| old.get(name));
        let (pair, parent) = at.ratchet.field(name);
        let ratchet = Ratchet { current: pair.as_ref(), parent };
        self.visit(At { old, ratchet, ..at })
    }

    /// The rules of one node.
    fn rules<'a>(&mut self, own: &'a Own, at: &At<'a>) -> Result<Option<&'a Arc<DeclType>>, Stop> {
        let ready = own.ready(at.schema, at.declared);
        let Some(declared) = &ready.declared else {
            let why =
                "rule compiler initialization error: failed to convert to declType for CEL validation rules";
            self.findings.errors.push(whole(at, why.to_owned()));
            return Ok(None);
        };
        if *self.budget <= 0 {
            return self.stop(at, OUT_OF_BUDGET.to_owned());
        }
        let this = Data::declared(at.value, declared);
        let unfit = this.as_ref().err().cloned();
        let old = at.old.filter(|_| ready.use_old).and_then(|old| Data::declared(old, declared).ok());
        let optional = match (&old, ready.use_old) {
            (_, false) => None,
            (Some(old), true) => Some(Data::some(old.clone())),
            (None, true) => Some(Data::Optional(None)),
        };
        let plain = [this.ok(), old];
        let others = [optional.as_ref().and(plain[0].clone()), optional];
        for (rule, prepared) in at.schema.rules.iter().zip(&ready.rules) {
            let program = match &prepared.program {
                Ok(Some(program)) => program,
                Ok(None) => continue,
                Err(why) => {
                    self.findings.errors.push(whole(at, format!("rule compile error: {why}")));
                    continue;
                }
            };
            let is_optional = rule.optional_old_self == Some(true);
            if prepared.uses_old && at.old.is_none() && !is_optional {
                continue;
            }
            let variables = if is_optional && ready.use_old { &others } else { &plain };
            if !self.evaluate(at, rule, program, variables, unfit.as_ref())? {
                // Messages see oldSelf as it is, in all rules alike.
                self.broken(at, rule, prepared, &plain)?;
            }
        }
        Ok(Some(declared))
    }

    /// Whether a rule holds, or failed in a way that has been told.
    fn evaluate(
        &mut self,
        at: &At<'_>,
        rule: &Rule,
        program: &Program,
        variables: &[Option<Data<'_>>],
        unfit: Option<&Failure>,
    ) -> Result<bool, Stop> {
        // A rule that costs more than is left is as good as one that costs too much, and is told of as such.
        let limit = PER_CALL_LIMIT.min((*self.budget).max(0) as u64);
        let outcome = program.evaluate(variables, limit);
        let Some(left) = i64::try_from(outcome.cost).ok().and_then(|cost| left(*self.budget, cost)) else {
            return self.stop(at, OUT_OF_BUDGET.to_owned());
        };
        *self.budget = left;
        let shown = shown(rule);
        let why = match outcome.value {
            Ok(value) => return Ok(value.as_bool() == Some(true)),
            Err(Failure::CostExceeded) => {
                let why = format!(
                    "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}",
                    Failure::CostExceeded
                );
                return self.stop(at, why);
            }
            Err(why) => why.to_string(),
        };
        let why = match unfit {
            Some(unfit) if variables.first().is_some_and(Option::is_none) => unfit.to_string(),
            _ => why,
        };
        self.findings.errors.push(whole(
            at,
            match why.starts_with("no such overload") {
                // Only what is dynamic gets past the checker.
                true => format!(
                    "'{why}': call arguments did not match a supported operator, function or macro signature for \
                     rule: {shown}"
                ),
                false => format!("{why} evaluating rule: {shown}"),
            },
        ));
        Ok(true)
    }

    /// A rule that does not hold.
    fn broken(
        &mut self,
        at: &At<'_>,
        rule: &Rule,
        prepared: &Prepared,
        variables: &[Option<Data<'_>>],
    ) -> Result<(), Stop> {
        let of_field = at.path.child(&prepared.field_path);
        let path = if prepared.field_path.is_empty() { at.path } else { &of_field };
        let mut told = None;
        if let Some(program) = &prepared.message {
            match message(program, &rule.message_expression, variables, self.budget) {
                Ok(message) => told = message,
                Err(why) => {
                    let error = Error::invalid(path, kind(at.schema), why);
                    self.tell(at, prepared, error);
                    *self.budget = -1;
                    return Err(Stop);
                }
            }
        }
        let told = told.unwrap_or_else(|| match rule.message.is_empty() {
            true => format!("failed rule: {}", shown(rule)),
            false => rule.message.trim().to_owned(),
        });
        let is_large = matches!(at.schema.kind, Some(Kind::Object | Kind::Array));
        let value = (!is_large).then(|| at.value.clone());
        let (kind, bad_value, detail) = match &*rule.reason {
            "FieldValueForbidden" => (ErrorType::Forbidden, None, told),
            "FieldValueRequired" => (ErrorType::Required, None, told),
            "FieldValueDuplicate" => (ErrorType::Duplicate, value, String::new()),
            _ => (ErrorType::Invalid, value, told),
        };
        let error = Error { kind, field: path.text(), bad_value, detail };
        self.tell(at, prepared, error);
        Ok(())
    }

    fn tell(&mut self, at: &At<'_>, prepared: &Prepared, error: Error) {
        if !prepared.uses_old && at.ratchet.excuses() {
            self.findings.warnings.push(error.to_string());
        } else {
            self.findings.errors.push(error);
        }
    }

    fn stop<T>(&mut self, at: &At<'_>, why: String) -> Result<T, Stop> {
        self.findings.errors.push(whole(at, why));
        *self.budget = -1;
        Err(Stop)
    }
}

/// What of the budget is left; none if it does not suffice.
fn left(budget: i64, cost: i64) -> Option<i64> {
    budget.checked_sub(cost).filter(|left| *left >= 0)
}

/// A fault that shows the node's type for its value.
fn whole(at: &At<'_>, why: String) -> Error {
    Error::invalid(at.path, kind(at.schema), why)
}

fn kind(schema: &Structural) -> &'static str {
    schema.kind.map_or("", Kind::name)
}

/// What stands for a rule in messages.
fn shown(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}

/// The message that an expression gives; none if it gives none that can be used.
///
/// # Errors
/// It costs more than it may: nothing else is to be evaluated.
fn message(
    program: &Program,
    source: &str,
    variables: &[Option<Data<'_>>],
    budget: &mut i64,
) -> Result<Option<String>, String> {
    let limit = PER_CALL_LIMIT.min((*budget).max(0) as u64);
    let outcome = program.evaluate(variables, limit);
    let Some(left) = i64::try_from(outcome.cost).ok().and_then(|cost| left(*budget, cost)) else {
        let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules \
                   will be run";
        return Err(why.to_owned());
    };
    if matches!(outcome.value, Err(Failure::CostExceeded)) {
        return Err(format!(
            "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
            apimachinery::field::quote(source)
        ));
    }
    *budget = left;
    let Ok(Data::String(text)) = outcome.value else { return Ok(None) };
    let text = text.trim();
    let is_good = !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
    Ok(is_good.then(|| text.to_owned()))
}
