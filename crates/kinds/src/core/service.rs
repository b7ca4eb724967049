//! Service.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels;
use serde_json::{Value, json};

use crate::check::{
    int, items, label, messages, one_of, one_of_if_set, port, present, qualified, subdomain, text,
};
use crate::strategy::{GENERIC, Strategy, label as label_name};

pub const STRATEGY: Strategy = Strategy {
    name: label_name,
    allow_create_on_update: true,
    returns_deleted: true,
    validate,
    validate_update,
    selectable: &[("spec.clusterIP", "/spec/clusterIP", ""), ("spec.type", "/spec/type", "")],
    ..GENERIC
};

/// No cluster IP, by the word of its owner.
fn is_headless(spec: &Value) -> bool {
    text(spec, "clusterIP") == "None" || items(spec, "clusterIPs") == [json!("None")]
}

/// Reachable from outside: by node ports, a load balancer or external IPs.
fn is_external(spec: &Value) -> bool {
    let kind = text(spec, "type");
    matches!(kind, "LoadBalancer" | "NodePort")
        || kind == "ClusterIP" && !items(spec, "externalIPs").is_empty()
}

fn validate(service: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &service["spec"];
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
    check_ports(ports, kind, &path.child("ports"), errors);
    let selector = spec.get("selector").and_then(Value::as_object);
    errors.extend(labels::validate_labels(selector, &path.child("selector")));
    affinity(spec, &path, errors);
    for (index, address) in items(spec, "externalIPs").iter().enumerate() {
        external_ip(address.as_str().unwrap_or_default(), &path.child("externalIPs").index(index), errors);
    }
    one_of(kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &path.child("type"), errors);
    load_balancer(spec, kind, &path, errors);
    traffic(spec, kind, &path, errors);
}

fn external_name(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["clusterIPs", "ipFamilies"] {
        if !items(spec, field).is_empty() {
            errors.push(Error::forbidden(&path.child(field), "may not be set for ExternalName services"));
        }
    }
    if present(spec, "ipFamilyPolicy").is_some() {
        errors.push(Error::forbidden(
            &path.child("ipFamilyPolicy"),
            "may not be set for ExternalName services",
        ));
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.push(Error::required(&path.child("externalName"), "")),
        name => subdomain(name, &path.child("externalName"), errors),
    }
}

fn check_ports(ports: &[Value], kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, entry) in ports.iter().enumerate() {
        let at = path.index(index);
        let (name, protocol) = (text(entry, "name"), text(entry, "protocol"));
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(Error::required(&at.child("name"), ""));
            }
        } else {
            label(name, &at.child("name"), errors);
            if !names.insert(name) {
                errors.push(Error::duplicate(&at.child("name"), name));
            }
        }
        let number = int(entry, "port").unwrap_or(0);
        messages(apimachinery::names::is_port_number(number), &number.into(), &at.child("port"), errors);
        one_of(protocol, &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
        port(entry.get("targetPort").unwrap_or(&Value::Null), &at.child("targetPort"), errors);
        if let Some(protocol) = present(entry, "appProtocol").and_then(Value::as_str) {
            qualified(protocol, &at.child("appProtocol"), errors);
        }
    }
    for (index, entry) in ports.iter().enumerate() {
        let at = path.index(index);
        let protocol = text(entry, "protocol");
        if let Some(node_port) = int(entry, "nodePort").filter(|port| *port != 0) {
            if kind == "ClusterIP" {
                errors.push(Error::forbidden(
                    &at.child("nodePort"),
                    "may not be used when `type` is 'ClusterIP'",
                ));
            }
            if !node_ports.insert((protocol, node_port)) {
                errors.push(Error::duplicate(&at.child("nodePort"), node_port));
            }
        }
        let number = int(entry, "port").unwrap_or(0);
        if !numbers.insert((protocol, number)) {
            // Upstream shows the whole port with everything else left empty.
            let key = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0});
            errors.push(Error::duplicate(&at, key));
        }
    }
}

