//! The real kubectl, its oldest and newest versions on the machine too, against a server over TLS: what it reads of discovery,
//! OpenAPI and access reviews must satisfy it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use std::sync::Arc;

use apiserver::server::{ApiServer, serve, tls};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::access;

/// Serves on a port of its own, with a certificate that nobody signed, until the token is cancelled.
async fn listen(server: Arc<ApiServer>, end: CancellationToken) -> (String, tokio::task::JoinHandle<()>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.der().clone()], key));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let config = tls::server_config(Arc::new(resolver)).unwrap();
    (url, tokio::spawn(serve(server, listener, config, end)))
}

/// The `kubectl` of the path, and the oldest and newest of its versions (`kubectl.1.27` …) that lie beside it.
fn programs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).find_map(|dir| dir.join("kubectl").canonicalize().ok());
    let Some(first) = first else { return Vec::new() };
    let beside = first.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = beside
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("kubectl.1."))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    let newest = found.pop();
    found.truncate(1);
    found.into_iter().chain(newest).chain([first]).collect()
}

struct Kubectl<'a> {
    program: &'a Path,
    server: &'a str,
    home: &'a Path,
}

impl Kubectl<'_> {
    /// Exit code and everything it wrote.
    async fn run(&self, token: &str, arguments: &[&str], input: &str) -> (i32, String) {
        let mut child = Command::new(self.program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home)
            .args(["--server", self.server, "--insecure-skip-tls-verify", "--token", token])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    async fn check(&self, token: &str, arguments: &[&str], input: &str, code: i32, words: &[&str]) {
        let (got, text) = self.run(token, arguments, input).await;
        let program = self.program.display();
        assert_eq!(got, code, "{program} {arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{program} {arguments:?} lacks {word:?}: {text}");
        }
    }
}

const MAP: &str =
    r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "one"}}"#;
const BAD: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replica": 1,
    "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]}}}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl() {
    let programs = programs();
    if programs.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "there is no kubectl");
        eprintln!("skipped: there is no kubectl");
        return;
    }
    let world = access::cluster(true).await;
    let end = CancellationToken::new();
    let (server, serving) = listen(world.server.clone(), end.clone()).await;
    for program in &programs {
        let home = tempfile::tempdir().unwrap();
        let k = Kubectl { program, server: &server, home: home.path() };
        let root = "root-token";
        let none = "";
        k.check(root, &["version"], none, 0, &["Server Version: ", "v1.36.2+corten"]).await;
        let (code, resources) = k.run(root, &["api-resources", "-o", "wide"], none).await;
        assert_eq!(code, 0, "{resources}");
        assert!(!resources.to_lowercase().contains("error"), "{resources}");
        for word in ["deployments", "deploy", "apps/v1", "poddisruptionbudgets"] {
            assert!(resources.contains(word), "{word}: {resources}");
        }
        k.check(root, &["api-versions"], none, 0, &["apps/v1", "rbac.authorization.k8s.io/v1"]).await;
        let words = &["The deployment strategy to use to replace existing pods", "rollingUpdate", "<string>"];
        k.check(root, &["explain", "deployment.spec.strategy"], none, 0, words).await;
        let words = &["KIND:       Pod", "containers", "-required-"];
        k.check(root, &["explain", "pod.spec", "--recursive"], none, 0, words).await;
        k.check(root, &["auth", "can-i", "create", "pods"], none, 0, &["yes"]).await;
        k.check("jane-token", &["auth", "can-i", "create", "pods"], none, 1, &["no"]).await;
        let words = &["selfsubjectaccessreviews.authorization.k8s.io", "/healthz"];
        k.check("jane-token", &["auth", "can-i", "--list"], none, 0, words).await;
        let forbidden = &[
            "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\"",
        ];
        k.check("jane-token", &["get", "pods"], none, 1, forbidden).await;
        k.check("none", &["get", "pods"], none, 1, &["(Unauthorized)"]).await;
        k.check(root, &["create", "token", "default", "--duration", "10m"], none, 0, &["eyJ"]).await;
        k.check(root, &["create", "-f", "-"], BAD, 1, &["unknown field \"spec.replica\""]).await;
        k.check(root, &["apply", "-f", "-"], MAP, 0, &["configmap/m created"]).await;
        k.check(root, &["apply", "-f", "-"], MAP, 0, &["configmap/m unchanged"]).await;
        let two = MAP.replace("one", "two");
        k.check(root, &["diff", "-f", "-"], &two, 1, &["-  k: one", "+  k: two"]).await;
        k.check(root, &["apply", "-f", "-"], &two, 0, &["configmap/m configured"]).await;
        k.check(
            root,
            &["apply", "--dry-run=server", "-f", "-"],
            MAP,
            0,
            &["configmap/m configured (server dry run)"],
        )
        .await;
        k.check(root, &["get", "cm", "m", "-o", "jsonpath={.data.k}"], none, 0, &["two"]).await;
        k.check(root, &["delete", "cm", "m", "--wait"], none, 0, &["configmap \"m\" deleted"]).await;
        server_side(&k, root).await;
        let role = &["create", "rolebinding", "jane", "--clusterrole", "view", "--user", "jane"];
        k.check(root, role, none, 0, &["rolebinding.rbac.authorization.k8s.io/jane created"]).await;
        k.check("jane-token", &["get", "pods"], none, 0, &["No resources found"]).await;
        k.check(root, &["delete", "rolebinding", "jane"], none, 0, &[]).await;
    }
    end.cancel();
    serving.await.unwrap();
}

