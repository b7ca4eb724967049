use super::*;

struct Counter(std::sync::atomic::AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let n = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bytes.fill(0);
        bytes[..8].copy_from_slice(&n.to_le_bytes());
    }
}

fn allocators(cidrs: &[&str]) -> Arc<Allocators> {
    let cidrs: Vec<Cidr> = cidrs.iter().map(|c| c.parse().unwrap()).collect();
    Arc::new(Allocators::new(&cidrs, (30000, 30003), Arc::new(Counter(0.into()))))
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": spec})
}

/// Reserves and commits; the spec, or the message.
fn create(a: &Arc<Allocators>, spec: Value) -> Result<Value, String> {
    let mut s = service(spec);
    a.reserve(&mut s, None, false).map_err(|e| e.message)?.commit();
    Ok(s["spec"].take())
}

#[test]
fn cidrs() {
    for (text, shown, first) in
        [("10.96.0.0/12", "10.96.0.0/12", "10.96.0.1"), ("10.97.3.4/16", "10.97.0.0/16", "10.97.0.1")]
    {
        let cidr: Cidr = text.parse().unwrap();
        assert_eq!((cidr.to_string().as_str(), cidr.first().to_string().as_str()), (shown, first));
    }
    for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8"] {
        assert!(bad.parse::<Cidr>().is_err(), "{bad}");
    }
}

#[test]
fn addresses() {
    let a = allocators(&["10.0.0.0/29"]);
    let spec = create(&a, json!({"type": "ClusterIP"})).unwrap();
    assert_eq!(spec["clusterIP"], "10.0.0.1");
    assert_eq!(spec["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    let spec = create(&a, json!({"type": "ClusterIP", "clusterIP": "10.0.0.5"})).unwrap();
    assert_eq!(spec["clusterIPs"], json!(["10.0.0.5"]));
    for (spec, message) in [
        (
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.5"}),
            r#"Service "s" is invalid: spec.clusterIPs: Invalid value: ["10.0.0.5"]: failed to allocate IP 10.0.0.5: provided IP is already allocated"#,
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "10.1.0.5"}),
            r#"Service "s" is invalid: spec.clusterIPs: Invalid value: ["10.1.0.5"]: failed to allocate IP 10.1.0.5: the provided IP (10.1.0.5) is not in the valid range. The range of valid IPs is 10.0.0.0/29"#,
        ),
        (
            json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}),
            r#"Service "s" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#,
        ),
    ] {
        assert_eq!(create(&a, spec).unwrap_err(), message);
    }
    let headless = create(&a, json!({"clusterIP": "None", "selector": {"a": "b"}})).unwrap();
    assert_eq!(headless["clusterIPs"], json!(["None"]));
    assert_eq!(create(&a, json!({"type": "ExternalName"})).unwrap(), json!({"type": "ExternalName"}));
    for _ in 0..4 {
        create(&a, json!({"type": "ClusterIP"})).unwrap();
    }
    let full = create(&a, json!({"type": "ClusterIP"})).unwrap_err();
    assert_eq!(
        full,
        r#"Internal error occurred: failed to allocate a serviceIP for Service "s": range is full"#
    );
    a.release(&service(json!({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"]})));
    assert_eq!(create(&a, json!({"type": "ClusterIP"})).unwrap()["clusterIP"], "10.0.0.5");
}

#[test]
fn an_uncommitted_reservation_goes_back() {
    let a = allocators(&["10.0.0.0/30"]);
    for _ in 0..5 {
        let mut s = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
        let _ = a.reserve(&mut s, None, false).unwrap();
        let mut s = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
        a.reserve(&mut s, None, true).unwrap().commit();
    }
}

#[test]
fn dual_stack() {
    let a = allocators(&["10.0.0.0/24", "fd00::/112"]);
    let spec = create(&a, json!({"ipFamilyPolicy": "PreferDualStack"})).unwrap();
    assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(spec["clusterIPs"].as_array().unwrap().len(), 2);
}

#[test]
fn node_ports() {
    let a = allocators(&["10.0.0.0/24"]);
    let ports = |ports: Value| json!({"type": "NodePort", "ports": ports});
    let spec =
        create(&a, ports(json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]))).unwrap();
    assert_eq!(spec["ports"][0]["nodePort"], spec["ports"][1]["nodePort"]);
    let taken = spec["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..30004).contains(&taken));
    assert_eq!(
        create(&a, ports(json!([{"port": 80, "nodePort": taken}]))).unwrap_err(),
        format!(
            r#"Service "s" is invalid: spec.ports[0].nodePort: Invalid value: {taken}: provided port is already allocated"#
        )
    );
    assert_eq!(
        create(&a, ports(json!([{"port": 80, "nodePort": 80}]))).unwrap_err(),
        r#"Service "s" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30003"#
    );
    // To ClusterIP and back: the port is free again.
    let old = service(spec);
    let mut new = old.clone();
    new["spec"]["type"] = json!("ClusterIP");
    for port in new["spec"]["ports"].as_array_mut().unwrap() {
        port.as_object_mut().unwrap().remove("nodePort");
    }
    a.reserve(&mut new, Some(&old), false).unwrap().commit();
    create(&a, ports(json!([{"port": 80, "nodePort": taken}]))).unwrap();
}
