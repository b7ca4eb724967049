//! What breaks is mended, and what is deleted is gone with everything that it owned.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::application::{deploy, pods, rollout};
use super::cluster::{Cluster, container_processes, eventually, step};

/// Pods that end, fail and cannot be placed, each in its own way.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "e2e.local/busybox:1", command: [sh, -c, "echo finished"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: failed, namespace: shop}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "e2e.local/busybox:1", command: [sh, -c, "echo why > /dev/termination-log; exit 4"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: crashing, namespace: shop}
spec:
  containers: [{name: c, image: "e2e.local/busybox:1", command: [sh, -c, "exit 1"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: imageless, namespace: shop}
spec:
  containers: [{name: c, image: "e2e.local/none:1", imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: misplaced, namespace: shop}
spec:
  nodeSelector: {disk: fast}
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "e2e.local/busybox:1", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: too-big, namespace: shop}
spec:
  containers: [{name: c, image: "e2e.local/busybox:1", resources: {requests: {cpu: "1000"}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: lively, namespace: shop}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: e2e.local/busybox:1
    command: [sh, -c, "touch /tmp/alive; exec sleep 100000"]
    livenessProbe:
      exec: {command: [cat, /tmp/alive]}
      periodSeconds: 1
      failureThreshold: 2
"#;

const RESTARTS: &str = "{.status.containerStatuses[0].restartCount}";

#[test]
fn healing() {
    let Some(c) = Cluster::start() else { return };
    deploy(&c);
    killed(&c);
    ends(&c);
    replaced(&c);
    runtime_killed(&c);
    deleted(&c);
}

fn container(c: &Cluster, pod: &str) -> String {
    let id = c.field("shop", &format!("pod/{pod}"), "{.status.containerStatuses[0].containerID}").ok().out;
    id.strip_prefix("containerd://")
        .unwrap_or_else(|| panic!("{id:?} is no container of containerd"))
        .to_owned()
}

fn killed(c: &Cluster) {
    step("a killed container is restarted");
    let pod = format!("pod/{}", pods(c)[0]);
    let before = container(c, &pods(c)[0]);
    let processes = container_processes(&before);
    assert!(!processes.is_empty(), "container {before} has no process");
    for process in processes {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    c.until_field("shop", &pod, RESTARTS, "1");
    c.until_field("shop", &pod, "{.status.containerStatuses[0].ready}", "true");
    let last = "{.status.containerStatuses[0].lastState.terminated";
    c.until_field("shop", &pod, &format!("{last}.exitCode}}"), "137");
    c.field("shop", &pod, &format!("{last}.containerID}}")).ok().has(&[&before]);
    c.field("shop", &pod, &format!("{last}.reason}}")).is("Error").unwrap();
    assert_ne!(container(c, &pods(c)[0]), before);
    assert_eq!(pods(c).len(), 3, "a restarted container is no reason for another pod");
    c.kubectl(&["logs", "-n", "shop", &pod, "--previous"]).ok().has(&["tick 1\n"]);
}

fn ends(c: &Cluster) {
    step("pods that end, fail and cannot be placed say so");
    c.apply(PODS);
    let state = "{.status.containerStatuses[0].state";
    for (pod, path, expect) in [
        ("done", "{.status.phase}".to_owned(), "Succeeded"),
        ("done", format!("{state}.terminated.reason}}"), "Completed"),
        ("failed", "{.status.phase}".to_owned(), "Failed"),
        ("failed", format!("{state}.terminated.exitCode}}"), "4"),
        ("failed", format!("{state}.terminated.message}}"), "why"),
        ("crashing", format!("{state}.waiting.reason}}"), "CrashLoopBackOff"),
        ("imageless", format!("{state}.waiting.reason}}"), "ErrImageNeverPull"),
        ("misplaced", "{.status.phase}".to_owned(), "Pending"),
        ("misplaced", "{.status.conditions[?(@.type==\"PodScheduled\")].reason}".to_owned(), "Unschedulable"),
    ] {
        c.until_field("shop", &format!("pod/{pod}"), &path, expect);
    }
    c.field("shop", "pod/done", RESTARTS).is("0").unwrap();
    c.kubectl(&["logs", "-n", "shop", "done"]).ok().has(&["finished"]);
    for (pod, says) in [
        ("misplaced", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
        ("too-big", "0/1 nodes are available: 1 Insufficient cpu."),
        ("crashing", "Back-off restarting failed container c in pod crashing"),
    ] {
        eventually(&format!("an event says why {pod} does not run"), || {
            let said = c.kubectl(&["describe", "pod", "-n", "shop", pod]).ok();
            if said.out.contains(says) { Ok(()) } else { Err(said) }
        });
    }
    step("a pod that waits runs once a node fits");
    c.kubectl(&["label", "nodes", "--all", "disk=fast"]).ok();
    c.until_field("shop", "pod/misplaced", "{.status.phase}", "Running");

    step("a failed liveness probe restarts");
    c.until_field("shop", "pod/lively", "{.status.phase}", "Running");
    c.until_field("shop", "pod/lively", "{.status.containerStatuses[0].ready}", "true");
    c.field("shop", "pod/lively", RESTARTS).is("0").unwrap();
    c.sh("shop", "lively", "rm /tmp/alive").ok();
    c.until_field("shop", "pod/lively", RESTARTS, "1");
    c.until_field("shop", "pod/lively", "{.status.containerStatuses[0].ready}", "true");
    eventually("events tell of it", || {
        let said = c.kubectl(&["describe", "pod", "-n", "shop", "lively"]).ok();
        let told = ["Liveness probe failed: cat:", "Container c failed liveness probe, will be restarted"];
        if told.iter().all(|words| said.out.contains(words)) { Ok(()) } else { Err(said) }
    });
}

fn replaced(c: &Cluster) {
    step("a deleted pod is replaced");
    let before = pods(c);
    let container = container(c, &before[0]);
    c.kubectl(&["delete", "pod", "-n", "shop", &before[0], "--wait", "--timeout=110s"]).ok();
    assert_eq!(container_processes(&container), [0; 0], "the pod is gone, its processes are not");
    rollout(c);
    c.until_field("shop", "deploy/web", "{.status.readyReplicas}", "3");
    let after = pods(c);
    assert_eq!((after.len(), after.contains(&before[0])), (3, false), "{before:?} became {after:?}");
    assert!(after.contains(&before[1]) && after.contains(&before[2]), "{before:?} became {after:?}");
}

fn runtime_killed(c: &Cluster) {
    step("a killed containerd comes back, and no container is restarted");
    let pod = pods(c).remove(0);
    let before = container(c, &pod);
    let file = c.dir.join("containerd/containerd.pid");
    let pid = || std::fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok();
    let old = pid().unwrap();
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    eventually("another containerd", || match pid() {
        Some(new) if new != old => Ok(()),
        other => Err(format!("{other:?}")),
    });
    eventually("exec works again", || c.sh("shop", &pod, "echo here").is("here"));
    c.until_field("shop", "nodes", "{.items[0].status.conditions[?(@.type==\"Ready\")].status}", "True");
    assert_eq!(container(c, &pod), before);
    c.field("shop", &format!("pod/{pod}"), RESTARTS).is("0").unwrap();
}

fn deleted(c: &Cluster) {
    step("deleting the Deployment removes all that it owned");
    let containers: Vec<String> = pods(c).iter().map(|pod| container(c, pod)).collect();
    let names = ["get", "rs,pods", "-n", "shop", "-l", "app=web", "-o", "name"];
    assert_eq!(c.kubectl(&names).ok().out.lines().count(), 4);
    c.kubectl(&["delete", "deployment", "web", "-n", "shop"]).ok();
    eventually("replica set and pods are gone", || c.kubectl(&names).is(""));
    for id in &containers {
        assert_eq!(container_processes(id), [0; 0], "container {id} runs on");
    }
    c.kubectl(&["get", "configmap", "settings", "-n", "shop"]).ok();
    let slice = ["get", "endpointslices", "-n", "shop", "-o", "jsonpath={.items[*].endpoints[*].addresses}"];
    eventually("the Service has no endpoints", || c.kubectl(&slice).is(""));

    step("what it did not own stays when asked for: orphans");
    deploy_again(c);
    c.kubectl(&["delete", "deployment", "web", "-n", "shop", "--cascade=orphan"]).ok();
    c.kubectl(&["get", "deployment", "web", "-n", "shop"]).fails();
    let sets = "{.items[*].metadata.ownerReferences}";
    eventually("the replica set has no owner", || {
        c.kubectl(&["get", "rs", "-n", "shop", "-o", &format!("jsonpath={sets}")]).is("")
    });
    assert_eq!(pods(c).len(), 3);

    step("deleting the namespace empties it");
    c.kubectl(&["delete", "namespace", "shop", "--wait", "--timeout=110s"]).ok();
    c.kubectl(&["create", "namespace", "shop"]).ok();
    let kinds = "pods,rs,deploy,svc,secrets,endpoints,endpointslices,rolebindings,leases";
    assert_eq!(c.kubectl(&["get", kinds, "-n", "shop", "-o", "name"]).ok().out, "");
    eventually("only what a namespace begins with is in it", || {
        c.kubectl(&["get", "configmaps,serviceaccounts", "-n", "shop", "-o", "name"])
            .is("configmap/kube-root-ca.crt\nserviceaccount/default")
    });
}

fn deploy_again(c: &Cluster) {
    c.apply(super::application::SHOP);
    rollout(c);
}
