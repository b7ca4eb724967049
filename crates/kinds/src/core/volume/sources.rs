//! What volumes come from, as far as pods and PersistentVolumes share it: one rule per source.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names::inclusive_range_error;
use serde_json::Value;

use crate::check::{
    descending, entries, flag, int, items, label, no_backsteps, one_of_if_set, present, subdomain, text,
};
use crate::meta;

/// Where a source stands, which decides what its references to secrets need.
#[derive(Clone, Copy)]
pub enum Holder<'a> {
    /// A pod: secrets are of its own namespace.
    Pod,
    /// The PersistentVolume of this name: secrets name their namespace.
    Volume(&'a str),
}

/// Checks the source of this kind; `path` leads to it. Sources that only pods have are not known here.
pub fn check(kind: &str, source: &Value, holder: Holder<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let persistent = matches!(holder, Holder::Volume(_));
    match kind {
        "hostPath" => host_path(source, path, errors),
        "gcePersistentDisk" => disk(source, "pdName", path, errors),
        "awsElasticBlockStore" => disk(source, "volumeID", path, errors),
        "nfs" => {
            required(source, &["server", "path"], path, errors);
            let target = text(source, "path");
            if !target.starts_with('/') {
                errors.push(Error::invalid(&path.child("path"), target, "must be an absolute path"));
            }
        }
        "iscsi" => iscsi(source, holder, path, errors),
        "glusterfs" => {
            required(source, &["endpoints", "path"], path, errors);
            let namespace = present(source, "endpointsNamespace").filter(|_| persistent);
            let at = path.child("endpointsNamespace");
            match namespace.and_then(Value::as_str) {
                None => {}
                Some("") => {
                    let why = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.push(Error::invalid(&at, "", why));
                }
                Some(namespace) => label(namespace, &at, errors),
            }
        }
        "flocker" => flocker(source, path, errors),
        "rbd" => {
            listed(source, "monitors", path, errors);
            required(source, &["image"], path, errors);
        }
        "cephfs" => listed(source, "monitors", path, errors),
        "cinder" => {
            required(source, &["volumeID"], path, errors);
            secret(source, persistent, path, errors);
        }
        "quobyte" => quobyte(source, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "flexVolume" => flex(source, path, errors),
        "azureFile" => {
            required(source, &["secretName", "shareName"], path, errors);
            if persistent && source.get("secretNamespace") == Some(&Value::from("")) {
                errors.push(Error::required(&path.child("secretNamespace"), ""));
            }
        }
        "vsphereVolume" => required(source, &["volumePath"], path, errors),
        "photonPersistentDisk" => required(source, &["pdID"], path, errors),
        "portworxVolume" => required(source, &["volumeID"], path, errors),
        "azureDisk" => azure_disk(source, path, errors),
        "storageos" => {
            match text(source, "volumeName") {
                "" => errors.push(Error::required(&path.child("volumeName"), "")),
                name => label(name, &path.child("volumeName"), errors),
            }
            let namespace = text(source, "volumeNamespace");
            if !namespace.is_empty() {
                label(namespace, &path.child("volumeNamespace"), errors);
            }
            secret(source, persistent, path, errors);
        }
        "scaleIO" => required(source, &["gateway", "system", "volumeName"], path, errors),
        "local" => match text(source, "path") {
            "" => errors.push(Error::required(&path.child("path"), "")),
            target => no_backsteps(target, &path.child("path"), errors),
        },
        "csi" => csi(source, persistent, path, errors),
        _ => {}
    }
}

fn required(source: &Value, fields: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    for field in fields.iter().filter(|field| text(source, field).is_empty()) {
        errors.push(Error::required(&path.child(field), ""));
    }
}

fn listed(source: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if items(source, field).is_empty() {
        errors.push(Error::required(&path.child(field), ""));
    }
}

fn secret(source: &Value, persistent: bool, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(reference) = present(source, "secretRef") {
        let fields: &[&str] = if persistent { &["name", "namespace"] } else { &["name"] };
        required(reference, fields, &path.child("secretRef"), errors);
    }
}

fn host_path(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let target = text(source, "path");
    if target.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
        return;
    }
    no_backsteps(target, &path.child("path"), errors);
    one_of_if_set(source.get("type"), TYPES, &path.child("type"), errors);
}

