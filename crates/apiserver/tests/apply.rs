//! Server-side apply and the owners of fields through the whole chain, after upstream's
//! `test/integration/apiserver/apply`.

use serde_json::{Value, json};

use crate::world::{Answer, World};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const AUTOSCALERS: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";

impl World {
    /// `manager` may go on with more parameters: `m&force=true`.
    async fn apply(&self, path: &str, manager: &str, config: Value) -> Answer {
        self.apply_text(path, manager, &config.to_string()).await
    }

    async fn apply_text(&self, path: &str, manager: &str, text: &str) -> Answer {
        let path = format!("{path}?fieldManager={manager}");
        let content = [("content-type", "application/apply-patch+yaml")];
        self.send("PATCH", &path, &content, text.as_bytes().to_vec()).await
    }
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment(name: &str, replicas: Option<i64>) -> Value {
    let mut config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    if let Some(replicas) = replicas {
        config["spec"]["replicas"] = json!(replicas);
    }
    config
}

/// Who owns what: `["Apply m scale", fields]`.
fn owners(object: &Value) -> Value {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let one = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let who = [text("operation"), text("manager"), text("apiVersion"), text("subresource")];
        json!([who.join(" ").trim_end(), entry["fieldsV1"]])
    };
    list.iter().map(one).collect()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn one_object_and_several_appliers() {
    let world = World::new().await;
    let path = format!("{MAPS}/m");
    let data = |fields: Value| json!({"f:data": fields});
    let created = world.apply(&path, "a", map("m", json!({"x": "1", "y": "1"}))).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let created = created.ok();
    assert_eq!(owners(&created), json!([["Apply a v1", data(json!({"f:x": {}, "f:y": {}}))]]));
    assert_eq!(created["metadata"]["managedFields"][0]["time"], "2023-11-14T22:13:20Z");
    world.advance(60);
    // again: nothing happens
    let again = world.apply(&path, "a", map("m", json!({"x": "1", "y": "1"}))).await;
    assert_eq!((again.code, again.json()), (200, created.clone()));
    // the same in YAML, with what upstream's clients send of the metadata
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\n  creationTimestamp: null\ndata: {x: '1', y: '1'}\n";
    assert_eq!(world.apply_text(&path, "a", yaml).await.ok(), created);
    // a conflict, and the same by force
    let other = || map("m", json!({"x": "2", "z": "1"}));
    let refused = world.apply(&path, "b", other()).await;
    let (code, reason, message) = refused.fault();
    let said = "Apply failed with 1 conflict: conflict with \"a\": .data.x";
    assert_eq!((code, reason.as_str(), message.as_str()), (409, "Conflict", said));
    let cause =
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".data.x"}]);
    assert_eq!(refused.json()["details"]["causes"], cause);
    let dry = world.apply(&path, "b&force=true&dryRun=All", other()).await.ok();
    assert_eq!(dry["data"], json!({"x": "2", "y": "1", "z": "1"}));
    assert_eq!(world.get(&path).await.ok(), created);
    let forced = world.apply(&path, "b&force=true", other()).await.ok();
    assert_eq!(forced["data"], json!({"x": "2", "y": "1", "z": "1"}));
    let both = json!([
        ["Apply a v1", data(json!({"f:y": {}}))],
        ["Apply b v1", data(json!({"f:x": {}, "f:z": {}}))]
    ]);
    assert_eq!(owners(&forced), both);
    // what is left out goes, and at the end all of it
    let less = world.apply(&path, "b", map("m", json!({"z": "1"}))).await.ok();
    assert_eq!(less["data"], json!({"y": "1", "z": "1"}));
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    world.apply(&path, "b", bare.clone()).await.ok();
    let none = world.apply(&path, "a", bare).await.ok();
    assert_eq!((none.get("data"), owners(&none)), (None, json!([])));
    // from now on nobody's fields are tracked until the next apply
    let patched = world.patch("merge", &path, json!({"data": {"p": "1"}})).await.ok();
    assert_eq!(owners(&patched), json!([]));
    let tracked = world.apply(&path, "a", map("m", json!({"q": "1"}))).await.ok();
    let before = ["Update before-first-apply v1", "Apply a v1"];
    assert_eq!((&owners(&tracked)[1][0], &owners(&tracked)[0][0]), (&json!(before[0]), &json!(before[1])));
}

