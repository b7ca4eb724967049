//! Running a cluster: certificates that are renewed, kubeconfigs, waits that say for what, and pods that have ended
//! before a stop.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::cluster::{Background, CORTEN, Cluster, eventually, free_port, step};

/// The certificate that the API server presents to a new connection. It must be valid now.
fn served(c: &Cluster) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(c.dir.join("pki/ca.crt")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, c.port))).unwrap();
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .unwrap_or_else(|error| panic!("the API server's certificate: {error}"));
    }
    connection.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn certificates() {
    let place = tempfile::tempdir().unwrap();
    let kubeconfig = place.path().join("config");
    let flag = format!("--write-kubeconfig={}", kubeconfig.display());
    let Some(c) = Cluster::with(&[&flag, "--certificate-validity-period=30s"]) else { return };
    step("the kubeconfig where it was asked for");
    let read = || std::fs::read_to_string(&kubeconfig).unwrap();
    let first = read();
    assert_eq!(std::fs::metadata(&kubeconfig).unwrap().permissions().mode() & 0o777, 0o600);
    let with = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let admin = |args: &[&str]| c.kubectl(&[&with[..], args].concat());
    admin(&["auth", "can-i", "*", "*"]).ok().has(&["yes"]);
    c.corten(&["status"], &[]).ok().has(&[with[1]]);
    admin(&["run", "p", "--image=e2e.local/busybox:1", "--", "sh", "-c", "echo here; exec sleep 100000"])
        .ok();
    admin(&["wait", "pod/p", "--for=condition=Ready", "--timeout=110s"]).ok();

    step("three certificates one after the other, each valid, in one process");
    let pid = c.pid();
    let mut seen = BTreeSet::new();
    eventually("three certificates were served", || {
        seen.insert(served(&c));
        // The kubelet and the API server renew theirs as well, and believe each other at all times.
        admin(&["logs", "p"]).ok().has(&["here"]);
        if seen.len() < 3 { Err(format!("{} so far", seen.len())) } else { Ok(()) }
    });
    assert_eq!(c.pid(), pid);
    step("the kubeconfigs were written anew, and the first one has run out");
    let now = read();
    assert_ne!(first, now);
    assert_eq!(std::fs::read_to_string(c.kubeconfig()).unwrap().lines().count(), now.lines().count());
    admin(&["get", "nodes"]).ok();
    let old = place.path().join("old");
    std::fs::write(&old, first).unwrap();
    eventually("the first certificate is refused", || {
        let said = c.kubectl(&["--kubeconfig", old.to_str().unwrap(), "get", "nodes"]);
        if said.code == 0 { Err(said) } else { Ok(said) }
    });
    admin(&["exec", "p", "--", "echo", "still", "here"]).ok().has(&["still here"]);

    step("longer ones again");
    c.corten(&["down"], &[]).ok();
    std::fs::remove_file(&kubeconfig).unwrap();
    let port = c.port.to_string();
    c.corten(&["up"], &["--secure-port", &port, "--detach", "--certificate-validity-period=8760h"]).ok();
    admin(&["get", "nodes"]).ok();
    c.corten(&["up"], &["--cluster-domain=other.example"]).fails().has(&["runs already"]);
    c.corten(&["down"], &[]).ok();
    c.corten(&["up"], &["--cluster-domain=other.example"])
        .fails()
        .has(&["--cluster-domain is cluster.local in this cluster and cannot become other.example"]);
    for (period, words) in [("1s", "from 15s to"), ("99999h", "from 15s to"), ("soon", "invalid value")] {
        c.corten(&["up"], &["--certificate-validity-period", period]).fails().has(&[words]);
    }
}

