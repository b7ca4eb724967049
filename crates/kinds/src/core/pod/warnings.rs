//! What is allowed in pods and templates but likely a mistake, or on its way out (upstream's
//! `pkg/api/pod/warnings.go`).

use std::collections::BTreeSet;

use apimachinery::field::Path;
use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::overlaps::overlapping_paths;
use super::{annotations, visit};
use crate::check::{entries, int, items, present, text};
use crate::core::claim;
use crate::{ip, meta};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Warnings about a new pod, or about the addresses in a status.
pub fn pod(pod: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if subresource == "status" {
        for list in ["podIPs", "hostIPs"] {
            let path = Path::new("status");
            let path = path.child(list);
            for (index, own) in items(&pod["status"], list).iter().enumerate() {
                warnings.extend(ip::warning(text(own, "ip"), &path.index(index).child("ip")));
            }
        }
        return warnings;
    }
    if old.is_some() {
        return warnings;
    }
    host_name(text(&pod["metadata"], "name"), "the Pod's hostname", &mut warnings);
    check(&pod["spec"], &pod["metadata"], &Path::NIL, true, &mut warnings);
    warnings
}

/// A name that becomes a host's should be a label. `what` says whose.
pub fn host_name(name: &str, what: &str, warnings: &mut Vec<String>) {
    let faults = names::is_dns1123_label(name);
    if !faults.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            faults.join(" ")
        ));
    }
}

/// Warnings about the template at `path`.
pub fn template(template: &Value, path: &Path<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    check(&template["spec"], &template["metadata"], path, false, &mut warnings);
    warnings
}

fn check(spec: &Value, metadata: &Value, path: &Path<'_>, is_pod: bool, warnings: &mut Vec<String>) {
    let at = path.child("spec");
    node_labels(spec, &at, warnings);
    let notes = path.child("metadata.annotations");
    for (key, why) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if metadata["annotations"].get(key).is_some() {
            warnings.push(format!("{}: {why}", notes.key(key)));
        }
    }
    volumes(spec, &at, warnings);
    warnings.extend(overlapping_paths(items(spec, "volumes")));
    repeated(spec, "hostAliases", "ip", &at, warnings);
    repeated(spec, "imagePullSecrets", "name", &at, warnings);
    let list = at.child("imagePullSecrets");
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", list.index(index).child("name")));
        }
    }
    fractions(&spec["overhead"], &at.child("overhead"), warnings);
    profiles(spec, metadata, &notes, is_pod, warnings);
    visit(spec, &at, |container, path| container_warnings(container, path, warnings));
    ports(spec, &at, warnings);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let at = at.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    pod_affinity(spec, &at, warnings);
    if let Some(config) = present(spec, "dnsConfig") {
        let at = at.child("dnsConfig.nameservers");
        for (index, server) in meta::texts(config, "nameservers").enumerate() {
            warnings.extend(ip::warning(server, &at.index(index)));
        }
    }
    let list = at.child("hostAliases");
    for (index, alias) in items(spec, "hostAliases").iter().enumerate() {
        warnings.extend(ip::warning(text(alias, "ip"), &list.index(index).child("ip")));
    }
}

/// Old names of nodes' labels.
fn node_labels(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let selector = path.child("nodeSelector");
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some(why) = meta::deprecated_node_label(key) {
            warnings.push(format!("{}: {why}", selector.key(key)));
        }
    }
    if let Some(node) = spec.pointer("/affinity/nodeAffinity") {
        let at = path.child("affinity.nodeAffinity");
        if let Some(required) = present(node, REQUIRED) {
            let at = at.child(REQUIRED);
            let list = at.child("nodeSelectorTerms");
            for (index, term) in items(required, "nodeSelectorTerms").iter().enumerate() {
                node_term(term, false, &list.index(index), warnings);
            }
        }
        let list = at.child(PREFERRED);
        for (index, term) in items(node, PREFERRED).iter().enumerate() {
            node_term(&term["preference"], true, &list.index(index).child("preference"), warnings);
        }
    }
    let list = path.child("topologySpreadConstraints");
    for (index, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = list.index(index);
        let key = text(constraint, "topologyKey");
        if let Some(why) = meta::deprecated_node_label(key) {
            warnings.push(format!("{}: {key} is {why}", at.child("topologyKey")));
        }
        if present(constraint, "labelSelector").is_none() {
            let at = at.child("labelSelector");
            warnings.push(format!("{at}: a null labelSelector results in matching no pod"));
        }
    }
}

/// Old names of labels in a term about nodes; with `values` also malformed values.
pub fn node_term(term: &Value, values: bool, path: &Path<'_>, warnings: &mut Vec<String>) {
    let list = path.child("matchExpressions");
    for (index, expression) in items(term, "matchExpressions").iter().enumerate() {
        let at = list.index(index);
        let key = text(expression, "key");
        if let Some(why) = meta::deprecated_node_label(key) {
            warnings.push(format!("{}: {key} is {why}", at.child("key")));
        }
        let list = at.child("values");
        for (index, value) in meta::texts(expression, "values").enumerate().filter(|_| values) {
            for why in names::is_label_value(value) {
                warnings.push(format!("{}: {value} is invalid, {why}", list.index(index)));
            }
        }
    }
}

fn volumes(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let list = path.child("volumes");
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        let at = list.index(index);
        for (kind, shown, why) in [
            ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
            ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
            ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
            ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
            ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
            ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
            ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
            ("ephemeral", "ephemeral", ""),
            ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
            ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ] {
            let Some(source) = present(volume, kind) else { continue };
            if kind != "ephemeral" {
                warnings.push(format!("{}: {why}", at.child(shown)));
            } else if let Some(template) = present(source, "volumeClaimTemplate") {
                let at = at.child("ephemeral.volumeClaimTemplate.spec");
                claim::spec_warnings(&template["spec"], &at, warnings);
            }
        }
    }
}

