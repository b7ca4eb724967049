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

/// Upstream's `TestEvictionWithETCD` and `TestEviction`: the state of the pod and of its budget, the version and dry
/// run of the request, and what becomes of it: code, cause, what is left of the budget, whether the pod goes.
#[tokio::test]
async fn evictions() {
    let w = World::new().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let needs = |healthy: i64, current: i64| {
        Some(format!("The disruption budget b needs {healthy} healthy pods and has {current} currently"))
    };
    let empty = json!({});
    let always = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
    // phase, ready, the budget's spec, allowed, current, desired
    let table = [
        ("Running", "True", &empty, (0, 1, 1), "v1", 429, needs(1, 1), 0, false),
        ("Running", "True", &empty, (2, 3, 1), "v1", 201, None, 1, true),
        ("Running", "True", &empty, (1, 2, 1), "v1beta1", 201, None, 0, true),
        ("Running", "True", &always, (0, 1, 1), "v1", 429, needs(1, 1), 0, false),
        ("Running", "False", &always, (0, 0, 1), "v1", 201, None, 0, true),
        ("Running", "False", &empty, (0, 0, 1), "v1", 429, needs(1, 0), 0, false),
        ("Running", "False", &empty, (0, 1, 1), "v1", 201, None, 0, true),
        ("Pending", "False", &empty, (0, 0, 1), "v1", 201, None, 0, true),
        ("Succeeded", "False", &empty, (0, 0, 1), "v1", 201, None, 0, true),
        ("Failed", "False", &empty, (0, 0, 1), "v1", 201, None, 0, true),
    ];
    for (phase, ready, spec, (allowed, current, desired), version, code, cause, left, goes) in table {
        let case = format!("{phase} {ready} {spec} {allowed} {current} {desired} {version}");
        let mut object = pod("p");
        object["metadata"]["labels"] = json!({"app": "x"});
        w.post(PODS, object).await.ok();
        bind(&w, "p", "n1").await.ok();
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let status = json!({"status": {"phase": phase, "conditions": conditions}});
        w.patch("merge", &format!("{PODS}/p/status"), status).await.ok();
        let mut budget = json!({"metadata": {"name": "b"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
        for (key, value) in spec.as_object().unwrap() {
            budget["spec"][key] = value.clone();
        }
        w.post(budgets, budget).await.ok();
        let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed,
            "desiredHealthy": desired, "currentHealthy": current, "expectedPods": 1}});
        w.patch("merge", &format!("{budgets}/b/status"), status).await.ok();

        let eviction =
            json!({"kind": "Eviction", "apiVersion": format!("policy/{version}"), "metadata": {"name": "p"}});
        let path = format!("{PODS}/p/eviction");
        // A rehearsal says the same and does nothing.
        assert_eq!(w.post(&format!("{path}?dryRun=All"), eviction.clone()).await.code, code, "{case}");
        let rehearsed = w.get(&format!("{PODS}/p")).await.ok();
        assert!(rehearsed["metadata"]["deletionTimestamp"].is_null(), "{case}");
        let answer = w.post(&path, eviction).await;
        assert_eq!(answer.code, code, "{case}: {}", answer.text);
        let got = answer.json()["details"]["causes"][0]["message"].as_str().map(str::to_owned);
        assert_eq!(got, cause, "{case}");
        let budget = w.get(&format!("{budgets}/b")).await.ok();
        assert_eq!(budget["status"]["disruptionsAllowed"], left, "{case}");
        let asked = allowed != left;
        assert_eq!(budget["status"]["disruptedPods"]["p"].is_string(), asked, "{case}");
        let evicted = w.get(&format!("{PODS}/p")).await;
        if evicted.code == 200 {
            let evicted = evicted.json();
            assert_eq!(evicted["metadata"]["deletionTimestamp"].is_string(), goes, "{case}");
            let conditions = evicted["status"]["conditions"].as_array().unwrap();
            let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget");
            assert_eq!(
                target.map(|c| &c["reason"]),
                goes.then_some(&json!("EvictionByEvictionAPI")),
                "{case}"
            );
        } else {
            assert!(goes && matches!(phase, "Succeeded" | "Failed"), "{case}");
        }
        w.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await;
        w.delete(&format!("{budgets}/b")).await.ok();
    }
}

