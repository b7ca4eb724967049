//! Pods and pod templates: the spec as a whole.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels;
use apimachinery::names;
use serde_json::{Value, json};

use super::container::{self, Pod};
use super::options::Options;
use super::{TAINT_EFFECTS, affinity, annotations, env, resources, security, volumes};
use crate::check::{flag, int, items, label, messages, one_of, present, qualified, subdomain, text};
use crate::{ip, meta};

/// A new pod.
pub fn create(pod: &Value, errors: &mut ErrorList) {
    whole(pod, Options::new(true), errors);
    let (path, spec) = (Path::new("spec"), &pod["spec"]);
    if !items(spec, "ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && !items(spec, "schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&path.child("nodeName"), why));
    }
    annotations::profiles_agree(&pod["metadata"], spec, &path, errors);
}

/// Metadata that all kinds have aside, everything that holds for a pod at any time.
pub fn whole(pod: &Value, options: Options, errors: &mut ErrorList) {
    let (path, value) = (Path::new("spec"), &pod["spec"]);
    let metadata = &pod["metadata"];
    annotations::check(metadata, value, options, &Path::new("metadata.annotations"), errors);
    spec(value, Some(metadata), options, &path, errors);
    if text(value, "serviceAccountName").is_empty() {
        let list = path.child("volumes");
        for (index, volume) in items(value, "volumes").iter().enumerate() {
            let sources =
                present(volume, "projected").map(|source| items(source, "sources")).unwrap_or_default();
            let volume = list.index(index);
            let sources_path = volume.child("projected.sources");
            for (number, source) in sources.iter().enumerate() {
                if present(source, "serviceAccountToken").is_some() {
                    let at = sources_path.index(number);
                    let why = "must not be specified when serviceAccountName is not set";
                    errors.push(Error::forbidden(&at.child("serviceAccountToken"), why));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        for (index, container) in items(value, list).iter().enumerate() {
            container::image(container, &at.index(index), errors);
        }
    }
}

/// A pod template of a new workload; `path` leads to the template.
pub fn template(template: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    template_with(template, Options::new(false), path, errors);
}

/// A pod template of a workload that changes: what the old template had may stay.
pub fn template_update(template: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let options = match old.is_null() {
        true => Options::new(false),
        false => Options::update(false, &old["spec"], &old["metadata"]),
    };
    template_with(template, options, path, errors);
}

fn template_with(template: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let (metadata, pod) = (&template["metadata"], &template["spec"]);
    errors.extend(labels::validate_labels(metadata["labels"].as_object(), &path.child("labels")));
    let at = path.child("annotations");
    crate::check::annotations(metadata, &at, errors);
    annotations::check(metadata, pod, options, &at, errors);
    let at = path.child("spec");
    spec(pod, None, options, &at, errors);
    annotations::profiles_agree(metadata, pod, &at, errors);
    if !items(pod, "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&at.child("ephemeralContainers"), why));
    }
}

/// Upstream's `ValidatePodSpec`. Templates have no metadata of a pod.
fn spec(spec: &Value, metadata: Option<&Value>, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let grace = int(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let name = metadata.map(|metadata| text(metadata, "name")).unwrap_or_default();
    let volumes = volumes::volumes(items(spec, "volumes"), name, options, &path.child("volumes"), errors);
    let claims = items(spec, "resourceClaims");
    resource_claims(claims, metadata, &path.child("resourceClaims"), errors);
    let pod = Pod {
        volumes,
        grace,
        os: present(spec, "os").map(|os| text(os, "name")),
        restart_policy: text(spec, "restartPolicy"),
        claims: claims.iter().map(|claim| text(claim, "name")).filter(|name| !name.is_empty()).collect(),
        host_users: spec.get("hostUsers").and_then(Value::as_bool) != Some(false),
        options,
    };
    let regular = items(spec, "containers");
    container::containers(regular, &pod, &path.child("containers"), errors);
    let init = items(spec, "initContainers");
    container::init_containers(init, regular, &pod, &path.child("initContainers"), errors);
    container::ephemeral_containers(spec, &pod, &path.child("ephemeralContainers"), errors);
    let rules = resources::Rules { pod_level: true, indivisible: options.indivisible_huge_pages };
    resources::pod_level(spec, &pod.claims, rules, path, errors);
    if flag(spec, "hostNetwork") {
        host_network_ports(regular, options.is_pod, &path.child("containers"), errors);
    }
    let policies = ["Always", "OnFailure", "Never"];
    one_of(text(spec, "restartPolicy"), &policies, &path.child("restartPolicy"), errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(text(spec, "dnsPolicy"), &policies, &path.child("dnsPolicy"), errors);
    errors.extend(labels::validate_labels(
        spec.get("nodeSelector").and_then(Value::as_object),
        &path.child("nodeSelector"),
    ));
    security::pod(spec, options, &path.child("securityContext"), errors);
    if let Some(value) = present(spec, "affinity") {
        affinity::affinity(value, options, &path.child("affinity"), errors);
    }
    dns_config(spec, &path.child("dnsConfig"), errors);
    let list = path.child("readinessGates");
    for (index, gate) in items(spec, "readinessGates").iter().enumerate() {
        qualified(text(gate, "conditionType"), &list.index(index).child("conditionType"), errors);
    }
    scheduling_gates(items(spec, "schedulingGates"), &path.child("schedulingGates"), errors);
    let constraints = items(spec, "topologySpreadConstraints");
    affinity::spread(constraints, options, &path.child("topologySpreadConstraints"), errors);
    security::host_process(spec, path, errors);
    security::host_users(spec, options, path, errors);
    host_name(spec, path, errors);
    names_and_numbers(spec, options, path, errors);
    container::overhead(spec, options, &path.child("overhead"), errors);
    security::operating_system(spec, path, errors);
    if let Some(group) = present(spec, "schedulingGroup") {
        let at = path.child("schedulingGroup.podGroupName");
        match present(group, "podGroupName").and_then(Value::as_str) {
            None => errors.push(Error::invalid(&at, Value::Null, "must specify one of: `podGroupName`")),
            Some(name) => subdomain(name, &at, errors),
        }
    }
    env::file_volumes(spec, path, errors);
}

/// What is short about a spec: names, numbers, tolerations, aliases.
fn names_and_numbers(spec: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let name = |field: &str, rule: fn(&str, &Path<'_>, &mut ErrorList), errors: &mut ErrorList| {
        let value = text(spec, field);
        if !value.is_empty() {
            rule(value, &path.child(field), errors);
        }
    };
    name("serviceAccountName", subdomain, errors);
    name("nodeName", subdomain, errors);
    if let Some(seconds) = int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = names::inclusive_range_error(1, i64::from(i32::MAX));
        errors.push(Error::invalid(&path.child("activeDeadlineSeconds"), seconds, why));
    }
    name("hostname", label, errors);
    name("subdomain", label, errors);
    pod_tolerations(items(spec, "tolerations"), options, &path.child("tolerations"), errors);
    host_aliases(items(spec, "hostAliases"), &path.child("hostAliases"), errors);
    name("priorityClassName", subdomain, errors);
    if let Some(class) = present(spec, "runtimeClassName").and_then(Value::as_str) {
        subdomain(class, &path.child("runtimeClassName"), errors);
    }
    if let Some(policy) = present(spec, "preemptionPolicy").and_then(Value::as_str) {
        let policies = ["PreemptLowerPriority", "Never"];
        one_of(policy, &policies, &path.child("preemptionPolicy"), errors);
    }
}

/// Claims of devices, each by a name of the pod's own (KEP-4381).
fn resource_claims(list: &[Value], metadata: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    let mirror = metadata.is_some_and(|metadata| metadata["annotations"].get(annotations::MIRROR).is_some());
    for (index, claim) in list.iter().enumerate() {
        if mirror {
            errors.push(Error::forbidden(&Path::new(""), "static pods do not support resource claims"));
            continue;
        }
        let at = path.index(index);
        let name = text(claim, "name");
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        } else if seen.contains(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        } else {
            label(name, &at.child("name"), errors);
            seen.insert(name);
        }
        let of = |field: &str| present(claim, field).and_then(Value::as_str);
        let (own, template) = (of("resourceClaimName"), of("resourceClaimTemplateName"));
        let why = match (own, template) {
            (Some(_), Some(_)) => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            (None, None) => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => None,
        };
        if let Some(why) = why {
            let shown =
                json!({"Name": name, "ResourceClaimName": own, "ResourceClaimTemplateName": template});
            errors.push(Error::invalid(&at, shown, why));
        }
        for (field, name) in [("resourceClaimName", own), ("resourceClaimTemplateName", template)] {
            if let Some(name) = name {
                subdomain(name, &at.child(field), errors);
            }
        }
    }
}

fn host_network_ports(list: &[Value], is_pod: bool, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, container) in list.iter().enumerate() {
        let at = path.index(index);
        let ports = at.child("ports");
        for (index, port) in items(container, "ports").iter().enumerate() {
            let host = int(port, "hostPort").unwrap_or(0);
            if (is_pod || host != 0) && Some(host) != int(port, "containerPort") {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&ports.index(index).child("hostPort"), host, why));
            }
        }
    }
}

