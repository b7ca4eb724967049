//! A cluster's life on its machine: starts, stops, neighbours, and what it leaves behind.

use std::process::Command;
use std::sync::Arc;

use apimachinery::codec::protobuf::{self, envelope};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::application::{SHOP, deploy, pods};
use super::cluster::{
    CORTEN, Cluster, busybox_archive, container_processes, eventually, free_port, run, step,
};

fn stop(c: &Cluster, signal: Signal) {
    let pid = c.pid();
    kill(Pid::from_raw(pid), signal).unwrap();
    eventually("the process ends", || match c.corten(&["status"], &[]) {
        said if said.out.contains("stopped") => Ok(()),
        said => Err(said),
    });
}

/// Everything that must be found again: kinds, names, uids and specs, and the pods' containers.
fn state(c: &Cluster) -> String {
    let specs = "{range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.metadata.creationTimestamp} {.spec} \
                 {.data}{\"\\n\"}{end}";
    let kinds = "pods,replicasets,deployments,services,configmaps,secrets,serviceaccounts";
    let objects = c.kubectl(&["get", kinds, "-n", "shop", "-o", &format!("jsonpath={specs}")]).ok().out;
    let containers = "{range .items[*]}{.status.containerStatuses[0].containerID} \
                      {.status.containerStatuses[0].restartCount} {.status.podIP}{\"\\n\"}{end}";
    objects + &c.kubectl(&["get", "pods", "-n", "shop", "-o", &format!("jsonpath={containers}")]).ok().out
}

fn ids(c: &Cluster) -> Vec<String> {
    c.words("shop", "pods", "{.items[*].status.containerStatuses[0].containerID}")
        .iter()
        .map(|id| id.trim_start_matches("containerd://").to_owned())
        .collect()
}

#[test]
fn lifecycle() {
    let Some(c) = Cluster::start() else { return };
    deploy(&c);

    step("status");
    c.corten(&["status"], &[]).ok().has(&[
        &format!("https://127.0.0.1:{}", c.port),
        "Ready",
        c.kubeconfig().to_str().unwrap(),
    ]);
    step("up a second time");
    c.up().fails().has(&["runs already, as process"]);
    step("images");
    c.corten(&["image", "ls"], &[]).ok().has(&["e2e.local/busybox:1", "IMAGE", " MB"]);
    let archive = c.home.join("three.tar");
    busybox_archive("e2e.local/busybox:3", &archive);
    c.corten(&["image", "import"], &[archive.to_str().unwrap()]).ok().has(&["e2e.local/busybox:3"]);
    c.kubectl(&["run", "third", "-n", "shop", "--image=e2e.local/busybox:3", "--", "sleep", "100000"]).ok();
    c.kubectl(&["wait", "-n", "shop", "pod/third", "--for=condition=Ready", "--timeout=110s"]).ok();

    let before = state(&c);
    let containers = ids(&c);
    assert_eq!(containers.len(), 4);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        step(&format!("{signal}: containers go on, and the next start finds everything as it was"));
        stop(&c, signal);
        for id in &containers {
            assert!(!container_processes(id).is_empty(), "container {id} was stopped");
        }
        assert_eq!(c.corten(&["status"], &[]).code, 1);
        c.up().ok();
        c.corten(&["status"], &[]).ok();
        c.until_field("shop", "deploy/web", "{.status.readyReplicas}", "3");
        assert_eq!(state(&c), before);
        assert_eq!(c.apply(SHOP).out.matches(" unchanged").count(), 5);
        c.sh("shop", &pods(&c)[0], "echo here").ok().has(&["here"]);
    }
    neighbours(&c);
    store(&c, &containers);
    versions(&c);
    purge(c);
}

fn ask(c: &Cluster) -> Result<String, String> {
    let ip = c.field("shop", "svc/web", "{.spec.clusterIP}").ok().out;
    let url = format!("http://{ip}/");
    let said = run(Command::new("curl").args(["-sS", "-f", "--noproxy", "*", "--max-time", "10", &url]), "");
    if said.code == 0 { Ok(said.out.trim().to_owned()) } else { Err(said.to_string()) }
}

