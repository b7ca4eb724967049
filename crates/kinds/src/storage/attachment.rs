//! VolumeAttachment.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{entries, int, items, messages, present, subdomain, text};
use crate::meta::{csi_driver_name, keep_for_status, secret_reference, texts, unchanged};

/// What a driver may store about an attachment, in bytes.
const METADATA_BYTES: usize = 256 * 1024;

pub fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        keep_for_status(new, old);
    }
}

pub fn attachment(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    csi_driver_name(text(spec, "attacher"), &path.child("attacher"), errors);
    source(&spec["source"], &path.child("source"), errors);
    subdomain(text(spec, "nodeName"), &path.child("nodeName"), errors);
    status(&object["status"], &Path::new("status"), errors);
    if let Some(name) = present(&spec["source"], "persistentVolumeName").and_then(Value::as_str) {
        let path = Path::new("spec.source.persistentVolumeName");
        messages(names::is_dns1123_subdomain(name), &name.into(), &path, errors);
    }
}

pub fn attachment_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    attachment(new, errors);
    unchanged(&new["spec"], &old["spec"], &Path::new("spec"), errors);
}

fn source(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (inline, name) = (present(source, "inlineVolumeSpec"), present(source, "persistentVolumeName"));
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline, name) {
        (None, None) => errors.push(Error::required(path, why)),
        (Some(_), Some(_)) => errors.push(Error::forbidden(path, why)),
        (None, Some(name)) if name == "" => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(Error::required(&path.child("persistentVolumeName"), why));
        }
        (None, Some(_)) => {}
        (Some(spec), None) => inline_volume(spec, &path.child("inlineVolumeSpec"), errors),
    }
}