#[tokio::test]
async fn requests_that_are_refused() {
    let world = World::new().await;
    let path = format!("{MAPS}/m");
    let check = |answer: Answer, code: u16, expect: &str| {
        assert_eq!((answer.fault().0, answer.fault().2.as_str()), (code, expect));
    };
    let content = [("content-type", "application/apply-patch+yaml")];
    let nameless = world.send("PATCH", &path, &content, map("m", json!({})).to_string().into_bytes()).await;
    let required =
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
    check(nameless, 422, required);
    let cbor = [("content-type", "application/apply-patch+cbor")];
    let cbor = world.send("PATCH", &format!("{path}?fieldManager=a"), &cbor, vec![0xa0]).await;
    check(cbor, 415, "415: Unsupported Media Type");
    let forced = world.patch("merge", &format!("{path}?force=true"), json!({})).await;
    let forbidden = "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch";
    check(forced, 422, forbidden);
    let mut unknown = map("m", json!({}));
    unknown["nope"] = json!(1);
    check(
        world.apply(&path, "a", unknown).await,
        500,
        "failed to create typed patch object (/m; /v1, Kind=ConfigMap): .nope: field not declared in schema",
    );
    let mut wrong = map("m", json!({}));
    wrong["apiVersion"] = json!("v2");
    check(world.apply(&path, "a", wrong).await, 400, "invalid object type: /v2, Kind=ConfigMap");
    let named = world.apply(&path, "a", map("n", json!({}))).await;
    check(named, 400, "the name of the object (n) does not match the name on the URL (m)");
    let mut uid = map("m", json!({}));
    uid["metadata"]["uid"] = json!("1-2-3");
    check(
        world.apply(&path, "a", uid).await,
        409,
        "Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid 1-2-3, and no \
         existing object was found",
    );
    assert_eq!(world.apply_text(&path, "a", "{a: ]").await.code, 400);
    assert_eq!(world.apply_text(&path, "a", "[]").await.code, 400);
    assert_eq!(
        world
            .apply(&format!("{PODS}/none/status"), "a", json!({"apiVersion": "v1", "kind": "Pod"}))
            .await
            .code,
        404
    );
    // keys that are there twice
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: one\n  a: two\n";
    let strict = world.apply_text(&path, "a&fieldValidation=Strict", twice).await;
    let said =
        "error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"a\" already set in map";
    check(strict, 400, &format!("error strict decoding YAML: {said}"));
    let warned = world.apply_text(&path, "a", twice).await;
    let header = warned.headers.get("warning").and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
    assert!(header.contains("already set in map"), "{header}");
    assert_eq!(warned.ok()["data"], json!({"a": "two"}));
}

