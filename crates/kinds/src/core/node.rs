//! Node: its kubelet writes spec and status, also when it creates it.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::validate_label_name;
use apimachinery::names;
use serde_json::{Value, json};

use super::resources;
use crate::check::{entries, int, items, label, messages, one_of, present, subdomain, text};
use crate::ip;
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    keep_status_on_create: true,
    prepare_for_create,
    prepare_for_update,
    validate,
    validate_update,
    warnings,
    selectable: &[("spec.unschedulable", "/spec/unschedulable", "false")],
    ..GENERIC
};

/// Configuration through the API was taken away in v1.24: who has it keeps it, nobody gets it.
fn prepare_for_create(node: &mut Value) {
    remove(node, "spec", "configSource");
    remove(node, "status", "config");
}

fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource.is_empty() && present(&old["spec"], "configSource").is_none() {
        remove(new, "spec", "configSource");
    }
    if subresource == "status" && present(&old["status"], "config").is_none() {
        remove(new, "status", "config");
    }
}

fn remove(node: &mut Value, part: &str, field: &str) {
    if let Some(part) = node.get_mut(part).and_then(Value::as_object_mut) {
        part.remove(field);
    }
}

fn validate(node: &Value, errors: &mut ErrorList) {
    let metadata = Path::new("metadata");
    annotations(node, &metadata.child("annotations"), errors);
    taints(items(&node["spec"], "taints"), &metadata.child("taints"), errors);
    resource_lists(node, errors);
    if let Some(capacity) = node.pointer("/status/nodeInfo/swap/capacity").and_then(Value::as_i64)
        && capacity <= 0
    {
        errors.push(Error::invalid(
            &metadata.child("nodeSwapStatus.capacity"),
            capacity,
            "must be greater than zero",
        ));
    }
    declared_features(node, errors);
    let path = Path::new("spec.podCIDRs");
    let blocks: Vec<&str> = crate::meta::texts(&node["spec"], "podCIDRs").collect();
    for (index, block) in blocks.iter().enumerate() {
        ip::legacy_cidr(block, &[], &path.index(index), errors);
    }
    if blocks.len() > 1 {
        let parsed: Vec<Option<ip::Cidr>> = blocks.iter().map(|block| ip::Cidr::parse(block)).collect();
        let four = |wanted: bool| parsed.iter().flatten().any(|block| block.is_ipv4() == wanted);
        if !four(true) || !four(false) || blocks.len() > 2 {
            let why = "may specify no more than one CIDR for each IP family";
            errors.push(Error::invalid(&path, json!(blocks), why));
        }
    }
}

/// Taints had their place in annotations once; what stands there must still be good.
fn annotations(node: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let all = &node["metadata"]["annotations"];
    let key = "scheduler.alpha.kubernetes.io/taints";
    let list = text(all, key);
    if !list.is_empty() {
        match serde_json::from_str::<Vec<Value>>(list) {
            Ok(list) => taints(&list, &path.child(key), errors),
            Err(why) => errors.push(Error::invalid(path, key, why.to_string())),
        }
    }
    let key = "scheduler.alpha.kubernetes.io/preferAvoidPods";
    let avoid = text(all, key);
    if avoid.is_empty() {
        return;
    }
    match serde_json::from_str::<Value>(avoid) {
        Err(why) => errors.push(Error::invalid(&path.child("AvoidPods"), key, why.to_string())),
        Ok(avoid) => {
            let list = path.child(key);
            for (index, entry) in items(&avoid, "preferAvoidPods").iter().enumerate() {
                let at = list.index(index);
                match present(&entry["podSignature"], "podController") {
                    None => errors.push(Error::required(&at.child("PodSignature"), "")),
                    Some(owner) if owner["controller"] != true => errors.push(Error::invalid(
                        &at.child("PodSignature.PodController.Controller"),
                        false,
                        "must point to a controller",
                    )),
                    Some(_) => {}
                }
            }
        }
    }
}

