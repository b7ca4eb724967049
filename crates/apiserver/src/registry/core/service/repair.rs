//! Services and IPAddresses agree: rules of upstream's `ipallocator/controller/repairip.go`. The plan is pure;
//! [`keep`] carries it out at start and, when something has changed, some time later.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use apimachinery::status::Status;
use etcd::{KeyRange, Watch};
use futures::{FutureExt as _, stream::StreamExt as _};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    Cidr,
    addresses::{self, MANAGED_BY},
    held_addresses,
};
use crate::{registry::meta, request::UserInfo, server::ApiServer, storage};

/// Who makes a Service on another server has made its IPAddress before; so long it may take at most.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Changes are looked at after this time, all that have come by then at once (upstream's resync).
const DELAY: Duration = Duration::from_secs(180);
const PATH: &str = "/apis/networking.k8s.io/v1/ipaddresses";

/// A step that mends something.
#[derive(Clone, Debug, PartialEq)]
pub enum Repair {
    Create(Value),
    /// What is there says something else, and cannot be changed.
    Recreate(Value),
    Delete(String),
}

/// What is wrong. `stored` are all IPAddresses, `ranges` those of all ServiceCIDRs, ready or not.
pub fn plan(services: &[Value], stored: &[Value], ranges: &[Cidr], now: Timestamp) -> Vec<Repair> {
    let by_name: BTreeMap<&str, &Value> = stored.iter().map(|object| (meta::name(object), object)).collect();
    let by_key: BTreeMap<(&str, &str), &Value> =
        services.iter().map(|service| ((meta::namespace(service), meta::name(service)), service)).collect();
    let mut repairs = Vec::new();
    for service in services {
        for address in held_addresses(service) {
            if !ranges.iter().any(|cidr| cidr.contains(&address)) {
                tracing::warn!(
                    service = meta::name(service), namespace = meta::namespace(service), %address,
                    "the address is in no ServiceCIDR; make the Service anew"
                );
                continue;
            }
            let wanted = addresses::object(&address, meta::namespace(service), meta::name(service));
            let Some(found) = by_name.get(address.to_string().as_str()) else {
                repairs.push(Repair::Create(wanted));
                continue;
            };
            let parent = &found["spec"]["parentRef"];
            let key = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (key(&parent["namespace"]), key(&parent["name"]));
            if is_of_service(found) && (namespace.as_str(), name.as_str()) != key_of(service) {
                // Two Services with one address: one of them keeps it.
                let other = by_key.get(&(namespace.as_str(), name.as_str()));
                if other.is_some_and(|other| held_addresses(other).contains(&address)) {
                    tracing::warn!(
                        service = meta::name(service), namespace = meta::namespace(service), %address,
                        "the address belongs to another Service; make this one anew"
                    );
                    continue;
                }
            } else if is_of_service(found) && is_labelled(found, &address) {
                continue;
            }
            repairs.push(Repair::Recreate(wanted));
        }
    }
    for object in stored.iter().filter(|object| is_managed(object)) {
        let parent = &object["spec"]["parentRef"];
        let text = |key: &str| parent[key].as_str().unwrap_or_default();
        let service = by_key.get(&(text("namespace"), text("name")));
        let held = service.is_some_and(|service| {
            held_addresses(service).iter().any(|address| address.to_string() == meta::name(object))
        });
        let made = meta::text(object, "creationTimestamp").parse::<Timestamp>();
        let old = made.is_ok_and(|made| now.duration_since(made) > GRACE);
        let wanted = repairs.iter().any(|repair| match repair {
            Repair::Recreate(wanted) => meta::name(wanted) == meta::name(object),
            _ => false,
        });
        if !wanted && (!is_of_service(object) || !held && old) {
            repairs.push(Repair::Delete(meta::name(object).to_owned()));
        }
    }
    repairs
}

fn key_of(service: &Value) -> (&str, &str) {
    (meta::namespace(service), meta::name(service))
}

fn is_of_service(object: &Value) -> bool {
    let parent = &object["spec"]["parentRef"];
    parent["group"].as_str().unwrap_or_default().is_empty() && parent["resource"] == "services"
}

fn is_managed(object: &Value) -> bool {
    object["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"] == MANAGED_BY
}

fn is_labelled(object: &Value, address: &IpAddr) -> bool {
    let wanted = addresses::labels(address);
    wanted.as_object().is_some_and(|labels| {
        labels.iter().all(|(key, value)| object["metadata"]["labels"].get(key) == Some(value))
    })
}

/// Mends everything once.
///
/// # Errors
/// The first write that was refused for another reason than that somebody else was faster.
pub async fn once(server: &Arc<ApiServer>) -> Result<(), Status> {
    let Some((resource, cidrs)) = addresses::resources() else { return Ok(()) };
    let Some(services) = api::resource("", "v1", "services") else { return Ok(()) };
    let storage = &server.storage;
    let stored = storage.read_all(resource, "");
    let mut ranges = server.settings.service_cidrs.clone();
    ranges.extend(
        storage.kept_all(cidrs, "").iter().flat_map(|object| addresses::cidrs(object).collect::<Vec<_>>()),
    );
    let repairs = plan(&storage.read_all(services, ""), &stored, &ranges, server.clock.now());
    let mut done = futures::stream::iter(repairs).map(|repair| mend(server, repair)).buffer_unordered(64);
    while let Some(result) = done.next().await {
        result?;
    }
    server.allocators.settle(|address| addresses::is_listed(server, address));
    Ok(())
}