fn dns_config(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let config = present(spec, "dnsConfig");
    let servers = config.map(|config| items(config, "nameservers")).unwrap_or_default();
    if text(spec, "dnsPolicy") == "None" {
        if config.is_none() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(Error::required(path, why));
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Error::required(&path.child("nameservers"), why));
            return;
        }
    }
    let Some(config) = config else { return };
    let at = path.child("nameservers");
    if servers.len() > 3 {
        errors.push(Error::invalid(&at, servers.to_vec(), "must not have more than 3 nameservers"));
    }
    for (index, server) in meta::texts(config, "nameservers").enumerate() {
        ip::legacy(server, &[], &at.index(index), errors);
    }
    let at = path.child("searches");
    let searches: Vec<&str> = meta::texts(config, "searches").collect();
    if searches.len() > 32 {
        errors.push(Error::invalid(&at, json!(searches), "must not have more than 32 search paths"));
    }
    if searches.join(" ").len() > 2048 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(Error::invalid(&at, json!(searches), why));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        let faults = names::is_dns1123_subdomain_with_underscore(name);
        messages(faults, &name.into(), &at.index(index), errors);
    }
    let at = path.child("options");
    for (index, option) in items(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.push(Error::required(&at.index(index), "must not be empty"));
        }
    }
}