fn taints(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, taint) in list.iter().enumerate() {
        let at = path.index(index);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        errors.extend(validate_label_name(key, &at.child("key")));
        let faults = names::is_label_value(value);
        if !faults.is_empty() {
            errors.push(Error::invalid(&at.child("value"), value, faults.join(";")));
        }
        one_of(effect, super::pod::TAINT_EFFECTS, &at.child("effect"), errors);
        if !seen.insert((effect, key)) {
            let shown =
                json!({"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint["timeAdded"]});
            let mut error = Error::duplicate(&at, shown);
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
}

fn resource_lists(node: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    for field in ["capacity", "allocatable"] {
        let at = path.child(field);
        for (name, amount) in entries(&node["status"], field) {
            resources::amount(name, amount, &at.child(name), errors);
        }
    }
}

/// KEP-5328: sorted names such as `MyFeature/part`.
fn declared_features(node: &Value, errors: &mut ErrorList) {
    let path = Path::new("status.declaredFeatures");
    let features: Vec<&str> = crate::meta::texts(&node["status"], "declaredFeatures").collect();
    for (index, feature) in features.iter().enumerate() {
        if let Some(why) = feature_fault(feature) {
            errors.push(Error::invalid(&path.index(index), *feature, why));
        }
        match features.get(index + 1) {
            Some(next) if next == feature => errors.push(Error::duplicate(&path.index(index + 1), *next)),
            Some(next) if next < feature => {
                errors.push(Error::invalid(
                    &path.index(index + 1),
                    *next,
                    "list must be sorted alphabetically",
                ));
            }
            _ => {}
        }
    }
}

fn feature_fault(name: &str) -> Option<String> {
    if name.len() > names::SUBDOMAIN_MAX {
        return Some(format!(
            "invalid feature name \"{name}\": must be no more than {} characters",
            names::SUBDOMAIN_MAX
        ));
    }
    let good = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.split('/').all(|part| {
            part.starts_with(|first: char| first.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
    (!good).then(|| {
        format!(
            "invalid feature name \"{name}\": must start with an UpperCamelCase segment, with subsequent segments \
             separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters \
             and slashes"
        )
    })
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource.is_empty() {
        validate(new, errors);
    }
    let metadata = Path::new("metadata");
    annotations(new, &metadata.child("annotations"), errors);
    resource_lists(new, errors);
    declared_features(new, errors);
    let path = Path::new("status.addresses");
    let addresses = items(&new["status"], "addresses");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let shown = json!({"Type": text(address, "type"), "Address": text(address, "address")});
            errors.push(Error::duplicate(&path.index(index), shown));
        }
    }
    let (after, before) = (&new["spec"], &old["spec"]);
    let spec = Path::new("spec");
    let (blocks, given) = (items(before, "podCIDRs"), items(after, "podCIDRs"));
    let changes = match (blocks.len(), given.len()) {
        (0, _) => 0,
        (a, b) if a != b => 1,
        _ => blocks.iter().zip(given).filter(|(a, b)| a != b).count(),
    };
    for _ in 0..changes {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Error::forbidden(&spec.child("podCIDRs"), why));
    }
    let provider = text(before, "providerID");
    if !provider.is_empty() && provider != text(after, "providerID") {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&spec.child("providerID"), why));
    }
    if let Some(source) = present(after, "configSource") {
        config_source(source, false, &spec.child("configSource"), errors);
    }
    if let Some(config) = present(&new["status"], "config") {
        let path = Path::new("status.config");
        for field in ["assigned", "active", "lastKnownGood"] {
            if let Some(source) = present(config, field) {
                config_source(source, true, &path.child(field), errors);
            }
        }
    }
    taints(items(after, "taints"), &metadata.child("taints"), errors);
    if text(after, "externalID") != text(before, "externalID") {
        errors.push(Error::forbidden(&spec.child("externalID"), "may not be updated"));
    }
}

/// In a status the source is known by its version, in the spec it must not be.
fn config_source(source: &Value, in_status: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(map) = present(source, "configMap") else {
        errors.push(Error::invalid(path, source.clone(), "exactly one reference subfield must be non-nil"));
        return;
    };
    let at = path.child("configMap");
    for field in ["uid", "resourceVersion"] {
        match (in_status, text(map, field).is_empty()) {
            (true, true) => errors.push(Error::required(&at.child(field), "")),
            (false, false) => {
                let why = format!("{field} must not be set in spec");
                errors.push(Error::forbidden(&at.child(field), why));
            }
            _ => {}
        }
    }
    for (field, rule) in [
        ("namespace", label as fn(&str, &Path<'_>, &mut ErrorList)),
        ("name", subdomain),
        ("kubeletConfigKey", |key, path, errors| {
            messages(names::is_config_map_key(key), &key.into(), path, errors);
        }),
    ] {
        match text(map, field) {
            "" => errors.push(Error::required(&at.child(field), "")),
            value => rule(value, &at.child(field), errors),
        }
    }
}

fn warnings(node: &Value, _old: Option<&Value>, subresource: &str) -> Vec<String> {
    let spec = &node["spec"];
    let mut warnings = Vec::new();
    if !subresource.is_empty() {
        return warnings;
    }
    if present(spec, "configSource").is_some() {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !text(spec, "externalID").is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    let path = Path::new("spec.podCIDRs");
    for (index, block) in crate::meta::texts(spec, "podCIDRs").enumerate() {
        warnings.extend(ip::cidr_warnings(block, &path.index(index)));
    }
    warnings
}

/// Of a pod's conditions and others: the number of a field is not negative.
pub(super) fn observed(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(observed) = int(object, "observedGeneration").filter(|observed| *observed < 0) {
        let why = "must be a non-negative integer";
        errors.push(Error::invalid(&path.child("observedGeneration"), observed, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn table() -> Table {
        Table::new(
            "",
            "v1",
            "Node",
            json!({"metadata": {"name": "abc"}, "status": {
            "addresses": [{"type": "ExternalIP", "address": "something"}],
            "capacity": {"cpu": "10", "memory": "10G", "my.org/gpu": "10", "hugepages-2Mi": "10Gi"}}}),
        )
    }

    /// Upstream's `TestValidateNode`, `TestValidateNodeUpdate`.
    #[test]
    fn create() {
        let taint = |fields: Value| json!({"spec": {"taints": [fields]}});
        let block = |list: &[&str]| json!({"spec": {"podCIDR": list[0], "podCIDRs": list}});
        table().create(&[
            (taint(json!({"key": "GPU", "value": "true", "effect": "NoSchedule"})), &[]),
            (taint(json!({"key": "invalid/taint@@@", "value": "v", "effect": "NoSchedule"})), &["metadata.taints[0].key: Invalid"]),
            (taint(json!({"key": "a", "value": "invalid value", "effect": "NoSchedule"})), &["metadata.taints[0].value: Invalid"]),
            (taint(json!({"key": "a", "value": "b"})), &["metadata.taints[0].effect: Required"]),
            (taint(json!({"key": "a", "effect": "Never"})), &["metadata.taints[0].effect: NotSupported"]),
            (json!({"spec": {"taints": [{"key": "a", "value": "1", "effect": "NoExecute"}, {"key": "a", "value": "2", "effect": "NoExecute"}]}}),
                &["metadata.taints[1]: Duplicate"]),
            (json!({"status": {"capacity": {"memory": "-1"}, "allocatable": {"my.org/gpu": "500m"}}}),
                &["status.capacity.memory: Invalid", "status.allocatable.my.org/gpu: Invalid"]),
            (json!({"status": {"declaredFeatures": ["A", "B/c"]}}), &[]),
            (json!({"status": {"declaredFeatures": ["B", "A", "A", "b"]}}), &[
                "status.declaredFeatures[1]: Invalid", "status.declaredFeatures[2]: Duplicate",
                "status.declaredFeatures[3]: Invalid"]),
            (block(&["192.168.0.0/16", "fd00::/64"]), &[]),
            (block(&["192.168.0.0"]), &["spec.podCIDRs[0]: Invalid"]),
            (block(&["10.0.0.0/16", "10.1.0.0/16"]), &["spec.podCIDRs: Invalid"]),
            (block(&["10.0.0.0/16", "fd00::/64", "fd01::/64"]), &["spec.podCIDRs: Invalid"]),
            (json!({"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/taints": "[{\"key\": \"a b\"}]"}}}), &[
                "metadata.annotations.scheduler.alpha.kubernetes.io/taints[0].key: Invalid",
                "metadata.annotations.scheduler.alpha.kubernetes.io/taints[0].effect: Required"]),
        ]);
    }

    #[test]
    fn update() {
        let table = table();
        let none = json!({});
        let blocks = json!({"spec": {"podCIDR": "10.0.0.0/16", "podCIDRs": ["10.0.0.0/16"]}});
        table.change(&none, &blocks, "", &[]);
        table.change(&blocks, &none, "", &["spec.podCIDRs: Forbidden"]);
        let other = json!({"spec": {"podCIDR": "10.1.0.0/16", "podCIDRs": ["10.1.0.0/16"]}});
        table.change(&blocks, &other, "", &["spec.podCIDRs: Forbidden"]);
        let provider = |id: &str| json!({"spec": {"providerID": id}});
        table.change(&none, &provider("provider:///a"), "", &[]);
        table.change(
            &provider("provider:///a"),
            &provider("provider:///b"),
            "",
            &["spec.providerID: Forbidden"],
        );
        table.change(&none, &json!({"spec": {"externalID": "x"}}), "", &["spec.externalID: Forbidden"]);
        let source = |map: Value| json!({"spec": {"configSource": {"configMap": map}}});
        let good = source(json!({"name": "n", "namespace": "ns", "kubeletConfigKey": "k"}));
        // Nobody gets one who has none.
        table.change(&none, &source(json!({})), "", &[]);
        table.change(&good, &good, "", &[]);
        table.change(
            &good,
            &source(json!({"name": "n", "namespace": "ns", "kubeletConfigKey": "k", "uid": "u"})),
            "",
            &["spec.configSource.configMap.uid: Forbidden"],
        );
        table.change(
            &good,
            &source(json!({})),
            "",
            &[
                "spec.configSource.configMap.namespace: Required",
                "spec.configSource.configMap.name: Required",
                "spec.configSource.configMap.kubeletConfigKey: Required",
            ],
        );
        let twice = json!({"status": {"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}, {"type": "InternalIP", "address": "1.2.3.4"}]}});
        table.change(&none, &twice, "status", &["status.addresses[1]: Duplicate"]);
        let config = |map: Value| json!({"status": {"config": {"active": {"configMap": map}}}});
        let full = config(
            json!({"name": "n", "namespace": "ns", "kubeletConfigKey": "k", "uid": "u", "resourceVersion": "1"}),
        );
        table.change(&full, &full, "status", &[]);
        table.change(
            &full,
            &config(json!({"name": "n", "namespace": "ns", "kubeletConfigKey": "k"})),
            "status",
            &[
                "status.config.active.configMap.uid: Required",
                "status.config.active.configMap.resourceVersion: Required",
            ],
        );
    }
}
