//! Finalizers, and a controller with what it owns.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Resource, ResourceExt};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{wait, watcher};
use serde_json::json;

use crate::{config_map, make, until, world};

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Failed(#[from] kube::Error);

#[tokio::test]
async fn finalizers() {
    let (_server, _, maps) = world().await;
    let step = async |expect: &str| {
        let map = Arc::new(maps.get("a").await.unwrap());
        let mut seen = "nothing";
        finalizer(&maps, "example.com/clean", map, |event| {
            seen = match event {
                Event::Apply(_) => "apply",
                Event::Cleanup(_) => "cleanup",
            };
            async { Ok::<_, Failed>(Action::await_change()) }
        })
        .await
        .unwrap();
        assert_eq!(seen, expect);
    };
    let uid = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap().uid().unwrap();
    // the first call only writes the finalizer down
    step("nothing").await;
    assert_eq!(maps.get("a").await.unwrap().finalizers(), ["example.com/clean"]);
    step("apply").await;
    let ending = maps.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(ending.meta().deletion_timestamp.is_some());
    let gone = wait::await_condition(maps.clone(), "a", wait::conditions::is_deleted(&uid));
    let (gone, ()) = futures::join!(gone, step("cleanup"));
    gone.unwrap();
    assert_eq!(maps.get_opt("a").await.unwrap(), None);
}

struct Context {
    secrets: Api<Secret>,
}

async fn reconcile(map: Arc<ConfigMap>, context: Arc<Context>) -> Result<Action, Failed> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": map.name_any(), "ownerReferences": [map.controller_owner_ref(&())]},
        "stringData": map.data,
    });
    let params = PatchParams::apply("mirror").force();
    context.secrets.patch(&map.name_any(), &params, &Patch::Apply(secret)).await?;
    Ok(Action::await_change())
}

#[tokio::test]
async fn a_controller_keeps_what_it_owns() {
    let (mut server, client, maps) = world().await;
    make(&maps, 5).await;
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let wanted = watcher::Config::default().labels("made-by=kube-rs").streaming_lists();
    let context = Arc::new(Context { secrets: secrets.clone() });
    let controller = Controller::new(maps.clone(), wanted)
        .owns(secrets.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), context)
        .for_each(|_| async {});
    let controller = tokio::spawn(controller);
    let values = async || -> Vec<String> {
        let Ok(list) = secrets.list(&ListParams::default()).await else { return Vec::new() };
        let value =
            |secret: Secret| secret.data.and_then(|mut data| data.remove("value")).unwrap_or_default().0;
        list.into_iter().map(|secret| String::from_utf8(value(secret)).unwrap()).collect()
    };
    until("five secrets", async || (values().await == ["first"; 5]).then_some(())).await;

    // whatever is done to them is undone, also after the server was away
    secrets.delete("m-001", &DeleteParams::default()).await.unwrap();
    until("five secrets again", async || (values().await == ["first"; 5]).then_some(())).await;
    server.stop().unwrap();
    server.resume().await.unwrap();
    let other = Patch::Merge(json!({"data": {"value": "second"}}));
    maps.patch("m-002", &PatchParams::default(), &other).await.unwrap();
    let expect = ["first", "first", "second", "first", "first"];
    until("the change arrives", async || (values().await == expect).then_some(())).await;
    controller.abort();
}
