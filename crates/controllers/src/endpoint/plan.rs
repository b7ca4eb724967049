//! The Endpoints object that a Service should have.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use api::meta::v1::ObjectMeta;

use crate::context::name;
use crate::{pods, service_pods};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object, at most.
const CAPACITY: usize = 1000;

/// Ready and other addresses, each once.
type Addresses = [BTreeMap<(String, Option<String>), EndpointAddress>; 2];
type Port = (Option<String>, Option<String>, i32, Option<String>);

/// The object to write; `None` if `current` is right.
pub(super) fn plan(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Option<Endpoints> {
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service_pods::HEADLESS);
    if !service_pods::has_cluster_ip(service) {
        labels.insert(service_pods::HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    let mut wanted = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: Some(name(service).into()),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    let same = current.is_some_and(|current| {
        let before = current.subsets.as_deref().unwrap_or_default();
        before == wanted.subsets.as_deref().unwrap_or_default() && current.metadata == wanted.metadata
    });
    (!same).then_some(wanted)
}

/// One subset for each set of ports, with the addresses that have just these.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let publish = service_pods::publishes_not_ready(service);
    let v6 = spec.ip_families.iter().flatten().next().is_some_and(|family| family == "IPv6");
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let service_ports = spec.ports.as_deref().unwrap_or_default();
    let mut by_ports: BTreeMap<Vec<Port>, Addresses> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| service_pods::has_place(pod, publish)) {
        let Some(ip) = service_pods::addresses(pod, v6).into_iter().next() else { continue };
        let port = |port: &api::core::v1::ServicePort| -> Option<Port> {
            let number = service_pods::find_port(pod, port)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some((port.name.clone(), Some(protocol), number, port.app_protocol.clone()))
        };
        let mut ports: Vec<Port> = service_ports.iter().filter_map(port).collect();
        if ports.is_empty() && !(service_ports.is_empty() && headless) {
            continue;
        }
        ports.sort();
        let address = EndpointAddress {
            ip: ip.clone(),
            hostname: service_pods::hostname(pod, service),
            node_name: Some(pods::node_name(pod)).filter(|name| !name.is_empty()).map(Into::into),
            target_ref: Some(service_pods::target(pod)),
        };
        let place = usize::from(!(publish || pods::is_ready(pod)));
        by_ports.entry(ports).or_default()[place].insert((ip, pod.metadata.uid.clone()), address);
    }
    by_ports
        .into_iter()
        .map(|(ports, [ready, not_ready])| {
            let list = |map: BTreeMap<_, EndpointAddress>| -> Option<Vec<EndpointAddress>> {
                (!map.is_empty()).then(|| map.into_values().collect())
            };
            let port = |(name, protocol, port, app_protocol): Port| EndpointPort {
                name: name.filter(|name| !name.is_empty()),
                port,
                protocol,
                app_protocol,
            };
            EndpointSubset {
                addresses: list(ready),
                not_ready_addresses: list(not_ready),
                ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
            }
        })
        .collect()
}

/// Cuts to the capacity, ready addresses last.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let mut room = CAPACITY;
    let mut cut = false;
    let mut keep = |addresses: &mut Option<Vec<EndpointAddress>>| {
        let Some(list) = addresses else { return };
        cut |= list.len() > room;
        list.truncate(room);
        room -= list.len();
        if list.is_empty() {
            *addresses = None;
        }
    };
    subsets.iter_mut().for_each(|subset| keep(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| keep(&mut subset.not_ready_addresses));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service() -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n", "labels": {"x": "y"}},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"a": "b"}, "ports": [
                {"name": "http", "port": 80, "targetPort": "web"}, {"name": "dbg", "port": 81, "targetPort": 81}]}}))
        .unwrap()
    }

    fn pod(number: usize, ready: bool, named: bool) -> Arc<Pod> {
        let ports = if named { json!([{"name": "web", "containerPort": 8080}]) } else { json!([]) };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number}")},
                "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", number / 250, number % 250),
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn brief(endpoints: &Endpoints) -> Value {
        let ips = |list: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            list.iter().flatten().map(|a| a.ip.clone()).collect()
        };
        let subsets = endpoints.subsets.iter().flatten().map(|subset| {
            let ports: Vec<_> = subset
                .ports
                .iter()
                .flatten()
                .map(|p| format!("{}:{}", p.name.clone().unwrap(), p.port))
                .collect();
            json!([ports, ips(&subset.addresses), ips(&subset.not_ready_addresses)])
        });
        subsets.collect()
    }

    #[test]
    fn subsets_by_ports() {
        let pods = [pod(1, true, true), pod(2, false, true), pod(3, true, false)];
        let made = plan(&service(), &pods, None).unwrap();
        assert_eq!(
            brief(&made),
            json!([[["dbg:81"], ["10.1.0.3"], []], [["dbg:81", "http:8080"], ["10.1.0.1"], ["10.1.0.2"]]])
        );
        assert_eq!(
            serde_json::to_value(&made.metadata.labels).unwrap(),
            json!({"x": "y", "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
        );
        assert!(plan(&service(), &pods, Some(&made)).is_none());
        assert!(plan(&service(), &pods[1..], Some(&made)).is_some());
    }

    #[test]
    fn capacity() {
        let mut pods: Vec<_> = (0..1005).map(|n| pod(n, true, true)).collect();
        pods.push(pod(2000, false, true));
        let made = plan(&service(), &pods, None).unwrap();
        let subset = &made.subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap().len(), 1000);
        assert_eq!(subset.not_ready_addresses, None);
        assert_eq!(made.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}
