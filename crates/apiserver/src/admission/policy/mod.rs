//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy (KEP-3488, KEP-3962): rules of the cluster's owner, written
//! in CEL, that every request they match is held to.
//!
//! Policies and bindings are followed in the store and compiled once per stored version, so a request takes in what
//! was written before it, and one that no policy matches costs a few comparisons. [`validating`] asks, [`mutating`]
//! changes, `params` finds what bindings lend to the rules, `patch` carries out what mutations say. What matches is
//! [`super::matching`]'s, what expressions see is [`super::expression`]'s.

pub mod metrics;
pub mod mutating;
mod params;
mod patch;
pub mod validating;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use apimachinery::gvk::{self, GroupVersionKind, GroupVersionResource};
use apimachinery::schema::{Resource, ResourceRef, Schema, TypeId};
use apimachinery::status::Status;
use arc_swap::ArcSwap;
use serde_json::Value;

use super::expression::{Composition, Deciding, MatchConditions};
use super::matching::{self, Criteria, Equivalent, Facts, Match};
use super::{AdmissionAttributes, View};
use crate::authorization::{self, Decision, Set};
use crate::registry::scale;
use crate::request::UserInfo;
use crate::storage::Storage;
use crate::{conversion, custom};

const GROUP: &str = "admissionregistration.k8s.io";
const PLURALS: [&str; 4] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];
/// Reviews that are not stored: to keep them from being answered breaks the cluster.
const EXCLUDED: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// What policies may look at besides what every plugin may.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub policies: &'a Policies,
    /// None where nothing is stored: then there are no policies.
    pub storage: Option<&'a Storage>,
    pub metrics: Option<&'a metrics::Metrics>,
    /// The resource of the request.
    pub resource: Option<&'a Resource>,
    /// A kind that is served, by group, version and kind: of parameters, and as what a request matched.
    pub kind: &'a (dyn Fn(&str, &str, &str) -> Option<ResourceRef> + Send + Sync),
    /// The other versions of the request's resource.
    pub equivalents: &'a (dyn Fn() -> Vec<Equivalent> + Send + Sync),
    pub decide: &'a (dyn Fn(&UserInfo, &authorization::Attributes<'_>) -> Decision + Send + Sync),
    /// Adds an annotation to the audit event.
    pub annotate: &'a (dyn Fn(&str, &str) + Send + Sync),
}

/// The policies of the store.
#[derive(Default)]
pub struct Policies {
    followed: OnceLock<Set>,
    known: Mutex<Known>,
    /// Whether something was taken in that `hooks` do not know of.
    changed: AtomicBool,
    hooks: ArcSwap<Hooks>,
}

#[derive(Default)]
struct Known {
    /// By plural and name.
    objects: BTreeMap<(String, String), Arc<Value>>,
    validating: BTreeMap<String, Arc<Policy<validating::Rules>>>,
    mutating: BTreeMap<String, Arc<Policy<mutating::Rules>>>,
}

/// What is asked at every request: policies with their bindings, by name.
#[derive(Default)]
pub struct Hooks {
    validating: Vec<Hook<validating::Rules>>,
    mutating: Vec<Hook<mutating::Rules>>,
}

struct Hook<T> {
    policy: Arc<Policy<T>>,
    bindings: Vec<Arc<Binding>>,
}

/// A policy, compiled.
struct Policy<T> {
    name: String,
    /// `failurePolicy: Fail`.
    fail: bool,
    criteria: Result<Criteria, String>,
    param_kind: Option<GroupVersionKind>,
    composition: Composition,
    conditions: MatchConditions,
    rules: T,
}

