//! The data directory: where everything of one cluster lies, and the facts that must stay the same.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use crate::certificates::store::write_file;

/// The version of the directory's layout. A directory of another version is refused and left alone.
pub const FORMAT: u32 = 1;

/// A socket's path must fit into `sockaddr_un`, and containerd makes longer ones from ours.
const LONGEST_PATH: usize = 70;

/// Decided at the first start, kept in `D/cluster.json`: a cluster finds everything as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    pub format: u32,
    pub node_name: String,
    pub secure_port: u16,
    pub kubelet_port: u16,
    pub advertise_address: IpAddr,
    pub ranges: Ranges,
    /// A few characters that keep the names of bridges, tables and cgroups of several clusters apart.
    pub id: String,
    /// The kubeconfig's place when it is not `D/admin.conf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_runtime_endpoint: Option<String>,
    /// `REGISTRY=URL`, as the flag has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_mirrors: Vec<String>,
    #[serde(default = "default_domain")]
    pub cluster_domain: String,
    #[serde(default = "yes")]
    pub anonymous_auth: bool,
    /// How long certificates live, in seconds, when it is not a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_validity: Option<i64>,
}

/// The DNS domain of a cluster that was given none.
pub fn default_domain() -> String {
    "cluster.local".to_owned()
}

fn yes() -> bool {
    true
}

/// A data directory.
#[derive(Clone, Debug)]
pub struct Directory {
    pub root: PathBuf,
}

impl Directory {
    /// Takes the path as absolute; nothing is made yet.
    pub fn new(root: &Path) -> Result<Directory> {
        let root = std::path::absolute(root)
            .with_context(|| format!("finding the data directory {}", root.display()))?;
        if root.as_os_str().len() > LONGEST_PATH {
            bail!(
                "the path of the data directory is too long: {} has {} bytes, and sockets below it leave room \
                 for {LONGEST_PATH}",
                root.display(),
                root.as_os_str().len()
            );
        }
        Ok(Directory { root })
    }

    pub fn create(&self) -> Result<()> {
        for directory in [self.root.clone(), self.images(), self.logs()] {
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("making the directory {}", directory.display()))?;
        }
        Ok(())
    }

    fn settings_path(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    /// The settings of an existing cluster.
    ///
    /// # Errors
    /// When they cannot be read, or belong to another version of this program.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let path = self.settings_path();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let raw: serde_json::Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; nothing was changed", path.display()))?;
        let format = raw.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            bail!(
                "the data directory {} has format {}, and this corten knows format {FORMAT}; nothing was changed",
                self.root.display(),
                format.map_or_else(|| "unknown".to_owned(), |format| format.to_string())
            );
        }
        let settings = serde_json::from_value(raw)
            .with_context(|| format!("{} is damaged; nothing was changed", path.display()))?;
        Ok(Some(settings))
    }

    pub fn save(&self, settings: &Settings) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(settings).context("writing the cluster's settings")?;
        text.push(b'\n');
        write_file(&self.settings_path(), &text, 0o644)
    }

    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    pub fn containerd(&self) -> PathBuf {
        self.root.join("containerd")
    }
    pub fn containerd_socket(&self) -> PathBuf {
        self.containerd().join("containerd.sock")
    }
    pub fn kubelet(&self) -> PathBuf {
        self.root.join("kubelet")
    }
    pub fn cni(&self) -> PathBuf {
        self.root.join("cni")
    }
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    pub fn log_file(&self) -> PathBuf {
        self.logs().join("corten.log")
    }
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("corten.pid")
    }
    pub fn admin_conf(&self) -> PathBuf {
        self.root.join("admin.conf")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_another_format_are_refused_and_kept() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::new(temporary.path()).unwrap();
        assert_eq!(directory.settings().unwrap(), None);
        let path = temporary.path().join("cluster.json");
        for (text, expect) in [
            ("{\"format\": 2}", "has format 2"),
            ("{}", "has format unknown"),
            ("{\"format\"", "is damaged"),
            ("{\"format\": 1}", "is damaged"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", directory.settings().unwrap_err());
            assert!(error.contains(expect), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
