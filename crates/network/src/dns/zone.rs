//! What names there are, and what they stand for.

use api::core::v1::Service;
use api::discovery::v1::{Endpoint, EndpointSlice};
use client::{SharedInformers, Store};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use linux::netlink::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

const BY_SERVICE: &str = "dns-service";
const BY_ADDRESS: &str = "dns-address";
const BY_CLUSTER_IP: &str = "dns-cluster-ip";

/// The cluster's names, read straight from the informers' stores.
#[derive(Clone)]
pub struct Zone {
    /// Labels of the cluster domain, lower case: `["cluster", "local"]`.
    domain: Vec<String>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    /// Ranges whose reverse names are ours, also where nothing is known.
    reverse: Vec<Prefix>,
    ttl: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub kind: RecordType,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Records {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// An alias. Stub resolvers want the whole chain in one answer: the asker goes on with the target.
    Alias {
        record: Box<Record>,
        target: Name,
    },
    /// The name exists, but has no record of that type; the authority section gets this SOA.
    NoData(Box<Record>),
    /// There is no such name.
    NoSuchName(Box<Record>),
    /// Not a name of the cluster: ask somebody else.
    Foreign,
}

impl Zone {
    /// `domain` such as `cluster.local`; `ttl` in seconds for every record, also for "no such name".
    pub fn new(
        domain: &str,
        ttl: u32,
        reverse: Vec<Prefix>,
        services: Store<Service>,
        slices: Store<EndpointSlice>,
    ) -> Self {
        services
            .add_index(BY_CLUSTER_IP, |s: &Service| cluster_ips(s).iter().map(ToString::to_string).collect());
        slices.add_index(BY_SERVICE, |s: &EndpointSlice| service_of(s).into_iter().collect());
        slices.add_index(BY_ADDRESS, |s: &EndpointSlice| {
            let endpoints = s.endpoints.iter().flatten().filter(|e| is_ready(e));
            let all: BTreeSet<String> = endpoints.flat_map(addresses).map(|a| a.to_string()).collect();
            all.into_iter().collect()
        });
        let domain = domain.trim_matches('.').to_lowercase().split('.').map(str::to_owned).collect();
        Zone { domain, services, slices, reverse, ttl }
    }

    /// Over the shared informers' stores.
    pub fn of(domain: &str, ttl: u32, reverse: Vec<Prefix>, informers: &SharedInformers) -> Self {
        let (services, slices) = (informers.get::<Service>(), informers.get::<EndpointSlice>());
        Zone::new(domain, ttl, reverse, services.store().clone(), slices.store().clone())
    }

