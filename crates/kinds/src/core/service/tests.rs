use serde_json::{Value, json};

use crate::table::Table;

fn table() -> Table {
    Table::new(
        "",
        "v1",
        "Service",
        json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"selector": {"key": "val"},
            "ports": [{"name": "p", "protocol": "TCP", "port": 8675, "targetPort": 8675}],
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}}),
    )
}

fn spec(fields: Value) -> Value {
    json!({"spec": fields})
}

/// Upstream's `TestValidateServiceCreate`.
#[test]
fn create() {
    let ip = |list: &[&str]| json!({"spec": {"clusterIP": list.first(), "clusterIPs": list}});
    table().create(&[
        (spec(json!({"selector": {"NoUppercaseOrSpecialCharsLike=Equals": "b"}})), &["spec.selector: Invalid"]),
        (spec(json!({"sessionAffinity": "foo"})), &["spec.sessionAffinity: NotSupported"]),
        (spec(json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}, "sessionAffinity": "ClientIP"})), &[]),
        (spec(json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}, "sessionAffinity": "ClientIP"})),
            &["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid"]),
        (spec(json!({"type": "x"})), &["spec.type: NotSupported"]),
        (spec(json!({"ports": null})), &["spec.ports: Required"]),
        (spec(json!({"ports": [{"port": 1}, {"port": 2, "name": "b"}]})), &["spec.ports[0].name: Required"]),
        (spec(json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]})), &["spec.ports[1].name: Duplicate"]),
        (spec(json!({"ports": [{"port": 0, "protocol": "ICMP"}]})),
            &["spec.ports[0].port: Invalid", "spec.ports[0].protocol: NotSupported", "spec.ports[0].targetPort: Invalid"]),
        (spec(json!({"ports": [{"port": 1, "name": "INVALID"}]})), &["spec.ports[0].name: Invalid"]),
        (spec(json!({"ports": [{"port": 65536, "targetPort": 65536}]})), &["spec.ports[0].port: Invalid", "spec.ports[0].targetPort: Invalid"]),
        (spec(json!({"ports": [{"port": 1, "appProtocol": "invalid%protocol"}]})), &["spec.ports[0].appProtocol: Invalid"]),
        (spec(json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]})), &["spec.ports[1]: Duplicate"]),
        (spec(json!({"ports": [{"port": 1, "nodePort": 30000}]})), &["spec.ports[0].nodePort: Forbidden"]),
        (spec(json!({"type": "NodePort", "ports": [{"port": 1, "name": "a", "nodePort": 1}, {"port": 2, "name": "b", "nodePort": 1}]})),
            &["spec.ports[1].nodePort: Duplicate"]),
        (spec(json!({"type": "NodePort", "ports": [{"port": 1, "name": "a", "nodePort": 1}, {"port": 1, "name": "b", "nodePort": 1, "protocol": "UDP"}]})), &[]),
        (ip(&["something.tricky"]), &["spec.clusterIPs[0]: Invalid"]),
        (ip(&["010.0.0.1"]), &["spec.clusterIPs[0]: Invalid"]),
        (ip(&["None"]), &[]),
        (ip(&["None", "10.0.0.1"]), &["spec.clusterIPs: Invalid"]),
        (ip(&["10.0.0.1", "10.0.0.2"]), &["spec.clusterIPs: Invalid"]),
        (ip(&["10.0.0.1", "fd00::1"]), &[]),
        (ip(&["fd00::1"]), &["spec.clusterIPs[0]: Invalid"]),
        (ip(&["10.0.0.1", "fd00::1", "fd00::2"]), &["spec.clusterIPs: Invalid"]),
        (spec(json!({"clusterIP": "10.0.0.2"})), &["spec.clusterIPs: Invalid"]),
        (spec(json!({"clusterIP": null})), &["spec.clusterIPs: Invalid"]),
        (spec(json!({"clusterIPs": null})), &["spec.clusterIPs: Required"]),
        (spec(json!({"ipFamilies": ["IPv4", "IPv4", "foo"]})), &["spec.ipFamilies[1]: Duplicate", "spec.ipFamilies[2]: NotSupported"]),
        (spec(json!({"ipFamilyPolicy": "foo"})), &["spec.ipFamilyPolicy: NotSupported"]),
        (spec(json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"]})), &["spec.clusterIPs[0]: Invalid"]),
        (spec(json!({"externalIPs": ["1.2.3.4"]})), &[]),
        (spec(json!({"externalIPs": ["0.0.0.0", "127.0.0.1", "169.254.0.1", "x", "224.0.0.1"]})), &[
            "spec.externalIPs[0]: Invalid", "spec.externalIPs[1]: Invalid", "spec.externalIPs[2]: Invalid",
            "spec.externalIPs[3]: Invalid", "spec.externalIPs[4]: Invalid"]),
        (spec(json!({"type": "ExternalName", "externalName": "foo.bar.example.com."})),
            &["spec.clusterIPs: Forbidden", "spec.ipFamilies: Forbidden", "spec.ipFamilyPolicy: Forbidden"]),
        (spec(json!({"type": "ExternalName", "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null, "ports": null,
            "externalName": "123.123.123.123"})), &[]),
        (spec(json!({"type": "ExternalName", "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null,
            "externalName": "-foo"})), &["spec.externalName: Invalid"]),
        (spec(json!({"type": "ExternalName", "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null})),
            &["spec.externalName: Required"]),
        (spec(json!({"loadBalancerSourceRanges": ["1.2.3.0/24"]})), &["spec.LoadBalancerSourceRanges: Forbidden"]),
        (spec(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["1.2.3.4/8", " 10.0.0.0/8 ", "foo"]})),
            &["spec.LoadBalancerSourceRanges[0]: Invalid", "spec.LoadBalancerSourceRanges[2]: Invalid"]),
        (json!({"spec": {"type": "LoadBalancer"}, "metadata": {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "1.2.3.0/24,x"}}}),
            &["metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid"]),
        (spec(json!({"allocateLoadBalancerNodePorts": true})), &["spec.allocateLoadBalancerNodePorts: Forbidden"]),
        (spec(json!({"loadBalancerClass": "a.b/c"})), &["spec.loadBalancerClass: Forbidden"]),
        (spec(json!({"type": "LoadBalancer", "loadBalancerClass": "a b"})), &["spec.loadBalancerClass: Invalid"]),
        (spec(json!({"externalTrafficPolicy": "Local"})), &["spec.externalTrafficPolicy: Invalid"]),
        (spec(json!({"type": "NodePort", "externalTrafficPolicy": "x"})), &["spec.externalTrafficPolicy: NotSupported"]),
        (spec(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})), &["spec.healthCheckNodePort: Required"]),
        (spec(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31100})), &[]),
        (spec(json!({"healthCheckNodePort": 31100})), &["spec.healthCheckNodePort: Invalid"]),
        (spec(json!({"internalTrafficPolicy": "x"})), &["spec.internalTrafficPolicy: NotSupported"]),
        (spec(json!({"trafficDistribution": "PreferSameNode"})), &[]),
        (spec(json!({"trafficDistribution": "Random"})), &["spec.trafficDistribution: NotSupported"]),
        (json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "disabled"}}}),
            &["metadata.annotations[service.kubernetes.io/topology-mode]: Invalid"]),
    ]);
}

