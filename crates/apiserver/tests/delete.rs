//! Deletion: finalizers, propagation, preconditions, namespaces.

use serde_json::json;

use crate::world::{World, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn delete_with(w: &World, path: &str, options: serde_json::Value) -> crate::world::Answer {
    w.send("DELETE", path, &[("content-type", "application/json")], options.to_string().into_bytes()).await
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let w = World::new().await;
    let mut object = config_map("a", &[]);
    object["metadata"]["finalizers"] = json!(["example.com/x"]);
    w.post(MAPS, object).await.ok();
    let path = format!("{MAPS}/a");
    let marked = w.delete(&path).await.ok();
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    w.advance(5);
    let again = w.delete(&path).await.ok();
    assert_eq!(again["metadata"]["deletionTimestamp"], marked["metadata"]["deletionTimestamp"]);
    // No new finalizers now.
    let fault = w
        .patch("merge", &path, json!({"metadata": {"finalizers": ["example.com/x", "example.com/y"]}}))
        .await;
    assert_eq!(fault.fault().0, 422);
    let duplicate = w.post(MAPS, config_map("a", &[])).await.fault();
    assert_eq!(duplicate.2, r#"object is being deleted: configmaps "a" already exists"#);
    let last = w.patch("merge", &path, json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(last["metadata"]["name"], "a");
    assert_eq!(w.get(&path).await.fault().0, 404);
}

#[tokio::test]
async fn propagation() {
    let w = World::new().await;
    for (name, policy, finalizer) in [
        ("f", "Foreground", Some("foregroundDeletion")),
        ("o", "Orphan", Some("orphan")),
        ("b", "Background", None),
    ] {
        w.post(MAPS, config_map(name, &[])).await.ok();
        let path = format!("{MAPS}/{name}");
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        let answer = delete_with(&w, &path, options).await.ok();
        match finalizer {
            Some(finalizer) => {
                assert_eq!(answer["metadata"]["finalizers"], json!([finalizer]));
                assert!(answer["metadata"]["deletionTimestamp"].is_string());
            }
            None => assert_eq!(w.get(&path).await.code, 404),
        }
    }
    let fault = delete_with(&w, &format!("{MAPS}/f"), json!({"propagationPolicy": "Sideways"})).await.fault();
    assert_eq!((fault.0, fault.1.as_str()), (422, "Invalid"));
}

#[tokio::test]
async fn preconditions() {
    let w = World::new().await;
    let made = w.post(MAPS, config_map("a", &[])).await.ok();
    let path = format!("{MAPS}/a");
    for wrong in [json!({"uid": "x"}), json!({"resourceVersion": "1"})] {
        let fault = delete_with(&w, &path, json!({"preconditions": wrong})).await.fault();
        assert_eq!((fault.0, fault.1.as_str()), (409, "Conflict"));
    }
    let right =
        json!({"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]});
    delete_with(&w, &path, json!({"preconditions": right})).await.ok();
    assert_eq!(w.delete(&path).await.fault(), (404, "NotFound".into(), r#"configmaps "a" not found"#.into()));
}

#[tokio::test]
async fn collections() {
    let w = World::new().await;
    for (name, label) in [("a", "1"), ("b", "1"), ("c", "2")] {
        w.post(MAPS, config_map(name, &[("x", label)])).await.ok();
    }
    w.delete(&format!("{MAPS}?labelSelector=x%3D1")).await.ok();
    let left = w.get(MAPS).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
}

#[tokio::test]
async fn namespaces_go_in_phases() {
    let w = World::new().await;
    let made = w.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.ok();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
    let path = "/api/v1/namespaces/n";
    let first = w.delete(path).await.ok();
    assert_eq!(first["status"]["phase"], "Terminating");
    assert!(first["metadata"]["deletionTimestamp"].is_string());
    let second = w.delete(path).await;
    assert_eq!(second.code, 200, "{}", second.text);
    assert_eq!(w.get(path).await.ok()["status"]["phase"], "Terminating");
    // Nothing new goes in.
    let refused = w.post("/api/v1/namespaces/n/configmaps", config_map("a", &[])).await.fault();
    assert_eq!((refused.0, refused.1.as_str()), (403, "Forbidden"));
    let mut finalized = w.get(path).await.ok();
    finalized["spec"]["finalizers"] = json!([]);
    w.put(&format!("{path}/finalize"), finalized).await.ok();
    assert_eq!(w.get(path).await.fault().0, 404);
}
