//! Interfaces, addresses, routes and neighbours, through rtnetlink.
//!
//! [`Netlink::connect`] works in the network namespace of the calling thread and stays in it. The "ensure"
//! functions say in their result whether they changed anything; what is already so is not touched.

mod prefix;

pub use prefix::{Prefix, PrefixError};

use crate::netns::Namespace;
use crate::{Error, Result};
use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `bridge`, `veth`, …; `None` for physical ones.
    pub kind: Option<String>,
    /// Switched on by the administrator (it may still lack a carrier).
    pub up: bool,
    pub loopback: bool,
    pub mtu: u32,
    /// Hardware address, six bytes for Ethernet.
    pub mac: Vec<u8>,
    /// Index of the bridge that it is a port of.
    pub master: Option<u32>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub index: u32,
    pub prefix: Prefix,
}

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub destination: Prefix,
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing interface; `None` for multipath ones.
    pub index: Option<u32>,
    pub source: Option<IpAddr>,
    pub metric: u32,
}

/// An entry of the ARP or neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub index: u32,
    pub address: IpAddr,
    pub mac: Vec<u8>,
}

/// A connection to the kernel; cheap to clone. Its task ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Must be called within a tokio runtime, which drives the connection.
    pub fn connect() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| Error::new("opening a netlink socket", e))?;
        tokio::spawn(connection);
        Ok(Netlink { handle })
    }

    /// All interfaces, by index.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let messages: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| explain("listing network interfaces", e))?;
        let mut links: Vec<Link> = messages.iter().map(link_of).collect();
        links.sort_by_key(|l| l.index);
        Ok(links)
    }

    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        match self.handle.link().get().match_name(name).execute().try_next().await {
            Ok(message) => Ok(message.as_ref().map(link_of)),
            Err(e) if errno(&e) == Some(nix::libc::ENODEV) => Ok(None),
            Err(e) => Err(explain(format!("looking for the interface {name}"), e)),
        }
    }

    /// The interface `name`, which must exist.
    pub async fn expect_link(&self, name: &str) -> Result<Link> {
        self.link(name).await?.ok_or_else(|| {
            Error::new(
                format!("looking for the interface {name}"),
                io::Error::from_raw_os_error(nix::libc::ENODEV),
            )
        })
    }

    /// Makes the bridge `name` if there is none and switches it on. An interface of another kind with that
    /// name is an error.
    pub async fn ensure_bridge(&self, name: &str) -> Result<Link> {
        if self.link(name).await?.is_none() {
            match self.handle.link().add(LinkBridge::new(name).build()).execute().await {
                Ok(()) => {}
                Err(e) if errno(&e) == Some(nix::libc::EEXIST) => {}
                Err(e) => return Err(explain(format!("making the bridge {name}"), e)),
            }
        }
        let link = self.expect_link(name).await?;
        if link.kind.as_deref() != Some("bridge") {
            return Err(Error::new(
                format!("making the bridge {name}"),
                io::Error::new(io::ErrorKind::AlreadyExists, "an interface of another kind has this name"),
            ));
        }
        if !link.up {
            self.set_up(link.index).await?;
        }
        Ok(Link { up: true, ..link })
    }

    /// Makes a pair of connected interfaces.
    pub async fn add_veth(&self, name: &str, peer: &str) -> Result<()> {
        self.handle
            .link()
            .add(LinkVeth::new(name, peer).build())
            .execute()
            .await
            .map_err(|e| explain(format!("making the veth pair {name}, {peer}"), e))
    }

    pub async fn set_up(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.change_link(message, || format!("switching on interface {index}")).await
    }

    /// Makes the interface a port of the bridge with index `master`.
    pub async fn set_master(&self, index: u32, master: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).controller(master).build();
        self.change_link(message, || format!("attaching interface {index} to bridge {master}")).await
    }

    pub async fn move_to(&self, index: u32, namespace: &Namespace) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).setns_by_fd(namespace.as_raw_fd()).build();
        self.change_link(message, || format!("moving interface {index} to another network namespace")).await
    }

    /// Sets the hardware address for good: a bridge with one of its own no longer takes a port's.
    pub async fn ensure_mac(&self, index: u32, mac: [u8; 6]) -> Result<()> {
        if self.links().await?.iter().any(|l| l.index == index && l.mac == mac) {
            return Ok(());
        }
        let message = LinkUnspec::new_with_index(index).address(mac.to_vec()).build();
        self.change_link(message, || format!("setting the hardware address of interface {index}")).await
    }

    async fn change_link(
        &self,
        message: rtnetlink::packet_route::link::LinkMessage,
        doing: impl Fn() -> String,
    ) -> Result<()> {
        self.handle.link().set(message).execute().await.map_err(|e| explain(doing(), e))
    }

    /// Removes an interface (a veth with its peer); one that is not there is success.
    pub async fn delete_link(&self, name: &str) -> Result<()> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            Err(e) if errno(&e) == Some(nix::libc::ENODEV) => Ok(()),
            other => other.map_err(|e| explain(format!("removing the interface {name}"), e)),
        }
    }

    /// All addresses of all interfaces, sorted.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| explain("listing addresses", e))?;
        let mut found: Vec<Address> = messages
            .iter()
            .filter_map(|m| {
                // On point-to-point links `Address` is the peer's and `Local` ours.
                let local = m.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Local(ip) => Some(*ip),
                    _ => None,
                });
                let address = local.or_else(|| {
                    m.attributes.iter().find_map(|a| match a {
                        AddressAttribute::Address(ip) => Some(*ip),
                        _ => None,
                    })
                })?;
                Some(Address { index: m.header.index, prefix: Prefix::new(address, m.header.prefix_len)? })
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// Gives the interface an address if it lacks it; `true` when it did.
    pub async fn ensure_address(&self, index: u32, prefix: Prefix) -> Result<bool> {
        match self.handle.address().add(index, prefix.address, prefix.length).execute().await {
            Ok(()) => Ok(true),
            Err(e) if errno(&e) == Some(nix::libc::EEXIST) => Ok(false),
            Err(e) => Err(explain(format!("giving {prefix} to interface {index}"), e)),
        }
    }

    /// Takes an address away; one that is not there is success.
    pub async fn delete_address(&self, index: u32, prefix: Prefix) -> Result<()> {
        let mut all = self.handle.address().get().set_link_index_filter(index).execute();
        let doing = || format!("taking {prefix} from interface {index}");
        while let Some(m) = all.try_next().await.map_err(|e| explain(doing(), e))? {
            let matches = m.header.prefix_len == prefix.length
                && m.attributes
                    .iter()
                    .any(|a| matches!(a, AddressAttribute::Address(ip) if *ip == prefix.address));
            if matches {
                return match self.handle.address().del(m).execute().await {
                    Err(e) if errno(&e) == Some(nix::libc::EADDRNOTAVAIL) => Ok(()),
                    other => other.map_err(|e| explain(doing(), e)),
                };
            }
        }
        Ok(())
    }

    /// The unicast routes of the main table, both families, sorted.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        let queries = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        for query in queries {
            let messages: Vec<_> = self
                .handle
                .route()
                .get(query)
                .execute()
                .try_collect()
                .await
                .map_err(|e| explain("listing routes", e))?;
            routes.extend(messages.iter().filter_map(route_of));
        }
        routes.sort();
        Ok(routes)
    }

    /// Adds or replaces the route to `route.destination` with the same metric.
    pub async fn ensure_route(&self, route: Route) -> Result<()> {
        let doing = || format!("setting the route to {}", route.destination);
        let mixed = || Error::new(doing(), io::Error::other("an IPv4 and an IPv6 address in one route"));
        let target = route.destination.network();
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(target.address, target.length)
            .map_err(|_| mixed())?;
        if let Some(gateway) = route.gateway {
            builder = builder.gateway(gateway).map_err(|_| mixed())?;
        } else {
            builder = builder.scope(RouteScope::Link);
        }
        if let Some(source) = route.source {
            builder = builder.pref_source(source).map_err(|_| mixed())?;
        }
        if let Some(index) = route.index {
            builder = builder.output_interface(index);
        }
        if route.metric != 0 {
            builder = builder.priority(route.metric);
        }
        self.handle.route().add(builder.build()).replace().execute().await.map_err(|e| explain(doing(), e))
    }

    /// Removes the routes to exactly `destination` through interface `index`; none is success.
    pub async fn delete_route(&self, destination: Prefix, index: u32) -> Result<()> {
        let doing = || format!("removing the route to {destination}");
        let query = if destination.is_ipv4() {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()
        } else {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()
        };
        let messages: Vec<_> =
            self.handle.route().get(query).execute().try_collect().await.map_err(|e| explain(doing(), e))?;
        for message in messages {
            let found = route_of(&message);
            if found.is_some_and(|r| r.destination == destination.network() && r.index == Some(index)) {
                match self.handle.route().del(message).execute().await {
                    Err(e) if errno(&e) == Some(nix::libc::ESRCH) => {}
                    other => other.map_err(|e| explain(doing(), e))?,
                }
            }
        }
        Ok(())
    }

    /// Known neighbours with their hardware addresses.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let messages: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| explain("listing neighbours", e))?;
        let mut found: Vec<Neighbour> = messages
            .iter()
            .filter_map(|m| {
                let address = m.attributes.iter().find_map(|a| match a {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
                    _ => None,
                })?;
                let mac = m.attributes.iter().find_map(|a| match a {
                    NeighbourAttribute::LinkLayerAddress(mac) => Some(mac.clone()),
                    _ => None,
                })?;
                Some(Neighbour { index: m.header.ifindex, address, mac })
            })
            .collect();
        found.sort_by_key(|n| (n.index, n.address));
        Ok(found)
    }

    /// The address that packets without a bound source leave with: that of the interface of the default route
    /// with the lowest metric. `None` without a default route of that family.
    pub async fn primary_address(&self, ipv4: bool) -> Result<Option<IpAddr>> {
        let routes = self.routes().await?;
        let default = routes
            .iter()
            .filter(|r| r.destination.length == 0 && r.destination.is_ipv4() == ipv4)
            .min_by_key(|r| r.metric);
        let Some(route) = default else { return Ok(None) };
        if route.source.is_some() {
            return Ok(route.source);
        }
        let addresses = self.addresses().await?;
        Ok(addresses
            .iter()
            .filter(|a| Some(a.index) == route.index && a.prefix.is_ipv4() == ipv4)
            .map(|a| a.prefix.address)
            .find(|a| !matches!(a, IpAddr::V6(v6) if v6.is_unicast_link_local())))
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|c| c.get().abs()),
        _ => None,
    }
}

