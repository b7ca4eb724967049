//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: programs of users that are asked about writes (upstream's
//! `plugin/webhook/{mutating,validating}`).
//!
//! [`configurations`] follows what is stored, [`super::matching`] says which hooks a request is for, [`review`] is what
//! is asked and answered, [`super::version`] in which version. Calls go through [`crate::webhook`].
//!
//! Whatever a webhook answers, the request fails with a clear error or goes on with an object of its kind; nothing of a
//! patch is kept unless all of it is. Mutating hooks are asked one after the other, in the order of their
//! configurations' names; validating ones all at once, and all are waited for: of several refusals the first in that
//! order is told.

mod configurations;
mod review;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{
    field::quote,
    gvk::{GroupVersionKind, GroupVersionResource},
    patch::json,
    status::Status,
};
use futures::future::{BoxFuture, join_all};
use serde_json::Value;
use tokio::time::Instant;

use self::configurations::{Configurations, Hook, SideEffects};
use super::{
    AdmissionAttributes, Operation,
    expression::{self, Deciding, Input},
    matching::{self, Facts, Match},
    reinvocation::Rounds,
    version,
};
use crate::{
    metrics::webhooks::Call,
    registry::{authentication::user_info, generic::Scope, meta},
    request::UserInfo,
    webhook::{Error as CallError, Limits},
};

pub const MUTATING: &str = "MutatingAdmissionWebhook";
pub const VALIDATING: &str = "ValidatingAdmissionWebhook";

/// The largest answer that is read. Upstream reads whatever comes; this is what a request may have, and a patch that
/// is larger could not be stored.
const LARGEST_ANSWER: usize = 3 << 20;

/// More would not fit into the answer's headers.
const MOST_WARNINGS: usize = 1024;

/// Both plugins' configurations.
pub struct Webhooks {
    mutating: Option<Configurations>,
    validating: Option<Configurations>,
}

impl Webhooks {
    /// Each plugin may be switched off.
    pub fn new(mutating: bool, validating: bool) -> Self {
        Self {
            mutating: mutating.then(|| Configurations::new("mutatingwebhookconfigurations")),
            validating: validating.then(|| Configurations::new("validatingwebhookconfigurations")),
        }
    }
}

fn hooks(scope: &Scope<'_>, a: &AdmissionAttributes<'_>, of: Option<&Configurations>) -> Arc<[Arc<Hook>]> {
    match of {
        Some(configurations) if !matching::is_exempt(a.group, a.kind) => configurations.current(scope.server),
        _ => Arc::default(),
    }
}

/// Lets every mutating webhook that is for the request change the object, in order.
///
/// # Errors
/// The first refusal, or failure of a hook that may not fail.
pub async fn mutate(
    scope: &Scope<'_>,
    a: &AdmissionAttributes<'_>,
    object: &mut Value,
    rounds: &mut Rounds,
) -> Result<(), Status> {
    let hooks = hooks(scope, a, scope.server.admission.webhooks().mutating.as_ref());
    match hooks.is_empty() {
        true => Ok(()),
        // Apart, so that requests without webhooks carry no room for them.
        false => mutate_by(scope, a, object, rounds, hooks).await,
    }
}

fn mutate_by<'a>(
    scope: &'a Scope<'a>,
    a: &'a AdmissionAttributes<'a>,
    object: &'a mut Value,
    rounds: &'a mut Rounds,
    hooks: Arc<[Arc<Hook>]>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move { mutate_in_order(scope, a, object, rounds, &hooks).await })
}

async fn mutate_in_order(
    scope: &Scope<'_>,
    a: &AdmissionAttributes<'_>,
    object: &mut Value,
    rounds: &mut Rounds,
    hooks: &[Arc<Hook>],
) -> Result<(), Status> {
    if rounds.is_second() {
        rounds.webhooks.enter(object);
    }
    let asking = Asking::new(scope, a)?;
    for hook in hooks.iter() {
        if rounds.is_second() && !rounds.webhooks.is_asked_again(&hook.uid) {
            continue;
        }
        let Some(wanted) = asking.wanted(hook, object, "admit").await? else { continue };
        let began = Instant::now();
        let outcome = asking.mutate_by(hook, &wanted, object).await;
        asking.observe(hook, "admit", began, outcome.as_ref().err());
        match outcome {
            Ok(Some(new)) => {
                if new != *object {
                    *object = new;
                    rounds.webhooks.object_changed();
                    rounds.want_second();
                }
            }
            Ok(None) => {}
            Err(failure) => asking.settle(hook, "admit", failure)?,
        }
        if hook.is_reinvoked {
            rounds.webhooks.add(&hook.uid);
        }
    }
    rounds.webhooks.leave(object);
    Ok(())
}