fn neighbours(c: &Cluster) {
    step("a port in use");
    let taken = Cluster::prepare(&[]).unwrap();
    let port = c.port.to_string();
    taken
        .corten(&["up"], &["--detach", "--secure-port", &port])
        .fails()
        .has(&[&format!("port {port} for the API server cannot be used"), "--secure-port"]);
    drop(taken);

    step("another cluster beside the first");
    let other = Cluster::start().unwrap();
    c.kubectl(&["create", "namespace", "mine"]).ok();
    other.kubectl(&["get", "namespace", "mine"]).fails();
    deploy(&other);
    for cluster in [c, &other] {
        let name = eventually("the Service answers", || ask(cluster));
        assert!(pods(cluster).contains(&name), "{name} is a pod of the other cluster");
    }
    let containers = ids(&other);
    step("the other is removed, the first goes on");
    other.corten(&["down"], &["--purge"]).ok();
    assert!(!other.dir.exists());
    for id in &containers {
        assert_eq!(container_processes(id), [0; 0], "container {id} runs on");
    }
    ask(c).unwrap();
}

fn store(c: &Cluster, containers: &[String]) {
    step("down: nothing runs any more");
    c.corten(&["down"], &[]).ok().has(&["nothing of the cluster runs any more"]);
    for id in containers {
        assert_eq!(container_processes(id), [0; 0], "container {id} runs on");
    }
    step("every value of the store is upstream's protobuf envelope");
    let disk = Arc::new(etcd::disk::RealDisk::new(c.dir.join("store")));
    let (store, writer) = etcd::Store::open(etcd::Config::default(), disk).unwrap();
    let range = store.range(&etcd::Range::prefix("/registry/")).unwrap();
    let all = store.range(&etcd::Range::new(etcd::KeyRange::all())).unwrap().count;
    assert!(range.count > 50 && !range.more, "{} keys", range.count);
    eprintln!("    {} values under /registry, {all} in all", range.count);
    let mut kinds = std::collections::BTreeSet::new();
    for entry in &range.kvs {
        let key = String::from_utf8(entry.key.to_vec()).unwrap();
        let opened = envelope::unwrap(&entry.value).unwrap_or_else(|error| panic!("{key}: {error}"));
        let (group, version) = opened.api_version.split_once('/').unwrap_or(("", opened.api_version));
        let kind = api::object_type(group, version, opened.kind);
        let kind = kind.unwrap_or_else(|| panic!("{key} is {} of {}", opened.kind, opened.api_version));
        let object = protobuf::decode(api::schema(), kind, opened.raw);
        let object = object.unwrap_or_else(|error| panic!("{key}: {error}"));
        kinds.insert(opened.kind.to_owned());
        // Allocators (a Service's addresses and ports) have no name; all else is stored under its own.
        if opened.kind != "RangeAllocation" {
            assert!(
                key.ends_with(&format!("/{}", object["metadata"]["name"].as_str().unwrap())),
                "{key}: {object}"
            );
        }
        assert_eq!(
            protobuf::encode(api::schema(), kind, &object).unwrap(),
            opened.raw,
            "{key} changes by being read"
        );
    }
    for kind in [
        "Deployment",
        "Pod",
        "Service",
        "Secret",
        "ClusterRole",
        "Lease",
        "Node",
        "Namespace",
        "EndpointSlice",
    ] {
        assert!(kinds.contains(kind), "there is no {kind} in {kinds:?}");
    }
    assert!(range.kvs.iter().any(|entry| entry.key.as_ref() == b"/registry/deployments/shop/web"));
    assert!(range.kvs.iter().any(|entry| entry.key.as_ref() == b"/registry/services/specs/shop/web"));
    drop((store, writer));

    step("up after down: the same objects, in new containers");
    c.up().ok();
    c.until_field("shop", "deploy/web", "{.status.readyReplicas}", "3");
    eventually("the Service answers", || ask(c));
}