struct Binding {
    name: String,
    /// None: whatever the policy matches.
    criteria: Option<Result<Criteria, String>>,
    param_ref: Option<params::Reference>,
    /// `validationActions`, in order.
    actions: Vec<String>,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

impl<T> Policy<T> {
    fn compile(name: &str, object: &Value, rules: impl FnOnce(&Value, &Composition) -> T) -> Self {
        let spec = &object["spec"];
        let param_kind = spec["paramKind"].as_object().and_then(|_| {
            let (group, version) = gvk::split(text(&spec["paramKind"], "apiVersion")).ok()?;
            let kind = text(&spec["paramKind"], "kind").to_owned();
            Some(GroupVersionKind::new(group.to_owned(), version.to_owned(), kind))
        });
        let composition = Composition::compile(items(spec, "variables"), param_kind.is_some());
        Self {
            name: name.to_owned(),
            fail: text(spec, "failurePolicy") != "Ignore",
            criteria: Criteria::of_policy(&spec["matchConstraints"]).map_err(|why| why.to_string()),
            param_kind,
            conditions: MatchConditions::of_policy(items(spec, "matchConditions"), &composition),
            rules: rules(spec, &composition),
            composition,
        }
    }
}

impl Binding {
    fn read(name: &str, object: &Value) -> Self {
        let spec = &object["spec"];
        let resources = &spec["matchResources"];
        Self {
            name: name.to_owned(),
            criteria: resources
                .is_object()
                .then(|| Criteria::of_policy(resources).map_err(|why| why.to_string())),
            param_ref: spec["paramRef"].is_object().then(|| params::Reference::read(&spec["paramRef"])),
            actions: items(spec, "validationActions")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        }
    }
}

impl Known {
    fn observe(&mut self, plural: &str, name: &str, object: Option<&Value>) {
        match plural {
            "validatingadmissionpolicies" => drop(self.validating.remove(name)),
            "mutatingadmissionpolicies" => drop(self.mutating.remove(name)),
            _ => {}
        }
        let key = (plural.to_owned(), name.to_owned());
        match object {
            Some(object) => drop(self.objects.insert(key, Arc::new(object.clone()))),
            None => drop(self.objects.remove(&key)),
        }
    }

    fn of(&self, plural: &str) -> impl Iterator<Item = (&str, &Arc<Value>)> {
        self.objects
            .iter()
            .filter(move |((its, _), _)| its == plural)
            .map(|((_, name), object)| (name.as_str(), object))
    }

    /// The bindings of each policy. Those of policies that are not there wait for them.
    fn bound(&self, plural: &str) -> BTreeMap<String, Vec<Arc<Binding>>> {
        let mut bound: BTreeMap<String, Vec<Arc<Binding>>> = BTreeMap::new();
        for (name, object) in self.of(plural) {
            let policy = text(&object["spec"], "policyName").to_owned();
            bound.entry(policy).or_default().push(Arc::new(Binding::read(name, object)));
        }
        bound
    }

    /// Compiles what is new.
    fn hooks(&mut self) -> Hooks {
        let [policies, bindings, mutating, mutating_bindings] = PLURALS;
        Hooks {
            validating: bind(
                self.bound(bindings),
                &self.objects,
                policies,
                &mut self.validating,
                validating::Rules::compile,
            ),
            mutating: bind(
                self.bound(mutating_bindings),
                &self.objects,
                mutating,
                &mut self.mutating,
                mutating::Rules::compile,
            ),
        }
    }
}

fn bind<T>(
    bound: BTreeMap<String, Vec<Arc<Binding>>>,
    objects: &BTreeMap<(String, String), Arc<Value>>,
    plural: &str,
    compiled: &mut BTreeMap<String, Arc<Policy<T>>>,
    rules: impl Fn(&Value, &Composition) -> T,
) -> Vec<Hook<T>> {
    compiled.retain(|name, _| bound.contains_key(name));
    let hooks = bound.into_iter().filter_map(|(name, bindings)| {
        let object = objects.get(&(plural.to_owned(), name.clone()))?;
        let policy =
            compiled.entry(name.clone()).or_insert_with(|| Arc::new(Policy::compile(&name, object, &rules)));
        Some(Hook { policy: policy.clone(), bindings })
    });
    hooks.collect()
}

impl Policies {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be asked, level with the store.
    fn hooks(&self, storage: &Storage) -> arc_swap::Guard<Arc<Hooks>> {
        let store = storage.store();
        let followed = self.followed.get_or_init(|| {
            Set::new(PLURALS.iter().filter_map(|plural| api::resource(GROUP, "v1", plural)).collect())
        });
        followed.catch_up(
            store,
            store.revision(),
            || {
                *self.known() = Known::default();
                self.changed.store(true, Ordering::Release);
            },
            |resource, _, name, object| {
                self.known().observe(&resource.plural, name, object);
                self.changed.store(true, Ordering::Release);
            },
        );
        if self.changed.load(Ordering::Acquire) {
            let mut known = self.known();
            // Whoever waited for the lock finds the work done.
            if self.changed.load(Ordering::Acquire) {
                self.hooks.store(Arc::new(known.hooks()));
                self.changed.store(false, Ordering::Release);
            }
        }
        self.hooks.load()
    }
}

/// Why a policy or a binding cannot be asked, or what it says against the request.
struct Fault {
    binding: Option<Arc<Binding>>,
    message: String,
}

/// A binding with its parameters, `None` for without.
type Bound = (Arc<Binding>, Vec<Option<Arc<Value>>>);

/// A policy that matches, and with what it is to be asked.
struct Asked {
    found: Match,
    bindings: Vec<Bound>,
}

/// One request, as all policies see it.
struct Request<'a> {
    view: &'a View<'a>,
    around: Around<'a>,
    a: &'a AdmissionAttributes<'a>,
    /// The kind in the request.
    kind: GroupVersionKind,
}