fn repeated(spec: &Value, list: &str, field: &str, path: &Path<'_>, warnings: &mut Vec<String>) {
    let at = path.child(list);
    let mut seen = BTreeSet::new();
    for (index, item) in items(spec, list).iter().enumerate() {
        let value = text(item, field);
        if !seen.insert(value) {
            warnings.push(format!("{}: duplicate {field} \"{value}\"", at.index(index).child(field)));
        }
    }
}

/// Parts of bytes.
fn fractions(amounts: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let amount = amounts.get(name).and_then(|amount| Quantity::from_value(amount).ok());
        if let Some(amount) = amount.filter(|amount| amount.milli_value() % 1000 != 0) {
            warnings.push(format!(
                "{}: fractional byte value \"{amount}\" is invalid, must be an integer",
                path.key(name)
            ));
        }
    }
}

/// Annotations in whose place fields have come.
fn profiles(spec: &Value, metadata: &Value, notes: &Path<'_>, is_pod: bool, warnings: &mut Vec<String>) {
    let has = |object: &Value, field: &str| {
        present(object, "securityContext").is_some_and(|context| present(context, field).is_some())
    };
    let noted = |key: &str| metadata["annotations"].get(key).and_then(Value::as_str);
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if !has(spec, "seccompProfile") && noted(annotations::SECCOMP_POD).is_some() {
        warnings.push(format!("{}: {seccomp}", notes.key(annotations::SECCOMP_POD)));
    }
    let whole = spec.pointer("/securityContext/appArmorProfile");
    visit(spec, notes, |container, _| {
        let name = text(container, "name");
        let key = format!("{}{name}", annotations::SECCOMP_CONTAINER);
        if !has(container, "seccompProfile") && noted(&key).is_some() {
            warnings.push(format!("{}: {seccomp}", notes.key(&key)));
        }
        let key = format!("{}{name}", annotations::APP_ARMOR);
        if let Some(note) = noted(&key).filter(|_| !is_pod && !has(container, "appArmorProfile")) {
            let same = whole.is_some() && annotations::app_armor_profile(note).as_ref() == whole;
            if !same {
                let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
                warnings.push(format!("{}: {why}", notes.key(&key)));
            }
        }
    });
}

fn container_warnings(container: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let resources = path.child("resources");
    for name in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            let amount = &container["resources"][list][name];
            let one = serde_json::json!({name: amount});
            fractions(&one, &resources.child(list), warnings);
        }
    }
    let list = path.child("env");
    let mut seen = BTreeSet::new();
    for (index, variable) in items(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        if seen.insert(name) {
            continue;
        }
        // Something may be added to what there is.
        let reference = format!("$({name})");
        let value = text(variable, "value");
        let extends =
            present(variable, "valueFrom").is_none() && value != reference && value.contains(&reference);
        if !extends {
            warnings.push(format!(
                "{}: hides previous definition of \"{name}\", which may be dropped when using apply",
                list.index(index)
            ));
        }
    }
}

/// Ports of all containers that cannot be told apart.
fn ports(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    struct Port<'a> {
        at: String,
        key: (i64, &'a str),
        ip: &'a str,
        host: i64,
        name: &'a str,
    }
    let mut all: Vec<Port<'_>> = Vec::new();
    visit(spec, path, |container, path| {
        let list = path.child("ports");
        for (index, port) in items(container, "ports").iter().enumerate() {
            let number = |field: &str| int(port, field).unwrap_or(0);
            all.push(Port {
                at: list.index(index).to_string(),
                key: (number("containerPort"), text(port, "protocol")),
                ip: text(port, "hostIP"),
                host: number("hostPort"),
                name: text(port, "name"),
            });
        }
    });
    for (index, port) in all.iter().enumerate() {
        if !port.ip.is_empty() && port.host == 0 {
            // Go prints the structure.
            let Port { at, key: (number, protocol), ip, host, name } = port;
            warnings.push(format!(
                "{at}: hostIP set without hostPort: {{Name:{name} HostPort:{host} ContainerPort:{number} \
                 Protocol:{protocol} HostIP:{ip}}}"
            ));
        }
        for other in all[..index].iter().filter(|other| other.key == port.key) {
            let what = if port.ip == other.ip && port.host == other.host {
                "duplicate"
            } else if port.host == 0 || other.host == 0 {
                "overlapping"
            } else if port.host == other.host && port.ip.is_empty() != other.ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            warnings.push(format!("{}: {what} port definition with {}", port.at, other.at));
        }
    }
    for (index, port) in all.iter().enumerate().filter(|(_, port)| !port.name.is_empty()) {
        if let Some(first) = all[..index].iter().find(|other| other.name == port.name) {
            let (at, other, name) = (&port.at, &first.at, port.name);
            warnings.push(format!(
                "{at}: duplicate port name \"{name}\" with {other}, services and probes that select ports by name \
                 will use {other}"
            ));
        }
    }
}

fn pod_affinity(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = present(&spec["affinity"], kind) else { continue };
        let at = path.child("affinity");
        let at = at.child(kind);
        for (list, weighted) in [(REQUIRED, false), (PREFERRED, true)] {
            let path = at.child(list);
            for (index, term) in items(affinity, list).iter().enumerate() {
                let term = if weighted { &term["podAffinityTerm"] } else { term };
                if present(term, "labelSelector").is_none() {
                    let at = path.index(index);
                    let field = if weighted { "podAffinityTerm.labelSelector" } else { "labelSelector" };
                    let why = "a null labelSelector results in matching no pod";
                    warnings.push(format!("{}: {why}", at.child(field)));
                }
            }
        }
    }
}
