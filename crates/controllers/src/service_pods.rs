//! What Endpoints and EndpointSlices have in common: which pods a Service has, under which addresses and ports.

use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use api::intstr::IntOrString;
use client::{Event, Informer, Key, Store, WorkQueue, key_of};

use crate::context::{matches_set, name, namespace, uid};
use crate::pods;

/// The label of headless Services' endpoints.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// The pods that a Service selects; `None` if the Service looks after its endpoints otherwise.
pub(crate) fn selected(service: &Service, pods: &Store<Pod>) -> Option<Vec<Arc<Pod>>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let selector = spec.selector.as_ref()?;
    let mut found = pods.list_namespace(namespace(service));
    found.retain(|pod| matches_set(selector, pod.metadata.labels.as_ref()));
    Some(found)
}

/// Whether a pod can have a place among the endpoints.
pub(crate) fn has_place(pod: &Pod, while_terminating: bool) -> bool {
    let addressed = pod.status.as_ref().is_some_and(|status| {
        status.pod_ip.as_deref().is_some_and(|ip| !ip.is_empty())
            || status.pod_ips.iter().flatten().count() > 0
    });
    !pods::is_terminal(pod) && addressed && (while_terminating || pod.metadata.deletion_timestamp.is_none())
}

/// The pod's first address of a family.
pub(crate) fn addresses(pod: &Pod, v6: bool) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all: Vec<&str> = many.collect();
    if all.is_empty() {
        all.extend(status.pod_ip.as_deref());
    }
    let parsed = all.into_iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
    parsed.filter(|ip| ip.is_ipv6() == v6).map(|ip| ip.to_string()).collect()
}

/// The pod's port that a Service's port means; `None` if the pod has no port of that name.
pub(crate) fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let wanted = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let protocol = |text: &Option<String>| text.clone().unwrap_or_else(|| "TCP".into());
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|p| p.name.as_ref() == Some(wanted) && protocol(&p.protocol) == protocol(&port.protocol))
        .map(|p| p.container_port)
}

/// The hostname under which DNS knows the pod as part of this Service.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain.as_deref() == Some(name(service)) && namespace(pod) == namespace(service))
        .then_some(hostname)
}

/// A reference to the pod behind an address.
pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: Some(name(pod).into()),
        uid: Some(uid(pod).into()),
        ..ObjectReference::default()
    }
}

/// Whether a Service has an address of its own.
pub(crate) fn has_cluster_ip(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    !matches!(ip, "" | "None")
}

/// Whether pods that are not ready count as ready.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

/// Lets Services, and changes of pods that concern their endpoints, into a queue.
pub(crate) fn follow(services: &Informer<Service>, pods: &Informer<Pod>, queue: &WorkQueue<Key>) {
    let into = queue.clone();
    services.add_handler(move |event| into.add(key_of(&**event.object())));
    let (known, into) = (services.store().clone(), queue.clone());
    pods.add_handler(move |event| queue_services(event, &known, &into));
}

/// Queues the Services that a pod belongs or belonged to, if the change can concern their endpoints.
fn queue_services(event: &Event<Pod>, services: &Store<Service>, queue: &WorkQueue<Key>) {
    let states: Vec<&Arc<Pod>> = match event {
        Event::Added(pod) | Event::Deleted(pod) => vec![pod],
        Event::Updated { old, new } if relevant(old) == relevant(new) => return,
        Event::Updated { old, new } => vec![old, new],
    };
    for service in services.list_namespace(namespace(&**event.object())) {
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { continue };
        if states.iter().any(|pod| matches_set(selector, pod.metadata.labels.as_ref())) {
            queue.add(key_of(&*service));
        }
    }
}

/// What of a pod shows in endpoints.
fn relevant(pod: &Pod) -> impl PartialEq + '_ {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    (
        (pod.metadata.labels.as_ref(), pod.metadata.deletion_timestamp.is_some(), uid(pod)),
        (pods::is_ready(pod), pods::is_terminal(pod), pods::node_name(pod)),
        (status.map(|s| (&s.pod_ip, &s.pod_ips)), spec.map(|s| (&s.hostname, &s.subdomain))),
    )
}
