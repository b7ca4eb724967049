//! Volumes of a pod: exactly one source each, and what the sources that only pods have ask for.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::env::{field_selector, resource_selector};
use super::options::Options;
use crate::check::{descending, entries, int, items, label, mode, one_of, present, text};
use crate::core::claim;
use crate::core::volume::sources::{self, Holder, LONG_PORTAL};
use crate::meta;
use crate::strategy;

/// Sources in the order in which upstream looks at them: the first counts, the others are too many. With the
/// names that upstream's errors have for a second source and for the fields of the first.
const SOURCES: &[(&str, &str, &str)] = &[
    ("emptyDir", "emptyDir", "emptyDir"),
    ("hostPath", "hostPath", "hostPath"),
    ("gitRepo", "gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret", "secret"),
    ("nfs", "nfs", "nfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd", "rbd"),
    ("cinder", "cinder", "cinder"),
    ("cephfs", "cephFS", "cephfs"),
    ("quobyte", "quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI", "downwardAPI"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("configMap", "configMap", "configMap"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("storageos", "storageos", "storageos"),
    ("projected", "projected", "projected"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("csi", "csi", "csi"),
    ("ephemeral", "ephemeral", "ephemeral"),
    ("image", "image", "image"),
];

/// Checks all volumes and gives the good ones by name. `pod` is the pod's name, empty in templates.
pub fn volumes<'a>(
    list: &'a [Value],
    pod: &str,
    options: Options,
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> BTreeMap<&'a str, &'a Value> {
    let mut good = BTreeMap::new();
    let created: BTreeSet<String> = list
        .iter()
        .filter(|volume| !pod.is_empty() && present(volume, "ephemeral").is_some())
        .map(|volume| format!("{pod}-{}", text(volume, "name")))
        .collect();
    for (index, volume) in list.iter().enumerate() {
        let at = path.index(index);
        let before = errors.len();
        source(volume, pod, options, &at, errors);
        let name = text(volume, "name");
        match name {
            "" => errors.push(Error::required(&at.child("name"), "")),
            name => label(name, &at.child("name"), errors),
        }
        if good.contains_key(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        if errors.len() == before {
            good.insert(name, volume);
        }
        if let Some(claim) = present(volume, "persistentVolumeClaim") {
            let name = text(claim, "claimName");
            if created.contains(name) {
                let why = "must not reference a PVC that gets created for an ephemeral volume";
                errors.push(Error::invalid(&at.child("persistentVolumeClaim.claimName"), name, why));
            }
        }
    }
    good
}

fn source(volume: &Value, pod: &str, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let mut count = 0;
    for (kind, second, first) in SOURCES {
        let Some(source) = present(volume, kind) else { continue };
        count += 1;
        if count > 1 {
            errors.push(Error::forbidden(&path.child(second), "may not specify more than 1 volume type"));
        } else {
            one(kind, source, options, &path.child(first), errors);
            if *kind == "ephemeral" {
                claim_name(text(volume, "name"), pod, path, errors);
            }
        }
        let name = text(volume, "name");
        let long = || name.len() + 1 + text(source, "targetPortal").len() > 64;
        if *kind == "iscsi" && present(source, "initiatorName").is_some() && long() {
            errors.push(Error::invalid(&path.child("name"), name, LONG_PORTAL));
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

fn one(kind: &str, source: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    match kind {
        "emptyDir" => {
            let limit = present(source, "sizeLimit").and_then(|limit| Quantity::from_value(limit).ok());
            if limit.is_some_and(|limit| limit.sign() < 0) {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.push(Error::forbidden(&path.child("sizeLimit"), why));
            }
        }
        "gitRepo" => sources::git_repo(source, path, errors),
        "secret" => files(source, "secretName", path, errors),
        "configMap" => files(source, "name", path, errors),
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            items(source, "items").iter().for_each(|file| downward_file(file, path, errors));
        }
        "projected" => projected(source, options, path, errors),
        "persistentVolumeClaim" => {
            if text(source, "claimName").is_empty() {
                errors.push(Error::required(&path.child("claimName"), ""));
            }
        }
        "ephemeral" => match present(source, "volumeClaimTemplate") {
            None => errors.push(Error::required(&path.child("volumeClaimTemplate"), "")),
            Some(template) => claim::template(template, &path.child("volumeClaimTemplate"), errors),
        },
        "image" => {
            if options.is_pod && text(source, "reference").is_empty() {
                errors.push(Error::required(&path.child("reference"), ""));
            }
            let policies = ["Always", "IfNotPresent", "Never"];
            one_of(text(source, "pullPolicy"), &policies, &path.child("pullPolicy"), errors);
        }
        other => sources::check(other, source, Holder::Pod, path, errors),
    }
}

/// The claim that is made for an ephemeral volume has the names of both.
fn claim_name(volume: &str, pod: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if pod.is_empty() || volume.is_empty() {
        return;
    }
    let claim = format!("{pod}-{volume}");
    for why in names::is_dns1123_subdomain(&claim) {
        errors.push(Error::invalid(&path.child("name"), volume, format!("PVC name \"{claim}\": {why}")));
    }
}

/// A config map or secret as files.
fn files(source: &Value, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if text(source, name).is_empty() {
        errors.push(Error::required(&path.child(name), ""));
    }
    mode(source, "defaultMode", path, errors);
    let list = path.child("items");
    for (index, item) in items(source, "items").iter().enumerate() {
        key_to_path(item, &list.index(index), errors);
    }
}

fn key_to_path(item: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["key", "path"] {
        if text(item, field).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    file_path(text(item, "path"), &path.child("path"), errors);
    mode(item, "mode", path, errors);
}

/// A relative path that is not one of the kubelet's own `..` names.
pub fn file_path(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    descending(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(Error::invalid(path, value, "must not start with '..'"));
    }
}

const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward_file(file: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let target = text(file, "path");
    if target.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    file_path(target, &path.child("path"), errors);
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

/// The sources of a pod's projected volumes.
pub fn projections(spec: &Value) -> impl Iterator<Item = &Value> {
    let projected = items(spec, "volumes").iter().filter_map(|volume| present(volume, "projected"));
    projected.flat_map(|projected| items(projected, "sources"))
}

/// The tokens that a pod's volumes project.
pub fn tokens(spec: &Value) -> impl Iterator<Item = &Value> {
    projections(spec).filter_map(|source| present(source, "serviceAccountToken"))
}

/// Files that one volume takes from several sources; two of the same name conflict.
struct Paths(BTreeSet<String>);

impl Paths {
    fn take(&mut self, target: &str, shown: &str, path: &Path<'_>, errors: &mut ErrorList) {
        if !self.0.insert(target.to_owned()) {
            errors.push(Error::invalid(path, shown, "conflicting duplicate paths"));
        }
    }
}

fn projected(source: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    mode(source, "defaultMode", path, errors);
    let mut paths = Paths(BTreeSet::new());
    let list = path.child("sources");
    for (index, source) in items(source, "sources").iter().enumerate() {
        let at = list.index(index);
        let mut count = 0;
        for name in ["secret", "configMap"] {
            let Some(files) = present(source, name) else { continue };
            count += 1;
            let at = at.child(name);
            let name = text(files, "name");
            if name.is_empty() {
                errors.push(Error::required(&at.child("name"), ""));
            }
            let list = at.child("items");
            for (index, item) in items(files, "items").iter().enumerate() {
                key_to_path(item, &list.index(index), errors);
                let target = text(item, "path");
                if !target.is_empty() {
                    paths.take(target, name, path, errors);
                }
            }
        }
        if let Some(downward) = present(source, "downwardAPI") {
            count += 1;
            for file in items(downward, "items") {
                downward_file(file, &at.child("downwardAPI"), errors);
                let target = text(file, "path");
                if !target.is_empty() {
                    paths.take(target, target, path, errors);
                }
            }
        }
        if let Some(token) = present(source, "serviceAccountToken") {
            count += 1;
            self::token(token, options, path, &at.child("serviceAccountToken"), errors);
        }
        if let Some(bundle) = present(source, "clusterTrustBundle") {
            count += 1;
            let at = at.child("clusterTrustBundle");
            trust_bundle(bundle, &at, errors);
            let target = text(bundle, "path");
            if target.is_empty() {
                errors.push(Error::required(&at.child("path"), ""));
            }
            file_path(target, &at.child("path"), errors);
            paths.take(target, target, path, errors);
        }
        if let Some(certificate) = present(source, "podCertificate") {
            count += 1;
            let at = at.child("podCertificate");
            pod_certificate(certificate, &at, errors);
            let mut targets = 0;
            for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                let target = text(certificate, field);
                if !target.is_empty() {
                    targets += 1;
                    file_path(target, &at.child(field), errors);
                    paths.take(target, target, path, errors);
                }
            }
            if targets == 0 {
                let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                errors.push(Error::required(&at, why));
            }
        }
        if count > 1 {
            errors.push(Error::forbidden(&at, "may not specify more than 1 volume type per source"));
        }
    }
}

/// `volume` leads to the volume: upstream reports the token's path there.
fn token(token: &Value, options: Options, volume: &Path<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let seconds = int(token, "expirationSeconds").unwrap_or(0);
    let at = path.child("expirationSeconds");
    if seconds < 600 {
        errors.push(Error::invalid(&at, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        errors.push(Error::invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    match text(token, "path") {
        "" => errors.push(Error::required(&volume.child("path"), "")),
        target if !options.token_paths => file_path(target, &volume.child("path"), errors),
        _ => {}
    }
}

/// Bundles by name, or by signer and labels (KEP-3257).
fn trust_bundle(bundle: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |field: &str| present(bundle, field).and_then(Value::as_str);
    match (of("name"), of("signerName")) {
        (Some(_), Some(_)) => {
            let why = "only one of name and signerName may be used";
            errors.push(Error::invalid(path, bundle.clone(), why));
        }
        (Some(name), None) => {
            let at = path.child("name");
            if name.is_empty() {
                errors.push(Error::required(&at, "must be a valid object name"));
            }
            // `example.com:signer:bundle`: the signer stands in front.
            let own = name.rsplit_once(':').map_or(name, |(_, own)| own);
            for why in strategy::subdomain(own, false) {
                errors.push(Error::invalid(&at, name, format!("not a valid clustertrustbundlename: {why}")));
            }
            if let Some(selector) = present(bundle, "labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                errors.push(Error::invalid(&path.child("labelSelector"), selector.clone(), why));
            }
        }
        (None, Some(signer)) => {
            let at = path.child("signerName");
            if signer.is_empty() {
                errors.push(Error::required(&at, "must be a valid signer name"));
            }
            meta::signer_name(signer, &at, errors);
            meta::selector(&bundle["labelSelector"], false, &path.child("labelSelector"), errors);
        }
        (None, None) => errors.push(Error::required(path, "either name or signerName must be specified")),
    }
}

/// A certificate for the pod (KEP-4317).
fn pod_certificate(certificate: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const KEYS: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    let signer = text(certificate, "signerName");
    meta::signer_name(signer, &path.child("signerName"), errors);
    let at = path.child("userAnnotations");
    for (key, _) in entries(certificate, "userAnnotations") {
        let key = key.to_lowercase();
        let faults = names::is_qualified_name(&key);
        if faults.is_empty() && !key.contains('/') {
            let why = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.push(Error::invalid(&at, key.as_str(), why));
        }
        errors.extend(faults.into_iter().map(|why| Error::invalid(&at, key.as_str(), why)));
    }
    let key = text(certificate, "keyType");
    if !KEYS.contains(&key) {
        errors.push(Error::not_supported(&path.child("keyType"), key, KEYS));
    }
    if let Some(seconds) = int(certificate, "maxExpirationSeconds") {
        let at = path.child("maxExpirationSeconds");
        if seconds < 3600 {
            let why = "if provided, maxExpirationSeconds must be >= 3600";
            errors.push(Error::invalid(&at, seconds, why));
        }
        let domain = signer.split('/').next().unwrap_or_default();
        let own = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
        let most = if own { 24 * 60 * 60 } else { 91 * 24 * 60 * 60 };
        if seconds > most {
            let why = format!("if provided, maxExpirationSeconds must be <= {most}");
            errors.push(Error::invalid(&at, seconds, why));
        }
    }
}
