//! A claim grows only if its class lets it (upstream `plugin/pkg/admission/storage/persistentvolume/resize`).

use apimachinery::quantity::Quantity;
use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_about, text};

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, claim: &Value) -> Result<(), Status> {
    let about = a.operation == Operation::Update && is_about(a, "", "persistentvolumeclaims", "");
    let Some(old) = a.old.filter(|_| about) else { return Ok(()) };
    let size = |claim: &Value| {
        let size = claim.pointer("/spec/resources/requests/storage");
        size.and_then(|size| Quantity::from_value(size).ok()).unwrap_or_else(Quantity::zero)
    };
    if size(claim) <= size(old) {
        return Ok(());
    }
    if text(old, "/status/phase") != "Bound" {
        return Err(forbidden(a, claim, "Only bound persistent volume claims can be expanded"));
    }
    let (class, before) = (class_of(claim), class_of(old));
    let expands = |class: &str| {
        let class = (view.kept)("storage.k8s.io", "storageclasses", "", class);
        class.is_some_and(|class| class["allowVolumeExpansion"] == true)
    };
    if class.is_empty() || class != before || !expands(class) {
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                   support resize";
        return Err(forbidden(a, claim, why));
    }
    Ok(())
}

/// The class of a claim, by the old annotation or the field.
fn class_of(claim: &Value) -> &str {
    let beta = claim["metadata"]["annotations"].get("volume.beta.kubernetes.io/storage-class");
    beta.and_then(Value::as_str).unwrap_or_else(|| text(claim, "/spec/storageClassName"))
}
