//! Service.

mod addresses;

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels;
use apimachinery::names;
use serde_json::{Value, json};

use crate::check::{
    int, items, label, messages, one_of, one_of_if_set, port, present, qualified, subdomain, text,
};
use crate::strategy::{GENERIC, Strategy, label as label_name};
use crate::{ip, meta};

pub const STRATEGY: Strategy = Strategy {
    name: label_name,
    allow_create_on_update: true,
    returns_deleted: true,
    prepare_for_update: |new, old, subresource| {
        if subresource.is_empty() {
            drop_what_its_type_has_not(new, old);
        }
    },
    validate: |service, errors| validate(service, None, errors),
    validate_update,
    warnings,
    selectable: &[("spec.clusterIP", "/spec/clusterIP", ""), ("spec.type", "/spec/type", "")],
    ..GENERIC
};

/// No cluster IP, by the word of its owner.
fn is_headless(spec: &Value) -> bool {
    items(spec, "clusterIPs") == [json!("None")]
}

/// Reachable from outside: by node ports, a load balancer or external IPs.
fn is_external(spec: &Value) -> bool {
    let kind = text(spec, "type");
    matches!(kind, "LoadBalancer" | "NodePort")
        || kind == "ClusterIP" && !items(spec, "externalIPs").is_empty()
}

