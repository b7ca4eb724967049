//! PersistentVolumeClaim, and the templates of claims in pods and StatefulSets.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use super::{diff, resources, volume};
use crate::check::{annotations, entries, items, label, one_of_if_set, present, subdomain, text};
use crate::meta;
use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    returns_deleted: true,
    prepare_for_create: |claim| {
        prepare(claim, None);
        claim["status"] = json!({"phase": "Pending"});
    },
    prepare_for_update: |new, old, subresource| {
        if subresource.is_empty() {
            prepare(new, Some(old));
        }
    },
    validate: |claim, errors| spec(&claim["spec"], Lenient::default(), &Path::new("spec"), errors),
    validate_update,
    warnings,
    ..GENERIC
};

/// The annotation that named the class before `storageClassName` did.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What an update may keep that a new claim may not have.
#[derive(Clone, Copy, Default)]
struct Lenient {
    label_values: bool,
    api_groups: bool,
}

/// Drops what is not enabled, and lets `dataSource` and `dataSourceRef` agree (KEP-1495). References into other
/// namespaces are off in v1.36 (KEP-3294).
fn prepare(claim: &mut Value, old: Option<&Value>) {
    let before = old.map(|old| &old["spec"]);
    let Some(spec) = claim.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let had = |field: &str| before.is_some_and(|before| present(before, field).is_some());
    let foreign = !text(&spec["dataSourceRef"], "namespace").is_empty();
    if foreign && !had("dataSourceRef") {
        remove(spec, "dataSourceRef");
    }
    let source = present(spec, "dataSource");
    let (kind, group) =
        source.map(|source| (text(source, "kind"), text(source, "apiGroup"))).unwrap_or_default();
    let fills = matches!(
        (kind, group),
        ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
    );
    if !had("dataSource") && !had("dataSourceRef") && present(spec, "dataSourceRef").is_none() && !fills {
        remove(spec, "dataSource");
    }
    agree(spec);
}

fn remove(spec: &mut Value, field: &str) {
    if let Some(spec) = spec.as_object_mut() {
        spec.remove(field);
    }
}

/// The one data source is the other, unless it is in another namespace.
fn agree(spec: &mut Value) {
    let local = |reference: &Value| {
        let mut copy = json!({"kind": text(reference, "kind"), "name": text(reference, "name")});
        if let Some(group) = present(reference, "apiGroup") {
            copy["apiGroup"] = group.clone();
        }
        copy
    };
    match (present(spec, "dataSource"), present(spec, "dataSourceRef")) {
        (Some(source), None) => spec["dataSourceRef"] = local(source),
        (None, Some(reference)) if text(reference, "namespace").is_empty() => {
            spec["dataSource"] = local(reference);
        }
        _ => {}
    }
}

/// A claim's template, in a pod's ephemeral volume: metadata and spec of the claim to make.
pub fn template(template: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    /// What else metadata has, and how upstream spells it in errors.
    const OTHERS: &[(&str, &str)] = &[
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ];
    let metadata = &template["metadata"];
    let at = path.child("metadata");
    annotations(metadata, &at.child("annotations"), errors);
    errors.extend(apimachinery::labels::validate_labels(metadata["labels"].as_object(), &at.child("labels")));
    for (field, shown) in OTHERS.iter().filter(|(field, _)| present(metadata, field).is_some()) {
        if metadata[*field] != "" {
            errors.push(Error::forbidden(&at.child(shown), "cannot be set"));
        }
    }
    spec(&template["spec"], Lenient::default(), &path.child("spec"), errors);
}

