//! Deciding what stays the same for the life of a cluster: at the first start from the flags and the machine,
//! later from what was kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::directory::{Directory, FORMAT, Settings, default_domain};
use super::ranges::{self, Range};
use crate::commands::up::Flags;

pub const SECURE_PORT: u16 = 6443;
pub const KUBELET_PORT: u16 = 10250;

/// The settings for this start, saved when they are new or changed by flags.
///
/// # Errors
/// When a flag contradicts what cannot change any more, or a port is in use.
pub fn decide(directory: &Directory, flags: &Flags) -> Result<Settings> {
    let kept = directory.settings()?;
    let settings = match &kept {
        Some(kept) => again(kept, flags)?,
        None => first(directory, flags)?,
    };
    free(settings.secure_port, "the API server", "--secure-port")?;
    if kept.as_ref() != Some(&settings) {
        directory.save(&settings)?;
    }
    Ok(settings)
}

fn first(directory: &Directory, flags: &Flags) -> Result<Settings> {
    let taken = routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default());
    let ranges = ranges::plan(flags.cluster_cidr, flags.service_cluster_ip_range, &taken)?;
    let node_name = match &flags.node_name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname()
            .context("reading the host name")?
            .to_string_lossy()
            .trim()
            .to_lowercase(),
    };
    let problems = apimachinery::names::is_dns1123_subdomain(&node_name);
    if !problems.is_empty() {
        bail!("{node_name:?} cannot be a node's name: {}; choose one with --node-name", problems.join("; "));
    }
    let digest = Sha256::digest(directory.root.as_os_str().as_encoded_bytes());
    Ok(Settings {
        format: FORMAT,
        node_name,
        secure_port: flags.secure_port.unwrap_or(SECURE_PORT),
        kubelet_port: free_port_from(KUBELET_PORT)?,
        advertise_address: flags.node_ip.or_else(address).unwrap_or_else(|| ranges.pods.nth(1).into()),
        ranges,
        id: digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect(),
        kubeconfig: flags.write_kubeconfig.clone(),
        container_runtime_endpoint: flags.container_runtime_endpoint.clone(),
        registry_mirrors: mirrors(flags)?.unwrap_or_default(),
        cluster_domain: flags.cluster_domain.clone().unwrap_or_else(default_domain),
        anonymous_auth: flags.anonymous_auth.unwrap_or(true),
        certificate_validity: validity(flags),
    })
}

fn validity(flags: &Flags) -> Option<i64> {
    flags.certificate_validity_period.and_then(|period| i64::try_from(period.as_secs()).ok())
}

/// The mirrors that flags give; `None` when they say nothing. An empty one is none.
fn mirrors(flags: &Flags) -> Result<Option<Vec<String>>> {
    let given = &flags.registry_mirror;
    for mirror in given.iter().filter(|mirror| !mirror.is_empty()) {
        let url = mirror.split_once('=').filter(|(registry, _)| !registry.is_empty()).map(|(_, url)| url);
        if !url.is_some_and(|url| url.starts_with("http://") || url.starts_with("https://")) {
            bail!(
                "--registry-mirror {mirror}: REGISTRY=URL is wanted, such as docker.io=http://127.0.0.1:5000"
            );
        }
    }
    let all = || given.iter().filter(|mirror| !mirror.is_empty()).cloned().collect();
    Ok((!given.is_empty()).then(all))
}

fn again(kept: &Settings, flags: &Flags) -> Result<Settings> {
    let fixed = |flag: &str, wanted: Option<String>, kept: String| match wanted {
        Some(wanted) if wanted != kept => {
            bail!(
                "{flag} is {kept} in this cluster and cannot become {wanted}; a new --data-dir makes a new cluster"
            )
        }
        _ => Ok(()),
    };
    fixed("--cluster-cidr", flags.cluster_cidr.map(|range| range.to_string()), kept.ranges.pods.to_string())?;
    fixed(
        "--service-cluster-ip-range",
        flags.service_cluster_ip_range.map(|range| range.to_string()),
        kept.ranges.services.to_string(),
    )?;
    fixed("--node-name", flags.node_name.clone(), kept.node_name.clone())?;
    fixed("--cluster-domain", flags.cluster_domain.clone(), kept.cluster_domain.clone())?;
    let mut settings = kept.clone();
    // Another cluster may have been given this one's port while it was stopped; only this node's API server asks
    // for it, and reads it off the node.
    settings.kubelet_port = free_port_from(kept.kubelet_port)?;
    settings.secure_port = flags.secure_port.unwrap_or(kept.secure_port);
    // A laptop changes its address; the cluster moves with it.
    let present = addresses();
    if let Some(address) = flags.node_ip {
        settings.advertise_address = address;
    } else if !present.contains(&kept.advertise_address) {
        settings.advertise_address = address().unwrap_or_else(|| kept.ranges.pods.nth(1).into());
    }
    if let Some(path) = &flags.write_kubeconfig {
        settings.kubeconfig = Some(path.clone());
    }
    settings.anonymous_auth = flags.anonymous_auth.unwrap_or(kept.anonymous_auth);
    settings.certificate_validity = validity(flags).or(kept.certificate_validity);
    if let Some(mirrors) = mirrors(flags)? {
        settings.registry_mirrors = mirrors;
    }
    settings.container_runtime_endpoint =
        flags.container_runtime_endpoint.clone().or_else(|| kept.container_runtime_endpoint.clone());
    Ok(settings)
}

fn free(port: u16, what: &str, flag: &str) -> Result<()> {
    match TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))) {
        Ok(_) => Ok(()),
        Err(error) => {
            bail!("port {port} for {what} cannot be used ({error}); choose another one with {flag}")
        }
    }
}

/// The first port from `start` on that nobody uses.
fn free_port_from(start: u16) -> Result<u16> {
    (start..start.saturating_add(1000))
        .find(|port| TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))).is_ok())
        .with_context(|| format!("no port from {start} on is free for the kubelet"))
}

/// All addresses of this machine.
fn addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter_map(|interface| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip()))).collect()
}

/// The first address that others could reach: not loopback, not a bridge for containers.
fn address() -> Option<IpAddr> {
    let inner = ["lo", "docker", "cni", "corten", "br-", "veth", "virbr", "flannel"];
    nix::ifaddrs::getifaddrs().ok()?.find_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        let usable = !address.is_loopback() && !address.is_link_local();
        (usable && !inner.iter().any(|prefix| interface.interface_name.starts_with(prefix)))
            .then_some(IpAddr::V4(address))
    })
}

/// The ranges that the kernel's IPv4 routing table knows, the default route left out.
fn routes(table: &str) -> Vec<Range> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok().map(u32::swap_bytes);
            let (address, mask) = (number(1)?, number(7)?);
            (mask != 0).then(|| Range { address: address.into(), prefix: mask.count_ones() as u8 })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routing_table_is_read() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     junk\n";
        let got: Vec<String> = routes(table).iter().map(Range::to_string).collect();
        assert_eq!(got, ["10.244.0.0/16"]);
    }
}