impl<'a> Request<'a> {
    /// None for what policies are not asked about.
    fn new(view: &'a View<'a>, a: &'a AdmissionAttributes<'a>) -> Option<Self> {
        let around = view.policies;
        let resource = around.resource?;
        let exempt = matching::is_exempt_from_policies(a.group, &resource.kind);
        if exempt || EXCLUDED.contains(&(a.group, a.resource)) {
            return None;
        }
        let kind = matching::kind_of(resource, a.subresource).unwrap_or_else(|| resource.gvk());
        Some(Self { view, around, a, kind })
    }

    /// Whether criteria match, and as what.
    fn matches(&self, criteria: &Criteria, object: &Value) -> Result<Option<Match>, String> {
        let a = self.a;
        // Of a request about a Namespace, its own name.
        let of_namespace = a.group.is_empty() && a.resource == "namespaces";
        let name = if a.name.is_empty() { text(&object["metadata"], "name") } else { a.name };
        let request = matching::Request {
            operation: a.operation,
            group: a.group,
            version: a.version,
            resource: a.resource,
            subresource: a.subresource,
            namespace: if of_namespace { name } else { a.namespace },
            name: a.name,
        };
        let labels = |name: &str| (self.view.labels)("", "namespaces", "", name);
        let facts = Facts {
            object,
            old: a.old,
            namespace_labels: &|| matching::namespace_labels(&request, object, labels),
            equivalents: &|| (self.around.equivalents)(),
        };
        criteria.matches(&request, &facts).map_err(|status| status.message)
    }

    /// Whether a policy matches, and with what. What is wrong with its configuration is told to `fault`.
    fn asked<T>(&self, hook: &Hook<T>, object: &Value, fault: &mut impl FnMut(Fault)) -> Option<Asked> {
        let policy = &hook.policy;
        let of_policy =
            |why: String| Fault { binding: None, message: format!("failed to configure policy: {why}") };
        let found = match policy.criteria.as_ref().map(|criteria| self.matches(criteria, object)) {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => return None,
            Ok(Err(why)) => {
                fault(of_policy(why));
                return None;
            }
            Err(why) => {
                fault(of_policy(why.clone()));
                return None;
            }
        };
        if let (Match::As(_), Some(resource)) = (&found, self.around.resource)
            && custom::needs_webhook(resource)
        {
            fault(of_policy("failed to convert object version: objects are converted by a webhook".into()));
            return None;
        }
        let kind = match &policy.param_kind {
            None => None,
            Some(kind) => match (self.around.kind)(&kind.group, &kind.version, &kind.kind) {
                Some(found) => Some(found),
                None => {
                    let why = format!(
                        "failed to find resource referenced by paramKind: '{}/{}, Kind={}'",
                        kind.group, kind.version, kind.kind
                    );
                    fault(of_policy(why));
                    return None;
                }
            },
        };
        let mut bindings = Vec::new();
        for binding in &hook.bindings {
            let matches = match &binding.criteria {
                None => Ok(true),
                Some(Ok(criteria)) => self.matches(criteria, object).map(|found| found.is_some()),
                Some(Err(why)) => Err(why.clone()),
            };
            let params = match matches {
                Ok(false) => continue,
                Ok(true) => self.params(kind.as_ref(), binding.param_ref.as_ref()),
                Err(why) => Err(why),
            };
            match params {
                Ok(params) => bindings.push((binding.clone(), params)),
                Err(why) => fault(Fault {
                    binding: Some(binding.clone()),
                    message: format!("failed to configure binding: {why}"),
                }),
            }
        }
        Some(Asked { found, bindings })
    }

    /// The namespace of the request, if it is in one: a Namespace is in none.
    fn namespace(&self) -> Result<Option<Arc<Value>>, Status> {
        let of_namespace = self.kind.group.is_empty() && self.kind.kind == "Namespace";
        match self.a.namespace {
            "" => Ok(None),
            _ if of_namespace => Ok(None),
            name => (self.view.kept)("", "namespaces", "", name)
                .map(Some)
                .ok_or_else(|| Status::not_found("", "namespaces", name)),
        }
    }

