//! Containers of all three lists.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::mounts::{Volumes, devices, mounts};
use super::options::Options;
use super::{env, probes, resources, security};
use crate::check::{entries, int, items, label, messages, one_of, present, text};

/// What the containers of a pod share.
pub struct Pod<'a> {
    pub volumes: Volumes<'a>,
    pub grace: Option<i64>,
    /// The pod's operating system, if it says one.
    pub os: Option<&'a str>,
    pub restart_policy: &'a str,
    /// The names of the pod's resource claims.
    pub claims: BTreeSet<&'a str>,
    /// The pod has no user namespace of its own.
    pub host_users: bool,
    pub options: Options,
}

/// The containers proper.
pub fn containers(list: &[Value], pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if list.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, container) in list.iter().enumerate() {
        let path = path.index(index);
        common(container, pod, &path, errors);
        if !seen.insert(text(container, "name")) {
            errors.push(Error::duplicate(&path.child("name"), text(container, "name")));
        }
        probes::long_running(container, pod.grace, pod.os, &path, errors);
        restart_policy(container, &path, errors);
    }
    host_ports(list, path, errors);
}

/// Init containers; those with restartPolicy Always are sidecars and may have what containers have (KEP-753).
pub fn init_containers(
    list: &[Value],
    regular: &[Value],
    pod: &Pod<'_>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let mut seen: BTreeSet<&str> = regular.iter().map(|container| text(container, "name")).collect();
    for (index, container) in list.iter().enumerate() {
        let at = path.index(index);
        common(container, pod, &at, errors);
        restart_policy(container, &at, errors);
        let name = text(container, "name");
        if seen.contains(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        } else if !name.is_empty() {
            seen.insert(name);
        }
        host_ports(std::slice::from_ref(container), path, errors);
        if text(container, "restartPolicy") == "Always" {
            probes::long_running(container, pod.grace, pod.os, &at, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if present(container, field).is_some() {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.push(Error::forbidden(&at.child(field), why));
            }
        }
        let list = at.child("resizePolicy");
        for (index, policy) in items(container, "resizePolicy").iter().enumerate() {
            if !pod.options.restart_on_resize && text(policy, "restartPolicy") == "RestartContainer" {
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                let at = list.index(index);
                errors.push(Error::invalid(&at.child("restartPolicy"), "RestartContainer", why));
            }
        }
    }
}

/// Containers that are added to a running pod (KEP-277).
pub fn ephemeral_containers(spec: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    const FORBIDDEN: &[&str] = &[
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| items(spec, list).iter().map(|container| text(container, "name")))
        .collect();
    let mut seen = others.clone();
    for (index, container) in items(spec, "ephemeralContainers").iter().enumerate() {
        let at = path.index(index);
        common(container, pod, &at, errors);
        image(container, &at, errors);
        let (name, target) = (text(container, "name"), text(container, "targetContainerName"));
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        if !target.is_empty() && !others.contains(target) {
            errors.push(Error::not_found(&at.child("targetContainerName"), target));
        }
        // Only the resources are always there.
        let empty = |field: &str, value: &Value| match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => field == "resources" && fields.is_empty(),
            _ => false,
        };
        for field in FORBIDDEN {
            if present(container, field).is_some_and(|value| !empty(field, value)) {
                errors.push(Error::forbidden(&at.child(field), "cannot be set for an Ephemeral Container"));
            }
        }
        let list = at.child("volumeMounts");
        for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    let why = "cannot be set for an Ephemeral Container";
                    errors.push(Error::forbidden(&list.index(index).child(field), why));
                }
            }
        }
    }
}

/// Blanks around an image's name, which templates may have.
pub fn image(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let image = text(container, "image");
    if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(Error::invalid(&path.child("image"), image, why));
    }
}

