//! Pods: their number, and what they ask for and are limited to.

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::{Container, Pod, PodAffinityTerm};
use jiff::{SignedDuration, Timestamp};

use super::{Amounts, Scope, whole};
use crate::pod::resources;

const COUNT: &str = "count/pods";
const REQUESTS: &str = "requests.";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";
const PLAIN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub fn is_counted(name: &str) -> bool {
    let plain = name.strip_prefix(REQUESTS).or(name.strip_prefix("limits.")).unwrap_or(name);
    PLAIN.contains(&plain)
        || matches!(name, COUNT | "pods")
        || name.strip_prefix(REQUESTS).unwrap_or(name).starts_with("hugepages-")
        || name.strip_prefix(REQUESTS).is_some_and(|rest| rest.starts_with(DEVICE_CLASS) || !is_native(name))
}

/// Kubernetes' own resources: no domain, or one of its domains.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Extended resources and those of device classes, of which requests are counted under their own names.
fn is_extended(name: &str) -> bool {
    name.starts_with(DEVICE_CLASS) || !is_native(name) && !name.starts_with(REQUESTS)
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0)
}

pub fn is_in(pod: &Pod, scope: &Scope) -> bool {
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    match &*scope.scope_name {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => scope.matches(class.filter(|class| !class.is_empty())),
        "CrossNamespacePodAffinity" => looks_into_other_namespaces(pod),
        _ => false,
    }
}

fn is_best_effort(pod: &Pod) -> bool {
    let known = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    match known.filter(|class| !class.is_empty()) {
        Some(class) => class == "BestEffort",
        None => {
            let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
            crate::core::pod::qos_class(&spec) == "BestEffort"
        }
    }
}

fn looks_into_other_namespaces(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let looks = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|all| !all.is_empty()) || term.namespace_selector.is_some()
    };
    let near = affinity.and_then(|a| a.pod_affinity.as_ref()).map(|a| {
        (
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref()).map(|a| {
        (
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        )
    });
    near.into_iter().chain(far).any(|(required, preferred)| {
        required.iter().flatten().any(looks)
            || preferred.iter().flatten().any(|weighted| looks(&weighted.pod_affinity_term))
    })
}

/// Whoever limits cpu or memory wants every container to say how much it takes. A pod that says it as a whole has
/// said it.
pub fn constraints(pod: &Pod, required: &BTreeSet<&str>) -> Result<(), String> {
    const ENFORCED: [&str; 6] =
        ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let Some(spec) = pod.spec.as_ref().filter(|spec| !resources::has_pod_level(spec)) else { return Ok(()) };
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let given = container_usage(container);
        for name in ENFORCED.iter().filter(|name| required.contains(**name) && !given.contains_key(**name)) {
            missing.entry(name).or_default().insert(&container.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let one = |(name, containers): (&str, BTreeSet<&str>)| format!("{name} for: {}", super::join(containers));
    Err(format!("must specify {}", missing.into_iter().map(one).collect::<Vec<_>>().join("; ")))
}

fn container_usage(container: &Container) -> Amounts {
    let given = container.resources.as_ref();
    let requests = given.and_then(|given| given.requests.as_ref()).map(resources::parsed).unwrap_or_default();
    let limits = given.and_then(|given| given.limits.as_ref()).map(resources::parsed).unwrap_or_default();
    named(&requests, &limits)
}

/// Requests and limits under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), whole(1))]);
    for (name, amount) in requests {
        let own_name = PLAIN.contains(&name.as_str()) || name.starts_with("hugepages-");
        if own_name {
            usage.insert(name.clone(), amount.clone());
        }
        if own_name || is_extended(name) {
            usage.insert(format!("{REQUESTS}{name}"), amount.clone());
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| PLAIN.contains(&name.as_str())) {
        usage.insert(format!("limits.{name}"), amount.clone());
    }
    usage
}

pub fn usage(pod: &Pod, now: Timestamp) -> Amounts {
    let mut usage = if is_live(pod, now) {
        let (requests, limits) = resources::with_status(pod);
        named(&requests, &limits)
    } else {
        Amounts::new()
    };
    usage.insert(COUNT.to_owned(), whole(1));
    usage
}

/// Not ended, and not long past the time by which it should have (its node may be gone).
fn is_live(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return false;
    }
    let metadata = &pod.metadata;
    match (&metadata.deletion_timestamp, metadata.deletion_grace_period_seconds) {
        (Some(deleted), Some(grace)) => {
            let end = deleted.0.saturating_add(SignedDuration::from_secs(grace));
            end.is_ok_and(|end| now <= end)
        }
        _ => true,
    }
}
