//! Volumes of a pod: exactly one source each, and what each source asks for.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::container::{field_selector, resource_selector};
use super::security;
use crate::check::{descending, int, items, label, mode, present, quantity, text};

/// Checks all volumes and gives the good ones by name.
pub fn volumes<'a>(
    list: &'a [Value],
    pod_name: &str,
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> BTreeMap<&'a str, &'a Value> {
    let mut seen = BTreeMap::new();
    let created: BTreeSet<String> = list
        .iter()
        .filter(|volume| !pod_name.is_empty() && present(volume, "ephemeral").is_some())
        .map(|volume| format!("{pod_name}-{}", text(volume, "name")))
        .collect();
    for (index, volume) in list.iter().enumerate() {
        let at = path.index(index);
        let before = errors.len();
        source(volume, &at, errors);
        let name = text(volume, "name");
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        } else {
            label(name, &at.child("name"), errors);
        }
        if seen.contains_key(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        if errors.len() == before {
            seen.insert(name, volume);
        }
        if let Some(claim) = present(volume, "persistentVolumeClaim") {
            let name = text(claim, "claimName");
            if created.contains(name) {
                let why = "must not reference a PVC that gets created for an ephemeral volume";
                errors.push(Error::invalid(&at.child("persistentVolumeClaim").child("claimName"), name, why));
            }
        }
    }
    seen
}

fn source(volume: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let sources =
        volume.as_object().into_iter().flatten().filter(|(name, value)| *name != "name" && !value.is_null());
    let mut count = 0;
    for (name, source) in sources {
        let at = path.child(name);
        count += 1;
        if count > 1 {
            errors.push(Error::forbidden(&at, "may not specify more than 1 volume type"));
            continue;
        }
        match name.as_str() {
            "emptyDir" => {
                if let Some(limit) = present(source, "sizeLimit") {
                    let mut faults = ErrorList::new();
                    if quantity(limit, &at, &mut faults).is_none() || !faults.is_empty() {
                        let why = "SizeLimit field must be a valid resource quantity";
                        errors.push(Error::forbidden(&at.child("sizeLimit"), why));
                    }
                }
            }
            "hostPath" => security::host_path(source, &at, errors),
            "secret" => files(source, "secretName", &at, errors),
            "configMap" => files(source, "name", &at, errors),
            "downwardAPI" => {
                mode(source, "defaultMode", &at, errors);
                for file in items(source, "items") {
                    downward_file(file, &at, errors);
                }
            }
            "projected" => projected(source, &at, errors),
            "persistentVolumeClaim" if text(source, "claimName").is_empty() => {
                errors.push(Error::required(&at.child("claimName"), ""));
            }
            "nfs" => {
                for field in ["server", "path"] {
                    if text(source, field).is_empty() {
                        errors.push(Error::required(&at.child(field), ""));
                    }
                }
                if !text(source, "path").is_empty() && !text(source, "path").starts_with('/') {
                    errors.push(Error::invalid(
                        &at.child("path"),
                        text(source, "path"),
                        "must be an absolute path",
                    ));
                }
            }
            "csi" if text(source, "driver").is_empty() => {
                errors.push(Error::required(&at.child("driver"), ""));
            }
            "ephemeral" if present(source, "volumeClaimTemplate").is_none() => {
                errors.push(Error::required(&at.child("volumeClaimTemplate"), ""));
            }
            _ => {}
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

/// A config map or secret as files.
fn files(source: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if text(source, name).is_empty() {
        errors.push(Error::required(&path.child(name), ""));
    }
    mode(source, "defaultMode", path, errors);
    key_to_paths(items(source, "items"), path, errors);
}

fn key_to_paths(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let list_path = path.child("items");
    for (index, item) in list.iter().enumerate() {
        let at = list_path.index(index);
        for field in ["key", "path"] {
            if text(item, field).is_empty() {
                errors.push(Error::required(&at.child(field), ""));
            }
        }
        file_path(text(item, "path"), &at.child("path"), errors);
        mode(item, "mode", &at, errors);
    }
}

/// A relative path that is not one of the kubelet's own `..` names.
fn file_path(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    descending(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") && value != ".." {
        errors.push(Error::invalid(path, value, "must not start with '..'"));
    }
}

const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward_file(file: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match text(file, "path") {
        "" => errors.push(Error::required(&path.child("path"), "")),
        target => file_path(target, &path.child("path"), errors),
    }
    match (present(file, "fieldRef"), present(file, "resourceFieldRef")) {
        (Some(field), other) => {
            field_selector(field, FILE_FIELDS, &path.child("fieldRef"), errors);
            if other.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", why));
            }
        }
        (None, Some(field)) => resource_selector(field, true, &path.child("resourceFieldRef"), errors),
        (None, None) => {
            errors.push(Error::required(path, "one of fieldRef and resourceFieldRef is required"));
        }
    }
    mode(file, "mode", path, errors);
}

fn projected(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    mode(source, "defaultMode", path, errors);
    let mut seen = BTreeSet::new();
    let mut unique = |target: &str, errors: &mut ErrorList| {
        if !target.is_empty() && !seen.insert(target.to_owned()) {
            errors.push(Error::invalid(path, target, "conflicting duplicate paths"));
        }
    };
    for (index, source) in items(source, "sources").iter().enumerate() {
        let list = path.child("sources");
        let at = list.index(index);
        let mut count = 0;
        for name in ["secret", "configMap"] {
            let Some(files) = present(source, name) else { continue };
            count += 1;
            let at = at.child(name);
            if text(files, "name").is_empty() {
                errors.push(Error::required(&at.child("name"), ""));
            }
            key_to_paths(items(files, "items"), &at, errors);
            items(files, "items").iter().for_each(|item| unique(text(item, "path"), errors));
        }
        if let Some(downward) = present(source, "downwardAPI") {
            count += 1;
            for file in items(downward, "items") {
                downward_file(file, &at.child("downwardAPI"), errors);
                unique(text(file, "path"), errors);
            }
        }
        if let Some(token) = present(source, "serviceAccountToken") {
            count += 1;
            let at = at.child("serviceAccountToken");
            let seconds = int(token, "expirationSeconds").unwrap_or(0);
            if seconds < 600 {
                errors.push(Error::invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                ));
            }
            if seconds > 1 << 32 {
                errors.push(Error::invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                ));
            }
            match text(token, "path") {
                "" => errors.push(Error::required(&at.child("path"), "")),
                target => file_path(target, &at.child("path"), errors),
            }
            unique(text(token, "path"), errors);
        }
        for name in ["clusterTrustBundle", "podCertificate"] {
            count += usize::from(present(source, name).is_some());
        }
        if count > 1 {
            errors.push(Error::forbidden(&at, "may not specify more than 1 volume type per source"));
        }
    }
}
