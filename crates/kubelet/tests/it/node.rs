//! A node for tests: a containerd of its own, a kubelet, and an API in memory, all in a temporary directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::containerd::{self, Containerd, Images};
use kubelet::{Config, Kubelet};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::Api;

/// Whether the real thing can run here. Under `CI` it must.
pub fn possible() -> bool {
    let installed = |p: &str| std::process::Command::new(p).arg("--version").output().is_ok();
    let missing = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !installed("containerd") || !installed("runc") {
        "containerd or runc is not installed"
    } else if !Path::new("/usr/lib/cni/ptp").exists() {
        "the network plugins are not installed"
    } else if !Path::new("/usr/bin/busybox").exists() {
        "busybox-static is not installed"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    false
}

pub struct Node {
    pub api: Api,
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub cri: cri::Client,
    runtime: containerd::Config,
    kubelet: Option<(CancellationToken, JoinHandle<()>)>,
    containerd: Option<(CancellationToken, JoinHandle<()>)>,
    /// Where the kubelet's server listens.
    pub address: std::net::SocketAddr,
}

impl Node {
    pub async fn start(name: &str) -> Node {
        let dir = tempfile::tempdir().expect("tempdir");
        let runtime = containerd::Config::below(&dir.path().join("c"));
        std::fs::create_dir_all(&runtime.cni_conf_dir).expect("dir");
        // Point to point links, in a range that this process alone uses.
        let pid = std::process::id();
        let subnet = format!("10.{}.{}.0/24", 240 + pid / 256 % 10, pid % 256);
        let conflist = serde_json::json!({"cniVersion": "0.4.0", "name": "t", "plugins": [{"type": "ptp", "ipMasq": false,
            "ipam": {"type": "host-local", "dataDir": dir.path().join("ipam"), "ranges": [[{"subnet": subnet}]]}}]});
        std::fs::write(runtime.cni_conf_dir.join("10-t.conflist"), conflist.to_string()).expect("write");
        certificates(dir.path());

        let containerd = Containerd::build(runtime.clone()).expect("containerd");
        let handle = containerd.handle();
        let stop = CancellationToken::new();
        let until = stop.clone();
        let running = tokio::spawn(async move { containerd.run(until).await.expect("containerd") });
        handle.ready().await.expect("ready");
        let images = Images::new(&runtime);
        let path = dir.path().join("image.tar");
        let mut busybox = oci::Image::new("localhost/busybox:1")
            .entrypoint(&["/bin/sh"])
            .env("PATH", "/bin")
            .directory("/tmp", 0o1777)
            .copy(Path::new("/usr/bin/busybox"), "/bin/busybox", 0o755)
            .expect("busybox");
        for applet in [
            "sh", "cat", "echo", "sleep", "httpd", "ls", "env", "rm", "touch", "test", "true", "hostname",
            "id",
        ] {
            busybox = busybox.symlink(&format!("/bin/{applet}"), "busybox");
        }
        for image in [oci::pause("localhost/pause:1").expect("pause"), busybox] {
            image.write_to(&path).expect("write");
            images.import(&path).await.expect("import");
        }

        let config = Config {
            root_dir: dir.path().join("k"),
            pod_logs_dir: dir.path().join("logs"),
            container_logs_dir: None,
            container_runtime_endpoint: runtime.endpoint(),
            address: [127, 0, 0, 1].into(),
            port: 0,
            healthz: None,
            tls_cert_file: dir.path().join("tls.crt"),
            tls_private_key_file: dir.path().join("tls.key"),
            cgroup_root: format!("/corten-test-{pid}"),
            node_ips: vec![[127, 0, 0, 1].into()],
            file_check_frequency: Duration::from_millis(200),
            static_pod_path: Some(dir.path().join("manifests")),
            eviction_hard: kubelet::config::Eviction::parse("").expect("thresholds"),
            ..Config::new(name)
        };
        let mut node = Node {
            api: Api::new(),
            dir,
            config,
            cri: handle.client(),
            runtime,
            kubelet: None,
            containerd: Some((stop, running)),
            address: ([127, 0, 0, 1], 0).into(),
        };
        node.api.put(
            "api/v1",
            "services",
            serde_json::json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}}),
        );
        node.start_kubelet().await;
        node
    }

    pub async fn start_kubelet(&mut self) {
        let client = client::Client::new(Arc::new(self.api.clone()), "kubelet-test");
        let clock = Arc::new(linux::time::SystemClock);
        let entropy = Arc::new(linux::time::SystemEntropy::new());
        let kubelet = Kubelet::build(self.config.clone(), client, clock, entropy).await.expect("kubelet");
        self.address = kubelet.address();
        let stop = CancellationToken::new();
        let running = tokio::spawn(kubelet.run(stop.clone()));
        self.kubelet = Some((stop, running));
    }

    pub async fn stop_kubelet(&mut self) {
        if let Some((stop, running)) = self.kubelet.take() {
            stop.cancel();
            running.await.expect("kubelet");
        }
    }

    /// Puts a pod on this node.
    pub fn create(&self, name: &str, spec: serde_json::Value) {
        let mut spec = spec;
        spec["nodeName"] = serde_json::json!(self.config.node_name);
        for (key, value) in [
            ("dnsPolicy", serde_json::json!("ClusterFirst")),
            ("enableServiceLinks", serde_json::json!(true)),
        ] {
            if spec.get(key).is_none() {
                spec[key] = value;
            }
        }
        for list in ["containers", "initContainers"] {
            for c in spec[list].as_array_mut().into_iter().flatten() {
                c["terminationMessagePath"] = serde_json::json!("/dev/termination-log");
                if c.get("image").is_none() {
                    c["image"] = serde_json::json!("localhost/busybox:1");
                }
                if c.get("imagePullPolicy").is_none() {
                    c["imagePullPolicy"] = serde_json::json!("IfNotPresent");
                }
            }
        }
        self.api.put("api/v1", "pods", serde_json::json!({"metadata": {"name": name, "namespace": "default", "generation": 1}, "spec": spec}));
    }

    /// Runs a command in a container.
    pub async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> String {
        let pod = self.api.pod(pod).expect("a pod");
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let status = statuses.iter().find(|s| s["name"] == container).expect("a container");
        let id =
            status["containerID"].as_str().expect("an id").trim_start_matches("containerd://").to_owned();
        let command: Vec<String> = command.iter().map(|c| (*c).to_owned()).collect();
        let answer = self.cri.exec_sync(&id, &command, Duration::from_secs(10)).await.expect("exec");
        String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned()
    }

    /// Stops everything and removes every trace. What goes wrong is an error, unlike when a test fails.
    pub async fn end(mut self) {
        self.stop().await.expect("nothing is left");
    }

    async fn stop(&mut self) -> Result<(), String> {
        self.stop_kubelet().await;
        let Some((stop, running)) = self.containerd.take() else { return Ok(()) };
        stop.cancel();
        let _ = running.await;
        containerd::remove_all(&self.runtime).await.map_err(|e| e.to_string())?;
        linux::mount::unmount_below(self.dir.path()).map_err(|e| e.to_string())?;
        let groups = linux::cgroup::Cgroups::discover().map_err(|e| e.to_string())?;
        let _ = groups.kill(&self.config.cgroup_root);
        tokio::time::sleep(Duration::from_millis(50)).await;
        groups.remove(&self.config.cgroup_root).map_err(|e| e.to_string())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.containerd.is_some() {
            let stopped =
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.stop()));
            eprintln!("cleaned up: {stopped:?}");
        }
    }
}

fn certificates(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(dir.join("tls.crt"), made.cert.pem()).expect("write");
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).expect("write");
}
