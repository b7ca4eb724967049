//! Expressions of policies and match conditions, compiled once per stored revision and evaluated at every request
//! that comes to them (upstream's `plugin/cel` and `plugin/webhook/matchconditions`). What they may name and what is
//! wrong with them is [`kinds::admissionregistration::expression`]'s.
//!
//! Nothing is copied for an evaluation: objects are viewed where they are, and the request is described only if an
//! expression looks at it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use apimachinery::gvk::{GroupVersionKind, GroupVersionResource};
use cel::authz::{self, Asker, Attributes, Check};
use cel::{Lookup, Map, Program, Text, Value as Cel};
use kinds::admissionregistration::expression as language;
pub use kinds::admissionregistration::expression::{Declared, MATCH_CONDITIONS_BUDGET, POLICY_BUDGET};
use kinds::admissionregistration::expression::{Typed, Variables, Wanted};
use serde_json::{Map as JsonMap, Value, json};

use super::{AdmissionAttributes, Operation};
use crate::authorization::{self, Decision};
use crate::request::UserInfo;

/// An expression, or what is wrong with it: which is an error whenever it is evaluated.
pub struct Expression {
    pub source: String,
    program: Result<Program, String>,
}

impl Expression {
    /// Compiles an expression without variables of its own.
    pub fn compile(source: &str, declared: Declared, wanted: Wanted) -> Self {
        Self::within(source, &language::environment(declared, None, Typed::default()), wanted).0
    }

    fn within(source: &str, environment: &cel::Environment, wanted: Wanted) -> (Self, Option<cel::Type>) {
        let (program, kind) = match language::compile(source, environment, wanted) {
            Ok((program, kind)) => (Ok(program), Some(kind)),
            Err(why) => (Err(why), None),
        };
        (Self { source: source.to_owned(), program }, kind)
    }

    /// What is wrong with it, if anything is.
    pub fn fault(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }
}

/// The variables of a policy, and what its expressions are compiled with.
#[derive(Default)]
pub struct Composition {
    variables: Vec<(String, Expression)>,
    types: Variables,
    params: bool,
}

impl Composition {
    /// Compiles `spec.variables`, each of which may name those before it.
    pub fn compile(variables: &[Value], params: bool) -> Self {
        let mut this = Self { params, ..Self::default() };
        for variable in variables {
            let text = |field: &str| variable[field].as_str().unwrap_or_default();
            let (expression, kind) = Expression::within(
                text("expression"),
                &this.environment(Declared { params, authorizer: true, mutation: false }),
                Wanted::Anything,
            );
            this.types.add(text("name"), kind.as_ref());
            this.variables.push((text("name").to_owned(), expression));
        }
        this
    }

    fn environment(&self, declared: Declared) -> cel::Environment {
        language::environment(declared, Some(&self.types), Typed::default())
    }

    /// Compiles an expression that may name them; `mutation` and `authorizer` are declared as said.
    pub fn expression(&self, source: &str, declared: Declared, wanted: Wanted) -> Expression {
        let declared = Declared { params: self.params, ..declared };
        Expression::within(source, &self.environment(declared), wanted).0
    }
}

/// A request as expressions see it, in the version in which it matched.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `Null` on delete.
    pub object: &'a Value,
    /// `Null` on create and connect.
    pub old: &'a Value,
    /// The stored namespace; `Null` for what is in none, and in match conditions.
    pub namespace: &'a Value,
    pub request: &'a Request<'a>,
    /// `Null` where the binding names none.
    pub params: &'a Value,
    /// Who is asked for decisions; none where expressions may not ask.
    pub authorizer: Option<&'a Deciding<'a>>,
}

/// `request`, described when an expression looks at it.
pub struct Request<'a> {
    pub attributes: &'a AdmissionAttributes<'a>,
    /// The kind in the request, and as what it matched.
    pub requested_kind: GroupVersionKind,
    pub kind: GroupVersionKind,
    pub resource: GroupVersionResource,
    described: OnceLock<Value>,
}

impl<'a> Request<'a> {
    pub fn new(
        attributes: &'a AdmissionAttributes<'a>,
        requested_kind: GroupVersionKind,
        kind: GroupVersionKind,
        resource: GroupVersionResource,
    ) -> Self {
        Self { attributes, requested_kind, kind, resource, described: OnceLock::new() }
    }

