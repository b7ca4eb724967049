//! Custom resources, from their definition to their end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn widgets() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "color": {"type": "string", "default": "red", "enum": ["red", "green"]},
            "replicas": {"type": "integer"},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "port": {"type": "integer"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }, "x-kubernetes-validations": [{"rule": "!has(self.replicas) || self.replicas <= self.size",
            "message": "more replicas than the size allows"}]},
        "status": {"type": "object", "properties": {
            "replicas": {"type": "integer"}, "selector": {"type": "string"}}},
    }});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                "shortNames": ["w"], "categories": ["all"]},
            "versions": [version("v1beta1", false), version("v1", true)]},
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A server with the definition, served.
async fn world() -> World {
    let world = World::new().await;
    tokio::spawn(apiserver::custom::controller::keep(world.server.clone()));
    world.post(DEFINITIONS, widgets()).await.ok();
    until(&world, "/apis/example.com/v1", |code| code == 200).await;
    world
}

/// Asks until the answer is right; what never is fails the test.
async fn until(world: &World, path: &str, right: impl Fn(u16) -> bool) {
    for _ in 0..500 {
        if right(world.get(path).await.code) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} never answered as expected: {}", world.get(path).await.text);
}

#[tokio::test]
async fn a_definition_is_served() {
    let world = world().await;
    let definition = world.get(&format!("{DEFINITIONS}/widgets.example.com")).await.ok();
    let conditions: Vec<String> = definition["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{}={}", c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(conditions, ["NamesAccepted=True", "Established=True"]);
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    let group = world.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert_eq!(group["versions"][1]["version"], "v1beta1");
    let list = world.get("/apis/example.com/v1").await.ok();
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["widgets", "widgets/scale", "widgets/status"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["w"]));
    assert_eq!(world.get("/apis/example.com/v1/gadgets").await.code, 404);
    assert_eq!(world.get("/apis/example.com/v2/widgets").await.code, 404);
}

