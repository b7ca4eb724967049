use super::*;
use crate::proxy::observe;
use crate::proxy::ruleset::{self, diff, replace};
use crate::testing::{service, slice};
use serde_json::{Value, json};

fn config() -> Config {
    Config {
        table: "corten-0".into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        bridge: Some("crt0".into()),
        foreign_interfaces: Some("crt*".into()),
        ..Config::new("here")
    }
}

fn node() -> Node {
    Node {
        pod_cidrs: vec!["10.244.3.0/24".parse().unwrap()],
        addresses: vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
    }
}

/// One Service `n/web` of the spec with the endpoints `ADDRESS@NODE[!ready|!draining]` on port 8080.
fn ports(spec: Value, endpoints: &[&str]) -> Vec<ServicePort> {
    observe(&[service("n", "web", spec)], &[slice("n", "web", "IPv4", tcp(), all(endpoints))], "here")
}

fn tcp() -> Value {
    json!([{"port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}])
}

fn all(endpoints: &[&str]) -> Value {
    let one = |text: &&str| {
        let (text, state) = text.split_once('!').unwrap_or((text, ""));
        let (address, node) = text.split_once('@').unwrap();
        let conditions = match state {
            "" => json!({"ready": true}),
            "ready" => json!({"ready": false, "serving": false}),
            "draining" => json!({"ready": false, "serving": true, "terminating": true}),
            other => panic!("{other}"),
        };
        json!({"addresses": [address], "nodeName": node, "conditions": conditions})
    };
    endpoints.iter().map(one).collect()
}

fn cluster_ip() -> Value {
    json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]})
}

fn with(mut spec: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// What is particular to the Services: chains with a slash and elements.
fn particulars(ruleset: &Ruleset) -> String {
    let mut out = String::new();
    for ((family, _), table) in &ruleset.tables {
        for (name, set) in &table.sets {
            for (key, verdict) in &set.elements {
                out += format!("{} {name}: {key} {verdict}", family.name()).trim_end();
                out.push('\n');
            }
        }
        for (name, chain) in table.chains.iter().filter(|(n, _)| n.contains('/')) {
            for rule in &chain.rules {
                out += &format!("{} {name}: {rule}\n", family.name());
            }
        }
    }
    out
}

fn check(spec: Value, endpoints: &[&str], want: &str) {
    assert_eq!(particulars(&plan(&config(), &node(), &ports(spec, endpoints))), want);
}

#[test]
fn whole_ruleset() {
    let ports = ports(cluster_ip(), &["10.244.3.5@here", "10.244.4.6@there"]);
    insta::assert_snapshot!("replace", replace(&plan(&config(), &node(), &ports)).text);
    let bare = Config { ipv6: true, loopback_node_ports: false, ..Config::new("here") };
    insta::assert_snapshot!("bare", replace(&plan(&bare, &Node::default(), &[])).text);
}

#[test]
fn cluster_ips() {
    check(
        cluster_ip(),
        &["10.244.4.6@there", "10.244.3.5@here", "10.244.3.7@here!ready", "10.244.3.8@here!draining"],
        "\
ip cluster-ips: 10.96.0.9
ip hairpin: 10.244.3.5 . 10.244.3.5
ip service-ips: 10.96.0.9 . tcp . 80 goto cluster/n/web/tcp/80
ip cluster/n/web/tcp/80: meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.3.5 . 8080, 1 : 10.244.4.6 . 8080 }
",
    );
    // Nothing is ready: those that are on their way out serve.
    check(
        cluster_ip(),
        &["10.244.3.7@here!ready", "10.244.3.8@here!draining"],
        "\
ip cluster-ips: 10.96.0.9
ip hairpin: 10.244.3.8 . 10.244.3.8
ip service-ips: 10.96.0.9 . tcp . 80 goto cluster/n/web/tcp/80
ip cluster/n/web/tcp/80: meta l4proto tcp dnat to 10.244.3.8:8080
",
    );
    check(
        cluster_ip(),
        &["10.244.3.7@here!ready"],
        "ip cluster-ips: 10.96.0.9\nip no-endpoint-ips: 10.96.0.9 . tcp . 80 goto refuse\n",
    );
}

