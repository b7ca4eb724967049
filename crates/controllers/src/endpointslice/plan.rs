//! Which slices a Service should have, given its pods and the slices that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::v1::{Node, Pod, Service};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use api::meta::v1::ObjectMeta;

use crate::context::{name, uid};
use crate::{owners, pods, service_pods};

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Endpoints in one slice, at most.
const MAX: usize = 100;

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
    /// Pods that were left out because their node is not known (yet).
    pub(super) left_out: Vec<String>,
}

/// Ports as they tell groups of slices apart.
type Ports = Vec<(Option<String>, Option<String>, Option<i32>, Option<String>)>;
/// Endpoints by what makes them the same endpoint: addresses, pod, host name.
type Endpoints = BTreeMap<(Vec<String>, Option<String>, Option<String>, Option<String>), Endpoint>;

/// `existing` are the slices of this Service that this controller manages.
pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    existing: &[Arc<EndpointSlice>],
) -> Plan {
    let mut plan = Plan::default();
    let families = families(service);
    for slice in existing {
        if !families.contains(slice.address_type.as_str()) {
            plan.delete.push(slice.clone());
        }
    }
    for family in families {
        let of_family: Vec<_> = existing.iter().filter(|s| s.address_type == family).cloned().collect();
        plan_family(service, pods, &node, &of_family, family, &mut plan);
    }
    plan
}

fn plan_family(
    service: &Service,
    pods: &[Arc<Pod>],
    node: &impl Fn(&str) -> Option<Arc<Node>>,
    existing: &[Arc<EndpointSlice>],
    family: &str,
    plan: &mut Plan,
) {
    let mut own: BTreeMap<Ports, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    let mut delete = Vec::new();
    for slice in existing {
        let owned = slice.metadata.owner_references.iter().flatten().any(|o| o.uid == uid(service));
        if owned {
            own.entry(port_key(slice.ports.as_deref())).or_default().push(slice.clone());
        } else {
            delete.push(slice.clone());
        }
    }
    let mut wanted: BTreeMap<Ports, (Vec<EndpointPort>, Endpoints)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| service_pods::has_place(pod, true)) {
        let ports = ports(service, pod);
        let group = wanted.entry(port_key(Some(&ports))).or_insert_with(|| (ports, Endpoints::new()));
        let found = node(pods::node_name(pod));
        if found.is_none() && !service_pods::publishes_not_ready(service) {
            plan.left_out.push(name(&**pod).to_owned());
            continue;
        }
        let endpoint = endpoint(service, pod, found.as_deref(), family);
        if !endpoint.addresses.is_empty() {
            group.1.insert(endpoint_key(&endpoint), endpoint);
        }
    }
    let (mut create, mut update) = (Vec::new(), Vec::new());
    for (key, (ports, endpoints)) in wanted {
        let slices = own.remove(&key).unwrap_or_default();
        let group = Group { service, family, ports };
        group.plan(slices, endpoints, &mut create, &mut update, &mut delete);
    }
    delete.extend(own.into_values().flatten());
    if existing.len() == delete.len() && create.is_empty() {
        // A Service without endpoints keeps one empty slice, so that consumers know that there are none.
        let empty = Group { service, family, ports: Vec::new() }.fresh();
        match delete.as_slice() {
            [one] if is_placeholder(one, &empty) => delete.clear(),
            _ => create.push(empty),
        }
    }
    // Rather than to delete one and create another, one is given the other's content.
    while let Some(place) = delete
        .iter()
        .position(|s| s.metadata.owner_references.iter().flatten().any(|o| o.uid == uid(service)))
        && let Some(mut slice) = create.pop()
    {
        let old = delete.remove(place);
        slice.metadata.name = old.metadata.name.clone();
        slice.metadata.generate_name = old.metadata.generate_name.clone();
        slice.metadata.resource_version = old.metadata.resource_version.clone();
        update.push(slice);
    }
    if service.metadata.deletion_timestamp.is_none() {
        plan.create.append(&mut create);
    }
    plan.update.append(&mut update);
    plan.delete.append(&mut delete);
}

fn is_placeholder(slice: &EndpointSlice, empty: &EndpointSlice) -> bool {
    let owned = slice.metadata.owner_references == empty.metadata.owner_references;
    owned
        && slice.endpoints.iter().flatten().next().is_none()
        && slice.ports.iter().flatten().next().is_none()
        && slice.metadata.labels == empty.metadata.labels
}

/// Slices of one Service, address family and set of ports.
struct Group<'a> {
    service: &'a Service,
    family: &'a str,
    ports: Vec<EndpointPort>,
}

