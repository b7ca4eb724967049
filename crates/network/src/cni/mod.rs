//! What pods' interfaces need from the node: a bridge with the pods' gateway address, forwarding, a route for
//! cluster IPs, and the configuration that tells the container runtime to use them.
//!
//! The interfaces themselves are made by the reference plugins (`bridge`, `host-local`, `portmap`), which are
//! told everything: they neither masquerade (`ipMasq` would rewrite the source of traffic between nodes; the
//! [`proxy`](crate::proxy) does it for what leaves the cluster) nor invent names or ranges.
//!
//! Every name derives from the data directory ([`names`]), so several clusters can run on one machine as long
//! as their pod ranges differ.
//!
//! How a packet from a pod to a Service on the same bridge comes back: the kernel must show bridged packets to
//! netfilter (`bridge-nf-call-iptables`, which counts for nftables too), or the answer would go straight to
//! the pod, under an address that it never talked to.

use linux::netlink::{Netlink, Prefix, Route};
use linux::nftables::{self, Family};
use linux::sysctl;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What a node's pod network is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the network, which `host-local` keeps its addresses under.
    pub network: String,
    /// The bridge, at most 15 bytes.
    pub bridge: String,
    /// The node's pod ranges, at most one of each family.
    pub pod_cidrs: Vec<Prefix>,
    /// Ranges of cluster IPs; they get a route into the bridge, so that the host reaches Services even
    /// without a default route, and from an address that pods can answer.
    pub service_cidrs: Vec<Prefix>,
    /// Where the container runtime looks for network configurations. Must be this cluster's alone.
    pub conf_dir: PathBuf,
    /// Where `host-local` writes down the addresses in use.
    pub state_dir: PathBuf,
    /// `None` for the kernel's 1500.
    pub mtu: Option<u32>,
}

/// Names that must differ between clusters on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `crt` and eight hexadecimal digits.
    pub bridge: String,
    /// For [`proxy::Config::table`](crate::proxy::Config::table).
    pub table: String,
    /// For [`proxy::Config::foreign_interfaces`](crate::proxy::Config::foreign_interfaces).
    pub all_bridges: &'static str,
}

/// A pure function of the data directory's path, which should be absolute.
pub fn names(data_dir: &Path) -> Names {
    // FNV-1a: short, stable for ever, and no secret.
    let hash = data_dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    Names { bridge: format!("crt{hash:08x}"), table: format!("corten-{hash:08x}"), all_bridges: "crt*" }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    #[error("writing {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("the pod range {0} has no room for a gateway address")]
    Range(Prefix),
}

/// What [`setup`] leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// The node's addresses on the bridge, one per pod range: pods reach the node under them.
    pub gateways: Vec<IpAddr>,
    /// What could not be had and what that means, for the log.
    pub warnings: Vec<String>,
}

/// The first address of a pod range, which is the node's own; `None` when the range has less than two.
pub fn gateway(pod_cidr: &Prefix) -> Option<IpAddr> {
    pod_cidr.nth(1)
}

/// The network configuration list for the container runtime.
pub fn conflist(config: &Config) -> Result<Value, Error> {
    let mut ranges = Vec::new();
    let mut routes = Vec::new();
    for cidr in &config.pod_cidrs {
        let gateway = gateway(cidr).ok_or(Error::Range(*cidr))?;
        ranges.push(json!([{"subnet": cidr.network().to_string(), "gateway": gateway.to_string()}]));
        routes.push(json!({"dst": if cidr.is_ipv4() { "0.0.0.0/0" } else { "::/0" }}));
    }
    let mut bridge = json!({
        "type": "bridge",
        "bridge": config.bridge,
        "isGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": config.state_dir,
            "ranges": ranges,
            "routes": routes,
        },
    });
    if let (Some(mtu), Some(bridge)) = (config.mtu, bridge.as_object_mut()) {
        bridge.insert("mtu".to_owned(), json!(mtu));
    }
    Ok(json!({
        "cniVersion": "0.4.0",
        "name": config.network,
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": true}}],
    }))
}

/// Makes everything that pods need, and changes nothing that is already so. Works in the calling thread's
/// network namespace, within a tokio runtime.
pub async fn setup(config: &Config) -> Result<Setup, Error> {
    let text = conflist(config)?;
    let mut done = Setup::default();
    kernel_settings(config, &mut done)?;
    let netlink = Netlink::connect()?;
    let bridge = netlink.ensure_bridge(&config.bridge).await?;
    for cidr in &config.pod_cidrs {
        let gateway = gateway(cidr).ok_or(Error::Range(*cidr))?;
        if let IpAddr::V4(v4) = gateway {
            // Else the bridge takes the lowest address among its ports, and changes it under the pods' feet.
            let [a, b, c, d] = v4.octets();
            netlink.ensure_mac(bridge.index, [0x0a, 0x58, a, b, c, d]).await?;
        } else {
            sysctl::ensure(&format!("net/ipv6/conf/{}/accept_dad", config.bridge), "0")?;
        }
        netlink.ensure_address(bridge.index, Prefix { address: gateway, length: cidr.length }).await?;
        done.gateways.push(gateway);
    }
    for cidr in &config.service_cidrs {
        let source = done.gateways.iter().copied().find(|g| g.is_ipv4() == cidr.is_ipv4());
        let Some(source) = source else { continue };
        let other = netlink
            .routes()
            .await?
            .into_iter()
            .find(|r| r.destination == cidr.network() && r.index != Some(bridge.index));
        if other.is_some() {
            done.warnings.push(format!(
                "the machine already has another route to the service range {cidr} (another cluster's?): \
                 from the host itself, Services may lead there"
            ));
            continue;
        }
        let (index, source) = (Some(bridge.index), Some(source));
        netlink
            .ensure_route(Route { destination: cidr.network(), gateway: None, index, source, metric: 0 })
            .await?;
    }
    if let Err(error) = allow_forwarding(&config.bridge).await {
        done.warnings
            .push(format!("{error}: if the firewall forbids forwarding, pods reach nothing outside"));
    }
    write_conflist(config, &text)?;
    Ok(done)
}