fn reference(reference: &Value, lenient: Lenient, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["name", "kind"] {
        if text(reference, field).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    let (group, kind) = (text(reference, "apiGroup"), text(reference, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(path, kind, why));
    }
    if !group.is_empty() && !lenient.api_groups {
        subdomain(group, &path.child("apiGroup"), errors);
    }
}

/// Every fault of a claim's spec, or of that in a template of claims.
pub fn claim_spec(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    spec(value, Lenient::default(), path, errors);
}

fn spec(spec: &Value, lenient: Lenient, path: &Path<'_>, errors: &mut ErrorList) {
    if items(spec, "accessModes").is_empty() {
        errors.push(Error::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    meta::selector(&spec["selector"], lenient.label_values, &path.child("selector"), errors);
    volume::access_modes(spec, path, errors);
    let resources = path.child("resources");
    let storage = resources.key("storage");
    match spec.pointer("/resources/requests/storage") {
        None => errors.push(Error::required(&storage, "")),
        Some(amount) => {
            resources::positive(amount, &storage, errors);
        }
    }
    if let Some(class) = present(spec, "storageClassName").and_then(Value::as_str).filter(|c| !c.is_empty()) {
        subdomain(class, &path.child("storageClassName"), errors);
    }
    one_of_if_set(spec.get("volumeMode"), &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    let (source, other) = (present(spec, "dataSource"), present(spec, "dataSourceRef"));
    if let Some(source) = source {
        reference(source, lenient, &path.child("dataSource"), errors);
    }
    if let Some(other) = other {
        let at = path.child("dataSourceRef");
        reference(other, lenient, &at, errors);
        let namespace = text(other, "namespace");
        if !namespace.is_empty() {
            label(namespace, &at.child("namespace"), errors);
        }
    }
    if let (Some(source), Some(other)) = (source, other) {
        let same = |field: &str| source.get(field) == other.get(field);
        if !text(other, "namespace").is_empty() {
            // Upstream's value here is a path, which as JSON is empty.
            let why = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(Error::invalid(path, json!({}), why));
        } else if !(same("apiGroup") && same("kind") && same("name")) {
            errors.push(Error::invalid(path, json!({}), "must match dataSourceRef"));
        }
    }
    let class = present(spec, "volumeAttributesClassName").and_then(Value::as_str);
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        subdomain(class, &path.child("volumeAttributesClassName"), errors);
    }
}

fn storage(list: Option<&Value>) -> Quantity {
    list.and_then(|list| Quantity::from_value(list).ok()).unwrap_or_else(Quantity::zero)
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return status(new, errors);
    }
    if !subresource.is_empty() {
        return;
    }
    let (after, before) = (&new["spec"], &old["spec"]);
    let grouped = |field: &str| present(&before[field], "apiGroup").is_some();
    let lenient = Lenient {
        label_values: !meta::selector_is_good(&before["selector"]),
        api_groups: grouped("dataSource") || grouped("dataSourceRef"),
    };
    spec(after, lenient, &Path::new("spec"), errors);
    let (mut is, mut was) = (after.clone(), before.clone());
    agree(&mut was);
    let mut copy = |field: &str| match was.get(field) {
        Some(value) => is[field] = value.clone(),
        None => remove(&mut is, field),
    };
    let note = |claim: &Value| claim["metadata"]["annotations"].get(CLASS).cloned();
    let (class_after, class_before) = (after.get("storageClassName"), before.get("storageClassName"));
    let (noted_after, noted_before) = (note(new), note(old));
    // The class may move from the annotation to the field, and it may be filled in once.
    let moves = noted_before.is_some()
        && class_before.is_none()
        && class_after == noted_before.as_ref()
        && (noted_after.is_none() || noted_after == noted_before);
    if moves {
        copy("storageClassName");
    } else {
        if noted_after.as_ref().and_then(Value::as_str).unwrap_or_default()
            != noted_before.as_ref().and_then(Value::as_str).unwrap_or_default()
        {
            let path = Path::new("metadata.annotations");
            let shown = noted_after.unwrap_or_else(|| "".into());
            errors.push(Error::invalid(&path.child(CLASS), shown, "field is immutable"));
        }
        let fills = class_after.is_some()
            && class_before.is_none()
            && (noted_before.is_none() || class_after == noted_before.as_ref());
        if fills {
            copy("storageClassName");
        }
    }
    let bound = text(&new["status"], "phase") == "Bound";
    if bound {
        copy("volumeAttributesClassName");
    }
    if text(before, "volumeName").is_empty() {
        copy("volumeName");
    }
    if bound && let Some(requests) = is.pointer_mut("/resources/requests").and_then(Value::as_object_mut) {
        match before.pointer("/resources/requests/storage") {
            Some(amount) => drop(requests.insert("storage".into(), amount.clone())),
            None => drop(requests.remove("storage")),
        }
    }
    if is != was {
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n{}",
            diff::diff(&was, &is)
        );
        errors.push(Error::forbidden(&Path::new("spec"), why));
    }
    let asked = |spec: &Value| storage(spec.pointer("/resources/requests/storage"));
    // KEP-1790: an expansion that failed may be taken back, though not below what is there.
    if asked(after) < asked(before) && asked(after) <= storage(old.pointer("/status/capacity/storage")) {
        let path = Path::new("spec.resources.requests.storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
    meta::unchanged(&after["volumeMode"], &before["volumeMode"], &Path::new("volumeMode"), errors);
    let field = "volumeAttributesClassName";
    if after.get(field) != before.get(field)
        && present(&old["status"], "currentVolumeAttributesClassName").is_some()
    {
        let what = match present(after, field) {
            None => "nil",
            Some(class) if class == "" => "empty string",
            Some(_) => return,
        };
        let why =
            format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(Error::forbidden(&Path::new("spec.volumeAttributesClassName"), why));
    }
}

fn status(claim: &Value, errors: &mut ErrorList) {
    const STATES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    if items(&claim["spec"], "accessModes").is_empty() {
        errors.push(Error::required(&Path::new("Spec.accessModes"), ""));
    }
    let (path, status) = (Path::new("status"), &claim["status"]);
    let at = path.child("capacity");
    for (name, amount) in entries(status, "capacity") {
        resources::basic(amount, &at.key(name), errors);
    }
    let at = path.child("allocatedResourceStatuses");
    for (name, state) in entries(status, "allocatedResourceStatuses") {
        resources::claim_name(name, &at, errors);
        if !STATES.contains(&state.as_str().unwrap_or_default()) {
            errors.push(Error::not_supported(&at, name.as_str(), STATES));
        }
    }
    let at = path.child("allocatedResources");
    for (name, amount) in entries(status, "allocatedResources") {
        if resources::claim_name(name, &at, errors) {
            let before = errors.len();
            resources::basic(amount, &at.key(name), errors);
            if errors.len() == before {
                resources::amount("storage", amount, &at.key(name), errors);
            }
        }
    }
}

fn warnings(claim: &Value, _old: Option<&Value>, subresource: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if !subresource.is_empty() {
        return warnings;
    }
    if claim["metadata"]["annotations"].get(CLASS).is_some() {
        let why = "deprecated since v1.8; use \"storageClassName\" attribute instead";
        warnings.push(format!("metadata.annotations[{CLASS}]: {why}"));
    }
    spec_warnings(&claim["spec"], &Path::new("spec"), &mut warnings);
    warnings
}

/// Parts of bytes in a claim's spec, also in templates.
pub fn spec_warnings(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let resources = path.child("resources");
    for list in ["requests", "limits"] {
        let amount = storage(spec["resources"][list].get("storage"));
        if amount.milli_value() % 1000 != 0 {
            let at = resources.child(list);
            warnings.push(format!(
                "{}: fractional byte value \"{}\" is invalid, must be an integer",
                at.key("storage"),
                amount.canonical()
            ));
        }
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
            "PersistentVolumeClaim",
            json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "resources": {"requests": {"storage": "10G"}}}}),
        )
    }

    fn spec_of(fields: Value) -> Value {
        json!({"spec": fields})
    }

    /// Upstream's `TestValidatePersistentVolumeClaim`, `TestAlphaVolumePVCDataSource` and others.
    #[test]
    fn create() {
        let source = |kind: &str, name: &str, group: Option<&str>| json!({"kind": kind, "name": name, "apiGroup": group});
        table().create(&[
            (spec_of(json!({"accessModes": null})), &["spec.accessModes: Required"]),
            (spec_of(json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]})), &["spec.accessModes: Forbidden"]),
            (spec_of(json!({"selector": {"matchExpressions": [{"key": "k", "operator": "InvalidOp", "values": ["a"]}]}})),
                &["spec.selector.matchExpressions[0].operator: Invalid"]),
            (spec_of(json!({"resources": null})), &["spec.resources[storage]: Required"]),
            (spec_of(json!({"resources": {"requests": {"storage": "-10G"}}})), &["spec.resources[storage]: Invalid"]),
            (spec_of(json!({"resources": {"requests": {"storage": "0"}}})), &["spec.resources[storage]: Invalid"]),
            (spec_of(json!({"storageClassName": "-x-"})), &["spec.storageClassName: Invalid"]),
            (spec_of(json!({"volumeMode": "x"})), &["spec.volumeMode: NotSupported"]),
            (spec_of(json!({"dataSource": source("PersistentVolumeClaim", "p", None)})), &[]),
            (spec_of(json!({"dataSource": source("PersistentVolumeClaim", "", None)})), &["spec.dataSource.name: Required"]),
            (spec_of(json!({"dataSource": source("Pod", "p", Some(""))})), &["spec.dataSource: Invalid"]),
            (spec_of(json!({"dataSource": source("X", "p", Some("a_b"))})), &["spec.dataSource.apiGroup: Invalid"]),
            (spec_of(json!({"dataSource": source("PersistentVolumeClaim", "p", None), "dataSourceRef": source("PersistentVolumeClaim", "q", None)})),
                &["spec: Invalid"]),
            (spec_of(json!({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "p", "namespace": "a.b"}})),
                &["spec.dataSourceRef.namespace: Invalid"]),
            (spec_of(json!({"volumeAttributesClassName": "-x-"})), &["spec.volumeAttributesClassName: Invalid"]),
            (spec_of(json!({"volumeAttributesClassName": ""})), &[]),
        ]);
    }

    /// Upstream's `TestValidatePersistentVolumeClaimUpdate`.
    #[test]
    fn update() {
        let table = table();
        let size = |size: &str, phase: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}, "status": {"phase": phase, "capacity": {"storage": "8G"}}});
        let class = |name: Option<&str>, note: Option<&str>| json!({"spec": {"storageClassName": name}, "metadata": {"annotations": {CLASS: note}}});
        let attributes = |name: Option<&str>, current: Option<&str>| {
            json!({"spec": {"volumeAttributesClassName": name},
            "status": {"phase": "Bound", "currentVolumeAttributesClassName": current}})
        };
        let frozen = "spec: Forbidden";
        let noted = "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid";
        let none = json!({});
        let rows: &[(Value, Value, &[&str])] = &[
            (none.clone(), json!({"spec": {"volumeName": "v"}}), &[]),
            (json!({"spec": {"volumeName": "v"}}), json!({"spec": {"volumeName": "w"}}), &[frozen]),
            (none.clone(), json!({"spec": {"accessModes": ["ReadWriteOnce"]}}), &[frozen]),
            (none.clone(), json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (size("10G", "Bound"), size("20G", "Bound"), &[]),
            (size("10G", "Pending"), size("20G", "Pending"), &[frozen]),
            (size("20G", "Bound"), size("9G", "Bound"), &[]),
            (size("20G", "Bound"), size("8G", "Bound"), &["spec.resources.requests.storage: Forbidden"]),
            (class(None, None), class(Some("a"), None), &[]),
            (class(Some("a"), None), class(Some("b"), None), &[frozen]),
            (class(Some("a"), None), class(None, None), &[frozen]),
            (class(None, Some("a")), class(Some("a"), None), &[]),
            (class(None, Some("a")), class(Some("a"), Some("a")), &[]),
            (class(None, Some("a")), class(Some("b"), None), &[noted, frozen]),
            (class(None, Some("a")), class(None, Some("b")), &[noted]),
            (none.clone(), json!({"spec": {"volumeMode": "Block"}}), &[frozen, "volumeMode: Invalid"]),
            (attributes(None, None), attributes(Some("gold"), None), &[]),
            (attributes(Some("gold"), Some("gold")), attributes(Some("silver"), Some("gold")), &[]),
            (
                attributes(Some("gold"), Some("gold")),
                attributes(None, Some("gold")),
                &["spec.volumeAttributesClassName: Forbidden"],
            ),
            (
                attributes(Some("gold"), Some("gold")),
                attributes(Some(""), Some("gold")),
                &["spec.volumeAttributesClassName: Forbidden"],
            ),
        ];
        for (old, new, expect) in rows {
            table.change(old, new, "", expect);
        }
        let status = |fields: Value| json!({"status": fields});
        table.change(&none, &status(json!({"phase": "Bound", "capacity": {"storage": "10G"},
            "allocatedResources": {"storage": "10G", "a.b/c": "1"}, "allocatedResourceStatuses": {"storage": "NodeResizePending"}})), "status", &[]);
        table.change(
            &none,
            &status(
                json!({"capacity": {"storage": "-10G"}, "allocatedResources": {"cpu": "1", "storage": "-1"},
            "allocatedResourceStatuses": {"cpu": "Odd"}}),
            ),
            "status",
            &[
                "status.capacity[storage]: Invalid",
                "status.allocatedResourceStatuses: NotSupported",
                "status.allocatedResourceStatuses: NotSupported",
                "status.allocatedResources: NotSupported",
                "status.allocatedResources[storage]: Invalid",
            ],
        );
    }

    #[test]
    fn data_sources_agree() {
        let check = |spec: Value, old: Option<Value>, expect: Value| {
            let (mut claim, old) = (json!({"spec": spec}), old.map(|spec| json!({"spec": spec})));
            prepare(&mut claim, old.as_ref());
            assert_eq!(claim["spec"], expect, "{spec}");
        };
        let own = json!({"kind": "PersistentVolumeClaim", "name": "p"});
        let both = json!({"dataSource": own, "dataSourceRef": own});
        check(json!({"dataSource": own}), None, both.clone());
        check(json!({"dataSourceRef": own}), None, both);
        // Only claims and snapshots fill a volume by way of the old field.
        let custom = json!({"kind": "X", "name": "x", "apiGroup": "a.b"});
        check(json!({"dataSource": custom}), None, json!({}));
        check(json!({"dataSourceRef": custom}), None, json!({"dataSource": custom, "dataSourceRef": custom}));
        check(
            json!({"dataSource": custom}),
            Some(json!({"dataSource": custom})),
            json!({"dataSource": custom, "dataSourceRef": custom}),
        );
        let foreign = json!({"kind": "PersistentVolumeClaim", "name": "p", "namespace": "other"});
        check(json!({"dataSourceRef": foreign}), None, json!({}));
        check(
            json!({"dataSourceRef": foreign}),
            Some(json!({"dataSourceRef": foreign})),
            json!({"dataSourceRef": foreign}),
        );
    }

    #[test]
    fn warned() {
        table().warnings(spec_of(json!({"resources": {"requests": {"storage": "1500m"}}})),
            &["spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer"]);
    }
}