fn needs_health_check(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// A changed type takes along what only the old one had, unless the client wants it otherwise.
fn drop_what_its_type_has_not(new: &mut Value, old: &Value) {
    let before = &old["spec"];
    let Some(spec) = new.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let same = |spec: &Value, field: &str| meta::same(&spec[field], &before[field]);
    let remove = |spec: &mut Value, fields: &[&str]| {
        let object = spec.as_object_mut();
        object.into_iter().for_each(|object| fields.iter().for_each(|field| drop(object.remove(*field))));
    };
    let addressed = |spec: &Value| text(spec, "type") != "ExternalName";
    if addressed(before) && !addressed(spec) {
        if same(spec, "clusterIP") && same(spec, "clusterIPs") {
            remove(spec, &["clusterIP", "clusterIPs"]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(spec, field) {
                remove(spec, &[field]);
            }
        }
    }
    let on_nodes = |spec: &Value| matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
    let ports = |spec: &Value| -> BTreeSet<i64> {
        let all = items(spec, "ports").iter().filter_map(|port| int(port, "nodePort"));
        all.filter(|port| *port != 0).collect()
    };
    if on_nodes(before) && !on_nodes(spec) && ports(before).is_superset(&ports(spec)) {
        let list = spec.get_mut("ports").and_then(Value::as_array_mut);
        list.into_iter().flatten().for_each(|port| remove(port, &["nodePort"]));
    }
    for (had, has, field) in [
        (needs_health_check(before), needs_health_check(spec), "healthCheckNodePort"),
        (balanced(before), balanced(spec), "allocateLoadBalancerNodePorts"),
        (balanced(before), balanced(spec), "loadBalancerClass"),
        (is_external(before), is_external(spec), "externalTrafficPolicy"),
    ] {
        if had && !has && same(spec, field) {
            remove(spec, &[field]);
        }
    }
    if !balanced(spec)
        && let Some(status) = new.get_mut("status").filter(|status| status.is_object())
    {
        status["loadBalancer"] = json!({});
    }
}

fn balanced(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer"
}

/// Every fault of the spec. Malformed addresses that `old` had may stay.
fn validate(service: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    topology(service, errors);
    let path = Path::new("spec");
    let spec = &service["spec"];
    let before = old.map_or(&Value::Null, |old| &old["spec"]);
    let kind = text(spec, "type");
    let ports = items(spec, "ports");
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    if is_headless(spec) && matches!(kind, "LoadBalancer" | "NodePort") {
        let why = format!("may not be set to 'None' for {kind} services");
        errors.push(Error::invalid(&path.child("clusterIPs").index(0), "None", why));
    }
    if kind == "ExternalName" {
        external_name(spec, &path, errors);
    }
    check_ports(ports, &path.child("ports"), errors);
    let selector = spec.get("selector").and_then(Value::as_object);
    errors.extend(labels::validate_labels(selector, &path.child("selector")));
    affinity(spec, &path, errors);
    addresses::cluster(spec, before, &path, errors);
    let known: Vec<&str> = meta::texts(before, "externalIPs").collect();
    let list = path.child("externalIPs");
    for (index, address) in meta::texts(spec, "externalIPs").enumerate() {
        let start = errors.len();
        ip::legacy(address, &known, &list.index(index), errors);
        if errors.len() == start {
            ip::endpoint(address, &list.index(index), errors);
        }
    }
    one_of(kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &path.child("type"), errors);
    distinct_ports(ports, kind, &path.child("ports"), errors);
    source_ranges(service, old, errors);
    let only = "may only be used when `type` is 'LoadBalancer'";
    match present(spec, "allocateLoadBalancerNodePorts") {
        Some(_) if kind != "LoadBalancer" => {
            errors.push(Error::forbidden(&path.child("allocateLoadBalancerNodePorts"), only));
        }
        None if kind == "LoadBalancer" => {
            errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
        }
        _ => {}
    }
    balancer_class(spec, errors);
    traffic(spec, kind, &path, errors);
}

/// Two annotations that say the same.
fn topology(service: &Value, errors: &mut ErrorList) {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let all = &service["metadata"]["annotations"];
    if let (Some(mode), Some(hints)) = (all.get(MODE), all.get(HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(Error::invalid(&Path::new("metadata.annotations").key(MODE), mode.clone(), why));
    }
}

fn external_name(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let why = "may not be set for ExternalName services";
    for field in ["clusterIPs", "ipFamilies"] {
        if !items(spec, field).is_empty() {
            errors.push(Error::forbidden(&path.child(field), why));
        }
    }
    if present(spec, "ipFamilyPolicy").is_some() {
        errors.push(Error::forbidden(&path.child("ipFamilyPolicy"), why));
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.push(Error::required(&path.child("externalName"), "")),
        name => subdomain(name, &path.child("externalName"), errors),
    }
}

fn check_ports(ports: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, entry) in ports.iter().enumerate() {
        let at = path.index(index);
        match text(entry, "name") {
            "" if ports.len() > 1 => errors.push(Error::required(&at.child("name"), "")),
            "" => {}
            name => {
                label(name, &at.child("name"), errors);
                if !seen.insert(name) {
                    errors.push(Error::duplicate(&at.child("name"), name));
                }
            }
        }
        let number = int(entry, "port").unwrap_or(0);
        messages(names::is_port_number(number), &number.into(), &at.child("port"), errors);
        one_of(text(entry, "protocol"), &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
        port(entry.get("targetPort").unwrap_or(&Value::Null), &at.child("targetPort"), errors);
        if let Some(protocol) = present(entry, "appProtocol").and_then(Value::as_str) {
            qualified(protocol, &at.child("appProtocol"), errors);
        }
    }
}

/// No two ports of one protocol have a number in common, nor a node port.
fn distinct_ports(ports: &[Value], kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let number = |port: &Value, field: &str| int(port, field).unwrap_or(0);
    let node_ports = || ports.iter().enumerate().filter(|(_, port)| number(port, "nodePort") != 0);
    for (index, _) in node_ports().filter(|_| kind == "ClusterIP") {
        let why = "may not be used when `type` is 'ClusterIP'";
        errors.push(Error::forbidden(&path.index(index).child("nodePort"), why));
    }
    let mut seen = BTreeSet::new();
    for (index, port) in node_ports() {
        let node_port = number(port, "nodePort");
        if !seen.insert((text(port, "protocol"), node_port)) {
            errors.push(Error::duplicate(&path.index(index).child("nodePort"), node_port));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = (text(port, "protocol"), number(port, "port"));
        if !seen.insert((protocol, number)) {
            // Upstream shows the whole port with everything else left empty.
            let key = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0});
            errors.push(Error::duplicate(&path.index(index), key));
        }
    }
}

fn affinity(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let affinity = text(spec, "sessionAffinity");
    one_of(affinity, &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let config = present(spec, "sessionAffinityConfig");
    let path = path.child("sessionAffinityConfig");
    if affinity == "None" && config.is_some() {
        errors.push(Error::forbidden(&path, "must not be set when session affinity is None"));
    }
    if affinity != "ClientIP" {
        return;
    }
    let why = "when session affinity type is ClientIP";
    let client = path.child("clientIP");
    let timeout = client.child("timeoutSeconds");
    let Some(config) = config else { return errors.push(Error::required(&path, why)) };
    let Some(config) = present(config, "clientIP") else {
        return errors.push(Error::required(&client, why));
    };
    match int(config, "timeoutSeconds") {
        Some(1..=86400) => {}
        Some(seconds) => {
            let why = "must be greater than 0 and less than 86400";
            errors.push(Error::invalid(&timeout, seconds, why));
        }
        None => errors.push(Error::required(&timeout, why)),
    }
}

/// From where a load balancer takes traffic: a field, or the annotation from before it.
fn source_ranges(service: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    const KEY: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let spec = &service["spec"];
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges: Vec<&str> = meta::texts(spec, "loadBalancerSourceRanges").map(str::trim).collect();
    if !ranges.is_empty() {
        let path = Path::new("spec.LoadBalancerSourceRanges");
        if !balanced(spec) {
            errors.push(Error::forbidden(&path, only));
        }
        let before = old.map_or(&Value::Null, |old| &old["spec"]);
        let known: Vec<&str> = meta::texts(before, "loadBalancerSourceRanges").map(str::trim).collect();
        for (index, range) in ranges.iter().enumerate() {
            ip::legacy_cidr(range, &known, &path.index(index), errors);
        }
        return;
    }
    let of = |service: &Value| service["metadata"]["annotations"].get(KEY).cloned();
    let Some(given) = of(service) else { return };
    let path = Path::new("metadata.annotations");
    let path = path.key(KEY);
    if !balanced(spec) {
        errors.push(Error::forbidden(&path, only));
    }
    let list = given.as_str().unwrap_or_default().trim();
    if !list.is_empty() && old.and_then(of).as_ref() != Some(&given) {
        list.split(',').for_each(|range| ip::legacy_cidr(range.trim(), &[], &path, errors));
    }
}

fn balancer_class(spec: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec.loadBalancerClass");
    match present(spec, "loadBalancerClass").and_then(Value::as_str) {
        None => {}
        Some(class) if balanced(spec) => qualified(class, &path, errors),
        Some(_) => errors.push(Error::forbidden(&path, "may only be used when `type` is 'LoadBalancer'")),
    }
}

fn traffic(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let external = text(spec, "externalTrafficPolicy");
    if is_external(spec) {
        one_of(external, &["Cluster", "Local"], &path.child("externalTrafficPolicy"), errors);
    } else if !external.is_empty() {
        let why = "may only be set for externally-accessible services";
        errors.push(Error::invalid(&path.child("externalTrafficPolicy"), external, why));
    }
    let health = int(spec, "healthCheckNodePort").unwrap_or(0);
    let at = path.child("healthCheckNodePort");
    match (needs_health_check(spec), health) {
        (false, 0) => {}
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&at, port, why));
        }
        (true, 0) => errors.push(Error::required(&at, "")),
        (true, port) => messages(names::is_port_number(port), &port.into(), &at, errors),
    }
    let internal = present(spec, "internalTrafficPolicy");
    if internal.is_none() && matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.push(Error::required(&path.child("internalTrafficPolicy"), ""));
    }
    one_of_if_set(internal, &["Cluster", "Local"], &path.child("internalTrafficPolicy"), errors);
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    one_of_if_set(spec.get("trafficDistribution"), &known, &path.child("trafficDistribution"), errors);
}

