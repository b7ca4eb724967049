//! Service rules and the pods' bridge, in network namespaces.

use linux::netlink::Netlink;
use linux::nftables::{self, Family};
use linux::sysctl;
use network::proxy::{self, Check, Config, Node, NodePortAddresses, Tables, plan};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::world::{self, Answers, World, ask, ask_udp, root_or_skip, service, slice};

const VIP: &str = "10.96.0.9:80";
const UDP_VIP: &str = "10.96.0.9:53";

fn spec() -> serde_json::Value {
    json!({
        "type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
        "ports": [
            {"name": "http", "port": 80, "nodePort": 30080},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
    })
}

fn config(world: &World) -> Config {
    Config {
        table: "corten-test".into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        bridge: Some(world.network.bridge.clone()),
        foreign_interfaces: Some("crt*".into()),
        min_sync_period: Duration::ZERO,
        ..Config::new("here")
    }
}

fn node(world: &World) -> Node {
    Node { pod_cidrs: world.network.pod_cidrs.clone(), addresses: Vec::new() }
}

/// Asks often enough that an even spread over two leaves one out only once in 10^12 runs.
fn all_answers(mut ask: impl FnMut() -> std::io::Result<String>) -> BTreeSet<String> {
    (0..40).map(|_| ask().unwrap()).collect()
}

#[test]
fn services_reach_pods() {
    if !root_or_skip("Services on a real kernel") {
        return;
    }
    let world = World::new(3);
    let (host, pods) = (&world.host, &world.pods);
    let both = BTreeSet::from(["pod0".to_owned(), "pod1".to_owned()]);
    let endpoints = |which: &[usize]| {
        let addresses: Vec<_> = which.iter().map(|i| pods[*i].address.to_string()).collect();
        let ports = proxy::observe(&[service("n", "web", spec())], &[slice("n", "web", &addresses)], "here");
        plan(&config(&world), &node(&world), &ports)
    };
    let mut tables = Tables::new();
    host.run_async(async || {
        sysctl::ensure(&format!("net/ipv4/conf/{}/route_localnet", world.network.bridge), "1").unwrap();
        assert!(tables.sync(endpoints(&[0, 1])).await.unwrap());
        // The same again issues no transaction.
        let generation = nftables::generation().unwrap();
        assert!(!tables.sync(endpoints(&[0, 1])).await.unwrap());
        assert_eq!(tables.check().await.unwrap(), Check::Unchanged);
        assert_eq!(nftables::generation().unwrap(), generation);
    })
    .unwrap();

    let everywhere = [
        (host, VIP, "cluster IP from the host"),
        (&pods[2].namespace, VIP, "cluster IP from another pod"),
        (&pods[0].namespace, VIP, "cluster IP from an endpoint (also itself)"),
        (host, "10.244.3.1:30080", "node port from the host"),
        (host, "127.0.0.1:30080", "node port on loopback"),
        (&pods[2].namespace, "10.244.3.1:30080", "node port from a pod"),
    ];
    for (from, to, what) in everywhere {
        assert_eq!(all_answers(|| ask(from, to)), both, "{what}");
    }
    assert_eq!(all_answers(|| ask_udp(&pods[2].namespace, UDP_VIP)), both);
    assert_eq!(all_answers(|| ask_udp(host, UDP_VIP)), both);

    // A port that the Service does not have, and an address that no Service has.
    for from in [host, &pods[2].namespace] {
        assert_eq!(ask(from, "10.96.0.9:81").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(ask(host, "10.96.7.7:80").unwrap_err().kind(), ErrorKind::TimedOut);

    // Loopback services of the node are not opened to pods by what node ports on loopback need.
    let door = Answers::serve(host, "127.0.0.1:0", "host");
    assert_eq!(ask(host, &door.to_string()).unwrap(), "host");
    assert!(ask_via_gateway(&world, &door.to_string()).is_err());

    // One endpoint leaves.
    assert!(host.run_async(async || tables.sync(endpoints(&[1])).await.unwrap()).unwrap());
    for (from, to, what) in everywhere {
        assert_eq!(all_answers(|| ask(from, to)), BTreeSet::from(["pod1".to_owned()]), "{what}");
    }
    // The last one leaves: refused at once.
    assert!(host.run_async(async || tables.sync(endpoints(&[])).await.unwrap()).unwrap());
    for (from, to, what) in everywhere {
        assert_eq!(ask(from, to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{what}");
    }
    host.run_async(async || {
        assert!(tables.has_retired());
        tables.sweep().await.unwrap();
        assert_eq!(tables.check().await.unwrap(), Check::Unchanged);
        let table = nftables::list_table(Family::Ip, "corten-test").await.unwrap().unwrap();
        assert!(!table.chains.keys().any(|c| c.contains('/')), "{:?}", table.chains);
    })
    .unwrap();
}

/// A pod sends to a loopback address with the node as its gateway.
fn ask_via_gateway(world: &World, to: &str) -> std::io::Result<String> {
    let pod = &world.pods[0].namespace;
    pod.run(|| {
        sysctl::ensure("net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        let moved =
            std::process::Command::new("ip").args(["addr", "del", "127.0.0.1/8", "dev", "lo"]).status();
        let route = ["route", "add", "table", "local", "127.0.0.0/8", "via", "10.244.3.1", "dev", "eth0"];
        let routed = std::process::Command::new("ip").args(route).status();
        assert!(moved.unwrap().success() && routed.unwrap().success());
    })
    .unwrap();
    ask(pod, to)
}

#[test]
fn damage_is_noticed_and_repaired() {
    if !root_or_skip("repairing nftables tables") {
        return;
    }
    let world = World::new(1);
    let address = world.pods[0].address.to_string();
    let ports = proxy::observe(&[service("n", "web", spec())], &[slice("n", "web", &[address])], "here");
    let wanted = || plan(&config(&world), &node(&world), &ports);
    let host = &world.host;
    let mut tables = Tables::new();
    host.run_async(async || tables.sync(wanted()).await.unwrap()).unwrap();
    for damage in [
        "flush chain ip corten-test cluster/n/web/tcp/80",
        "delete element ip corten-test service-ips { 10.96.0.9 . tcp . 80 }",
        "add rule ip corten-test services drop",
        "delete table ip corten-test",
        "flush ruleset",
    ] {
        host.run_async(async || {
            nftables::apply(damage).await.unwrap();
            assert_eq!(tables.check().await.unwrap(), Check::Damaged, "{damage}");
            assert!(tables.sync(wanted()).await.unwrap());
            assert_eq!(tables.check().await.unwrap(), Check::Unchanged);
        })
        .unwrap();
        assert_eq!(ask(host, VIP).unwrap(), "pod0", "{damage}");
    }
    // Other people's tables are no damage, and stay.
    host.run_async(async || {
        nftables::apply("add table ip other").await.unwrap();
        assert_eq!(tables.check().await.unwrap(), Check::Intact);
        // A proxy that starts anew knows nothing and replaces its own table only.
        assert!(Tables::new().sync(wanted()).await.unwrap());
        // A small change on top of a deletion that nobody noticed.
        nftables::apply("delete table ip corten-test").await.unwrap();
        let fewer = plan(&config(&world), &node(&world), &[]);
        assert!(tables.sync(fewer).await.unwrap());
        proxy::cleanup(&config(&world)).await.unwrap();
        let left = nftables::list_tables().await.unwrap();
        assert_eq!(left, BTreeSet::from([("ip".to_owned(), "other".to_owned())]));
    })
    .unwrap();
}

/// Every sort of rule that there is, in both families: the kernel takes it and lists it as we know it.
#[test]
fn every_rule_is_accepted() {
    if !root_or_skip("rules of both families") {
        return;
    }
    let host = linux::netns::Namespace::new().unwrap();
    let spec = |policy: &str| {
        json!({
            "type": "LoadBalancer", "clusterIPs": ["10.96.0.9", "fd00:96::9"],
            "ports": [
                {"name": "http", "port": 80, "nodePort": 30080},
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "sctp", "port": 9, "protocol": "SCTP", "nodePort": 30009},
            ],
            "externalIPs": ["203.0.113.7", "2001:db8::7"],
            "externalTrafficPolicy": policy, "internalTrafficPolicy": policy,
            "loadBalancerSourceRanges": ["198.51.100.0/24", "192.0.2.0/28", "2001:db8:1::/48"],
        })
    };
    let ports = |policy: &str, v4: &[&str], v6: &[&str]| {
        let mut service = (*service("n", &"w".repeat(63), spec(policy))).clone();
        service.metadata.namespace = Some("n".repeat(63));
        let status = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"ip": "2001:db8::1"}]}});
        service.status = Some(serde_json::from_value(status).unwrap());
        let slices = [("IPv4", v4), ("IPv6", v6)].map(|(family, addresses)| {
            let addresses: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
            let mut slice = (*slice(&"n".repeat(63), &"w".repeat(63), &addresses)).clone();
            slice.address_type = family.to_owned();
            Arc::new(slice)
        });
        proxy::observe(&[service.into()], &slices, "here")
    };
    let base = Config {
        ipv6: true,
        cluster_cidrs: ["10.244.0.0/16", "fd00:244::/48"].map(|c| c.parse().unwrap()).to_vec(),
        service_cidrs: ["10.96.0.0/16", "fd00:96::/112"].map(|c| c.parse().unwrap()).to_vec(),
        bridge: Some("crt0".into()),
        foreign_interfaces: Some("crt*".into()),
        ..Config::new("here")
    };
    let node = Node {
        pod_cidrs: ["10.244.3.0/24", "fd00:244:0:3::/64"].map(|c| c.parse().unwrap()).to_vec(),
        addresses: ["192.0.2.2", "2001:db8::2"].map(|a| a.parse().unwrap()).to_vec(),
    };
    let (v4, v6) = (["10.244.3.5", "10.244.3.6"], ["fd00:244:0:3::5", "fd00:244:0:3::6"]);
    let mut tables = Tables::new();
    for config in [
        base.clone(),
        Config { masquerade_all: true, node_ports: NodePortAddresses::Primary, ..base.clone() },
        Config { loopback_node_ports: false, bridge: None, ..base.clone() },
    ] {
        for ports in [
            ports("Cluster", &v4, &v6),
            ports("Local", &v4, &v6),
            ports("Local", &v4[..1], &[]),
            ports("Cluster", &[], &v6[..1]),
            vec![],
        ] {
            let wanted = plan(&config, &node, &ports);
            host.run_async(async || {
                tables.sync(wanted.clone()).await.unwrap();
                // Forgetting the generation makes it read everything back.
                nftables::apply("add table ip other\n").await.unwrap();
                assert_eq!(tables.check().await.unwrap(), Check::Intact);
                let mut fresh = Tables::new();
                fresh.sync(wanted).await.unwrap();
                nftables::apply("delete table ip other\n").await.unwrap();
                assert_eq!(fresh.check().await.unwrap(), Check::Intact);
                tables = fresh;
            })
            .unwrap();
        }
    }
}

