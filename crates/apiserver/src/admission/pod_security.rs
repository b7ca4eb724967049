//! Pod Security: what a namespace's labels demand of its pods. Below `enforce` a pod is refused, below `warn` its
//! author is warned, for the templates of workloads too. A namespace that comes to demand more hears which of its
//! pods fall short (upstream `k8s.io/pod-security-admission/admission`, KEP-2579). The levels are in
//! `kinds::pod_security`.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path, quote};
use apimachinery::names;
use apimachinery::status::Status;
use kinds::pod_security::{self, Level, Policy, Standard, Version};
use serde::Deserialize;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, items, text};

/// How many pods of a namespace are judged at most.
const MAX_PODS: usize = 3000;

/// What `PodSecurityConfiguration` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// For namespaces without labels.
    pub defaults: Policy,
    pub exemptions: Exemptions,
}

impl Default for Configuration {
    fn default() -> Self {
        Self { defaults: Policy::PRIVILEGED, exemptions: Exemptions::default() }
    }
}

/// Whom and what Pod Security does not look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exemptions {
    pub usernames: Vec<String>,
    pub namespaces: Vec<String>,
    pub runtime_classes: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

impl Configuration {
    /// From a `PodSecurityConfiguration` of `pod-security.admission.config.k8s.io`, v1 or v1beta1.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(value: &Value) -> Result<Self, String> {
        let defaults =
            Defaults::deserialize(value.get("defaults").unwrap_or(&Value::Object(Default::default())))
                .map_err(|e| e.to_string())?;
        let exemptions = match value.get("exemptions").filter(|e| !e.is_null()) {
            Some(given) => Exemptions::deserialize(given).map_err(|e| e.to_string())?,
            None => Exemptions::default(),
        };
        let mut errors = ErrorList::new();
        let path = Path::new("defaults");
        let mut standard = |mode: &str, level: &str, version: &str| {
            let level =
                Level::parse(if level.is_empty() { "privileged" } else { level }).unwrap_or_else(|why| {
                    errors.push(Error::invalid(&path.child(mode), level, why));
                    Level::Restricted
                });
            let version =
                Version::parse(if version.is_empty() { "latest" } else { version }).unwrap_or_else(|why| {
                    errors.push(Error::invalid(&path.child(&format!("{mode}-version")), version, why));
                    Version::Latest
                });
            Standard { level, version }
        };
        let defaults = Policy {
            enforce: standard("enforce", &defaults.enforce, &defaults.enforce_version),
            warn: standard("warn", &defaults.warn, &defaults.warn_version),
            audit: standard("audit", &defaults.audit, &defaults.audit_version),
        };
        let path = Path::new("exemptions");
        let user = |name: &str| match name {
            "" => vec!["username must not be empty".to_owned()],
            _ => Vec::new(),
        };
        unique(&path.child("namespaces"), &exemptions.namespaces, names::is_dns1123_label, &mut errors);
        unique(
            &path.child("runtimeClasses"),
            &exemptions.runtime_classes,
            names::is_dns1123_subdomain,
            &mut errors,
        );
        unique(&path.child("usernames"), &exemptions.usernames, user, &mut errors);
        match apimachinery::field::aggregate(&errors) {
            Some(all) => Err(all),
            None => Ok(Self { defaults, exemptions }),
        }
    }
}

