use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{refusal, until, world};

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn status_and_scale() {
    let (_server, client, _) = world().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let made: Deployment = typed(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "a"}]}}},
        "status": {"replicas": 7},
    }));
    let made = deployments.create(&PostParams::default(), &made).await.unwrap();
    assert_eq!(made.status.unwrap_or_default().replicas, None);

    let params = PatchParams::default();
    let both =
        Patch::Merge(json!({"status": {"replicas": 1, "observedGeneration": 1}, "spec": {"replicas": 9}}));
    let patched = deployments.patch_status("web", &params, &both).await.unwrap();
    assert_eq!((patched.status.unwrap().replicas, patched.spec.unwrap().replicas), (Some(1), Some(2)));
    let mut read = deployments.get_status("web").await.unwrap();
    read.status.as_mut().unwrap().ready_replicas = Some(1);
    let written = deployments.replace_status("web", &PostParams::default(), &read).await.unwrap();
    assert_eq!(written.status.unwrap().ready_replicas, Some(1));

    let mut scale = deployments.get_scale("web").await.unwrap();
    assert_eq!(scale.status.as_ref().unwrap().selector.as_deref(), Some("app=web"));
    assert_eq!(scale.status.as_ref().unwrap().replicas, 1);
    scale.spec.as_mut().unwrap().replicas = Some(5);
    deployments.replace_scale("web", &PostParams::default(), &scale).await.unwrap();
    let up = Patch::Merge(json!({"spec": {"replicas": 6}}));
    let scaled = deployments.patch_scale("web", &params, &up).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(6));
    let restarted = deployments.restart("web").await.unwrap();
    let template = restarted.spec.unwrap().template.metadata.unwrap();
    assert!(template.annotations.unwrap().contains_key("kube.kubernetes.io/restartedAt"));
    assert_eq!(restarted.metadata.generation, Some(4));
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    typed(json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "a"}]},
    }))
}

#[tokio::test]
async fn pods() {
    let (_server, client, _) = world().await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    accounts.create(&PostParams::default(), &typed(json!({"metadata": {"name": "default"}}))).await.unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &typed(json!({"metadata": {"name": "n"}}))).await.unwrap();
    assert_eq!(nodes.cordon("n").await.unwrap().spec.unwrap().unschedulable, Some(true));
    let node = nodes.uncordon("n").await.unwrap();
    assert!(!node.spec.unwrap_or_default().unschedulable.unwrap_or(false));
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for name in ["a", "b"] {
        pods.create(&PostParams::default(), &pod(name, Some("n"))).await.unwrap();
        let ready =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(ready)).await.unwrap();
    }

    // a budget that is spent refuses, one that is not counts
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(client);
    let budget = typed(json!({"metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}));
    budgets.create(&PostParams::default(), &budget).await.unwrap();
    let spent = refusal(pods.evict("a", &EvictParams::default()).await);
    assert_eq!((spent.code, spent.reason.as_str()), (429, "TooManyRequests"));
    let allowed = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    budgets.patch_status("web", &PatchParams::default(), &Patch::Merge(allowed)).await.unwrap();
    assert!(pods.evict("a", &EvictParams::default()).await.unwrap().is_success());
    let left = budgets.get("web").await.unwrap().status.unwrap();
    assert_eq!((left.disruptions_allowed, left.disrupted_pods.unwrap().len()), (Some(0), 1));
    let spent = refusal(pods.evict("b", &EvictParams::default()).await);
    assert_eq!(spent.details.unwrap().causes[0].reason, "DisruptionBudget");
}

#[tokio::test]
async fn tokens() {
    let (server, client, _) = world().await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    accounts.create(&PostParams::default(), &typed(json!({"metadata": {"name": "robot"}}))).await.unwrap();
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(600), ..Default::default() }),
        ..Default::default()
    };
    let made = accounts.create_token_request("robot", &PostParams::default(), &wanted).await.unwrap();
    let robot = server.client_with_token(&made.status.unwrap().token.unwrap()).await.unwrap();
    let review = Api::<SelfSubjectReview>::all(robot.clone());
    let me = review.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let me = me.status.unwrap().user_info.unwrap();
    assert_eq!(me.username.as_deref(), Some("system:serviceaccount:default:robot"));
    let pods: Api<Pod> = Api::default_namespaced(robot);
    let forbidden = refusal(pods.list(&ListParams::default()).await);
    assert!(forbidden.message.contains("system:serviceaccount:default:robot"), "{}", forbidden.message);

    // a token of an account that is gone is none
    accounts.delete("robot", &Default::default()).await.unwrap();
    until("the token counts no more", async || {
        let answer = pods.list(&ListParams::default()).await;
        (refusal(answer).code == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn approval_and_raw_requests() {
    let (_server, client, _) = world().await;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let key = rcgen::KeyPair::generate().unwrap();
    let mut subject = rcgen::CertificateParams::default();
    subject.distinguished_name.push(rcgen::DnType::CommonName, "someone");
    let pem = subject.serialize_request(&key).unwrap().pem().unwrap();
    let wanted: CertificateSigningRequest = typed(json!({
        "metadata": {"name": "someone"},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            "request": k8s_openapi::ByteString(pem.into_bytes())},
    }));
    requests.create(&PostParams::default(), &wanted).await.unwrap();
    let approval =
        json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}]}});
    requests.patch_approval("someone", &PatchParams::default(), &Patch::Merge(approval)).await.unwrap();
    let conditions = requests.get_approval("someone").await.unwrap().status.unwrap().conditions.unwrap();
    assert_eq!((conditions.len(), conditions[0].type_.as_str()), (1, "Approved"));

    let pods = Request::new("/api/v1/pods").list(&ListParams::default().limit(1)).unwrap();
    let list: Value = client.request(pods).await.unwrap();
    assert_eq!(list["kind"], "PodList");
    let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
    assert_eq!(client.request_text(ready).await.unwrap(), "ok");
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
}
