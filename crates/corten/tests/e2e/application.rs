//! A real application through everything that kubectl does day by day.

use std::process::Command;

use super::cluster::{Cluster, IMAGE, IMAGE_2, eventually, free_port, kubectls, run, step};

/// Namespace, ConfigMap, Secret, Deployment and Service. Each pod answers with its name over HTTP and counts
/// aloud.
pub const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  namespace: shop
data:
  greeting: hello
  page.txt: |
    a page
    of two lines
---
apiVersion: v1
kind: Secret
metadata:
  name: key
  namespace: shop
data:
  password: b3BlbnNlc2FtZQ==
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  replicas: 3
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: e2e.local/busybox:1
        command: [sh, -c]
        args:
        - |
          mkdir /www; hostname > /www/index.html; echo "$GREETING $PASSWORD $POD" > /www/env
          (i=0; while true; do i=$((i + 1)); echo "tick $i"; sleep 1; done) &
          exec httpd -f -p 8080 -h /www
        env:
        - name: GREETING
          valueFrom: {configMapKeyRef: {name: settings, key: greeting}}
        - name: PASSWORD
          valueFrom: {secretKeyRef: {name: key, key: password}}
        - name: POD
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        ports:
        - name: http
          containerPort: 8080
        readinessProbe:
          httpGet: {path: /, port: http}
          periodSeconds: 1
        volumeMounts:
        - {name: settings, mountPath: /etc/settings}
        - {name: key, mountPath: /etc/key, readOnly: true}
        - {name: scratch, mountPath: /scratch}
      volumes:
      - name: settings
        configMap: {name: settings}
      - name: key
        secret: {secretName: key}
      - name: scratch
        emptyDir: {}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - name: http
    port: 80
    targetPort: http
"#;

/// Applies the application and waits until all of it runs.
#[track_caller]
pub fn deploy(c: &Cluster) {
    step("apply");
    c.apply(SHOP).has(&[
        "namespace/shop created",
        "configmap/settings created",
        "secret/key created",
        "deployment.apps/web created",
        "service/web created",
    ]);
    rollout(c);
}

#[track_caller]
pub fn rollout(c: &Cluster) {
    step("rollout status");
    c.kubectl(&["rollout", "status", "-n", "shop", "deployment/web", "--timeout=110s"])
        .ok()
        .has(&["deployment \"web\" successfully rolled out"]);
}

pub fn pods(c: &Cluster) -> Vec<String> {
    c.words("shop", "pods -l app=web", "{.items[*].metadata.name}")
}

#[test]
fn application() {
    let Some(c) = Cluster::start() else { return };
    deploy(&c);
    reading(&c);
    discovering(&c);
    containers(&c);
    changing(&c);
    updating(&c);
    who(&c);
    versions(&c);
    deleting(&c);
}