fn versions(c: &Cluster) {
    c.corten(&["down"], &[]).ok();
    step("a data directory of another version");
    let path = c.dir.join("cluster.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let other = good.replace("\"format\": 1", "\"format\": 7");
    assert_ne!(good, other);
    std::fs::write(&path, &other).unwrap();
    c.up().fails().has(&["has format 7, and this corten knows format 1; nothing was changed"]);
    c.corten(&["down"], &["--purge"]).fails().has(&["has format 7"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    std::fs::write(&path, &good).unwrap();
    step("a store of another version");
    let path = c.dir.join("store/meta");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"something else altogether").unwrap();
    c.up().fails().has(&["opening the store in"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"something else altogether");
    std::fs::write(&path, good).unwrap();
    step("and it still starts when put right");
    c.up().ok();
    c.kubectl(&["get", "deployment", "web", "-n", "shop"]).ok();
}

fn purge(c: Cluster) {
    step("down --purge leaves nothing");
    let id: serde_json::Value =
        serde_json::from_slice(&std::fs::read(c.dir.join("cluster.json")).unwrap()).unwrap();
    let id = id["id"].as_str().unwrap().to_owned();
    c.until_field("shop", "deploy/web", "{.status.readyReplicas}", "3");
    c.corten(&["down"], &["--purge"]).ok();
    assert!(!c.dir.exists());
    let dir = c.dir.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(dir), "{mounts}");
    let running = run(Command::new("ps").args(["-eo", "args"]), "").ok();
    let left: Vec<&str> = running.out.lines().filter(|line| line.contains(dir)).collect();
    assert_eq!(left, [""; 0]);
    let rules = run(Command::new("nft").args(["list", "tables"]), "").ok();
    assert!(!rules.out.contains(&id), "{rules}");
    let links: Vec<_> =
        std::fs::read_dir("/sys/class/net").unwrap().flatten().map(|link| link.file_name()).collect();
    assert!(!links.iter().any(|link| link.to_string_lossy().contains(&id)), "{links:?}");
    c.corten(&["status"], &[]).fails().has(&["no cluster in"]);
    c.corten(&["down"], &[]).ok().has(&["no cluster in"]);
}

/// What a machine may lack: said clearly, before anything is started.
#[test]
fn machine() {
    let Some(c) = Cluster::prepare(&[]) else { return };
    let dir = c.dir.to_str().unwrap().to_owned();
    let port = free_port().to_string();
    step("no containerd");
    // In a mount namespace of its own, in which containerd is something that is no program.
    let hide = "for file in /usr/bin/containerd /usr/local/bin/containerd; do
        if [ -e $file ]; then mount --bind /dev/null $file || exit 99; fi; done; exec \"$@\"";
    let args = ["up", "--data-dir", &dir, "--secure-port", &port, "--detach"];
    let said = run(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", hide, "sh", CORTEN])
            .args(args),
        "",
    );
    said.fails().has(&[
        "this machine lacks what a cluster needs",
        "- containerd: runs the containers (Debian package containerd)",
        "apt-get install --no-install-recommends containerd",
    ]);
    step("not root");
    let said = run(Command::new("setpriv").args(["--reuid=65534", "--clear-groups", CORTEN]).args(args), "");
    if !said.err.contains("Permission denied") {
        said.fails().has(&["- root: containers, cgroups and network rules need it; run it with sudo"]);
    }
    step("a container runtime endpoint that nobody serves");
    c.corten(&["up"], &["--detach", "--container-runtime-endpoint", "unix:///nowhere.sock"])
        .fails()
        .has(&["no container runtime answers at unix:///nowhere.sock: No such file or directory"]);
    step("flags that contradict themselves");
    c.corten(&["up"], &["--cluster-cidr=nonsense"]).fails().has(&["--cluster-cidr", "nonsense"]);
    c.corten(&["up"], &["--secure-port=70000"]).fails().has(&["70000"]);
    for mirror in ["nonsense", "docker.io=127.0.0.1:5000", "=http://127.0.0.1:5000"] {
        c.corten(&["up"], &["--registry-mirror", mirror]).fails().has(&["REGISTRY=URL is wanted"]);
    }
    let long = format!("{dir}/{}", "x".repeat(80));
    run(Command::new(CORTEN).args(["up", "--data-dir", &long]), "").fails().has(&["too long"]);
}