#[test]
fn two_clusters_side_by_side() {
    if !root_or_skip("two proxies on one kernel") {
        return;
    }
    let world = World::new(2);
    let ports = |cluster_ip: &str, pod: usize| {
        let mut spec = spec();
        spec["clusterIP"] = json!(cluster_ip);
        spec["clusterIPs"] = json!([cluster_ip]);
        spec["ports"][0]["nodePort"] = json!(30080 + pod);
        let address = world.pods[pod].address.to_string();
        proxy::observe(&[service("n", "web", spec)], &[slice("n", "web", &[address])], "here")
    };
    let ours = config(&world);
    let theirs = Config {
        table: "corten-other".into(),
        service_cidrs: vec!["10.112.0.0/16".parse().unwrap()],
        node_ports: NodePortAddresses::Within(vec!["10.244.3.0/24".parse().unwrap()]),
        ..ours.clone()
    };
    world
        .host
        .run_async(async || {
            let (mut a, mut b) = (Tables::new(), Tables::new());
            a.sync(plan(&ours, &node(&world), &ports("10.96.0.9", 0))).await.unwrap();
            b.sync(plan(&theirs, &node(&world), &ports("10.112.0.9", 1))).await.unwrap();
            assert_eq!(
                (a.check().await.unwrap(), b.check().await.unwrap()),
                (Check::Intact, Check::Unchanged)
            );
        })
        .unwrap();
    for (to, who) in
        [(VIP, "pod0"), ("10.112.0.9:80", "pod1"), ("10.244.3.1:30080", "pod0"), ("10.244.3.1:30081", "pod1")]
    {
        assert_eq!(ask(&world.host, to).unwrap(), who, "{to}");
    }
}