fn reading(c: &Cluster) {
    step("apply again changes nothing");
    let again = c.apply(SHOP);
    assert_eq!(again.out.matches(" unchanged").count(), 5, "{again}");

    step("get -o wide");
    let wide = c.kubectl(&["get", "pods", "-n", "shop", "-o", "wide"]).ok();
    let wide = wide.has(&["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE"]);
    assert_eq!(wide.out.matches("1/1     Running").count(), 3, "{wide}");
    c.kubectl(&["get", "deployment", "-n", "shop", "-o", "wide"]).ok().has(&["3/3", IMAGE, "app=web"]);
    c.kubectl(&["get", "all", "-n", "shop"]).ok().has(&["pod/web-", "service/web", "replicaset.apps/web-"]);

    step("get -o json");
    let deployment = c.kubectl(&["get", "deploy", "web", "-n", "shop", "-o", "json"]).ok().json();
    assert_eq!(deployment["apiVersion"], "apps/v1");
    assert_eq!(deployment["kind"], "Deployment");
    assert_eq!(deployment["status"]["readyReplicas"], 3);
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);

    step("get -o jsonpath, yaml, name, custom columns");
    let node = c.words("shop", "nodes", "{.items[*].metadata.name}");
    let nodes = c.words("shop", "pods -l app=web", "{.items[*].spec.nodeName}");
    assert_eq!(nodes, vec![node[0].clone(); 3]);
    c.kubectl(&["get", "cm", "settings", "-n", "shop", "-o", "yaml"])
        .ok()
        .has(&["  greeting: hello", "  page.txt: |"]);
    c.kubectl(&["get", "svc", "-n", "shop", "-o", "name"]).ok().has(&["service/web"]);
    let columns = "custom-columns=N:.metadata.name,T:.spec.type";
    c.kubectl(&["get", "svc", "web", "-n", "shop", "-o", columns]).ok().has(&["web   NodePort"]);

    step("describe");
    c.kubectl(&["describe", "deployment", "web", "-n", "shop"]).ok().has(&[
        "3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
        "25% max unavailable, 25% max surge",
        "ScalingReplicaSet",
        "Available      True    MinimumReplicasAvailable",
    ]);
    c.kubectl(&["describe", "pod", &pods(c)[0], "-n", "shop"]).ok().has(&[
        "Controlled By:  ReplicaSet/web-",
        "http-get http://:http/ delay=0s timeout=1s period=1s #success=1 #failure=3",
        "<set to the key 'password' in secret 'key'>",
        "Successfully assigned shop/web-",
        "Container started",
        "QoS Class:                   BestEffort",
    ]);
    c.kubectl(&["describe", "node"]).ok().has(&["KubeletReady", "PodCIDR:", "Non-terminated Pods:"]);
    c.kubectl(&["describe", "svc", "web", "-n", "shop"]).ok().has(&["NodePort:", ":8080", "Endpoints:"]);

    step("get -w");
    let watch = c.background(&["get", "configmaps", "-n", "shop", "-w"]);
    watch.until("the watch begins", |out| out.contains("settings"));
    c.kubectl(&["create", "configmap", "seen", "-n", "shop", "--from-literal=a=b"]).ok();
    watch.until("the watch shows what is new", |out| out.lines().any(|line| line.starts_with("seen   ")));
    c.kubectl(&["delete", "configmap", "seen", "-n", "shop"]).ok().has(&["configmap \"seen\" deleted"]);
}

fn discovering(c: &Cluster) {
    step("explain");
    c.kubectl(&["explain", "deployment.spec.strategy"]).ok().has(&[
        "GROUP:      apps",
        "FIELD: strategy <DeploymentStrategy>",
        "rollingUpdate\t<RollingUpdateDeployment>",
        "The deployment strategy to use to replace existing pods with new ones.",
    ]);
    step("api-resources");
    let all = c.kubectl(&["api-resources"]).ok();
    let all = all.has(&["deployments", "deploy", "apps/v1", "networkpolicies", "clusterrolebindings"]);
    assert!(all.out.lines().count() > 60, "{all}");
    c.kubectl(&["api-versions"]).ok().has(&["apps/v1", "batch/v1", "storage.k8s.io/v1"]);
    step("version, cluster-info");
    c.kubectl(&["version"]).ok().has(&["Server Version: v1.36"]);
    c.kubectl(&["cluster-info"]).ok().has(&["Kubernetes control plane", "is running at"]);
}

