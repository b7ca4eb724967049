//! A claim without a class gets the default one (upstream `plugin/pkg/admission/storage/storageclass`).

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, text};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const BETA_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, claim: &mut Value) -> Result<(), Status> {
    if !a.group.is_empty()
        || a.resource != "persistentvolumeclaims"
        || !a.subresource.is_empty()
        || a.operation != Operation::Create
        || super::has_annotation(claim, BETA_CLASS)
        || !claim["spec"]["storageClassName"].is_null()
    {
        return Ok(());
    }
    let is_default = |class: &std::sync::Arc<Value>| {
        let annotations = &class["metadata"]["annotations"];
        annotations[DEFAULT] == "true" || annotations[BETA_DEFAULT] == "true"
    };
    // Should there be several, the newest, then the first by name.
    let class =
        (view.list)("storage.k8s.io", "storageclasses", "").into_iter().filter(is_default).min_by_key(|c| {
            let created = text(c, "/metadata/creationTimestamp").to_owned();
            (std::cmp::Reverse(created), text(c, "/metadata/name").to_owned())
        });
    if let Some(class) = class {
        claim["spec"]["storageClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}
