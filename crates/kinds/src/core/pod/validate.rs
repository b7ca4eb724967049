//! Pods and pod templates: the spec as a whole.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels;
use apimachinery::names;
use serde_json::Value;

use super::container::{self, Pod};
use super::{affinity, security, volumes};
use crate::check::{
    flag, int, items, label, messages, one_of, one_of_if_set, present, qualified, quantity, subdomain, text,
};

/// A new pod.
pub fn create(pod: &Value, errors: &mut ErrorList) {
    whole(pod, errors);
    let spec = Path::new("spec");
    if !items(&pod["spec"], "ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(&spec.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(&pod["spec"], "nodeName").is_empty() && !items(&pod["spec"], "schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&spec.child("nodeName"), why));
    }
}

/// Metadata aside, everything that holds for a pod at any time.
pub fn whole(pod: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let value = &pod["spec"];
    spec(value, pod["metadata"]["name"].as_str().unwrap_or_default(), true, &path, errors);
    if text(value, "serviceAccountName").is_empty() {
        let list = path.child("volumes");
        for (index, volume) in items(value, "volumes").iter().enumerate() {
            let sources =
                present(volume, "projected").map(|source| items(source, "sources")).unwrap_or_default();
            for (number, source) in sources.iter().enumerate() {
                if present(source, "serviceAccountToken").is_some() {
                    let volume = list.index(index);
                    let projected = volume.child("projected");
                    let sources = projected.child("sources");
                    let at = sources.index(number);
                    let why = "must not be specified when serviceAccountName is not set";
                    errors.push(Error::forbidden(&at.child("serviceAccountToken"), why));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in items(value, list).iter().enumerate() {
            let image = text(container, "image");
            if image.trim() != image {
                let list = path.child(list);
                let at = list.index(index);
                errors.push(Error::invalid(
                    &at.child("image"),
                    image,
                    "must not have leading or trailing whitespace",
                ));
            }
        }
    }
}

/// A pod template of a workload.
pub fn template(template: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let metadata = &template["metadata"];
    errors.extend(labels::validate_labels(metadata["labels"].as_object(), &path.child("labels")));
    for (name, _) in metadata["annotations"].as_object().into_iter().flatten() {
        qualified(&name.to_lowercase(), &path.child("annotations"), errors);
    }
    let at = path.child("spec");
    spec(&template["spec"], "", false, &at, errors);
    if !items(&template["spec"], "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&at.child("ephemeralContainers"), why));
    }
}

/// Upstream's `ValidatePodSpec`. `is_pod` tells a pod from a template.
fn spec(spec: &Value, name: &str, is_pod: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let grace = int(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let volumes = volumes::volumes(items(spec, "volumes"), name, &path.child("volumes"), errors);
    let pod = Pod { volumes, grace };
    let regular = items(spec, "containers");
    container::containers(regular, &pod, &path.child("containers"), errors);
    let init = items(spec, "initContainers");
    container::init_containers(init, regular, &pod, &path.child("initContainers"), errors);
    if flag(spec, "hostNetwork") {
        host_network_ports(regular, is_pod, &path.child("containers"), errors);
    }
    one_of(
        text(spec, "restartPolicy"),
        &["Always", "OnFailure", "Never"],
        &path.child("restartPolicy"),
        errors,
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(text(spec, "dnsPolicy"), &policies, &path.child("dnsPolicy"), errors);
    errors.extend(labels::validate_labels(
        spec.get("nodeSelector").and_then(Value::as_object),
        &path.child("nodeSelector"),
    ));
    if let Some(context) = present(spec, "securityContext") {
        security::pod(context, &path.child("securityContext"), errors);
    }
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        let at = path.child("securityContext");
        errors.push(Error::invalid(&at.child("shareProcessNamespace"), true, why));
    }
    security::host_users(spec, path, errors);
    if let Some(value) = present(spec, "affinity") {
        affinity::affinity(value, &path.child("affinity"), errors);
    }
    dns_config(spec, &path.child("dnsConfig"), errors);
    for (index, gate) in items(spec, "readinessGates").iter().enumerate() {
        let list = path.child("readinessGates");
        qualified(text(gate, "conditionType"), &list.index(index).child("conditionType"), errors);
    }
    scheduling_gates(items(spec, "schedulingGates"), &path.child("schedulingGates"), errors);
    affinity::spread(
        items(spec, "topologySpreadConstraints"),
        &path.child("topologySpreadConstraints"),
        errors,
    );
    for (field, check) in [
        ("serviceAccountName", subdomain as fn(&str, &Path<'_>, &mut ErrorList)),
        ("nodeName", subdomain),
        ("hostname", label),
        ("subdomain", label),
        ("priorityClassName", subdomain),
        ("runtimeClassName", subdomain),
    ] {
        let value = text(spec, field);
        if !value.is_empty() {
            check(value, &path.child(field), errors);
        }
    }
    if let Some(seconds) = int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = names::inclusive_range_error(1, i64::from(i32::MAX));
        errors.push(Error::invalid(&path.child("activeDeadlineSeconds"), seconds, why));
    }
    tolerations(items(spec, "tolerations"), &path.child("tolerations"), errors);
    host_aliases(items(spec, "hostAliases"), &path.child("hostAliases"), errors);
    let policy = path.child("preemptionPolicy");
    one_of_if_set(spec.get("preemptionPolicy"), &["PreemptLowerPriority", "Never"], &policy, errors);
    for (name, amount) in crate::check::entries(spec, "overhead") {
        let overhead = path.child("overhead");
        quantity(amount, &overhead.key(name), errors);
    }
    if let Some(os) = present(spec, "os") {
        one_of(text(os, "name"), &["linux", "windows"], &path.child("os").child("name"), errors);
    }
    if let Some(resources) = present(spec, "resources") {
        container::resources(resources, &path.child("resources"), errors);
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
    if text(spec, "dnsPolicy") == "None" {
        let servers = config.map(|config| items(config, "nameservers")).unwrap_or_default();
        if config.is_none() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(Error::required(path, why));
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Error::required(&path.child("nameservers"), why));
        }
    }
    let Some(config) = config else { return };
    let servers = items(config, "nameservers");
    if servers.len() > 3 {
        errors.push(Error::invalid(
            &path.child("nameservers"),
            servers.to_vec(),
            "must not have more than 3 nameservers",
        ));
    }
    for (index, server) in servers.iter().enumerate() {
        ip(server.as_str().unwrap_or_default(), &path.child("nameservers").index(index), errors);
    }
    let searches = items(config, "searches");
    if searches.len() > 32 {
        errors.push(Error::invalid(
            &path.child("searches"),
            searches.to_vec(),
            "must not have more than 32 search paths",
        ));
    }
    for (index, search) in searches.iter().enumerate() {
        let search = search.as_str().unwrap_or_default();
        if search != "." {
            let name = search.strip_suffix('.').unwrap_or(search);
            let faults = names::is_dns1123_subdomain_with_underscore(name);
            messages(faults, &name.into(), &path.child("searches").index(index), errors);
        }
    }
    for (index, option) in items(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            errors.push(Error::required(&path.child("options").index(index), "must not be empty"));
        }
    }
}

fn ip(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if value.parse::<std::net::IpAddr>().is_err() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(Error::invalid(path, value, why));
    }
}

fn scheduling_gates(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, gate) in list.iter().enumerate() {
        let at = path.index(index);
        let name = text(gate, "name");
        qualified(name, &at.child("name"), errors);
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at, name));
        }
    }
}

/// Tolerations of a pod, or of a runtime class.
pub fn tolerations(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, toleration) in list.iter().enumerate() {
        let at = path.index(index);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        if !key.is_empty() {
            errors.extend(labels::validate_label_name(key, &at.child("key")));
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&at.child("operator"), operator, why));
        }
        if present(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&at.child("effect"), effect, why));
        }
        match operator {
            "Equal" | "" => {
                let faults = names::is_label_value(value);
                if !faults.is_empty() {
                    errors.push(Error::invalid(&at.child("operator"), value, faults.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&at.child("operator"), value, why));
            }
            "Exists" => {}
            other => errors.push(Error::not_supported(&at.child("operator"), other, ["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            one_of(effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], &at.child("effect"), errors);
        }
    }
}

fn host_aliases(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, alias) in list.iter().enumerate() {
        let at = path.index(index);
        ip(text(alias, "ip"), &at.child("ip"), errors);
        let hostnames = at.child("hostnames");
        for (index, name) in items(alias, "hostnames").iter().enumerate() {
            subdomain(name.as_str().unwrap_or_default(), &hostnames.index(index), errors);
        }
    }
}