#[tokio::test]
async fn evictions_that_do_not_fit() {
    let w = World::new().await;
    let mut object = pod("p");
    object["metadata"]["labels"] = json!({"app": "x"});
    let made = w.post(PODS, object).await.ok();
    bind(&w, "p", "n1").await.ok();
    w.patch("merge", &format!("{PODS}/p/status"), json!({"status": {"phase": "Running"}})).await.ok();
    let path = format!("{PODS}/p/eviction");
    let eviction = |name: &str, options: Value| json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": name}, "deleteOptions": options});
    let fault = w.post(&path, eviction("q", Value::Null)).await.fault();
    assert_eq!((fault.0, &*fault.2), (400, "name in URL does not match name in Eviction object"));
    assert_eq!(w.post(&format!("{PODS}/q/eviction"), eviction("q", Value::Null)).await.code, 404);
    let other = json!({"preconditions": {"uid": "other"}});
    let fault = w.post(&path, eviction("p", other)).await.fault();
    assert_eq!((fault.0, &*fault.1), (409, "Conflict"));
    assert!(
        fault
            .2
            .starts_with("Operation cannot be fulfilled on Pod \"p\": the UID in the precondition (other)"),
        "{}",
        fault.2
    );
    let old = json!({"preconditions": {"resourceVersion": made["metadata"]["resourceVersion"]}});
    assert_eq!(w.post(&path, eviction("p", old)).await.code, 409);
    let unsafe_read = json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true});
    assert_eq!(w.post(&path, eviction("p", unsafe_read)).await.code, 422);
    for name in ["a", "b"] {
        let budget = json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "x"}}}});
        w.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget).await.ok();
    }
    assert_eq!(
        w.post(&path, eviction("p", Value::Null)).await.fault(),
        (
            500,
            String::new(),
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.".into()
        )
    );
    let now = w.get(&format!("{PODS}/p")).await.ok();
    assert!(now["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn bindings_know_their_pod() {
    let w = World::new().await;
    let node =
        json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z", "other": "x"}}});
    w.post("/api/v1/nodes", node).await.ok();
    w.post(PODS, pod("p")).await.ok();
    let binding = |uid: &str| {
        json!({"metadata": {"name": "p", "uid": uid, "annotations": {"a": "b"}},
        "target": {"kind": "Node", "name": "n1"}})
    };
    let fault = w.post(&format!("{PODS}/p/binding"), binding("other")).await.fault();
    assert_eq!((fault.0, &*fault.1), (409, "Conflict"));
    assert!(
        fault.2.contains("Precondition failed: UID in precondition: other, UID in object meta: "),
        "{}",
        fault.2
    );
    let fault = w.post(&format!("{PODS}/q/binding"), binding("")).await.fault();
    assert_eq!(fault.2, "name in URL does not match name in Binding object");
    // The older way.
    w.post("/api/v1/namespaces/default/bindings", binding("")).await.ok();
    let bound = w.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["annotations"], json!({"a": "b"}));
}

#[tokio::test]
async fn bound_pods_know_their_zone() {
    let w = World::new().await;
    let node =
        json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z", "other": "x"}}});
    w.post("/api/v1/nodes", node).await.ok();
    w.post(PODS, pod("p")).await.ok();
    bind(&w, "p", "n1").await.ok();
    let bound = w.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));
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

/// The engine's part of the pod's other ways in: who may be read and written through them, and what stays.
#[tokio::test]
async fn containers_added_and_resized() {
    let w = World::new().await;
    w.post(PODS, pod("p")).await.ok();
    bind(&w, "p", "n1").await.ok();
    let path = format!("{PODS}/p/ephemeralcontainers");
    assert_eq!(w.get(&path).await.ok()["kind"], "Pod");
    let added = json!({"metadata": {"labels": {"no": "way"}}, "spec": {"ephemeralContainers": [
        {"name": "e", "image": "i", "targetContainerName": "c"}], "activeDeadlineSeconds": 5}});
    let now = w.patch("strategic-merge", &path, added).await.ok();
    assert_eq!(now["spec"]["ephemeralContainers"][0]["name"], "e");
    assert_eq!(now["spec"]["activeDeadlineSeconds"], Value::Null);
    let path = format!("{PODS}/p/resize");
    assert_eq!(w.get(&path).await.ok()["kind"], "Pod");
    let fault = w.post(&path, json!({})).await.code;
    assert_eq!(fault, 405);
    let missing = w.patch("merge", &format!("{PODS}/q/resize"), json!({})).await.fault();
    assert_eq!((missing.0, &*missing.2), (404, "pods \"q\" not found"));
}

/// `--allow-privileged=false`.
#[tokio::test]
async fn privileged_containers() {
    let mut config = crate::access::config(false);
    config.allow_privileged = false;
    let w = World::with(config);
    apiserver::bootstrap::run(&w.server).await.unwrap();
    let spec = |name: &str, privileged: bool| {
        json!({"initContainers": [{"name": "a", "image": "i"}], "containers": [
            {"name": "b", "image": "i"}, {"name": name, "image": "i", "securityContext": {"privileged": privileged}}]})
    };
    let template = |privileged| json!({"metadata": {"labels": {"a": "b"}}, "spec": spec("c", privileged)});
    let deployment = |privileged| {
        json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": template(privileged)}})
    };
    let mut job = json!({"metadata": {"name": "j"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template(true)}}}});
    job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    for (path, object, at) in [
        (deployments, deployment(true), "spec.template.spec"),
        ("/apis/batch/v1/namespaces/default/cronjobs", job, "spec.jobTemplate.spec.template.spec"),
    ] {
        let (code, _, message) = w.post(path, object).await.fault();
        let expect =
            format!("{at}.containers[1].securityContext.privileged: Forbidden: disallowed by cluster policy");
        assert!(code == 422 && message.ends_with(&expect), "{message}");
    }
    w.post(deployments, deployment(false)).await.ok();
    assert_eq!(w.put(&format!("{deployments}/d"), deployment(true)).await.code, 422);
}
