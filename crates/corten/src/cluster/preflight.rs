//! What must be on the machine before a cluster can start, and how to get what is missing.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Something that must be there, and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub program: &'static str,
    pub package: &'static str,
    pub why: &'static str,
}

const fn requirement(program: &'static str, package: &'static str, why: &'static str) -> Requirement {
    Requirement { program, package, why }
}

/// Needed on every node.
pub const NODE: &[Requirement] = &[
    requirement("nft", "nftables", "Service addresses and masquerading"),
    requirement("iptables", "iptables", "host ports of pods"),
];

/// Needed where no container runtime endpoint is given.
pub const CONTAINERD: &[Requirement] = &[
    requirement("containerd", "containerd", "runs the containers"),
    requirement("ctr", "containerd", "imports images"),
    requirement("runc", "runc", "starts each container"),
];

/// The CNI plugins, looked for in [`CNI_DIRECTORIES`].
pub const CNI_PLUGINS: &[&str] = &["bridge", "host-local", "loopback", "portmap"];
pub const CNI_DIRECTORIES: &[&str] = &["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// Where programs are looked for, whatever the caller's PATH lacks.
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for extra in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if !directories.iter().any(|directory| directory == Path::new(extra)) {
            directories.push(extra.into());
        }
    }
    directories
}

/// The whole path of a program.
pub fn find(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// The directory that holds all CNI plugins.
pub fn cni_directory() -> Option<PathBuf> {
    CNI_DIRECTORIES
        .iter()
        .map(PathBuf::from)
        .find(|directory| CNI_PLUGINS.iter().all(|plugin| directory.join(plugin).is_file()))
}

/// Says everything that is missing at once, each with its reason and the command that brings it.
///
/// # Errors
/// When anything is missing, or this is not root.
pub fn check(root: bool, own_containerd: bool) -> Result<()> {
    let wanted = NODE.iter().chain(if own_containerd { CONTAINERD } else { &[] });
    let missing: Vec<Requirement> = wanted.copied().filter(|wanted| find(wanted.program).is_none()).collect();
    let complaint = complaint(root, &missing, cni_directory().is_some());
    match complaint {
        Some(text) => bail!("{text}"),
        None => Ok(()),
    }
}

/// Whether somebody listens at a container runtime's endpoint, `unix:///…` or a bare path.
///
/// # Errors
/// When nobody does: waiting for a node that can never be Ready helps nobody.
pub fn answers(endpoint: &str) -> Result<()> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(()),
        Err(error) => bail!("no container runtime answers at {endpoint}: {error}"),
    }
}

fn complaint(root: bool, missing: &[Requirement], cni: bool) -> Option<String> {
    let mut lines = Vec::new();
    let mut packages: Vec<&str> = Vec::new();
    if !root {
        lines.push("- root: containers, cgroups and network rules need it; run it with sudo".to_owned());
    }
    for wanted in missing {
        lines.push(format!("- {}: {} (Debian package {})", wanted.program, wanted.why, wanted.package));
        packages.push(wanted.package);
    }
    if !cni {
        lines.push(format!(
            "- the CNI plugins {} in one of {}: pod networks (Debian package containernetworking-plugins)",
            CNI_PLUGINS.join(", "),
            CNI_DIRECTORIES.join(", ")
        ));
        packages.push("containernetworking-plugins");
    }
    if lines.is_empty() {
        return None;
    }
    packages.sort_unstable();
    packages.dedup();
    let mut text = format!("this machine lacks what a cluster needs:\n{}", lines.join("\n"));
    if !packages.is_empty() {
        text.push_str(&format!(
            "\nto get it: sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        ));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_missing_is_said_at_once() {
        assert_eq!(complaint(true, &[], true), None);
        let text = complaint(false, CONTAINERD, false).unwrap();
        for part in [
            "- root:",
            "- containerd: runs the containers (Debian package containerd)",
            "- runc:",
            "- the CNI plugins bridge, host-local, loopback, portmap",
            "sudo apt-get install --no-install-recommends containerd containernetworking-plugins runc",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