fn containers(c: &Cluster) {
    let pod = pods(c)[0].clone();
    step("logs");
    c.kubectl(&["logs", "-n", "shop", &pod]).ok().has(&["tick 1\n"]);
    let tail = c.kubectl(&["logs", "-n", "shop", &pod, "--tail=1"]).ok();
    assert_eq!(tail.out.lines().count(), 1, "{tail}");
    c.kubectl(&["logs", "-n", "shop", "deployment/web", "--timestamps", "--tail=1"])
        .ok()
        .has(&["T", "Z tick"]);
    step("logs -f");
    let follow = c.background(&["logs", "-n", "shop", "-f", &pod]);
    let before = follow.until("the log begins", |out| out.contains("tick 1\n")).lines().count();
    follow.until("the log goes on", |out| out.lines().count() >= before + 2);
    drop(follow);

    step("exec");
    c.sh("shop", &pod, "cat /www/env").ok().has(&[&format!("hello opensesame {pod}")]);
    c.sh("shop", &pod, "cat /etc/settings/page.txt /etc/key/password")
        .ok()
        .has(&["of two lines", "opensesame"]);
    let failed = c.sh("shop", &pod, "echo out; echo err >&2; exit 7");
    assert_eq!((failed.code, failed.out.as_str()), (7, "out\n"), "{failed}");
    assert!(failed.err.contains("err\n"), "{failed}");
    step("exec -i");
    let text = "line\n".repeat(20_000);
    let said =
        c.kubectl_with(&["exec", "-i", "-n", "shop", &pod, "--", "sh", "-c", "cat; echo end"], &text).ok();
    assert_eq!(said.out, format!("{text}end\n"), "what went in did not come out");

    step("cp");
    let (there, back) = (c.home.join("there"), c.home.join("back"));
    let bytes: Vec<u8> = (0..300_000u32).flat_map(|number| number.to_le_bytes()).collect();
    std::fs::write(&there, &bytes).unwrap();
    c.kubectl(&["cp", "-n", "shop", "there", &format!("{pod}:/scratch/file")]).ok();
    c.kubectl(&["cp", "-n", "shop", &format!("{pod}:/scratch/file"), "back"]).ok();
    assert!(std::fs::read(&back).unwrap() == bytes, "the file came back changed");

    step("port-forward");
    let port = free_port();
    let forward =
        c.background(&["port-forward", "-n", "shop", &format!("pod/{pod}"), &format!("{port}:8080")]);
    forward.until("forwarding", |out| out.contains("Forwarding from 127.0.0.1"));
    for _ in 0..3 {
        let url = format!("http://127.0.0.1:{port}/");
        let said =
            run(Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "20", &url]), "").ok();
        assert_eq!(said.out.trim(), pod);
    }
}

fn changing(c: &Cluster) {
    step("label");
    c.kubectl(&["label", "deploy", "web", "-n", "shop", "tier=front"])
        .ok()
        .has(&["deployment.apps/web labeled"]);
    c.kubectl(&["get", "deploy", "-n", "shop", "-l", "tier=front,tier!=back", "-o", "name"])
        .ok()
        .has(&["/web"]);
    c.kubectl(&["get", "deploy", "-n", "shop", "-l", "tier=back"]).ok().has(&["No resources found in shop"]);
    c.kubectl(&["label", "deploy", "web", "-n", "shop", "tier=back"])
        .fails()
        .has(&["'tier' already has a value (front), and --overwrite is false"]);
    step("annotate");
    c.kubectl(&["annotate", "deploy", "web", "-n", "shop", "note=one"]).ok().has(&["web annotated"]);
    c.field("shop", "deploy/web", "{.metadata.annotations.note}").is("one").unwrap();
    c.kubectl(&["annotate", "deploy", "web", "-n", "shop", "note-"]).ok();
    c.field("shop", "deploy/web", "{.metadata.annotations.note}").is("").unwrap();

    step("patch in its three types");
    let patch = |kind: &str, patch: &str| {
        c.kubectl(&["patch", "-n", "shop", "cm/settings", "--type", kind, "-p", patch])
    };
    patch(
        "json",
        r#"[{"op": "test", "path": "/data/greeting", "value": "hello"},
        {"op": "add", "path": "/data/json", "value": "1"}]"#,
    )
    .ok()
    .has(&["configmap/settings patched"]);
    patch("merge", r#"{"data": {"merge": "2", "page.txt": null}}"#).ok().has(&["patched"]);
    patch("merge", r#"{"data": {"merge": "2"}}"#).ok().has(&["patched (no change)"]);
    let data = c.kubectl(&["get", "cm", "settings", "-n", "shop", "-o", "json"]).ok().json()["data"].clone();
    assert_eq!(data, serde_json::json!({"greeting": "hello", "json": "1", "merge": "2"}));
    patch("json", r#"[{"op": "test", "path": "/data/greeting", "value": "bye"}]"#).fails();
    // A strategic patch finds the container by its name and leaves the rest of it.
    let strategic = r#"{"metadata": {"labels": {"patched": "yes"}}, "spec": {"template": {"spec": {"containers": [
        {"name": "web", "env": [{"name": "MORE", "value": "more"}]}]}}}}"#;
    c.kubectl(&["patch", "-n", "shop", "deploy/web", "--type", "strategic", "-p", strategic]).ok();
    let web = c.kubectl(&["get", "deploy", "web", "-n", "shop", "-o", "json"]).ok().json();
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &web["metadata"]["labels"]["patched"]), (&IMAGE.into(), &"yes".into()));
    let names: Vec<_> = container["env"].as_array().unwrap().iter().map(|env| env["name"].as_str()).collect();
    assert_eq!(names, [Some("MORE"), Some("GREETING"), Some("PASSWORD"), Some("POD")]);
    rollout(c);

    step("diff");
    let changed = SHOP.replace("replicas: 3", "replicas: 4");
    let diff = c.kubectl_with(&["diff", "-f", "-"], &changed);
    assert_eq!(diff.code, 1, "{diff}");
    diff.has(&["-  replicas: 3", "+  replicas: 4"]);

    step("scale");
    c.kubectl(&["scale", "-n", "shop", "deploy/web", "--replicas=5"])
        .ok()
        .has(&["deployment.apps/web scaled"]);
    c.until_field("shop", "deploy/web", "{.status.readyReplicas}", "5");
    c.kubectl(&["scale", "-n", "shop", "deploy/web", "--replicas=2", "--current-replicas=4"])
        .fails()
        .has(&["Expected replicas to be 4, was 5"]);
    c.kubectl(&["scale", "-n", "shop", "deploy/web", "--replicas=2"]).ok();
    eventually("only two pods are left", || match pods(c) {
        pods if pods.len() == 2 => Ok(()),
        pods => Err(format!("{pods:?}")),
    });
}