fn affinity(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let affinity = text(spec, "sessionAffinity");
    one_of(affinity, &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let config = present(spec, "sessionAffinityConfig");
    let path = path.child("sessionAffinityConfig");
    match (affinity, config) {
        ("ClientIP", None) => errors.push(Error::required(&path, "when session affinity type is ClientIP")),
        ("ClientIP", Some(config)) => {
            let at = path.child("clientIP");
            match config.pointer("/clientIP/timeoutSeconds").and_then(Value::as_i64) {
                Some(1..=86400) => {}
                Some(seconds) => {
                    let why = "must be greater than 0 and less than 86400";
                    errors.push(Error::invalid(&at.child("timeoutSeconds"), seconds, why));
                }
                None => errors.push(Error::required(&at, "when session affinity type is ClientIP")),
            }
        }
        ("None", Some(_)) => {
            errors.push(Error::forbidden(&path, "must not be set when session affinity is None"))
        }
        _ => {}
    }
}

fn external_ip(address: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let Ok(parsed) = address.parse::<std::net::IpAddr>() else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(Error::invalid(path, address, why));
        return;
    };
    let link_local = match parsed {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let faults = [
        (parsed.is_unspecified(), format!("may not be unspecified ({address})")),
        (parsed.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (
            parsed.is_multicast(),
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    for (_, why) in faults.into_iter().filter(|(applies, _)| *applies) {
        errors.push(Error::invalid(path, address, why));
    }
}

fn load_balancer(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = items(spec, "loadBalancerSourceRanges");
    if !ranges.is_empty() && kind != "LoadBalancer" {
        errors.push(Error::forbidden(&path.child("LoadBalancerSourceRanges"), only));
    }
    for (index, range) in ranges.iter().enumerate() {
        let range = range.as_str().unwrap_or_default().trim();
        let good = range.split_once('/').is_some_and(|(address, prefix)| {
            let most = if address.contains(':') { 128 } else { 32 };
            address.parse::<std::net::IpAddr>().is_ok() && prefix.parse::<u8>().is_ok_and(|bits| bits <= most)
        });
        if !good {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(Error::invalid(&path.child("LoadBalancerSourceRanges").index(index), range, why));
        }
    }
    match (present(spec, "allocateLoadBalancerNodePorts"), kind) {
        (Some(_), kind) if kind != "LoadBalancer" => {
            errors.push(Error::forbidden(&path.child("allocateLoadBalancerNodePorts"), only));
        }
        (None, "LoadBalancer") => {
            errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""))
        }
        _ => {}
    }
    if let Some(class) = present(spec, "loadBalancerClass").and_then(Value::as_str) {
        if kind == "LoadBalancer" {
            qualified(class, &path.child("loadBalancerClass"), errors);
        } else {
            errors.push(Error::forbidden(&path.child("loadBalancerClass"), only));
        }
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
    let needs = kind == "LoadBalancer" && external == "Local";
    let at = path.child("healthCheckNodePort");
    match (needs, health) {
        (false, 0) => {}
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&at, port, why));
        }
        (true, 0) => errors.push(Error::required(&at, "")),
        (true, port) => messages(apimachinery::names::is_port_number(port), &port.into(), &at, errors),
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
    if subresource == "status" {
        return;
    }
    let path = Path::new("spec");
    let (after, before) = (&new["spec"], &old["spec"]);
    let named = |spec: &Value| text(spec, "type") == "ExternalName";
    let address = |spec: &Value| text(spec, "clusterIP").to_owned();
    if !named(after) && !named(before) && !address(before).is_empty() && address(after) != address(before) {
        errors.push(Error::invalid(
            &path.child("clusterIPs").index(0),
            address(after),
            "may not change once set",
        ));
    }
    let class = |spec: &Value| present(spec, "loadBalancerClass").cloned();
    if text(after, "type") == "LoadBalancer"
        && text(before, "type") == "LoadBalancer"
        && class(after) != class(before)
    {
        let value = class(after).unwrap_or_default();
        errors.push(Error::invalid(&path.child("loadBalancerClass"), value, "may not change once set"));
    }
    validate(new, errors);
}
