//! Debian packages: which are missing, why they are wanted, and their installation.

use std::path::Path;

use anyhow::{Result, bail};

use crate::run::{command, run};

/// A package, the file that shows that it is there, and its reason.
pub struct Package {
    pub name: &'static str,
    pub file: &'static str,
    pub why: &'static str,
}

const fn package(name: &'static str, file: &'static str, why: &'static str) -> Package {
    Package { name, file, why }
}

/// What a cluster with containers needs.
pub const CLUSTER: &[Package] = &[
    package("containerd", "/usr/bin/containerd", "runs the containers"),
    package("runc", "/usr/sbin/runc", "starts each container"),
    package("containernetworking-plugins", "/usr/lib/cni/bridge", "connects pods to the node's bridge"),
    package("nftables", "/usr/sbin/nft", "Service addresses and masquerading"),
    package("iptables", "/usr/sbin/iptables", "host ports of pods"),
];

/// What the sample application is made of.
pub const SAMPLE: &[Package] = &[
    package("redis-server", "/usr/bin/redis-server", "the sample's second tier"),
    package("busybox-static", "/bin/busybox", "a shell in the sample's images"),
];

/// What the tests drive and compare with.
pub const TESTS: &[Package] = &[
    package("iproute2", "/bin/ip", "network namespaces for the tests"),
    package("conntrack", "/usr/sbin/conntrack", "checks of connection tracking"),
];

/// Plain requests, as a user makes them.
pub const CURL: &[Package] = &[package("curl", "/usr/bin/curl", "sends the sample's objects")];

/// Installs what is missing of the lists, having said what and why.
pub fn install(lists: &[&[Package]]) -> Result<()> {
    let missing: Vec<&Package> =
        lists.iter().copied().flatten().filter(|package| !Path::new(package.file).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("    missing Debian packages:");
    for package in &missing {
        println!("      {:<28} {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let install = || {
        let mut install = command("apt-get", &["install", "-y", "-qq", "--no-install-recommends"]);
        install.args(&names).env("DEBIAN_FRONTEND", "noninteractive");
        // Packages that start a service on installation must not: the cluster starts its own.
        install.env("RUNLEVEL", "1").stdout(std::process::Stdio::null());
        run(&mut install)
    };
    if install().is_err() {
        run(command("apt-get", &["update", "-qq"]).stdout(std::process::Stdio::null()))?;
        install()?;
    }
    for package in missing {
        if !Path::new(package.file).exists() {
            bail!("{} is installed, but {} is not there", package.name, package.file);
        }
    }
    Ok(())
}
