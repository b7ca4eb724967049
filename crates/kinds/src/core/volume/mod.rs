//! PersistentVolume.

pub mod sources;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use self::sources::Holder;
use super::pod::affinity::{has_invalid_label_value, node_selector_with};
use super::{diff, pod, resources};
use crate::check::{entries, items, one_of_if_set, present, subdomain, text};
use crate::meta;
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    returns_deleted: true,
    prepare_for_create,
    stamp,
    validate: |volume, errors| {
        whole(volume, false, errors);
        mount_options(volume, errors);
    },
    validate_update,
    warnings,
    ..GENERIC
};

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Sources in the order in which upstream looks at them.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// A volume is pending since it was made (KEP-3762).
fn prepare_for_create(volume: &mut Value) {
    let mut status = json!({"phase": "Pending"});
    let made = &volume["metadata"]["creationTimestamp"];
    if made.is_string() {
        status["lastPhaseTransitionTime"] = made.clone();
    }
    volume["status"] = status;
}

/// The time of the last change of phase, unless the client knows it better.
fn stamp(new: &mut Value, old: &Value, subresource: &str, now: &str) {
    const FIELD: &str = "lastPhaseTransitionTime";
    if subresource != "status" {
        return;
    }
    let (after, before) = (&new["status"], &old["status"]);
    let given = present(after, FIELD).cloned();
    let same = text(after, "phase") == text(before, "phase");
    let known = present(before, FIELD).cloned();
    if same && given.is_none() {
        if let Some(known) = known {
            new["status"][FIELD] = known;
        }
    } else if !same && (given.is_none() || given == known) {
        new["status"][FIELD] = now.into();
    }
}

fn whole(volume: &Value, lenient: bool, errors: &mut ErrorList) {
    let name = text(&volume["metadata"], "name");
    spec(&volume["spec"], name, lenient, &Path::new("spec"), errors);
}

