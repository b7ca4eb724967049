//! A container's mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::core::v1::{Container, Pod};
use cri::v1;

use super::subpath;
use crate::pod::{env, spec};

/// The mounts of a container's volumes, in their order. `paths` says where the pod's volumes lie.
pub fn volume_mounts(
    pod: &Pod,
    container: &Container,
    pod_dir: &Path,
    paths: &BTreeMap<String, PathBuf>,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<v1::Mount>, String> {
    let mut out = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let name = &mount.name;
        let path = paths.get(name).ok_or_else(|| {
            format!("cannot find volume {name:?} to mount into container {:?}", container.name)
        })?;
        let mut part = mount.sub_path.clone().unwrap_or_default();
        if let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
            part = expand(expression, variables)?;
        }
        let host_path = if part.is_empty() {
            path.clone()
        } else {
            let target =
                pod_dir.join("volume-subpaths").join(name).join(&container.name).join(index.to_string());
            subpath::prepare(path, &part, &target)
                .map_err(|e| format!("{e} for volumeMount {name:?} of container {:?}", container.name))?
        };
        let source = spec::spec(pod).volumes.iter().flatten().find(|v| &v.name == name);
        // What the kubelet writes is read-only for containers, as upstream has it.
        let managed = source.is_some_and(|v| {
            v.config_map.is_some() || v.secret.is_some() || v.projected.is_some() || v.downward_api.is_some()
        });
        out.push(v1::Mount {
            container_path: absolute(&mount.mount_path),
            host_path: host_path.to_string_lossy().into_owned(),
            readonly: managed || mount.read_only == Some(true),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
                _ => v1::MountPropagation::PropagationPrivate,
            } as i32,
            ..v1::Mount::default()
        });
    }
    Ok(out)
}

/// A file of the kubelet in a container.
pub fn file(host_path: &Path, container_path: &str) -> v1::Mount {
    v1::Mount {
        host_path: host_path.to_string_lossy().into_owned(),
        container_path: absolute(container_path),
        selinux_relabel: true,
        ..v1::Mount::default()
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn expand(expression: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(Vec::new());
    let text = env::expand(expression, |name| {
        let value = variables.get(name).filter(|v| !v.is_empty()).cloned();
        if value.is_none() {
            missing.borrow_mut().push(name.to_owned());
        }
        Some(value.unwrap_or_default())
    });
    let mut missing = missing.into_inner();
    missing.sort();
    if missing.is_empty() { Ok(text) } else { Err(format!("missing value for {}", missing.join(", "))) }
}