    /// An `AdmissionRequest` without `uid` and objects.
    pub fn describe(&self) -> Value {
        let a = self.attributes;
        let kind =
            |it: &GroupVersionKind| json!({"group": *it.group, "version": *it.version, "kind": *it.kind});
        let mut user = JsonMap::new();
        for (key, value) in [("username", &a.user.name), ("uid", &a.user.uid)] {
            if !value.is_empty() {
                user.insert(key.to_owned(), value.as_str().into());
            }
        }
        if !a.user.groups.is_empty() {
            user.insert("groups".to_owned(), a.user.groups.clone().into());
        }
        if !a.user.extra.is_empty() {
            user.insert("extra".to_owned(), json!(a.user.extra));
        }
        let mut all = json!({
            "kind": kind(&self.kind),
            "resource": {"group": *self.resource.group, "version": *self.resource.version,
                "resource": *self.resource.resource},
            "requestKind": kind(&self.requested_kind),
            "requestResource": {"group": a.group, "version": a.version, "resource": a.resource},
            "operation": match a.operation {
                Operation::Create => "CREATE",
                Operation::Update => "UPDATE",
                Operation::Delete => "DELETE",
                Operation::Connect => "CONNECT",
            },
            "userInfo": user,
            "dryRun": a.dry_run,
            "options": a.options.describe(a.operation),
        });
        for (key, value) in [
            ("subResource", a.subresource),
            ("requestSubResource", a.subresource),
            ("name", a.name),
            ("namespace", a.namespace),
        ] {
            if !value.is_empty() {
                all[key] = value.into();
            }
        }
        all
    }

    fn described(&self) -> &Value {
        self.described.get_or_init(|| self.describe())
    }
}

impl Lookup for Request<'_> {
    fn get(&self, name: &str) -> Option<cel::Result<Cel<'_>>> {
        self.described().get(name).map(|value| Ok(Cel::json(value)))
    }

    fn names(&self) -> Vec<&str> {
        self.described().as_object().map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default()
    }
}

/// Answers expressions that ask whether somebody may do something.
pub struct Deciding<'a> {
    pub user: &'a UserInfo,
    pub decide: &'a (dyn Fn(&UserInfo, &authorization::Attributes<'_>) -> Decision + Send + Sync),
}

impl authz::Authorizer for Deciding<'_> {
    fn decide(&self, check: &Check) -> Option<authz::Decision> {
        let account;
        let user = match &check.asker {
            Asker::Requester => self.user,
            Asker::ServiceAccount { namespace, name } => {
                let group = format!("system:serviceaccounts:{namespace}");
                account = UserInfo::new(
                    format!("system:serviceaccount:{namespace}:{name}"),
                    &["system:serviceaccounts", &group, "system:authenticated"],
                );
                &account
            }
        };
        let attributes = match &check.attributes {
            Attributes::Path(path) => {
                authorization::Attributes { verb: &check.verb, path, ..authorization::Attributes::default() }
            }
            Attributes::Resource(it) => authorization::Attributes {
                is_resource: true,
                verb: &check.verb,
                group: &it.group,
                version: "*",
                resource: &it.resource,
                subresource: &it.subresource,
                namespace: &it.namespace,
                name: &it.name,
                path: "",
                field_selector: &it.field_selector,
                label_selector: &it.label_selector,
            },
        };
        let decision = (self.decide)(user, &attributes);
        Some(authz::Decision {
            allowed: decision.is_allowed(),
            reason: decision.reason().to_string(),
            error: decision.reason().failure().map(str::to_owned),
        })
    }
}

/// What ends all evaluation of one policy: the budget is spent.
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// One look at a request by expressions that share a budget and what their variables have come to.
pub struct Session<'a, 'e: 'a> {
    values: &'a [Option<Cel<'a>>],
    lazy: &'a Lazy<'a>,
    expressions: std::marker::PhantomData<&'e Expression>,
}

impl<'a, 'e: 'a> Session<'a, 'e> {
    /// Evaluates. The inner error is the expression's, in upstream's words.
    ///
    /// # Errors
    /// [`OUT_OF_BUDGET`].
    pub fn evaluate(
        &self,
        expression: &'e Expression,
        budget: &mut u64,
    ) -> Result<Result<Cel<'a>, String>, &'static str> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        let outcome = program.evaluate(self.values, cel::cost::PER_CALL_LIMIT);
        for cost in [self.lazy.spent.swap(0, Ordering::Relaxed), outcome.cost] {
            *budget = budget.checked_sub(cost).ok_or(OUT_OF_BUDGET)?;
        }
        Ok(outcome
            .value
            .map_err(|why| format!("expression '{}' resulted in error: {why}", expression.source)))
    }
}

/// Looks at a request with expressions; `composition` is the policy's, if it is one that looks.
pub fn look<'e, T>(
    input: &Input<'_>,
    composition: Option<&Composition>,
    look: impl for<'s> FnOnce(&Session<'s, 'e>) -> T,
) -> T {
    let variables = composition.map_or(&[][..], |all| &all.variables);
    let lazy = Lazy {
        variables,
        found: variables.iter().map(|_| OnceLock::new()).collect(),
        values: OnceLock::new(),
        spent: AtomicU64::new(0),
    };
    let handle = Handle(&lazy);
    let mut values = Vec::with_capacity(8);
    values.push(Some(Cel::json(input.object)));
    values.push(Some(Cel::json(input.old)));
    values.push(Some(Cel::json(input.namespace)));
    values.push(Some(Cel::Map(Map::Lazy(input.request))));
    if composition.is_some() {
        values.push(Some(Cel::Map(Map::Lazy(&handle))));
    }
    if composition.is_some_and(|all| all.params) {
        values.push(Some(Cel::json(input.params)));
    }
    if let Some(authorizer) = input.authorizer {
        let a = input.request.attributes;
        let resource = authz::Resource {
            group: a.group.to_owned(),
            resource: a.resource.to_owned(),
            subresource: a.subresource.to_owned(),
            namespace: a.namespace.to_owned(),
            name: a.name.to_owned(),
            ..authz::Resource::default()
        };
        values.push(Some(authz::authorizer(authorizer)));
        values.push(Some(authz::request_resource(authorizer, resource)));
    }
    let _ = lazy.values.set(&values);
    look(&Session { values: &values, lazy: &lazy, expressions: std::marker::PhantomData })
}