    fn deciding(&self) -> Deciding<'a> {
        Deciding { user: self.a.user, decide: self.around.decide }
    }

    /// As what the request matched.
    fn shown_as(&self, found: &Match) -> (GroupVersionKind, GroupVersionResource) {
        match found {
            Match::Itself => {
                let a = self.a;
                let of = |text: &str| text.to_owned();
                (self.kind.clone(), GroupVersionResource::new(of(a.group), of(a.version), of(a.resource)))
            }
            Match::As(other) => (other.kind.clone(), other.resource.clone()),
        }
    }

    /// What the request's objects are as it matched; none for a version that is not served.
    fn target(&self, found: &Match) -> Option<Target<'a>> {
        let own = self.around.resource?;
        let resource = match found {
            Match::Itself => Shown::Own(own),
            Match::As(other) => {
                let (group, version) = (&other.resource.group, &other.resource.version);
                Shown::Other((self.around.kind)(group, version, &own.kind)?)
            }
        };
        Some(Target { resource, subresource: self.a.subresource })
    }

    fn is_scale(&self) -> bool {
        self.a.subresource == "scale"
    }

    /// What mutations have made of an object that was [`Request::shown`], as the request has it.
    fn taken(&self, made: Value, before: &Value, found: &Match) -> Result<Value, Status> {
        match (found, self.around.resource) {
            (_, Some(resource)) if self.is_scale() => scale::apply(resource, &made, before),
            (Match::Itself, _) => Ok(made),
            (Match::As(other), _) => {
                Ok(converted(&made, &other.kind, &self.kind, self.target(&Match::Itself).as_ref()))
            }
        }
    }

    /// An object as a policy sees it that matched in another version, or that wants to know its kind.
    fn shown<'b>(&self, object: &'b Value, found: &Match) -> Cow<'b, Value> {
        let told = object.get("kind").is_some() && object.get("apiVersion").is_some();
        match found {
            _ if object.is_null() => Cow::Borrowed(object),
            // The object of a request for a scale is the workload here.
            _ if self.is_scale() => match self.around.resource.map(|resource| scale::of(resource, object)) {
                Some(Ok(scale)) => Cow::Owned(scale),
                _ => Cow::Borrowed(object),
            },
            Match::Itself if told => Cow::Borrowed(object),
            Match::Itself => {
                let mut object = object.clone();
                set_kind(&mut object, &self.kind);
                Cow::Owned(object)
            }
            Match::As(other) => {
                Cow::Owned(converted(object, &self.kind, &other.kind, self.target(found).as_ref()))
            }
        }
    }
}

fn set_kind(object: &mut Value, kind: &GroupVersionKind) {
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), gvk::api_version(&kind.group, &kind.version).into());
        object.insert("kind".into(), (*kind.kind).into());
    }
}

/// An object in another version of its kind.
fn converted(
    object: &Value,
    from: &GroupVersionKind,
    to: &GroupVersionKind,
    target: Option<&Target<'_>>,
) -> Value {
    let mut object = object.clone();
    conversion::convert(&mut object, &to.kind, (&from.group, &from.version), (&to.group, &to.version));
    if let Some((schema, ty)) = target.filter(|it| it.custom().is_none()).and_then(Target::types)
        && let Err(why) = apimachinery::codec::normal::normalize(schema, ty, &mut object)
    {
        tracing::warn!(kind = %to.kind, %why, "a converted object is not of its type");
    }
    set_kind(&mut object, to);
    object
}

/// What objects are: of a resource, or of one of its subresources.
struct Target<'a> {
    resource: Shown<'a>,
    subresource: &'a str,
}

enum Shown<'a> {
    Own(&'a Resource),
    Other(ResourceRef),
}

impl Target<'_> {
    fn resource(&self) -> &Resource {
        match &self.resource {
            Shown::Own(resource) => resource,
            Shown::Other(resource) => resource,
        }
    }

    /// The custom resource that the objects are, unless they are something of a subresource's own.
    fn custom(&self) -> Option<&custom::Custom> {
        custom::of(self.resource()).filter(|_| matches!(self.subresource, "" | "status"))
    }

    fn types(&self) -> Option<(&Schema, TypeId)> {
        let (schema, ty) = custom::schema_of(self.resource());
        match self.subresource {
            "" => Some((schema, ty)),
            _ if self.custom().is_some() => Some((schema, ty)),
            name => Some((schema, self.resource().subresource(name)?.object?)),
        }
    }
}
