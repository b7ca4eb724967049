//! The ruleset for a set of Services, one table per IP family:
//!
//! ```text
//! guard             drops packets to 127.0.0.0/8 from outside (loopback node ports open that door)
//! nat-prerouting ┐
//! nat-output     ┴→ services → @service-ips      address . protocol . port → a Service's chain
//!                            → @service-nodeports          protocol . port → a Service's chain
//! nat-postrouting → masquerading
//! filter-*        → no-endpoints (reject or drop), unallocated (addresses without such a port)
//! ```
//!
//! A Service port has up to four chains, named `KIND/NAMESPACE/NAME/PROTOCOL/PORT`: `cluster` and `local`
//! spread over the endpoints of that traffic policy, `external` comes before them for traffic to node ports,
//! external and load balancer addresses, `firewall` before that for `loadBalancerSourceRanges`. An endpoint
//! that comes or goes changes the one rule of its Service's `cluster` or `local` chain.

use super::ruleset::{Chain, Ruleset, Set, Table};
use super::services::{Endpoint, Policy, Protocol, ServicePort};
use super::{Config, NodePortAddresses};
use linux::conntrack::Flows;
use linux::netlink::Prefix;
use linux::nftables::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the rules depend on beside Services: facts of our own Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub pod_cidrs: Vec<Prefix>,
    pub addresses: Vec<IpAddr>,
}

/// Every chain and every element, from scratch. Pure.
pub fn plan(config: &Config, node: &Node, ports: &[ServicePort]) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for (on, family) in [(config.ipv4, Family::Ip), (config.ipv6, Family::Ip6)] {
        if on {
            let planner = Planner { config, node, family };
            ruleset.tables.insert((family, config.table.clone()), planner.table(ports));
        }
    }
    ruleset
}

const CLUSTER_IPS: &str = "cluster-ips";
const SERVICE_IPS: &str = "service-ips";
const SERVICE_NODE_PORTS: &str = "service-nodeports";
const NO_ENDPOINT_IPS: &str = "no-endpoint-ips";
const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
const HAIRPIN: &str = "hairpin";

struct Planner<'a> {
    config: &'a Config,
    node: &'a Node,
    family: Family,
}