#[tokio::test]
async fn objects_are_kept_to_their_schema() {
    let world = world().await;
    let mut given = widget("a", json!({"size": 3, "unknown": 1, "free": {"x": {"y": [1]}}}));
    given["metadata"]["labels"] = json!({"app": "x"});
    given["metadata"]["bogus"] = json!(true);
    given["status"] = json!({"replicas": 9});
    let made = world.post(WIDGETS, given.clone()).await.ok();
    assert_eq!(made["spec"], json!({"size": 3, "color": "red", "free": {"x": {"y": [1]}}}));
    assert_eq!((&made["status"], &made["metadata"]["bogus"]), (&Value::Null, &Value::Null));
    assert_eq!(made["metadata"]["generation"], 1);
    let strict = world.post(&format!("{WIDGETS}?fieldValidation=Strict"), given).await;
    assert_eq!(
        strict.fault(),
        (
            400,
            "BadRequest".into(),
            "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \
             \"metadata.bogus\", unknown field \"spec.unknown\""
                .into()
        )
    );
    let got = world.get(&format!("{WIDGETS}/a")).await.ok();
    assert_eq!(got, made);
    // In the other version it is the same but for the name of the version.
    let other = world.get("/apis/example.com/v1beta1/namespaces/default/widgets/a").await.ok();
    assert_eq!(other["apiVersion"], "example.com/v1beta1");
    assert_eq!(other["spec"], made["spec"]);
    for (object, expect) in [
        (widget("b", json!({})), "spec.size: Required value"),
        (
            widget("b", json!({"size": 0})),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            widget("b", json!({"size": "1"})),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            widget("b", json!({"size": 1, "color": "blue"})),
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (widget("b", json!({"size": 1, "replicas": 2})), "more replicas than the size allows"),
        (widget("B", json!({"size": 1})), "metadata.name: Invalid value: \"B\""),
        (
            widget("b", json!({"size": 1, "ports": [{"name": "x"}, {"name": "x"}]})),
            "spec.ports[1]: Duplicate value: {\"name\":\"x\"}",
        ),
    ] {
        let (code, _, message) = world.post(WIDGETS, object).await.fault();
        assert_eq!(code, 422, "{message}");
        assert!(message.contains(expect), "{message}\nlacks {expect}");
    }
    let wrong = json!({"apiVersion": "example.com/v1", "metadata": {"name": "c"}});
    assert_eq!(world.post(WIDGETS, wrong).await.code, 400);
    let wrong = json!({"apiVersion": "example.com/v9", "kind": "Widget", "metadata": {"name": "c"}});
    assert_eq!(world.post(WIDGETS, wrong).await.code, 400);
}

#[tokio::test]
async fn lists_watches_and_tables() {
    let world = world().await;
    let mut events = world.watch("/apis/example.com/v1/widgets?watch=true").await;
    for (name, color) in [("a", "red"), ("b", "green"), ("c", "green")] {
        let mut object = widget(name, json!({"size": 1, "color": color}));
        object["metadata"]["labels"] = json!({"color": color});
        world.post(WIDGETS, object).await.ok();
    }
    let first = events.next().await.unwrap();
    assert_eq!(
        (first["type"].as_str(), first["object"]["metadata"]["name"].as_str()),
        (Some("ADDED"), Some("a"))
    );
    let names = async |query: &str| -> Vec<String> {
        let list = world.get(&format!("{WIDGETS}?{query}")).await.ok();
        assert_eq!(list["kind"], "WidgetList");
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["kind"] == "Widget" && item["apiVersion"] == "example.com/v1"));
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("").await, ["a", "b", "c"]);
    assert_eq!(names("labelSelector=color%3Dgreen").await, ["b", "c"]);
    assert_eq!(names("fieldSelector=spec.color%3Dred").await, ["a"]);
    assert_eq!(names("fieldSelector=metadata.name%3Dc").await, ["c"]);
    assert_eq!(names("limit=2").await, ["a", "b"]);
    assert_eq!(world.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D1")).await.code, 400);
    let table = world
        .send("GET", WIDGETS, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")], vec![])
        .await
        .ok();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][2]["cells"], json!(["c", 1]));
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let metadata = world.send("GET", WIDGETS, &[("accept", accept)], vec![]).await.ok();
    assert_eq!(metadata["items"][0]["kind"], "PartialObjectMetadata");
    let accept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    assert_eq!(world.send("GET", WIDGETS, &[("accept", accept)], vec![]).await.code, 200);
    let accept = "application/vnd.kubernetes.protobuf";
    assert_eq!(world.send("GET", WIDGETS, &[("accept", accept)], vec![]).await.code, 406);
}

#[tokio::test]
async fn patches_status_and_scale() {
    let world = world().await;
    let path = format!("{WIDGETS}/a");
    world.post(WIDGETS, widget("a", json!({"size": 5}))).await.ok();
    let patched = world.patch("merge", &path, json!({"spec": {"size": 6, "junk": 1}})).await.ok();
    assert_eq!((&patched["spec"]["size"], &patched["spec"]["junk"]), (&json!(6), &Value::Null));
    assert_eq!(patched["metadata"]["generation"], 2);
    assert_eq!(world.patch("strategic-merge", &path, json!({"spec": {"size": 7}})).await.code, 415);
    let add = json!([{"op": "add", "path": "/spec/replicas", "value": 2}]);
    assert_eq!(world.patch("json", &path, add).await.ok()["spec"]["replicas"], 2);
    let status = json!({"spec": {"size": 99}, "status": {"replicas": 1, "selector": "app=x", "junk": 1}});
    let patched = world.patch("merge", &format!("{path}/status"), status).await.ok();
    assert_eq!(
        (&patched["spec"]["size"], &patched["status"]),
        (&json!(6), &json!({"replicas": 1, "selector": "app=x"}))
    );
    assert_eq!(patched["metadata"]["generation"], 3);
    let scale = world.get(&format!("{path}/scale")).await.ok();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(2), &json!({"replicas": 1, "selector": "app=x"}))
    );
    let scaled = world.patch("merge", &format!("{path}/scale"), json!({"spec": {"replicas": 4}})).await.ok();
    assert_eq!(scaled["kind"], "Scale");
    assert_eq!(world.get(&path).await.ok()["spec"]["replicas"], 4);
    let mut object = world.get(&path).await.ok();
    object["metadata"]["resourceVersion"] = Value::Null;
    let (code, _, message) = world.put(&path, object).await.fault();
    assert_eq!(code, 422);
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
}