fn disk(source: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    required(source, &[name], path, errors);
    let partition = int(source, "partition").unwrap_or(0);
    if !(0..=255).contains(&partition) {
        // Upstream's words name another range than it tests.
        errors.push(Error::invalid(&path.child("partition"), partition, inclusive_range_error(1, 255)));
    }
}

/// What follows a date as `2001-04.`.
fn after_date(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let shaped = digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..7) && bytes.get(7) == Some(&b'.');
    shaped.then(|| text.get(8..)).flatten()
}

/// The name of an iSCSI target or initiator (RFC 3720): `None` if it is good, else whether its kind is known.
fn iscsi_name(name: &str) -> Option<bool> {
    let qualified = |rest: &str| {
        let Some((domain, tail)) = after_date(rest).and_then(|rest| rest.split_once(':')) else {
            return false;
        };
        !domain.is_empty()
            && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
            && !tail.is_empty()
            && !tail.contains([',', ';', '*', '&', '$', '|', '\t', '\n', '\x0c', '\r', ' '])
    };
    let word = |length: usize| {
        let rest: Vec<char> = name.chars().skip(3).collect();
        rest.len() == length + 1 && rest[1..].iter().all(char::is_ascii_alphanumeric)
    };
    let good = match name.get(..3) {
        Some("iqn") => name.match_indices("iqn.").any(|(at, _)| qualified(&name[at + 4..])),
        Some("eui") => word(16),
        Some("naa") => word(32),
        _ => return Some(false),
    };
    (!good).then_some(true)
}

fn iscsi(source: &Value, holder: Holder<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let kinds = match holder {
        Holder::Pod => "must be valid format starting with iqn, eui, or naa",
        Holder::Volume(_) => "must be valid format",
    };
    let why = |known: bool| if known { "must be valid format" } else { kinds };
    required(source, &["targetPortal"], path, errors);
    let initiator = present(source, "initiatorName").and_then(Value::as_str);
    if let Holder::Volume(name) = holder {
        let portal = text(source, "targetPortal");
        if initiator.is_some() && name.len() + 1 + portal.len() > 64 {
            errors.push(Error::invalid(&path.child("targetportal"), portal, LONG_PORTAL));
        }
    }
    match text(source, "iqn") {
        "" => errors.push(Error::required(&path.child("iqn"), "")),
        name => {
            if let Some(known) = iscsi_name(name) {
                errors.push(Error::invalid(&path.child("iqn"), name, why(known)));
            }
        }
    }
    let lun = int(source, "lun").unwrap_or(0);
    if !(0..=255).contains(&lun) {
        errors.push(Error::invalid(&path.child("lun"), lun, inclusive_range_error(0, 255)));
    }
    let reference = present(source, "secretRef");
    if (flag(source, "chapAuthDiscovery") || flag(source, "chapAuthSession")) && reference.is_none() {
        errors.push(Error::required(&path.child("secretRef"), ""));
    }
    if let (Holder::Volume(_), Some(reference)) = (holder, reference) {
        required(reference, &["name"], &path.child("secretRef"), errors);
    }
    if let Some(name) = initiator
        && let Some(known) = iscsi_name(name)
    {
        errors.push(Error::invalid(&path.child("initiatorname"), name, why(known)));
    }
}

pub const LONG_PORTAL: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                               iscsi.initiatorName is specified.";

fn flocker(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (name, uuid) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.push(Error::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(path, "resource", why));
    }
    if name.contains('/') {
        errors.push(Error::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn quobyte(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let why = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        errors.push(Error::required(&path.child("registry"), why));
    } else if text(source, "tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), why));
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_port(pair)) {
            errors.push(Error::invalid(&path.child("registry"), registry, why));
        }
    }
    required(source, &["volume"], path, errors);
}

