use std::collections::BTreeMap;
use std::pin::pin;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Lookup, Store, store};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use crate::{config_map, make, until, world};

fn wanted() -> watcher::Config {
    watcher::Config::default().labels("made-by=kube-rs")
}

/// What the server has: name → resource version.
async fn listed(maps: &Api<ConfigMap>) -> BTreeMap<String, String> {
    let list = maps.list(&ListParams::default().labels("made-by=kube-rs")).await.unwrap();
    list.into_iter().map(|map| (map.metadata.name.unwrap(), map.metadata.resource_version.unwrap())).collect()
}

async fn agrees(store: &Store<ConfigMap>, maps: &Api<ConfigMap>) {
    until("the informer has what the server has", async || {
        let known = store.state().into_iter().map(|map| {
            let meta = map.metadata.clone();
            (meta.name.unwrap(), meta.resource_version.unwrap())
        });
        let known: BTreeMap<String, String> = known.collect();
        (known == listed(maps).await).then_some(())
    })
    .await;
}

/// An informer sees the start, changes, a server that goes and comes back, and what happens then.
async fn informer(config: watcher::Config) {
    let (mut server, _, maps) = world().await;
    make(&maps, 25).await;
    let (reader, writer) = store();
    let stream = reflector::reflector(writer, watcher(maps.clone(), config)).default_backoff();
    let task = tokio::spawn(stream.for_each(|_| async {}));
    reader.wait_until_ready().await.unwrap();
    assert_eq!(reader.state().len(), 25);
    agrees(&reader, &maps).await;

    let change = Patch::Merge(json!({"data": {"value": "second"}}));
    maps.patch("m-004", &PatchParams::default(), &change).await.unwrap();
    maps.delete("m-005", &DeleteParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &config_map("n", "1")).await.unwrap();
    // no longer selected is as good as deleted
    let unlabelled = Patch::Merge(json!({"metadata": {"labels": null}}));
    maps.patch("m-006", &PatchParams::default(), &unlabelled).await.unwrap();
    agrees(&reader, &maps).await;
    assert_eq!(reader.state().len(), 24);

    for round in 0..2 {
        server.stop().unwrap();
        server.resume().await.unwrap();
        maps.create(&PostParams::default(), &config_map(&format!("after-{round}"), "1")).await.unwrap();
        maps.delete(&format!("m-01{round}"), &DeleteParams::default()).await.unwrap();
        agrees(&reader, &maps).await;
    }
    task.abort();
}

#[tokio::test]
async fn with_streaming_lists() {
    informer(wanted().streaming_lists()).await;
}

#[tokio::test]
async fn with_pages() {
    informer(wanted().page_size(10)).await;
}

#[tokio::test]
async fn with_any_version() {
    informer(wanted().any_semantic()).await;
}

#[tokio::test]
async fn of_metadata() {
    let (_server, client, maps) = world().await;
    make(&maps, 3).await;
    let metas: Api<PartialObjectMeta<ConfigMap>> = Api::default_namespaced(client);
    for config in [wanted(), wanted().streaming_lists()] {
        let mut stream = pin!(watcher(metas.clone(), config));
        let mut names = Vec::new();
        loop {
            match stream.try_next().await.unwrap().unwrap() {
                Event::InitApply(meta) => names.push(Lookup::name(&meta).unwrap().into_owned()),
                Event::InitDone => break,
                Event::Init => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(names, ["m-000", "m-001", "m-002"]);
    }
}

/// Whoever comes back after too long hears 410 and starts again.
#[tokio::test]
async fn too_late() {
    let (_server, _, maps) = world().await;
    let old = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let old = old.metadata.resource_version.unwrap();
    let status = until("the old version is compacted", async || {
        make_and_delete(&maps).await;
        let mut stream = pin!(maps.watch(&WatchParams::default(), &old).await.unwrap());
        match stream.try_next().await.unwrap() {
            Some(WatchEvent::Error(status)) => Some(status),
            _ => None,
        }
    })
    .await;
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(status.message.starts_with("too old resource version: "), "{}", status.message);
    let list = maps.list(&ListParams::default().at(&old).matching(kube::api::VersionMatch::Exact)).await;
    assert_eq!(crate::refusal(list).code, 410);
    // an informer that has heard it lists anew
    let first = pin!(watcher(maps.clone(), wanted())).next().await;
    assert!(matches!(first, Some(Ok(Event::Init))), "{first:?}");
}

async fn make_and_delete(maps: &Api<ConfigMap>) {
    maps.create(&PostParams::default(), &config_map("b", "1")).await.unwrap();
    maps.delete("b", &DeleteParams::default()).await.unwrap();
}

/// Bookmarks move a quiet watch on.
#[tokio::test]
async fn initial_events() {
    let (_server, _, maps) = world().await;
    make(&maps, 3).await;
    let mut stream = pin!(maps.watch(&WatchParams::streaming_lists(), "").await.unwrap());
    let mut names = Vec::new();
    loop {
        match stream.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => names.push(map.metadata.name.unwrap()),
            WatchEvent::Bookmark(mark) => {
                assert_eq!(mark.metadata.annotations["k8s.io/initial-events-end"], "true");
                assert_eq!(mark.types.kind, "ConfigMap");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    names.retain(|name| name.starts_with("m-"));
    assert_eq!(names, ["m-000", "m-001", "m-002"]);
}
