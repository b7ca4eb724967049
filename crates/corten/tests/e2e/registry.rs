//! A registry as the OCI distribution specification has it, as far as pulling needs it: manifests and blobs, over
//! plain HTTP on loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Default)]
struct Content {
    /// By path, such as `/v2/team/app/manifests/1`: content type, digest and bytes.
    files: BTreeMap<String, (&'static str, String, Vec<u8>)>,
    /// The `Authorization` header that requests must have, if they must have one.
    authorization: Option<String>,
    /// What was asked for, in order: method and path.
    asked: Vec<String>,
}

/// Answers until the test's process ends.
pub struct Registry {
    pub address: SocketAddr,
    content: Arc<Mutex<Content>>,
}

impl Registry {
    /// An empty one. With a user and a password, nobody else is answered.
    pub fn start(user: Option<(&str, &str)>) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authorization =
            user.map(|(name, password)| format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))));
        let content = Arc::new(Mutex::new(Content { authorization, ..Content::default() }));
        let registry = Registry { address: listener.local_addr().unwrap(), content: content.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = content.clone();
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || serve(&stream, &content));
            }
        });
        registry
    }

    /// Puts an image under a repository and a tag.
    pub fn push(&self, repository: &str, tag: &str, image: &oci::Image) {
        let (config, layer) = image.blobs();
        let part = |media: &str, bytes: &[u8]| json!({"mediaType": media, "size": bytes.len(), "digest": digest(bytes)});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": part(CONFIG, &config),
            "layers": [part(LAYER, &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        for bytes in [config, layer] {
            let path = format!("/v2/{repository}/blobs/{}", digest(&bytes));
            content.files.insert(path, ("application/octet-stream", digest(&bytes), bytes));
        }
        for reference in [tag.to_owned(), digest(&manifest)] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            content.files.insert(path, (MANIFEST, digest(&manifest), manifest.clone()));
        }
    }

    /// What was asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn serve(stream: &TcpStream, content: &Mutex<Content>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let mut authorization = None;
        loop {
            let line = lines.next()?.ok()?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    authorization = Some(value.trim().to_owned());
                }
                Some(_) => {}
                None => break,
            }
        }
        let (method, path) = request.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
        // containerd names the registry that it means: `?ns=docker.io`.
        let bare = path.split('?').next()?;
        let answer = {
            let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
            content.asked.push(format!("{method} {path}"));
            if content.authorization.is_some() && content.authorization != authorization {
                Err(("401 Unauthorized", "UNAUTHORIZED"))
            } else {
                content.files.get(bare).cloned().ok_or(("404 Not Found", "MANIFEST_UNKNOWN"))
            }
        };
        let (head, body) = match answer {
            Ok((media, digest, bytes)) => {
                (format!("200 OK\r\nContent-Type: {media}\r\nDocker-Content-Digest: {digest}"), bytes)
            }
            Err((status, code)) => {
                let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]});
                let head = format!(
                    "{status}\r\nContent-Type: application/json\r\nWWW-Authenticate: Basic realm=\"registry\""
                );
                (head, body.to_string().into_bytes())
            }
        };
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
        if method != "HEAD" {
            stream.write_all(&body).ok()?;
        }
    }
}
