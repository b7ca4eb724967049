//! Importing image archives.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::{Config, Error};
use crate::Client;

/// The namespace in which the CRI keeps its images.
const NAMESPACE: &str = "k8s.io";

/// Imports archives into a containerd, by its own client program.
#[derive(Debug, Clone)]
pub struct Images {
    ctr: PathBuf,
    socket: PathBuf,
    snapshotter: String,
}

impl Images {
    pub fn new(config: &Config) -> Images {
        Images {
            ctr: config.ctr.clone(),
            socket: config.socket.clone(),
            snapshotter: config.snapshotter.clone(),
        }
    }

    /// For a containerd that others run.
    pub fn at(socket: &Path) -> Images {
        Images { ctr: "ctr".into(), socket: socket.to_owned(), snapshotter: "overlayfs".into() }
    }

    /// Imports a `docker save` or OCI archive (plain or gzipped tar) and answers with the names of its images,
    /// once the CRI knows them.
    pub async fn import(&self, path: &Path) -> Result<Vec<String>, Error> {
        let fail = |message: String| Error::Import { path: path.to_owned(), message };
        // The client program would wait for ever on a socket on which nobody listens.
        let client = Client::connect(&format!("unix://{}", self.socket.display())).await?;
        if let Err(source) = std::fs::File::open(path) {
            return Err(Error::Io { doing: "opening the image archive", path: path.to_owned(), source });
        }
        let output = tokio::process::Command::new(&self.ctr)
            .args(["--namespace", NAMESPACE, "--address"])
            .arg(&self.socket)
            .args(["images", "import", "--snapshotter", &self.snapshotter])
            .arg(path)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => {
                    Error::NotInstalled { program: "ctr", binary: self.ctr.clone(), package: "containerd" }
                }
                _ => fail(e.to_string()),
            })?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(fail(text.trim().trim_start_matches("ctr: ").to_owned()));
        }
        let names = imported(&String::from_utf8_lossy(&output.stdout));
        if names.is_empty() {
            return Err(fail("it holds no image with a name".to_owned()));
        }
        for name in &names {
            self.await_known(&client, name).await.map_err(|e| fail(e.to_string()))?;
        }
        Ok(names)
    }

    /// The CRI learns of an import through an event, a moment later.
    async fn await_known(&self, client: &Client, name: &str) -> Result<(), crate::Error> {
        for _ in 0..200 {
            if client.image_status(name).await?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err(crate::Error::Incomplete { call: "ImageStatus", what: "the image that was imported" })
    }
}

/// The names in what the client program prints: `unpacking NAME (sha256:…)...done`.
fn imported(output: &str) -> Vec<String> {
    output
        .split(['\n', '\r'])
        .filter_map(|l| {
            l.trim().strip_prefix("unpacking ")?.split_once(" (").map(|(name, _)| name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_read() {
        let text =
            "unpacking registry.local/a:1 (sha256:12)...done\nunpacking docker.io/library/b:2 (sha256:34)...";
        assert_eq!(super::imported(text), ["registry.local/a:1", "docker.io/library/b:2"]);
        assert!(super::imported("nothing").is_empty());
    }
}