/// A cluster IP stays for the life of the Service, unless its type gives it up or takes one.
fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    let (after, before) = (&new["spec"], &old["spec"]);
    if subresource == "status" {
        let balancer = |service: &'_ Value| service["status"]["loadBalancer"].clone();
        let path = Path::new("status.loadBalancer");
        balancer_status(&balancer(new), &balancer(old), balanced(after), &path, errors);
        return;
    }
    addresses::change(after, before, errors);
    let class = |spec: &Value| present(spec, "loadBalancerClass").cloned();
    if balanced(after) && balanced(before) && class(after) != class(before) {
        let value = class(after).unwrap_or_default();
        let path = Path::new("spec.loadBalancerClass");
        errors.push(Error::invalid(&path, value, "may not change once set"));
    }
    balancer_class(after, errors);
    let port = |spec: &Value| int(spec, "healthCheckNodePort").unwrap_or(0);
    if needs_health_check(before) && needs_health_check(after) && port(before) != port(after) {
        errors.push(Error::forbidden(&Path::new("spec.healthCheckNodePort"), "field is immutable"));
    }
    validate(new, Some(old), errors);
}

/// The status of a load balancer. `balanced`: the Service has one.
fn balancer_status(status: &Value, old: &Value, balanced: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("ingress");
    let ingress = items(status, "ingress");
    if !balanced && !ingress.is_empty() {
        errors.push(Error::forbidden(&list, "may only be used when `spec.type` is 'LoadBalancer'"));
        return;
    }
    let known: Vec<&str> =
        items(old, "ingress").iter().map(|own| text(own, "ip")).filter(|own| !own.is_empty()).collect();
    for (index, own) in ingress.iter().enumerate() {
        let at = list.index(index);
        let address = text(own, "ip");
        if !address.is_empty() {
            ip::legacy(address, &known, &at.child("ip"), errors);
        }
        let mode_path = at.child("ipMode");
        match present(own, "ipMode").and_then(Value::as_str) {
            None if !address.is_empty() => {
                errors.push(Error::required(&mode_path, "must be specified when `ip` is set"));
            }
            None => {}
            Some(_) if address.is_empty() => {
                errors.push(Error::forbidden(&mode_path, "may not be specified when `ip` is not set"));
            }
            Some(mode) if !["Proxy", "VIP"].contains(&mode) => {
                errors.push(Error::not_supported(&mode_path, mode, ["Proxy", "VIP"]));
            }
            Some(_) => {}
        }
        let host = text(own, "hostname");
        if !host.is_empty() {
            subdomain(host, &at.child("hostname"), errors);
            if ip::parse(host).is_some() {
                let why = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&at.child("hostname"), host, why));
            }
        }
    }
}

