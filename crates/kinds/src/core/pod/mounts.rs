//! Where a container sees the volumes of its pod.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::check::{descending, flag, items, present, text};

/// Name → volume, of the volumes that are valid.
pub type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

pub fn mounts(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    let devices = items(container, "volumeDevices");
    for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        if !volumes.contains_key(name) {
            errors.push(Error::not_found(&at.child("name"), name));
        }
        if target.is_empty() {
            errors.push(Error::required(&at.child("mountPath"), ""));
        }
        if !seen.insert(target) {
            errors.push(Error::invalid(&at.child("mountPath"), target, "must be unique"));
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            errors.push(Error::invalid(&at.child("name"), name, "must not already exist in volumeDevices"));
        }
        if devices.iter().any(|device| text(device, "devicePath") == target) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&at.child("mountPath"), target, why));
        }
        // From here on upstream reports at the whole list.
        let (sub, expr) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending(sub, &path.child("subPath"), errors);
        }
        if !expr.is_empty() {
            if !sub.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.push(Error::invalid(&at.child("subPathExpr"), expr, why));
            }
            descending(expr, &path.child("subPathExpr"), errors);
        }
        if let Some(propagation) = present(mount, "mountPropagation").and_then(Value::as_str) {
            let at = path.child("mountPropagation");
            let supported = ["Bidirectional", "HostToContainer", "None"];
            if !supported.contains(&propagation) {
                errors.push(Error::not_supported(&at, propagation, supported));
            }
            let privileged = present(container, "securityContext").is_some_and(|sc| flag(sc, "privileged"));
            if propagation == "Bidirectional" && !privileged {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(Error::forbidden(&at, why));
            }
        }
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

fn recursive_read_only(mount: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(recursive) = present(mount, "recursiveReadOnly").and_then(Value::as_str) else { return };
    match recursive {
        "Disabled" => {}
        "IfPossible" | "Enabled" => {
            if !flag(mount, "readOnly") {
                errors.push(Error::forbidden(path, "may only be specified when readOnly is true"));
            }
            if present(mount, "mountPropagation").is_some_and(|propagation| propagation != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(path, why));
            }
        }
        other => {
            let supported = ["Disabled", "Enabled", "IfPossible"];
            errors.push(Error::not_supported(path, other, supported));
        }
    }
}

/// Volumes as block devices.
pub fn devices(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    let mounts = items(container, "volumeMounts");
    for (index, device) in items(container, "volumeDevices").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        if names.contains(name) {
            errors.push(Error::invalid(&at.child("name"), name, "must be unique"));
        }
        let is_block = |volume: &Value| {
            present(volume, "persistentVolumeClaim").is_some() || present(volume, "ephemeral").is_some()
        };
        match volumes.get(name) {
            None => errors.push(Error::not_found(&at.child("name"), name)),
            Some(volume) if !is_block(volume) => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&at.child("name"), name, why));
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.push(Error::required(&at.child("devicePath"), ""));
        }
        if paths.contains(target) {
            errors.push(Error::invalid(&at.child("devicePath"), target, "must be unique"));
        }
        if target.split('/').any(|part| part == "..") {
            let why = "can not contain backsteps ('..')";
            errors.push(Error::invalid(&at.child("devicePath"), target, why));
        } else {
            paths.insert(target);
        }
        if mounts.iter().any(|mount| text(mount, "name") == name) {
            errors.push(Error::invalid(&at.child("name"), name, "must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|mount| text(mount, "mountPath") == target) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(&at.child("devicePath"), target, why));
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}