fn updating(c: &Cluster) {
    step("set image");
    let images = || c.words("shop", "pods -l app=web", "{.items[*].spec.containers[0].image}");
    let update = format!("web={IMAGE_2}");
    c.kubectl(&["set", "image", "-n", "shop", "deploy/web", &update]).ok().has(&["image updated"]);
    rollout(c);
    eventually("all pods have the new image", || match images() {
        images if images == [IMAGE_2; 2] => Ok(()),
        images => Err(format!("{images:?}")),
    });
    c.kubectl(&["rollout", "history", "-n", "shop", "deploy/web"])
        .ok()
        .has(&["REVISION  CHANGE-CAUSE", "\n3 "]);
    step("rollout undo");
    c.kubectl(&["rollout", "undo", "-n", "shop", "deploy/web"])
        .ok()
        .has(&["deployment.apps/web rolled back"]);
    rollout(c);
    eventually("all pods have the old image", || match images() {
        images if images == [IMAGE; 2] => Ok(()),
        images => Err(format!("{images:?}")),
    });
    step("rollout restart");
    let before = pods(c);
    c.kubectl(&["rollout", "restart", "-n", "shop", "deploy/web"]).ok();
    rollout(c);
    eventually("other pods", || match pods(c) {
        pods if pods.len() == 2 && pods.iter().all(|pod| !before.contains(pod)) => Ok(()),
        pods => Err(format!("{pods:?}")),
    });
}

