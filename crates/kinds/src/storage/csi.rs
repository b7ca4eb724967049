//! What CSI drivers say: CSIDriver, CSINode, CSIStorageCapacity.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::check::{entries, int, items, present, qualified, quantity, subdomain, text};
use crate::meta::{
    self, csi_driver_name, deprecated_node_label, selector, selector_is_good, texts, unchanged,
};

/// Fields behind features that are off stay out, unless they were in before.
pub fn prepare_driver(driver: &mut Value) {
    if let Some(spec) = driver["spec"].as_object_mut() {
        spec.remove("preventPodSchedulingIfMissing");
    }
}

/// Any change of the spec counts; a new driver has no generation.
pub fn prepare_driver_update(new: &mut Value, old: &Value, _subresource: &str) {
    if present(&old["spec"], "preventPodSchedulingIfMissing").is_none() {
        prepare_driver(new);
    }
    if new["spec"] != old["spec"] {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

pub fn driver(driver: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &driver["spec"];
    // The first one's name in answers is not the field's: upstream's.
    for (field, told) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if present(spec, field).is_none() {
            errors.push(Error::required(&path.child(told), ""));
        }
    }
    if let Some(policy) = present(spec, "fsGroupPolicy") {
        let policy = policy.as_str().unwrap_or_default();
        const POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
        if !POLICIES.contains(&policy) {
            errors.push(Error::not_supported(&path.child("fsGroupPolicy"), policy, POLICIES));
        }
    }
    token_requests(items(spec, "tokenRequests"), &path.child("tokenRequests"), errors);
    for mode in texts(spec, "volumeLifecycleModes").filter(|mode| !["Persistent", "Ephemeral"].contains(mode))
    {
        errors.push(Error::not_supported(
            &path.child("volumeLifecycleModes"),
            mode,
            ["Persistent", "Ephemeral"],
        ));
    }
    if present(spec, "seLinuxMount").is_none() {
        errors.push(Error::required(&path.child("seLinuxMount"), ""));
    }
    if let Some(period) = int(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|period| *period < 10) {
        let path = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(Error::invalid(&path, period, "must be greater than or equal to 10 seconds"));
    }
    if let Some(set) = present(spec, "serviceAccountTokenInSecrets")
        && items(spec, "tokenRequests").is_empty()
    {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(Error::invalid(&path.child("serviceAccountTokenInSecrets"), set.clone(), why));
    }
}

fn token_requests(requests: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let at = path.index(index);
        let audience = text(request, "audience");
        if !seen.insert(audience) {
            errors.push(Error::duplicate(&at.child("audience"), audience));
            continue;
        }
        let Some(seconds) = int(request, "expirationSeconds") else { continue };
        let at = at.child("expirationSeconds");
        if seconds < 600 {
            errors.push(Error::invalid(&at, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > 1 << 32 {
            errors.push(Error::invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
    }
}

pub fn driver_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    driver(new, errors);
    let path = Path::new("spec");
    for (field, told) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        unchanged(&new["spec"][field], &old["spec"][field], &path.child(told), errors);
    }
}

pub fn driver_warnings(new: &Value, old: Option<&Value>, _subresource: &str) -> Vec<String> {
    let spec = &new["spec"];
    let changed = old.is_none_or(|old| !meta::same(&old["spec"]["tokenRequests"], &spec["tokenRequests"]));
    if changed
        && !items(spec, "tokenRequests").is_empty()
        && present(spec, "serviceAccountTokenInSecrets").is_none()
    {
        let warning = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to \
                       prevent possible logging of tokens in volume attributes";
        return vec![warning.to_owned()];
    }
    Vec::new()
}

pub fn node(node: &Value, errors: &mut ErrorList) {
    let spec = Path::new("spec");
    let list = spec.child("drivers");
    let mut names = BTreeSet::new();
    for (index, driver) in items(&node["spec"], "drivers").iter().enumerate() {
        let at = list.index(index);
        let name = text(driver, "name");
        csi_driver_name(name, &at.child("name"), errors);
        match text(driver, "nodeID") {
            "" => errors.push(Error::required(&at.child("nodeID"), "")),
            id if id.len() > 256 => {
                errors.push(Error::invalid(&at.child("nodeID"), id, "must be 256 characters or less"));
            }
            _ => {}
        }
        if let Some(allocatable) = present(driver, "allocatable") {
            crate::check::not_negative(allocatable, "count", &at.child("allocatable"), errors);
        }
        if !names.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        let mut keys = BTreeSet::new();
        for key in texts(driver, "topologyKeys") {
            if key.is_empty() {
                errors.push(Error::required(&at, ""));
            }
            if !keys.insert(key) {
                errors.push(Error::duplicate(&at, key));
            }
            qualified(key, &at, errors);
        }
    }
}

/// A driver that stays on the node changes nothing but how many volumes it can take.
pub fn node_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    node(new, errors);
    let spec = Path::new("spec");
    let path = spec.child("drivers");
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        driver.as_object_mut().map(|fields| fields.remove("allocatable"));
        driver
    };
    for before in items(&old["spec"], "drivers") {
        for now in items(&new["spec"], "drivers").iter().filter(|now| now["name"] == before["name"]) {
            unchanged(&fixed(now), &fixed(before), &path, errors);
        }
    }
}

pub fn capacity(capacity: &Value, lenient: bool, errors: &mut ErrorList) {
    selector(&capacity["nodeTopology"], lenient, &Path::new("nodeTopology"), errors);
    subdomain(text(capacity, "storageClassName"), &Path::new("storageClassName"), errors);
    if let Some(amount) = present(capacity, "capacity") {
        quantity(amount, &Path::new("capacity"), errors);
    }
}

pub fn capacity_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    capacity(new, !selector_is_good(&old["nodeTopology"]), errors);
    for field in ["nodeTopology", "storageClassName"] {
        unchanged(&new[field], &old[field], &Path::new(field), errors);
    }
}

