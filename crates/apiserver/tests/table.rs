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
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
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

/// What client-go sends when it is told to (and kubectl for access reviews): bodies and answers in protobuf.
#[tokio::test]
async fn protobuf() {
    use apimachinery::codec::protobuf::{decode, encode, envelope};
    let w = World::new().await;
    let (schema, ty) = (api::schema(), api::object_type("", "v1", "ConfigMap").unwrap());
    let object = json!({"metadata": {"name": "p"}, "data": {"a": "1"}});
    let body = envelope::wrap("v1", "ConfigMap", &encode(schema, ty, &object).unwrap());
    let media = "application/vnd.kubernetes.protobuf";
    let headers = [("content-type", media), ("accept", media)];
    let made = w.raw("POST", MAPS, &headers, body).await;
    assert_eq!((made.status().as_u16(), made.headers()["content-type"].to_str().unwrap()), (201, media));
    let bytes = http_body_util::BodyExt::collect(made.into_body()).await.unwrap().to_bytes();
    let opened = envelope::unwrap(&bytes).unwrap();
    assert_eq!((opened.api_version, opened.kind), ("v1", "ConfigMap"));
    let mut value = decode(schema, ty, opened.raw).unwrap();
    apimachinery::managed_fields::unfold(&mut value);
    let stored = w.get(&format!("{MAPS}/p")).await.ok();
    value["kind"] = json!("ConfigMap");
    value["apiVersion"] = json!("v1");
    assert_eq!(value, stored);
    let list = w.raw("GET", MAPS, &[("accept", &format!("{media},application/json"))], vec![]).await;
    let bytes = http_body_util::BodyExt::collect(list.into_body()).await.unwrap().to_bytes();
    assert_eq!(envelope::unwrap(&bytes).unwrap().kind, "ConfigMapList");
    let broken = w.send("POST", MAPS, &[("content-type", media)], b"k8s\0\xff\xff".to_vec()).await;
    assert_eq!(broken.fault().0, 400);
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
