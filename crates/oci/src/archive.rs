//! The docker-archive format: a tar of one layer, an image configuration and a manifest.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Error;

/// The machine's architecture in the words of the image specification (`amd64`, `arm64`).
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[derive(Clone, Debug)]
enum Node {
    Directory { mode: u32 },
    File { bytes: Vec<u8>, mode: u32 },
    Link { target: String },
}

/// An image of one layer in the making. Paths inside the image are absolute or relative to its root; parent
/// directories come by themselves. The same content always gives the same bytes, and so the same image ID.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    nodes: BTreeMap<String, Node>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: Vec<String>,
    user: String,
    workdir: String,
}

impl Image {
    /// `name` is a whole reference, `registry.local/redis:7`.
    pub fn new(name: &str) -> Image {
        Image {
            name: name.to_owned(),
            nodes: BTreeMap::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            user: String::new(),
            workdir: "/".to_owned(),
        }
    }

    pub fn entrypoint(mut self, args: &[&str]) -> Image {
        self.entrypoint = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    pub fn command(mut self, args: &[&str]) -> Image {
        self.command = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Image {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// The user that the image asks for, `"65535:65535"` for example; root when empty.
    pub fn user(mut self, user: &str) -> Image {
        self.user = user.to_owned();
        self
    }

    pub fn directory(mut self, path: &str, mode: u32) -> Image {
        self.put(path, Node::Directory { mode });
        self
    }

    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Image {
        self.put(path, Node::File { bytes: bytes.into(), mode });
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Image {
        self.put(path, Node::Link { target: target.to_owned() });
        self
    }

    /// Copies a file of this machine into the image.
    pub fn copy(self, from: &Path, to: &str, mode: u32) -> Result<Image, Error> {
        let bytes =
            std::fs::read(from).map_err(|source| Error::Read { path: from.display().to_string(), source })?;
        Ok(self.file(to, bytes, mode))
    }

    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_start_matches('/'))
    }

    fn put(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        let mut end = 0;
        while let Some(slash) = path[end..].find('/') {
            let parent = &path[..end + slash];
            self.nodes.entry(parent.to_owned()).or_insert(Node::Directory { mode: 0o755 });
            end += slash + 1;
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// The image's configuration and its one layer, an uncompressed tar: what a registry keeps as blobs.
    pub fn blobs(&self) -> (Vec<u8>, Vec<u8>) {
        let layer = self.layer();
        let layer_id = hex(&Sha256::digest(&layer));
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Env": self.env,
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "User": self.user,
                "WorkingDir": self.workdir,
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_id}")] },
            "history": [{ "created_by": "corten" }],
        })
        .to_string()
        .into_bytes();
        (config, layer)
    }

    /// The whole archive, as `docker save` would write it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (config, layer) = self.blobs();
        let layer_id = hex(&Sha256::digest(&layer));
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let layer_name = format!("{layer_id}/layer.tar");
        let manifest =
            json!([{ "Config": config_name, "RepoTags": [self.name], "Layers": [layer_name] }]).to_string();

        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, &config_name, &config, 0o644);
        append(&mut tar, &layer_name, &layer, 0o644);
        append(&mut tar, "manifest.json", manifest.as_bytes(), 0o644);
        finish(tar)
    }

    pub fn write_to(&self, path: &Path) -> Result<(), Error> {
        std::fs::write(path, self.to_bytes())
            .map_err(|source| Error::Write { path: path.display().to_string(), source })
    }

    fn layer(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            match node {
                Node::Directory { mode } => {
                    let mut header = header(*mode, 0, tar::EntryType::Directory);
                    // Writing into a Vec cannot fail, and names are bounded by what callers pass.
                    let _ = tar.append_data(&mut header, format!("{path}/"), std::io::empty());
                }
                Node::File { bytes, mode } => append(&mut tar, path, bytes, *mode),
                Node::Link { target } => {
                    let mut header = header(0o777, 0, tar::EntryType::Symlink);
                    let _ = tar.append_link(&mut header, path, target);
                }
            }
        }
        finish(tar)
    }
}

fn header(mode: u32, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = header(mode, bytes.len() as u64, tar::EntryType::Regular);
    let _ = tar.append_data(&mut header, path, bytes);
}

fn finish(tar: tar::Builder<Vec<u8>>) -> Vec<u8> {
    // A Vec takes every write, so there is no error to report.
    tar.into_inner().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for entry in tar::Archive::new(bytes).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            all.insert(path, content);
        }
        all
    }

    #[test]
    fn an_archive_names_its_parts_by_their_digests() {
        let image = Image::new("registry.local/a:1").entrypoint(&["/bin/a"]).file("/bin/a", *b"x", 0o755);
        let outer = entries(&image.to_bytes());
        let manifest: serde_json::Value = serde_json::from_slice(&outer["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "registry.local/a:1");
        let config = &outer[manifest[0]["Config"].as_str().unwrap()];
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/a");
        let layer = &outer[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(layer))));
        assert_eq!(entries(layer).keys().collect::<Vec<_>>(), ["bin/", "bin/a"]);
        assert_eq!(image.to_bytes(), image.clone().to_bytes());
    }
}
