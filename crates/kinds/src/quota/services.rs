//! Services and the ports that they take on nodes.

use api::core::v1::Service;

use super::{Amounts, whole};

pub fn is_counted(name: &str) -> bool {
    matches!(name, "count/services" | "services" | "services.nodeports" | "services.loadbalancers")
}

pub fn usage(service: &Service) -> Amounts {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let with_node_ports = || ports.iter().filter(|port| port.node_port.is_some_and(|p| p != 0)).count();
    let allocates = spec.and_then(|spec| spec.allocate_load_balancer_node_ports) != Some(false);
    let (node_ports, balancers) = match spec.and_then(|spec| spec.type_.as_deref()) {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if allocates => (ports.len(), 1),
        Some("LoadBalancer") => (with_node_ports(), 1),
        _ => (0, 0),
    };
    let counts = [
        ("count/services", 1),
        ("services", 1),
        ("services.nodeports", node_ports),
        ("services.loadbalancers", balancers),
    ];
    counts.into_iter().map(|(name, count)| (name.to_owned(), whole(count))).collect()
}