fn warnings(service: &Value, _old: Option<&Value>, subresource: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if subresource == "status" {
        let list = Path::new("status.loadBalancer.ingress");
        let ingress = items(&service["status"]["loadBalancer"], "ingress");
        for (index, own) in ingress.iter().enumerate().filter(|(_, own)| !text(own, "ip").is_empty()) {
            warnings.extend(ip::warning(text(own, "ip"), &list.index(index)));
        }
        return warnings;
    }
    let (spec, path) = (&service["spec"], Path::new("spec"));
    let kind = text(spec, "type");
    let hints = "service.kubernetes.io/topology-aware-hints";
    if service["metadata"]["annotations"].get(hints).is_some() {
        let mode = "service.kubernetes.io/topology-mode";
        warnings.push(format!("annotation {hints} is deprecated, please use {mode} instead"));
    }
    let addresses = |field: &str| {
        let list = path.child(field);
        let own = meta::texts(spec, field).enumerate();
        own.filter_map(|(index, own)| ip::warning(own, &list.index(index))).collect::<Vec<_>>()
    };
    if !matches!(text(spec, "clusterIP"), "" | "None") {
        warnings.extend(addresses("clusterIPs"));
    }
    let external = !items(spec, "externalIPs").is_empty();
    let headless = kind == "ClusterIP" && text(spec, "clusterIP") == "None";
    if headless {
        for (ignored, field) in [
            (!text(spec, "loadBalancerIP").is_empty(), "loadBalancerIP"),
            (external, "externalIPs"),
            (text(spec, "sessionAffinity") != "None", "SessionAffinity"),
        ] {
            if ignored {
                warnings.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    warnings.extend(addresses("externalIPs"));
    if external && !headless && kind != "ExternalName" {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    let balancer = text(spec, "loadBalancerIP");
    if !balancer.is_empty() {
        warnings.extend(ip::warning(balancer, &path.child("loadBalancerIP")));
    }
    let list = path.child("loadBalancerSourceRanges");
    for (index, range) in meta::texts(spec, "loadBalancerSourceRanges").enumerate() {
        warnings.extend(ip::cidr_warnings(range, &list.index(index)));
    }
    if kind == "ExternalName" && external {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !text(spec, "externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        let why = "\"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warnings.push(format!("spec.trafficDistribution: {why}"));
    }
    warnings
}

#[cfg(test)]
mod tests;
