//! A pod keeps others away from its node only, not from a whole zone (upstream `plugin/pkg/admission/antiaffinity`).
//! Off by default.

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, is_pod, items, text};

const HOST: &str = "kubernetes.io/hostname";

pub fn validate(_: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    if !is_pod(a) || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let mut terms =
        items(pod, "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution")
            .map(|term| text(term, "/topologyKey"));
    match terms.find(|key| *key != HOST) {
        None => Ok(()),
        Some(key) => {
            let why = format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOST} is allowed"
            );
            Err(Status::forbidden(a.group, a.resource, text(pod, "/metadata/name"), why))
        }
    }
}
