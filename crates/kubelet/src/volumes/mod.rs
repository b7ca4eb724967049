//! Volumes of pods: where they lie, what is in them, and how containers see them.
//!
//! [`payload`] says what files a volume has (pure), [`atomic`] puts them in place so that a reader sees either
//! the old or the new ones, [`setup`] makes the directories and mounts, [`mounts`] is a container's view.
//! The layout is upstream's: `<root>/pods/<uid>/volumes/kubernetes.io~<sort>/<name>`.

pub mod atomic;
pub mod mounts;
pub mod payload;
pub mod setup;
pub mod subpath;
pub mod tokens;

use std::path::{Path, PathBuf};

use api::core::v1::{Pod, Volume};

use crate::pod::spec;

/// A pod's directory.
pub fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// The sorts of volumes that this node makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    EmptyDir,
    HostPath,
    ConfigMap,
    Secret,
    DownwardApi,
    Projected,
}

/// The sort of a volume; `None` for what this kubelet cannot mount.
pub fn sort(volume: &Volume) -> Option<Sort> {
    if volume.empty_dir.is_some() {
        Some(Sort::EmptyDir)
    } else if volume.host_path.is_some() {
        Some(Sort::HostPath)
    } else if volume.config_map.is_some() {
        Some(Sort::ConfigMap)
    } else if volume.secret.is_some() {
        Some(Sort::Secret)
    } else if volume.downward_api.is_some() {
        Some(Sort::DownwardApi)
    } else if volume.projected.is_some() {
        Some(Sort::Projected)
    } else {
        None
    }
}

/// Where a volume lies on the node.
pub fn path(root: &Path, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
    let plugin = match sort(volume)? {
        Sort::HostPath => return volume.host_path.as_ref().map(|h| PathBuf::from(&h.path)),
        Sort::EmptyDir => "empty-dir",
        Sort::ConfigMap => "configmap",
        Sort::Secret => "secret",
        Sort::DownwardApi => "downward-api",
        Sort::Projected => "projected",
    };
    let name = format!("kubernetes.io~{plugin}");
    Some(pod_dir(root, spec::uid(pod)).join("volumes").join(name).join(&volume.name))
}
