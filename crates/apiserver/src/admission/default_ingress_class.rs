//! An Ingress without a class gets the default one (upstream `plugin/pkg/admission/network/defaultingressclass`).

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, text};

const GROUP: &str = "networking.k8s.io";

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, ingress: &mut Value) -> Result<(), Status> {
    if a.group != GROUP
        || a.resource != "ingresses"
        || !a.subresource.is_empty()
        || a.operation != Operation::Create
        || !ingress["spec"]["ingressClassName"].is_null()
        || super::has_annotation(ingress, "kubernetes.io/ingress.class")
    {
        return Ok(());
    }
    let class = (view.list)(GROUP, "ingressclasses", "")
        .into_iter()
        .filter(|c| c["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"] == "true")
        .min_by_key(|c| {
            let created = text(c, "/metadata/creationTimestamp").to_owned();
            (std::cmp::Reverse(created), text(c, "/metadata/name").to_owned())
        });
    if let Some(class) = class {
        ingress["spec"]["ingressClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}