/// A container runtime that takes connections and says nothing.
#[test]
fn waits() {
    let Some(c) = Cluster::prepare(&[]) else { return };
    let socket = c.home.join("silent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let endpoint = format!("unix://{}", socket.display());
    let mut up = Command::new(CORTEN);
    up.args(["up", "--data-dir"]).arg(&c.dir).args(["--secure-port", &free_port().to_string()]);
    up.args(["--container-runtime-endpoint", &endpoint]);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        step(&format!("up says what it waits for, and {signal} ends it"));
        let up = Background::start(&mut up);
        up.until("it says what it waits for", |out| {
            out.contains("still waiting for node") && out.contains("to be Ready: container runtime")
        });
        up.signal(signal);
        let out = up.until("it stops", |out| out.contains("stopped"));
        assert!(!out.contains("ready after"), "{out}");
        eventually("it ends", || up.ended());
    }
    step("so does one that waits for a process of its own");
    up.arg("--detach");
    let up = Background::start(&mut up);
    up.until("it says what it waits for", |out| out.contains("still waiting for node"));
    up.signal(Signal::SIGINT);
    eventually("it ends", || up.ended());
    c.corten(&["status"], &[]).fails().has(&["stopped"]);
    drop(listener);
}

const ENDED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "e2e.local/busybox:1", command: [sh, -c, "echo said > /dev/termination-log"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: failed}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: "e2e.local/busybox:1", command: [sh, -c, "exit 4"]}
  - {name: b, image: "e2e.local/busybox:1", command: [sh, -c, "exit 0"]}
---
apiVersion: v1
kind: Pod
metadata: {name: startless}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "e2e.local/busybox:1", command: [/no/such/program]}]
---
apiVersion: v1
kind: Pod
metadata: {name: half}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: "e2e.local/busybox:1", command: [/no/such/program]}
  - {name: b, image: "e2e.local/busybox:1", command: [sh, -c, "exit 0"]}
---
apiVersion: v1
kind: Pod
metadata: {name: uninitialized}
spec:
  restartPolicy: Never
  initContainers: [{name: i, image: "e2e.local/busybox:1", command: [sh, -c, "exit 3"]}]
  containers: [{name: c, image: "e2e.local/busybox:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "e2e.local/busybox:1", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: running}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: "e2e.local/busybox:1", command: [/no/such/program]}
  - {name: b, image: "e2e.local/busybox:1", command: [sleep, "100000"]}
"#;

/// What the API says about pods that have ended is what was last seen of them, also when the containers are gone.
#[test]
fn ended() {
    let Some(c) = Cluster::start() else { return };
    c.apply(ENDED);
    for (pod, phase) in [
        ("done", "Succeeded"),
        ("failed", "Failed"),
        ("startless", "Failed"),
        ("half", "Failed"),
        ("uninitialized", "Failed"),
        ("late", "Failed"),
        ("running", "Running"),
    ] {
        c.until_field("default", &format!("pod/{pod}"), "{.status.phase}", phase);
    }
    let status = || {
        let path = "jsonpath={range .items[*]}{.metadata.name} {.status}{\"\\n\"}{end}";
        c.kubectl(&["get", "pods", "-o", path]).ok().out
    };
    let before = eventually("nothing changes any more", || {
        let first = status();
        std::thread::sleep(std::time::Duration::from_secs(3));
        let second = status();
        if first == second { Ok(first) } else { Err(second) }
    });
    assert!(before.contains("StartError") && before.contains("said"), "{before}");
    assert!(!before.contains("ContainerStatusUnknown"), "{before}");
    step("down and up: the containers are gone, what is known of them is not");
    c.corten(&["down"], &[]).ok();
    c.up().ok();
    c.kubectl(&["run", "after", "--image=e2e.local/busybox:1", "--restart=Never", "--", "true"]).ok();
    c.until_field("default", "pod/after", "{.status.phase}", "Succeeded");
    c.kubectl(&["delete", "pod", "after"]).ok();
    let after = status();
    for (before, after) in before.lines().zip(after.lines()).filter(|(line, _)| !line.starts_with("running "))
    {
        assert_eq!(before, after);
    }
    step("what ran is lost, as upstream says it; what had ended beside it stays what it was");
    let path = "{.status.phase} {range .status.containerStatuses[*]}{.name} {.state.terminated.reason} \
                {.state.terminated.exitCode} {end}";
    let expect = "Failed a StartError 128 b ContainerStatusUnknown 137";
    c.until_field("default", "pod/running", path, expect);
}