async fn mend(server: &Arc<ApiServer>, repair: Repair) -> Result<(), Status> {
    let call = |method, path: String, body: Option<Value>| async move {
        match server.call(UserInfo::loopback(), method, &path, body.as_ref()).await {
            Err(status) if !(status.is_already_exists() || status.is_not_found()) => Err(status),
            _ => Ok(()),
        }
    };
    match repair {
        Repair::Create(object) => call(Method::POST, PATH.into(), Some(object)).await,
        Repair::Delete(name) => {
            tracing::warn!(name, "an IPAddress is of no Service; deleting it");
            call(Method::DELETE, format!("{PATH}/{name}"), None).await
        }
        Repair::Recreate(object) => {
            call(Method::DELETE, format!("{PATH}/{}", meta::name(&object)), None).await?;
            call(Method::POST, PATH.into(), Some(object)).await
        }
    }
}

/// Mends what has changed, until the server ends.
pub async fn keep(server: Arc<ApiServer>) {
    let ranges: Vec<KeyRange> = [("", "services"), (addresses::GROUP, "ipaddresses")]
        .into_iter()
        .filter_map(|(group, plural)| storage::range(api::resource(group, "v1", plural)?, "", None).ok())
        .collect();
    loop {
        let store = server.storage.store();
        let from = store.revision() + 1;
        let watch = |range: &KeyRange| store.watch(Watch::new(range.clone()).start_revision(from));
        let mut watches: Vec<_> = ranges.iter().map(watch).collect();
        let changed = futures::future::select_all(watches.iter_mut().map(|watch| watch.next().boxed()));
        let waited = async {
            changed.await;
            tokio::time::sleep(DELAY).await;
        };
        tokio::select! {
            biased;
            () = server.shutdown.cancelled() => return,
            () = waited => {}
        }
        drop(watches);
        if let Err(status) = once(&server).await {
            tracing::warn!(error = %status, "repairing the addresses of Services");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn service(name: &str, addresses: &[&str]) -> Value {
        json!({"metadata": {"name": name, "namespace": "n"},
            "spec": {"type": "ClusterIP", "clusterIPs": addresses}})
    }

    fn address(ip: &str, service: &str) -> Value {
        let mut object = addresses::object(&ip.parse().unwrap(), "n", service);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        object
    }

    fn check(services: &[Value], stored: &[Value], expect: &[&str]) {
        let ranges = ["10.0.0.0/24".parse().unwrap(), "fd00::/112".parse().unwrap()];
        let told: Vec<String> = plan(services, stored, &ranges, NOW.parse().unwrap())
            .into_iter()
            .map(|repair| match repair {
                Repair::Create(o) => format!("create {} {}", meta::name(&o), o["spec"]["parentRef"]["name"]),
                Repair::Recreate(o) => {
                    format!("recreate {} {}", meta::name(&o), o["spec"]["parentRef"]["name"])
                }
                Repair::Delete(name) => format!("delete {name}"),
            })
            .collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn plans() {
        let a = service("a", &["10.0.0.1", "fd00::1"]);
        let both = [address("10.0.0.1", "a"), address("fd00::1", "a")];
        check(std::slice::from_ref(&a), &both, &[]);
        check(std::slice::from_ref(&a), &both[..1], &["create fd00::1 \"a\""]);
        // Headless ones, those of no address and those outside every range want none.
        check(&[service("h", &["None"]), service("o", &["192.168.0.1"])], &[], &[]);
        check(
            &[json!({"metadata": {}, "spec": {"type": "ExternalName", "clusterIP": "10.0.0.1"}})],
            &[],
            &[],
        );
        // An IPAddress of something else, of a Service that is gone, or without our labels, is made anew.
        let one = service("a", &["10.0.0.1"]);
        let mut gateway = address("10.0.0.1", "a");
        gateway["spec"]["parentRef"]["resource"] = json!("gateways");
        let mut bare = address("10.0.0.1", "a");
        bare["metadata"]["labels"] = json!({});
        for stored in [gateway.clone(), address("10.0.0.1", "gone"), bare] {
            check(std::slice::from_ref(&one), &[stored], &["recreate 10.0.0.1 \"a\""]);
        }
        // Of two Services with one address the one that the IPAddress names keeps it.
        check(&[one.clone(), service("b", &["10.0.0.1"])], &[address("10.0.0.1", "b")], &[]);
        // Left behind: by nobody of ours, just now, some time ago, after an exchange.
        let mut other = address("10.0.0.9", "gone");
        other["metadata"]["labels"] = json!({"ipaddress.kubernetes.io/managed-by": "me"});
        let mut young = address("10.0.0.8", "gone");
        young["metadata"]["creationTimestamp"] = json!("2026-01-01T00:59:30Z");
        let stored = [other, young, address("10.0.0.7", "gone"), address("10.0.0.6", "h"), gateway];
        check(
            &[service("h", &["None"])],
            &stored,
            &["delete 10.0.0.7", "delete 10.0.0.6", "delete 10.0.0.1"],
        );
    }
}