#[tokio::test]
async fn lists_and_subresources() {
    let world = World::new().await;
    let path = format!("{DEPLOYMENTS}/d");
    let created = world.apply(&path, "a", deployment("d", Some(2))).await.ok();
    assert_eq!(created["spec"]["replicas"], 2);
    let again = world.apply(&path, "a", deployment("d", Some(2))).await.ok();
    assert_eq!(again, created);
    // a second container and a port whose key has a default, by somebody else
    let port = |more: Value| {
        let mut port = json!({"containerPort": 80});
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [
            {"name": "c", "ports": [port]}, {"name": "d", "image": "i"}]}}}})
    };
    let added = world.apply(&path, "b", port(json!({"name": "foo"}))).await.ok();
    let names: Vec<&Value> = added["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["c", "d"]);
    let refused = world.apply(&path, "c", port(json!({"name": "bar", "protocol": "TCP"}))).await;
    let field = ".spec.template.spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"].name";
    assert_eq!(refused.fault().2, format!("Apply failed with 1 conflict: conflict with \"b\": {field}"));
    // the status belongs to who writes it through its path, and to nobody who writes it elsewhere
    let mut with_status = deployment("d", Some(2));
    with_status["status"] = json!({"observedGeneration": 7});
    let unchanged = world.apply(&path, "a", with_status.clone()).await.ok();
    assert_eq!(owners(&unchanged), owners(&added));
    let status = world.apply(&format!("{path}/status"), "s", with_status).await.ok();
    assert_eq!(status["status"]["observedGeneration"], 7);
    let entry =
        owners(&status).as_array().unwrap().iter().find(|e| e[0] == "Apply s apps/v1 status").cloned();
    assert_eq!(entry.unwrap()[1], json!({"f:status": {"f:observedGeneration": {}}}));
    // the replicas change hands through the scale
    let scale = format!("{path}/scale");
    let config = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": replicas}});
    let refused = world.apply(&scale, "s", config(5)).await;
    assert_eq!(refused.fault().2, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let scaled = world.apply(&scale, "s&force=true", config(5)).await.ok();
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    let stolen = world.get(&path).await.ok();
    let replicas = |object: &Value| {
        let who = |e: &&Value| e[1]["f:spec"].get("f:replicas").is_some();
        owners(object).as_array().unwrap().iter().filter(who).map(|e| e[0].clone()).collect::<Vec<_>>()
    };
    assert_eq!(replicas(&stolen), ["Apply s apps/v1 scale"]);
    let taken =
        world.patch("merge", &format!("{scale}?fieldManager=u"), json!({"spec": {"replicas": 6}})).await;
    assert_eq!(taken.ok()["spec"]["replicas"], 6);
    assert_eq!(replicas(&world.get(&path).await.ok()), ["Update u apps/v1 scale"]);
    let refused = world.apply(&path, "a", deployment("d", Some(2))).await;
    let said = "conflict with \"u\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert_eq!(refused.fault().2, format!("Apply failed with 1 conflict: {said}"));
    // no replicas are owned by nobody
    world.patch("merge", &format!("{scale}?fieldManager=u"), json!({"spec": {"replicas": 0}})).await.ok();
    assert_eq!(replicas(&world.get(&path).await.ok()), Vec::<Value>::new());
    world.patch("merge", &format!("{path}?fieldManager=u"), json!({"spec": {"replicas": 6}})).await.ok();
    // left to whoever scales
    let left = world.apply(&path, "a", deployment("d", None)).await.ok();
    assert_eq!(left["spec"]["replicas"], 6);
    // what only defaults hold comes back when it is left out
    let mut strategy = deployment("e", None);
    strategy["spec"]["strategy"] = json!({"type": "Recreate"});
    let path = format!("{DEPLOYMENTS}/e");
    assert_eq!(world.apply(&path, "a", strategy).await.ok()["spec"]["strategy"], json!({"type": "Recreate"}));
    let back = world.apply(&path, "a", deployment("e", None)).await.ok();
    assert_eq!(back["spec"]["strategy"]["type"], "RollingUpdate");
    assert_eq!(back["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
}

#[tokio::test]
async fn versions() {
    let world = World::new().await;
    let path = format!("{AUTOSCALERS}/h");
    let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    let config = |cpu: i64| {
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": cpu}})
    };
    world.apply(&path, "a", config(50)).await.ok();
    let newer = path.replace("/v1/", "/v2/");
    let metrics = |cpu: i64| json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": cpu}}}]);
    let other = |cpu: i64| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"metrics": metrics(cpu)}})
    };
    let refused = world.apply(&newer, "b", other(60)).await;
    let said = "Apply failed with 1 conflict: conflict with \"a\": .spec.targetCPUUtilizationPercentage";
    assert_eq!(refused.fault().2, said);
    // the same manager in the other version takes its fields along, and leaves those out that it applies no more
    let moved = world
        .apply(
            &newer,
            "a",
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target, "minReplicas": 2}}),
        )
        .await;
    let moved = moved.ok();
    assert_eq!(owners(&moved)[0][0], "Apply a autoscaling/v2");
    assert_eq!(owners(&moved).as_array().unwrap().len(), 1);
    assert_eq!(
        moved["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80,
        "the default: {moved}"
    );
}

