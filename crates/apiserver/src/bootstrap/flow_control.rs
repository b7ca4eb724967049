//! The default priority levels and flow schemas (upstream `apis/flowcontrol/bootstrap`), as objects. Queues by
//! them are not built yet.

use serde_json::{Value, json};

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Name, shares, lendable percentage, and queues (number, hand size), or none: refuse.
type Level = (&'static str, i64, i64, Option<(i64, i64)>);

const LEVELS: [Level; 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
];

const EVERYBODY: &[&str] = &["system:unauthenticated", "system:authenticated"];

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}})
}

fn level((name, shares, lendable, queues): Level) -> Value {
    let response = match queues {
        None => json!({"type": "Reject"}),
        Some((queues, hand)) => {
            json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}})
        }
    };
    json!({"apiVersion": API_VERSION, "kind": "PriorityLevelConfiguration", "metadata": metadata(name),
        "spec": {"type": "Limited", "limited":
            {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}}})
}

fn groups(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}})
}

fn resources(verbs: &[&str], groups: &[&str], resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// A rule about everything, for these subjects.
fn everything(subjects: Value) -> Value {
    json!({"subjects": subjects, "resourceRules": [resources(&["*"], &["*"], &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
}

fn schema(name: &str, level: &str, precedence: i64, by: &str, rule: Value) -> Value {
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]});
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": by });
    }
    json!({"apiVersion": API_VERSION, "kind": "FlowSchema", "metadata": metadata(name), "spec": spec})
}

/// Levels before the schemas that name them.
pub fn objects() -> Vec<Value> {
    let mut out = vec![json!({"apiVersion": API_VERSION, "kind": "PriorityLevelConfiguration",
        "metadata": metadata("exempt"),
        "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}})];
    out.extend(LEVELS.map(level));
    const USER: &str = "ByUser";
    const NAMESPACE: &str = "ByNamespace";
    let controller_manager = users(&["system:kube-controller-manager"]);
    let scheduler = users(&["system:kube-scheduler"]);
    let mut electing = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    electing.push(accounts());
    let leases = ["coordination.k8s.io"];
    out.extend([
        schema("exempt", "exempt", 1, "", everything(groups(&["system:masters"]))),
        schema(
            "probes",
            "exempt",
            2,
            "",
            json!({"subjects": groups(EVERYBODY),
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            USER,
            json!({"subjects": electing,
                "resourceRules": [resources(&["get", "create", "update"], &leases, &["leases"], false)]}),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            USER,
            json!({"subjects": groups(&["system:nodes"]), "resourceRules": [
                resources(&["*"], &[""], &["nodes", "nodes/status"], true),
                resources(&["*"], &leases, &["leases"], false)]}),
        ),
        schema("system-nodes", "system", 500, USER, everything(groups(&["system:nodes"]))),
        schema("kube-controller-manager", "workload-high", 800, NAMESPACE, everything(controller_manager.into())),
        schema("kube-scheduler", "workload-high", 800, NAMESPACE, everything(scheduler.into())),
        schema("kube-system-service-accounts", "workload-high", 900, NAMESPACE, everything(json!([accounts()]))),
        schema("service-accounts", "workload-low", 9000, USER, everything(groups(&["system:serviceaccounts"]))),
        schema("global-default", "global-default", 9900, USER, everything(groups(EVERYBODY))),
        schema("catch-all", "catch-all", 10000, USER, everything(groups(EVERYBODY))),
    ]);
    out
}
