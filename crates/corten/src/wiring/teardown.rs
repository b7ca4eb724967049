//! Taking away what a cluster has put on the machine: containers, containerd, rules, bridge, mounts, cgroups.

use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::node;
use crate::cluster::Directory;
use crate::cluster::directory::Settings;

/// Ends everything of the cluster that still runs; its data stays.
pub async fn run(directory: &Directory, settings: &Settings) -> Result<()> {
    if settings.container_runtime_endpoint.is_none() && directory.containerd().join("root").exists() {
        cri::containerd::remove_all(&node::containerd_config(directory, &[]))
            .await
            .context("ending the cluster's containers")?;
        end_shims(&node::containerd_config(directory, &[]).socket);
    }
    network::proxy::cleanup(&node::proxy_config(directory, settings))
        .await
        .context("removing the cluster's network rules")?;
    network::cni::cleanup(&node::cni_config(directory, settings, Vec::new()))
        .await
        .context("removing the pod network")?;
    node::unmount_volumes(directory).context("unmounting the pods' volumes")?;
    node::remove_cgroups(settings).context("removing the pods' control groups")?;
    Ok(())
}

/// Ends shims that containerd has lost sight of, which it does when it is stopped while it makes many containers at
/// once. They name the socket that they belong to; what they ran goes with the control groups.
fn end_shims(socket: &Path) {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let (Some(pid), Ok(line)) = (pid, std::fs::read(process.path().join("cmdline"))) else { continue };
        if is_shim_of(&line, socket) {
            tracing::warn!(pid, "ending a container's shim that was left behind");
            // It may have gone by itself in the meantime.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Whether a command line, with zeros between its words, is that of a shim which reports to this socket.
fn is_shim_of(line: &[u8], socket: &Path) -> bool {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let is_shim = words.first().is_some_and(|program| {
        let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        name.starts_with(b"containerd-shim")
    });
    is_shim
        && words
            .windows(2)
            .any(|two| two[0] == b"-address" && two[1] == socket.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims() {
        let check = |line: &str, expect: bool| {
            let line = line.replace(' ', "\0");
            assert_eq!(is_shim_of(line.as_bytes(), Path::new("/d/c.sock")), expect, "{line}");
        };
        check("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id a -address /d/c.sock ", true);
        check("containerd-shim-runc-v2 -address /d/c.sock", true);
        check("/usr/bin/containerd-shim-runc-v2 -id a -address /other/c.sock ", false);
        check("grep containerd-shim-runc-v2 -address /d/c.sock", false);
        check("/usr/bin/containerd-shim-runc-v2 -address", false);
        check("", false);
    }
}
