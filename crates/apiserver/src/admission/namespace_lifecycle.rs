//! Nothing is made in a namespace that does not exist or is going away, and three namespaces stay (upstream
//! `admission/plugin/namespace/lifecycle`).

use apimachinery::status::{Cause, Status};
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden};

const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &mut Value) -> Result<(), Status> {
    let is_namespace = a.group.is_empty() && a.resource == "namespaces";
    if a.operation == Operation::Delete && is_namespace && IMMORTAL.contains(&a.name) {
        return Err(Status::forbidden(a.group, a.resource, a.name, "this namespace may not be deleted"));
    }
    if a.namespace.is_empty() || is_namespace || !matches!(a.operation, Operation::Create | Operation::Update)
    {
        return Ok(());
    }
    if a.group == "authorization.k8s.io" && a.resource == "localsubjectaccessreviews" {
        return Ok(());
    }
    let Some(phase) = (view.phase)(a.namespace) else {
        return Err(Status::not_found("", "namespaces", a.namespace));
    };
    if a.operation == Operation::Create && phase == "Terminating" {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            a.namespace
        );
        return Err(forbidden(a, object, why).with_cause(Cause {
            kind: "NamespaceTerminating".into(),
            message: format!("namespace {} is being terminated", a.namespace),
            field: "metadata.namespace".into(),
        }));
    }
    Ok(())
}

/// NamespaceExists, off by default: nothing is deleted either in a namespace that does not exist.
pub fn exists(view: &View<'_>, a: &AdmissionAttributes<'_>, _: &Value) -> Result<(), Status> {
    let is_namespace = a.group.is_empty() && a.resource == "namespaces";
    if a.namespace.is_empty()
        || is_namespace
        || a.operation == Operation::Connect
        || (view.phase)(a.namespace).is_some()
    {
        return Ok(());
    }
    Err(Status::not_found("", "namespaces", a.namespace))
}