fn scheduling_gates(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, gate) in list.iter().enumerate() {
        let at = path.index(index);
        let name = text(gate, "name");
        qualified(name, &at, errors);
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at, name));
        }
    }
}

/// Another name for the pod's host than its own (KEP-4762).
fn host_name(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(name) = present(spec, "hostnameOverride").and_then(Value::as_str) else { return };
    let at = path.child("hostnameOverride");
    if flag(spec, "setHostnameAsFQDN") {
        errors.push(Error::forbidden(&at, "may not be specified when setHostnameAsFQDN is true"));
    }
    if flag(spec, "hostNetwork") {
        errors.push(Error::forbidden(&at, "may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errors.push(Error::too_long(&at, 64));
    }
    subdomain(name, &at, errors);
}

/// Tolerations of a runtime class.
pub fn tolerations(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    pod_tolerations(list, Options::default(), path, errors);
}

/// Tolerations of a pod.
pub fn pod_tolerations(list: &[Value], options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, toleration) in list.iter().enumerate() {
        let at = path.index(index);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        let operator_path = at.child("operator");
        if !key.is_empty() {
            errors.extend(labels::validate_label_name(key, &at.child("key")));
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&operator_path, operator, why));
        }
        if present(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&at.child("effect"), effect, why));
        }
        match operator {
            "Equal" | "" => {
                let faults = names::is_label_value(value);
                if !faults.is_empty() {
                    errors.push(Error::invalid(&operator_path, value, faults.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&operator_path, value, why));
            }
            "Exists" => {}
            // Comparison (KEP-5471) is off in v1.36.
            "Lt" | "Gt" if !options.comparison_operators => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(Error::not_supported(&operator_path, operator, known));
            }
            "Lt" | "Gt" => {
                if value.parse::<i64>().is_err() || value.starts_with('+') {
                    let why = "must be a valid decimal integer";
                    errors.push(Error::invalid(&at.child("value"), value, why));
                }
            }
            other => errors.push(Error::not_supported(&operator_path, other, ["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            one_of(effect, TAINT_EFFECTS, &at.child("effect"), errors);
        }
    }
}

fn host_aliases(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, alias) in list.iter().enumerate() {
        let at = path.index(index);
        ip::legacy(text(alias, "ip"), &[], &at.child("ip"), errors);
        let hostnames = at.child("hostnames");
        for (index, name) in meta::texts(alias, "hostnames").enumerate() {
            subdomain(name, &hostnames.index(index), errors);
        }
    }
}
