use linux::netlink::Prefix;
use std::time::Duration;

/// What a proxy is told; parsing flags into it has no effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our Node's name: decides which endpoints are local.
    pub node_name: String,
    /// Name of our nftables tables. A cluster of its own needs one of its own.
    pub table: String,
    pub ipv4: bool,
    pub ipv6: bool,
    /// Ranges of all pods of the cluster. Traffic to a cluster IP from elsewhere is masqueraded, because it
    /// may leave this node and must come back through it. Empty: nothing is.
    pub cluster_cidrs: Vec<Prefix>,
    /// Ranges of the cluster IPs: addresses in them that no Service has are dropped here, instead of leaving
    /// by the default route. Empty: they are not.
    pub service_cidrs: Vec<Prefix>,
    /// Masquerade what pods of this node send to addresses outside `cluster_cidrs`, which nobody out there
    /// could answer. The ranges come from our Node's `podCIDRs`.
    pub masquerade_pods: bool,
    /// Masquerade everything that goes to a cluster IP.
    pub masquerade_all: bool,
    /// Which bit of the packet mark says "masquerade"; 0 to 31, upstream's default is 14.
    pub masquerade_bit: u8,
    pub node_ports: NodePortAddresses,
    /// Make node ports answer on 127.0.0.1 too. Needs [`Config::bridge`], and reaches endpoints on this node.
    pub loopback_node_ports: bool,
    /// The bridge of our pods, when there is one.
    pub bridge: Option<String>,
    /// A pattern such as `crt*` that fits the bridges of all clusters on this machine. What comes in through
    /// one that is not ours is left to its own proxy. So clusters may share a range of cluster IPs as seen
    /// from their pods; from the host itself only disjoint ranges can work.
    pub foreign_interfaces: Option<String>,
    /// How often to look whether somebody else changed our tables, and to repair them.
    pub sync_period: Duration,
    /// The pause after a transaction, in which changes gather.
    pub min_sync_period: Duration,
}

/// On which of this machine's addresses node ports answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// On every one; on loopback only with [`Config::loopback_node_ports`].
    All,
    /// On the Node's own, upstream's default in nftables mode.
    Primary,
    /// On those within the ranges.
    Within(Vec<Prefix>),
}

impl Config {
    /// Upstream's defaults where there are any, except that node ports answer on all addresses and on
    /// loopback, as users of a one-node cluster expect.
    pub fn new(node_name: &str) -> Self {
        Config {
            node_name: node_name.to_owned(),
            table: "corten".to_owned(),
            ipv4: true,
            ipv6: false,
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            masquerade_pods: true,
            masquerade_all: false,
            masquerade_bit: 14,
            node_ports: NodePortAddresses::All,
            loopback_node_ports: true,
            bridge: None,
            foreign_interfaces: None,
            sync_period: Duration::from_secs(30),
            min_sync_period: Duration::from_millis(50),
        }
    }
}
