use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, GetParams, ListParams, PostParams};

use crate::{config_map, make, refusal, world};

#[tokio::test]
async fn objects_lists_and_metadata() {
    let (server, client, maps) = world().await;
    make(&maps, 25).await;

    // one
    let whole = maps.get("m-003").await.unwrap();
    assert_eq!(whole.data.as_ref().unwrap()["value"], "first");
    let meta = maps.get_metadata("m-003").await.unwrap();
    assert_eq!(meta.metadata, whole.metadata);
    assert_eq!(meta.types.unwrap().kind, "PartialObjectMetadata");
    assert_eq!(maps.get_opt("nothing").await.unwrap(), None);
    assert!(maps.get_metadata_opt("nothing").await.unwrap().is_none());
    let missing = refusal(maps.get("nothing").await);
    assert_eq!((missing.code, missing.reason.as_str()), (404, "NotFound"));
    assert_eq!(missing.message, "configmaps \"nothing\" not found");
    let version = whole.metadata.resource_version.clone().unwrap();
    assert_eq!(maps.get_with("m-003", &GetParams::at(&version)).await.unwrap(), whole);
    assert_eq!(maps.get_with("m-003", &GetParams::any()).await.unwrap(), whole);

    // many
    let all = ListParams::default().labels("made-by=kube-rs");
    let names = |list: &kube::core::ObjectList<ConfigMap>| -> Vec<String> {
        list.iter().map(|map| map.metadata.name.clone().unwrap()).collect()
    };
    let expect: Vec<String> = (0..25).map(|n| format!("m-{n:03}")).collect();
    assert_eq!(names(&maps.list(&all).await.unwrap()), expect);
    assert_eq!(names(&maps.list(&all.clone().match_any()).await.unwrap()), expect);
    let one = ListParams::default().fields("metadata.name=m-007");
    assert_eq!(names(&maps.list(&one).await.unwrap()), ["m-007"]);
    let (mut seen, mut page, mut left) = (Vec::new(), ListParams::default().limit(10), Vec::new());
    loop {
        let list = Api::<ConfigMap>::default_namespaced(client.clone()).list(&page).await.unwrap();
        seen.extend(names(&list).into_iter().filter(|name| name.starts_with("m-")));
        left.push(list.metadata.remaining_item_count);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(10).continue_token(&token),
            None => break,
        }
    }
    assert_eq!(seen, expect);
    assert_eq!(left.first().copied().flatten().map(|n| n >= 15), Some(true), "{left:?}");
    assert_eq!(left.last(), Some(&None));
    let brief = maps.list_metadata(&all).await.unwrap();
    assert_eq!(brief.items.len(), 25);
    assert_eq!(brief.items[3].metadata, whole.metadata);

    // gone
    let gone = maps.delete_collection(&DeleteParams::default(), &all).await.unwrap();
    assert_eq!(gone.left().map(|list| list.items.len()), Some(25));
    assert_eq!(maps.list(&all).await.unwrap().items, []);

    // somebody else
    let nobody = server.client_of("nobody", &[]).await.unwrap();
    let secrets: Api<Secret> = Api::default_namespaced(nobody.clone());
    let forbidden = refusal(secrets.list(&ListParams::default()).await);
    assert_eq!((forbidden.code, forbidden.reason.as_str()), (403, "Forbidden"));
    let expect = "secrets is forbidden: User \"nobody\" cannot list resource \"secrets\" in API group \"\" in \
                  the namespace \"default\"";
    assert_eq!(forbidden.message, expect);
    let theirs: Api<ConfigMap> = Api::default_namespaced(nobody);
    let forbidden = refusal(theirs.create(&PostParams::default(), &config_map("x", "y")).await);
    assert_eq!(forbidden.code, 403);
    let stranger = server.client_with_token("not-a-token").await.unwrap();
    let unknown = Api::<ConfigMap>::default_namespaced(stranger).get("x").await;
    assert_eq!(refusal(unknown).code, 401);
}
