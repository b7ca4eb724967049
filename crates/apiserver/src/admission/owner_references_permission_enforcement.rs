//! Who gives an object an owner must be allowed to delete the object, and who makes it hold up the owner's deletion
//! must be allowed to do that (upstream `plugin/pkg/admission/gc`). Off by default.

use apimachinery::gvk;
use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, items, text};
use crate::authorization;

const OWNERS: &str = "/metadata/ownerReferences";

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &Value) -> Result<(), Status> {
    // Old kubelets write owners wrongly there; what they write is not taken.
    let is_pod_status = a.group.is_empty() && a.resource == "pods" && a.subresource == "status";
    let null = Value::Null;
    let old = a.old.unwrap_or(&null);
    if !matches!(a.operation, Operation::Create | Operation::Update)
        || is_pod_status
        || items(object, OWNERS).eq(items(old, OWNERS))
    {
        return Ok(());
    }
    let this = authorization::Attributes {
        is_resource: true,
        group: a.group,
        version: a.version,
        resource: a.resource,
        subresource: a.subresource,
        namespace: a.namespace,
        name: a.name,
        verb: "delete",
        ..Default::default()
    };
    if a.operation != Operation::Create && !(view.may)(&this) {
        return Err(forbidden(a, object, "cannot set an ownerRef on a resource you can't delete: , <nil>"));
    }
    let blocks = |owner: &Value| owner["blockOwnerDeletion"] == true;
    let blocked_before =
        |owner: &&Value| items(old, OWNERS).any(|known| known["uid"] == owner["uid"] && blocks(known));
    let newly: Vec<&Value> =
        items(object, OWNERS).filter(|owner| blocks(owner)).filter(|owner| !blocked_before(owner)).collect();
    let anything = authorization::Attributes {
        is_resource: true,
        verb: "update",
        group: "*",
        version: "*",
        resource: "*",
        subresource: "finalizers",
        name: "*",
        ..Default::default()
    };
    if newly.is_empty() || (view.may)(&anything) {
        return Ok(());
    }
    for owner in newly {
        let (api_version, kind) = (text(owner, "/apiVersion"), text(owner, "/kind"));
        let (group, version) = gvk::split(api_version).unwrap_or((api_version, ""));
        let found = api::resources()
            .iter()
            .find(|r| r.group == group && r.version == version && r.kind == kind && r.storage.is_some());
        let Some(resource) = found else {
            return Err(forbidden(
                a,
                object,
                format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                     {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
                ),
            ));
        };
        let of_owner = authorization::Attributes {
            group,
            version,
            resource: &resource.plural,
            name: text(owner, "/name"),
            namespace: if resource.namespaced { a.namespace } else { "" },
            ..anything
        };
        if !(view.may)(&of_owner) {
            let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
                       finalizers on: , <nil>";
            return Err(forbidden(a, object, why));
        }
    }
    Ok(())
}