impl Group<'_> {
    /// Changes as few slices as possible: first what is gone goes and what changed changes, then new endpoints
    /// fill slices that are written anyway, then one that has room for all of them, then new ones.
    fn plan(
        &self,
        slices: Vec<Arc<EndpointSlice>>,
        mut wanted: Endpoints,
        create: &mut Vec<EndpointSlice>,
        update: &mut Vec<EndpointSlice>,
        delete: &mut Vec<Arc<EndpointSlice>>,
    ) {
        let (mut changed, mut unchanged): (Vec<EndpointSlice>, Vec<Arc<EndpointSlice>>) = Default::default();
        for slice in slices {
            let before = slice.endpoints.as_deref().unwrap_or_default();
            let kept: Vec<Endpoint> =
                before.iter().filter_map(|endpoint| wanted.remove(&endpoint_key(endpoint))).collect();
            let labels = Some(labels(self.service));
            if kept.is_empty() && !before.is_empty() {
                delete.push(slice);
            } else if kept != before || slice.metadata.labels != labels {
                let mut next = EndpointSlice::clone(&slice);
                next.endpoints = Some(kept);
                next.metadata.labels = labels;
                changed.push(next);
            } else {
                unchanged.push(slice);
            }
        }
        let mut wanted: Vec<Endpoint> = wanted.into_values().rev().collect();
        let count = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
        let fill = |slice: &mut EndpointSlice, wanted: &mut Vec<Endpoint>| {
            let endpoints = slice.endpoints.get_or_insert_default();
            while endpoints.len() < MAX
                && let Some(endpoint) = wanted.pop()
            {
                endpoints.push(endpoint);
            }
        };
        changed.sort_by_key(|slice| std::cmp::Reverse(count(slice)));
        changed.iter_mut().for_each(|slice| fill(slice, &mut wanted));
        while !wanted.is_empty() {
            let fits = |slice: &Arc<EndpointSlice>| wanted.len() < MAX && count(slice) + wanted.len() <= MAX;
            let places = unchanged.iter().enumerate().filter(|(_, slice)| fits(slice));
            let fullest = places.max_by_key(|(_, slice)| count(slice)).map(|(place, _)| place);
            match fullest {
                Some(place) => {
                    let mut next = EndpointSlice::clone(&unchanged.remove(place));
                    fill(&mut next, &mut wanted);
                    changed.push(next);
                }
                None => {
                    let mut slice = self.fresh();
                    fill(&mut slice, &mut wanted);
                    create.push(slice);
                }
            }
        }
        update.append(&mut changed);
    }

    fn fresh(&self) -> EndpointSlice {
        EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", name(self.service))),
                namespace: self.service.metadata.namespace.clone(),
                labels: Some(labels(self.service)),
                owner_references: Some(vec![owners::controller_ref(self.service)]),
                ..ObjectMeta::default()
            },
            address_type: self.family.to_owned(),
            ports: Some(self.ports.clone()),
            endpoints: Some(Vec::new()),
        }
    }
}

/// The Service's labels and those that tell whose and what the slice is.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service_pods::HEADLESS);
    if !service_pods::has_cluster_ip(service) {
        labels.insert(service_pods::HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), name(service).into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn families(service: &Service) -> BTreeSet<&'static str> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    let families: BTreeSet<_> = named
        .iter()
        .filter(|f| matches!(f.as_str(), "IPv4" | "IPv6"))
        .map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" })
        .collect();
    if !families.is_empty() {
        return families;
    }
    match spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default() {
        "" | "None" => BTreeSet::from(["IPv4", "IPv6"]),
        ip if ip.contains(':') => BTreeSet::from(["IPv6"]),
        _ => BTreeSet::from(["IPv4"]),
    }
}

fn port_key(ports: Option<&[EndpointPort]>) -> Ports {
    let one = |p: &EndpointPort| (p.name.clone(), p.protocol.clone(), p.port, p.app_protocol.clone());
    let mut key: Ports = ports.unwrap_or_default().iter().map(one).collect();
    key.sort();
    key
}

