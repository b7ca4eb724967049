//! Watches.

use serde_json::json;

use crate::world::{World, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn pair(event: &str, name: &str) -> (String, String) {
    (event.into(), name.into())
}

#[tokio::test]
async fn events_follow_the_list() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    w.patch("merge", &format!("{MAPS}/a"), json!({"data": {"x": "1"}})).await.ok();
    let list = w.get(MAPS).await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut with_state = w.watch(&format!("{MAPS}?watch=true")).await;
    let mut any = w.watch(&format!("{MAPS}?watch=1&resourceVersion=0")).await;
    let mut after = w.watch(&format!("{MAPS}?watch=true&resourceVersion={from}")).await;
    let mut elsewhere = w.watch("/api/v1/namespaces/other/configmaps?watch=true&timeoutSeconds=1").await;
    w.post(MAPS, config_map("b", &[])).await.ok();
    w.patch("merge", &format!("{MAPS}/b"), json!({"data": {"x": "1"}})).await.ok();
    let last = w.get(&format!("{MAPS}/b")).await.ok();
    w.delete(&format!("{MAPS}/b")).await.ok();
    for events in [&mut with_state, &mut any] {
        assert_eq!(events.brief().await, pair("ADDED", "a"));
    }
    for events in [&mut with_state, &mut any, &mut after] {
        assert_eq!(events.brief().await, pair("ADDED", "b"));
        let modified = events.next().await.unwrap();
        assert_eq!((&modified["type"], &modified["object"]), (&json!("MODIFIED"), &last));
        // A deletion shows the last state, at the deletion's version.
        let mut expect = last.clone();
        expect["metadata"]["resourceVersion"] = json!(w.store.revision().to_string());
        let deleted = events.next().await.unwrap();
        assert_eq!((&deleted["type"], &deleted["object"]), (&json!("DELETED"), &expect));
    }
    assert_eq!(elsewhere.next().await, None);
}

#[tokio::test]
async fn objects_come_to_match_and_cease_to() {
    let w = World::new().await;
    let mut labels = w.watch(&format!("{MAPS}?watch=true&labelSelector=x%3D1")).await;
    w.post(MAPS, config_map("a", &[("x", "0")])).await.ok();
    let label = |value: &str| json!({"metadata": {"labels": {"x": value}}});
    w.patch("merge", &format!("{MAPS}/a"), label("1")).await.ok();
    w.patch("merge", &format!("{MAPS}/a"), json!({"data": {"n": "1"}})).await.ok();
    w.patch("merge", &format!("{MAPS}/a"), label("2")).await.ok();
    w.delete(&format!("{MAPS}/a")).await.ok();
    w.post(MAPS, config_map("b", &[("x", "1")])).await.ok();
    assert_eq!(labels.brief().await, pair("ADDED", "a"));
    assert_eq!(labels.brief().await, pair("MODIFIED", "a"));
    let left = labels.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["x"], "1");
    assert_eq!(labels.brief().await, pair("ADDED", "b"));

    let mut named = w.watch(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Dc")).await;
    w.post(MAPS, config_map("d", &[])).await.ok();
    w.post(MAPS, config_map("c", &[])).await.ok();
    assert_eq!(named.brief().await, pair("ADDED", "c"));
}

#[tokio::test]
async fn a_watch_from_a_forgotten_version_is_told_so() {
    let w = World::new().await;
    for i in 0..5 {
        w.post(MAPS, config_map(&format!("m{i}"), &[])).await.ok();
    }
    w.store.compact(w.store.revision()).await.unwrap();
    let mut events = w.watch(&format!("{MAPS}?watch=true&resourceVersion=2")).await;
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(event["object"]["message"].as_str().unwrap().starts_with("too old resource version: 2 ("));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn bookmarks_and_initial_events() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    let mut events = w
        .watch(&format!(
            "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        ))
        .await;
    assert_eq!(events.brief().await, pair("ADDED", "a"));
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], w.store.revision().to_string());
    tokio::time::pause();
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!(bookmark["object"]["metadata"].get("annotations").is_none());
}

#[tokio::test]
async fn the_end_of_the_server_ends_watches() {
    let w = World::new().await;
    let mut events = w.watch(&format!("{MAPS}?watch=true")).await;
    w.server.stop();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn metadata_and_tables() {
    let w = World::new().await;
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let response =
        w.raw("GET", &format!("{MAPS}?watch=true&timeoutSeconds=1"), &[("accept", accept)], vec![]).await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    let text = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let event: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    assert!(event["object"].get("data").is_none());
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let answer =
        w.send("GET", &format!("{MAPS}?watch=true&timeoutSeconds=1"), &[("accept", accept)], vec![]).await;
    let event: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(event["object"]["kind"], "Table");
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
}