#[test]
fn ports_and_protocols() {
    let spec = with(
        cluster_ip(),
        json!({"ports": [{"port": 80}, {"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "no", "port": 7}]}),
    );
    check(
        spec,
        &["10.244.4.6@there"],
        "\
ip cluster-ips: 10.96.0.9
ip no-endpoint-ips: 10.96.0.9 . tcp . 7 goto refuse
ip service-ips: 10.96.0.9 . tcp . 80 goto cluster/n/web/tcp/80
ip service-ips: 10.96.0.9 . udp . 5353 goto cluster/n/web/udp/5353
ip cluster/n/web/tcp/80: meta l4proto tcp dnat to 10.244.4.6:8080
ip cluster/n/web/udp/5353: meta l4proto udp dnat to 10.244.4.6:53
",
    );
}

#[test]
fn node_ports_and_outside_addresses() {
    let spec = with(
        cluster_ip(),
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["203.0.113.7", "2001:db8::7"]}),
    );
    check(
        spec.clone(),
        &["10.244.4.6@there"],
        "\
ip cluster-ips: 10.96.0.9
ip service-ips: 10.96.0.9 . tcp . 80 goto cluster/n/web/tcp/80
ip service-ips: 203.0.113.7 . tcp . 80 goto external/n/web/tcp/80
ip service-nodeports: tcp . 30080 goto external/n/web/tcp/80
ip cluster/n/web/tcp/80: meta l4proto tcp dnat to 10.244.4.6:8080
ip external/n/web/tcp/80: meta mark set meta mark | 0x4000
ip external/n/web/tcp/80: goto cluster/n/web/tcp/80
",
    );
    check(
        spec.clone(),
        &[],
        "\
ip cluster-ips: 10.96.0.9
ip no-endpoint-ips: 10.96.0.9 . tcp . 80 goto refuse
ip no-endpoint-ips: 203.0.113.7 . tcp . 80 goto refuse
ip no-endpoint-nodeports: tcp . 30080 goto refuse
",
    );
    // Endpoints elsewhere only: from outside nothing answers, from inside the policy does not apply.
    check(
        with(spec.clone(), json!({"externalTrafficPolicy": "Local", "externalIPs": null})),
        &["10.244.4.6@there"],
        "\
ip cluster-ips: 10.96.0.9
ip no-endpoint-nodeports: tcp . 30080 drop
ip service-ips: 10.96.0.9 . tcp . 80 goto cluster/n/web/tcp/80
ip service-nodeports: tcp . 30080 goto external/n/web/tcp/80
ip cluster/n/web/tcp/80: meta l4proto tcp dnat to 10.244.4.6:8080
ip external/n/web/tcp/80: ip saddr { 10.244.0.0/16 } goto cluster/n/web/tcp/80
ip external/n/web/tcp/80: fib saddr type local meta mark set meta mark | 0x4000
ip external/n/web/tcp/80: fib saddr type local goto cluster/n/web/tcp/80
",
    );
    check(
        with(spec, json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local", "externalIPs": null})),
        &["10.244.3.5@here", "10.244.4.6@there"],
        "\
ip cluster-ips: 10.96.0.9
ip hairpin: 10.244.3.5 . 10.244.3.5
ip service-ips: 10.96.0.9 . tcp . 80 goto local/n/web/tcp/80
ip service-nodeports: tcp . 30080 goto external/n/web/tcp/80
ip cluster/n/web/tcp/80: meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.3.5 . 8080, 1 : 10.244.4.6 . 8080 }
ip external/n/web/tcp/80: ip saddr { 10.244.0.0/16 } goto cluster/n/web/tcp/80
ip external/n/web/tcp/80: fib saddr type local meta mark set meta mark | 0x4000
ip external/n/web/tcp/80: fib saddr type local goto cluster/n/web/tcp/80
ip external/n/web/tcp/80: goto local/n/web/tcp/80
ip local/n/web/tcp/80: meta l4proto tcp dnat to 10.244.3.5:8080
",
    );
    check(
        with(cluster_ip(), json!({"internalTrafficPolicy": "Local"})),
        &["10.244.4.6@there"],
        "ip cluster-ips: 10.96.0.9\nip no-endpoint-ips: 10.96.0.9 . tcp . 80 drop\n",
    );
}

#[test]
fn load_balancers() {
    let spec =
        with(cluster_ip(), json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}));
    let mut lb = (*service("n", "web", spec)).clone();
    let status = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}]}});
    lb.status = Some(serde_json::from_value(status).unwrap());
    let ports =
        observe(&[lb.into()], &[slice("n", "web", "IPv4", tcp(), all(&["10.244.4.6@there"]))], "here");
    assert_eq!(
        particulars(&plan(&config(), &node(), &ports)),
        "\
ip cluster-ips: 10.96.0.9
ip service-ips: 10.96.0.9 . tcp . 80 goto cluster/n/web/tcp/80
ip service-ips: 203.0.113.1 . tcp . 80 goto firewall/n/web/tcp/80
ip cluster/n/web/tcp/80: meta l4proto tcp dnat to 10.244.4.6:8080
ip external/n/web/tcp/80: meta mark set meta mark | 0x4000
ip external/n/web/tcp/80: goto cluster/n/web/tcp/80
ip firewall/n/web/tcp/80: ip saddr != { 198.51.100.0/24 } drop
ip firewall/n/web/tcp/80: goto external/n/web/tcp/80
"
    );
}