/// Upstream's `TestValidateServiceUpdate`.
#[test]
fn update() {
    let table = table();
    let none = json!({});
    let dual = spec(
        json!({"clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
    );
    let single = |policy: &str| spec(json!({"ipFamilyPolicy": policy}));
    let other = spec(json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}));
    let unset = spec(json!({"clusterIP": null, "clusterIPs": null}));
    let headless = spec(json!({"clusterIP": "None", "clusterIPs": ["None"]}));
    let named = spec(
        json!({"type": "ExternalName", "externalName": "a.b", "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null}),
    );
    let balanced = |fields: Value| {
        let mut whole = json!({"type": "LoadBalancer"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec(whole)
    };
    let health = |port: i64| balanced(json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": port}));
    let legacy = spec(json!({"externalIPs": ["010.0.0.1"]}));
    let rows: &[(&Value, Value, &[&str])] = &[
        (&none, json!({"metadata": {"labels": {"key": "other"}}}), &[]),
        (&none, other.clone(), &["spec.clusterIPs[0]: Invalid"]),
        (&none, unset.clone(), &["spec.clusterIPs[0]: Invalid"]),
        (&none, headless.clone(), &["spec.clusterIPs[0]: Invalid"]),
        (&unset, other.clone(), &[]),
        (&headless, headless.clone(), &[]),
        (&none, dual.clone(), &[]),
        (&dual, single("SingleStack"), &[]),
        (&dual, single("PreferDualStack"), &["spec.ipFamilyPolicy: Invalid", "spec.ipFamilyPolicy: Invalid"]),
        (&dual, other.clone(), &["spec.clusterIPs[0]: Invalid"]),
        (
            &none,
            spec(json!({"ipFamilies": ["IPv6"]})),
            &["spec.ipFamilies[0]: Invalid", "spec.clusterIPs[0]: Invalid"],
        ),
        (&none, named.clone(), &[]),
        (&named, other.clone(), &[]),
        (
            &balanced(json!({"loadBalancerClass": "a.b/c"})),
            balanced(json!({"loadBalancerClass": "a.b/d"})),
            &["spec.loadBalancerClass: Invalid"],
        ),
        (
            &balanced(json!({})),
            balanced(json!({"loadBalancerClass": "a.b/c"})),
            &["spec.loadBalancerClass: Invalid"],
        ),
        (&none, balanced(json!({"loadBalancerClass": "a.b/c"})), &[]),
        (&health(31000), health(31001), &["spec.healthCheckNodePort: Forbidden"]),
        // What stands in old objects may stay.
        (&legacy, legacy.clone(), &[]),
        (&none, legacy.clone(), &["spec.externalIPs[0]: Invalid"]),
    ];
    for (old, new, expect) in rows {
        table.change(old, new, "", expect);
    }
}

/// Upstream's `TestDropTypeDependentFields`.
#[test]
fn a_type_takes_its_fields_along() {
    let check = |old: Value, new: Value, expect: Value| {
        let (old, mut new) = (spec(old), spec(new));
        super::drop_what_its_type_has_not(&mut new, &old);
        assert_eq!(new["spec"], expect);
    };
    let cluster = json!({"type": "ClusterIP", "clusterIP": "1.1.1.1", "clusterIPs": ["1.1.1.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
    let mut named = cluster.clone();
    named["type"] = "ExternalName".into();
    check(cluster, named, json!({"type": "ExternalName"}));
    let ports = |node: i64| json!([{"port": 1, "nodePort": node}]);
    check(
        json!({"type": "NodePort", "ports": ports(5), "externalTrafficPolicy": "Cluster"}),
        json!({"type": "ClusterIP", "ports": ports(5), "externalTrafficPolicy": "Cluster"}),
        json!({"type": "ClusterIP", "ports": [{"port": 1}]}),
    );
    check(
        json!({"type": "NodePort", "ports": ports(5)}),
        json!({"type": "ClusterIP", "ports": ports(6)}),
        json!({"type": "ClusterIP", "ports": ports(6)}),
    );
    let full = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 5, "allocateLoadBalancerNodePorts": false, "loadBalancerClass": "a/b"});
    let mut less = full.clone();
    less["type"] = "NodePort".into();
    check(full, less, json!({"type": "NodePort", "externalTrafficPolicy": "Local"}));
}

#[test]
fn status() {
    let table = table();
    let balanced = |ingress: Value| json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}});
    let change = |ingress: Value, expect: &[&str]| {
        table.change(&balanced(json!([])), &balanced(ingress), "status", expect)
    };
    change(json!([{"ip": "1.2.3.4", "ipMode": "VIP"}, {"hostname": "a.b"}]), &[]);
    change(
        json!([{"ip": "1.2.3.4", "ipMode": "x"}, {"hostname": "a.b", "ipMode": "VIP"}, {"hostname": "1.2.3.4"}, {"ip": "1.2.3"}]),
        &[
            "status.loadBalancer.ingress[0].ipMode: NotSupported",
            "status.loadBalancer.ingress[1].ipMode: Forbidden",
            "status.loadBalancer.ingress[2].hostname: Invalid",
            "status.loadBalancer.ingress[3].ip: Invalid",
        ],
    );
    table.change(
        &json!({}),
        &json!({"status": {"loadBalancer": {"ingress": [{"hostname": "a.b"}]}}}),
        "status",
        &["status.loadBalancer.ingress: Forbidden"],
    );
}

#[test]
fn warned() {
    let table = table();
    table.warnings(spec(json!({"clusterIP": "None", "clusterIPs": ["None"], "externalIPs": ["1.1.1.1"], "loadBalancerIP": "2.2.2.2"})), &[
        "spec.loadBalancerIP is ignored for headless services", "spec.externalIPs is ignored for headless services"]);
    table.warnings(
        spec(json!({"externalIPs": ["1.1.1.1"], "externalName": "x", "trafficDistribution": "PreferClose"})),
        &[
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ],
    );
}