fn who(c: &Cluster) {
    step("auth can-i");
    c.kubectl(&["auth", "can-i", "delete", "nodes"]).ok().has(&["yes"]);
    let account = "--as=system:serviceaccount:shop:default";
    let no = c.kubectl(&["auth", "can-i", "delete", "pods", "-n", "shop", account]);
    assert_eq!((no.code, no.out.trim()), (1, "no"), "{no}");
    c.kubectl(&[
        "create",
        "rolebinding",
        "see",
        "-n",
        "shop",
        "--clusterrole=view",
        "--serviceaccount=shop:default",
    ])
    .ok();
    c.kubectl(&["auth", "can-i", "list", "pods", "-n", "shop", account]).ok().has(&["yes"]);
    c.kubectl(&["auth", "whoami"]).ok().has(&["Username", "Groups"]);
    step("create token");
    let token = c.kubectl(&["create", "token", "default", "-n", "shop"]).ok().out.trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let bearer = format!("Authorization: Bearer {token}");
    let (code, body) = c.curl("/api/v1/namespaces/shop/pods?limit=1", &["-H", &bearer]);
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("PodList"), "{body}");
    step("a pod's own token works inside");
    let pod = pods(c)[0].clone();
    let folder = "/var/run/secrets/kubernetes.io/serviceaccount";
    let said = c
        .sh(
            "shop",
            &pod,
            &format!("cat {folder}/namespace; echo; head -1 {folder}/ca.crt; cat {folder}/token"),
        )
        .ok();
    let mut lines = said.out.lines();
    assert_eq!(lines.next(), Some("shop"), "{said}");
    assert_eq!(lines.next(), Some("-----BEGIN CERTIFICATE-----"), "{said}");
    let bearer = format!("Authorization: Bearer {}", lines.next().unwrap());
    let (code, body) = c.curl("/api/v1/namespaces/shop/pods?limit=1", &["-H", &bearer]);
    assert_eq!(code, 200, "{body}");
}

/// The oldest and the newest kubectl do the everyday things too.
fn versions(c: &Cluster) {
    let all = kubectls();
    let ends: Vec<_> = all.first().into_iter().chain(all.last()).collect();
    for program in ends {
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        step(&format!("{name}: apply, get, rollout status, exec, logs, cp, port-forward, delete"));
        let k = |args: &[&str]| c.other_kubectl(program, args, "");
        c.other_kubectl(program, &["apply", "-f", "-"], SHOP).ok().has(&["deployment.apps/web configured"]);
        k(&["rollout", "status", "-n", "shop", "deploy/web", "--timeout=110s"]).ok();
        k(&["get", "pods", "-n", "shop", "-o", "wide"]).ok().has(&["Running"]);
        k(&["describe", "deploy", "web", "-n", "shop"]).ok().has(&["3 desired"]);
        k(&["explain", "pod.spec.containers"]).ok().has(&["imagePullPolicy"]);
        let pod = pods(c)[0].clone();
        let input = "through\n".repeat(1000);
        let said = c.other_kubectl(program, &["exec", "-i", "-n", "shop", &pod, "--", "cat"], &input).ok();
        assert_eq!(said.out, input);
        k(&["logs", "-n", "shop", &pod, "--tail=1"]).ok().has(&["tick"]);
        std::fs::write(c.home.join("small"), "small\n").unwrap();
        k(&["cp", "-n", "shop", "small", &format!("{pod}:/scratch/small")]).ok();
        k(&["exec", "-n", "shop", &pod, "--", "cat", "/scratch/small"]).ok().has(&["small"]);
        k(&["create", "configmap", "short", "-n", "shop"]).ok().has(&["configmap/short created"]);
        k(&["delete", "configmap", "short", "-n", "shop"]).ok().has(&["deleted"]);
        c.kubectl(&["scale", "-n", "shop", "deploy/web", "--replicas=2"]).ok();
    }
}

fn deleting(c: &Cluster) {
    step("delete --wait");
    c.kubectl(&[
        "delete",
        "deployment",
        "web",
        "-n",
        "shop",
        "--wait",
        "--cascade=foreground",
        "--timeout=110s",
    ])
    .ok()
    .has(&["deployment.apps \"web\" deleted"]);
    let left = c.kubectl(&["get", "deploy,rs,pods", "-n", "shop", "-o", "name"]).ok();
    assert_eq!(left.out, "", "after a foreground deletion nothing that it owned is left");
    c.kubectl(&["delete", "namespace", "shop", "--wait", "--timeout=110s"]).ok();
    c.kubectl(&["get", "namespace", "shop"])
        .fails()
        .has(&["Error from server (NotFound): namespaces \"shop\" not found"]);
}
