//! MutatingAdmissionPolicy: expressions that change a request's object (upstream's `plugin/policy/mutating`).

use std::sync::Arc;

use apimachinery::status::{Cause, Status};
use kinds::admissionregistration::expression::Wanted;
use serde_json::Value;
use tokio::time::Instant;

use super::super::expression::{self, Composition, Declared, Expression, Input, POLICY_BUDGET};
use super::super::matching::Match;
use super::super::reinvocation::Rounds;
use super::super::{AdmissionAttributes, Operation, View, forbidden};
use super::patch::{self, Failure};
use super::{Binding, Policy, Request, items, text};

pub const NAME: &str = "MutatingAdmissionPolicy";

/// `mutations` and `reinvocationPolicy`.
pub(super) struct Rules {
    mutations: Vec<Mutation>,
    /// `IfNeeded`.
    reinvoke: bool,
}

struct Mutation {
    expression: Expression,
    /// An apply configuration, rather than a JSON patch.
    applies: bool,
}

impl Rules {
    pub(super) fn compile(spec: &Value, composition: &Composition) -> Self {
        let declared = Declared { authorizer: true, mutation: true, ..Declared::default() };
        let mutation = |one: &Value| {
            let applies = text(one, "patchType") == "ApplyConfiguration";
            let (field, wanted) =
                if applies { ("applyConfiguration", Wanted::Object) } else { ("jsonPatch", Wanted::Patches) };
            let expression = composition.expression(text(&one[field], "expression"), declared, wanted);
            Mutation { expression, applies }
        };
        Self {
            mutations: items(spec, "mutations").iter().map(mutation).collect(),
            reinvoke: text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }
}

/// One mutation to be made, or what stands in its way.
struct Invocation<'h> {
    policy: &'h Policy<Rules>,
    found: Match,
    binding: Arc<Binding>,
    params: Option<Arc<Value>>,
}

impl Invocation<'_> {
    /// The policy, the binding, and the namespace and name of the parameters.
    fn key(&self) -> String {
        let of = |field: &str| self.params.as_deref().map_or("", |params| text(&params["metadata"], field));
        format!("{}/{}/{}/{}", self.policy.name, self.binding.name, of("namespace"), of("name"))
    }
}

/// What is said against the request.
struct Complaint {
    message: String,
    /// It is about the request, not about how the policy is set up.
    invalid: bool,
}

/// Lets every policy that matches change the object, in order; in the second round those after whom somebody else has
/// changed it.
///
/// # Errors
/// What policies that fail say.
pub fn mutate(
    view: &View<'_>,
    a: &AdmissionAttributes<'_>,
    object: &mut Value,
    rounds: &mut Rounds,
) -> Result<(), Status> {
    let Some(storage) = view.policies.storage else { return Ok(()) };
    let hooks = view.policies.policies.hooks(storage);
    if hooks.mutating.is_empty() || a.operation == Operation::Delete {
        return Ok(());
    }
    let Some(request) = Request::new(view, a) else { return Ok(()) };
    let mut complaints = Vec::new();
    let mut invocations = Vec::new();
    for hook in &hooks.mutating {
        let policy = &*hook.policy;
        let asked = request.asked(hook, object, &mut |fault| {
            if policy.fail {
                let message = denial(policy, fault.binding.as_deref(), &fault.message);
                complaints.push(Complaint { message, invalid: false });
            }
        });
        for (binding, params) in asked.iter().flat_map(|asked| &asked.bindings) {
            for params in params {
                let (binding, params) = (binding.clone(), params.clone());
                let found = asked.as_ref().map_or(Match::Itself, |asked| asked.found.clone());
                invocations.push(Invocation { policy, found, binding, params });
            }
        }
    }
    if !invocations.is_empty() {
        invoke(&request, object, &invocations, rounds, &mut complaints)?;
    }
    if complaints.is_empty() { Ok(()) } else { Err(refusal(a, object, complaints)) }
}

