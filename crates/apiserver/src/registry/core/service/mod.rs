//! Cluster addresses and node ports of Services: who holds which, exact under concurrent writes.
//!
//! Rules of upstream's `registry/core/service/storage/alloc.go`. A write first reserves what it needs
//! ([`Allocators::reserve`]), then goes to the store, then commits; a write that fails gives everything back.
//! Nothing here is stored: the allocators are rebuilt from the Services at start.

mod range;

use std::{
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

    /// The usable addresses: without the first, for IPv4 without the last; of IPv6 at most 65,535.
    fn range(&self) -> Range {
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let host_bits = width - u32::from(self.prefix);
        let size = if self.address.is_ipv4() {
            (1u128 << host_bits).saturating_sub(2)
        } else {
            1u128.checked_shl(host_bits.min(16)).unwrap_or(0).saturating_sub(1)
        };
        Range::new(number(self.address) + 1, size, static_band(size, 16, 256))
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
    /// By family, the cluster's default first.
    addresses: Vec<(&'static str, Cidr, Range)>,
    ports: Range,
}

/// What all Services of the cluster hold.
pub struct Allocators {
    state: Mutex<State>,
    port_range: (u16, u16),
    entropy: Arc<dyn Entropy>,
}

impl Allocators {
    /// `cidrs`: one range, or one of each family (the first is the default); `ports`: first and last node port.
    pub fn new(cidrs: &[Cidr], ports: (u16, u16), entropy: Arc<dyn Entropy>) -> Self {
        let size = u128::from(ports.1.saturating_sub(ports.0)) + 1;
        let addresses = cidrs.iter().map(|c| (family(&c.address), *c, c.range())).collect();
        let ports_range = Range::new(ports.0.into(), size, static_band(size, 32, 128));
        Self { state: Mutex::new(State { addresses, ports: ports_range }), port_range: ports, entropy }
    }

    /// Takes what a stored Service holds. At start; conflicts among stored Services are left as they are.
    pub fn restore(&self, service: &Value) {
        let mut state = self.lock();
        for address in held_addresses(service) {
            for (_, _, range) in state.addresses.iter_mut().filter(|(f, ..)| *f == family(&address)) {
                let _ = range.take(number(address));
            }
        }
        for port in held_ports(service) {
            let _ = state.ports.take(port.into());
        }
    }

    /// Gives back what a deleted Service held.
    pub fn release(&self, service: &Value) {
        self.give_back(&held_addresses(service), &held_ports(service));
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
        families::fill(&state, service, old)?;
        self.addresses(&mut state, service, old, &mut reservation)?;
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
            let Some((_, cidr, range)) = state.addresses.iter_mut().find(|(f, ..)| f == wanted_family) else {
                continue;
            };
            if !wanted.is_empty() {
                let address: IpAddr = wanted.parse().map_err(|_| {
                    Status::internal(format_args!("failed to parse service IP {}", field::quote(&wanted)))
                })?;
                if kept.contains(&address) {
                    continue;
                }
                let taken = match (reservation.dry_run, range.contains(number(address))) {
                    (true, true) => Ok(()),
                    (true, false) => Err(Unavailable::OutOfRange),
                    (false, _) => range.take(number(address)),
                };
                taken.map_err(|why| {
                    let why = match why {
                        Unavailable::OutOfRange => format!(
                            "the provided IP ({address}) is not in the valid range. The range of valid IPs is {cidr}"
                        ),
                        Unavailable::Allocated => "provided IP is already allocated".into(),
                        Unavailable::Full => "range is full".into(),
                    };
                    invalid_addresses(service, &shown, format!("failed to allocate IP {wanted}: {why}"))
                })?;
                if !reservation.dry_run {
                    reservation.addresses.push(address);
                }
                continue;
            }
            let address = if reservation.dry_run {
                cidr.address
            } else {
                let taken = range.take_next(&*self.entropy).map_err(|why| {
                    let name = service["metadata"]["name"].as_str().unwrap_or_default();
                    Status::internal(format_args!(
                        "failed to allocate a serviceIP for Service {}: {why}",
                        field::quote(name)
                    ))
                })?;
                let address = address_of(taken, cidr.address.is_ipv6());
                reservation.addresses.push(address);
                address
            };
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
            for (_, _, range) in state.addresses.iter_mut().filter(|(f, ..)| *f == family(address)) {
                range.release(number(*address));
            }
        }
        for port in ports {
            state.ports.release((*port).into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The write stands: keep what was reserved and give back what the old Service no longer needs.
    pub fn commit(mut self) {
        self.addresses.clear();
        self.ports.clear();
        if !self.dry_run {
            self.allocators.give_back(&self.obsolete_addresses, &self.obsolete_ports);
        }
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

mod families {
    //! `spec.ipFamilyPolicy` and `spec.ipFamilies`, from what the user said and what the cluster has.

    use super::{Path, State, Status, Value, family, field, is_headless, json, strings};

    pub(super) fn fill(state: &State, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if service["spec"]["type"] == "ExternalName" {
            return Ok(());
        }
        let Some(default) = state.addresses.first().map(|(f, ..)| *f) else { return Ok(()) };
        normalize(service, old);
        let headless = is_headless(service);
        let selectorless = service["spec"]["selector"].as_object().is_none_or(|s| s.is_empty());
        if service["spec"]["ipFamilyPolicy"].is_null() {
            let before = old.map(|o| o["spec"]["ipFamilyPolicy"].clone()).filter(|p| !p.is_null());
            service["spec"]["ipFamilyPolicy"] = match before {
                Some(before) => before,
                None if headless && selectorless => json!("RequireDualStack"),
                None => json!("SingleStack"),
            };
        }
        let policy = service["spec"]["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
        let mut addresses = strings(&service["spec"]["clusterIPs"]);
        let mut wanted = strings(&service["spec"]["ipFamilies"]);
        let spec = Path::new("spec");
        let policy_path = spec.child("ipFamilyPolicy");
        let mut errors = field::ErrorList::new();
        if let Some(old) = old {
            let old_addresses = strings(&old["spec"]["clusterIPs"]);
            let old_families = strings(&old["spec"]["ipFamilies"]);
            if policy == "SingleStack" {
                if addresses == old_addresses && addresses.len() > 1 {
                    addresses.truncate(1);
                }
                if wanted == old_families && wanted.len() > 1 {
                    wanted.truncate(1);
                }
            } else {
                if !addresses.is_empty() && addresses.len() < old_addresses.len() {
                    errors.push(field::Error::invalid(
                        &policy_path,
                        policy.as_str(),
                        "must be 'SingleStack' to release the secondary cluster IP",
                    ));
                }
                if !wanted.is_empty() && wanted.len() < old_families.len() {
                    errors.push(field::Error::invalid(
                        &policy_path,
                        policy.as_str(),
                        "must be 'SingleStack' to release the secondary IP family",
                    ));
                }
            }
        }
        if policy == "SingleStack" {
            for (count, what) in [(addresses.len(), "cluster IPs"), (wanted.len(), "IP families")] {
                if count == 2 {
                    errors.push(field::Error::invalid(
                        &policy_path,
                        policy.as_str(),
                        format!(
                            "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                        ),
                    ));
                }
            }
        }
        let has = |f: &str| state.addresses.iter().any(|(have, ..)| *have == f);
        for (index, address) in addresses.iter().enumerate() {
            let Ok(parsed) = address.parse() else { break };
            let own = family(&parsed);
            if index >= wanted.len() {
                if has(own) {
                    wanted.push(own.to_owned());
                } else {
                    errors.push(field::Error::invalid(
                        &spec.child("clusterIPs").index(index),
                        json!(addresses),
                        format!("{own} is not configured on this cluster"),
                    ));
                }
            }
        }
        fail(service, &errors)?;
        let other = |f: &str| if f == "IPv4" { "IPv6" } else { "IPv4" }.to_owned();
        if headless && selectorless {
            if wanted.is_empty() {
                wanted.push(default.to_owned());
            }
            if wanted.len() < 2 && policy != "SingleStack" {
                wanted.push(other(&wanted[0]));
            }
        } else {
            if policy == "RequireDualStack" && state.addresses.len() < 2 {
                errors.push(field::Error::invalid(
                    &policy_path,
                    policy.as_str(),
                    "this cluster is not configured for dual-stack services",
                ));
            }
            for (index, f) in wanted.iter().enumerate().filter(|(_, f)| !has(f)) {
                errors.push(field::Error::invalid(
                    &spec.child("ipFamilies").index(index),
                    f.as_str(),
                    "not configured on this cluster",
                ));
            }
            fail(service, &errors)?;
            if wanted.is_empty() {
                wanted.push(default.to_owned());
            }
            if policy != "SingleStack" && wanted.len() == 1 && state.addresses.len() == 2 {
                wanted.push(other(&wanted[0]));
            }
        }
        service["spec"]["ipFamilies"] = json!(wanted);
        if !addresses.is_empty() {
            service["spec"]["clusterIPs"] = json!(addresses);
        }
        Ok(())
    }

    /// `clusterIP` and `clusterIPs` say the same: the older field fills the newer where only it was given, and
    /// an update by a client that knows only the older keeps what stands.
    fn normalize(service: &mut Value, old: Option<&Value>) {
        let spec = &mut service["spec"];
        let given = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        let list_empty = spec["clusterIPs"].as_array().is_none_or(|l| l.is_empty());
        match old {
            None if list_empty && !given.is_empty() => spec["clusterIPs"] = json!([given]),
            None => {}
            Some(old) => {
                let before = &old["spec"]["clusterIP"];
                let kept = old["spec"]["type"] != "ExternalName" && !before.is_null();
                if given.is_empty() && list_empty && kept {
                    spec["clusterIP"] = before.clone();
                    spec["clusterIPs"] = old["spec"]["clusterIPs"].clone();
                } else if list_empty && !given.is_empty() {
                    spec["clusterIPs"] = json!([given]);
                }
            }
        }
    }

    fn fail(service: &Value, errors: &[field::Error]) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        Err(Status::invalid("", "Service", name, errors))
    }
}

#[cfg(test)]
mod tests;