#[test]
fn setup_twice_and_cleanup() {
    if !root_or_skip("the pods' bridge") {
        return;
    }
    let world = World::new(1);
    world
        .host
        .run_async(async || {
            // A firewall that forbids forwarding, as docker leaves it.
            nftables::apply(
                "add table ip filter\nadd chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }\n",
            )
            .await
            .unwrap();
            for _ in 0..2 {
                let done = network::cni::setup(&world.network).await.unwrap();
                assert_eq!(done.warnings, Vec::<String>::new());
                assert_eq!(done.gateways, ["10.244.3.1".parse::<std::net::IpAddr>().unwrap()]);
            }
            let filter = nftables::list_table(Family::Ip, "filter").await.unwrap().unwrap();
            assert_eq!(filter.chains["FORWARD"], 2);
            let bridge = Netlink::connect().unwrap().expect_link(&world.network.bridge).await.unwrap();
            assert_eq!(bridge.mac, [0x0a, 0x58, 10, 244, 3, 1]);
            network::cni::cleanup(&world.network).await.unwrap();
            network::cni::cleanup(&world.network).await.unwrap();
            assert_eq!(Netlink::connect().unwrap().link(&world.network.bridge).await.unwrap(), None);
            let filter = nftables::list_table(Family::Ip, "filter").await.unwrap().unwrap();
            assert_eq!(filter.chains["FORWARD"], 0);
        })
        .unwrap();
    assert!(!world.network.conf_dir.join("10-corten.conflist").exists());
}

