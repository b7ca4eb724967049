//! Services as clients meet them: from the host and from pods, by address and by name.

use std::collections::BTreeSet;
use std::process::Command;

use super::application::{deploy, pods};
use super::cluster::{Cluster, Said, eventually, run, step};

/// A pod of another namespace to ask from.
const CLIENT: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: guest}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: guest}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: client, image: "e2e.local/busybox:1", command: [sleep, "100000"]}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: shop}
spec:
  clusterIP: None
  selector: {app: web}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
"#;

fn ask(url: &str) -> Said {
    run(Command::new("curl").args(["-sS", "-f", "--noproxy", "*", "--max-time", "10", url]), "")
}

/// Who answers when the host asks often.
#[track_caller]
fn answers(url: &str) -> BTreeSet<String> {
    (0..40).map(|_| ask(url).ok().out.trim().to_owned()).collect()
}

/// Who answers when a pod asks often.
#[track_caller]
fn answers_in(c: &Cluster, namespace: &str, pod: &str, url: &str) -> BTreeSet<String> {
    let script = format!("for i in $(seq 40); do curl -sS -f --max-time 10 {url} || exit 1; done");
    c.sh(namespace, pod, &script).ok().out.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn network() {
    let Some(c) = Cluster::start() else { return };
    deploy(&c);
    c.apply(CLIENT);
    c.kubectl(&["wait", "-n", "guest", "pod/client", "--for=condition=Ready", "--timeout=110s"]).ok();
    let everyone: BTreeSet<String> = pods(&c).into_iter().collect();
    assert_eq!(everyone.len(), 3);
    let field = |object: &str, path: &str| c.field("shop", object, path).ok().out;
    let ip = field("svc/web", "{.spec.clusterIP}");
    let node_port = field("svc/web", "{.spec.ports[0].nodePort}");
    let node =
        c.words("shop", "nodes", "{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}").remove(0);

    step("the cluster IP, from the host");
    eventually("the cluster IP answers", || ask(&format!("http://{ip}/")).done());
    assert_eq!(answers(&format!("http://{ip}/")), everyone, "not spread over the replicas");
    step("the node port, from the host");
    assert_eq!(answers(&format!("http://{node}:{node_port}/")), everyone);

    step("from a pod, by address and by name");
    let first = everyone.iter().next().unwrap();
    for (namespace, pod, url) in [
        ("guest", "client", format!("http://{ip}/")),
        ("guest", "client", format!("http://{node}:{node_port}/")),
        ("guest", "client", "http://web.shop/".to_owned()),
        ("guest", "client", "http://web.shop.svc/".to_owned()),
        ("guest", "client", "http://web.shop.svc.cluster.local/".to_owned()),
        // A replica asks its own Service, and is sometimes sent to itself.
        ("shop", first, "http://web/".to_owned()),
    ] {
        eprintln!("    {url} from {namespace}/{pod}");
        assert_eq!(answers_in(&c, namespace, pod, &url), everyone, "{url} from {namespace}/{pod}");
    }

    step("pods reach each other, and the API server by its name");
    for pod in &everyone {
        let address = field(&format!("pod/{pod}"), "{.status.podIP}");
        let said = c.sh("guest", "client", &format!("curl -sS -f --max-time 10 http://{address}:8080/")).ok();
        assert_eq!(said.out.trim(), pod);
        assert_eq!(ask(&format!("http://{address}:8080/")).ok().out.trim(), pod);
    }
    let health = "curl -sS -f --max-time 10 -k https://kubernetes.default/readyz";
    eventually("the API server answers in a pod", || c.sh("guest", "client", health).is("ok"));

    step("a headless Service's name is its pods' addresses");
    let addresses = c.words("shop", "pods -l app=web", "{.items[*].status.podIP}");
    eventually("nslookup finds all pods", || {
        let said = c.sh("guest", "client", "nslookup peers.shop.svc.cluster.local");
        let found = addresses.iter().all(|address| said.out.contains(address.as_str()));
        if said.code == 0 && found { Ok(()) } else { Err(said) }
    });
    step("a name that is not there is not found");
    let said = c.sh("guest", "client", "nslookup none.shop.svc.cluster.local").fails();
    assert!(said.out.contains("NXDOMAIN") || said.err.contains("NXDOMAIN"), "{said}");

    step("a Service without endpoints refuses");
    let nobody = field("svc/nobody", "{.spec.clusterIP}");
    // curl's 7: could not connect. 28 would be a timeout.
    eventually("the connection is refused", || match ask(&format!("http://{nobody}/")) {
        said if said.code == 7 => Ok(()),
        said => Err(said),
    });

    step("an unready pod leaves");
    c.sh("shop", first, "mv /www/index.html /www/away").ok();
    c.until_field(
        "shop",
        &format!("pod/{first}"),
        "{.status.conditions[?(@.type==\"Ready\")].status}",
        "False",
    );
    let others: BTreeSet<String> = everyone.iter().filter(|pod| *pod != first).cloned().collect();
    eventually("only the others answer", || {
        let got: Vec<Said> = (0..30).map(|_| ask(&format!("http://{ip}/"))).collect();
        match got.iter().find(|said| said.code != 0 || !others.contains(said.out.trim())) {
            None => Ok(()),
            Some(wrong) => Err(wrong.to_string()),
        }
    });
    assert_eq!(answers(&format!("http://{ip}/")), others);
    let slices =
        ["get", "endpointslices", "-n", "shop", "-l", "kubernetes.io/service-name=web", "-o", "json"];
    let slices = c.kubectl(&slices).ok().json();
    let mut ready = Vec::new();
    for endpoint in
        slices["items"].as_array().unwrap().iter().flat_map(|s| s["endpoints"].as_array().unwrap())
    {
        let name = endpoint["targetRef"]["name"].as_str().unwrap().to_owned();
        ready.push((name, endpoint["conditions"]["ready"].as_bool().unwrap()));
    }
    ready.sort();
    let expect: Vec<_> = everyone.iter().map(|pod| (pod.clone(), pod != first)).collect();
    assert_eq!(ready, expect);
    step("it comes back");
    c.sh("shop", first, "mv /www/away /www/index.html").ok();
    eventually("all answer again", || match answers(&format!("http://{ip}/")) {
        all if all == everyone => Ok(()),
        some => Err(format!("{some:?}")),
    });

    step("a deleted Service answers no more");
    c.kubectl(&["delete", "service", "web", "-n", "shop"]).ok();
    eventually("nothing answers", || match ask(&format!("http://{node}:{node_port}/")) {
        said if said.code != 0 => Ok(()),
        said => Err(said),
    });
    let said = c.sh("guest", "client", "nslookup web.shop.svc.cluster.local").fails();
    assert!(said.out.contains("NXDOMAIN") || said.err.contains("NXDOMAIN"), "{said}");
}
