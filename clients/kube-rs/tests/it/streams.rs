//! What goes on inside a container, on a real node: exec, attach, port-forward and logs, over WebSockets.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, AttachParams, AttachedProcess, LogParams, PostParams, TerminalSize};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Config};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::until;

const IMAGE: &str = "streams.local/busybox:1";

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A cluster of one node in a directory of its own. Dropping it takes it away.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    /// `None` where this machine cannot run one; where it must (`CI` is set), that is a failure.
    fn start() -> Option<Node> {
        let mut missing: Vec<&str> = ["containerd", "runc", "nft", "busybox"].into();
        missing.retain(|program| find(program).is_none());
        if !nix::unistd::geteuid().is_root() {
            missing.push("root");
        }
        assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "this machine lacks {missing:?}");
        if !missing.is_empty() {
            eprintln!("skipped: this machine lacks {missing:?}");
            return None;
        }
        let node = Node { dir: tempfile::Builder::new().prefix("kube").tempdir_in("/tmp").unwrap() };
        std::fs::create_dir_all(node.data().join("images")).unwrap();
        let image = oci::Image::new(IMAGE).busybox(&find("busybox").unwrap()).unwrap();
        image.env("PATH", "/bin:/usr/bin").write_to(&node.data().join("images/busybox.tar")).unwrap();
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let up = node.corten(&["up", "--detach", "--secure-port", &port.to_string()]);
        assert!(
            up.status.success(),
            "{}{}",
            String::from_utf8_lossy(&up.stdout),
            String::from_utf8_lossy(&up.stderr)
        );
        Some(node)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("d")
    }

    fn corten(&self, args: &[&str]) -> Output {
        let mut command = Command::new(kube_rs::corten().unwrap());
        command.args(args).arg("--data-dir").arg(self.data()).output().unwrap()
    }

    async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(Path::new(&self.data().join("admin.conf"))).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let down = self.corten(&["down", "--purge"]);
        if !down.status.success() {
            eprintln!("{}{}", String::from_utf8_lossy(&down.stdout), String::from_utf8_lossy(&down.stderr));
        }
    }
}

/// Everything that a process has said, and how it ended: `Success` or the reason and the exit code.
async fn ended(mut process: AttachedProcess) -> (String, String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status().unwrap();
    let read_out = async {
        if let Some(mut stdout) = stdout {
            stdout.read_to_string(&mut out).await.unwrap();
        }
    };
    let read_err = async {
        if let Some(mut stderr) = stderr {
            stderr.read_to_string(&mut err).await.unwrap();
        }
    };
    let (status, (), ()) = futures::join!(status, read_out, read_err);
    process.join().await.unwrap();
    let status = status.unwrap();
    let how = match status.status.as_deref() {
        Some("Success") => "Success".to_owned(),
        _ => {
            let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
            let code = causes.into_iter().next().and_then(|cause| cause.message).unwrap_or_default();
            format!("{} {code}", status.reason.unwrap_or_default())
        }
    };
    (out, err, how)
}

#[tokio::test]
async fn exec_attach_forward_and_logs() {
    let Some(node) = Node::start() else { return };
    let client = node.client().await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    until("a service account", async || accounts.get_opt("default").await.unwrap()).await;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let script = "mkdir -p /www; echo answer > /www/index.html; httpd -p 8080 -h /www; echo begun; \
                  while read line; do echo got $line; done; sleep 1000";
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": IMAGE, "stdin": true, "command": ["sh", "-c", script]}]},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let running = await_condition(pods.clone(), "p", conditions::is_pod_running());
    tokio::time::timeout(kube_rs::PATIENCE, running).await.expect("the pod runs").unwrap();

    // output, errors and the exit code
    let piped = || AttachParams::default().stdin(false).stdout(true).stderr(true).tty(false);
    let process = pods.exec("p", ["sh", "-c", "echo out; echo err >&2; exit 3"], &piped()).await.unwrap();
    assert_eq!(ended(process).await, ("out\n".into(), "err\n".into(), "NonZeroExitCode 3".into()));

    // input to its end
    let mut process = pods.exec("p", ["cat"], &piped().stdin(true)).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    let text = "0123456789\n".repeat(20_000);
    let write = async {
        stdin.write_all(text.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let ((), (out, err, how)) = futures::join!(write, ended(process));
    assert!(out == text, "{} of {} bytes", out.len(), text.len());
    assert_eq!((err.as_str(), how.as_str()), ("", "Success"));

    // a terminal and its size
    let sized = ["sh", "-c", "while [ \"$(stty size 2>&1)\" != '33 77' ]; do sleep 0.1; done; echo sized"];
    let mut process = pods.exec("p", sized, &AttachParams::interactive_tty()).await.unwrap();
    let mut size = process.terminal_size().unwrap();
    size.try_send(TerminalSize { height: 33, width: 77 }).unwrap();
    assert_eq!(ended(process).await, ("sized\r\n".into(), String::new(), "Success".into()));

    // the container's own input and output
    let mut attached = pods.attach("p", &piped().stdin(true)).await.unwrap();
    attached.stdin().unwrap().write_all(b"a line\n").await.unwrap();
    let mut stdout = attached.stdout().unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"got a line\n") {
        assert!(stdout.read_buf(&mut seen).await.unwrap() > 0, "{}", String::from_utf8_lossy(&seen));
    }
    attached.abort();
    let follow = LogParams { follow: true, ..Default::default() };
    let mut lines = pods.log_stream("p", &follow).await.unwrap().lines();
    let mut log = Vec::new();
    while log.last().map(String::as_str) != Some("got a line") {
        log.push(futures::TryStreamExt::try_next(&mut lines).await.unwrap().unwrap());
    }
    assert_eq!(log, ["begun", "got a line"]);
    let last = LogParams { tail_lines: Some(1), ..Default::default() };
    assert_eq!(pods.logs("p", &last).await.unwrap(), "got a line\n");

    // a port, twice over one connection's worth of streams each
    for _ in 0..2 {
        let mut forwarded = pods.portforward("p", &[8080]).await.unwrap();
        let mut stream = forwarded.take_stream(8080).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await;
        read.expect("an answer through the forwarded port").unwrap();
        assert!(answer.ends_with("\r\n\r\nanswer\n"), "{answer:?}");
    }
    assert!(pods.exec("nothing", ["true"], &piped()).await.is_err());
}
