//! Admission policies and bindings: whoever lets a policy read parameters must be allowed to read them, or a policy
//! would tell what is in them (upstream's `registry/admissionregistration/*/authz.go`).

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::gvk;
use serde_json::Value;

use crate::authorization::Attributes;
use crate::registry::generic::Scope;
use crate::request::UserInfo;

const GROUP: &str = "admissionregistration.k8s.io";

/// Of a policy: the user may get every object of its kind of parameters.
pub fn policy(scope: &Scope<'_>, new: &Value, old: Option<&Value>) -> ErrorList {
    let kind = &new["spec"]["paramKind"];
    let is_known = old.is_some_and(|old| old["spec"]["paramKind"] == *kind);
    let (path, text) = (Path::new("spec"), |field: &str| kind[field].as_str().unwrap_or_default());
    let wanted = Wanted::of(scope, Some(kind));
    if !kind.is_object() || is_known || wanted.is_allowed(scope, "get", "*", "*") {
        return ErrorList::new();
    }
    let why = format!(
        "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
        shown(scope.user),
        text("kind"),
        text("apiVersion")
    );
    ErrorList::from([Error::forbidden(&path.child("paramKind"), why)])
}

/// Of a binding: the user may read the object that it names, or all if it selects.
pub fn binding(scope: &Scope<'_>, new: &Value, old: Option<&Value>) -> ErrorList {
    let (spec, reference) = (&new["spec"], &new["spec"]["paramRef"]);
    let is_known = old.is_some_and(|old| {
        old["spec"]["paramRef"] == *reference && old["spec"]["policyName"] == spec["policyName"]
    });
    if !reference.is_object() || is_known {
        return ErrorList::new();
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let verb = if text("name").is_empty() { "list" } else { "get" };
    let policies = match &*scope.resource.plural {
        "mutatingadmissionpolicybindings" => "mutatingadmissionpolicies",
        _ => "validatingadmissionpolicies",
    };
    let name = spec["policyName"].as_str().unwrap_or_default();
    let policy = api::resource(GROUP, "v1", policies)
        .and_then(|policies| scope.server.storage.kept(policies, "", name));
    let kind = policy.as_ref().map(|policy| &policy["spec"]["paramKind"]);
    let wanted = Wanted::of(scope, kind);
    if wanted.is_allowed(scope, verb, text("namespace"), text("name")) {
        return ErrorList::new();
    }
    let user = shown(scope.user);
    let everything =
        format!("user {user} does not have \"{verb}\" permission for all groups, versions and resources");
    let why = match kind.filter(|kind| kind.is_object()) {
        None if policy.is_none() => {
            format!("unable to get policy {name} to determine minimum required permissions and {everything}")
        }
        Some(kind) if wanted.resource == "*" => format!(
            "unable to resolve paramKind &ParamKind{{APIVersion:{},Kind:{},}} to determine minimum required permissions and \
             {everything}",
            kind["apiVersion"].as_str().unwrap_or_default(),
            kind["kind"].as_str().unwrap_or_default()
        ),
        _ => format!("user {user} does not have \"{verb}\" permission on the object referenced by paramRef"),
    };
    let path = Path::new("spec");
    ErrorList::from([Error::forbidden(&path.child("paramRef"), why)])
}

/// What a kind of parameters is to the authorizer; `*` for what is not known.
struct Wanted {
    group: String,
    version: String,
    resource: String,
}

impl Wanted {
    fn of(scope: &Scope<'_>, kind: Option<&Value>) -> Self {
        let any = || "*".to_owned();
        let text = |field: &str| kind.and_then(|kind| kind[field].as_str()).unwrap_or_default();
        let parts = kind.filter(|kind| kind.is_object()).and_then(|_| gvk::split(text("apiVersion")).ok());
        let Some((group, version)) = parts else {
            return Self { group: any(), version: any(), resource: any() };
        };
        let built_in = api::resources().by_kind(group, version, text("kind")).map(|it| it.plural.to_string());
        let custom = || {
            let found = scope.server.catalog.by_kind(group, version, text("kind"));
            found.map(|it| it.plural.to_string())
        };
        Self {
            resource: built_in.or_else(custom).unwrap_or_else(any),
            group: group.to_owned(),
            version: version.to_owned(),
        }
    }

    fn is_allowed(&self, scope: &Scope<'_>, verb: &str, namespace: &str, name: &str) -> bool {
        let attributes = Attributes {
            is_resource: true,
            verb,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            namespace,
            name,
            ..Attributes::default()
        };
        scope.server.authorizer.decide(scope.user, &attributes).is_allowed()
    }
}

/// The user as upstream prints one.
fn shown(user: &UserInfo) -> String {
    let extra: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key}:[{}]", values.join(" "))).collect();
    format!("&{{{} {} [{}] map[{}]}}", user.name, user.uid, user.groups.join(" "), extra.join(" "))
}