fn endpoint_key(endpoint: &Endpoint) -> (Vec<String>, Option<String>, Option<String>, Option<String>) {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (addresses, target, endpoint.hostname.clone(), endpoint.node_name.clone())
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(service_pods::find_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, family: &str) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone"));
    Endpoint {
        addresses: service_pods::addresses(pod, family == "IPv6"),
        conditions: Some(EndpointConditions {
            ready: Some(service_pods::publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service_pods::hostname(pod, service),
        node_name: Some(pods::node_name(pod)).filter(|name| !name.is_empty()).map(Into::into),
        target_ref: Some(service_pods::target(pod)),
        zone: zone.filter(|zone| !zone.is_empty()).cloned(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(extra: Value) -> Service {
        let mut value = json!({"metadata": {"name": "s", "namespace": "n", "uid": "su", "labels": {"x": "y"}},
            "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"a": "b"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}});
        for (key, entry) in extra.as_object().unwrap() {
            value["spec"][key] = entry.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn pod(number: usize, ready: bool, port: i32) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number:04}")},
                "spec": {"nodeName": "node", "hostname": "h", "subdomain": "s",
                    "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}]},
                "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", number / 250, number % 250),
                    "podIPs": [{"ip": format!("10.1.{}.{}", number / 250, number % 250)}],
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn node(_: &str) -> Option<Arc<Node>> {
        let node = json!({"metadata": {"name": "node", "labels": {"topology.kubernetes.io/zone": "z"}}});
        Some(Arc::new(serde_json::from_value(node).unwrap()))
    }

    /// Applies a plan as the API server would.
    fn apply(plan: Plan, slices: &mut Vec<Arc<EndpointSlice>>, next: &mut usize) {
        slices.retain(|slice| !plan.delete.iter().any(|gone| gone.metadata.name == slice.metadata.name));
        for changed in plan.update {
            let place = slices.iter_mut().find(|slice| slice.metadata.name == changed.metadata.name);
            *place.unwrap() = Arc::new(changed);
        }
        for mut made in plan.create {
            *next += 1;
            made.metadata.name = Some(format!("s-{next}"));
            slices.push(Arc::new(made));
        }
    }

    fn text(plan: &Plan) -> String {
        let sizes = |slices: &[EndpointSlice]| -> Vec<usize> {
            slices.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect()
        };
        format!("+{:?} ~{:?} -{}", sizes(&plan.create), sizes(&plan.update), plan.delete.len())
    }

    #[test]
    fn slices_over_time() {
        let service = service(json!({}));
        let (mut slices, mut next) = (Vec::new(), 0);
        let mut step = |pods: &[Arc<Pod>], expect: &str| {
            let plan = plan(&service, pods, node, &slices);
            assert_eq!(text(&plan), expect);
            apply(plan, &mut slices, &mut next);
            let settled = super::plan(&service, pods, node, &slices);
            assert_eq!(text(&settled), "+[] ~[] -0", "not settled after {expect}");
        };
        let pods = |range: std::ops::Range<usize>| range.map(|n| pod(n, true, 80)).collect::<Vec<_>>();
        step(&[], "+[0] ~[] -0");
        step(&pods(0..3), "+[] ~[3] -0");
        step(&pods(0..150), "+[100] ~[50] -0");
        step(&pods(1..151), "+[] ~[50] -0");
        step(&pods(1..151).into_iter().chain([pod(200, true, 8080)]).collect::<Vec<_>>(), "+[1] ~[] -0");
        step(&pods(1..2), "+[] ~[1] -2");
        step(&[], "+[] ~[0] -0");
    }

    #[test]
    fn the_content_of_a_slice() {
        let plan = plan(&service(json!({"clusterIP": "None"})), &[pod(1, false, 8080)], node, &[]);
        assert_eq!(
            serde_json::to_value(&plan.create[0]).unwrap(),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"generateName": "s-", "namespace": "n",
                    "labels": {"x": "y", "kubernetes.io/service-name": "s", "service.kubernetes.io/headless": "",
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "s", "uid": "su",
                        "controller": true, "blockOwnerDeletion": true}]},
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["10.1.0.1"], "hostname": "h", "nodeName": "node", "zone": "z",
                    "conditions": {"ready": false, "serving": false, "terminating": false},
                    "targetRef": {"kind": "Pod", "namespace": "n", "name": "p1", "uid": "u0001"}}]})
        );
    }

    #[test]
    fn conditions() {
        let check = |publish: bool, ready: bool, terminating: bool, expect: [bool; 3]| {
            let mut pod = Pod::clone(&pod(1, ready, 80));
            pod.metadata.deletion_timestamp =
                terminating.then_some(api::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
            let service = service(json!({"publishNotReadyAddresses": publish}));
            let plan = plan(&service, &[Arc::new(pod)], node, &[]);
            let conditions = plan.create[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
            let got = [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap);
            assert_eq!(got, expect);
        };
        check(false, true, false, [true, true, false]);
        check(false, true, true, [false, true, true]);
        check(false, false, false, [false, false, false]);
        check(true, false, true, [true, false, true]);
    }

    #[test]
    fn pods_without_a_node_wait() {
        let plan = plan(&service(json!({})), &[pod(1, true, 80)], |_: &str| None, &[]);
        assert_eq!(plan.left_out, ["p1"]);
        assert_eq!(text(&plan), "+[0] ~[] -0");
    }
}