#[test]
fn left_out() {
    let endpoints = &["10.244.4.6@there"];
    for spec in [
        with(cluster_ip(), json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        with(cluster_ip(), json!({"type": "ExternalName", "externalName": "example.org"})),
        with(cluster_ip(), json!({"clusterIP": "", "clusterIPs": []})),
        with(cluster_ip(), json!({"ports": [{"port": 80, "protocol": "QUIC"}]})),
        with(cluster_ip(), json!({"ports": [{"port": 0}, {"port": 70000}]})),
    ] {
        check(spec, endpoints, "");
    }
    let mut other = (*service("n", "web", cluster_ip())).clone();
    other.metadata.labels = Some([("service.kubernetes.io/service-proxy-name".into(), String::new())].into());
    assert_eq!(observe(&[other.into()], &[], "here"), []);
    // A name that could not come from an API server must not reach the ruleset's text.
    assert_eq!(observe(&[service("n", "a; flush ruleset", cluster_ip())], &[], "here"), []);
}

#[test]
fn two_families() {
    let spec = with(cluster_ip(), json!({"clusterIPs": ["10.96.0.9", "fd00:96::9"]}));
    let slices = [
        slice("n", "web", "IPv4", tcp(), all(&["10.244.4.6@there"])),
        slice("n", "web", "IPv6", tcp(), all(&["fd00:244::6@there", "fd00:244::7@there"])),
    ];
    let ports = observe(&[service("n", "web", spec)], &slices, "here");
    let config = Config { ipv6: true, ..config() };
    assert_eq!(
        particulars(&plan(&config, &node(), &ports)),
        "\
ip cluster-ips: 10.96.0.9
ip service-ips: 10.96.0.9 . tcp . 80 goto cluster/n/web/tcp/80
ip cluster/n/web/tcp/80: meta l4proto tcp dnat to 10.244.4.6:8080
ip6 cluster-ips: fd00:96::9
ip6 service-ips: fd00:96::9 . tcp . 80 goto cluster/n/web/tcp/80
ip6 cluster/n/web/tcp/80: meta l4proto tcp dnat ip6 addr . port to numgen random mod 2 map { 0 : fd00:244::6 . 8080, 1 : fd00:244::7 . 8080 }
"
    );
}

#[test]
fn where_node_ports_answer() {
    let find = |config: &Config| {
        let ruleset = plan(config, &node(), &[]);
        let table = ruleset.tables.values().next().unwrap();
        let rule = table.chains["services"].rules.iter().find(|r| r.contains("@service-nodeports"));
        rule.map(|r| r.replace(" meta l4proto . th dport vmap @service-nodeports", "")).unwrap_or_default()
    };
    let within =
        NodePortAddresses::Within(vec!["192.0.2.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    for (node_ports, loopback_node_ports, want) in [
        (NodePortAddresses::All, true, "fib daddr type local"),
        (NodePortAddresses::All, false, "fib daddr type local ip daddr != 127.0.0.0/8"),
        (NodePortAddresses::Primary, true, "fib daddr type local ip daddr { 192.0.2.2/32, 127.0.0.0/8 }"),
        (
            NodePortAddresses::Primary,
            false,
            "fib daddr type local ip daddr { 192.0.2.2/32 } ip daddr != 127.0.0.0/8",
        ),
        (within, false, "fib daddr type local ip daddr { 192.0.2.0/24 } ip daddr != 127.0.0.0/8"),
        (NodePortAddresses::Within(vec![]), false, ""),
    ] {
        assert_eq!(find(&Config { node_ports, loopback_node_ports, ..config() }), want);
    }
}

/// Only what changed is written, in an order that the kernel accepts.
#[test]
fn differences() {
    let plan = |spec: Option<Value>, endpoints: &[&str]| {
        plan(&config(), &node(), &spec.map(|s| ports(s, endpoints)).unwrap_or_default())
    };
    let check = |old: &Ruleset, new: &Ruleset, want: &str, retired: &[&str]| {
        let tx = diff(old, new);
        assert_eq!(tx.text, want);
        assert_eq!(tx.retired.iter().map(|(_, c)| c.as_str()).collect::<Vec<_>>(), retired);
    };
    let none = plan(None, &[]);
    let one = plan(Some(cluster_ip()), &["10.244.3.5@here"]);
    let two = plan(Some(cluster_ip()), &["10.244.3.5@here", "10.244.4.6@there"]);
    let empty = plan(Some(cluster_ip()), &[]);
    check(&one, &one, "", &[]);
    check(
        &none,
        &one,
        "\
add chain ip corten-0 cluster/n/web/tcp/80
flush chain ip corten-0 cluster/n/web/tcp/80
add rule ip corten-0 cluster/n/web/tcp/80 meta l4proto tcp dnat to 10.244.3.5:8080
add element ip corten-0 cluster-ips { 10.96.0.9 }
add element ip corten-0 hairpin { 10.244.3.5 . 10.244.3.5 }
add element ip corten-0 service-ips { 10.96.0.9 . tcp . 80 : goto cluster/n/web/tcp/80 }
",
        &[],
    );
    check(
        &one,
        &two,
        "\
flush chain ip corten-0 cluster/n/web/tcp/80
add rule ip corten-0 cluster/n/web/tcp/80 meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.3.5 . 8080, 1 : 10.244.4.6 . 8080 }
",
        &[],
    );
    check(
        &one,
        &empty,
        "\
delete element ip corten-0 hairpin { 10.244.3.5 . 10.244.3.5 }
delete element ip corten-0 service-ips { 10.96.0.9 . tcp . 80 }
add element ip corten-0 no-endpoint-ips { 10.96.0.9 . tcp . 80 : goto refuse }
flush chain ip corten-0 cluster/n/web/tcp/80
",
        &["cluster/n/web/tcp/80"],
    );
    // A verdict that changes is taken out and put in within the one transaction.
    let local =
        plan(Some(with(cluster_ip(), json!({"internalTrafficPolicy": "Local"}))), &["10.244.3.5@here"]);
    check(
        &one,
        &local,
        "\
add chain ip corten-0 local/n/web/tcp/80
flush chain ip corten-0 local/n/web/tcp/80
delete element ip corten-0 service-ips { 10.96.0.9 . tcp . 80 }
add rule ip corten-0 local/n/web/tcp/80 meta l4proto tcp dnat to 10.244.3.5:8080
add element ip corten-0 service-ips { 10.96.0.9 . tcp . 80 : goto local/n/web/tcp/80 }
flush chain ip corten-0 cluster/n/web/tcp/80
",
        &["cluster/n/web/tcp/80"],
    );
    assert_eq!(
        ruleset::sweep(&diff(&one, &empty).retired),
        "delete chain ip corten-0 cluster/n/web/tcp/80\n"
    );
}

#[test]
fn udp_flows_to_forget() {
    let udp = |endpoints: &[&str]| {
        let spec = with(
            cluster_ip(),
            json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]}),
        );
        ports(spec, endpoints)
    };
    let check = |old: &[ServicePort], new: &[ServicePort], want: &[(Option<&str>, u16, Option<&str>)]| {
        let want: BTreeSet<Flows> = want
            .iter()
            .map(|(to, port, via)| Flows {
                destination: to.map(|a| a.parse().unwrap()),
                destination_port: Some(*port),
                translated_to: via.map(|a| a.parse().unwrap()),
            })
            .collect();
        assert_eq!(stale_flows(old, new), want);
    };
    let (a, b) = ("10.244.3.5@here", "10.244.4.6@there");
    check(&udp(&[a]), &udp(&[a]), &[]);
    check(&udp(&[a]), &udp(&[a, b]), &[]);
    check(&udp(&[a, b]), &udp(&[b]), &[(None, 53, Some("10.244.3.5")), (None, 30053, Some("10.244.3.5"))]);
    check(&udp(&[a]), &[], &[(None, 53, Some("10.244.3.5")), (None, 30053, Some("10.244.3.5"))]);
    check(&[], &udp(&[a]), &[(Some("10.96.0.9"), 53, None), (None, 30053, None)]);
    check(&[], &ports(cluster_ip(), &[a]), &[]);
}
