use super::*;
use crate::testing::{service, slice};
use serde_json::{Value, json};

fn zone() -> Zone {
    let (services, slices) = (Store::new(), Store::new());
    for (namespace, name, spec) in [
        (
            "default",
            "kubernetes",
            json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}),
        ),
        (
            "n",
            "dual",
            json!({"clusterIPs": ["10.96.0.7", "fd00:96::7"], "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
        ),
        (
            "n",
            "headless",
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "http", "port": 80}]}),
        ),
        (
            "n",
            "nobody",
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "http", "port": 80}]}),
        ),
        ("n", "alias", json!({"type": "ExternalName", "externalName": "www.example.org"})),
        (
            "n",
            "inner",
            json!({"type": "ExternalName", "externalName": "kubernetes.default.svc.cluster.local."}),
        ),
    ] {
        services.put(service(namespace, name, spec));
    }
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let endpoints = json!([
        {"addresses": ["10.244.0.5"], "hostname": "web-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.6"], "conditions": {}},
        {"addresses": ["10.244.0.7"], "hostname": "web-2", "conditions": {"ready": false}},
    ]);
    slices.put(slice("n", "headless", "IPv4", ports.clone(), endpoints.clone()));
    slices.put(slice(
        "n",
        "nobody",
        "IPv4",
        ports.clone(),
        json!([{"addresses": ["10.244.0.7"], "conditions": {"ready": false}}]),
    ));
    slices.put(slice("n", "dual", "IPv4", ports, endpoints));
    let reverse = ["10.244.0.0/16", "10.96.0.0/16"].map(|r| r.parse().unwrap()).to_vec();
    Zone::new("cluster.local", 5, reverse, services, slices)
}

fn check(name: &str, kind: RecordType, want: &[&str]) {
    let mut full = Name::from_str(name).unwrap();
    full.set_fqdn(true);
    let show = |r: &Record| {
        assert_eq!(r.ttl, 5);
        let owner = if r.name == full { String::new() } else { format!("{} ", r.name) };
        format!("{owner}{} {}", r.record_type(), r.data)
    };
    let question = Question { name: full.clone(), kind };
    let got: Vec<String> = match answer(&zone(), &question) {
        Answer::Records { answers, additionals } => {
            answers.iter().map(show).chain(additionals.iter().map(|r| format!("+ {}", show(r)))).collect()
        }
        Answer::Alias { record, target } => vec![show(&record), format!("then {target}")],
        Answer::NoData(soa) => vec![format!("no data: {}", soa.name)],
        Answer::NoSuchName(soa) => vec![format!("no such name: {}", soa.name)],
        Answer::Foreign => vec!["foreign".to_owned()],
    };
    assert_eq!(got, want, "{name} {kind}");
}

const NO_DATA: &[&str] = &["no data: cluster.local."];
const NO_SUCH_NAME: &[&str] = &["no such name: cluster.local."];

#[test]
fn services() {
    use RecordType::{A, AAAA, ANY, CNAME, MX, SRV};
    check("kubernetes.default.svc.cluster.local", A, &["A 10.96.0.1"]);
    check("KUBERNETES.Default.SVC.cluster.LOCAL", A, &["A 10.96.0.1"]);
    check("kubernetes.default.svc.cluster.local", AAAA, NO_DATA);
    check("kubernetes.default.svc.cluster.local", MX, NO_DATA);
    check("dual.n.svc.cluster.local", AAAA, &["AAAA fd00:96::7"]);
    check("dual.n.svc.cluster.local", ANY, &["A 10.96.0.7", "AAAA fd00:96::7"]);
    check("headless.n.svc.cluster.local", A, &["A 10.244.0.5", "A 10.244.0.6"]);
    check("headless.n.svc.cluster.local", AAAA, NO_DATA);
    check("nobody.n.svc.cluster.local", A, NO_SUCH_NAME);
    check("alias.n.svc.cluster.local", A, &["CNAME www.example.org.", "then www.example.org."]);
    check("alias.n.svc.cluster.local", CNAME, &["CNAME www.example.org."]);
    check(
        "inner.n.svc.cluster.local",
        A,
        &["CNAME kubernetes.default.svc.cluster.local.", "then kubernetes.default.svc.cluster.local."],
    );
    check("missing.n.svc.cluster.local", A, NO_SUCH_NAME);
    check("kubernetes.n.svc.cluster.local", A, NO_SUCH_NAME);
    check("x.kubernetes.default.svc.cluster.local", A, NO_SUCH_NAME);
    check("kubernetes.default.svc.cluster.local", SRV, NO_DATA);
}

