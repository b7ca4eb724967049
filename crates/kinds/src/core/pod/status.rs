//! The `status` subresource: what kubelets and others say about a pod.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use super::{annotations, security, update};
use crate::check::{entries, immutable, int, items, label, present, qualified, subdomain, text};
use crate::core::{node::observed, resources};
use crate::{ip, meta};

/// A writer that knows nothing of quality of service or of observed generations does not take them away.
pub fn prepare(new: &mut Value, old: &Value) {
    meta::keep(new, old, "ownerReferences");
    let Some(status) = new.get_mut("status").filter(|status| status.is_object()) else { return };
    if text(status, "qosClass").is_empty()
        && let Some(class) = present(&old["status"], "qosClass")
    {
        status["qosClass"] = class.clone();
    }
    let generation = |object: &Value| int(object, "observedGeneration").filter(|generation| *generation != 0);
    if generation(status).is_none()
        && let Some(known) = generation(&old["status"])
    {
        status["observedGeneration"] = known.into();
    }
    let mut known: Vec<&Value> = items(&old["status"], "conditions").iter().collect();
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let same = known.iter().position(|old| text(old, "type") == text(condition, "type"));
        let old = same.map(|at| known.remove(at)).and_then(generation);
        if let Some(old) = old.filter(|_| generation(condition).is_none()) {
            condition["observedGeneration"] = old.into();
        }
    }
    super::disabled::status(status, &old["status"]);
}

