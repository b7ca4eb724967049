//! What kubectl prints, and other forms of an answer.

use serde_json::json;

use crate::world::{World, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn tables() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    w.advance(90);
    let table = w.send("GET", MAPS, &[("accept", KUBECTL)], vec![]).await.ok();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let names: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["Name", "Data", "Age"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "90s"]));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let one =
        w.send("GET", &format!("{MAPS}/a?includeObject=Object"), &[("accept", KUBECTL)], vec![]).await.ok();
    assert_eq!(one["rows"][0]["object"]["kind"], "ConfigMap");
    let none =
        w.send("GET", &format!("{MAPS}?includeObject=None"), &[("accept", KUBECTL)], vec![]).await.ok();
    assert!(none["rows"][0]["object"].is_null());
    // An error stays a Status.
    let fault = w.send("GET", &format!("{MAPS}/x"), &[("accept", KUBECTL)], vec![]).await.fault();
    assert_eq!(fault.0, 404);
}

#[tokio::test]
async fn metadata_only() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    let accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let list = w.send("GET", MAPS, &[("accept", accept)], vec![]).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert!(list["items"][0].get("data").is_none());
    let wrong = w
        .send(
            "GET",
            &format!("{MAPS}/a"),
            &[("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")],
            vec![],
        )
        .await;
    assert_eq!(wrong.fault().0, 406);
}

#[tokio::test]
async fn yaml_and_indentation() {
    let w = World::new().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  a: \"1\"\n";
    let made = w.send("POST", MAPS, &[("content-type", "application/yaml")], yaml.into()).await;
    assert_eq!(made.ok()["data"], json!({"a": "1"}));
    let answer = w.send("GET", &format!("{MAPS}/yaml"), &[("accept", "application/yaml")], vec![]).await;
    assert_eq!(answer.headers["content-type"], "application/yaml");
    assert!(answer.text.contains("  name: yaml\n"), "{}", answer.text);
    let pretty = w.get(&format!("{MAPS}/yaml?pretty=true")).await;
    assert!(
        pretty.text.starts_with("{\n  \"kind\": \"ConfigMap\",\n  \"apiVersion\": \"v1\",\n"),
        "{}",
        pretty.text
    );
    let curl = w.send("GET", &format!("{MAPS}/yaml"), &[("user-agent", "curl/8")], vec![]).await;
    assert_eq!(curl.text, pretty.text);
    let none = w.send("GET", &format!("{MAPS}/yaml"), &[("accept", "text/html")], vec![]).await;
    assert_eq!(none.fault().1, "NotAcceptable");
}
