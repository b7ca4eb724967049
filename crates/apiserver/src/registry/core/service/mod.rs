//! Cluster addresses and node ports of Services: who holds which, exact under concurrent writes.
//!
//! Rules of upstream's `registry/core/service/storage/alloc.go`. A write first reserves what it needs
//! ([`Allocators::reserve`]), then goes to the store, then commits; a write that fails gives everything back.
//!
//! An address is held by its IPAddress object, which is written and deleted together with its Service, in one
//! transaction ([`addresses`]): two servers on one store cannot give the same address, and none is left behind.
//! The ranges are those of the ServiceCIDR objects that are ready. [`repair`] mends what others have done to
//! these objects, and makes them for Services that are older than they. Node ports are stored nowhere: who holds
//! which is read from the Services at start.

pub mod addresses;
mod families;
mod range;
pub mod repair;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use apimachinery::{
    clock::Entropy,
    field::{self, Path},
    status::Status,
};
use serde_json::{Value, json};

use self::range::{Range, Unavailable, static_band};

/// A block of addresses, `10.96.0.0/12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Debug, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let bad = || CidrError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        if prefix > width {
            return Err(bad());
        }
        let host_bits = u32::from(width - prefix);
        let network = number(address).checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0);
        Ok(Self { address: address_of(network, address.is_ipv6()), prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    /// The first address that a Service may have; the `kubernetes` Service holds it.
    pub fn first(&self) -> IpAddr {
        address_of(number(self.address) + 1, self.address.is_ipv6())
    }

    pub fn contains(&self, address: &IpAddr) -> bool {
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let host_bits = width - u32::from(self.prefix);
        let network = |address: IpAddr| number(address).checked_shr(host_bits).unwrap_or(0);
        address.is_ipv4() == self.address.is_ipv4() && network(*address) == network(self.address)
    }

    /// The usable addresses: without the first, for IPv4 without the last.
    fn range(&self) -> Range {
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let host_bits = width - u32::from(self.prefix);
        let unusable = if self.address.is_ipv4() { 2 } else { 1 };
        // Upstream counts in 64 bits.
        let size = 1u128.checked_shl(host_bits.min(64)).unwrap_or(0).saturating_sub(unusable);
        Range::new(number(self.address) + 1, size, static_band(size, 16, 256))
    }

    /// `IPv4` or `IPv6`.
    fn family(&self) -> &'static str {
        family(&self.address)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address_of(number: u128, v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

struct State {
    /// Of writes under way.
    reserved: BTreeSet<IpAddr>,
    /// Of stored Services that have no IPAddress yet.
    unlisted: BTreeSet<IpAddr>,
    ports: Range,
}

/// What all Services of the cluster hold.
pub struct Allocators {
    state: Mutex<State>,
    /// The cluster's families, the default one first.
    families: Vec<&'static str>,
    port_range: (u16, u16),
    entropy: Arc<dyn Entropy>,
}

/// What an allocation looks at besides what is under way.
pub struct Addresses<'a> {
    /// Where addresses may come from, in the order in which they are tried.
    pub ranges: Vec<Cidr>,
    /// There is an IPAddress of it.
    pub listed: &'a dyn Fn(&IpAddr) -> bool,
}

impl Allocators {
    /// `cidrs`: one range, or one of each family (the first is the default); `ports`: first and last node port.
    pub fn new(cidrs: &[Cidr], ports: (u16, u16), entropy: Arc<dyn Entropy>) -> Self {
        let size = u128::from(ports.1.saturating_sub(ports.0)) + 1;
        let ports_range = Range::new(ports.0.into(), size, static_band(size, 32, 128));
        let state = State { reserved: BTreeSet::new(), unlisted: BTreeSet::new(), ports: ports_range };
        let families = cidrs.iter().map(Cidr::family).collect();
        Self { state: Mutex::new(state), families, port_range: ports, entropy }
    }

    /// Takes what a stored Service holds. At start; conflicts among stored Services are left as they are.
    pub fn restore(&self, service: &Value, listed: impl Fn(&IpAddr) -> bool) {
        let mut state = self.lock();
        state.unlisted.extend(held_addresses(service).into_iter().filter(|address| !listed(address)));
        for port in held_ports(service) {
            let _ = state.ports.take(port.into());
        }
    }

    /// The repair has been: addresses that have an IPAddress by now are held by that.
    pub fn settle(&self, listed: impl Fn(&IpAddr) -> bool) {
        self.lock().unlisted.retain(|address| !listed(address));
    }

    /// Gives back what a deleted Service held.
    pub fn release(&self, service: &Value) {
        let mut state = self.lock();
        for address in held_addresses(service) {
            state.unlisted.remove(&address);
        }
        for port in held_ports(service) {
            state.ports.release(port.into());
        }
    }

    /// Fills in the addresses and node ports of a Service about to be created (`old` none) or updated. With
    /// `dry_run` nothing is taken. What is reserved goes back unless the reservation is committed.
    ///
    /// # Errors
    /// The Status that the client gets: 422 for what cannot be given, 500 for an exhausted range.
    pub fn reserve(
        self: &Arc<Self>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        known: &Addresses<'_>,
    ) -> Result<Reservation, Status> {
        let mut reservation = Reservation {
            allocators: self.clone(),
            dry_run,
            addresses: Vec::new(),
            ports: Vec::new(),
            obsolete_addresses: Vec::new(),
            obsolete_ports: Vec::new(),
        };
        let mut state = self.lock();
        families::fill(&self.families, service, old)?;
        self.addresses(&mut state, service, old, &mut reservation, known)?;
        self.ports(&mut state, service, old, &mut reservation)?;
        drop(state);
        Ok(reservation)
    }

    fn addresses(
        &self,
        state: &mut State,
        service: &mut Value,
        old: Option<&Value>,
        reservation: &mut Reservation,
        known: &Addresses<'_>,
    ) -> Result<(), Status> {
        let external = |s: &Value| s["spec"]["type"] == "ExternalName";
        if let Some(old) = old {
            if external(service) {
                if !external(old) {
                    reservation.obsolete_addresses = held_addresses(old);
                }
                return Ok(());
            }
            if !external(old) && is_headless(old) {
                return Ok(());
            }
        }
        if external(service) || is_headless(service) {
            return Ok(());
        }
        let kept = old.filter(|o| !external(o)).map(held_addresses).unwrap_or_default();
        let families = strings(&service["spec"]["ipFamilies"]);
        let mut addresses = strings(&service["spec"]["clusterIPs"]);
        let shown = service["spec"]["clusterIPs"].clone();
        for (index, wanted_family) in families.iter().enumerate() {
            let wanted = addresses.get(index).cloned().unwrap_or_default();
            if !self.families.contains(&wanted_family.as_str()) {
                continue;
            }
            if !wanted.is_empty() {
                let address: IpAddr = wanted.parse().map_err(|_| {
                    Status::internal(format_args!("failed to parse service IP {}", field::quote(&wanted)))
                })?;
                if kept.contains(&address) {
                    continue;
                }
                let taken = match known.ranges.iter().find(|cidr| cidr.contains(&address)) {
                    None => Err("the provided network does not match the current range".to_owned()),
                    Some(cidr) if !cidr.range().contains(number(address)) => Err(format!(
                        "the provided IP ({address}) is not in the valid range. The range of valid IPs is {cidr}"
                    )),
                    Some(_) if reservation.dry_run => Ok(()),
                    Some(_) if state.is_taken(&address, known) => {
                        Err("provided IP is already allocated".into())
                    }
                    Some(_) => Ok(()),
                };
                taken.map_err(|why| {
                    invalid_addresses(service, &shown, format!("failed to allocate IP {wanted}: {why}"))
                })?;
                if !reservation.dry_run {
                    state.reserved.insert(address);
                    reservation.addresses.push(address);
                }
                continue;
            }
            let mut ranges = known.ranges.iter().filter(|cidr| cidr.family() == wanted_family);
            let v6 = wanted_family == "IPv6";
            let found = match reservation.dry_run {
                true => ranges.next().map(|cidr| cidr.address),
                false => ranges.find_map(|cidr| {
                    let taken = |number| state.is_taken(&address_of(number, v6), known);
                    Some(address_of(cidr.range().free(&*self.entropy, taken)?, v6))
                }),
            };
            let address = found.ok_or_else(|| {
                Status::internal(format_args!(
                    "failed to allocate a serviceIP for Service {}: {}",
                    field::quote(service["metadata"]["name"].as_str().unwrap_or_default()),
                    Unavailable::Full
                ))
            })?;
            if !reservation.dry_run {
                state.reserved.insert(address);
                reservation.addresses.push(address);
            }
            if addresses.len() <= index {
                addresses.resize(index + 1, String::new());
            }
            addresses[index] = address.to_string();
        }
        if let Some(old) = old.filter(|o| !external(o)) {
            let now: Vec<IpAddr> = addresses.iter().filter_map(|a| a.parse().ok()).collect();
            reservation.obsolete_addresses =
                held_addresses(old).into_iter().filter(|a| !now.contains(a)).collect();
        }
        if let Some(first) = addresses.first() {
            service["spec"]["clusterIP"] = json!(first);
            service["spec"]["clusterIPs"] = json!(addresses);
        }
        Ok(())
    }

    fn ports(
        &self,
        state: &mut State,
        service: &mut Value,
        old: Option<&Value>,
        reservation: &mut Reservation,
    ) -> Result<(), Status> {
        let held = old.map(held_ports).unwrap_or_default();
        let kind = service["spec"]["type"].as_str().unwrap_or_default().to_owned();
        let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            let allocate = kind == "NodePort" || service["spec"]["allocateLoadBalancerNodePorts"] != false;
            let mut ports = match service["spec"]["ports"].take() {
                Value::Array(ports) => ports,
                _ => Vec::new(),
            };
            // Ports of one number and several protocols share a node port.
            let mut by_port: Vec<(i64, u16)> = Vec::new();
            for index in 0..ports.len() {
                let own = node_port(&ports[index]);
                if own == 0 && !allocate {
                    continue;
                }
                let number = ports[index]["port"].as_i64().unwrap_or_default();
                let shared = by_port.iter().find(|(n, _)| *n == number).map(|(_, p)| *p);
                let requested = match (own, shared) {
                    (0, Some(shared)) => {
                        ports[index]["nodePort"] = json!(shared);
                        continue;
                    }
                    (own, Some(shared)) if own == shared => continue,
                    (0, None) if old.is_none() => {
                        ports.iter().filter(|p| p["port"] == number).map(node_port).find(|p| *p != 0)
                    }
                    (0, None) => None,
                    (own, _) => Some(own),
                };
                let given = match requested {
                    Some(wanted) if held.contains(&wanted) || reservation.ports.contains(&wanted) => wanted,
                    Some(wanted) => {
                        self.take_port(state, wanted, reservation).map_err(|why| {
                            let path = Path::new("spec");
                            let path = path.child("ports");
                            let path = path.index(index);
                            let error = field::Error::invalid(&path.child("nodePort"), wanted, why);
                            Status::invalid("", "Service", &name, &[error])
                        })?;
                        wanted
                    }
                    None => self.next_port(state, reservation).map_err(|why| {
                        Status::internal(format_args!("failed to allocate a nodePort: {why}"))
                    })?,
                };
                ports[index]["nodePort"] = json!(given);
                if shared.is_none() {
                    by_port.push((number, given));
                }
            }
            service["spec"]["ports"] = Value::Array(ports);
        }
        if needs_health_check(service) && !old.is_some_and(needs_health_check) {
            let wanted = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) as u16;
            if wanted == 0 {
                let port = self.next_port(state, reservation).map_err(|why| {
                    Status::internal(format_args!("failed to allocate a HealthCheck NodePort 0: {why}"))
                })?;
                service["spec"]["healthCheckNodePort"] = json!(port);
            } else {
                self.take_port(state, wanted, reservation).map_err(|why| {
                    Status::internal(format_args!(
                        "failed to allocate requested HealthCheck NodePort {wanted}: {why}"
                    ))
                })?;
            }
        }
        let now = held_ports(service);
        reservation.obsolete_ports = held.into_iter().filter(|port| !now.contains(port)).collect();
        Ok(())
    }

    fn take_port(&self, state: &mut State, port: u16, reservation: &mut Reservation) -> Result<(), String> {
        let taken = match (reservation.dry_run, state.ports.contains(port.into())) {
            (true, true) => Ok(()),
            (true, false) => Err(Unavailable::OutOfRange),
            (false, _) => state.ports.take(port.into()),
        };
        taken.map_err(|why| match why {
            Unavailable::OutOfRange => format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.port_range.0, self.port_range.1
            ),
            Unavailable::Allocated => "provided port is already allocated".into(),
            Unavailable::Full => "range is full".into(),
        })?;
        if !reservation.dry_run {
            reservation.ports.push(port);
        }
        Ok(())
    }

    fn next_port(&self, state: &mut State, reservation: &mut Reservation) -> Result<u16, Unavailable> {
        let port = state.ports.take_next(&*self.entropy)?;
        if reservation.dry_run {
            // Shown, but not held.
            state.ports.release(port);
        } else {
            reservation.ports.push(port as u16);
        }
        Ok(port as u16)
    }

    fn give_back(&self, addresses: &[IpAddr], ports: &[u16]) {
        let mut state = self.lock();
        for address in addresses {
            state.reserved.remove(address);
        }
        for port in ports {
            state.ports.release((*port).into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_taken(&self, address: &IpAddr, known: &Addresses<'_>) -> bool {
        self.reserved.contains(address) || self.unlisted.contains(address) || (known.listed)(address)
    }
}

/// Numbers held for a write that is under way.
#[must_use = "dropping a reservation gives everything back"]
pub struct Reservation {
    allocators: Arc<Allocators>,
    dry_run: bool,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
    obsolete_addresses: Vec<IpAddr>,
    obsolete_ports: Vec<u16>,
}

impl Reservation {
    /// Addresses that this write takes and gives up.
    pub fn changes(&self) -> (&[IpAddr], &[IpAddr]) {
        if self.dry_run { (&[], &[]) } else { (&self.addresses, &self.obsolete_addresses) }
    }

    /// The write stands: keep what was reserved and give back what the old Service no longer needs.
    pub fn commit(mut self) {
        self.ports.clear();
        if !self.dry_run {
            let mut state = self.allocators.lock();
            for address in &self.obsolete_addresses {
                state.unlisted.remove(address);
            }
            for port in &self.obsolete_ports {
                state.ports.release((*port).into());
            }
        }
        // The addresses are held by their objects now; dropping this lets go of them.
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.addresses.is_empty() || !self.ports.is_empty() {
            self.allocators.give_back(&self.addresses, &self.ports);
        }
    }
}

fn invalid_addresses(service: &Value, shown: &Value, why: String) -> Status {
    let path = Path::new("spec");
    let error = field::Error::invalid(&path.child("clusterIPs"), shown.clone(), why);
    Status::invalid("", "Service", service["metadata"]["name"].as_str().unwrap_or_default(), &[error])
}

fn is_headless(service: &Value) -> bool {
    service["spec"]["clusterIPs"][0] == "None" || service["spec"]["clusterIP"] == "None"
}

fn needs_health_check(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn node_port(port: &Value) -> u16 {
    port["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(0)
}

fn held_addresses(service: &Value) -> Vec<IpAddr> {
    if service["spec"]["type"] == "ExternalName" {
        return Vec::new();
    }
    let mut addresses = strings(&service["spec"]["clusterIPs"]);
    if addresses.is_empty() {
        addresses.extend(service["spec"]["clusterIP"].as_str().map(str::to_owned));
    }
    addresses.iter().filter_map(|a| a.parse().ok()).collect()
}

fn held_ports(service: &Value) -> Vec<u16> {
    let mut ports: Vec<u16> = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(node_port)
        .filter(|p| *p != 0)
        .collect();
    if needs_health_check(service) {
        let health = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) as u16;
        ports.extend((health != 0).then_some(health));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests;
