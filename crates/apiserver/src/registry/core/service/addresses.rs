//! The objects behind the addresses of Services: IPAddress, one for each address, and ServiceCIDR, where they come
//! from (KEP-1880; upstream's `registry/core/service/ipallocator`).

use std::net::IpAddr;

use apimachinery::{schema::Resource, status::Status};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Addresses, Cidr, Reservation, family, held_addresses};
use crate::{
    handlers::options::WriteOptions,
    registry::{generic::Scope, meta},
    server::ApiServer,
    storage::{self, Beside},
};

/// Whose IPAddresses are ours to make and to delete.
pub const MANAGED_BY: &str = "ipallocator.k8s.io";
/// The ServiceCIDR that stands for `--service-cluster-ip-range`.
pub const DEFAULT: &str = "kubernetes";
pub const GROUP: &str = "networking.k8s.io";

/// Both kinds; `None` where they are not known.
pub fn resources() -> Option<(&'static Resource, &'static Resource)> {
    Some((api::resource(GROUP, "v1", "ipaddresses")?, api::resource(GROUP, "v1", "servicecidrs")?))
}

/// There is an IPAddress of this address.
pub fn is_listed(server: &ApiServer, address: &IpAddr) -> bool {
    let Some((addresses, _)) = resources() else { return false };
    server.storage.get(addresses, "", &address.to_string()).is_ok_and(|found| found.is_some())
}

/// The ranges to allocate from.
pub fn ranges(server: &ApiServer) -> Vec<Cidr> {
    let stored = resources().map(|(_, cidrs)| server.storage.kept_all(cidrs, "")).unwrap_or_default();
    usable(stored.iter().map(|object| &**object), &server.settings.service_cidrs)
}

/// The ranges of all ServiceCIDRs that are ready and stay, the default's first; `configured` as long as there
/// is no default.
fn usable<'a>(stored: impl Iterator<Item = &'a Value>, configured: &[Cidr]) -> Vec<Cidr> {
    let mut stored: Vec<&Value> = stored.collect();
    stored.sort_by_key(|object| (meta::name(object) != DEFAULT, meta::name(object).to_owned()));
    let mut ranges = match stored.first() {
        Some(first) if meta::name(first) == DEFAULT => Vec::new(),
        _ => configured.to_vec(),
    };
    for object in stored.into_iter().filter(|object| is_ready(object)) {
        ranges.extend(cidrs(object).filter(|cidr| cidr.address.is_ipv4() || cidr.prefix >= 64));
    }
    ranges
}

/// `spec.cidrs`.
pub fn cidrs(object: &Value) -> impl Iterator<Item = Cidr> + '_ {
    object["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(|c| c.as_str()?.parse().ok())
}

/// Without a condition it counts as ready: the controller that sets it may not run.
fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    ready.is_none_or(|ready| ready["status"] == "True") && !meta::is_being_deleted(object)
}

/// The IPAddress of an address that this Service holds.
pub fn object(address: &IpAddr, namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": address.to_string(), "labels": labels(address)},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    })
}

pub(super) fn labels(address: &IpAddr) -> Value {
    json!({
        "ipaddress.kubernetes.io/ip-family": family(address),
        "ipaddress.kubernetes.io/managed-by": MANAGED_BY,
    })
}

/// What is written together with a Service: the IPAddresses that it takes come, those that it gives up go.
///
/// # Errors
/// 500 for what cannot be encoded.
pub fn beside_write(scope: &Scope<'_>, service: &Value, reservation: &Reservation) -> Result<Beside, Status> {
    let (taken, given_up) = reservation.changes();
    let mut beside = Beside::default();
    let Some((resource, _)) = resources() else { return Ok(beside) };
    for address in taken {
        let name = address.to_string();
        let mut object = object(address, meta::namespace(service), meta::name(service));
        meta::fill_system_fields(&mut object, scope.server.clock.now(), &*scope.server.entropy);
        // The server's own client makes it, upstream.
        let own = Scope {
            user_agent: "kube-apiserver",
            verb: "create",
            resource,
            subresource: "",
            kind: &resource.kind,
            namespace: "",
            name: &name,
            ..*scope
        };
        own.manage_fields(None, &mut object, &WriteOptions::default());
        beside.create.push((storage::key(resource, "", &name)?, storage::encode(resource, &mut object)?));
    }
    beside.delete = keys(resource, given_up);
    Ok(beside)
}

/// What goes together with a Service.
pub fn beside_delete(service: &Value) -> Vec<Bytes> {
    resources().map(|(resource, _)| keys(resource, &held_addresses(service))).unwrap_or_default()
}

fn keys(resource: &Resource, addresses: &[IpAddr]) -> Vec<Bytes> {
    addresses.iter().filter_map(|address| storage::key(resource, "", &address.to_string()).ok()).collect()
}

/// Looks at what is stored, for an allocation.
pub fn look<T>(server: &ApiServer, allocate: impl FnOnce(&Addresses<'_>) -> T) -> T {
    let listed = |address: &IpAddr| is_listed(server, address);
    allocate(&Addresses { ranges: ranges(server), listed: &listed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_ranges() {
        let cidr = |name: &str, cidrs: &[&str], rest: Value| {
            let mut object = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}, "status": {}});
            object["status"]["conditions"] = rest;
            object
        };
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let not = json!([{"type": "Ready", "status": "False"}]);
        let mut going = cidr("b", &["10.3.0.0/24"], ready.clone());
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let all = [
            cidr("a", &["10.1.0.0/24", "fd00::/112"], ready.clone()),
            cidr("aa", &["10.2.0.0/24", "fd00::/48"], Value::Null),
            going,
            cidr("c", &["10.4.0.0/24"], not),
            cidr("kubernetes", &["10.9.0.0/24"], ready),
        ];
        let configured: Vec<Cidr> = vec!["10.8.0.0/24".parse().unwrap()];
        for (stored, expect) in [
            (&all[..], "10.9.0.0/24 10.1.0.0/24 fd00::/112 10.2.0.0/24"),
            (&all[..1], "10.8.0.0/24 10.1.0.0/24 fd00::/112"),
            (&[], "10.8.0.0/24"),
        ] {
            let got: Vec<String> = usable(stored.iter(), &configured).iter().map(Cidr::to_string).collect();
            assert_eq!(got.join(" "), expect);
        }
    }
}
