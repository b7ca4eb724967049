//! Names and amounts of resources: which names stand for what, and what amounts they take (upstream's
//! `apis/core/helper` and the resource part of `apis/core/validation`).

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use crate::check::{messages, qualified, quantity};

/// What a quota can count, besides huge pages and names with a domain.
const QUOTA: &[&str] = &[
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Objects that are counted one by one.
const COUNTED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A name without a domain, or with Kubernetes' own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A name that a device plugin or somebody else gives.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

/// More may be allowed than is asked for.
pub fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

fn is_integer(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// A name that quotas know.
pub fn is_standard_quota(name: &str) -> bool {
    QUOTA.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// What pods as a whole can ask for.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

fn name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let before = errors.len();
    qualified(name, path, errors);
    if errors.len() == before && !name.contains('/') && !is_standard_quota(name) && name != "storage" {
        errors.push(Error::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
}

/// What a container can ask for.
pub fn container_name(resource: &str, path: &Path<'_>, errors: &mut ErrorList) {
    name(resource, path, errors);
    if !resource.contains('/') {
        let standard = ["cpu", "memory", "ephemeral-storage"].contains(&resource) || is_huge_page(resource);
        if !standard {
            errors.push(Error::invalid(path, resource, "must be a standard resource for containers"));
        }
    } else if !is_native(resource) && !is_extended(resource) {
        errors.push(Error::invalid(path, resource, "doesn't follow extended resource name standard"));
    }
}

/// What a pod as a whole can ask for.
pub fn pod_name(resource: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let before = errors.len();
    name(resource, path, errors);
    if errors.len() == before && !is_pod_level(resource) {
        errors.push(Error::not_supported(path, resource, ["cpu", "hugepages-", "memory"]));
    }
}

/// What a quota can limit.
pub fn quota_name(resource: &str, path: &Path<'_>, errors: &mut ErrorList) {
    name(resource, path, errors);
    if !resource.contains('/') && !is_standard_quota(resource) {
        errors.push(Error::invalid(path, resource, "must be a standard resource for quota"));
    }
}

/// What a limit range can limit: of containers and pods what containers ask for, else any resource.
pub fn limit_name(limit: &str, resource: &str, path: &Path<'_>, errors: &mut ErrorList) {
    match limit {
        "Pod" | "Container" => container_name(resource, path, errors),
        _ => name(resource, path, errors),
    }
}

/// An amount that is not negative, and whole where parts make no sense (`ValidateResourceQuantityValue`).
pub fn amount(resource: &str, value: &Value, path: &Path<'_>, errors: &mut ErrorList) -> Option<Quantity> {
    let amount = quantity(value, path, errors)?;
    if is_integer(resource) && amount.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(path, amount.canonical(), "must be an integer"));
    }
    Some(amount)
}

/// An amount above nothing.
pub fn positive(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Ok(amount) = Quantity::from_value(value)
        && amount.sign() <= 0
    {
        errors.push(Error::invalid(path, amount.canonical(), "must be greater than zero"));
    }
}

/// An amount that is not negative when rounded up to a whole one (`validateBasicResource`).
pub fn basic(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Ok(amount) = Quantity::from_value(value)
        && amount.value() < 0
    {
        errors.push(Error::invalid(path, amount.value(), "must be a valid resource quantity"));
    }
}

/// Whether an amount of huge pages is a multiple of the size in the name.
pub fn is_divisible(name: &str, amount: &Quantity) -> bool {
    let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
    size.is_some_and(|size| {
        size.sign() > 0 && size.milli_value() % 1000 == 0 && amount.value() % size.value() == 0
    })
}

/// The name that a claim's status can use: of Kubernetes' own only storage.
pub fn claim_name(resource: &str, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let before = errors.len();
    messages(names::is_qualified_name(resource), &resource.into(), path, errors);
    if errors.len() == before && is_native(resource) && resource != "storage" {
        errors.push(Error::not_supported(path, resource, ["storage"]));
    }
    errors.len() == before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources() {
        type Rule = fn(&str, &Path<'_>, &mut ErrorList);
        let check = |rule: Rule, name: &str, expect: &[&str]| {
            let mut errors = ErrorList::new();
            rule(name, &Path::new("r"), &mut errors);
            let got: Vec<&str> = errors.iter().map(|error| error.detail.as_str()).collect();
            assert_eq!(got, expect, "{name}");
        };
        let neither = [
            "must be a standard resource type or fully qualified",
            "must be a standard resource for containers",
        ];
        for good in ["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "a.b/c", "kubernetes.io/x"] {
            check(container_name, good, &[]);
        }
        check(container_name, "disk", &neither);
        check(container_name, "pods", &neither[1..]);
        check(container_name, "requests.a.b/c", &["doesn't follow extended resource name standard"]);
        for good in ["cpu", "pods", "requests.hugepages-1Gi", "count/x.y", "services.nodeports", "a.b/c"] {
            check(quota_name, good, &[]);
        }
        check(quota_name, "storage", &["must be a standard resource for quota"]);
        check(pod_name, "memory", &[]);
        check(pod_name, "ephemeral-storage", &["supported values: \"cpu\", \"hugepages-\", \"memory\""]);
    }

    #[test]
    fn huge_pages() {
        for (name, amount, expect) in [
            ("hugepages-2Mi", "4Mi", true),
            ("hugepages-2Mi", "3Mi", false),
            ("hugepages-", "1", false),
            ("hugepages-0", "1", false),
            ("hugepages-1500m", "3", false),
        ] {
            assert_eq!(is_divisible(name, &Quantity::parse(amount).unwrap()), expect, "{name} {amount}");
        }
    }
}
