use super::*;

struct Counter(std::sync::atomic::AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let n = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bytes.fill(0);
        bytes[..8].copy_from_slice(&n.to_le_bytes());
    }
}

fn allocators(cidrs: &[&str]) -> World {
    let ranges: Vec<Cidr> = cidrs.iter().map(|c| c.parse().unwrap()).collect();
    let allocators = Arc::new(Allocators::new(&ranges, (30000, 30003), Arc::new(Counter(0.into()))));
    World { allocators, ranges, listed: Mutex::default() }
}

/// Allocators with the objects that a store would hold.
struct World {
    allocators: Arc<Allocators>,
    ranges: Vec<Cidr>,
    listed: Mutex<BTreeSet<IpAddr>>,
}

impl World {
    /// As a write: reserves, writes the objects if it is to stand, and commits.
    fn write(&self, s: &mut Value, old: Option<&Value>, dry_run: bool, stands: bool) -> Result<(), Status> {
        let listed = |address: &IpAddr| self.listed.lock().unwrap().contains(address);
        let known = Addresses { ranges: self.ranges.clone(), listed: &listed };
        let reservation = self.allocators.reserve(s, old, dry_run, &known)?;
        if stands {
            let (taken, given_up) = reservation.changes();
            let mut listed = self.listed.lock().unwrap();
            listed.extend(taken);
            listed.retain(|address| !given_up.contains(address));
            drop(listed);
            reservation.commit();
        }
        Ok(())
    }

    fn release(&self, s: &Value) {
        for address in held_addresses(s) {
            self.listed.lock().unwrap().remove(&address);
        }
        self.allocators.release(s);
    }
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": spec})
}

/// Reserves and commits; the spec, or the message.
fn create(a: &World, spec: Value) -> Result<Value, String> {
    let mut s = service(spec);
    a.write(&mut s, None, false, true).map_err(|e| e.message)?;
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
            r#"Service "s" is invalid: spec.clusterIPs: Invalid value: ["10.1.0.5"]: failed to allocate IP 10.1.0.5: the provided network does not match the current range"#,
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.7"}),
            r#"Service "s" is invalid: spec.clusterIPs: Invalid value: ["10.0.0.7"]: failed to allocate IP 10.0.0.7: the provided IP (10.0.0.7) is not in the valid range. The range of valid IPs is 10.0.0.0/29"#,
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
        a.write(&mut s, None, false, false).unwrap();
        let mut s = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
        a.write(&mut s, None, true, true).unwrap();
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
    a.write(&mut new, Some(&old), false, true).unwrap();
    create(&a, ports(json!([{"port": 80, "nodePort": taken}]))).unwrap();
}

/// A second range serves when the first is full; Services from before there were IPAddresses keep theirs.
#[test]
fn several_ranges() {
    let mut a = allocators(&["10.0.0.0/30"]);
    a.ranges.push("10.0.1.0/30".parse().unwrap());
    a.allocators.restore(&service(json!({"clusterIPs": ["10.0.0.2"]})), |_| false);
    let mut given: Vec<String> =
        (0..3).map(|_| create(&a, json!({})).unwrap()["clusterIP"].as_str().unwrap().to_owned()).collect();
    assert_eq!(given[0], "10.0.0.1");
    given.sort();
    assert_eq!(given, ["10.0.0.1", "10.0.1.1", "10.0.1.2"]);
    assert!(create(&a, json!({})).is_err());
    a.listed.lock().unwrap().insert("10.0.0.2".parse().unwrap());
    a.allocators.settle(|address| a.listed.lock().unwrap().contains(address));
    assert!(create(&a, json!({"clusterIP": "10.0.0.2"})).is_err());
    a.release(&service(json!({"clusterIPs": ["10.0.0.2"]})));
    assert_eq!(create(&a, json!({})).unwrap()["clusterIP"], "10.0.0.2");
}
