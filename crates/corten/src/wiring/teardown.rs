//! Taking away what a cluster has put on the machine: containers, containerd, rules, bridge, mounts, cgroups.

use anyhow::{Context, Result};

use super::node;
use crate::cluster::Directory;
use crate::cluster::directory::Settings;

/// Ends everything of the cluster that still runs; its data stays.
pub async fn run(directory: &Directory, settings: &Settings) -> Result<()> {
    if settings.container_runtime_endpoint.is_none() && directory.containerd().join("root").exists() {
        cri::containerd::remove_all(&node::containerd_config(directory, &[]))
            .await
            .context("ending the cluster's containers")?;
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