/// `[]` and `[{}]` say that owners are to be forgotten, by whatever way they come.
#[tokio::test]
async fn forgetting_owners() {
    let world = World::new().await;
    let path = format!("{MAPS}/m");
    for reset in [json!([]), json!([{}])] {
        for way in ["merge", "strategic-merge", "json", "put", "yaml"] {
            world.apply(&path, "a", map("m", json!({"x": "1"}))).await.ok();
            let patch = json!({"metadata": {"managedFields": reset}});
            let answer = match way {
                "json" => {
                    let operation =
                        json!([{"op": "replace", "path": "/metadata/managedFields", "value": reset}]);
                    world.patch("json", &path, operation).await
                }
                "put" | "yaml" => {
                    let mut object = world.get(&path).await.ok();
                    object["metadata"]["managedFields"] = reset.clone();
                    let content = [(
                        "content-type",
                        if way == "put" { "application/json" } else { "application/yaml" },
                    )];
                    world.send("PUT", &path, &content, object.to_string().into_bytes()).await
                }
                kind => world.patch(kind, &path, patch).await,
            };
            assert_eq!(owners(&answer.ok()), json!([]), "{way} {reset}");
            world.delete(&path).await.ok();
        }
    }
    // not through a subresource
    let path = format!("{DEPLOYMENTS}/d");
    let created = world.apply(&path, "a", deployment("d", None)).await.ok();
    let patch = json!({"metadata": {"managedFields": [{}]}});
    let kept = world.patch("merge", &format!("{path}/status"), patch).await.ok();
    assert_eq!(owners(&kept), owners(&created));
    // and broken lists are taken for none
    let broken = json!({"metadata": {"managedFields": [{"operation": "nope"}]}});
    assert_eq!(owners(&world.patch("merge", &path, broken).await.ok()), owners(&created));
}

/// Every way to write records what it changed, and writes that change nothing record nothing.
#[tokio::test]
async fn writers_that_do_not_apply() {
    let world = World::new().await;
    let agent = |path: &str| format!("{path}?fieldManager=u");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let created = world.post(&agent(PODS), pod).await.ok();
    let fields = json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
        ".": {}, "f:name": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:resources": {},
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}},
        "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
        "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}}});
    assert_eq!(owners(&created), json!([["Update u v1", fields]]));
    let path = format!("{PODS}/p");
    world.advance(60);
    let same = world.put(&path, created.clone()).await.ok();
    assert_eq!(version(&same), version(&created));
    let applied = world
        .apply(
            &path,
            "a",
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [
        {"name": "c", "image": "i"}]}}),
        )
        .await
        .ok();
    assert_ne!(version(&applied), version(&created), "there is one more owner");
    let patched = world
        .patch(
            "strategic-merge",
            &format!("{path}/status?fieldManager=k"),
            json!({"status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .await
        .ok();
    let entry =
        owners(&patched).as_array().unwrap().iter().find(|e| e[0] == "Update k v1 status").cloned().unwrap();
    assert!(
        entry[1]["f:status"]["f:conditions"]["k:{\"type\":\"Ready\"}"]["f:status"].is_object(),
        "{entry}"
    );
    // a node that is created with a status: nobody owns that
    let node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "1"}}});
    let node = world.post("/api/v1/nodes?fieldManager=kubelet", node).await.ok();
    assert_eq!((&node["status"]["capacity"]["cpu"], owners(&node)), (&json!("1"), json!([])));
    // a binding records nothing
    let binding = json!({"metadata": {"name": "p"}, "target": {"name": "n"}});
    world.post(&format!("{path}/binding"), binding).await.ok();
    let bound = world.get(&path).await.ok();
    assert_eq!((&bound["spec"]["nodeName"], owners(&bound)), (&json!("n"), owners(&patched)));
}
