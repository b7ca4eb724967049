//! ValidatingAdmissionPolicy: expressions that must be true of a request (upstream's `plugin/policy/validating`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::{Cause, Status};
use kinds::admissionregistration::expression::Wanted;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::expression::{self, Composition, Declared, Expression, Input, POLICY_BUDGET};
use super::super::{AdmissionAttributes, View, forbidden};
use super::{Binding, Policy, Request, items, text};

pub const NAME: &str = "ValidatingAdmissionPolicy";
/// Bytes of a message that an expression makes; a longer one is not used.
const MOST_MESSAGE: usize = 5 * 1024;
/// Bytes of an audit annotation; a longer one is cut.
const MOST_ANNOTATION: usize = 10 * 1024;
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// `validations` and `auditAnnotations`.
pub(super) struct Rules {
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

struct Validation {
    expression: Expression,
    message_expression: Option<Expression>,
    message: String,
    reason: String,
}

impl Rules {
    pub(super) fn compile(spec: &Value, composition: &Composition) -> Self {
        let asking = Declared { authorizer: true, ..Declared::default() };
        let validation = |one: &Value| Validation {
            expression: composition.expression(text(one, "expression"), asking, Wanted::Bool),
            message_expression: match text(one, "messageExpression") {
                "" => None,
                source => Some(composition.expression(source, Declared::default(), Wanted::String)),
            },
            message: text(one, "message").to_owned(),
            reason: text(one, "reason").to_owned(),
        };
        let annotation = |one: &Value| {
            let expression =
                composition.expression(text(one, "valueExpression"), asking, Wanted::StringOrNull);
            (text(one, "key").to_owned(), expression)
        };
        Self {
            validations: items(spec, "validations").iter().map(validation).collect(),
            annotations: items(spec, "auditAnnotations").iter().map(annotation).collect(),
        }
    }
}

/// What a validation came to.
struct Decision {
    denied: bool,
    /// The expression failed, rather than being false.
    is_error: bool,
    message: String,
    reason: String,
    took: Duration,
}

impl Decision {
    fn error(policy: &Policy<Rules>, message: String) -> Self {
        let took = Duration::ZERO;
        Self { denied: policy.fail, is_error: true, message, reason: String::new(), took }
    }

    fn admitted() -> Self {
        let (message, reason) = (String::new(), String::new());
        Self { denied: false, is_error: false, message, reason, took: Duration::ZERO }
    }
}

/// What an audit annotation came to: its value, nothing, or an error that denies.
enum Annotation {
    Publish(String),
    Exclude,
    Error(String),
}

/// Asks every policy that matches. All are asked, the first that denies is the answer.
///
/// # Errors
/// The denial.
pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &Value) -> Result<(), Status> {
    let Some(storage) = view.policies.storage else { return Ok(()) };
    let hooks = view.policies.policies.hooks(storage);
    if hooks.validating.is_empty() {
        return Ok(());
    }
    let Some(request) = Request::new(view, a) else { return Ok(()) };
    let mut denied: Vec<(String, String)> = Vec::new();
    for hook in &hooks.validating {
        let policy = &hook.policy;
        let asked = request.asked(hook, object, &mut |fault| {
            if policy.fail {
                denied.push((denial(policy, fault.binding.as_ref(), &fault.message), String::new()));
            }
        });
        let Some(asked) = asked else { continue };
        let mut annotations: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        if asked.bindings.is_empty() {
            continue;
        }
        let namespace = request.namespace()?;
        let (kind, resource) = request.shown_as(&asked.found);
        let shown = request.shown(object, &asked.found);
        let old = a.old.map(|old| request.shown(old, &asked.found));
        let described = expression::Request::new(a, request.kind.clone(), kind, resource);
        let deciding = request.deciding();
        for (binding, params) in &asked.bindings {
            for params in params {
                let input = Input {
                    object: &shown,
                    old: old.as_deref().unwrap_or(&Value::Null),
                    namespace: namespace.as_deref().unwrap_or(&Value::Null),
                    request: &described,
                    params: params.as_deref().unwrap_or(&Value::Null),
                    authorizer: Some(&deciding),
                };
                let (decisions, values) = policy.ask(&input);
                for (index, decision) in decisions.iter().enumerate() {
                    settle(view, policy, binding, index, decision, &mut denied);
                }
                for (key, value) in values {
                    match value {
                        Annotation::Publish(mut value) => {
                            value.truncate(value.floor_char_boundary(MOST_ANNOTATION));
                            let all = annotations.entry(key).or_default();
                            if !all.contains(&value) {
                                all.push(value);
                            }
                        }
                        Annotation::Exclude => {}
                        Annotation::Error(message) => {
                            count(view, policy, binding, "deny", Duration::ZERO, &message, true);
                            denied.push((denial(policy, Some(binding), &message), String::new()));
                        }
                    }
                }
            }
        }
        for (key, values) in annotations {
            (view.policies.annotate)(&format!("{}/{key}", policy.name), &values.join(", "));
        }
    }
    match denied.into_iter().next() {
        None => Ok(()),
        Some((message, reason)) => Err(refusal(a, object, message, &reason)),
    }
}

