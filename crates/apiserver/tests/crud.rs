//! Create, read, update, patch.

use serde_json::{Value, json};

use crate::world::{World, config_map, stored};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn the_life_of_a_config_map() {
    let w = World::new().await;
    let answer = w.post(MAPS, config_map("a", &[("x", "y")])).await;
    assert_eq!(answer.code, 201);
    let made = answer.ok();
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["apiVersion"], "v1");
    let metadata = &made["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["creationTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata.get("generation").is_none() && metadata.get("selfLink").is_none());
    assert_eq!(metadata["managedFields"][0]["operation"], "Update");
    let version = metadata["resourceVersion"].as_str().unwrap().to_owned();
    let revision: i64 = version.parse().unwrap();
    assert_eq!(revision, w.store.revision());
    assert!(stored(&w, "/registry/configmaps/default/a").is_some());

    assert_eq!(w.get(&format!("{MAPS}/a")).await.ok(), made);

    // An update without a version is unconditional; the same again writes nothing.
    let mut next = made.clone();
    next["data"]["k"] = json!("w");
    next["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let updated = w.put(&format!("{MAPS}/a"), next.clone()).await.ok();
    assert_eq!(updated["data"]["k"], "w");
    assert_eq!(updated["metadata"]["uid"], made["metadata"]["uid"]);
    let before = w.store.revision();
    let again = w.put(&format!("{MAPS}/a"), next).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);
    assert_eq!(w.store.revision(), before);

    let gone = w.delete(&format!("{MAPS}/a")).await.ok();
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["name"], "a");
    assert_eq!(gone["details"]["kind"], "configmaps");
    assert_eq!(w.get(&format!("{MAPS}/a")).await.fault().0, 404);
    assert!(w.store.get(b"/registry/configmaps/default/a").is_none());
}

#[tokio::test]
async fn conflicts() {
    let w = World::new().await;
    let made = w.post(MAPS, config_map("a", &[])).await.ok();
    assert_eq!(
        w.post(MAPS, config_map("a", &[])).await.fault(),
        (409, "AlreadyExists".into(), r#"configmaps "a" already exists"#.into())
    );
    let mut newer = made.clone();
    newer["data"] = json!({"a": "b"});
    w.put(&format!("{MAPS}/a"), newer).await.ok();
    let stale = w.put(&format!("{MAPS}/a"), made).await;
    assert_eq!(
        stale.fault(),
        (
            409,
            "Conflict".into(),
            r#"Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#
                .into()
        )
    );
}

#[tokio::test]
async fn patches() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[("x", "y")])).await.ok();
    let path = format!("{MAPS}/a");
    let merged = w.patch("merge", &path, json!({"data": {"m": "1", "k": null}})).await.ok();
    assert_eq!(merged["data"], json!({"m": "1"}));
    let json_patched =
        w.patch("json", &path, json!([{"op": "add", "path": "/data/j", "value": "2"}])).await.ok();
    assert_eq!(json_patched["data"], json!({"m": "1", "j": "2"}));
    let strategic =
        w.patch("strategic-merge", &path, json!({"metadata": {"labels": {"x": null, "z": "1"}}})).await;
    assert_eq!(strategic.ok()["metadata"]["labels"], json!({"z": "1"}));

    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    w.post(deployments, deployment("d")).await.ok();
    let path = format!("{deployments}/d");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    let patched = w.patch("strategic-merge", &path, patch).await.ok();
    assert_eq!(patched["spec"]["template"]["spec"]["containers"][0]["image"], "two");
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(patched["metadata"]["generation"], 2);

    let faults = [
        (w.patch("json", &path, json!([{"op": "test", "path": "/spec/replicas", "value": 99}])).await, 422),
        (w.patch("json", &path, json!({"not": "a list"})).await, 400),
        (w.patch("apply", &path, json!({})).await, 415),
        (w.patch("merge", &format!("{deployments}/none"), json!({})).await, 404),
        (w.patch("merge", &path, json!({"metadata": {"resourceVersion": "1"}})).await, 409),
        (w.patch("merge", &path, json!({"spec": {"replicas": "x"}})).await, 422),
    ];
    for (answer, code) in faults {
        assert_eq!(answer.fault().0, code, "{}", answer.text);
    }
}

pub fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "one"}]},
            },
        },
    })
}