impl Planner<'_> {
    /// The word for addresses of this family: `ip saddr`, `ip6 saddr`.
    fn ip(&self) -> &'static str {
        self.family.name()
    }

    fn ours(&self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self.family == Family::Ip)
    }

    /// `{ a, b }` of the ranges of this family; `None` when there are none.
    fn ranges(&self, prefixes: &[Prefix]) -> Option<String> {
        let list: Vec<String> =
            prefixes.iter().filter(|p| self.ours(&p.address)).map(|p| p.network().to_string()).collect();
        (!list.is_empty()).then(|| format!("{{ {} }}", list.join(", ")))
    }

    fn set_masquerade_mark(&self) -> String {
        format!("meta mark set meta mark | {:#x}", self.mark())
    }

    fn mark(&self) -> u32 {
        1u32 << self.config.masquerade_bit.min(31)
    }

    fn table(&self, ports: &[ServicePort]) -> Table {
        let v4 = self.family == Family::Ip;
        let mut table = Table::default();
        let (by_address, address, pair) = if v4 {
            (
                "type ipv4_addr . inet_proto . inet_service : verdict",
                "type ipv4_addr",
                "type ipv4_addr . ipv4_addr",
            )
        } else {
            (
                "type ipv6_addr . inet_proto . inet_service : verdict",
                "type ipv6_addr",
                "type ipv6_addr . ipv6_addr",
            )
        };
        let by_port = "type inet_proto . inet_service : verdict";
        for (name, declaration, is_map) in [
            (CLUSTER_IPS, address, false),
            (HAIRPIN, pair, false),
            (SERVICE_IPS, by_address, true),
            (SERVICE_NODE_PORTS, by_port, true),
            (NO_ENDPOINT_IPS, by_address, true),
            (NO_ENDPOINT_NODE_PORTS, by_port, true),
        ] {
            table.sets.insert(name.to_owned(), Set { declaration, is_map, elements: BTreeMap::new() });
        }
        self.fixed_chains(&mut table);
        for port in ports.iter().filter(|p| self.ours(&p.cluster_ip)) {
            self.service(port, &mut table);
        }
        table
    }

    fn fixed_chains(&self, table: &mut Table) {
        let ip = self.ip();
        let mut base = |name: &str, hook: &'static str, rules: &[&str]| {
            let rules = rules.iter().map(|r| (*r).to_owned()).collect();
            table.chains.insert(name.to_owned(), Chain { hook: Some(hook), rules });
        };
        // nft 1.0.6 knows "dstnat" by name on prerouting only: numbers work everywhere.
        base("nat-prerouting", "type nat hook prerouting priority -100; policy accept;", &["jump services"]);
        base("nat-output", "type nat hook output priority -100; policy accept;", &["jump services"]);
        base(
            "nat-postrouting",
            "type nat hook postrouting priority 100; policy accept;",
            &["jump masquerading"],
        );
        let (new, unallocated) = ("ct state new jump no-endpoints", "ct state new jump unallocated");
        base("filter-input", "type filter hook input priority 0; policy accept;", &[new]);
        base("filter-forward", "type filter hook forward priority 0; policy accept;", &[new, unallocated]);
        base("filter-output", "type filter hook output priority 0; policy accept;", &[new, unallocated]);
        if self.loopback() {
            // Replies to translated connections come with our bridge's address, never with a loopback one.
            base(
                "guard",
                "type filter hook prerouting priority -150; policy accept;",
                &["iifname != \"lo\" ip daddr 127.0.0.0/8 drop"],
            );
        }

        let mut rules = Vec::new();
        rules.extend(self.foreign_rule());
        let pods = self.ranges(&self.config.cluster_cidrs);
        if self.config.masquerade_all {
            rules.push(format!("{ip} daddr @{CLUSTER_IPS} {}", self.set_masquerade_mark()));
        } else if let Some(pods) = &pods {
            rules.push(format!(
                "{ip} daddr @{CLUSTER_IPS} {ip} saddr != {pods} {}",
                self.set_masquerade_mark()
            ));
        }
        rules.push(format!("{ip} daddr . meta l4proto . th dport vmap @{SERVICE_IPS}"));
        let node_ports = self.node_port_match();
        if let Some(here) = &node_ports {
            rules.push(format!("{here} meta l4proto . th dport vmap @{SERVICE_NODE_PORTS}"));
        }
        chain(table, "services", rules);

        let mut rules = vec![format!("{ip} daddr . meta l4proto . th dport vmap @{NO_ENDPOINT_IPS}")];
        if let Some(here) = &node_ports {
            rules.push(format!("{here} meta l4proto . th dport vmap @{NO_ENDPOINT_NODE_PORTS}"));
        }
        chain(table, "no-endpoints", rules);
        // A reset reaches a connecting socket at once; for an ICMP error it may wait for its next attempt.
        let refuse = ["meta l4proto tcp reject with tcp reset", "reject"];
        chain(table, "refuse", refuse.map(str::to_owned).to_vec());

        let mut rules = Vec::new();
        rules.extend(self.foreign_rule());
        rules.push(format!("{ip} daddr @{CLUSTER_IPS} goto refuse"));
        if let Some(services) = self.ranges(&self.config.service_cidrs) {
            rules.push(format!("{ip} daddr {services} drop"));
        }
        chain(table, "unallocated", rules);

        let mark = self.mark();
        let mut rules = vec![
            format!("{ip} saddr . {ip} daddr @{HAIRPIN} masquerade fully-random"),
            format!(
                "meta mark & {mark:#x} == {mark:#x} meta mark set meta mark ^ {mark:#x} masquerade fully-random"
            ),
        ];
        if self.config.masquerade_pods
            && let Some(here) = self.ranges(&self.node.pod_cidrs)
        {
            let multicast = if self.family == Family::Ip { "224.0.0.0/4" } else { "ff00::/8" };
            // The node's own range may lie outside what is configured for the cluster.
            let mut inside: BTreeSet<Prefix> =
                self.config.cluster_cidrs.iter().chain(&self.node.pod_cidrs).map(Prefix::network).collect();
            let all: Vec<Prefix> = inside.iter().copied().collect();
            inside.retain(|p| !all.iter().any(|q| q != p && q.length <= p.length && q.contains(&p.address)));
            inside.extend(multicast.parse::<Prefix>());
            if let Some(inside) = self.ranges(&inside.into_iter().collect::<Vec<_>>()) {
                rules.push(format!(
                    "{ip} saddr {here} {ip} daddr != {inside} oifname != \"lo\" masquerade fully-random"
                ));
            }
        }
        chain(table, "masquerading", rules);
    }

    fn loopback(&self) -> bool {
        self.config.loopback_node_ports && self.config.bridge.is_some() && self.family == Family::Ip
    }

    /// Leaves traffic of other clusters' pods to the service range alone.
    fn foreign_rule(&self) -> Option<String> {
        let (pattern, own) = (self.config.foreign_interfaces.as_deref()?, self.config.bridge.as_deref()?);
        let services = self.ranges(&self.config.service_cidrs)?;
        Some(format!("iifname \"{pattern}\" iifname != \"{own}\" {} daddr {services} return", self.ip()))
    }

    /// Which destinations node ports answer on; `None` for none.
    fn node_port_match(&self) -> Option<String> {
        let ip = self.ip();
        let loopback = if self.family == Family::Ip { "127.0.0.0/8" } else { "::1/128" };
        let mut ranges: Vec<Prefix> = match &self.config.node_ports {
            NodePortAddresses::All if self.loopback() => return Some("fib daddr type local".to_owned()),
            NodePortAddresses::All => return Some(format!("fib daddr type local {ip} daddr != {loopback}")),
            NodePortAddresses::Primary => self.node.addresses.iter().copied().map(Prefix::host).collect(),
            NodePortAddresses::Within(ranges) => ranges.clone(),
        };
        if self.loopback() {
            ranges.extend(loopback.parse::<Prefix>());
        }
        let ranges = self.ranges(&ranges)?;
        let except = if self.loopback() { String::new() } else { format!(" {ip} daddr != {loopback}") };
        Some(format!("fib daddr type local {ip} daddr {ranges}{except}"))
    }

    fn service(&self, port: &ServicePort, table: &mut Table) {
        let ip = self.ip();
        let suffix = format!("{}/{}/{}/{}", port.namespace, port.service, port.protocol, port.port);
        let cluster = if port.uses_cluster() { port.usable(Policy::Cluster) } else { Vec::new() };
        let local = if port.uses_local() { port.usable(Policy::Local) } else { Vec::new() };
        // Whether anything anywhere could answer decides between refusing and, when it is only not here, "drop".
        let anywhere = !port.usable(Policy::Cluster).is_empty();
        for (kind, endpoints) in [("cluster", &cluster), ("local", &local)] {
            if !endpoints.is_empty() {
                chain(table, &format!("{kind}/{suffix}"), vec![self.spread(port.protocol, endpoints)]);
            }
        }
        for endpoint in cluster.iter().chain(&local).filter(|e| e.local && self.is_pod(&e.address)) {
            element(table, HAIRPIN, format!("{0} . {0}", endpoint.address), String::new());
        }

        let usable = |policy| if policy == Policy::Local { &local } else { &cluster };
        let target = |policy| match policy {
            Policy::Cluster => format!("goto cluster/{suffix}"),
            Policy::Local => format!("goto local/{suffix}"),
        };
        let refusal = if anywhere { "drop" } else { "goto refuse" };
        let key = |address: &IpAddr| format!("{address} . {} . {}", port.protocol, port.port);

        element(table, CLUSTER_IPS, port.cluster_ip.to_string(), String::new());
        if usable(port.internal).is_empty() {
            element(table, NO_ENDPOINT_IPS, key(&port.cluster_ip), refusal.to_owned());
        } else {
            element(table, SERVICE_IPS, key(&port.cluster_ip), target(port.internal));
        }
        if !port.externally_accessible() {
            return;
        }

        let unreachable = usable(port.external).is_empty();
        let node_port_key = format!("{} . {}", port.protocol, port.node_port);
        if unreachable {
            for address in port.external_ips.iter().chain(&port.load_balancer_ips) {
                element(table, NO_ENDPOINT_IPS, key(address), refusal.to_owned());
            }
            if port.node_port != 0 {
                element(table, NO_ENDPOINT_NODE_PORTS, node_port_key.clone(), refusal.to_owned());
            }
        }
        if !anywhere {
            return;
        }
        let external = format!("external/{suffix}");
        let mut rules = Vec::new();
        if port.external == Policy::Cluster {
            // The endpoint may be elsewhere, and its answer has to come back through here.
            rules.push(self.set_masquerade_mark());
        } else {
            // From within the cluster the policy does not apply: as if it went out and came back in.
            if let Some(pods) = self.ranges(&self.config.cluster_cidrs) {
                rules.push(format!("{ip} saddr {pods} {}", target(Policy::Cluster)));
            }
            rules.push(format!("fib saddr type local {}", self.set_masquerade_mark()));
            rules.push(format!("fib saddr type local {}", target(Policy::Cluster)));
        }
        if !unreachable {
            rules.push(target(port.external));
        }
        chain(table, &external, rules);
        for address in &port.external_ips {
            element(table, SERVICE_IPS, key(address), format!("goto {external}"));
        }
        let guarded = match self.ranges(&port.load_balancer_sources) {
            Some(sources) if !port.load_balancer_ips.is_empty() => {
                let firewall = format!("firewall/{suffix}");
                let rules = vec![format!("{ip} saddr != {sources} drop"), format!("goto {external}")];
                chain(table, &firewall, rules);
                firewall
            }
            _ => external.clone(),
        };
        for address in &port.load_balancer_ips {
            element(table, SERVICE_IPS, key(address), format!("goto {guarded}"));
        }
        if port.node_port != 0 {
            element(table, SERVICE_NODE_PORTS, node_port_key, format!("goto {external}"));
        }
    }

    fn is_pod(&self, address: &IpAddr) -> bool {
        let mut ranges = self.config.cluster_cidrs.iter().chain(&self.node.pod_cidrs).peekable();
        ranges.peek().is_none() || ranges.any(|r| r.contains(address))
    }

    /// One rule that translates to a random one of `endpoints`.
    fn spread(&self, protocol: Protocol, endpoints: &[&Endpoint]) -> String {
        let ip = self.ip();
        if let [one] = endpoints {
            let target = std::net::SocketAddr::new(one.address, one.port);
            return format!("meta l4proto {protocol} dnat to {target}");
        }
        let targets: Vec<String> =
            endpoints.iter().enumerate().map(|(i, e)| format!("{i} : {} . {}", e.address, e.port)).collect();
        format!(
            "meta l4proto {protocol} dnat {ip} addr . port to numgen random mod {} map {{ {} }}",
            endpoints.len(),
            targets.join(", ")
        )
    }
}