/// Variables, each worked out when it is first looked at, once.
struct Lazy<'a> {
    variables: &'a [(String, Expression)],
    found: Vec<OnceLock<cel::Result<Cel<'a>>>>,
    values: OnceLock<&'a [Option<Cel<'a>>]>,
    /// By variables, since it was last charged.
    spent: AtomicU64,
}

struct Handle<'a>(&'a Lazy<'a>);

impl<'a> Lazy<'a> {
    fn get(&'a self, name: &str) -> Option<cel::Result<Cel<'a>>> {
        // Of two with one name the later one counts, as upstream has it.
        let at = self.variables.iter().rposition(|(it, _)| it == name)?;
        let (_, expression) = self.variables.get(at)?;
        let found = self.found.get(at)?.get_or_init(|| {
            let program = match &expression.program {
                Ok(program) => program,
                Err(why) => {
                    return Err(cel::Error::new(format!(
                        "composited variable {name:?} fails to compile: {why}"
                    )));
                }
            };
            let values = self.values.get().copied().unwrap_or_default();
            let outcome = program.evaluate(values, cel::cost::PER_CALL_LIMIT);
            self.spent.fetch_add(outcome.cost, Ordering::Relaxed);
            outcome.value.map_err(|why| {
                cel::Error::new(format!("composited variable {name:?} fails to evaluate: {why}"))
            })
        });
        Some(found.clone())
    }
}

impl Lookup for Handle<'_> {
    fn get(&self, name: &str) -> Option<cel::Result<Cel<'_>>> {
        self.0.get(name)
    }

    fn names(&self) -> Vec<&str> {
        self.0.variables.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// `matchConditions`: what must all be true for a webhook or a policy to be asked.
#[derive(Default)]
pub struct MatchConditions {
    conditions: Vec<Expression>,
}

impl MatchConditions {
    /// Of a webhook.
    pub fn of_webhook(conditions: &[Value]) -> Self {
        let declared = Declared { authorizer: true, ..Declared::default() };
        Self::read(conditions, |source| Expression::compile(source, declared, Wanted::Bool))
    }

    /// Of a policy, with its variables.
    pub fn of_policy(conditions: &[Value], composition: &Composition) -> Self {
        let declared = Declared { authorizer: true, ..Declared::default() };
        Self::read(conditions, |source| composition.expression(source, declared, Wanted::Bool))
    }

    fn read(conditions: &[Value], compile: impl Fn(&str) -> Expression) -> Self {
        let sources = conditions.iter().map(|one| one["expression"].as_str().unwrap_or_default());
        Self { conditions: sources.map(compile).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether all are true. One that is false decides; else one that fails does: with `fail` (the failure policy) as
    /// an error, without it like one that is false. The namespace is not shown to them.
    ///
    /// # Errors
    /// What the conditions that failed say.
    pub fn hold(
        &self,
        input: &Input<'_>,
        composition: Option<&Composition>,
        fail: bool,
    ) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let input = Input { namespace: &Value::Null, ..*input };
        let mut budget = MATCH_CONDITIONS_BUDGET;
        let outcome = look(&input, composition, |session| {
            let (mut errors, mut refused) = (Vec::new(), false);
            for condition in &self.conditions {
                match session.evaluate(condition, &mut budget) {
                    Ok(Ok(value)) => refused |= value.as_bool() == Some(false),
                    Ok(Err(why)) => errors.push(why),
                    Err(spent) => return Err(vec![spent.to_owned()]),
                }
            }
            if refused || errors.is_empty() { Ok(!refused) } else { Err(errors) }
        });
        match outcome {
            Ok(hold) => Ok(hold),
            Err(_) if !fail => Ok(false),
            Err(mut errors) => {
                let mut seen = std::collections::BTreeSet::new();
                errors.retain(|why| seen.insert(why.clone()));
                Err(if errors.len() == 1 { errors.concat() } else { format!("[{}]", errors.join(", ")) })
            }
        }
    }
}

/// The text of a value, if it is one.
pub fn text<'v>(value: &'v Cel<'_>) -> Option<&'v str> {
    match value {
        Cel::String(Text::Borrowed(text)) => Some(text),
        Cel::String(Text::Shared(text)) => Some(text),
        _ => None,
    }
}
