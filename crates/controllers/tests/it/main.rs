//! Several controllers at once, over an API server in memory and on virtual time.

mod fake;

use std::sync::Arc;
use std::time::Duration;

use apimachinery::clock::{Clock, Entropy};
use controllers::{Config, Controllers};
use fake::Fake;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Virtual(tokio::time::Instant);

impl Clock for Virtual {
    fn now(&self) -> jiff::Timestamp {
        let passed = jiff::SignedDuration::try_from(self.0.elapsed()).unwrap();
        // As old as the fake's objects.
        "2023-11-14T22:13:20Z".parse::<jiff::Timestamp>().unwrap() + passed
    }
}

struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

struct World {
    fake: Fake,
    shutdown: CancellationToken,
    run: tokio::task::JoinHandle<()>,
}

impl World {
    /// Starts all controllers over a cluster with one ready node.
    async fn start() -> World {
        let fake = Fake::default();
        fake.put("namespaces", json!({"metadata": {"name": "n"}}));
        fake.put(
            "nodes",
            json!({"metadata": {"name": "node"}, "spec": {}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": "2023-11-14T22:13:20Z"}]}}),
        );
        let config = Config {
            cluster_cidr: "10.244.0.0/16".into(),
            root_ca: "PEM".into(),
            node_monitor_grace_period: Duration::from_secs(40),
            namespace_deletion_delay: Duration::ZERO,
            ..Config::default()
        };
        let clock = Arc::new(Virtual(tokio::time::Instant::now()));
        let controllers = Controllers::build(config, fake.client(), clock, Arc::new(Zeros)).unwrap();
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(controllers.run(shutdown.clone()));
        let world = World { fake, shutdown, run };
        world.settle().await;
        world
    }

    /// Plays the kubelet and the scheduler until nothing changes any more.
    async fn settle(&self) {
        loop {
            let before = self.fake.log().len();
            tokio::time::sleep(Duration::from_secs(2)).await;
            for pod in self.fake.list("pods") {
                let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
                if pod["spec"]["nodeName"].is_null() {
                    self.fake.edit("pods", "n", &name, |pod| {
                        pod["spec"]["nodeName"] = json!("node");
                        pod["status"] = json!({"phase": "Running", "podIP": "10.244.0.9",
                            "conditions": [{"type": "Ready", "status": "True",
                                "lastTransitionTime": "2023-11-14T22:13:20Z"}]});
                    });
                }
            }
            if self.fake.log().len() == before {
                return;
            }
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.run.await.unwrap();
    }

    fn count(&self, plural: &str) -> usize {
        self.fake.list(plural).len()
    }

    fn deployment(&self) -> Value {
        self.fake.get("deployments", "n", "d").unwrap()
    }

    fn condition(&self, kind: &str) -> String {
        let deployment = self.deployment();
        let conditions = deployment["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        format!("{} {}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
    }
}

fn deployment(replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {"replicas": replicas,
        "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
        "selector": {"matchLabels": {"app": "d"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test(start_paused = true)]
async fn namespaces_and_nodes_get_what_is_theirs() {
    let world = World::start().await;
    assert!(world.fake.get("serviceaccounts", "n", "default").is_some());
    assert_eq!(world.fake.get("configmaps", "n", "kube-root-ca.crt").unwrap()["data"]["ca.crt"], "PEM");
    assert_eq!(world.fake.get("nodes", "", "node").unwrap()["spec"]["podCIDR"], "10.244.0.0/24");
    world.fake.delete("serviceaccounts", "n", "default", json!({}));
    world.settle().await;
    assert!(world.fake.get("serviceaccounts", "n", "default").is_some());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_rolls_scales_and_goes() {
    let world = World::start().await;
    world.fake.put(
        "services",
        json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {
        "selector": {"app": "d"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
        "ports": [{"name": "p", "port": 80, "targetPort": 80, "protocol": "TCP"}]}}),
    );
    world.fake.put("deployments", deployment(3, "one"));
    world.settle().await;
    assert_eq!((world.count("replicasets"), world.count("pods")), (1, 3));
    assert_eq!(world.condition("Available"), "True MinimumReplicasAvailable");
    assert_eq!(world.condition("Progressing"), "True NewReplicaSetAvailable");
    assert_eq!(world.deployment()["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let slices = world.fake.list("endpointslices");
    assert_eq!((slices.len(), slices[0]["endpoints"].as_array().unwrap().len()), (1, 3));
    assert_eq!(world.count("endpoints"), 1);

    world.fake.edit("deployments", "n", "d", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("two");
    });
    world.settle().await;
    assert_eq!((world.count("replicasets"), world.count("pods")), (2, 3));
    assert!(world.fake.list("pods").iter().all(|pod| pod["spec"]["containers"][0]["image"] == "two"));
    assert_eq!(world.deployment()["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert_eq!(world.condition("Progressing"), "True NewReplicaSetAvailable");
    let messages: Vec<_> =
        world.fake.list("events").iter().map(|e| e["message"].as_str().unwrap().to_owned()).collect();
    assert!(
        messages.iter().any(|m| m.starts_with("Scaled up replica set d-") && m.ends_with("from 0 to 1")),
        "{messages:?}"
    );

    world.fake.edit("deployments", "n", "d", |d| d["spec"]["replicas"] = json!(5));
    world.settle().await;
    assert_eq!(world.count("pods"), 5);
    let pod = world.fake.list("pods")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.fake.delete("pods", "n", &pod, json!({}));
    world.settle().await;
    assert_eq!(world.count("pods"), 5);

    world.fake.delete("deployments", "n", "d", json!({"propagationPolicy": "Foreground"}));
    world.settle().await;
    assert_eq!((world.count("deployments"), world.count("replicasets"), world.count("pods")), (0, 0, 0));
    let log = world.fake.log();
    let place = |text: &str| log.iter().rposition(|line| line.starts_with(text)).unwrap();
    assert!(place("delete pods/") < place("patch deployments/"), "the Deployment goes last: {log:#?}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orphans_stay() {
    let world = World::start().await;
    world.fake.put("deployments", deployment(2, "one"));
    world.settle().await;
    world.fake.delete("deployments", "n", "d", json!({"propagationPolicy": "Orphan"}));
    world.settle().await;
    assert_eq!((world.count("deployments"), world.count("replicasets"), world.count("pods")), (0, 1, 2));
    assert!(world.fake.list("replicasets")[0]["metadata"]["ownerReferences"].is_null());
    // A new Deployment of the same template adopts.
    world.fake.put("deployments", deployment(2, "one"));
    world.settle().await;
    assert_eq!((world.count("replicasets"), world.count("pods")), (1, 2));
    assert_eq!(world.fake.list("replicasets")[0]["metadata"]["ownerReferences"][0]["name"], "d");
    world.fake.delete(
        "replicasets",
        "n",
        world.fake.list("replicasets")[0]["metadata"]["name"].as_str().unwrap(),
        json!({}),
    );
    world.fake.delete("deployments", "n", "d", json!({}));
    world.settle().await;
    assert_eq!((world.count("replicasets"), world.count("pods")), (0, 0));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_emptied() {
    let world = World::start().await;
    world.fake.put("deployments", deployment(2, "one"));
    world.settle().await;
    world.fake.delete("namespaces", "", "n", json!({}));
    world.settle().await;
    for plural in ["namespaces", "deployments", "replicasets", "pods", "configmaps", "serviceaccounts"] {
        assert_eq!(world.count(plural), 0, "{plural}: {:#?}", world.fake.log());
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_leave_a_silent_node() {
    let world = World::start().await;
    let node = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {}, "status": {"conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2023-11-14T22:13:20Z"}]}})
    };
    world.fake.put("nodes", node("other"));
    let bears = |seconds: i64| {
        json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": seconds})
    };
    world.fake.put(
        "pods",
        json!({"metadata": {"name": "p", "namespace": "n"},
        "spec": {"nodeName": "node", "tolerations": [bears(300)], "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    let mut seconds = 0;
    let mut first_taint = None;
    while world.count("pods") > 0 && seconds < 1000 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        seconds += 10;
        world.fake.edit("nodes", "", "other", |node| {
            node["status"]["conditions"][0]["lastHeartbeatTime"] =
                json!(format!("2024-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60));
        });
        let taints = world.fake.get("nodes", "", "node").unwrap()["spec"]["taints"].clone();
        if first_taint.is_none()
            && taints.as_array().is_some_and(|t| t.iter().any(|t| t["effect"] == "NoExecute"))
        {
            first_taint = Some(seconds);
        }
    }
    let node = world.fake.get("nodes", "", "node").unwrap();
    assert_eq!(node["status"]["conditions"][0]["reason"], "NodeStatusUnknown");
    assert!((40..=60).contains(&first_taint.unwrap()), "{first_taint:?}");
    assert!((340..=370).contains(&seconds), "{seconds}");
    let other = world.fake.get("nodes", "", "other").unwrap();
    assert!(other["spec"]["taints"].is_null(), "{other}");
    world.stop().await;
}
