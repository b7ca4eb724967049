//! Volumes, claims and their attribute classes stay until nobody uses them: a finalizer that a controller takes off
//! (upstream `plugin/pkg/admission/storage/storageobjectinuseprotection`).

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, list_mut, map_mut};

pub fn mutate(_: &View<'_>, a: &AdmissionAttributes<'_>, object: &mut Value) -> Result<(), Status> {
    let finalizer = match (a.group, a.resource) {
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
        _ => return Ok(()),
    };
    if a.operation != Operation::Create || !a.subresource.is_empty() || map_mut(object, "metadata").is_none()
    {
        return Ok(());
    }
    if let Some(finalizers) = list_mut(&mut object["metadata"], "finalizers")
        && !finalizers.iter().any(|known| known == finalizer)
    {
        finalizers.push(finalizer.into());
    }
    Ok(())
}
