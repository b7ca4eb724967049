//! From Services and EndpointSlices to what each Service port leads to.

use api::core::v1::{Service, ServicePort as ApiPort};
use api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};
use linux::netlink::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Services with this label are some other proxy's (KEP-2447 and the well-known labels page).
const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// A traffic policy: whether endpoints on other nodes may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    Cluster,
    Local,
}

impl Policy {
    fn parse(name: Option<&str>) -> Self {
        if name == Some("Local") { Policy::Local } else { Policy::Cluster }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    pub ready: bool,
    /// Going away, but still answering: used when nothing is ready (KEP-1669).
    pub draining: bool,
}

/// One port of a Service in one IP family, with all its endpoints, usable or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub namespace: String,
    pub service: String,
    pub protocol: Protocol,
    pub port: u16,
    /// 0 when it has none.
    pub node_port: u16,
    pub cluster_ip: IpAddr,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty means everybody.
    pub load_balancer_sources: Vec<Prefix>,
    pub internal: Policy,
    pub external: Policy,
    /// Sorted, without repetition.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// Whether addresses beside the cluster IP lead here.
    pub fn externally_accessible(&self) -> bool {
        self.node_port != 0 || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    pub fn uses_cluster(&self) -> bool {
        self.internal == Policy::Cluster || self.externally_accessible()
    }

    pub fn uses_local(&self) -> bool {
        self.internal == Policy::Local || (self.externally_accessible() && self.external == Policy::Local)
    }

    /// What a policy may use: the ready endpoints, else the draining ones.
    pub fn usable(&self, policy: Policy) -> Vec<&Endpoint> {
        let pick = |ready: bool| -> Vec<&Endpoint> {
            let wanted = |e: &&Endpoint| if ready { e.ready } else { e.draining };
            self.endpoints.iter().filter(|e| policy == Policy::Cluster || e.local).filter(wanted).collect()
        };
        let ready = pick(true);
        if ready.is_empty() { pick(false) } else { ready }
    }
}

/// Reads what a proxy on `node` needs, in order of namespace, name, family and port. Left out are headless and
/// ExternalName Services, those of other proxies, and whatever does not read as an address or a port.
pub fn observe(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: &str) -> Vec<ServicePort> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        if let (Some(namespace), Some(name)) =
            (slice.metadata.namespace.as_deref(), labels.and_then(|l| l.get(LABEL_SERVICE_NAME)))
            && labels.is_none_or(|l| !l.contains_key(LABEL_PROXY_NAME))
        {
            by_service.entry((namespace, name)).or_default().push(slice);
        }
    }
    let mut ports = Vec::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let slices = by_service.get(&(namespace, name)).map(Vec::as_slice).unwrap_or_default();
        add_service(service, namespace, name, slices, node, &mut ports);
    }
    ports.sort_by(|a, b| key(a).cmp(&key(b)));
    ports
}

fn key(p: &ServicePort) -> (&str, &str, bool, Protocol, u16) {
    (&p.namespace, &p.service, p.cluster_ip.is_ipv6(), p.protocol, p.port)
}

fn add_service(
    service: &Service,
    namespace: &str,
    name: &str,
    slices: &[&EndpointSlice],
    node: &str,
    out: &mut Vec<ServicePort>,
) {
    let Some(spec) = &service.spec else { return };
    let other_proxy = service.metadata.labels.as_ref().is_some_and(|l| l.contains_key(LABEL_PROXY_NAME));
    if other_proxy || spec.type_.as_deref() == Some("ExternalName") || !is_plain(namespace) || !is_plain(name)
    {
        return;
    }
    let first = spec.cluster_ip.iter().cloned();
    let listed = spec.cluster_ips.clone().filter(|ips| !ips.is_empty());
    let cluster_ips = listed.unwrap_or_else(|| first.collect());
    // "None" and "" do not read as addresses: so headless Services have no cluster IP.
    for cluster_ip in cluster_ips.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        let same_family = |ip: &IpAddr| ip.is_ipv4() == cluster_ip.is_ipv4();
        let external_ips: Vec<IpAddr> =
            spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).filter(same_family).collect();
        for port in spec.ports.iter().flatten() {
            let (Some(protocol), Ok(number)) =
                (Protocol::parse(port.protocol.as_deref()), u16::try_from(port.port))
            else {
                continue;
            };
            if number == 0 {
                continue;
            }
            out.push(ServicePort {
                namespace: namespace.to_owned(),
                service: name.to_owned(),
                protocol,
                port: number,
                node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).unwrap_or(0),
                cluster_ip,
                external_ips: external_ips.clone(),
                load_balancer_ips: load_balancer_ips(service).into_iter().filter(same_family).collect(),
                load_balancer_sources: spec
                    .load_balancer_source_ranges
                    .iter()
                    .flatten()
                    .filter_map(|r| r.trim().parse::<Prefix>().ok())
                    .filter(|r| same_family(&r.address))
                    .map(|r| r.network())
                    .collect(),
                internal: Policy::parse(spec.internal_traffic_policy.as_deref()),
                external: Policy::parse(spec.external_traffic_policy.as_deref()),
                endpoints: endpoints(port, protocol, cluster_ip, slices, node),
            });
        }
    }
}

/// Names go into the ruleset's text: nothing may pass that could end a word there.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

/// Those that the load balancer does not proxy itself (KEP-1860).
fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    let ingress = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref())
        .and_then(|l| l.ingress.as_deref())
        .unwrap_or_default();
    ingress
        .iter()
        .filter(|i| i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.as_deref()?.parse().ok())
        .collect()
}

fn endpoints(
    port: &ApiPort,
    protocol: Protocol,
    cluster_ip: IpAddr,
    slices: &[&EndpointSlice],
    node: &str,
) -> Vec<Endpoint> {
    let family = if cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let name = port.name.as_deref().unwrap_or_default();
    let mut found: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type == family) {
        let numbers: BTreeSet<u16> = slice
            .ports
            .iter()
            .flatten()
            .filter(|p| p.name.as_deref().unwrap_or_default() == name)
            .filter(|p| Protocol::parse(p.protocol.as_deref()) == Some(protocol))
            .filter_map(|p| u16::try_from(p.port?).ok().filter(|n| *n != 0))
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            // All addresses of one endpoint mean the same; the first is the one to use.
            let Some(address) = endpoint.addresses.first().and_then(|a| a.parse::<IpAddr>().ok()) else {
                continue;
            };
            for &number in &numbers {
                let new = condition(endpoint, address, number, node);
                // While a slice is being split the same endpoint may be in two: ready in either is ready.
                match found.get(&(address, number)) {
                    Some(old) if old.ready || !new.ready => {}
                    _ => {
                        found.insert((address, number), new);
                    }
                }
            }
        }
    }
    found.into_values().collect()
}

/// `ready` and `serving` count as true when nobody says otherwise, `terminating` as false.
fn condition(endpoint: &ApiEndpoint, address: IpAddr, port: u16, node: &str) -> Endpoint {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    Endpoint {
        address,
        port,
        local: endpoint.node_name.as_deref() == Some(node),
        ready,
        draining: serving && terminating,
    }
}
