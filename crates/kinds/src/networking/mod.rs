//! The group `networking.k8s.io`.

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{messages, present, subdomain, text};
use crate::strategy::Strategy;

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "Ingress" => &ingress::STRATEGY,
        "IngressClass" => &ingress_class::STRATEGY,
        "IPAddress" => &ip_address::STRATEGY,
        "NetworkPolicy" => &network_policy::STRATEGY,
        "ServiceCIDR" => &service_cidr::STRATEGY,
        _ => return None,
    })
}

/// A part of a path that must be there.
fn required_segment(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    match text(object, field) {
        "" => errors.push(Error::required(&path.child(field), "")),
        value => segment(value, &path.child(field), errors),
    }
}

fn segment(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    messages(names::is_path_segment_name(value), &value.into(), path, errors);
}

/// Group, kind and name of an object somewhere else.
fn typed_reference(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(group) = present(reference, "apiGroup").and_then(Value::as_str) {
        subdomain(group, &path.child("apiGroup"), errors);
    }
    required_segment(reference, "kind", path, errors);
    required_segment(reference, "name", path, errors);
}