/// Go's `net.SplitHostPort` takes it: a colon, and an IPv6 address only in brackets.
fn is_host_port(pair: &str) -> bool {
    match pair.rsplit_once(':') {
        None => false,
        Some((host, port)) => {
            let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            !port.contains(['[', ']'])
                && match inner {
                    Some(inner) => !inner.contains(['[', ']']),
                    None => !host.contains([':', '[', ']']),
                }
        }
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (targets, wwids) = (items(source, "targetWWNs"), items(source, "wwids"));
    let at = path.child("targetWWNs");
    if targets.is_empty() && wwids.is_empty() {
        errors.push(Error::required(&at, "must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !wwids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(&at, targets.to_vec(), why));
    }
    if targets.is_empty() {
        return;
    }
    match int(source, "lun") {
        None => {
            let why = "lun is required if targetWWNs is specified";
            errors.push(Error::required(&path.child("lun"), why));
        }
        Some(lun) if !(0..=255).contains(&lun) => {
            errors.push(Error::invalid(&path.child("lun"), lun, inclusive_range_error(0, 255)));
        }
        Some(_) => {}
    }
}

fn flex(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    required(source, &["driver"], path, errors);
    let options = path.child("options");
    for (key, _) in entries(source, "options") {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&options.key(key), key.as_str(), why));
        }
    }
}

fn azure_disk(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    required(source, &["diskName", "diskURI"], path, errors);
    let modes = ["None", "ReadOnly", "ReadWrite"];
    one_of_if_set(source.get("cachingMode"), &modes, &path.child("cachingMode"), errors);
    let Some(kind) = present(source, "kind").and_then(Value::as_str) else { return };
    one_of_if_set(source.get("kind"), &["Dedicated", "Managed", "Shared"], &path.child("kind"), errors);
    let uri = text(source, "diskURI");
    let (start, shape) = match kind {
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
    };
    if !uri.starts_with(start) {
        errors.push(Error::not_supported(&path.child("diskURI"), uri, [shape]));
    }
}

fn csi(source: &Value, persistent: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let driver = text(source, "driver");
    meta::csi_driver_name(driver, &path.child("driver"), errors);
    if !persistent {
        match present(source, "nodePublishSecretRef").map(|reference| text(reference, "name")) {
            None => {}
            Some("") => errors.push(Error::required(&path.child("nodePublishSecretRef.name"), "")),
            Some(name) => subdomain(name, &path.child("name"), errors),
        }
        return;
    }
    required(source, &["volumeHandle"], path, errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(reference) = present(source, field) {
            meta::secret_reference(reference, &path.child(field), errors);
        }
    }
}

