use kube::core::GroupVersionKind;
use kube::discovery::{Discovery, Scope, oneshot, verbs};

use crate::world;

#[tokio::test]
async fn groups_and_kinds() {
    let (_server, client, _) = world().await;
    let plain = Discovery::new(client.clone()).run().await.unwrap();
    let aggregated = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let told = |discovery: &Discovery| -> Vec<String> {
        let groups = discovery.groups_alphabetical();
        let kinds = groups.into_iter().flat_map(|group| {
            group.recommended_resources().into_iter().map(|(resource, can)| {
                let mut subresources: Vec<String> =
                    can.subresources.iter().map(|(r, _)| r.plural.clone()).collect();
                subresources.sort();
                format!(
                    "{} {} {} {:?} {:?} {subresources:?}",
                    resource.api_version, resource.kind, resource.plural, can.scope, can.operations
                )
            })
        });
        let mut kinds: Vec<String> = kinds.collect();
        kinds.sort();
        kinds
    };
    assert!(told(&plain).len() > 50, "{:?}", told(&plain));
    assert_eq!(told(&plain), told(&aggregated));
    assert_eq!(plain.get("apps").unwrap().preferred_version(), Some("v1"));
    assert!(!plain.has_group("example.com"));

    let (resource, can) =
        oneshot::pinned_kind(&client, &GroupVersionKind::gvk("apps", "v1", "Deployment")).await.unwrap();
    assert_eq!((resource.plural.as_str(), &can.scope), ("deployments", &Scope::Namespaced));
    assert!(can.supports_operation(verbs::PATCH) && can.supports_operation(verbs::DELETE_COLLECTION));
    let core = oneshot::group(&client, "").await.unwrap();
    let (nodes, can) = core.recommended_kind("Node").unwrap();
    assert_eq!((nodes.plural.as_str(), can.scope), ("nodes", Scope::Cluster));
    let none = GroupVersionKind::gvk("apps", "v1", "Nothing");
    oneshot::pinned_kind(&client, &none).await.unwrap_err();
}