/// `kubectl apply --server-side`: conflicts, force, removal, and the way there from `kubectl apply`.
async fn server_side(k: &Kubectl<'_>, root: &str) {
    let map = |name: &str, data: &str| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {{\"name\": \"{name}\"}}, \"data\": {data}}}"
        )
    };
    let apply = ["apply", "--server-side", "-f", "-"];
    let other = ["apply", "--server-side", "--field-manager", "other", "-f", "-"];
    let data = ["get", "cm", "-o", "jsonpath={.items[*].data}", "--field-selector"];
    let one = map("s", "{\"k\": \"one\", \"l\": \"one\"}");
    let two = map("s", "{\"k\": \"two\"}");
    k.check(root, &apply, &one, 0, &["configmap/s serverside-applied"]).await;
    k.check(root, &["diff", "--server-side", "-f", "-"], &one, 0, &[]).await;
    let conflict = &["Apply failed with 1 conflict: conflict with \"kubectl\": .data.k", "--force-conflicts"];
    k.check(root, &other, &two, 1, conflict).await;
    let forced: Vec<&str> = other.iter().copied().chain(["--force-conflicts"]).collect();
    k.check(root, &forced, &two, 0, &["configmap/s serverside-applied"]).await;
    let of_s: Vec<&str> = data.iter().copied().chain(["metadata.name=s"]).collect();
    k.check(root, &of_s, "", 0, &["\"k\":\"two\"", "\"l\":\"one\""]).await;
    k.check(root, &apply, &map("s", "{}"), 0, &["serverside-applied"]).await;
    let (_, left) = k.run(root, &of_s, "").await;
    assert_eq!(left, "{\"k\":\"two\"}");
    k.check(
        root,
        &["apply", "-f", "-"],
        &map("t", "{\"k\": \"one\", \"l\": \"one\"}"),
        0,
        &["configmap/t created"],
    )
    .await;
    k.check(root, &apply, &map("t", "{\"k\": \"two\"}"), 0, &["configmap/t serverside-applied"]).await;
    let of_t: Vec<&str> = data.iter().copied().chain(["metadata.name=t"]).collect();
    let (_, left) = k.run(root, &of_t, "").await;
    assert_eq!(left, "{\"k\":\"two\"}");
    k.check(root, &["apply", "-f", "-"], &map("t", "{\"k\": \"three\"}"), 0, &["configmap/t configured"])
        .await;
    k.check(
        root,
        &["delete", "cm", "s", "t"],
        "",
        0,
        &["configmap \"s\" deleted", "configmap \"t\" deleted"],
    )
    .await;
}