/// Every fault of a status update.
pub fn check(new: &Value, old: &Value, errors: &mut ErrorList) {
    let options = update::options(old);
    annotations::update(new, old, options, &Path::new("metadata.annotations"), errors);
    let path = Path::new("status");
    let (after, before) = (&new["status"], &old["status"]);
    conditions(items(after, "conditions"), &path.child("conditions"), errors);
    let node = |pod: &Value| text(&pod["spec"], "nodeName").to_owned();
    if node(new) != node(old) {
        errors.push(Error::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    let (nominated, was) = (text(after, "nominatedNodeName"), text(before, "nominatedNodeName"));
    if nominated != was && !nominated.is_empty() {
        let at = path.child("nominatedNodeName");
        subdomain(nominated, &at, errors);
        if !node(old).is_empty() {
            errors.push(Error::forbidden(&at, "may not be set on pods that are already bound to a node"));
        }
    }
    observed(after, &path, errors);
    immutable(&after["qosClass"], &before["qosClass"], &path.child("qosClass"), errors);
    let spec = &old["spec"];
    for (list, containers) in
        [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")]
    {
        let restarts = |name: &str, code: i64| may_restart(spec, items(spec, containers), name, code);
        if !all_may_restart(spec) {
            transitions(after, before, list, &restarts, &path, errors);
        }
    }
    transitions(after, before, "ephemeralContainerStatuses", &|_, _| false, &path, errors);
    claims(new, &path, errors);
    if let Some(status) = present(after, "extendedResourceClaimStatus") {
        extended_claim(status, &new["spec"], &path.child("extendedResourceClaimStatus"), errors);
    }
    allocatable_claims(new, &path.child("nodeAllocatableResourceClaimStatuses"), errors);
    addresses(after, before, "podIPs", &path, errors);
    let hosts = items(after, "hostIPs");
    if let Some(first) = hosts.first().map(|first| text(first, "ip"))
        && first != text(after, "hostIP")
    {
        let at = path.child("hostIPs");
        errors.push(Error::invalid(&at.index(0).child("ip"), first, "must be equal to `hostIP`"));
    }
    addresses(after, before, "hostIPs", &path, errors);
    let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    for list in lists {
        users(items(after, list), &new["spec"], &path.child(list), errors);
    }
    for (list, containers) in lists.into_iter().zip(["containers", "initContainers"]) {
        health(items(after, list), items(&new["spec"], containers), &path.child(list), errors);
    }
    let at = path.child(lists[2]);
    for (index, status) in items(after, lists[2]).iter().enumerate() {
        if !items(status, "allocatedResourcesStatus").is_empty() {
            let why = "must not be specified in container status";
            errors.push(Error::forbidden(&at.index(index).child("allocatedResourcesStatus"), why));
        }
    }
}

fn conditions(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, condition) in list.iter().enumerate() {
        let at = path.index(index);
        observed(condition, &at, errors);
        let kind = text(condition, "type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            qualified(kind, &at.child("Type"), errors);
        }
    }
}

/// Some container restarts all of them (KEP-5532).
fn all_may_restart(spec: &Value) -> bool {
    ["initContainers", "containers"].iter().any(|list| {
        let mut rules = items(spec, list).iter().flat_map(|own| items(own, "restartPolicyRules"));
        rules.any(|rule| text(rule, "action") == "RestartAllContainers")
    })
}

/// Whether the container is started again after it ended with this code (KEP-5307).
fn may_restart(spec: &Value, containers: &[Value], name: &str, code: i64) -> bool {
    let Some(container) = containers.iter().find(|own| text(own, "name") == name) else { return false };
    let by = |policy: &str| match policy {
        "Always" => Some(true),
        "OnFailure" => Some(code != 0),
        "Never" => Some(false),
        _ => None,
    };
    let matches = |rule: &&Value| {
        let Some(codes) = present(rule, "exitCodes") else { return false };
        let listed = items(codes, "values").iter().any(|value| value.as_i64() == Some(code));
        match text(codes, "operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    let own = present(container, "restartPolicy").and_then(Value::as_str).and_then(|policy| {
        let rule = items(container, "restartPolicyRules").iter().find(matches);
        let restarts = rule.is_some_and(|rule| text(rule, "action").starts_with("Restart"));
        if restarts { Some(true) } else { by(policy) }
    });
    own.or_else(|| by(text(spec, "restartPolicy"))).unwrap_or(true)
}

/// A container that has ended runs again only if its policy says so.
fn transitions(
    after: &Value,
    before: &Value,
    list: &str,
    restarts: &dyn Fn(&str, i64) -> bool,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let at = path.child(list);
    for (index, was) in items(before, list).iter().enumerate() {
        let Some(ended) = present(&was["state"], "terminated") else { continue };
        let name = text(was, "name");
        let runs = |now: &&Value| text(now, "name") == name && present(&now["state"], "terminated").is_none();
        if items(after, list).iter().find(runs).is_some()
            && !restarts(name, int(ended, "exitCode").unwrap_or(0))
        {
            let why = "may not be transitioned to non-terminated state";
            errors.push(Error::forbidden(&at.index(index).child("state"), why));
        }
    }
}

fn claims(pod: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("resourceClaimStatuses");
    let known = items(&pod["spec"], "resourceClaims");
    let mut seen = BTreeSet::new();
    for (index, status) in items(&pod["status"], "resourceClaimStatuses").iter().enumerate() {
        let at = list.index(index);
        let name = text(status, "name");
        if !known.iter().any(|claim| text(claim, "name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(&at.child("name"), name, why));
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        if let Some(claim) = present(status, "resourceClaimName").and_then(Value::as_str) {
            subdomain(claim, &at.child("resourceClaimName"), errors);
        }
    }
}

/// KEP-5004: which request of a claim stands for which extended resource of which container.
fn extended_claim(status: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("requestMappings");
    let mappings = items(status, "requestMappings");
    if mappings.is_empty() {
        errors.push(Error::required(&list, "at least one request mapping is required"));
    }
    let mut seen = BTreeSet::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let at = list.index(index);
        let of = |field: &str| text(mapping, field);
        let (container, resource, request) = (of("containerName"), of("resourceName"), of("requestName"));
        let mut all = items(spec, "containers").iter().chain(items(spec, "initContainers"));
        match all.find(|own| text(own, "name") == container) {
            Some(own) if own["resources"]["requests"].get(resource).is_none() => {
                let why = "must match the extended resource name of an entry in \
                           spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.push(Error::invalid(&at.child("resourceName"), resource, why));
            }
            Some(_) => {}
            None => {
                let why =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(Error::invalid(&at.child("containerName"), container, why));
            }
        }
        label(request, &path.child("requestName"), errors);
        if !seen.insert((container, resource, request)) {
            for (field, value) in
                [("containerName", container), ("resourceName", resource), ("requestName", request)]
            {
                errors.push(Error::duplicate(&at.child(field), value));
            }
        }
    }
    match text(status, "resourceClaimName") {
        "" => errors.push(Error::required(&path.child("resourceClaimName"), "")),
        name => subdomain(name, &path.child("resourceClaimName"), errors),
    }
}

fn allocatable_claims(pod: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, status) in items(&pod["status"], "nodeAllocatableResourceClaimStatuses").iter().enumerate() {
        let at = path.index(index);
        let name = text(status, "resourceClaimName");
        if name.is_empty() {
            errors.push(Error::required(&at.child("resourceClaimName"), "must not be empty"));
        }
        let own = items(&pod["spec"], "resourceClaims").iter();
        let mut all = own.chain(items(&pod["status"], "resourceClaimStatuses"));
        if !all.any(|claim| present(claim, "resourceClaimName").is_some_and(|claim| claim == name)) {
            let why = "no mapping found in pod reference";
            errors.push(Error::invalid(&at.child("resourceClaimName"), name, why));
        }
        if items(status, "containers").is_empty() {
            errors.push(Error::required(&at.child("containers"), "must not be empty"));
        }
        let at = at.child("resources");
        if entries(status, "resources").next().is_none() {
            errors.push(Error::required(&at, "must not be empty"));
        }
        for (name, amount) in entries(status, "resources") {
            if !resources::is_native(name) {
                let why = "must be a node allocatable resource name";
                errors.push(Error::invalid(&at.key(name), name.as_str(), why));
            }
            if let Ok(amount) = Quantity::from_value(amount)
                && amount.sign() < 0
            {
                errors.push(Error::invalid(&at.key(name), amount.canonical(), "must be non-negative"));
            }
        }
    }
}

fn addresses(after: &Value, before: &Value, list: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child(list);
    let of =
        |status| -> Vec<&str> { items(status, list).iter().map(|own: &Value| text(own, "ip")).collect() };
    let (now, was) = (of(after), of(before));
    for (index, address) in now.iter().enumerate() {
        ip::legacy(address, &was, &at.index(index), errors);
    }
    if now.len() > 1 {
        let four =
            |wanted: bool| now.iter().filter_map(|own| ip::parse(own)).any(|own| own.is_ipv4() == wanted);
        if now.len() > 2 || !four(true) || !four(false) {
            let shown: Vec<Value> = now.iter().map(|own| json!({"IP": own})).collect();
            let why = "may specify no more than one IP for each IP family";
            errors.push(Error::invalid(&at, shown, why));
        }
    }
}

/// Under which users containers run (KEP-3619).
fn users(list: &[Value], spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let os = present(spec, "os").map_or("linux", |os| text(os, "name"));
    for (index, status) in list.iter().enumerate() {
        let Some(linux) = present(status, "user").and_then(|user| present(user, "linux")) else { continue };
        let at = path.index(index);
        let at = at.child("user.linux");
        match os {
            "windows" => errors.push(Error::forbidden(&at, "cannot be set for a windows pod")),
            "linux" => {
                for field in ["uid", "gid"] {
                    security::check_id(int(linux, field).unwrap_or(0), &at.child(field), errors);
                }
                let groups = at.child("supplementalGroups");
                for (index, group) in items(linux, "supplementalGroups").iter().enumerate() {
                    security::check_id(group.as_i64().unwrap_or(0), &groups.index(index), errors);
                }
            }
            _ => {}
        }
    }
}

/// How the devices of containers are (KEP-4680).
fn health(list: &[Value], containers: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    const STATES: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
    const LONGEST: usize = 1024;
    for (index, status) in list.iter().enumerate() {
        let at = path.index(index);
        let list = at.child("allocatedResourcesStatus");
        let container = containers.iter().find(|own| text(own, "name") == text(status, "name"));
        for (index, resource) in items(status, "allocatedResourcesStatus").iter().enumerate() {
            let at = list.index(index);
            let name = text(resource, "name");
            if let Some(container) = container {
                let (found, why) = asked_for(container, name);
                if !found {
                    errors.push(Error::invalid(&at.child("name"), name, why));
                }
            }
            let list = at.child("resources");
            let mut seen = BTreeSet::new();
            for (index, one) in items(resource, "resources").iter().enumerate() {
                let at = list.index(index);
                let (id, state) = (text(one, "resourceID"), text(one, "health"));
                if !STATES.contains(&state) {
                    errors.push(Error::not_supported(&at.child("health"), state, STATES));
                }
                match present(one, "message").and_then(Value::as_str) {
                    Some("") => {
                        let why = "must be non-empty if specified";
                        errors.push(Error::required(&at.child("message"), why));
                    }
                    Some(message) if message.len() > LONGEST => {
                        errors.push(Error::too_long(&at.child("message"), LONGEST));
                    }
                    _ => {}
                }
                if !seen.insert(id) {
                    errors.push(Error::duplicate(&at.child("resourceID"), id));
                }
            }
        }
    }
}

fn asked_for(container: &Value, name: &str) -> (bool, &'static str) {
    let resources = &container["resources"];
    match name.strip_prefix("claim:") {
        Some(claim) => {
            let asked = items(resources, "claims").iter().any(|own| match text(own, "request") {
                "" => text(own, "name") == claim,
                request => format!("{}/{request}", text(own, "name")) == claim,
            });
            let why = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' \
                       or 'claim:<claimName>' if request is empty";
            (asked, why)
        }
        None => {
            (resources["requests"].get(name).is_some(), "must match one of the container's resource requests")
        }
    }
}