#[tokio::test]
async fn status_and_scale() {
    let w = World::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let made = w.post("/apis/apps/v1/namespaces/default/deployments", deployment("d")).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"]["strategy"]["type"], "RollingUpdate");

    // The object's path does not write status, the status path writes nothing else.
    let mut changed = made.clone();
    changed["status"] = json!({"replicas": 9});
    changed["spec"]["replicas"] = json!(5);
    let status = w.put(&format!("{path}/status"), changed.clone()).await.ok();
    assert_eq!(status["status"]["replicas"], 9);
    assert_eq!(status["spec"]["replicas"], 3);
    assert_eq!(status["metadata"]["generation"], 1);
    changed["status"] = json!({"replicas": 1});
    changed["metadata"]["resourceVersion"] = status["metadata"]["resourceVersion"].clone();
    let object = w.put(path, changed).await.ok();
    assert_eq!(object["status"]["replicas"], 9);
    assert_eq!(object["spec"]["replicas"], 5);
    assert_eq!(object["metadata"]["generation"], 2);

    let scale = w.get(&format!("{path}/scale")).await.ok();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(scale["spec"]["replicas"], 5);
    assert_eq!(scale["status"], json!({"replicas": 9, "selector": "app=d"}));
    let mut wanted = scale.clone();
    wanted["spec"]["replicas"] = json!(1);
    assert_eq!(w.put(&format!("{path}/scale"), wanted).await.ok()["spec"]["replicas"], 1);
    let patched = w.patch("merge", &format!("{path}/scale"), json!({"spec": {"replicas": 2}})).await.ok();
    assert_eq!(patched["spec"]["replicas"], 2);
    assert_eq!(w.get(path).await.ok()["metadata"]["generation"], 4);
    assert_eq!(w.put(&format!("{path}/scale"), scale).await.fault().0, 409);
}

#[tokio::test]
async fn generated_names_and_dry_runs() {
    let w = World::new().await;
    let object = json!({"metadata": {"generateName": "g-"}});
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = w.post(MAPS, object.clone()).await.ok();
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("g-") && name.len() == 7);
        assert!(names.insert(name));
    }
    let before = w.store.revision();
    let dry = w.post(&format!("{MAPS}?dryRun=All"), config_map("dry", &[])).await;
    assert_eq!(dry.code, 201);
    assert!(dry.ok()["metadata"]["uid"].is_string());
    assert!(dry.ok()["metadata"].get("resourceVersion").is_none());
    let name = names.first().unwrap();
    w.send("DELETE", &format!("{MAPS}/{name}?dryRun=All"), &[], vec![]).await.ok();
    w.patch("merge", &format!("{MAPS}/{name}?dryRun=All"), json!({"data": {"a": "b"}})).await.ok();
    assert_eq!(w.store.revision(), before);
}

#[tokio::test]
async fn every_kind_is_served() {
    let w = World::new().await;
    let mut served = 0;
    for resource in api::resources().iter().filter(|r| r.default_on && r.has_verb("list")) {
        let path = match &*resource.group {
            "" => format!("/api/{}/{}", resource.version, resource.plural),
            group => format!("/apis/{group}/{}/{}", resource.version, resource.plural),
        };
        if resource.storage.is_none() {
            continue;
        }
        let list = w.get(&path).await.ok();
        assert_eq!(list["kind"], format!("{}List", resource.kind), "{path}");
        assert!(list["items"].is_array(), "{path}");
        served += 1;
    }
    assert!(served > 50, "{served}");
}

#[tokio::test]
async fn versions_of_one_kind() {
    let w = World::new().await;
    let core = "/api/v1/namespaces/default/events";
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let made = w
        .post(
            core,
            json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
                "reason": "r", "message": "m", "type": "Normal", "source": {"component": "c"}}),
        )
        .await
        .ok();
    assert_eq!(made["message"], "m");
    let other = w.get(&format!("{events}/e")).await.ok();
    assert_eq!(other["apiVersion"], "events.k8s.io/v1");
    assert_eq!(other["note"], "m");
    assert_eq!(other["regarding"]["name"], "p");
    assert_eq!(other["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let found = w.get(&format!("{core}?fieldSelector=involvedObject.name%3Dp,reason%3Dr")).await.ok();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let kv = w.store.get(b"/registry/events/default/e").unwrap();
    assert!(kv.lease != 0);
}

#[tokio::test]
async fn fields_that_say_the_same() {
    let w = World::new().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let made = w.post(secrets, json!({"metadata": {"name": "s"}, "stringData": {"a": "hello"}})).await.ok();
    assert_eq!(made["data"], json!({"a": "aGVsbG8="}));
    assert!(made.get("stringData").is_none());
    assert_eq!(made["type"], "Opaque");
    let patch = json!({"stringData": {"b": "x"}});
    let patched = w.patch("merge", &format!("{secrets}/s"), patch).await.ok();
    assert_eq!(patched["data"], json!({"a": "aGVsbG8=", "b": "eA=="}));
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = w.post("/api/v1/namespaces/default/pods", pod).await.ok();
    assert_eq!(
        (&pod["spec"]["serviceAccountName"], &pod["spec"]["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
}

#[tokio::test]
async fn owners_are_checked_and_deduplicated() {
    let w = World::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"});
    let object = json!({"metadata": {"name": "a", "ownerReferences": [owner, owner]}});
    let answer = w.post(MAPS, object).await;
    assert_eq!(answer.ok()["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    let warning = answer.headers["warning"].to_str().unwrap();
    assert!(warning.contains("duplicate entries"), "{warning}");
    let object = json!({"metadata": {"name": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "uid": "1"}]}});
    let fault = w.post(MAPS, object).await.fault();
    assert_eq!((fault.0, fault.1.as_str()), (422, "Invalid"));
    assert!(
        fault.2.contains("metadata.ownerReferences.name: Invalid value: \"\": must not be empty"),
        "{}",
        fault.2
    );
}
