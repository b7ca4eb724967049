//! The kubelet against a real containerd and an API in memory.

mod api;
mod node;

use std::time::Duration;

use node::Node;
use serde_json::{Value, json};

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let list = pod["status"]["containerStatuses"].as_array();
    list.and_then(|l| l.iter().find(|c| c["name"] == name)).unwrap_or(&Value::Null)
}

/// A shell that ends at once when it is told to.
fn shell(script: &str) -> Value {
    json!({"name": "c", "command": ["sh", "-c", format!("trap 'exit 0' TERM; {script}")]})
}

const WAIT: &str = "while true; do sleep 0.1; done";

async fn until_ready(node: &Node, name: &str) -> Value {
    node.api.until(&format!("{name} ready"), |api| api.pod(name).filter(ready)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_goes() {
    if !node::possible() {
        return;
    }
    let mut node = Node::start("n1").await;
    let api_node = node.api.until("the node ready", |api| api.get("api/v1", "nodes", "", "n1").filter(ready));
    let api_node = api_node.await;
    assert_eq!(api_node["status"]["nodeInfo"]["kubeletVersion"], "v1.36.2");
    assert_eq!(api_node["status"]["capacity"]["pods"], "110");
    node.api
        .until("the lease", |api| api.get("apis/coordination.k8s.io/v1", "leases", "kube-node-lease", "n1"))
        .await;

    node.api.put(
        "api/v1",
        "configmaps",
        json!({"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "v1"}}),
    );
    node.create("web", json!({
        "serviceAccountName": "sa", "terminationGracePeriodSeconds": 5, "hostname": "web", "subdomain": "sub",
        "containers": [{
            "name": "c", "command": ["sh", "-c", format!("trap 'exit 0' TERM; echo started $VAR; sleep 0.1; echo oops >&2; {WAIT}")],
            "env": [{"name": "VAR", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "volumeMounts": [{"name": "m", "mountPath": "/m"}, {"name": "e", "mountPath": "/e", "subPath": "part"}, {"name": "p", "mountPath": "/p"}]}],
        "volumes": [{"name": "m", "configMap": {"name": "m"}}, {"name": "e", "emptyDir": {}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}));
    let pod = until_ready(&node, "web").await;
    let ip = pod["status"]["podIP"].as_str().expect("an address").to_owned();
    assert_eq!(phase(&pod), "Running");
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    assert_eq!(node.exec("web", "c", &["cat", "/m/k", "/p/token"]).await, "v1token-of-sa");
    let env = node.exec("web", "c", &["env"]).await;
    assert!(
        env.contains(&format!("IP={ip}\n")) && env.contains("KUBERNETES_SERVICE_HOST=10.96.0.1\n"),
        "{env}"
    );
    assert_eq!(node.exec("web", "c", &["hostname"]).await, "web\n");
    let hosts = node.exec("web", "c", &["cat", "/etc/hosts"]).await;
    assert!(hosts.ends_with(&format!("{ip}\tweb.sub.default.svc.cluster.local\tweb\n")), "{hosts}");
    let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let group = format!("{}/kubepods/pod{uid}", node.config.cgroup_root);
    let groups = linux::cgroup::Cgroups::discover().expect("groups");
    assert_eq!(groups.stats(&group).expect("stats").memory_limit, Some(64 << 20));

    // A changed config map reaches the running pod.
    node.api.put(
        "api/v1",
        "configmaps",
        json!({"metadata": {"name": "m", "namespace": "default", "uid": "x"}, "data": {"k": "v2"}}),
    );
    let file = node.config.root_dir.join(format!("pods/{uid}/volumes/kubernetes.io~configmap/m/k"));
    node.api.until("the new value", |_| std::fs::read_to_string(&file).ok().filter(|t| t == "v2")).await;

    // A restart of the kubelet restarts nothing.
    let before = container(&pod, "c")["containerID"].clone();
    node.stop_kubelet().await;
    node.start_kubelet().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let pod = until_ready(&node, "web").await;
    assert_eq!(
        (&container(&pod, "c")["containerID"], &container(&pod, "c")["restartCount"]),
        (&before, &json!(0))
    );

    tokio::time::sleep(Duration::from_millis(300)).await;
    let get = |path: &str, token: &str| https(node.address, path.to_owned(), token.to_owned());
    assert_eq!(get("/containerLogs/default/web/c", "good").await, (200, "started v1\noops\n".into()));
    assert_eq!(get("/containerLogs/default/web/c?tailLines=1", "good").await, (200, "oops\n".into()));
    // Following ends with the limit; until then it waits for more.
    let follow = get("/containerLogs/default/web/c?follow=true&limitBytes=17", "good");
    let (followed, _) = tokio::join!(follow, async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        node.exec("web", "c", &["sh", "-c", "echo more > /proc/1/fd/1"]).await
    });
    assert_eq!(followed, (200, "started v1\noops\nm".into()));
    assert_eq!(get("/containerLogs/default/web/x", "good").await.0, 404);
    assert_eq!(get("/pods", "").await, (401, "Unauthorized".into()));
    assert_eq!(get("/pods", "bad").await.0, 401);
    assert!(get("/pods", "good").await.1.contains("\"web\""));
    // The runtime's stream passes through: WebSocket frames with the command's output.
    let out = upgraded(
        node.address,
        "/exec/default/web/c?output=1&error=1&command=echo&command=over%20there",
        WEBSOCKET,
    )
    .await;
    assert!(out.contains("HTTP/1.1 101") && out.contains("over there"), "{out}");
    assert!(
        upgraded(node.address, "/exec/default/web/none?output=1&command=echo", WEBSOCKET)
            .await
            .contains("404")
    );
    for path in [
        "/exec/default/web/c?input=1&output=1&command=cat",
        "/attach/default/web/c?output=1",
        "/portForward/default/web",
    ] {
        let out = upgraded(node.address, path, SPDY).await;
        assert!(
            out.contains("HTTP/1.1 101") && out.to_lowercase().contains("upgrade: spdy/3.1"),
            "{path}: {out}"
        );
    }
    assert!(get("/metrics", "good").await.1.contains("kubelet_running_pods 1"));
    let figures = get("/metrics/resource", "good").await.1;
    for line in [
        "container_memory_working_set_bytes{container=\"c\",namespace=\"default\",pod=\"web\"} ",
        "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} ",
        "node_memory_working_set_bytes ",
        "resource_scrape_error 0\n",
    ] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
    let summary = get("/stats/summary?only_cpu_and_memory=true", "good").await.1;
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    let container = &summary["pods"][0]["containers"][0];
    assert_eq!((&summary["pods"][0]["podRef"]["name"], &container["name"]), (&json!("web"), &json!("c")));
    for used in [&summary["node"]["cpu"]["usageNanoCores"], &container["memory"]["workingSetBytes"]] {
        assert!(used.as_u64().is_some_and(|used| used > 0), "{summary}");
    }
    assert!(container["cpu"]["usageNanoCores"].is_u64(), "{container}");

    node.api.delete_pod("web", 5);
    node.api.until("web gone", |api| api.pod("web").is_none().then_some(())).await;
    assert!(!groups.exists(&group), "its group is gone");
    assert!(!node.config.root_dir.join(format!("pods/{uid}")).exists(), "its directory is gone");
    assert!(node.cri.list_containers(None).await.expect("list").is_empty());
    let reasons: Vec<String> = node.api.events("web").into_iter().map(|(r, _)| r).collect();
    for reason in ["Pulled", "Created", "Started", "Killing"] {
        assert!(reasons.iter().any(|r| r == reason), "{reason} of {reasons:?}");
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_end_in_their_ways() {
    if !node::possible() {
        return;
    }
    let node = Node::start("n2").await;
    node.create("crash", json!({"containers": [{"name": "c", "command": ["sh", "-c", "exit 3"]}]}));
    node.create("done", json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i", "command": ["sh", "-c", "echo made > /d/f"], "volumeMounts": [{"name": "d", "mountPath": "/d"}]}],
        "containers": [{"name": "c", "command": ["sh", "-c", "cat /d/f > /dev/termination-log"], "volumeMounts": [{"name": "d", "mountPath": "/d"}]}],
        "volumes": [{"name": "d", "emptyDir": {"medium": "Memory"}}]}));
    node.create("failed", json!({"restartPolicy": "OnFailure", "activeDeadlineSeconds": 2, "terminationGracePeriodSeconds": 1, "containers": [shell(WAIT)]}));
    node.create(
        "never",
        json!({"containers": [{"name": "c", "image": "localhost/none:1", "imagePullPolicy": "Never"}]}),
    );
    node.create("invalid", json!({"containers": [{"name": "c", "image": "Not A Name"}]}));
    node.create("waiting", json!({"containers": [{"name": "c", "command": ["sh", "-c", WAIT], "envFrom": [{"configMapRef": {"name": "late"}}]}]}));

    let done = node.api.until("done", |api| api.pod("done").filter(|p| phase(p) == "Succeeded")).await;
    assert_eq!(container(&done, "c")["state"]["terminated"]["message"], "made\n", "{done:#}");
    assert_eq!(container(&done, "c")["state"]["terminated"]["reason"], "Completed");

    let waiting = |name: &'static str, reason: &'static str| {
        node.api.until(reason, move |api| {
            api.pod(name).filter(|p| container(p, "c")["state"]["waiting"]["reason"] == reason)
        })
    };
    let crash = waiting("crash", "CrashLoopBackOff").await;
    let c = container(&crash, "c");
    assert_eq!(c["lastState"]["terminated"]["exitCode"], 3, "{crash:#}");
    let message = c["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.starts_with("back-off 10s restarting failed container=c pod=crash_default("),
        "{message}"
    );
    assert_eq!(c["restartCount"], 1);
    waiting("never", "ErrImageNeverPull").await;
    waiting("invalid", "InvalidImageName").await;
    let late = waiting("waiting", "CreateContainerConfigError").await;
    assert_eq!(container(&late, "c")["state"]["waiting"]["message"], "configmap \"late\" not found");
    node.api.put(
        "api/v1",
        "configmaps",
        json!({"metadata": {"name": "late", "namespace": "default"}, "data": {}}),
    );
    until_ready(&node, "waiting").await;

    let failed = node.api.until("deadline", |api| api.pod("failed").filter(|p| phase(p) == "Failed")).await;
    assert_eq!(failed["status"]["reason"], "DeadlineExceeded");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide() {
    if !node::possible() {
        return;
    }
    let node = Node::start("n3").await;
    let exec = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}, "periodSeconds": 1, "failureThreshold": 1});
    node.create("live", json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c",
        "command": ["sh", "-c", format!("touch /tmp/ok; {WAIT}")], "livenessProbe": exec("test -e /tmp/ok")}]}));
    node.create("gate", json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c",
        "command": ["sh", "-c", "httpd -f -p 8080 -h /tmp"],
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30},
        "readinessProbe": {"httpGet": {"path": "/page", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}}]}));
    until_ready(&node, "live").await;
    let gate = node
        .api
        .until("gate started", |api| api.pod("gate").filter(|p| container(p, "c")["started"] == true))
        .await;
    assert_eq!((phase(&gate), ready(&gate)), ("Running", false));
    node.exec("gate", "c", &["touch", "/tmp/page"]).await;
    until_ready(&node, "gate").await;
    node.exec("gate", "c", &["rm", "/tmp/page"]).await;
    let gate = node.api.until("gate unready", |api| api.pod("gate").filter(|p| !ready(p))).await;
    assert_eq!(container(&gate, "c")["restartCount"], 0);

    node.exec("live", "c", &["rm", "/tmp/ok"]).await;
    let live = node.api.until("live restarted", |api| {
        api.pod("live").filter(|p| container(p, "c")["restartCount"] == 1 && ready(p))
    });
    let live = live.await;
    assert!(live["status"]["containerStatuses"][0]["lastState"]["terminated"].is_object(), "{live:#}");
    let events = node.api.events("live");
    assert!(events.iter().any(|(r, _)| r == "Unhealthy"), "{events:?}");
    assert!(
        events.iter().any(|(_, m)| m == "Container c failed liveness probe, will be restarted"),
        "{events:?}"
    );
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_and_what_came_from_files() {
    if !node::possible() {
        return;
    }
    let mut node = Node::start("n4").await;
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s"}, "spec": {"hostNetwork": true,
        "terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "localhost/busybox:1", "command": ["sh", "-c", WAIT]}]}});
    let dir = node.dir.path().join("manifests");
    std::fs::create_dir_all(&dir).expect("dir");
    std::fs::write(dir.join("s.yaml"), manifest.to_string()).expect("write");
    let mirror = node.api.until("the mirror ready", |api| api.pod("s-n4").filter(ready)).await;
    assert_eq!(mirror["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(mirror["status"]["podIP"], "127.0.0.1");

    // A sandbox of somebody else, and a pod of ours that goes while no kubelet runs.
    let foreign = cri::v1::PodSandboxConfig {
        metadata: Some(cri::v1::PodSandboxMetadata {
            name: "f".into(),
            uid: "f".into(),
            namespace: "f".into(),
            attempt: 0,
        }),
        labels: [("io.kubernetes.pod.uid".to_owned(), "f".to_owned())].into(),
        linux: Some(cri::v1::LinuxPodSandboxConfig {
            cgroup_parent: node.config.cgroup_root.clone(),
            security_context: Some(cri::v1::LinuxSandboxSecurityContext {
                namespace_options: Some(cri::v1::NamespaceOption {
                    network: cri::v1::NamespaceMode::Node as i32,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let foreign = node.cri.run_pod_sandbox(foreign, "").await.expect("a sandbox");
    node.create("gone", json!({"terminationGracePeriodSeconds": 1, "containers": [shell(WAIT)]}));
    let gone = until_ready(&node, "gone").await;
    node.stop_kubelet().await;
    let uid = gone["metadata"]["uid"].as_str().expect("a uid").to_owned();
    node.api.forget_pod("gone");
    node.start_kubelet().await;
    let dir_of = node.config.root_dir.join("pods").join(&uid);
    node.api.until("the orphan gone", |_| (!dir_of.exists()).then_some(())).await;
    let sandboxes = node.cri.list_pod_sandboxes(None).await.expect("list");
    assert!(sandboxes.iter().any(|s| s.id == foreign), "a foreign sandbox stays");
    assert!(!sandboxes.iter().any(|s| s.labels.get("io.kubernetes.pod.uid") == Some(&uid)));

    std::fs::remove_file(dir.join("s.yaml")).expect("remove");
    node.api.until("the mirror gone", |api| api.pod("s-n4").is_none().then_some(())).await;
    node.end().await;
}

/// One GET over TLS with whatever certificate.
async fn https(address: std::net::SocketAddr, path: String, token: String) -> (u16, String) {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sk", "-w", "\n%{http_code}", &format!("https://{address}{path}")]);
    if !token.is_empty() {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').expect("a code");
    (code.parse().expect("a number"), body.to_owned())
}

const WEBSOCKET: &[&str] = &[
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: v4.channel.k8s.io",
];
const SPDY: &[&str] = &[
    "Upgrade: SPDY/3.1",
    "X-Stream-Protocol-Version: v4.channel.k8s.io",
    "X-Stream-Protocol-Version: portforward.k8s.io",
];

/// An upgrade; what comes within a second, head and frames.
async fn upgraded(address: std::net::SocketAddr, path: &str, headers: &[&str]) -> String {
    let mut command = tokio::process::Command::new("curl");
    command.args([
        "-sk",
        "-i",
        "-N",
        "--http1.1",
        "-m",
        "1",
        "-H",
        "Authorization: Bearer good",
        "-H",
        "Connection: Upgrade",
    ]);
    for header in headers {
        command.args(["-H", header]);
    }
    if headers == SPDY {
        command.args(["-X", "POST", "-H", "Content-Length: 0"]);
    }
    let output = command.arg(format!("https://{address}{path}")).output().await.expect("curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
