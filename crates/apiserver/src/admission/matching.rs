//! Which requests a webhook or a policy is about: rules, selectors, and the other versions in which a resource may be
//! meant (upstream's `plugin/webhook/predicates` and `plugin/policy/matching`). Pure: what has to be looked up is
//! asked for through closures, and only when it matters.
//!
//! [`Criteria`] is read once from a stored configuration; [`Criteria::matches`] is asked at every write and does the
//! cheapest first.

use std::collections::BTreeMap;

use apimachinery::{
    gvk::{GroupVersionKind, GroupVersionResource},
    labels::{self, Selector},
    schema::Resource,
    status::Status,
};
use serde_json::Value;

use crate::request::{AdmissionAttributes, Operation};

const GROUP: &str = "admissionregistration.k8s.io";
/// What configures admission is itself never sent to what it configures: nobody could mend it any more.
const EXEMPT: [&str; 6] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Whether webhooks are not asked about objects of this kind.
pub fn is_exempt(group: &str, kind: &str) -> bool {
    group == GROUP && EXEMPT.contains(&kind)
}

/// Whether policies are not asked about objects of this kind: policies and bindings. They may guard the
/// configurations of webhooks, which webhooks may not.
pub fn is_exempt_from_policies(group: &str, kind: &str) -> bool {
    is_exempt(group, kind) && !kind.ends_with("WebhookConfiguration")
}

/// A request as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Of a request about a Namespace its own name; empty for everything else that is in none.
    pub namespace: &'a str,
    /// Empty while a generated name is not made.
    pub name: &'a str,
}

impl<'a> Request<'a> {
    /// As it came.
    pub fn of(a: &AdmissionAttributes<'a>) -> Self {
        let this = Self {
            operation: a.operation,
            group: a.group,
            version: a.version,
            resource: a.resource,
            subresource: a.subresource,
            namespace: a.namespace,
            name: a.name,
        };
        Self { namespace: if this.is_about_namespaces() { a.name } else { a.namespace }, ..this }
    }

    fn is_about_namespaces(&self) -> bool {
        self.group.is_empty() && self.version == "v1" && self.resource == "namespaces"
    }
}

/// Another version, or another group's name, of the same stored thing; with the kind that a request for it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivalent {
    pub resource: GroupVersionResource,
    pub kind: GroupVersionKind,
}

/// As what a request matched, which is the version that its objects are shown in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// As it came.
    Itself,
    As(Equivalent),
}

/// What has to be known of a request besides its coordinates.
pub struct Facts<'a> {
    /// The new object; `Null` where there is none.
    pub object: &'a Value,
    pub old: Option<&'a Value>,
    /// The labels of the namespace, see [`namespace_labels`].
    pub namespace_labels: &'a (dyn Fn() -> Result<BTreeMap<String, String>, Status> + Sync),
    /// The other versions of the resource, see [`equivalents`].
    pub equivalents: &'a (dyn Fn() -> Vec<Equivalent> + Sync),
}

/// What a webhook or a policy wants to see.
#[derive(Clone, Debug)]
pub struct Criteria {
    namespaces: Selector,
    objects: Selector,
    /// Empty: everything, for a policy; nothing, for a webhook.
    rules: Vec<Rule>,
    without_rules: bool,
    exclude: Vec<Rule>,
    /// `matchPolicy: Equivalent`.
    equivalent: bool,
}

impl Criteria {
    /// Of an entry of `webhooks`: `rules`, the selectors and `matchPolicy`.
    ///
    /// # Errors
    /// A selector that cannot be read.
    pub fn of_webhook(hook: &Value) -> Result<Self, labels::Error> {
        Self::read(hook, "rules", false)
    }

    /// Of a `MatchResources`: `resourceRules`, `excludeResourceRules`, the selectors and `matchPolicy`. `Null` is
    /// everything.
    ///
    /// # Errors
    /// A selector that cannot be read.
    pub fn of_policy(resources: &Value) -> Result<Self, labels::Error> {
        Self::read(resources, "resourceRules", true)
    }