fn kernel_settings(config: &Config, done: &mut Setup) -> Result<(), Error> {
    if config.pod_cidrs.iter().any(Prefix::is_ipv4) {
        sysctl::ensure("net/ipv4/ip_forward", "1")?;
    }
    if config.pod_cidrs.iter().any(|c| !c.is_ipv4()) {
        sysctl::ensure("net/ipv6/conf/all/forwarding", "1")?;
    }
    for family in ["iptables", "ip6tables"] {
        let name = format!("net/bridge/bridge-nf-call-{family}");
        if sysctl::exists(&name) {
            sysctl::ensure(&name, "1")?;
        } else if family == "iptables" {
            done.warnings.push(
                "the kernel has no bridge netfilter (load the module br_netfilter): \
                 pods do not reach Services whose endpoint is on the same node"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

/// Lets the bridge's traffic through a firewall that forbids forwarding in iptables' own chain, as docker's
/// does: accepting in a chain of ours would not help, because every chain has to accept. Changes nothing when
/// that chain is missing, allows forwarding, or has our rules already.
///
/// The proxy calls this again when somebody changed the firewall. What iptables-legacy forbids cannot be seen
/// through nftables, and is not helped.
pub async fn allow_forwarding(bridge: &str) -> Result<(), linux::Error> {
    let Some(chain) = nftables::list_chain(Family::Ip, "filter", "FORWARD").await? else { return Ok(()) };
    let ours = forward_comment(bridge);
    if chain.policy != "drop" || chain.rules.iter().any(|(_, comment)| *comment == ours) {
        return Ok(());
    }
    let rule = |direction: &str| {
        format!("insert rule ip filter FORWARD {direction}ifname \"{bridge}\" accept comment \"{ours}\"\n")
    };
    nftables::apply(&(rule("i") + &rule("o"))).await
}

async fn forbid_forwarding(bridge: &str) -> Result<(), linux::Error> {
    let Some(chain) = nftables::list_chain(Family::Ip, "filter", "FORWARD").await? else { return Ok(()) };
    let ours = forward_comment(bridge);
    let rules = chain.rules.iter().filter(|(_, comment)| *comment == ours);
    let text: String =
        rules.map(|(handle, _)| format!("delete rule ip filter FORWARD handle {handle}\n")).collect();
    if text.is_empty() { Ok(()) } else { nftables::apply(&text).await }
}

fn forward_comment(bridge: &str) -> String {
    format!("corten {bridge}")
}

fn conflist_path(config: &Config) -> PathBuf {
    config.conf_dir.join("10-corten.conflist")
}

/// By renaming, and only when it changes: the container runtime watches the directory.
fn write_conflist(config: &Config, value: &Value) -> Result<(), Error> {
    let path = conflist_path(config);
    let text = format!("{value:#}\n");
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let failed = |source| Error::Write { path: path.clone(), source };
    let temporary = config.conf_dir.join(".10-corten.conflist.new");
    fs::create_dir_all(&config.conf_dir)
        .and_then(|()| fs::write(&temporary, &text))
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(failed)
}

/// Takes away the bridge (with its addresses and routes), its rules in the firewall, the configuration and the
/// list of used addresses.
/// To be called when no pod is left. IP forwarding stays on: others may rely on it by now.
pub async fn cleanup(config: &Config) -> Result<(), Error> {
    Netlink::connect()?.delete_link(&config.bridge).await?;
    forbid_forwarding(&config.bridge).await?;
    let gone = |path: PathBuf, result: io::Result<()>| match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Write { path, source: e }),
        _ => Ok(()),
    };
    let path = conflist_path(config);
    let removed = fs::remove_file(&path);
    gone(path, removed)?;
    let path = config.state_dir.join(&config.network);
    let removed = fs::remove_dir_all(&path);
    gone(path, removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        Config {
            network: "test".into(),
            bridge: "crt0".into(),
            pod_cidrs: vec!["10.244.3.0/24".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
            conf_dir: dir.join("net.d"),
            state_dir: "/state".into(),
            mtu: None,
        }
    }

    #[test]
    fn names_differ_by_directory_and_fit() {
        let (a, b) = (names(Path::new("/var/lib/corten")), names(Path::new("/tmp/x")));
        assert_eq!(a.bridge, "crt4700f01b");
        assert_ne!(a, b);
        assert!(a.bridge.len() <= 15 && a.table == format!("corten-{}", &a.bridge[3..]));
    }

    #[test]
    fn conflists() {
        let mut c = config(Path::new("/c"));
        insta::assert_snapshot!(format!("{:#}", conflist(&c).unwrap()));
        c.pod_cidrs.push("fd00:3::/64".parse().unwrap());
        c.mtu = Some(1400);
        insta::assert_snapshot!(format!("{:#}", conflist(&c).unwrap()));
        c.pod_cidrs = vec!["10.0.0.1/32".parse().unwrap()];
        assert_eq!(
            conflist(&c).unwrap_err().to_string(),
            "the pod range 10.0.0.1/32 has no room for a gateway address"
        );
    }
}
