use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{config_map, refusal, world};

#[tokio::test]
async fn create_replace_delete() {
    let (_server, _, maps) = world().await;
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let again = refusal(maps.create(&PostParams::default(), &config_map("a", "1")).await);
    assert_eq!((again.code, again.reason.as_str()), (409, "AlreadyExists"));

    let mut changed = made.clone();
    changed.data.as_mut().unwrap().insert("more".into(), "2".into());
    let dry = PostParams { dry_run: true, ..Default::default() };
    maps.replace("a", &dry, &changed).await.unwrap();
    assert_eq!(maps.get("a").await.unwrap(), made);
    let replaced = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(replaced.data, changed.data);
    let stale = refusal(maps.replace("a", &PostParams::default(), &changed).await);
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));

    let mut bad = config_map("B_B", "1");
    bad.metadata.generate_name = None;
    let invalid = refusal(maps.create(&PostParams::default(), &bad).await);
    assert_eq!((invalid.code, invalid.reason.as_str()), (422, "Invalid"));
    assert_eq!(invalid.details.unwrap().causes[0].field, "metadata.name");

    // get, or make, or change: kube-rs' own read-modify-write
    let entry = maps.entry("b").await.unwrap().or_insert(|| config_map("b", "1"));
    let mut entry = entry.and_modify(|map| {
        map.data.get_or_insert_default().insert("value".into(), "2".into());
    });
    entry.commit(&PostParams::default()).await.unwrap();
    assert_eq!(maps.get("b").await.unwrap().data.unwrap()["value"], "2");

    let ended = maps.delete("a", &Default::default()).await.unwrap();
    assert!(ended.right().unwrap().is_success());
}

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image}]}}},
    })
}

fn owners(of: &Deployment) -> Vec<String> {
    let entries = of.metadata.managed_fields.iter().flatten();
    let mut owners: Vec<String> = entries
        .map(|entry| {
            format!("{} {}", entry.manager.as_deref().unwrap_or(""), entry.operation.as_deref().unwrap_or(""))
        })
        .collect();
    owners.sort();
    owners
}

#[tokio::test]
async fn server_side_apply() {
    let (_server, client, _) = world().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let ours = PatchParams::apply("ours");
    let first = deployments.patch("web", &ours, &Patch::Apply(deployment("a:1"))).await.unwrap();
    assert_eq!(owners(&first), ["ours Apply"]);
    // the same again changes nothing
    let again = deployments.patch("web", &ours, &Patch::Apply(deployment("a:1"))).await.unwrap();
    assert_eq!(again, first);

    // somebody else wants something else
    let theirs = PatchParams::apply("theirs");
    let conflict = refusal(deployments.patch("web", &theirs, &Patch::Apply(deployment("a:2"))).await);
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    let causes = conflict.details.unwrap().causes;
    let field = ".spec.template.spec.containers[name=\"web\"].image";
    assert_eq!(
        causes.iter().map(|cause| (cause.reason.as_str(), cause.field.as_str())).collect::<Vec<_>>(),
        [("FieldManagerConflict", field)]
    );
    let forced =
        deployments.patch("web", &theirs.clone().force(), &Patch::Apply(deployment("a:2"))).await.unwrap();
    assert_eq!(owners(&forced), ["ours Apply", "theirs Apply"]);

    // what its manager no longer wants goes, unless another wants it too
    let mut less = deployment("a:2");
    less["metadata"]["labels"] = json!({"tier": "front"});
    deployments.patch("web", &theirs, &Patch::Apply(&less)).await.unwrap();
    less["metadata"] = json!({"name": "web"});
    let without = deployments.patch("web", &theirs, &Patch::Apply(&less)).await.unwrap();
    assert_eq!(without.metadata.labels, None);
    assert_eq!(without.spec.unwrap().replicas, Some(2));

    // typed objects are applied just so, and a dry run leaves no trace
    let dry = theirs.clone().dry_run();
    let shown = deployments.patch("web", &dry, &Patch::Apply(deployment("a:2"))).await.unwrap();
    assert_eq!(shown.metadata.name.as_deref(), Some("web"));
    let strict = PatchParams::apply("ours").validation_strict();
    let mut unknown = deployment("a:2");
    unknown["spec"]["replica"] = json!(1);
    let refused = refusal(deployments.patch("web", &strict, &Patch::Apply(unknown)).await);
    assert!(refused.message.contains(".spec.replica: field not declared in schema"), "{}", refused.message);
}

#[tokio::test]
async fn patches() {
    let (_server, client, maps) = world().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let made: Deployment = serde_json::from_value(deployment("a:1")).unwrap();
    deployments.create(&PostParams::default(), &made).await.unwrap();
    let params = PatchParams::default();
    let containers = |of: &Deployment| -> Vec<String> {
        let pod = of.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).unwrap();
        pod.containers.iter().map(|c| format!("{}={}", c.name, c.image.as_deref().unwrap_or(""))).collect()
    };
    let add = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "b:1"}]}}}});

    // a strategic patch merges containers by their names, a merge patch replaces them
    let patched = deployments.patch("web", &params, &Patch::Strategic(&add)).await.unwrap();
    assert_eq!(containers(&patched), ["side=b:1", "web=a:1"]);
    let patched = deployments.patch("web", &params, &Patch::Merge(&add)).await.unwrap();
    assert_eq!(containers(&patched), ["side=b:1"]);

    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let steps = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let patch = |steps: Value| {
        let patch: Patch<Value> = Patch::Merge(steps);
        patch
    };
    let merged = maps.patch("a", &params, &patch(json!({"data": {"value": null, "x": "y"}}))).await.unwrap();
    assert_eq!(merged.data, Some([("x".to_owned(), "y".to_owned())].into()));
    let json_patch: Patch<()> = Patch::Json(
        serde_json::from_value(steps(
            r#"[{"op": "test", "path": "/data/x", "value": "y"}, {"op": "add", "path": "/data/z", "value": "1"}]"#,
        ))
        .unwrap(),
    );
    let patched = maps.patch("a", &params, &json_patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["z"], "1");
    let failing: Patch<()> = Patch::Json(
        serde_json::from_value(steps(r#"[{"op": "test", "path": "/data/x", "value": "other"}]"#)).unwrap(),
    );
    assert_eq!(refusal(maps.patch("a", &params, &failing).await).code, 422);
    let meta =
        maps.patch_metadata("a", &params, &patch(json!({"metadata": {"labels": {"l": "1"}}}))).await.unwrap();
    assert_eq!(meta.metadata.labels.unwrap()["l"], "1");
    let missing = maps.patch("nothing", &params, &patch(json!({"data": {}}))).await;
    assert_eq!(refusal::<ConfigMap>(missing).code, 404);
}
