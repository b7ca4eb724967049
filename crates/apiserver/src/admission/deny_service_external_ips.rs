//! No Service takes addresses of the outside that it had not before (upstream
//! `plugin/pkg/admission/network/denyserviceexternalips`). Off by default.

use apimachinery::status::Status;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_about, items};

pub fn validate(_: &View<'_>, a: &AdmissionAttributes<'_>, service: &Value) -> Result<(), Status> {
    if !is_about(a, "", "services", "") || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let is_known = |ip: &Value| a.old.is_some_and(|old| items(old, "/spec/externalIPs").any(|o| o == ip));
    if items(service, "/spec/externalIPs").all(is_known) {
        return Ok(());
    }
    Err(forbidden(a, service, "Use of external IPs is denied by admission control"))
}