    fn read(value: &Value, rules: &str, without_rules: bool) -> Result<Self, labels::Error> {
        let rules_of = |field: &str| value[field].as_array().into_iter().flatten().map(Rule::read).collect();
        // One that is not there has been defaulted to an empty one.
        let selector = |field: &str| match &value[field] {
            Value::Null => Ok(Selector::everything()),
            given => Selector::of_value(given),
        };
        Ok(Self {
            namespaces: selector("namespaceSelector")?,
            objects: selector("objectSelector")?,
            rules: rules_of(rules),
            without_rules,
            exclude: rules_of("excludeResourceRules"),
            equivalent: value["matchPolicy"] == "Equivalent",
        })
    }

    /// Whether a request is wanted, and as what.
    ///
    /// # Errors
    /// What [`Facts::namespace_labels`] said, if everything else matches.
    pub fn matches(&self, request: &Request<'_>, facts: &Facts<'_>) -> Result<Option<Match>, Status> {
        let found = match self.rules.is_empty() && self.without_rules {
            true => Match::Itself,
            false => match self.find(&self.rules, request, facts) {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        if !self.exclude.is_empty() && self.find(&self.exclude, request, facts).is_some() {
            return Ok(None);
        }
        let has = |object: &Value| object["metadata"].is_object() && self.objects.matches_object(object);
        if !self.objects.is_everything() && !has(facts.object) && !facts.old.is_some_and(has) {
            return Ok(None);
        }
        // What is in no namespace cannot be kept out by one.
        let is_somewhere = !request.namespace.is_empty() || request.resource == "namespaces";
        if is_somewhere && !self.namespaces.is_everything() {
            let labels = (facts.namespace_labels)()?;
            if !self.namespaces.matches_map(Some(&labels)) {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// By itself if any rule says so, else as the first equivalent of the first rule that has one.
    fn find(&self, rules: &[Rule], request: &Request<'_>, facts: &Facts<'_>) -> Option<Match> {
        if rules.iter().any(|rule| rule.matches(request)) {
            return Some(Match::Itself);
        }
        if !self.equivalent {
            return None;
        }
        let mut candidates = rules.iter().filter(|rule| rule.could_match(request)).peekable();
        candidates.peek()?;
        let equivalents = (facts.equivalents)();
        candidates.find_map(|rule| {
            let fits = |other: &&Equivalent| {
                let GroupVersionResource { group, version, resource } = &other.resource;
                rule.matches(&Request { group, version, resource, ..*request })
            };
            equivalents.iter().find(fits).cloned().map(Match::As)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
    /// Said in a word that is none of the three.
    Nothing,
}

/// `RuleWithOperations`, or `NamedRuleWithOperations` with the names it is limited to.
#[derive(Clone, Debug)]
struct Rule {
    /// A bit for each operation.
    operations: u8,
    groups: Vec<String>,
    versions: Vec<String>,
    /// `(resource, subresource)`; without a slash the latter is empty.
    resources: Vec<(String, String)>,
    scope: Scope,
    names: Vec<String>,
}

fn bit(operation: Operation) -> u8 {
    match operation {
        Operation::Create => 1,
        Operation::Update => 2,
        Operation::Delete => 4,
        Operation::Connect => 8,
    }
}

fn is_in(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let texts = |field: &str| rule[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        let owned = |field: &str| texts(field).map(str::to_owned).collect();
        let operations = texts("operations").map(|operation| match operation {
            "*" => 15,
            "CREATE" => bit(Operation::Create),
            "UPDATE" => bit(Operation::Update),
            "DELETE" => bit(Operation::Delete),
            "CONNECT" => bit(Operation::Connect),
            _ => 0,
        });
        let resources = texts("resources").map(|one| one.split_once('/').unwrap_or((one, "")));
        Self {
            operations: operations.fold(0, |all, one| all | one),
            groups: owned("apiGroups"),
            versions: owned("apiVersions"),
            resources: resources.map(|(plural, sub)| (plural.to_owned(), sub.to_owned())).collect(),
            scope: match rule["scope"].as_str() {
                None | Some("*") => Scope::All,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::Nothing,
            },
            names: owned("resourceNames"),
        }
    }

    /// What does not depend on the version of the resource that is meant.
    fn could_match(&self, request: &Request<'_>) -> bool {
        self.operations & bit(request.operation) != 0
            && self.resources.iter().any(|(_, sub)| sub == "*" || sub == request.subresource)
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        let of_cluster = request.is_about_namespaces() || request.namespace.is_empty();
        let in_scope = match self.scope {
            Scope::All => true,
            Scope::Cluster => of_cluster,
            Scope::Namespaced => !of_cluster,
            Scope::Nothing => false,
        };
        in_scope
            && self.operations & bit(request.operation) != 0
            && is_in(&self.groups, request.group)
            && is_in(&self.versions, request.version)
            && self.resources.iter().any(|(plural, sub)| {
                (plural == "*" || plural == request.resource) && (sub == "*" || sub == request.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }
}

/// The labels that a namespace selector is held against: of a Namespace that is being written its own, else those of
/// the stored one, which `stored` looks up.
///
/// # Errors
/// 404 for a namespace that is not there.
pub fn namespace_labels(
    request: &Request<'_>,
    object: &Value,
    stored: impl FnOnce(&str) -> Option<BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, Status> {
    let is_written = matches!(request.operation, Operation::Create | Operation::Update);
    if request.resource == "namespaces" && request.subresource.is_empty() && is_written {
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        return Ok(labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect());
    }
    stored(request.namespace).ok_or_else(|| Status::not_found("", "namespaces", request.namespace))
}

/// The other resources among `served` that show what `resource` shows, and have the subresource, in the order of
/// discovery. Resources that are stored under the same keys are the same (upstream's
/// `EquivalentResourceRegistry`).
pub fn equivalents<'a>(
    served: impl Iterator<Item = &'a Resource>,
    resource: &Resource,
    subresource: &str,
) -> Vec<Equivalent> {
    let Some(at) = resource.storage.as_ref().filter(|at| at.converts) else { return Vec::new() };
    let is_other = |other: &&Resource| {
        other.storage.as_ref().is_some_and(|its| its.prefix == at.prefix)
            && (&other.group, &other.version) != (&resource.group, &resource.version)
    };
    served
        .filter(is_other)
        .filter_map(|other| Some(equivalent(other, kind_of(other, subresource)?)))
        .collect()
}

fn equivalent(resource: &Resource, kind: GroupVersionKind) -> Equivalent {
    let version = apimachinery::gvk::GroupVersion::new(resource.group.clone(), resource.version.clone());
    Equivalent { resource: version.with_resource(resource.plural.clone()), kind }
}

/// The kind in requests for a resource, or for a subresource of it; `None` if there is no such subresource.
pub fn kind_of(resource: &Resource, subresource: &str) -> Option<GroupVersionKind> {
    if subresource.is_empty() {
        let (group, version) = (resource.group.clone(), resource.version.clone());
        return Some(GroupVersionKind { group, version, kind: resource.kind.clone() });
    }
    resource.subresource(subresource).map(|sub| sub.kind.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `operation group/version/resource[/subresource] namespace name`; `-` for nothing.
    fn request(text: &str) -> Request<'_> {
        let words: Vec<&str> = text.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
        let [operation, path, namespace, name] = words[..] else { panic!("{text}") };
        let mut parts = path.split('/');
        let mut next = || parts.next().unwrap_or_default();
        Request {
            operation: match operation {
                "CREATE" => Operation::Create,
                "UPDATE" => Operation::Update,
                "DELETE" => Operation::Delete,
                _ => Operation::Connect,
            },
            group: next(),
            version: next(),
            resource: next(),
            subresource: next(),
            namespace,
            name,
        }
    }

    fn served() -> impl Iterator<Item = &'static Resource> {
        api::resources().iter().filter(|resource| resource.default_on)
    }

    /// What a request is to the criteria, with the namespace `ns` labelled `a: b`.
    fn outcome(criteria: &Criteria, text: &str, object: &Value, old: Option<&Value>) -> String {
        let request = request(text);
        let resource = api::resource(request.group, request.version, request.resource);
        let labels = |name: &str| (name == "ns").then(|| BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let facts = Facts {
            object,
            old,
            namespace_labels: &|| namespace_labels(&request, object, labels),
            equivalents: &|| {
                resource.map(|r| equivalents(served(), r, request.subresource)).unwrap_or_default()
            },
        };
        match criteria.matches(&request, &facts) {
            Ok(None) => "no".to_owned(),
            Ok(Some(Match::Itself)) => "yes".to_owned(),
            Ok(Some(Match::As(other))) => {
                let GroupVersionResource { group, version, resource } = &other.resource;
                format!("{group}/{version}/{resource} {}", other.kind.kind)
            }
            Err(status) => status.message,
        }
    }

    #[test]
    fn rules() {
        let rule = |patch: Value| {
            let mut rule =
                json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
            rule.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
            rule
        };
        let v2 = json!({"apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers", "horizontalpodautoscalers/status"]});
        let pod = "CREATE /v1/pods ns p";
        let table = [
            (rule(json!({})), pod, "yes"),
            (rule(json!({"operations": ["UPDATE", "DELETE"]})), pod, "no"),
            (rule(json!({"operations": ["UPDATE", "DELETE"]})), "DELETE /v1/pods ns p", "yes"),
            (rule(json!({"operations": ["CONNECT"]})), "CONNECT /v1/pods/exec ns p", "yes"),
            (rule(json!({"operations": ["PATCH"]})), pod, "no"),
            (rule(json!({"apiGroups": [""]})), pod, "yes"),
            (rule(json!({"apiGroups": ["apps"]})), pod, "no"),
            (rule(json!({"apiVersions": ["v2"]})), pod, "no"),
            (rule(json!({"apiVersions": []})), pod, "no"),
            (rule(json!({"resources": ["*"]})), pod, "yes"),
            (rule(json!({"resources": ["*"]})), "UPDATE /v1/pods/status ns p", "no"),
            (rule(json!({"resources": ["pods/*"]})), "UPDATE /v1/pods/status ns p", "yes"),
            (rule(json!({"resources": ["pods/*"]})), pod, "yes"),
            (rule(json!({"resources": ["*/status"]})), "UPDATE /v1/pods/status ns p", "yes"),
            (rule(json!({"resources": ["*/status"]})), pod, "no"),
            (rule(json!({"resources": ["pods/status", "services"]})), pod, "no"),
            (rule(json!({"scope": "Namespaced"})), pod, "yes"),
            (rule(json!({"scope": "Cluster"})), pod, "no"),
            (rule(json!({"scope": "Namespaced"})), "CREATE /v1/nodes - n", "no"),
            (rule(json!({"scope": "Cluster"})), "CREATE /v1/nodes - n", "yes"),
            (rule(json!({"scope": "Namespaced"})), "CREATE /v1/namespaces ns ns", "no"),
            (rule(json!({"scope": "Cluster"})), "CREATE /v1/namespaces ns ns", "yes"),
            (rule(json!({"scope": "Everywhere"})), pod, "no"),
            (rule(json!({"resourceNames": ["p", "q"]})), pod, "yes"),
            (rule(json!({"resourceNames": ["q"]})), pod, "no"),
            (rule(json!({"resourceNames": ["q"]})), "CREATE /v1/pods ns -", "no"),
            // The other version of the same thing, and the same thing in another group.
            (
                rule(v2.clone()),
                "CREATE autoscaling/v1/horizontalpodautoscalers ns h",
                "autoscaling/v2/horizontalpodautoscalers HorizontalPodAutoscaler",
            ),
            (
                rule(v2.clone()),
                "UPDATE autoscaling/v1/horizontalpodautoscalers/status ns h",
                "autoscaling/v2/horizontalpodautoscalers HorizontalPodAutoscaler",
            ),
            (rule(v2.clone()), "CREATE autoscaling/v2/horizontalpodautoscalers ns h", "yes"),
            (rule(v2), pod, "no"),
            (
                rule(json!({"apiGroups": ["events.k8s.io"]})),
                "CREATE /v1/events ns e",
                "events.k8s.io/v1/events Event",
            ),
            // Nothing is stored in two ways that has no other version.
            (rule(json!({"apiGroups": ["extensions"]})), "CREATE apps/v1/deployments ns d", "no"),
        ];
        for (rule, text, expect) in table {
            let hook = json!({"rules": [rule], "matchPolicy": "Equivalent"});
            let criteria = Criteria::of_webhook(&hook).unwrap();
            assert_eq!(outcome(&criteria, text, &json!({"metadata": {}}), None), expect, "{hook} {text}");
            let exact = json!({"rules": [rule], "matchPolicy": "Exact"});
            let criteria = Criteria::of_webhook(&exact).unwrap();
            let expect = if expect == "yes" { "yes" } else { "no" };
            assert_eq!(outcome(&criteria, text, &json!({"metadata": {}}), None), expect, "{exact} {text}");
        }
    }

    #[test]
    fn selectors() {
        let all =
            json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
        let labelled = |value: &str| json!({"metadata": {"labels": {"a": value}}});
        let (b, c, none) = (labelled("b"), labelled("c"), Value::Null);
        let by = |field: &str| json!({"rules": all, field: {"matchLabels": {"a": "b"}}});
        let (namespaces, objects) = (by("namespaceSelector"), by("objectSelector"));
        let table = [
            (&objects, "CREATE /v1/pods ns p", &b, None, "yes"),
            (&objects, "CREATE /v1/pods ns p", &c, None, "no"),
            (&objects, "UPDATE /v1/pods ns p", &c, Some(&b), "yes"),
            (&objects, "DELETE /v1/pods ns p", &none, Some(&b), "yes"),
            (&objects, "CONNECT /v1/pods/exec ns p", &json!({"kind": "PodExecOptions"}), None, "no"),
            (&namespaces, "CREATE /v1/pods ns p", &c, None, "yes"),
            (&namespaces, "CREATE /v1/pods other p", &c, None, "namespaces \"other\" not found"),
            (&namespaces, "CREATE /v1/nodes - n", &c, None, "yes"),
            (&namespaces, "CREATE /v1/namespaces x x", &b, None, "yes"),
            (&namespaces, "UPDATE /v1/namespaces x x", &c, Some(&b), "no"),
            (&namespaces, "DELETE /v1/namespaces ns ns", &none, Some(&c), "yes"),
        ];
        for (hook, text, object, old, expect) in table {
            let criteria = Criteria::of_webhook(hook).unwrap();
            assert_eq!(outcome(&criteria, text, object, old), expect, "{hook} {text} {object}");
        }
        // A namespace that nobody finds does not matter to what is about something else.
        let elsewhere = json!({"rules": [], "namespaceSelector": {"matchLabels": {"a": "b"}}});
        let criteria = Criteria::of_webhook(&elsewhere).unwrap();
        assert_eq!(outcome(&criteria, "CREATE /v1/pods other p", &b, None), "no");
    }

    #[test]
    fn policies() {
        let rule = |group: &str, resource: &str| json!({"operations": ["*"], "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]});
        let table = [
            (Value::Null, "CREATE /v1/pods ns p", "yes"),
            (json!({"resourceRules": [rule("", "pods")]}), "CREATE /v1/services ns s", "no"),
            (json!({"excludeResourceRules": [rule("", "pods")]}), "CREATE /v1/pods ns p", "no"),
            (json!({"excludeResourceRules": [rule("", "pods")]}), "CREATE /v1/services ns s", "yes"),
            (
                json!({"resourceRules": [rule("*", "*")], "excludeResourceRules": [rule("events.k8s.io", "events")], "matchPolicy": "Equivalent"}),
                "CREATE /v1/events ns e",
                "no",
            ),
            (
                json!({"resourceRules": [rule("*", "*")], "excludeResourceRules": [rule("events.k8s.io", "events")], "matchPolicy": "Exact"}),
                "CREATE /v1/events ns e",
                "yes",
            ),
        ];
        for (resources, text, expect) in table {
            let criteria = Criteria::of_policy(&resources).unwrap();
            assert_eq!(
                outcome(&criteria, text, &json!({"metadata": {}}), None),
                expect,
                "{resources} {text}"
            );
        }
        assert!(
            is_exempt(GROUP, "ValidatingWebhookConfiguration")
                && !is_exempt("", "ValidatingWebhookConfiguration")
                && !is_exempt_from_policies(GROUP, "ValidatingWebhookConfiguration")
                && is_exempt_from_policies(GROUP, "ValidatingAdmissionPolicyBinding")
        );
    }
}
