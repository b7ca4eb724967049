//! Pods: binding, grace, eviction.

use serde_json::{Value, json};

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

async fn bind(w: &World, name: &str, node: &str) -> crate::world::Answer {
    let binding = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": name},
        "target": {"kind": "Node", "name": node}});
    w.post(&format!("{PODS}/{name}/binding"), binding).await
}

#[tokio::test]
async fn binding() {
    let w = World::new().await;
    let made = w.post(PODS, pod("p")).await.ok();
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["restartPolicy"], "Always");
    let answer = bind(&w, "p", "n1").await;
    assert_eq!((answer.code, answer.json()["status"].as_str()), (201, Some("Success")));
    let bound = w.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(
        bind(&w, "p", "n2").await.fault(),
        (
            409,
            "Conflict".into(),
            r#"Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1""#
                .into()
        )
    );
    let by_node = w.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.ok();
    assert_eq!(by_node["items"].as_array().unwrap().len(), 1);
    let unbound = w.get("/api/v1/pods?fieldSelector=spec.nodeName%3D").await.ok();
    assert_eq!(unbound["items"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn grace() {
    let w = World::new().await;
    // Not on any node: gone at once.
    w.post(PODS, pod("a")).await.ok();
    w.delete(&format!("{PODS}/a")).await.ok();
    assert_eq!(w.get(&format!("{PODS}/a")).await.code, 404);

    w.post(PODS, pod("p")).await.ok();
    bind(&w, "p", "n1").await.ok();
    let path = format!("{PODS}/p");
    let going = w.delete(&path).await.ok();
    assert_eq!(going["metadata"]["deletionTimestamp"], "2023-11-14T22:13:50Z");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    w.advance(2);
    let sooner = w.delete(&format!("{path}?gracePeriodSeconds=10")).await.ok();
    assert_eq!(sooner["metadata"]["deletionTimestamp"], "2023-11-14T22:13:30Z");
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 10);
    let later = w.delete(&format!("{path}?gracePeriodSeconds=100")).await.ok();
    assert_eq!(later["metadata"]["deletionGracePeriodSeconds"], 10);
    // The kubelet's last word.
    w.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    assert_eq!(w.get(&path).await.code, 404);
}

#[tokio::test]
async fn eviction_asks_the_budget() {
    let w = World::new().await;
    let mut object = pod("p");
    object["metadata"]["labels"] = json!({"app": "x"});
    w.post(PODS, object).await.ok();
    bind(&w, "p", "n1").await.ok();
    w.patch("merge", &format!("{PODS}/p/status"), json!({"status": {"phase": "Running"}})).await.ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    w.post(budgets, budget).await.ok();
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "desiredHealthy": 1,
        "currentHealthy": 1, "expectedPods": 1}});
    w.patch("merge", &format!("{budgets}/b/status"), status).await.ok();
    let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}});
    let path = format!("{PODS}/p/eviction");
    let refused = w.post(&path, eviction.clone()).await.fault();
    assert_eq!(refused.0, 429);
    assert_eq!(refused.2, "Cannot evict pod as it would violate the pod's disruption budget.");
    let allowed = json!({"status": {"disruptionsAllowed": 1}});
    w.patch("merge", &format!("{budgets}/b/status"), allowed).await.ok();
    assert_eq!(w.post(&path, eviction).await.code, 201);
    assert!(w.get(&format!("{PODS}/p")).await.ok()["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(w.get(&format!("{budgets}/b")).await.ok()["status"]["disruptionsAllowed"], 0);
}

#[tokio::test]
async fn nodes_out_of_reach() {
    let w = World::new().await;
    w.post(PODS, pod("p")).await.ok();
    assert_eq!(w.get(&format!("{PODS}/p/log")).await.code, 204);
    let fault = w.get(&format!("{PODS}/p/log?container=x")).await.fault();
    assert_eq!(fault, (400, "BadRequest".into(), "container x is not valid for pod p".into()));
    let fault = w.post(&format!("{PODS}/p/exec?command=sh"), json!({})).await.fault();
    assert_eq!(fault.2, "pod p does not have a host assigned");
    bind(&w, "p", "gone").await.ok();
    assert_eq!(w.get(&format!("{PODS}/p/log")).await.fault().2, r#"nodes "gone" not found"#);
}