#[test]
fn endpoints_of_headless_services() {
    use RecordType::A;
    check("web-0.headless.n.svc.cluster.local", A, &["A 10.244.0.5"]);
    check("10-244-0-6.headless.n.svc.cluster.local", A, &["A 10.244.0.6"]);
    for missing in ["web-2.headless", "10-244-0-5.headless", "web-0.dual", "web-0.alias", "web-0.gone"] {
        check(&format!("{missing}.n.svc.cluster.local"), A, NO_SUCH_NAME);
    }
}

#[test]
fn ports() {
    use RecordType::{A, SRV};
    check(
        "_http._tcp.dual.n.svc.cluster.local",
        SRV,
        &[
            "SRV 0 100 80 dual.n.svc.cluster.local.",
            "+ dual.n.svc.cluster.local. A 10.96.0.7",
            "+ dual.n.svc.cluster.local. AAAA fd00:96::7",
        ],
    );
    check(
        "_http._tcp.headless.n.svc.cluster.local",
        SRV,
        &[
            "SRV 0 50 8080 10-244-0-6.headless.n.svc.cluster.local.",
            "SRV 0 50 8080 web-0.headless.n.svc.cluster.local.",
            "+ 10-244-0-6.headless.n.svc.cluster.local. A 10.244.0.6",
            "+ web-0.headless.n.svc.cluster.local. A 10.244.0.5",
        ],
    );
    check("_http._tcp.dual.n.svc.cluster.local", A, NO_DATA);
    check("_tcp.dual.n.svc.cluster.local", SRV, NO_DATA);
    for missing in [
        "_http._udp.dual",
        "_gone._tcp.dual",
        "http._tcp.dual",
        "_sctp.dual",
        "_http._tcp.alias",
        "_http._tcp.nobody",
    ] {
        check(&format!("{missing}.n.svc.cluster.local"), SRV, NO_SUCH_NAME);
    }
}

#[test]
fn reverse_names() {
    use RecordType::{A, PTR};
    check("1.0.96.10.in-addr.arpa", PTR, &["PTR kubernetes.default.svc.cluster.local."]);
    check("5.0.244.10.in-addr.arpa", PTR, &["PTR web-0.headless.n.svc.cluster.local."]);
    check("5.0.244.10.in-addr.arpa", A, NO_DATA);
    check("7.0.244.10.in-addr.arpa", PTR, NO_SUCH_NAME);
    check("99.0.96.10.in-addr.arpa", PTR, NO_SUCH_NAME);
    check("8.8.8.8.in-addr.arpa", PTR, &["foreign"]);
    check("244.10.in-addr.arpa", PTR, &["foreign"]);
    check("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.0.0.0.0.d.f.ip6.arpa", PTR, &["foreign"]);
    check(
        "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa",
        PTR,
        &["PTR dual.n.svc.cluster.local."],
    );
}

#[test]
fn the_tree_around_them() {
    use RecordType::{A, NS, SOA, TXT};
    check("dns-version.cluster.local", TXT, &["TXT 1.1.0"]);
    check("cluster.local", NS, &["NS ns.dns.cluster.local."]);
    check("cluster.local", SOA, &["SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"]);
    for exists in ["cluster.local", "svc.cluster.local", "n.svc.cluster.local", "pod.cluster.local"] {
        check(exists, A, NO_DATA);
    }
    check("10-244-0-9.n.pod.cluster.local", A, &["A 10.244.0.9"]);
    for missing in
        ["other.cluster.local", "m.svc.cluster.local", "x.n.pod.cluster.local", "a.b.c.d.e.svc.cluster.local"]
    {
        check(missing, A, NO_SUCH_NAME);
    }
    for foreign in ["example.org", "local", "xcluster.local", "."] {
        check(foreign, A, &["foreign"]);
    }
}

/// Answers follow the stores; there is nothing to refresh.
#[test]
fn changes_show_at_once() {
    let zone = zone();
    let name = Name::from_str("headless.n.svc.cluster.local.").unwrap();
    let question = Question { name, kind: RecordType::A };
    let none: Value = json!([]);
    zone.slices.put(slice("n", "headless", "IPv4", json!([]), none));
    assert!(matches!(answer(&zone, &question), Answer::NoSuchName(_)));
}