fn explain(doing: impl Into<String>, error: rtnetlink::Error) -> Error {
    let source = match errno(&error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    };
    Error::new(doing, source)
}

fn link_of(message: &rtnetlink::packet_route::link::LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        mtu: 0,
        mac: Vec::new(),
        master: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|i| match i {
                    LinkInfo::Kind(InfoKind::Bridge) => Some("bridge".to_owned()),
                    LinkInfo::Kind(InfoKind::Veth) => Some("veth".to_owned()),
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let table = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(id) => Some(*id),
        _ => None,
    });
    if table.unwrap_or(u32::from(header.table)) != u32::from(RouteHeader::RT_TABLE_MAIN)
        || header.kind != RouteType::Unicast
    {
        return None;
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0u8; 4]),
        AddressFamily::Inet6 => IpAddr::from([0u8; 16]),
        _ => return None,
    };
    let mut route = Route {
        destination: Prefix::new(unspecified, header.destination_prefix_length)?,
        gateway: None,
        index: None,
        source: None,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination.address = ip_of(address)?,
            RouteAttribute::Gateway(address) => route.gateway = ip_of(address),
            RouteAttribute::PrefSource(address) => route.source = ip_of(address),
            RouteAttribute::Oif(index) => route.index = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    Some(route)
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn bridge_veth_address_route() {
        if !crate::testing::root_or_skip("netlink") {
            return;
        }
        let (host, pod) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        host.run_async(async move || {
            let net = Netlink::connect().unwrap();
            let bridge = net.ensure_bridge("br-test").await.unwrap();
            assert_eq!(net.ensure_bridge("br-test").await.unwrap().index, bridge.index);
            assert!(net.ensure_address(bridge.index, p("10.9.0.1/24")).await.unwrap());
            assert!(!net.ensure_address(bridge.index, p("10.9.0.1/24")).await.unwrap());
            net.add_veth("v0", "v1").await.unwrap();
            let (v0, v1) = (net.expect_link("v0").await.unwrap(), net.expect_link("v1").await.unwrap());
            assert_eq!(v0.kind.as_deref(), Some("veth"));
            net.set_master(v0.index, bridge.index).await.unwrap();
            net.set_up(v0.index).await.unwrap();
            assert_eq!(net.expect_link("v0").await.unwrap().master, Some(bridge.index));
            net.move_to(v1.index, &pod).await.unwrap();
            assert_eq!(net.link("v1").await.unwrap(), None);
            let route = Route {
                destination: p("10.96.0.0/12"),
                gateway: None,
                index: Some(bridge.index),
                source: Some("10.9.0.1".parse().unwrap()),
                metric: 0,
            };
            net.ensure_route(route).await.unwrap();
            net.ensure_route(route).await.unwrap();
            assert!(net.routes().await.unwrap().contains(&route));
            assert_eq!(net.primary_address(true).await.unwrap(), None);
            let default = Route {
                destination: p("0.0.0.0/0"),
                gateway: Some("10.9.0.2".parse().unwrap()),
                source: None,
                ..route
            };
            net.ensure_route(default).await.unwrap();
            assert!(net.routes().await.unwrap().contains(&default));
            assert_eq!(net.primary_address(true).await.unwrap(), Some("10.9.0.1".parse().unwrap()));
            net.delete_route(route.destination, bridge.index).await.unwrap();
            assert!(!net.routes().await.unwrap().contains(&route));
            net.delete_address(bridge.index, p("10.9.0.1/24")).await.unwrap();
            net.delete_address(bridge.index, p("10.9.0.1/24")).await.unwrap();
            assert!(!net.addresses().await.unwrap().iter().any(|a| a.prefix == p("10.9.0.1/24")));
            let error = net.ensure_bridge("v0").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            net.delete_link("v0").await.unwrap();
            net.delete_link("v0").await.unwrap();
        })
        .unwrap();
    }
}