fn count(
    view: &View<'_>,
    policy: &Policy<Rules>,
    binding: &Binding,
    action: &str,
    took: Duration,
    message: &str,
    is_error: bool,
) {
    if let Some(metrics) = view.policies.metrics {
        metrics.validated((&policy.name, &binding.name), action, took, message, is_error);
    }
}

/// Does with a decision what the binding says.
fn settle(
    view: &View<'_>,
    policy: &Policy<Rules>,
    binding: &Arc<Binding>,
    index: usize,
    decision: &Decision,
    denied: &mut Vec<(String, String)>,
) {
    let count = |action: &str| {
        count(view, policy, binding, action, decision.took, &decision.message, decision.is_error);
    };
    if !decision.denied {
        if decision.is_error {
            count("allow");
        }
        return;
    }
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => {
                denied.push((denial(policy, Some(binding), &decision.message), decision.reason.clone()));
                count("deny");
            }
            "Audit" => {
                let failure = json!([{
                    "message": decision.message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": index,
                    "validationActions": binding.actions,
                }]);
                (view.policies.annotate)(FAILURE, &failure.to_string());
                count("audit");
            }
            "Warn" => {
                (view.warn)(format!(
                    "Validation failed for {NAME} '{}' with binding '{}': {}",
                    policy.name, binding.name, decision.message
                ));
                count("warn");
            }
            _ => {}
        }
    }
}

fn denial(policy: &Policy<Rules>, binding: Option<&Arc<Binding>>, message: &str) -> String {
    let policy = &policy.name;
    match binding {
        Some(binding) => {
            format!("{NAME} '{policy}' with binding '{}' denied request: {message}", binding.name)
        }
        None => format!("{NAME} '{policy}' denied request: {message}"),
    }
}

/// Upstream's forbidden, with the policy's own reason.
fn refusal(a: &AdmissionAttributes<'_>, object: &Value, message: String, reason: &str) -> Status {
    let mut status = forbidden(a, object, &message);
    (status.code, status.reason) = match reason {
        "Forbidden" => (403, "Forbidden".into()),
        "Unauthorized" => (401, "Unauthorized".into()),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge".into()),
        _ => (422, "Invalid".into()),
    };
    status.with_cause(Cause { message, ..Cause::default() })
}