/// The access modes of a volume or a claim.
pub fn access_modes(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("accessModes");
    let modes: Vec<&str> = meta::texts(spec, "accessModes").collect();
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(Error::not_supported(&at, *mode, ACCESS_MODES));
    }
    let alone = "ReadWriteOncePod";
    if modes.contains(&alone) && modes.iter().any(|mode| *mode != alone && ACCESS_MODES.contains(mode)) {
        errors.push(Error::forbidden(&at, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// The spec of the volume `name`. `lenient`: values of labels in its node affinity may be malformed.
fn spec(spec: &Value, name: &str, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    if items(spec, "accessModes").is_empty() {
        errors.push(Error::required(&path.child("accessModes"), ""));
    }
    access_modes(spec, path, errors);
    let capacity = path.child("capacity");
    let names: Vec<&String> = entries(spec, "capacity").map(|(name, _)| name).collect();
    if names.is_empty() {
        errors.push(Error::required(&capacity, ""));
    }
    if !matches!(names.as_slice(), [only] if *only == "storage") {
        errors.push(Error::not_supported(&capacity, spec["capacity"].clone(), ["storage"]));
    }
    for (name, amount) in entries(spec, "capacity") {
        resources::basic(amount, &capacity.key(name), errors);
        resources::positive(amount, &capacity.key(name), errors);
    }
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    let policies = ["Delete", "Recycle", "Retain"];
    let at = path.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.push(Error::not_supported(&at, policy, policies));
    }
    let affinity = present(spec, "nodeAffinity");
    if let Some(affinity) = affinity {
        node_affinity(affinity, lenient, &path.child("nodeAffinity"), errors);
    }
    source(spec, Holder::Volume(name), affinity.is_some(), path, errors);
    if let Some(host) = present(spec, "hostPath")
        && is_root(text(host, "path"))
        && policy == "Recycle"
    {
        errors.push(Error::forbidden(&at, "may not be 'recycle' for a hostPath mount of '/'"));
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        subdomain(class, &path.child("storageClassName"), errors);
    }
    one_of_if_set(spec.get("volumeMode"), &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    attributes_class(spec, path, errors);
}

fn attributes_class(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("volumeAttributesClassName");
    let Some(class) = present(spec, "volumeAttributesClassName").and_then(Value::as_str) else { return };
    match class {
        "" => errors.push(Error::required(&at, "an empty string is disallowed")),
        class => subdomain(class, &at, errors),
    }
    if present(spec, "csi").is_none() {
        let why = "has to be specified when using volumeAttributesClassName";
        errors.push(Error::required(&path.child("csi"), why));
    }
}

/// The spec of a volume that stands in another object (VolumeAttachment's `inlineVolumeSpec`): only what a CSI
/// driver needs.
pub fn inline_spec(spec: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    let forbid =
        |field: &str, errors: &mut ErrorList| errors.push(Error::forbidden(&path.child(field), INLINE));
    if present(spec, "claimRef").is_some() {
        forbid("claimRef", errors);
    }
    if entries(spec, "capacity").next().is_some() {
        forbid("capacity", errors);
    }
    if present(spec, "csi").is_none() {
        let why = "has to be specified in the context of inline volumes";
        errors.push(Error::required(&path.child("csi"), why));
    }
    if items(spec, "accessModes").is_empty() {
        errors.push(Error::required(&path.child("accessModes"), ""));
    }
    access_modes(spec, path, errors);
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !policy.is_empty() && policy != "Retain" {
        let why = "may only be Retain in the context of inline volumes";
        errors.push(Error::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
    if present(spec, "nodeAffinity").is_some() {
        forbid("nodeAffinity", errors);
    }
    source(spec, Holder::Volume(name), false, path, errors);
    if !text(spec, "storageClassName").is_empty() {
        forbid("storageClassName", errors);
    }
    if let Some(mode) = present(spec, "volumeMode")
        && mode != "Filesystem"
    {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(Error::forbidden(&path.child("volumeMode"), why));
    }
    attributes_class(spec, path, errors);
}

/// Exactly one source. Local volumes also say where they are.
fn source(spec: &Value, holder: Holder<'_>, placed: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let mut count = 0;
    for kind in SOURCES {
        let Some(source) = present(spec, kind) else { continue };
        count += 1;
        if count > 1 && *kind != "flexVolume" {
            let shown = if *kind == "cephfs" { "cephFS" } else { kind };
            errors.push(Error::forbidden(&path.child(shown), "may not specify more than 1 volume type"));
            continue;
        }
        let shown = if *kind == "gcePersistentDisk" { "persistentDisk" } else { kind };
        sources::check(kind, source, holder, &path.child(shown), errors);
        if *kind == "local" && !placed {
            let why = "Local volume requires node affinity";
            errors.push(Error::required(&path.child("nodeAffinity"), why));
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

fn node_affinity(affinity: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    match present(affinity, "required") {
        Some(required) => node_selector_with(required, lenient, &path.child("required"), errors),
        None => {
            errors.push(Error::required(&path.child("required"), "must specify required node constraints"));
        }
    }
}

/// A path that leads to the root, as Go's `path.Clean` says.
fn is_root(path: &str) -> bool {
    let mut depth: i32 = 0;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = (depth - 1).max(0),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

/// Only some drivers of old know options from the annotation.
fn mount_options(volume: &Value, errors: &mut ErrorList) {
    const TAKE: &[&str] = &[
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "glusterfs",
        "nfs",
        "rbd",
        "quobyte",
        "iscsi",
        "cinder",
        "cephfs",
        "azureFile",
        "vsphereVolume",
        "azureDisk",
        "photonPersistentDisk",
    ];
    const KEY: &str = "volume.beta.kubernetes.io/mount-options";
    let takes = TAKE.iter().any(|kind| present(&volume["spec"], kind).is_some());
    if !takes && volume["metadata"]["annotations"].get(KEY).is_some() {
        let path = Path::new("metadata.annotations");
        errors.push(Error::forbidden(&path.child(KEY), "may not specify mount options for this volume type"));
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if !subresource.is_empty() {
        return;
    }
    let lenient = old.pointer("/spec/nodeAffinity/required").is_some_and(has_invalid_label_value);
    // Upstream asks everything twice, and its answer says everything twice.
    whole(new, lenient, errors);
    mount_options(new, errors);
    whole(new, lenient, errors);
    let (after, before) = (&new["spec"], &old["spec"]);
    let mut masked = after.clone();
    let secret = |spec: &Value| present(&spec["csi"], "controllerExpandSecretRef").is_some();
    if present(before, "csi").is_some()
        && !secret(before)
        && let Some(csi) = masked.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    let sources = |spec: &Value| -> Value {
        SOURCES.iter().filter_map(|kind| Some(((*kind).to_owned(), present(spec, kind)?.clone()))).collect()
    };
    let (is, was) = (sources(&masked), sources(before));
    if is != was {
        let why =
            format!("spec.persistentvolumesource is immutable after creation\n{}", diff::diff(&was, &is));
        errors.push(Error::forbidden(&Path::new("spec.persistentvolumesource"), why));
    }
    meta::unchanged(&after["volumeMode"], &before["volumeMode"], &Path::new("volumeMode"), errors);
    if let Some(was) = present(before, "nodeAffinity")
        && !same_but_for_ga(&after["nodeAffinity"], was)
    {
        let why = "field is immutable, except for updating from beta label to GA";
        errors.push(Error::invalid(&Path::new("nodeAffinity"), after["nodeAffinity"].clone(), why));
    }
    let class = |spec: &Value| present(spec, "volumeAttributesClassName").is_some();
    if class(before) && !class(after) {
        let path = Path::new("spec.volumeAttributesClassName");
        errors.push(Error::forbidden(&path, "update from non-nil value to nil is forbidden"));
    }
}

/// The affinities are the same when labels in beta are read as the stable ones where the new affinity has those.
fn same_but_for_ga(new: &Value, old: &Value) -> bool {
    let mut old = old.clone();
    let stable = |key: &str| {
        Some(match key {
            "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
            "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
            "beta.kubernetes.io/os" => "kubernetes.io/os",
            "beta.kubernetes.io/arch" => "kubernetes.io/arch",
            "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
            _ => return None,
        })
    };
    let terms = old.pointer_mut("/required/nodeSelectorTerms").and_then(Value::as_array_mut);
    for (t, term) in terms.into_iter().flatten().enumerate() {
        for field in ["matchExpressions", "matchFields"] {
            let list = term.get_mut(field).and_then(Value::as_array_mut);
            for (r, requirement) in list.into_iter().flatten().enumerate() {
                let now = new.pointer(&format!("/required/nodeSelectorTerms/{t}/{field}/{r}/key"));
                let was = text(requirement, "key");
                if let Some(now) = now.and_then(Value::as_str)
                    && stable(was) == Some(now)
                {
                    requirement["key"] = now.into();
                }
            }
        }
    }
    *new == old
}

fn warnings(volume: &Value, _old: Option<&Value>, subresource: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if !subresource.is_empty() {
        return warnings;
    }
    for (key, why) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if volume["metadata"]["annotations"].get(key).is_some() {
            warnings.push(format!("metadata.annotations[{key}]: {why}"));
        }
    }
    let spec = &volume["spec"];
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    if let Some(required) = spec.pointer("/nodeAffinity/required") {
        let path = Path::new("spec.nodeAffinity.required.nodeSelectorTerms");
        for (index, term) in items(required, "nodeSelectorTerms").iter().enumerate() {
            pod::warnings::node_term(term, false, &path.index(index), &mut warnings);
        }
    }
    for (kind, shown, why) in [
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if present(spec, kind).is_some() {
            warnings.push(format!("spec.{shown}: {why}"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn table() -> Table {
        Table::new(
            "",
            "v1",
            "PersistentVolume",
            json!({"metadata": {"name": "foo"}, "spec": {
            "capacity": {"storage": "10G"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/foo", "type": "Directory"}}}),
        )
    }

    fn term(key: &str) -> Value {
        json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": ["v"]}]}]}})
    }

    /// Upstream's `TestValidatePersistentVolumes`, `TestValidateLocalVolumes`.
    #[test]
    fn create() {
        table().create(&[
            (json!({"spec": {"accessModes": null}}), &["spec.accessModes: Required"]),
            (json!({"spec": {"accessModes": ["fakemode"]}}), &["spec.accessModes: NotSupported"]),
            (json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}), &[]),
            (json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}}), &["spec.accessModes: Forbidden"]),
            (json!({"spec": {"capacity": null}}), &["spec.capacity: Required", "spec.capacity: NotSupported"]),
            (json!({"spec": {"capacity": {"foo": "1"}}}), &["spec.capacity: NotSupported"]),
            (json!({"spec": {"capacity": {"storage": "-1"}}}), &["spec.capacity[storage]: Invalid", "spec.capacity[storage]: Invalid"]),
            (json!({"spec": {"capacity": {"storage": "0"}}}), &["spec.capacity[storage]: Invalid"]),
            (json!({"spec": {"hostPath": null}}), &["spec: Required"]),
            (json!({"spec": {"awsElasticBlockStore": {"volumeID": "v"}}}), &["spec.awsElasticBlockStore: Forbidden"]),
            (json!({"spec": {"hostPath": {"path": "/../tmp"}}}), &["spec.hostPath.path: Invalid"]),
            (json!({"spec": {"hostPath": {"path": "/.//"}, "persistentVolumeReclaimPolicy": "Recycle"}}),
                &["spec.persistentVolumeReclaimPolicy: Forbidden"]),
            (json!({"spec": {"persistentVolumeReclaimPolicy": "fake"}}), &["spec.persistentVolumeReclaimPolicy: NotSupported"]),
            (json!({"spec": {"storageClassName": "-invalid-"}}), &["spec.storageClassName: Invalid"]),
            (json!({"spec": {"volumeMode": "fake"}}), &["spec.volumeMode: NotSupported"]),
            (json!({"spec": {"hostPath": null, "local": {"path": "/foo"}}}), &["spec.nodeAffinity: Required"]),
            (json!({"spec": {"hostPath": null, "local": {"path": "/foo"}, "nodeAffinity": term("foo")}}), &[]),
            (json!({"spec": {"nodeAffinity": {}}}), &["spec.nodeAffinity.required: Required"]),
            (json!({"spec": {"nodeAffinity": {"required": {}}}}), &["spec.nodeAffinity.required.nodeSelectorTerms: Required"]),
            (json!({"spec": {"volumeAttributesClassName": "gold"}}), &["spec.csi: Required"]),
            (json!({"spec": {"hostPath": null, "csi": {"driver": "d", "volumeHandle": "h"}, "volumeAttributesClassName": ""}}),
                &["spec.volumeAttributesClassName: Required"]),
            (json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/mount-options": "ro"}}}),
                &["metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden"]),
        ]);
    }

    /// Upstream's `TestValidatePersistentVolumeSourceUpdate` and its neighbours.
    #[test]
    fn update() {
        let table = table();
        let none = json!({});
        let source = "spec.persistentvolumesource: Forbidden";
        table.change(
            &none,
            &json!({"spec": {"capacity": {"storage": "5G"}, "storageClassName": "other"}}),
            "",
            &[],
        );
        table.change(&none, &json!({"spec": {"hostPath": {"path": "/bar"}}}), "", &[source]);
        let csi = |fields: Value| {
            let mut whole = json!({"driver": "d", "volumeHandle": "h"});
            whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({"spec": {"hostPath": null, "csi": whole}})
        };
        let secret = |name: &str| csi(json!({"controllerExpandSecretRef": {"name": name, "namespace": "n"}}));
        table.change(&csi(json!({})), &secret("a"), "", &[]);
        table.change(&secret("a"), &secret("b"), "", &[source]);
        table.change(&secret("a"), &csi(json!({})), "", &[source]);
        table.change(&csi(json!({})), &csi(json!({"volumeHandle": "other"})), "", &[source]);
        table.change(&none, &json!({"spec": {"volumeMode": "Block"}}), "", &["volumeMode: Invalid"]);
        let at = |key: &str| json!({"spec": {"nodeAffinity": term(key)}});
        table.change(&none, &at("foo"), "", &[]);
        table.change(&at("foo"), &at("bar"), "", &["nodeAffinity: Invalid"]);
        table.change(&at("foo"), &none, "", &["nodeAffinity: Invalid"]);
        table.change(&at("beta.kubernetes.io/os"), &at("kubernetes.io/os"), "", &[]);
        table.change(&at("kubernetes.io/os"), &at("beta.kubernetes.io/os"), "", &["nodeAffinity: Invalid"]);
        let mut classed = csi(json!({}));
        classed["spec"]["volumeAttributesClassName"] = "gold".into();
        table.change(&csi(json!({})), &classed, "", &[]);
        table.change(&classed, &csi(json!({})), "", &["spec.volumeAttributesClassName: Forbidden"]);
    }

    #[test]
    fn times_of_phases() {
        let volume =
            |phase: &str, time: Value| json!({"status": {"phase": phase, "lastPhaseTransitionTime": time}});
        let check = |old: Value, mut new: Value, expect: Value| {
            stamp(&mut new, &old, "status", "now");
            assert_eq!(new["status"]["lastPhaseTransitionTime"], expect);
        };
        check(volume("Pending", json!("then")), json!({"status": {"phase": "Pending"}}), json!("then"));
        check(volume("Pending", json!("then")), volume("Bound", json!("then")), json!("now"));
        check(volume("Pending", json!("then")), json!({"status": {"phase": "Bound"}}), json!("now"));
        check(volume("Pending", json!("then")), volume("Bound", json!("mine")), json!("mine"));
        let mut new = json!({"metadata": {"creationTimestamp": "t"}});
        prepare_for_create(&mut new);
        assert_eq!(new["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": "t"}));
    }

    #[test]
    fn inline() {
        let check = |spec: Value, expect: &[&str]| {
            let mut errors = ErrorList::new();
            inline_spec(&spec, "", &Path::new("s"), &mut errors);
            let got: Vec<String> = errors.iter().map(|e| format!("{}: {:?}", e.field, e.kind)).collect();
            assert_eq!(got, expect, "{spec}");
        };
        let csi = json!({"driver": "d", "volumeHandle": "h"});
        check(json!({"accessModes": ["ReadWriteOnce"], "csi": csi, "volumeMode": "Filesystem"}), &[]);
        check(
            json!({"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}, "capacity": {"storage": "1"},
            "claimRef": {}, "persistentVolumeReclaimPolicy": "Delete", "nodeAffinity": {}, "storageClassName": "s",
            "volumeMode": "Block"}),
            &[
                "s.claimRef: Forbidden",
                "s.capacity: Forbidden",
                "s.csi: Required",
                "s.persistentVolumeReclaimPolicy: Forbidden",
                "s.nodeAffinity: Forbidden",
                "s.storageClassName: Forbidden",
                "s.volumeMode: Forbidden",
            ],
        );
    }

    #[test]
    fn warned() {
        table().warnings(json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle", "nodeAffinity": term("beta.kubernetes.io/os")}}), &[
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning.",
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is \
             deprecated since v1.14; use \"kubernetes.io/os\" instead"]);
    }
}
