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