impl Policy<Rules> {
    /// What all validations and annotations come to.
    fn ask(&self, input: &Input<'_>) -> (Vec<Decision>, Vec<(&str, Annotation)>) {
        match self.conditions.hold(input, Some(&self.composition), self.fail) {
            Ok(true) => {}
            Ok(false) => return (Vec::new(), Vec::new()),
            Err(why) => return (vec![Decision::error(self, why)], Vec::new()),
        }
        let mut budget = POLICY_BUDGET;
        let decisions = expression::look(input, Some(&self.composition), |session| {
            let mut decisions = Vec::with_capacity(self.rules.validations.len());
            for validation in &self.rules.validations {
                let began = Instant::now();
                let value = session.evaluate(&validation.expression, &mut budget)?;
                decisions.push(match value {
                    Ok(value) if value.as_bool() == Some(true) => Decision::admitted(),
                    Ok(_) => Decision { denied: true, took: began.elapsed(), ..Decision::admitted() },
                    Err(why) => Decision { took: began.elapsed(), ..Decision::error(self, why) },
                });
            }
            Ok::<_, &str>(decisions)
        });
        let mut decisions = match decisions {
            Ok(decisions) => decisions,
            Err(spent) => return (vec![Decision::error(self, spent.to_owned())], Vec::new()),
        };
        self.word(input, &mut decisions, budget);
        let annotations = match self.annotations(input) {
            Ok(annotations) => annotations,
            Err(spent) => return (vec![Decision::error(self, spent.to_owned())], Vec::new()),
        };
        (decisions, annotations)
    }

    /// Finds words for what was denied, with what the validations have left of the budget. Expressions for messages
    /// may not ask the authorizer. Nothing is evaluated for what was admitted, which upstream does and which shows
    /// only in what is left for the rest.
    fn word(&self, input: &Input<'_>, decisions: &mut [Decision], mut budget: u64) {
        if decisions.iter().all(|decision| !decision.denied || decision.is_error) {
            return;
        }
        let input = Input { authorizer: None, ..*input };
        let spent = expression::look(&input, Some(&self.composition), |session| {
            for (decision, validation) in decisions.iter_mut().zip(&self.rules.validations) {
                if !decision.denied || decision.is_error {
                    continue;
                }
                let made = match &validation.message_expression {
                    None => None,
                    Some(expression) => session
                        .evaluate(expression, &mut budget)?
                        .inspect_err(|why| {
                            tracing::debug!(policy = %self.name, %why, "a messageExpression failed");
                        })
                        .ok()
                        .as_ref()
                        .and_then(expression::text)
                        .map(str::trim)
                        .filter(|it| it.len() <= MOST_MESSAGE && !it.contains('\n'))
                        .map(str::to_owned),
                };
                let fixed = || validation.message.trim().to_owned();
                let message = made.filter(|it| !it.is_empty()).unwrap_or_else(fixed);
                decision.message = match message.as_str() {
                    "" => format!("failed expression: {}", validation.expression.source.trim()),
                    _ => message,
                };
                decision.reason = match validation.reason.as_str() {
                    "" => "Invalid".to_owned(),
                    reason => reason.to_owned(),
                };
            }
            Ok::<_, &str>(())
        });
        if let Err(spent) = spent {
            for decision in decisions.iter_mut().filter(|decision| !decision.is_error) {
                let took = decision.took;
                *decision =
                    Decision { took, ..Decision::error(self, format!("failed messageExpression: {spent}")) };
            }
        }
    }

    fn annotations(&self, input: &Input<'_>) -> Result<Vec<(&str, Annotation)>, &'static str> {
        if self.rules.annotations.is_empty() {
            return Ok(Vec::new());
        }
        let input = Input { authorizer: None, ..*input };
        let mut budget = POLICY_BUDGET;
        expression::look(&input, Some(&self.composition), |session| {
            let mut all = Vec::with_capacity(self.rules.annotations.len());
            for (key, expression) in &self.rules.annotations {
                let annotation = match session.evaluate(expression, &mut budget)? {
                    Ok(cel::Value::Null) => Annotation::Exclude,
                    Ok(value) => match expression::text(&value).map(str::trim) {
                        Some("") => Annotation::Exclude,
                        Some(text) => Annotation::Publish(text.to_owned()),
                        None => Annotation::Error(format!(
                            "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either \
                             string or null.",
                            expression.source,
                            value.type_name()
                        )),
                    },
                    Err(_) if !self.fail => Annotation::Exclude,
                    Err(why) => Annotation::Error(why),
                };
                all.push((key.as_str(), annotation));
            }
            Ok(all)
        })
    }
}