/// The whole proxy, from objects in an API server to packets.
#[test]
fn proxy_follows_the_api() {
    if !root_or_skip("a running proxy") {
        return;
    }
    let world = World::new(2);
    let (host, pods) = (&world.host, &world.pods);
    let addresses: Vec<String> = pods.iter().map(|p| p.address.to_string()).collect();
    host.run_async(async || {
        let api = world::Api::default();
        api.set("nodes", &json!({"metadata": {"name": "here"}, "spec": {"podCIDR": "10.244.3.0/24"}}));
        api.set("services", &*service("n", "web", spec()));
        api.set("endpointslices", &*slice("n", "web", &addresses[..1]));
        let entropy = Arc::new(linux::time::SystemEntropy::new());
        let informers = client::SharedInformers::new(api.client(), entropy.clone());
        let proxy = proxy::Proxy::build(config(&world), &informers, entropy);
        let handle = proxy.handle();
        assert!(!handle.health().healthy);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(proxy.run(shutdown.clone()));
        let until = async |what: &str, ask: &dyn Fn() -> Option<String>, want: Option<&str>| {
            for _ in 0..50 {
                if ask().as_deref() == want {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{what}: {:?} instead of {want:?}", ask());
        };
        let http = || ask(host, VIP).ok();
        // One socket, so one UDP flow: it must not stick to an endpoint that is gone.
        let socket = std::net::UdpSocket::bind("10.244.3.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let udp = || {
            socket.send_to(b"who", UDP_VIP).ok()?;
            let mut buffer = [0; 32];
            let (n, _) = socket.recv_from(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
        };
        until("first endpoint", &http, Some("pod0")).await;
        until("first endpoint, UDP", &udp, Some("pod0")).await;
        until("health", &|| handle.health().healthy.then(String::new), Some("")).await;
        assert!(handle.has_synced());
        api.set("endpointslices", &*slice("n", "web", &addresses[1..]));
        until("second endpoint", &http, Some("pod1")).await;
        until("second endpoint, UDP", &udp, Some("pod1")).await;
        // An update that changes no rule makes no transaction: one per change of endpoint, one for the end.
        api.set("endpointslices", &*slice("n", "web", &addresses[1..]));
        api.remove("services", "n", "web");
        until("no service", &http, None).await;
        shutdown.cancel();
        running.await.unwrap();
        assert_eq!(handle.transactions(), 3);
        assert!(handle.metrics().contains("kubeproxy_sync_proxy_rules_service_ports 0\n"));
    })
    .unwrap();
}

/// A pod asks the cluster's DNS under its cluster IP, as every pod does.
#[test]
fn names_through_the_service() {
    if !root_or_skip("DNS through its Service") {
        return;
    }
    let world = World::new(1);
    world
        .host
        .run_async(async || {
            let api = world::Api::default();
            let entropy = Arc::new(linux::time::SystemEntropy::new());
            let informers = client::SharedInformers::new(api.client(), entropy.clone());
            let listen = network::dns::Config::new(vec!["10.244.3.1:0".parse().unwrap()]);
            let server = network::dns::Server::build(listen, &informers, entropy.clone()).await.unwrap();
            let cluster_ip = "10.96.0.10".parse().unwrap();
            let (service, slice) = network::dns::service_objects(cluster_ip, server.addresses()[0]);
            api.set("services", &service);
            api.set("endpointslices", &slice);
            let proxy = proxy::Proxy::build(config(&world), &informers, entropy);
            let handle = proxy.handle();
            let shutdown = CancellationToken::new();
            let running =
                [tokio::spawn(proxy.run(shutdown.clone())), tokio::spawn(server.run(shutdown.clone()))];
            while !handle.has_synced() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Kept on its own thread: the name server needs this one.
            let pod = world.pods[0].namespace.try_clone().unwrap();
            let (send, answered) = tokio::sync::oneshot::channel();
            let asking = std::thread::Builder::new()
                .spawn(move || {
                    send.send(
                        pod.run(|| {
                            world::look_up("10.96.0.10:53", "kube-dns.kube-system.svc.cluster.local.")
                        })
                        .unwrap(),
                    )
                })
                .unwrap();
            let found = answered.await.unwrap();
            asking.join().unwrap().unwrap();
            assert_eq!(found, ["10.96.0.10", "10.96.0.10"], "over UDP and over TCP");
            shutdown.cancel();
            for task in running {
                task.await.unwrap();
            }
        })
        .unwrap();
}