fn invoke(
    request: &Request<'_>,
    object: &mut Value,
    invocations: &[Invocation<'_>],
    rounds: &mut Rounds,
    complaints: &mut Vec<Complaint>,
) -> Result<(), Status> {
    if rounds.is_second() {
        rounds.policies.enter(object);
    }
    let namespace = request.namespace()?;
    let deciding = request.deciding();
    for invocation in invocations {
        let policy = invocation.policy;
        let (kind, resource) = request.shown_as(&invocation.found);
        let described = expression::Request::new(request.a, request.kind.clone(), kind.clone(), resource);
        let old = request.a.old.map(|old| request.shown(old, &invocation.found));
        let shown = request.shown(object, &invocation.found);
        let input = Input {
            object: &shown,
            old: old.as_deref().unwrap_or(&Value::Null),
            namespace: namespace.as_deref().unwrap_or(&Value::Null),
            request: &described,
            params: invocation.params.as_deref().unwrap_or(&Value::Null),
            authorizer: Some(&deciding),
        };
        match policy.conditions.hold(&input, Some(&policy.composition), policy.fail) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                complain(invocation, &why, complaints);
                continue;
            }
        }
        let key = invocation.key();
        if rounds.is_second() && !rounds.policies.is_asked_again(&key) {
            continue;
        }
        let mut made: Option<Value> = None;
        for mutation in &policy.rules.mutations {
            if shown.is_null() {
                continue;
            }
            let began = Instant::now();
            let before = made.as_ref().unwrap_or(&shown);
            let outcome = mutated(request, invocation, mutation, &Input { object: before, ..input });
            let names = (&*policy.name, &*invocation.binding.name);
            let count = |error: Option<&str>| {
                if let Some(metrics) = request.around.metrics {
                    metrics.mutated(names, began.elapsed(), error);
                }
            };
            match outcome {
                Ok(next) => {
                    count(None);
                    made = Some(next);
                }
                Err(Failure::Policy(why)) => {
                    count(Some(&why));
                    complain(invocation, &why, complaints);
                }
                Err(Failure::Request(status)) => {
                    count(Some(&status.message));
                    return Err(*status);
                }
            }
        }
        if let Some(made) = made {
            let changed = made != *shown;
            rounds.want_second();
            if changed {
                *object = request.taken(made, object, &invocation.found)?;
                rounds.policies.object_changed();
            }
        }
        if policy.rules.reinvoke {
            rounds.policies.add(&key);
        }
    }
    rounds.policies.leave(object);
    Ok(())
}

/// What one mutation makes of the object.
fn mutated(
    request: &Request<'_>,
    invocation: &Invocation<'_>,
    mutation: &Mutation,
    input: &Input<'_>,
) -> Result<Value, Failure> {
    let kind = &input.request.kind;
    let target = request.target(&invocation.found);
    let Some((target, types)) = target.as_ref().and_then(|it| Some((it, it.types()?))) else {
        let why = format!(
            "Resource kind {}/{}, Kind={} not found. There can be a delay between when CustomResourceDefinitions are \
             created and when they are available.",
            kind.group, kind.version, kind.kind
        );
        return Err(Failure::Request(Box::new(Status::service_unavailable(why))));
    };
    if let Some(fault) = mutation.expression.fault() {
        return Err(Failure::Policy(fault.to_owned()));
    }
    let mut budget = POLICY_BUDGET;
    let patched = expression::look(input, Some(&invocation.policy.composition), |session| {
        let value = session.evaluate(&mutation.expression, &mut budget).map_err(str::to_owned)??;
        if mutation.applies {
            patch::apply(&value, types, input.object)
        } else {
            patch::patch(&value, input.object)
        }
    })?;
    patch::settle(patched, target, types, kind)
}

fn complain(invocation: &Invocation<'_>, why: &str, complaints: &mut Vec<Complaint>) {
    if invocation.policy.fail {
        let message = denial(invocation.policy, Some(&invocation.binding), why);
        complaints.push(Complaint { message, invalid: true });
    }
}

fn denial(policy: &Policy<Rules>, binding: Option<&Binding>, why: &str) -> String {
    match binding {
        Some(binding) => {
            format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name)
        }
        None => format!("policy {:?} denied request: {why}", policy.name),
    }
}

/// The first complaint is the message, all are causes.
fn refusal(a: &AdmissionAttributes<'_>, object: &Value, complaints: Vec<Complaint>) -> Status {
    let mut status = forbidden(a, object, "admission request denied by policy");
    if let Some(first) = complaints.first() {
        status.message.clone_from(&first.message);
        if first.invalid {
            status.reason = "Invalid".into();
        }
    }
    complaints.into_iter().fold(status, |status, complaint| {
        status.with_cause(Cause { message: complaint.message, ..Cause::default() })
    })
}
