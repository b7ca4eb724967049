//! The default priority levels and flow schemas (upstream `apis/flowcontrol/bootstrap`), as objects, and what the
//! server says of schemas.

use serde_json::{Value, json};

pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
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

/// The schemas that do not say rightly whether the priority level is there that they name, as they should be.
///
/// # Parameters
/// - `now`: in RFC 3339, for conditions that change
pub fn judged(schemas: &[Value], levels: &[Value], now: &str) -> Vec<Value> {
    const KIND: &str = "Dangling";
    let mut changed = Vec::new();
    for schema in schemas {
        let name = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
        let known = levels.iter().any(|level| level["metadata"]["name"] == name);
        let (status, reason, end) = match known {
            true => ("False", "Found", "it exists"),
            false => ("True", "NotFound", "there is no such object"),
        };
        let what = format!("This FlowSchema references the PriorityLevelConfiguration object named {name:?}");
        let message = format!("{what} {} {end}", if known { "and" } else { "but" });
        let mut conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = conditions.iter().find(|condition| condition["type"] == KIND);
        if said.is_some_and(|said| said["status"] == status && said["message"] == message) {
            continue;
        }
        let since =
            said.filter(|said| said["status"] == status).map(|said| said["lastTransitionTime"].clone());
        conditions.retain(|condition| condition["type"] != KIND);
        conditions.push(json!({"type": KIND, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| now.into())}));
        let mut schema = schema.clone();
        schema["status"] = json!({ "conditions": conditions });
        changed.push(schema);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_say_whether_their_level_is_there() {
        let schemas = [schema("a", "there", 1, "", json!({})), schema("b", "gone", 2, "", json!({}))];
        let levels = [json!({"metadata": {"name": "there"}})];
        let told = judged(&schemas, &levels, "2026-01-01T00:00:00Z");
        let status = |schema: &Value| schema["status"]["conditions"][0]["status"].clone();
        assert_eq!(told.iter().map(status).collect::<Vec<_>>(), ["False", "True"]);
        assert_eq!(judged(&told, &levels, "later"), Vec::<Value>::new());
        // The level comes: only the second has something new to say.
        let levels = [levels[0].clone(), json!({"metadata": {"name": "gone"}})];
        let told = judged(&told, &levels, "2026-01-02T00:00:00Z");
        assert_eq!(told.len(), 1);
        let condition = &told[0]["status"]["conditions"][0];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Found")));
        assert_eq!(condition["lastTransitionTime"], "2026-01-02T00:00:00Z");
    }
}