/// Asks every validating webhook that is for the request, all at once.
///
/// # Errors
/// The first refusal, or failure of a hook that may not fail, in the hooks' order; after all have answered.
pub async fn validate(scope: &Scope<'_>, a: &AdmissionAttributes<'_>, object: &Value) -> Result<(), Status> {
    let hooks = hooks(scope, a, scope.server.admission.webhooks().validating.as_ref());
    match hooks.is_empty() {
        true => Ok(()),
        false => validate_by(scope, a, object, hooks).await,
    }
}

fn validate_by<'a>(
    scope: &'a Scope<'a>,
    a: &'a AdmissionAttributes<'a>,
    object: &'a Value,
    hooks: Arc<[Arc<Hook>]>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move { validate_at_once(scope, a, object, &hooks).await })
}

async fn validate_at_once(
    scope: &Scope<'_>,
    a: &AdmissionAttributes<'_>,
    object: &Value,
    hooks: &[Arc<Hook>],
) -> Result<(), Status> {
    let asking = Asking::new(scope, a)?;
    let mut wanted = Vec::new();
    for hook in hooks.iter() {
        if let Some(as_what) = asking.wanted(hook, object, "validating").await? {
            wanted.push((hook, as_what));
        }
    }
    // Hooks that want the same version are shown the same objects.
    let mut shown = BTreeMap::new();
    for (_, wanted) in &wanted {
        if !shown.contains_key(&wanted.kind) {
            let objects = (
                version::shown(scope, object, &wanted.kind).await?,
                version::shown(scope, a.old.unwrap_or(&Value::Null), &wanted.kind).await?,
            );
            shown.insert(wanted.kind.clone(), objects);
        }
    }
    let mut calls = Vec::new();
    for (hook, wanted) in &wanted {
        if let Some((object, old)) = shown.get(&wanted.kind) {
            calls.push(asking.allowed_by(hook, wanted, object, old));
        }
    }
    join_all(calls).await.into_iter().collect()
}

/// As what a hook wants to see the request.
struct Wanted {
    kind: GroupVersionKind,
    resource: GroupVersionResource,
}

/// Why a hook does not let a request pass.
enum Failure {
    /// It could not be asked, or its answer is none. Counts for the failure policy; the code is for metrics.
    Call { why: String, code: u16 },
    /// It refuses.
    Refusal(Status),
    /// It is not to be asked, or its patch does not fit.
    Other(Status),
}

/// One request, as its hooks are asked about it.
struct Asking<'a> {
    scope: &'a Scope<'a>,
    a: &'a AdmissionAttributes<'a>,
    /// As it came.
    kind: GroupVersionKind,
    resource: GroupVersionResource,
    request: matching::Request<'a>,
    options: Value,
    user: Value,
}

impl<'a> Asking<'a> {
    fn new(scope: &'a Scope<'a>, a: &'a AdmissionAttributes<'a>) -> Result<Self, Status> {
        let kind = matching::kind_of(scope.resource, a.subresource)
            .ok_or_else(|| Status::internal(format_args!("{} has no {}", a.resource, a.subresource)))?;
        let own = apimachinery::gvk::GroupVersion::new(a.group.to_owned(), a.version.to_owned());
        Ok(Self {
            scope,
            a,
            kind,
            resource: own.with_resource(a.resource.to_owned()),
            // A name that was generated is not the request's.
            request: matching::Request { name: scope.name, ..matching::Request::of(a) },
            options: a.options.describe(a.operation),
            user: user_info(a.user),
        })
    }

    /// Whether a hook wants the request, and as what.
    async fn wanted(
        &self,
        hook: &Hook,
        object: &Value,
        step: &'static str,
    ) -> Result<Option<Wanted>, Status> {
        let (scope, a) = (self.scope, self.a);
        let Some(wanted) = self.matched(hook, object)? else { return Ok(None) };
        if hook.conditions.is_empty() {
            return Ok(Some(wanted));
        }
        let shown = version::shown(scope, object, &wanted.kind).await?;
        let old = version::shown(scope, a.old.unwrap_or(&Value::Null), &wanted.kind).await?;
        if self.hold(hook, &wanted, &shown, &old)? {
            return Ok(Some(wanted));
        }
        scope.server.metrics.webhooks.excluded(self.named(hook, step));
        Ok(None)
    }