    fn name(&self, labels: &[&str]) -> Option<Name> {
        let all = labels.iter().copied().chain(self.domain.iter().map(String::as_str));
        let mut name = Name::from_labels(all.map(str::as_bytes)).ok()?;
        name.set_fqdn(true);
        Some(name)
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    /// The record that says how long "no" may be remembered (RFC 2308). The serial does not change: there are
    /// no secondary servers that would compare it.
    fn authority(&self) -> Box<Record> {
        let apex = self.name(&[]).unwrap_or_else(Name::root);
        let (server, contact) = (self.name(&["ns", "dns"]), self.name(&["hostmaster"]));
        let soa = SOA::new(
            server.unwrap_or_else(Name::root),
            contact.unwrap_or_else(Name::root),
            1,
            7200,
            1800,
            86400,
            self.ttl,
        );
        Box::new(Record::from_rdata(apex, self.ttl, RData::SOA(soa)))
    }

    fn no_data(&self) -> Answer {
        Answer::NoData(self.authority())
    }

    fn no_such_name(&self) -> Answer {
        Answer::NoSuchName(self.authority())
    }

    fn records(&self, answers: Vec<Record>) -> Answer {
        if answers.is_empty() { self.no_data() } else { Answer::Records { answers, additionals: Vec::new() } }
    }

    fn endpoints(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        self.slices.by_index(BY_SERVICE, &format!("{namespace}/{service}"))
    }

    /// Address records of the type asked for.
    fn address_records(
        &self,
        name: &Name,
        addresses: impl IntoIterator<Item = IpAddr>,
        kind: RecordType,
    ) -> Vec<Record> {
        let unique: BTreeSet<IpAddr> = addresses.into_iter().collect();
        unique
            .into_iter()
            .filter_map(|address| match address {
                IpAddr::V4(ip) if matches!(kind, RecordType::A | RecordType::ANY) => {
                    Some(self.record(name, RData::A(A(ip))))
                }
                IpAddr::V6(ip) if matches!(kind, RecordType::AAAA | RecordType::ANY) => {
                    Some(self.record(name, RData::AAAA(AAAA(ip))))
                }
                _ => None,
            })
            .collect()
    }
}

/// What the cluster says to a question. Pure.
pub fn answer(zone: &Zone, question: &Question) -> Answer {
    let labels: Vec<String> =
        question.name.iter().map(|l| String::from_utf8_lossy(l).to_lowercase()).collect();
    if let Some(rest) = labels.strip_suffix_of(&zone.domain) {
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        return match rest.as_slice() {
            [] => apex(zone, question),
            ["dns-version"] => {
                let text = (question.kind == RecordType::TXT).then(|| TXT::new(vec!["1.1.0".to_owned()]));
                zone.records(text.map(|t| zone.record(&question.name, RData::TXT(t))).into_iter().collect())
            }
            ["svc"] | ["pod"] | ["dns"] => zone.no_data(),
            ["ns", "dns"] => zone.no_data(),
            [namespace, "svc" | "pod"] if !zone.services.list_namespace(namespace).is_empty() => {
                zone.no_data()
            }
            [service, namespace, "svc"] => service_name(zone, question, namespace, service),
            [label, service, namespace, "svc"] => below_service(zone, question, namespace, service, label),
            [port, protocol, service, namespace, "svc"] => {
                port_name(zone, question, namespace, service, protocol, port)
            }
            [dashed, _, "pod"] => match undash(dashed) {
                Some(address) => zone.records(zone.address_records(&question.name, [address], question.kind)),
                None => zone.no_such_name(),
            },
            _ => zone.no_such_name(),
        };
    }
    match reverse_address(&labels) {
        Some(address) => reverse(zone, question, address),
        None => Answer::Foreign,
    }
}

trait StripSuffix {
    fn strip_suffix_of(&self, suffix: &[String]) -> Option<&[String]>;
}

impl StripSuffix for Vec<String> {
    fn strip_suffix_of(&self, suffix: &[String]) -> Option<&[String]> {
        self.as_slice().strip_suffix(suffix)
    }
}

fn apex(zone: &Zone, question: &Question) -> Answer {
    match question.kind {
        RecordType::SOA => zone.records(vec![*zone.authority()]),
        RecordType::NS => {
            let server = zone.name(&["ns", "dns"]).map(|n| zone.record(&question.name, RData::NS(NS(n))));
            zone.records(server.into_iter().collect())
        }
        _ => zone.no_data(),
    }
}

/// `SERVICE.NAMESPACE.svc`: the cluster IPs; of a headless Service the ready endpoints, and without any of
/// those the name does not exist (specification, 2.4.1).
fn service_name(zone: &Zone, question: &Question, namespace: &str, name: &str) -> Answer {
    let Some(service) = zone.services.get(namespace, name) else { return zone.no_such_name() };
    if let Some(target) = external_name(&service) {
        let alias = zone.record(&question.name, RData::CNAME(CNAME(target.clone())));
        return match question.kind {
            RecordType::CNAME | RecordType::ANY => zone.records(vec![alias]),
            _ => Answer::Alias { record: Box::new(alias), target },
        };
    }
    let ips = cluster_ips(&service);
    if !ips.is_empty() {
        return zone.records(zone.address_records(&question.name, ips, question.kind));
    }
    let slices = zone.endpoints(namespace, name);
    let ready: Vec<IpAddr> = slices.iter().flat_map(|s| ready(s)).flat_map(addresses).collect();
    if ready.is_empty() {
        return zone.no_such_name();
    }
    zone.records(zone.address_records(&question.name, ready, question.kind))
}

/// `HOSTNAME.SERVICE.NAMESPACE.svc` of a headless Service, and the empty `_PROTOCOL.SERVICE.…` names.
fn below_service(zone: &Zone, question: &Question, namespace: &str, name: &str, label: &str) -> Answer {
    let Some(service) = zone.services.get(namespace, name) else { return zone.no_such_name() };
    if let Some(protocol) = label.strip_prefix('_') {
        let mut protocols = service_ports(&service).map(|p| protocol_of(p.protocol.as_deref()));
        return if protocols.any(|p| p == protocol) { zone.no_data() } else { zone.no_such_name() };
    }
    if external_name(&service).is_some() || !cluster_ips(&service).is_empty() {
        return zone.no_such_name();
    }
    let slices = zone.endpoints(namespace, name);
    let named = slices
        .iter()
        .flat_map(|s| ready(s))
        .flat_map(|e| addresses(e).into_iter().filter(|a| host_label(e, a) == label).collect::<Vec<_>>());
    let found: Vec<IpAddr> = named.collect();
    if found.is_empty() {
        return zone.no_such_name();
    }
    zone.records(zone.address_records(&question.name, found, question.kind))
}

/// `_PORT._PROTOCOL.SERVICE.NAMESPACE.svc`: SRV records to the Service itself, or of a headless one to each of
/// its endpoints; the targets' addresses come along.
fn port_name(
    zone: &Zone,
    question: &Question,
    namespace: &str,
    name: &str,
    protocol: &str,
    port: &str,
) -> Answer {
    let (Some(protocol), Some(port)) = (protocol.strip_prefix('_'), port.strip_prefix('_')) else {
        return zone.no_such_name();
    };
    let Some(service) = zone.services.get(namespace, name) else { return zone.no_such_name() };
    // Target name, port, addresses.
    let mut targets: BTreeMap<(String, u16), Vec<IpAddr>> = BTreeMap::new();
    let ips = cluster_ips(&service);
    if !ips.is_empty() {
        for p in service_ports(&service) {
            if p.name.as_deref() == Some(port)
                && protocol_of(p.protocol.as_deref()) == protocol
                && let Ok(number) = u16::try_from(p.port)
            {
                targets.insert((String::new(), number), ips.clone());
            }
        }
    } else if external_name(&service).is_none() {
        for slice in zone.endpoints(namespace, name) {
            let numbers = slice.ports.iter().flatten().filter(|p| {
                p.name.as_deref() == Some(port) && protocol_of(p.protocol.as_deref()) == protocol
            });
            for number in numbers.filter_map(|p| u16::try_from(p.port?).ok()) {
                for endpoint in ready(&slice) {
                    for address in addresses(endpoint) {
                        let key = (host_label(endpoint, &address), number);
                        targets.entry(key).or_default().push(address);
                    }
                }
            }
        }
    }
    if targets.is_empty() {
        return zone.no_such_name();
    }
    if !matches!(question.kind, RecordType::SRV | RecordType::ANY) {
        return zone.no_data();
    }
    let weight = u16::try_from(100 / targets.len()).unwrap_or(1).max(1);
    let (mut answers, mut additionals) = (Vec::new(), Vec::new());
    for ((host, number), addresses) in targets {
        let target = match host.as_str() {
            "" => zone.name(&[name, namespace, "svc"]),
            host => zone.name(&[host, name, namespace, "svc"]),
        };
        let Some(target) = target else { continue };
        additionals.extend(zone.address_records(&target, addresses, RecordType::ANY));
        answers.push(zone.record(&question.name, RData::SRV(SRV::new(0, weight, number, target))));
    }
    Answer::Records { answers, additionals }
}

/// PTR of a cluster IP or of an endpoint of a headless Service.
fn reverse(zone: &Zone, question: &Question, address: IpAddr) -> Answer {
    let key = address.to_string();
    let mut names: BTreeSet<Name> = BTreeSet::new();
    for service in zone.services.by_index(BY_CLUSTER_IP, &key) {
        let (namespace, name) = key_of(&service.metadata);
        names.extend(zone.name(&[name, namespace, "svc"]));
    }
    for slice in zone.slices.by_index(BY_ADDRESS, &key) {
        let Some((namespace, name)) =
            service_of(&slice).and_then(|k| k.split_once('/').map(|(ns, n)| (ns.to_owned(), n.to_owned())))
        else {
            continue;
        };
        let headless = zone
            .services
            .get(&namespace, &name)
            .is_some_and(|s| cluster_ips(&s).is_empty() && external_name(&s).is_none());
        if headless {
            for endpoint in ready(&slice).filter(|e| addresses(e).contains(&address)) {
                names.extend(zone.name(&[&host_label(endpoint, &address), &name, &namespace, "svc"]));
            }
        }
    }
    if names.is_empty() {
        let ours = zone.reverse.iter().any(|r| r.contains(&address));
        return if ours { zone.no_such_name() } else { Answer::Foreign };
    }
    if !matches!(question.kind, RecordType::PTR | RecordType::ANY) {
        return zone.no_data();
    }
    zone.records(names.into_iter().map(|n| zone.record(&question.name, RData::PTR(PTR(n)))).collect())
}

fn key_of(metadata: &api::meta::v1::ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref()?))
}