fn chain(table: &mut Table, name: &str, rules: Vec<String>) {
    table.chains.insert(name.to_owned(), Chain { hook: None, rules });
}

/// The first to claim a key keeps it: two Services may carry the same external address and port.
fn element(table: &mut Table, set: &str, key: String, verdict: String) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.entry(key).or_insert(verdict);
    }
}

/// UDP flows that must be forgotten after going from `old` to `new`: those to endpoints that may no longer be
/// used, and those to Services that had nothing to lead to until now.
pub fn stale_flows(old: &[ServicePort], new: &[ServicePort]) -> BTreeSet<Flows> {
    type Key<'a> = (IpAddr, u16, &'a str, &'a str);
    fn index(ports: &[ServicePort]) -> BTreeMap<Key<'_>, &ServicePort> {
        let udp = ports.iter().filter(|p| p.protocol == Protocol::Udp);
        udp.map(|p| ((p.cluster_ip, p.port, p.namespace.as_str(), p.service.as_str()), p)).collect()
    }
    let (old, new) = (index(old), index(new));
    let addresses = |port: &ServicePort| -> BTreeSet<(IpAddr, u16)> {
        port.usable(Policy::Cluster).iter().map(|e| (e.address, e.port)).collect()
    };
    let mut flows = BTreeSet::new();
    for (key, port) in &old {
        let now = new.get(key).map(|p| addresses(p)).unwrap_or_default();
        for (address, _) in addresses(port).difference(&now) {
            for number in [port.port, port.node_port].into_iter().filter(|n| *n != 0) {
                flows.insert(Flows {
                    destination: None,
                    destination_port: Some(number),
                    translated_to: Some(*address),
                });
            }
        }
    }
    for (key, port) in &new {
        if !addresses(port).is_empty() && old.get(key).is_none_or(|p| addresses(p).is_empty()) {
            let destinations =
                std::iter::once(&port.cluster_ip).chain(&port.external_ips).chain(&port.load_balancer_ips);
            for destination in destinations {
                flows.insert(Flows {
                    destination: Some(*destination),
                    destination_port: Some(port.port),
                    translated_to: None,
                });
            }
            if port.node_port != 0 {
                flows.insert(Flows {
                    destination: None,
                    destination_port: Some(port.node_port),
                    translated_to: None,
                });
            }
        }
    }
    flows
}

#[cfg(test)]
mod tests;