#[tokio::test]
async fn applied_by_two() {
    let world = world().await;
    let path = format!("{WIDGETS}/a");
    let apply = async |manager: &str, spec: Value| {
        let headers = [("content-type", "application/apply-patch+yaml")];
        let body = widget("a", spec).to_string().into_bytes();
        world.send("PATCH", &format!("{path}?fieldManager={manager}"), &headers, body).await
    };
    let port = |name: &str, port: i64| json!({"name": name, "port": port});
    assert_eq!(apply("one", json!({"size": 1, "ports": [port("x", 1)]})).await.code, 201);
    let both = apply("two", json!({"ports": [port("y", 2)]})).await.ok();
    assert_eq!(both["spec"]["ports"], json!([port("x", 1), port("y", 2)]));
    assert_eq!(both["spec"]["color"], "red");
    assert_eq!(apply("two", json!({"size": 2, "ports": [port("y", 2)]})).await.code, 409);
    let less = apply("one", json!({"size": 1})).await.ok();
    assert_eq!(less["spec"]["ports"], json!([port("y", 2)]));
}

#[tokio::test]
async fn objects_go_with_their_definition() {
    let world = world().await;
    world.post(WIDGETS, widget("a", json!({"size": 1}))).await.ok();
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    world.post(WIDGETS, held).await.ok();
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    world.delete(&definition).await.ok();
    until(&world, &format!("{WIDGETS}/a"), |code| code == 404).await;
    // One object stays until it is let go, and with it the definition; nothing new is made meanwhile.
    let (code, _, message) = world.post(WIDGETS, widget("b", json!({"size": 1}))).await.fault();
    assert_eq!(code, 403);
    assert!(
        message.contains("create not allowed while custom resource definition is terminating"),
        "{message}"
    );
    assert_eq!(world.get(&definition).await.code, 200);
    world.patch("merge", &format!("{WIDGETS}/held"), json!({"metadata": {"finalizers": null}})).await.ok();
    until(&world, &definition, |code| code == 404).await;
    assert_eq!(world.get("/apis/example.com/v1").await.code, 404);
}

#[tokio::test]
async fn described_in_openapi() {
    let world = world().await;
    let index = world.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = world.get(&url).await.ok();
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["color"]["default"], "red");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    assert_eq!(schema["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.color"}]));
    assert!(document["components"]["schemas"]["com.example.v1.WidgetList"].is_object());
    let item = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"];
    let forms = item["patch"]["requestBody"]["content"].as_object().unwrap();
    assert!(!forms.contains_key("application/strategic-merge-patch+json") && forms.len() == 3);
    let v2 = world.get("/openapi/v2").await.ok();
    let schema = &v2["definitions"]["com.example.v1beta1.Widget"];
    assert_eq!(
        schema["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    // A change of the definition changes the name of the document.
    let patch = json!({"spec": {"names": {"shortNames": ["w", "wi"]}}});
    world.patch("merge", &format!("{DEFINITIONS}/widgets.example.com"), patch).await.ok();
    let now = world.get("/openapi/v3").await.json();
    assert_ne!(now["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap(), url);
}

#[tokio::test]
async fn watches_end_with_what_the_definition_says() {
    let world = world().await;
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    let mut events = world.watch("/apis/example.com/v1/widgets?watch=true").await;
    // A label is nothing to the objects.
    world.patch("merge", &definition, json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    world.post(WIDGETS, widget("a", json!({"size": 1}))).await.ok();
    assert_eq!(events.next().await.unwrap()["type"], "ADDED");
    let names = json!({"spec": {"names": {"shortNames": ["w", "wi"]}}});
    world.patch("merge", &definition, names).await.ok();
    until(&world, "/apis/example.com/v1/widgets", |code| code == 200).await;
    assert_eq!(events.next().await, None);
}