/// Whether and when one container is started again (KEP-5307).
fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
    const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
    const OPERATORS: [&str; 2] = ["In", "NotIn"];
    let rules = items(container, "restartPolicyRules");
    let list = path.child("restartPolicyRules");
    match present(container, "restartPolicy").and_then(Value::as_str) {
        None => {
            if !rules.is_empty() {
                let why = "must specify restartPolicy when restart rules are used";
                errors.push(Error::required(&path.child("restartPolicy"), why));
            }
            return;
        }
        Some(policy) if !POLICIES.contains(&policy) => {
            errors.push(Error::not_supported(&path.child("restartPolicy"), policy, POLICIES));
        }
        Some(_) => {}
    }
    if rules.len() > 20 {
        errors.push(Error::too_many(&list, rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = list.index(index);
        let action = text(rule, "action");
        if !ACTIONS.contains(&action) {
            errors.push(Error::not_supported(&at.child("action"), action, ACTIONS));
        }
        let at = at.child("exitCodes");
        let Some(codes) = present(rule, "exitCodes") else {
            errors.push(Error::required(&at, "must be specified"));
            continue;
        };
        let operator = text(codes, "operator");
        if !OPERATORS.contains(&operator) {
            errors.push(Error::not_supported(&at.child("operator"), operator, OPERATORS));
        }
        let count = items(codes, "values").len();
        if count > 255 {
            errors.push(Error::too_many(&at.child("values"), count, 255));
        }
    }
}

fn common(container: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    match text(container, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => label(name, &path.child("name"), errors),
    }
    if text(container, "image").is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    let policy = path.child("terminationMessagePolicy");
    one_of(text(container, "terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], &policy, errors);
    ports(items(container, "ports"), &path.child("ports"), errors);
    env::env(items(container, "env"), &path.child("env"), errors);
    env::env_from(items(container, "envFrom"), &path.child("envFrom"), errors);
    mounts(container, &pod.volumes, &path.child("volumeMounts"), errors);
    devices(container, &pod.volumes, &path.child("volumeDevices"), errors);
    one_of(
        text(container, "imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        &path.child("imagePullPolicy"),
        errors,
    );
    let rules = resources::Rules { pod_level: false, indivisible: pod.options.indivisible_huge_pages };
    if let Some(given) = present(container, "resources") {
        resources::requirements(given, &pod.claims, rules, &path.child("resources"), errors);
    }
    resize_policy(container, pod, &path.child("resizePolicy"), errors);
    if let Some(context) = present(container, "securityContext") {
        security::container(context, pod.host_users, &path.child("securityContext"), errors);
    }
}

/// What happens to a container when it is resized (KEP-1287). Upstream reports at the whole list.
fn resize_policy(container: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, policy) in items(container, "resizePolicy").iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(resource) {
            errors.push(Error::duplicate(&path.index(index), resource));
        }
        one_of(resource, &["cpu", "memory"], path, errors);
        one_of(restart, &["NotRequired", "RestartContainer"], path, errors);
        if pod.restart_policy == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, why));
        }
    }
}

fn ports(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, port) in list.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let faults = names::is_port_name(name);
            if faults.is_empty() && !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            messages(faults, &name.into(), &path.child("name"), errors);
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            number => {
                messages(names::is_port_number(number), &number.into(), &path.child("containerPort"), errors)
            }
        }
        if let Some(number) = int(port, "hostPort").filter(|number| *number != 0) {
            messages(names::is_port_number(number), &number.into(), &path.child("hostPort"), errors);
        }
        one_of(text(port, "protocol"), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
    }
}

/// Two containers of a pod cannot have the same host port.
fn host_ports(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, container) in list.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("ports");
        for (index, port) in items(container, "ports").iter().enumerate() {
            let Some(number) = int(port, "hostPort").filter(|number| *number != 0) else { continue };
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&key) {
                errors.push(Error::duplicate(&path.index(index).child("hostPort"), key));
            } else {
                seen.insert(key);
            }
        }
    }
}

/// Requests and limits of one container that claims nothing.
pub fn resources(given: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    resources::requirements(given, &BTreeSet::new(), resources::Rules::default(), path, errors);
}

/// What a pod takes beside its containers.
pub fn overhead(spec: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    if entries(spec, "overhead").next().is_some() {
        let limits = serde_json::json!({"limits": spec["overhead"]});
        let rules = resources::Rules { pod_level: false, indivisible: options.indivisible_huge_pages };
        resources::requirements(&limits, &BTreeSet::new(), rules, path, errors);
    }
}