fn unique(path: &Path<'_>, values: &[String], rule: impl Fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        let faults = rule(value);
        if !faults.is_empty() {
            errors.push(Error::invalid(&path.index(i), value.as_str(), faults.join(", ")));
        } else if !seen.insert(value) {
            errors.push(Error::duplicate(&path.index(i), value.as_str()));
        }
    }
}

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &Value) -> Result<(), Status> {
    if !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    match (a.group, a.resource) {
        ("", "namespaces") if a.subresource.is_empty() => namespace(view, a, object),
        ("", "pods") if !is_ignored(a.subresource) => pod(view, a, object),
        _ if a.subresource.is_empty() => {
            template(view, a, object);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What does not change a pod's spec, or not in a way that matters.
fn is_ignored(subresource: &str) -> bool {
    matches!(
        subresource,
        "exec" | "attach" | "binding" | "eviction" | "log" | "portforward" | "proxy" | "status"
    )
}

fn of_labels(view: &View<'_>, labels: &BTreeMap<String, String>) -> (Policy, ErrorList) {
    Policy::of_labels(|key| labels.get(key).map(String::as_str), &view.configuration.pod_security.defaults)
}

fn labels_of(object: &Value) -> BTreeMap<String, String> {
    let all = object["metadata"]["labels"].as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn is_exempt(view: &View<'_>, a: &AdmissionAttributes<'_>) -> bool {
    let exemptions = &view.configuration.pod_security.exemptions;
    exemptions.namespaces.iter().any(|name| name == a.namespace)
        || exemptions.usernames.contains(&a.user.name)
}

fn is_of_exempt_class(view: &View<'_>, spec: &Value) -> bool {
    let class = text(spec, "/runtimeClassName");
    !class.is_empty() && view.configuration.pod_security.exemptions.runtime_classes.iter().any(|c| c == class)
}

fn pod(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    if is_exempt(view, a) {
        return Ok(());
    }
    let Some(labels) = (view.labels)("", "namespaces", "", a.namespace) else {
        return Err(Status::internal(format!("failed to lookup namespace {}", quote(a.namespace))));
    };
    let (policy, _) = of_labels(view, &labels);
    let spec = &pod["spec"];
    if policy.is_fully_privileged()
        || a.old.is_some_and(|old| !is_significant(spec, &old["spec"]))
        || is_of_exempt_class(view, spec)
    {
        return Ok(());
    }
    let found = pod_security::evaluate(policy.enforce, &pod["metadata"], spec);
    if !found.is_empty() {
        let details = pod_security::details(&found);
        let why = format!("violates PodSecurity {}: {details}", quote(&policy.enforce.to_string()));
        // Upstream names the pod as the request does, which for a generated name is not at all.
        return Err(Status::forbidden(a.group, a.resource, a.name, why));
    }
    warn(view, policy.warn, &pod["metadata"], spec);
    Ok(())
}

/// Where a workload's pod template is.
pub(crate) fn template_of(group: &str, resource: &str) -> Option<&'static str> {
    Some(match (group, resource) {
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

/// The pods of a workload are refused when they are made; here is only word of it.
fn template(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &Value) {
    let Some(pointer) = template_of(a.group, a.resource) else { return };
    let Some(template) = object.pointer(pointer).filter(|template| !template.is_null()) else { return };
    if is_exempt(view, a) || is_of_exempt_class(view, &template["spec"]) {
        return;
    }
    let labels = (view.labels)("", "namespaces", "", a.namespace).unwrap_or_default();
    let (policy, _) = of_labels(view, &labels);
    warn(view, policy.warn, &template["metadata"], &template["spec"]);
}

fn warn(view: &View<'_>, standard: Standard, metadata: &Value, spec: &Value) {
    let found = pod_security::evaluate(standard, metadata, spec);
    if !found.is_empty() {
        let details = pod_security::details(&found);
        (view.warn)(format!("would violate PodSecurity {}: {details}", quote(&standard.to_string())));
    }
}

/// Of what may change in a pod, images and new containers matter.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |spec: &Value, list: &str| -> Vec<String> {
        items(spec, list).map(|container| text(container, "/image").to_owned()).collect()
    };
    let changed = |list: &str| images(new, list) != images(old, list);
    changed("/containers")
        || changed("/initContainers")
        || items(new, "/ephemeralContainers").any(|container| {
            let mut known = items(old, "/ephemeralContainers");
            let known = known.find(|old| old["name"] == container["name"]);
            known.is_none_or(|old| old["image"] != container["image"])
        })
}

fn namespace(view: &View<'_>, a: &AdmissionAttributes<'_>, namespace: &Value) -> Result<(), Status> {
    let labels = labels_of(namespace);
    let (policy, errors) = of_labels(view, &labels);
    let before = a.old.map(|old| of_labels(view, &labels_of(old)));
    let known = before.as_ref().is_some_and(|(_, known)| !known.is_empty() && *known == errors);
    if !errors.is_empty() && !known {
        return Err(Status::invalid("", "Namespace", text(namespace, "/metadata/name"), &errors));
    }
    let name = text(namespace, "/metadata/name");
    if let Some((old, _)) = &before {
        let (old, new) = (old.enforce, policy.enforce);
        let is_laxer = new.version == old.version && new.level <= old.level;
        if old == new || new.level == Level::Privileged || is_laxer {
            return Ok(());
        }
    }
    if view.configuration.pod_security.exemptions.namespaces.iter().any(|exempt| exempt == name) {
        if !policy.is_fully_privileged() && !policy.is_equivalent(&view.configuration.pod_security.defaults) {
            let set = asked_for(&policy, &labels);
            (view.warn)(format!(
                "namespace {} is exempt from Pod Security, and the policy ({set}) will be ignored",
                quote(name)
            ));
        }
    } else if before.is_some() {
        for warning in falling_short(view, name, policy.enforce) {
            (view.warn)(warning);
        }
    }
    Ok(())
}

/// `enforce=restricted:latest, warn=baseline:v1.30`: what labels set above `privileged`.
fn asked_for(policy: &Policy, labels: &BTreeMap<String, String>) -> String {
    let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
    let set = modes.iter().filter(|(mode, standard)| {
        let label = format!("{}{mode}", pod_security::PREFIX);
        standard.level != Level::Privileged
            && (labels.contains_key(&format!("{label}-version")) || labels.contains_key(&label))
    });
    set.map(|(mode, standard)| format!("{mode}={standard}")).collect::<Vec<_>>().join(", ")
}

/// Warnings about the pods of a namespace that violate what it demands now, one for each kind of violation. Pods of
/// one controller are alike, so one of each is judged first.
fn falling_short(view: &View<'_>, namespace: &str, standard: Standard) -> Vec<String> {
    let pods: Vec<Value> =
        (view.pods)(namespace).into_iter().filter(|pod| !is_of_exempt_class(view, &pod["spec"])).collect();
    let mut seen = BTreeSet::new();
    let (first, others): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| {
        let owner = items(pod, "/metadata/ownerReferences").find(|owner| owner["controller"] == true);
        owner.is_none_or(|owner| seen.insert(text(owner, "/uid")))
    });
    let total = first.len() + others.len();
    let mut by_reason: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for pod in first.into_iter().chain(others).take(MAX_PODS) {
        let found = pod_security::evaluate(standard, &pod["metadata"], &pod["spec"]);
        if !found.is_empty() {
            let name = text(pod, "/metadata/name");
            let (least, count) = by_reason.entry(pod_security::reasons(&found)).or_insert((name, 0));
            *least = name.min(least);
            *count += 1;
        }
    }
    let mut warnings = Vec::new();
    if total > MAX_PODS {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS} of {total} existing pods"
        ));
    }
    if !by_reason.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level {}",
            quote(namespace),
            quote(&standard.to_string())
        ));
    }
    let mut lines: Vec<String> = by_reason
        .into_iter()
        .map(|(reason, (name, count))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            more => format!("{name} (and {} other pods): {reason}", more - 1),
        })
        .collect();
    lines.sort();
    warnings.append(&mut lines);
    warnings
}