/// A volume within the attachment: only of CSI, and without what makes a volume claimable.
fn inline_volume(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const INLINE: &str = "in the context of inline volumes";
    let forbid = |field: &str, errors: &mut ErrorList| {
        errors.push(Error::forbidden(&path.child(field), format!("may not be specified {INLINE}")));
    };
    if present(spec, "claimRef").is_some() {
        forbid("claimRef", errors);
    }
    if entries(spec, "capacity").next().is_some() {
        forbid("capacity", errors);
    }
    let csi = present(spec, "csi");
    if csi.is_none() {
        errors.push(Error::required(&path.child("csi"), format!("has to be specified {INLINE}")));
    }
    access_modes(spec, &path.child("accessModes"), errors);
    if !["", "Retain"].contains(&text(spec, "persistentVolumeReclaimPolicy")) {
        let why = format!("may only be Retain {INLINE}");
        errors.push(Error::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
    if present(spec, "nodeAffinity").is_some() {
        forbid("nodeAffinity", errors);
    }
    if let Some(csi) = csi {
        let path = path.child("csi");
        csi_driver_name(text(csi, "driver"), &path.child("driver"), errors);
        if text(csi, "volumeHandle").is_empty() {
            errors.push(Error::required(&path.child("volumeHandle"), ""));
        }
        for field in [
            "controllerPublishSecretRef",
            "controllerExpandSecretRef",
            "nodePublishSecretRef",
            "nodeExpandSecretRef",
        ] {
            if let Some(reference) = present(csi, field) {
                secret_reference(reference, &path.child(field), errors);
            }
        }
    }
    if !text(spec, "storageClassName").is_empty() {
        forbid("storageClassName", errors);
    }
    if !["", "Filesystem"].contains(&text(spec, "volumeMode")) {
        let why = format!("may not specify volumeMode other than Filesystem {INLINE}");
        errors.push(Error::forbidden(&path.child("volumeMode"), why));
    }
}

fn access_modes(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    if items(spec, "accessModes").is_empty() {
        errors.push(Error::required(path, ""));
    }
    for mode in texts(spec, "accessModes").filter(|mode| !MODES.contains(mode)) {
        errors.push(Error::not_supported(path, mode, MODES));
    }
    let known = |pod: bool| {
        texts(spec, "accessModes").any(|m| MODES.contains(&m) && (m == "ReadWriteOncePod") == pod)
    };
    if known(true) && known(false) {
        errors.push(Error::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

fn status(status: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().unwrap_or_default().len();
    if entries(status, "attachmentMetadata").map(size).sum::<usize>() > METADATA_BYTES {
        errors.push(Error::too_long(&path.child("attachmentMetadata"), METADATA_BYTES));
    }
    for field in ["attachError", "detachError"] {
        let Some(error) = present(status, field) else { continue };
        let at = path.child(field);
        if text(error, "message").len() > 1024 {
            // The number is the metadata's, as upstream's answer has it.
            errors.push(Error::too_long(&at.child("message"), METADATA_BYTES));
        }
        if let Some(code) = int(error, "errorCode").filter(|code| *code < 0) {
            let why = names::inclusive_range_error(0, i32::MAX.into());
            errors.push(Error::invalid(&at.child("errorCode"), code, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn volume_attachments() {
        let table = Table::new(
            "storage.k8s.io",
            "v1",
            "VolumeAttachment",
            json!({"spec": {"attacher": "myattacher", "nodeName": "mynode", "source": {"persistentVolumeName": "pv"}}}),
        );
        let spec = |patch: Value| json!({ "spec": patch });
        let inline = |patch: Value| {
            let mut volume = json!({"accessModes": ["ReadWriteOnce"],
                "csi": {"driver": "com.test.foo", "volumeHandle": "foobar"}});
            volume.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
            json!({"spec": {"source": {"persistentVolumeName": null, "inlineVolumeSpec": volume}}})
        };
        let status = |patch: Value| json!({ "status": patch });
        table.create(&[
            (spec(json!({"attacher": "MyAttacher"})), &[]),
            (spec(json!({"attacher": ""})), &["spec.attacher: Required"]),
            (spec(json!({"attacher": "invalid-@#$%^&*()-"})), &["spec.attacher: Invalid"]),
            (spec(json!({"attacher": "a".repeat(64)})), &["spec.attacher: TooLong"]),
            (spec(json!({"nodeName": ""})), &["spec.nodeName: Invalid"]),
            (spec(json!({"nodeName": "@#"})), &["spec.nodeName: Invalid"]),
            (spec(json!({"source": null})), &["spec.source: Required"]),
            (
                spec(json!({"source": {"persistentVolumeName": ""}})),
                &["spec.source.persistentVolumeName: Required", "spec.source.persistentVolumeName: Invalid"],
            ),
            (
                spec(json!({"source": {"persistentVolumeName": "a_b"}})),
                &["spec.source.persistentVolumeName: Invalid"],
            ),
            (spec(json!({"source": {"inlineVolumeSpec": {}}})), &["spec.source: Forbidden"]),
            (inline(json!({})), &[]),
            (
                inline(json!({"csi": null, "accessModes": null})),
                &[
                    "spec.source.inlineVolumeSpec.csi: Required",
                    "spec.source.inlineVolumeSpec.accessModes: Required",
                ],
            ),
            (
                inline(json!({"accessModes": ["x"]})),
                &["spec.source.inlineVolumeSpec.accessModes: NotSupported"],
            ),
            (
                inline(json!({"accessModes": ["ReadWriteOncePod", "ReadWriteMany"]})),
                &["spec.source.inlineVolumeSpec.accessModes: Forbidden"],
            ),
            (
                inline(json!({"capacity": {"storage": "1Gi"}})),
                &["spec.source.inlineVolumeSpec.capacity: Forbidden"],
            ),
            (
                inline(json!({"storageClassName": "s"})),
                &["spec.source.inlineVolumeSpec.storageClassName: Forbidden"],
            ),
            (inline(json!({"volumeMode": "Block"})), &["spec.source.inlineVolumeSpec.volumeMode: Forbidden"]),
            (
                inline(json!({"persistentVolumeReclaimPolicy": "Delete"})),
                &["spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden"],
            ),
            (
                inline(json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "A"}}})),
                &[
                    "spec.source.inlineVolumeSpec.csi.volumeHandle: Required",
                    "spec.source.inlineVolumeSpec.csi.nodePublishSecretRef.name: Invalid",
                    "spec.source.inlineVolumeSpec.csi.nodePublishSecretRef.namespace: Required",
                ],
            ),
            (
                status(json!({"attached": true, "attachmentMetadata": {"k": "v".repeat(256 * 1024)}})),
                &["status.attachmentMetadata: TooLong"],
            ),
            (
                status(json!({"attached": true, "attachError": {"message": "v".repeat(1025)}})),
                &["status.attachError.message: TooLong"],
            ),
            (
                status(json!({"attached": true, "detachError": {"errorCode": -1}})),
                &["status.detachError.errorCode: Invalid"],
            ),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (spec(json!({"attacher": "other"})), &["spec: Invalid"]),
            (spec(json!({"source": {"persistentVolumeName": "other"}})), &["spec: Invalid"]),
            (spec(json!({"nodeName": "other"})), &["spec: Invalid"]),
        ]);
        let named = status(json!({"attached": true, "attachError": {"message": "m"}}));
        table.change(&json!({}), &named, "status", &[]);
    }
}