/// None for headless and ExternalName Services.
fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let unique: BTreeSet<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    unique.into_iter().collect()
}

fn external_name(service: &Service) -> Option<Name> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() != Some("ExternalName") {
        return None;
    }
    let mut name = Name::from_str(spec.external_name.as_deref()?).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn service_ports(service: &Service) -> impl Iterator<Item = &api::core::v1::ServicePort> {
    service.spec.iter().flat_map(|s| s.ports.iter().flatten())
}

fn protocol_of(name: Option<&str>) -> String {
    name.unwrap_or("TCP").to_lowercase()
}

/// Ready unless somebody says otherwise. Services that publish addresses that are not ready have them marked
/// ready by the controller.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

fn ready(slice: &EndpointSlice) -> impl Iterator<Item = &Endpoint> {
    slice.endpoints.iter().flatten().filter(|e| is_ready(e))
}

fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint.addresses.iter().filter_map(|a| a.parse().ok()).collect()
}

/// An endpoint's own label: its host name, else its address with dashes.
fn host_label(endpoint: &Endpoint, address: &IpAddr) -> String {
    match endpoint.hostname.as_deref().filter(|h| !h.is_empty()) {
        Some(hostname) => hostname.to_lowercase(),
        None => address.to_string().replace(['.', ':'], "-"),
    }
}

/// `10-244-0-5` and `fd00--5`.
fn undash(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().ok().or_else(|| label.replace('-', ":").parse().ok())
}

/// The address that `….in-addr.arpa` or `….ip6.arpa` stands for; `None` for other names and partial ones.
fn reverse_address(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [digits @ .., "in-addr", "arpa"] if digits.len() == 4 => {
            let text: Vec<&str> = digits.iter().rev().copied().collect();
            text.join(".").parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4)
        }
        [digits @ .., "ip6", "arpa"] if digits.len() == 32 => {
            let nibble = |value: u128, digit: &&str| {
                (digit.len() == 1).then(|| u128::from_str_radix(digit, 16).ok())?.map(|d| value << 4 | d)
            };
            let value = digits.iter().rev().try_fold(0u128, nibble)?;
            Some(IpAddr::V6(value.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