pub fn capacity_warnings(capacity: &Value) -> Vec<String> {
    let path = Path::new("nodeTopology");
    let topology = &capacity["nodeTopology"];
    let mut warnings = Vec::new();
    let list = path.child("matchExpressions");
    for (index, expression) in items(topology, "matchExpressions").iter().enumerate() {
        let key = text(expression, "key");
        if let Some(why) = deprecated_node_label(key) {
            warnings.push(format!("{}: {key} is {why}", list.index(index).child("key")));
        }
    }
    for (label, _) in entries(topology, "matchLabels") {
        if let Some(why) = deprecated_node_label(label) {
            warnings.push(format!("{}: {why}", path.child("matchLabels").child(label)));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn drivers() {
        let table = Table::new("storage.k8s.io", "v1", "CSIDriver", json!({"spec": {}}));
        let spec = |patch: Value| json!({ "spec": patch });
        table.create(&[
            (spec(json!({"volumeLifecycleModes": ["Persistent", "Ephemeral"]})), &[]),
            (
                spec(json!({"volumeLifecycleModes": ["no-such-mode"]})),
                &["spec.volumeLifecycleModes: NotSupported"],
            ),
            (spec(json!({"fsGroupPolicy": "File"})), &[]),
            (spec(json!({"fsGroupPolicy": "invalid"})), &["spec.fsGroupPolicy: NotSupported"]),
            (
                spec(json!({"tokenRequests": [{"audience": "gcp"}, {"audience": "aws"}, {"audience": ""}]})),
                &[],
            ),
            (
                spec(json!({"tokenRequests": [{"audience": "gcp"}, {"audience": "gcp"}]})),
                &["spec.tokenRequests[1].audience: Duplicate"],
            ),
            (
                spec(json!({"tokenRequests": [{"audience": "gcp", "expirationSeconds": 10}]})),
                &["spec.tokenRequests[0].expirationSeconds: Invalid"],
            ),
            (
                spec(json!({"tokenRequests": [{"audience": "gcp", "expirationSeconds": 4294967297i64}]})),
                &["spec.tokenRequests[0].expirationSeconds: Invalid"],
            ),
            (spec(json!({"nodeAllocatableUpdatePeriodSeconds": 10})), &[]),
            (
                spec(json!({"nodeAllocatableUpdatePeriodSeconds": 9})),
                &["spec.nodeAllocatableUpdatePeriodSeconds: Invalid"],
            ),
            (
                spec(json!({"serviceAccountTokenInSecrets": true})),
                &["spec.serviceAccountTokenInSecrets: Invalid"],
            ),
            (spec(json!({"serviceAccountTokenInSecrets": true, "tokenRequests": [{"audience": "a"}]})), &[]),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (spec(json!({"podInfoOnMount": true, "storageCapacity": true, "seLinuxMount": true})), &[]),
            (spec(json!({"fsGroupPolicy": "File"})), &[]),
            (spec(json!({"attachRequired": false})), &["spec.attachedRequired: Invalid"]),
            (spec(json!({"volumeLifecycleModes": ["Ephemeral"]})), &["spec.volumeLifecycleModes: Invalid"]),
        ]);
        table.warnings(
            spec(json!({"serviceAccountTokenInSecrets": false, "tokenRequests": [{"audience": "a"}]})),
            &[],
        );
        table.warnings(
            spec(json!({"tokenRequests": [{"audience": "a"}]})),
            &["spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
               possible logging of tokens in volume attributes"],
        );
        let strategy = crate::strategy("storage.k8s.io", "CSIDriver");
        let (old, mut new) = (table.object(&json!({})), table.object(&spec(json!({"podInfoOnMount": true}))));
        (strategy.prepare_for_update)(&mut new, &old, "");
        assert_eq!(new["metadata"]["generation"], 1);
        let mut made = table.object(&spec(json!({"preventPodSchedulingIfMissing": true})));
        (strategy.prepare_for_create)(&mut made);
        assert_eq!(made["spec"].get("preventPodSchedulingIfMissing"), None);
    }

    #[test]
    fn nodes() {
        let good = json!({"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["company.com/zone1", "zone2"]}]}});
        let table = Table::new("storage.k8s.io", "v1", "CSINode", good);
        let drivers = |list: Value| json!({"spec": {"drivers": list}});
        table.create(&[
            (drivers(json!([])), &[]),
            (drivers(json!([{"name": "", "nodeID": "n"}])), &["spec.drivers[0].name: Required"]),
            (drivers(json!([{"name": "a_b", "nodeID": "n"}])), &["spec.drivers[0].name: Invalid"]),
            (drivers(json!([{"name": "d", "nodeID": ""}])), &["spec.drivers[0].nodeID: Required"]),
            (
                drivers(json!([{"name": "d", "nodeID": "n".repeat(257)}])),
                &["spec.drivers[0].nodeID: Invalid"],
            ),
            (
                drivers(json!([{"name": "d", "nodeID": "n"}, {"name": "d", "nodeID": "m"}])),
                &["spec.drivers[1].name: Duplicate"],
            ),
            (
                drivers(json!([{"name": "d", "nodeID": "n", "topologyKeys": ["a", "a"]}])),
                &["spec.drivers[0]: Duplicate"],
            ),
            (
                drivers(json!([{"name": "d", "nodeID": "n", "topologyKeys": [""]}])),
                &["spec.drivers[0]: Required", "spec.drivers[0]: Invalid", "spec.drivers[0]: Invalid"],
            ),
            (
                drivers(json!([{"name": "d", "nodeID": "n", "allocatable": {"count": -1}}])),
                &["spec.drivers[0].allocatable.count: Invalid"],
            ),
        ]);
        table.update(&[
            (drivers(json!([])), &[]),
            (drivers(json!([{"name": "e", "nodeID": "n"}])), &[]),
            (
                drivers(json!([{"name": "d", "nodeID": "n", "topologyKeys": ["company.com/zone1", "zone2"], "allocatable": {"count": 3}}])),
                &[],
            ),
            (
                drivers(json!([{"name": "d", "nodeID": "m", "topologyKeys": ["company.com/zone1", "zone2"]}])),
                &["spec.drivers: Invalid"],
            ),
            (drivers(json!([{"name": "d", "nodeID": "n", "topologyKeys": ["zone2"]}])), &["spec.drivers: Invalid"]),
        ]);
    }

    #[test]
    fn capacities() {
        let table =
            Table::new("storage.k8s.io", "v1", "CSIStorageCapacity", json!({"storageClassName": "test-sc"}));
        let topology = |value: &str| json!({"nodeTopology": {"matchExpressions": [{"key": "foo", "operator": "In", "values": [value]}]}});
        table.create(&[
            (json!({"capacity": "1Gi"}), &[]),
            (json!({"capacity": "-1Gi"}), &["capacity: Invalid"]),
            (json!({"storageClassName": ""}), &["storageClassName: Invalid"]),
            (json!({"storageClassName": "A"}), &["storageClassName: Invalid"]),
            (topology("bar"), &[]),
            (topology("foo_bar@"), &["nodeTopology.matchExpressions[0].values[0]: Invalid"]),
            (
                json!({"nodeTopology": {"matchExpressions": [{"key": "foo", "operator": "no-such-operator"}]}}),
                &["nodeTopology.matchExpressions[0].operator: Invalid"],
            ),
        ]);
        table.update(&[
            (json!({"capacity": "2Gi"}), &[]),
            (topology("bar"), &["nodeTopology: Invalid"]),
            (json!({"storageClassName": "other"}), &["storageClassName: Invalid"]),
        ]);
        table.change(&topology("foo_bar@"), &topology("foo_bar@"), "", &[]);
        table.warnings(
            json!({"nodeTopology": {"matchLabels": {"beta.kubernetes.io/os": "x"}}}),
            &["nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use \"kubernetes.io/os\" instead"],
        );
    }
}