    /// By rules and selectors.
    fn matched(&self, hook: &Hook, object: &Value) -> Result<Option<Wanted>, Status> {
        let (scope, a) = (self.scope, self.a);
        let criteria = hook.criteria.as_ref().map_err(Status::internal)?;
        let namespaces = api::resource("", "v1", "namespaces");
        let labels = |name: &str| scope.server.storage.labels(namespaces?, "", name);
        let facts = Facts {
            object,
            old: a.old,
            namespace_labels: &|| matching::namespace_labels(&self.request, object, labels),
            equivalents: &|| scope.equivalents(),
        };
        Ok(match criteria.matches(&self.request, &facts)? {
            None => None,
            Some(Match::Itself) => Some(Wanted { kind: self.kind.clone(), resource: self.resource.clone() }),
            Some(Match::As(other)) => Some(Wanted { kind: other.kind, resource: other.resource }),
        })
    }

    fn hold(&self, hook: &Hook, wanted: &Wanted, object: &Value, old: &Value) -> Result<bool, Status> {
        let (scope, a) = (self.scope, self.a);
        let decide = |user: &UserInfo, attributes: &crate::authorization::Attributes<'_>| {
            scope.server.authorizer.decide(user, attributes)
        };
        let authorizer = Deciding { user: a.user, decide: &decide };
        let attributes =
            AdmissionAttributes { name: self.request.name, namespace: self.request.namespace, ..a.clone() };
        let (kind, resource) = (wanted.kind.clone(), wanted.resource.clone());
        let request = expression::Request::new(&attributes, self.kind.clone(), kind, resource);
        let input = Input {
            object,
            old,
            namespace: &Value::Null,
            request: &request,
            params: &Value::Null,
            authorizer: Some(&authorizer),
        };
        let hold = hook.conditions.hold(&input, None, !hook.ignores_failures);
        hold.map_err(|why| Status::forbidden(a.group, a.resource, self.request.name, why))
    }

    async fn allowed_by(
        &self,
        hook: &Hook,
        wanted: &Wanted,
        object: &Value,
        old: &Value,
    ) -> Result<(), Status> {
        let began = Instant::now();
        let outcome = self.call(hook, wanted, object, old, false).await;
        self.observe(hook, "validating", began, outcome.as_ref().err());
        outcome.map(drop).or_else(|failure| self.settle(hook, "validating", failure))
    }

    /// The object after a hook has changed it; `None` if it did not.
    async fn mutate_by(
        &self,
        hook: &Hook,
        wanted: &Wanted,
        object: &Value,
    ) -> Result<Option<Value>, Failure> {
        let other = Failure::Other;
        let old = self.a.old.unwrap_or(&Value::Null);
        let shown = version::shown(self.scope, object, &wanted.kind).await.map_err(other)?;
        let old = version::shown(self.scope, old, &wanted.kind).await.map_err(other)?;
        let answer = self.call(hook, wanted, &shown, &old, true).await?;
        if answer.patch.is_empty() {
            return Ok(None);
        }
        let patch = json::Patch::parse(&answer.patch).map_err(|e| Failure::Call {
            why: format!("received undecodable patch in webhook response: {e}"),
            code: 503,
        })?;
        if is_empty(&answer.patch) {
            return Ok(None);
        }
        // The options of a connection are the query's, and nobody else's to change.
        if object.is_null() || self.a.operation == Operation::Connect {
            return Err(Failure::Other(Status::internal(format_args!(
                "admission webhook {} attempted to modify the object, which is not supported for this operation",
                quote(&hook.name)
            ))));
        }
        if answer.patch_type != "JSONPatch" {
            let why = format!("unsupported patch type {}", quote(&answer.patch_type));
            return Err(Failure::Call { why, code: 400 });
        }
        let patched = patch.apply(shown.clone().into_owned()).map_err(|e| other(Status::internal(e)))?;
        if patched == *shown {
            return Ok(None);
        }
        if !patched.is_object() {
            return Err(other(Status::internal("the patch leaves no object")));
        }
        if patched["kind"] != *wanted.kind.kind
            || patched["apiVersion"] != wanted.kind.group_version().to_string()
        {
            return Err(other(Status::internal(format_args!(
                "admission webhook {} made another kind of the object",
                quote(&hook.name)
            ))));
        }
        version::taken(self.scope, object, patched, &wanted.kind).await.map(Some).map_err(other)
    }

    /// Asks a hook; an answer is that it allows the request.
    async fn call(
        &self,
        hook: &Hook,
        wanted: &Wanted,
        object: &Value,
        old: &Value,
        mutating: bool,
    ) -> Result<review::Answer, Failure> {
        let (scope, a) = (self.scope, self.a);
        let failed = |why: String, code: u16| Failure::Call { why, code };
        if a.dry_run {
            match hook.side_effects {
                SideEffects::NotOnDryRun => {}
                SideEffects::Unsaid => return Err(failed("Webhook SideEffects is nil".to_owned(), 400)),
                SideEffects::Some => {
                    let why = format!("admission webhook {} does not support dry run", quote(&hook.name));
                    return Err(Failure::Other(Status::bad_request(why)));
                }
            }
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                       (v1, v1beta1)";
            return Err(failed(why.to_owned(), 400));
        };
        let uid = meta::uid(&*scope.server.entropy);
        let question = review::Question {
            uid: &uid,
            kind: &wanted.kind,
            resource: &wanted.resource,
            requested_kind: &self.kind,
            requested_resource: &self.resource,
            subresource: a.subresource,
            name: self.request.name,
            namespace: self.request.namespace,
            operation: a.operation,
            user: &self.user,
            object,
            old,
            dry_run: a.dry_run,
            options: &self.options,
        };
        let body = review::write(version, &question).map_err(|e| failed(e.to_string(), 400))?;
        let limits = Limits { timeout: hook.timeout, bytes: LARGEST_ANSWER };
        let answer = match hook.target(scope.server) {
            Ok(target) => scope.server.webhooks.post(target, body, limits).await,
            Err(error) => Err(error),
        };
        let answer = answer.map_err(|error: CallError| failed(error.to_string(), error.code()))?;
        let answer = review::read(version, mutating, &uid, &answer);
        let answer = answer.map_err(|error| failed(error.to_string(), 503))?;
        for (key, value) in &answer.audit_annotations {
            tracing::debug!(webhook = hook.name, key, value, "audit annotation");
        }
        for warning in answer.warnings.iter().take(MOST_WARNINGS) {
            scope.warnings.add(warning.as_str());
        }
        match answer.allowed {
            true => Ok(answer),
            false => Err(Failure::Refusal(review::refusal(&hook.name, answer.status))),
        }
    }

    fn named<'b>(&self, hook: &'b Hook, step: &'static str) -> Call<'b> {
        Call { name: &hook.name, step, operation: review::operation(self.a.operation) }
    }

    fn observe(&self, hook: &Hook, step: &'static str, began: Instant, failure: Option<&Failure>) {
        let (metrics, call) = (&self.scope.server.metrics.webhooks, self.named(hook, step));
        let (error, code) = match failure {
            None => (None, 200),
            Some(Failure::Call { code, .. }) if hook.ignores_failures => (None, *code),
            Some(Failure::Call { code, .. }) => (Some("calling_webhook_error"), *code),
            Some(Failure::Refusal(status)) => (Some("no_error"), status.code),
            Some(Failure::Other(_)) => (Some("apiserver_internal_error"), 0),
        };
        if let Some(error) = error {
            metrics.rejected(call, error, code);
        }
        metrics.called(call, began.elapsed(), error.is_some(), code);
    }

    /// What a failure comes to: nothing, for a hook that may fail.
    fn settle(&self, hook: &Hook, step: &'static str, failure: Failure) -> Result<(), Status> {
        match failure {
            Failure::Refusal(status) | Failure::Other(status) => Err(status),
            Failure::Call { why, .. } => {
                let (name, configuration) = (&*hook.name, &*hook.configuration);
                if hook.ignores_failures {
                    tracing::warn!(name, configuration, why, "calling a webhook failed; going on without it");
                    self.scope.server.metrics.webhooks.failed_open(self.named(hook, step));
                    return Ok(());
                }
                tracing::warn!(name, configuration, why, "calling a webhook failed; the request is refused");
                Err(Status::internal(format_args!("failed calling webhook {}: {why}", quote(name))))
            }
        }
    }
}

/// A patch without operations.
fn is_empty(patch: &[u8]) -> bool {
    serde_json::from_slice::<Value>(patch).is_ok_and(|patch| patch.as_array().is_some_and(Vec::is_empty))
}