/// A repository that is cloned into the volume.
pub fn git_repo(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    required(source, &["repository"], path, errors);
    descending(text(source, "directory"), &path.child("directory"), errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(holder: Holder<'_>, kind: &str, source: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        check(kind, &source, holder, &Path::new("s"), &mut errors);
        let got: Vec<String> =
            errors.iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect();
        assert_eq!(got, expect, "{kind} {source}");
    }

    /// Cases of upstream's `TestValidateVolumes`, `TestValidateGlusterfsPersistentVolumeSource` and others.
    #[test]
    fn sources() {
        let (pod, pv) = (Holder::Pod, Holder::Volume("pv"));
        row(pod, "gcePersistentDisk", json!({"pdName": "p", "partition": 256}), &["s.partition: Invalid"]);
        row(
            pod,
            "awsElasticBlockStore",
            json!({"partition": -1}),
            &["s.volumeID: Required", "s.partition: Invalid"],
        );
        row(pod, "nfs", json!({"server": "s", "path": "srv"}), &["s.path: Invalid"]);
        row(pod, "nfs", json!({}), &["s.server: Required", "s.path: Required", "s.path: Invalid"]);
        let iscsi = |fields: Value| {
            let mut whole = json!({"targetPortal": "127.0.0.1", "iqn": "iqn.2015-02.example.com:test"});
            whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            whole
        };
        row(pod, "iscsi", iscsi(json!({"lun": 1})), &[]);
        for good in ["eui.0123456789ABCDEF", "naa.62004567BA64678D0123456789ABCDEF"] {
            row(pod, "iscsi", iscsi(json!({"iqn": good})), &[]);
        }
        for bad in [
            "iqn.2015-02.example.com:test;ls;",
            "iqn2015-02.example.com:test",
            "iqn:test",
            "eui.0123456789ABCDEF0",
            "naa.6200",
            "2015",
            "iqn",
        ] {
            row(pod, "iscsi", iscsi(json!({"iqn": bad})), &["s.iqn: Invalid"]);
        }
        row(
            pod,
            "iscsi",
            iscsi(json!({"lun": 256, "chapAuthSession": true, "initiatorName": "x"})),
            &["s.lun: Invalid", "s.secretRef: Required", "s.initiatorname: Invalid"],
        );
        row(
            pv,
            "iscsi",
            iscsi(
                json!({"targetPortal": "a".repeat(64), "initiatorName": "iqn.2015-02.example.com:test", "secretRef": {}}),
            ),
            &["s.targetportal: Invalid", "s.secretRef.name: Required"],
        );
        row(pod, "glusterfs", json!({}), &["s.endpoints: Required", "s.path: Required"]);
        row(
            pv,
            "glusterfs",
            json!({"endpoints": "e", "path": "p", "endpointsNamespace": ""}),
            &["s.endpointsNamespace: Invalid"],
        );
        row(pod, "flocker", json!({}), &["s: Required"]);
        row(
            pod,
            "flocker",
            json!({"datasetName": "a/b", "datasetUUID": "u"}),
            &["s: Invalid", "s.datasetName: Invalid"],
        );
        row(pod, "rbd", json!({}), &["s.monitors: Required", "s.image: Required"]);
        row(pod, "cephfs", json!({}), &["s.monitors: Required"]);
        row(pod, "cinder", json!({"secretRef": {}}), &["s.volumeID: Required", "s.secretRef.name: Required"]);
        row(
            pv,
            "cinder",
            json!({"volumeID": "v", "secretRef": {"name": "n"}}),
            &["s.secretRef.namespace: Required"],
        );
        for (registry, expect) in [
            ("a:1", &[][..]),
            ("a:1,b", &["s.registry: Invalid"]),
            ("[::1]:1", &[]),
            ("::1:1", &["s.registry: Invalid"]),
        ] {
            row(pod, "quobyte", json!({"registry": registry, "volume": "v"}), expect);
        }
        row(
            pod,
            "quobyte",
            json!({"registry": "a:1", "tenant": "t".repeat(65)}),
            &["s.tenant: Required", "s.volume: Required"],
        );
        row(pod, "fc", json!({}), &["s.targetWWNs: Required"]);
        row(
            pod,
            "fc",
            json!({"targetWWNs": ["a"], "wwids": ["b"]}),
            &["s.targetWWNs: Invalid", "s.lun: Required"],
        );
        row(pod, "fc", json!({"targetWWNs": ["a"], "lun": 256}), &["s.lun: Invalid"]);
        row(
            pod,
            "flexVolume",
            json!({"options": {"foo.kubernetes.io/x": "1", "K8s.io/y": "2", "fine": "3"}}),
            &[
                "s.driver: Required",
                "s.options[K8s.io/y]: Invalid",
                "s.options[foo.kubernetes.io/x]: Invalid",
            ],
        );
        row(
            pv,
            "azureFile",
            json!({"secretName": "k", "secretNamespace": ""}),
            &["s.shareName: Required", "s.secretNamespace: Required"],
        );
        row(
            pod,
            "azureDisk",
            json!({"diskName": "d", "diskURI": "u", "kind": "Managed", "cachingMode": "x"}),
            &["s.cachingMode: NotSupported", "s.diskURI: NotSupported"],
        );
        row(pod, "azureDisk", json!({"diskName": "d", "diskURI": "https://x", "kind": "Shared"}), &[]);
        row(
            pod,
            "storageos",
            json!({"volumeName": "a b", "volumeNamespace": "c d", "secretRef": {}}),
            &["s.volumeName: Invalid", "s.volumeNamespace: Invalid", "s.secretRef.name: Required"],
        );
        row(
            pod,
            "scaleIO",
            json!({}),
            &["s.gateway: Required", "s.system: Required", "s.volumeName: Required"],
        );
        row(pv, "local", json!({"path": "/a/../b"}), &["s.path: Invalid"]);
        row(
            pv,
            "csi",
            json!({"driver": "Test_Driver", "controllerPublishSecretRef": {"name": "n"}}),
            &[
                "s.driver: Invalid",
                "s.volumeHandle: Required",
                "s.controllerPublishSecretRef.namespace: Required",
            ],
        );
        row(
            pod,
            "csi",
            json!({"driver": "d", "nodePublishSecretRef": {}}),
            &["s.nodePublishSecretRef.name: Required"],
        );
        row(pod, "hostPath", json!({}), &["s.path: Required"]);
        row(
            pod,
            "hostPath",
            json!({"path": "/a/..", "type": "X"}),
            &["s.path: Invalid", "s.type: NotSupported"],
        );
    }
}
