//! Services and their addresses, through the API.

use serde_json::{Value, json};

use crate::world::World;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn addresses_and_ports() {
    let w = World::new().await;
    let spec = json!({"selector": {"a": "b"}, "ports": [{"port": 80}]});
    let made = w.post(SERVICES, service("a", spec.clone())).await.ok();
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.96.0."), "{made}");
    assert_eq!(made["spec"]["type"], "ClusterIP");
    assert_eq!(made["spec"]["ports"][0]["targetPort"], 80);
    assert!(crate::world::stored(&w, "/registry/services/specs/default/a").is_some());

    let mut taken = spec.clone();
    taken["clusterIP"] = json!(address);
    let fault = w.post(SERVICES, service("b", taken.clone())).await.fault();
    assert_eq!(
        fault,
        (
            422,
            "Invalid".into(),
            format!(
                r#"Service "b" is invalid: spec.clusterIPs: Invalid value: ["{address}"]: failed to allocate IP {address}: provided IP is already allocated"#
            )
        )
    );
    // The old form of an update, without addresses, keeps them.
    let updated = w.put(&format!("{SERVICES}/a"), service("a", spec.clone())).await.ok();
    assert_eq!(updated["spec"]["clusterIP"], address.as_str());
    let node_port =
        w.patch("merge", &format!("{SERVICES}/a"), json!({"spec": {"type": "NodePort"}})).await.ok();
    let port = node_port["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port));
    w.delete(&format!("{SERVICES}/a")).await.ok();
    w.post(SERVICES, service("b", taken)).await.ok();

    let headless = w
        .post(
            SERVICES,
            service("h", json!({"clusterIP": "None", "ports": [{"port": 1}], "selector": {"a": "b"}})),
        )
        .await
        .ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn many_at_once_never_share() {
    let w = World::new().await;
    let names: Vec<String> = (0..40).map(|i| format!("s{i}")).collect();
    let made = futures::future::join_all(
        names
            .iter()
            .map(|n| w.post(SERVICES, service(n, json!({"type": "NodePort", "ports": [{"port": 80}]})))),
    )
    .await;
    let mut addresses = std::collections::BTreeSet::new();
    let mut ports = std::collections::BTreeSet::new();
    for answer in made {
        let service = answer.ok();
        assert!(addresses.insert(service["spec"]["clusterIP"].to_string()));
        assert!(ports.insert(service["spec"]["ports"][0]["nodePort"].to_string()));
    }
}

/// Each address has its object, which comes and goes with the Service; a further range serves when the first is full.
#[tokio::test]
async fn addresses_are_objects() {
    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
    let w = World::new().await;
    let spec = json!({"ports": [{"port": 80}]});
    let made = w.post(SERVICES, service("a", spec.clone())).await.ok();
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let object = w.get(&format!("{ADDRESSES}/{address}")).await.ok();
    assert_eq!(
        object["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "a"})
    );
    assert_eq!(
        object["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    // One transaction: one revision.
    assert_eq!(object["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(object["metadata"]["managedFields"][0]["manager"], "kube-apiserver");

    // A Service that cannot be made leaves none behind, a dry run makes none.
    assert_eq!(w.post(SERVICES, service("a", spec.clone())).await.fault().0, 409);
    w.post(&format!("{SERVICES}?dryRun=All"), service("dry", spec.clone())).await.ok();
    let count = |list: Value| list["items"].as_array().unwrap().len();
    assert_eq!(count(w.get(ADDRESSES).await.ok()), 1);

    // Somebody else's address is not given away.
    let mut gateway = object.clone();
    gateway["metadata"] = json!({"name": "10.96.0.77"});
    gateway["spec"]["parentRef"] = json!({"group": "x.io", "resource": "gateways", "name": "g"});
    w.post(ADDRESSES, gateway).await.ok();
    let mut wanted = spec.clone();
    wanted["clusterIP"] = json!("10.96.0.77");
    let (code, _, message) = w.post(SERVICES, service("b", wanted)).await.fault();
    assert!(code == 422 && message.ends_with("provided IP is already allocated"), "{message}");

    let mut outside = spec.clone();
    outside["clusterIP"] = json!("10.200.0.5");
    let (code, _, message) = w.post(SERVICES, service("c", outside.clone())).await.fault();
    assert!(code == 422 && message.ends_with("does not match the current range"), "{message}");
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}});
    w.post("/apis/networking.k8s.io/v1/servicecidrs", range).await.ok();
    w.post(SERVICES, service("c", outside)).await.ok();

    let external =
        json!({"type": "ExternalName", "externalName": "x.y", "clusterIP": "", "clusterIPs": null});
    w.patch("merge", &format!("{SERVICES}/c"), json!({"spec": external})).await.ok();
    assert_eq!(w.get(&format!("{ADDRESSES}/10.200.0.5")).await.fault().0, 404);
    w.delete(&format!("{SERVICES}/a")).await.ok();
    assert_eq!(w.get(&format!("{ADDRESSES}/{address}")).await.fault().0, 404);
}
