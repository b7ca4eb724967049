//! What a node's state should be said to be, and which taints follow from it.

use api::core::v1::{Node, NodeCondition, NodeStatus, Taint};
use api::meta::v1::Time;
use jiff::{SignedDuration, Timestamp};

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, the status that is bad, and the taint that says so.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// The conditions that only the kubelet can speak about.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// When a node was last heard from, by this process's clock: those of nodes are not trusted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Health {
    heartbeat: Option<Time>,
    renewed: Option<Timestamp>,
    /// When either changed.
    pub(super) at: Timestamp,
}

/// A condition of a node.
pub(super) fn condition<'a>(status: Option<&'a NodeStatus>, kind: &str) -> Option<&'a NodeCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The status of condition Ready; `None` if there is no such condition.
pub(super) fn ready(node: &Node) -> Option<&str> {
    condition(node.status.as_ref(), "Ready").map(|condition| condition.status.as_str())
}

/// Takes in what a node and its lease say now.
pub(super) fn observe(
    before: Option<&Health>,
    node: &Node,
    renewed: Option<Timestamp>,
    now: Timestamp,
) -> Health {
    let heartbeat =
        condition(node.status.as_ref(), "Ready").and_then(|ready| ready.last_heartbeat_time.clone());
    match before {
        Some(before) if before.heartbeat == heartbeat && before.renewed >= renewed => before.clone(),
        // One that has never reported is given its startup time from its creation on.
        None if heartbeat.is_none() && renewed.is_none() => {
            let created = node.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
            Health { heartbeat, renewed, at: created }
        }
        _ => Health { heartbeat, renewed, at: now },
    }
}

/// Whether it has been silent for too long.
pub(super) fn is_silent(health: &Health, grace: SignedDuration, now: Timestamp) -> bool {
    now.duration_since(health.at) > grace
}

/// The status of a silent node: what only the kubelet knows is unknown. `None` if it says so already.
pub(super) fn unknown(node: &Node, now: &Time) -> Option<NodeStatus> {
    let mut status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for kind in KUBELET_CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => {
                conditions.push(NodeCondition {
                    type_: kind.into(),
                    status: "Unknown".into(),
                    reason: Some("NodeStatusNeverUpdated".into()),
                    message: Some("Kubelet never posted node status.".into()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(now.clone()),
                });
                changed = true;
            }
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(now.clone());
                changed = true;
            }
            Some(_) => {}
        }
    }
    changed.then_some(status)
}

/// Which NoExecute taints a pass may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Execute {
    /// Leave them as they are.
    Leave,
    /// Take them away: the node is well, or so many are ill that it is more likely the network.
    Remove,
    /// Make them say what Ready says; a taint that is new costs a token of the zone's rate.
    Follow {
        /// A new one may be added.
        may_add: bool,
    },
}

/// The taints as they should be, those of others untouched; `None` if they are so.
pub(super) fn taints(node: &Node, schedule: bool, execute: Execute, now: &Time) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted = current.clone();
    if schedule {
        let mut keys: Vec<&str> = CONDITION_TAINTS
            .iter()
            .filter(|(kind, bad, _)| condition(node.status.as_ref(), kind).is_some_and(|c| c.status == *bad))
            .map(|(_, _, key)| *key)
            .collect();
        if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
            keys.push(UNSCHEDULABLE);
        }
        let managed = |key: &str| key == UNSCHEDULABLE || CONDITION_TAINTS.iter().any(|(_, _, k)| *k == key);
        wanted.retain(|t| t.effect != "NoSchedule" || !managed(&t.key) || keys.contains(&t.key.as_str()));
        for key in keys {
            add(&mut wanted, key, "NoSchedule", now);
        }
    }
    let is_lost =
        |taint: &Taint| taint.effect == "NoExecute" && matches!(taint.key.as_str(), NOT_READY | UNREACHABLE);
    let says = match ready(node) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    match (execute, says) {
        (Execute::Leave, _) => {}
        (Execute::Remove, _) | (Execute::Follow { .. }, None) => wanted.retain(|taint| !is_lost(taint)),
        (Execute::Follow { may_add }, Some(key)) => {
            if may_add || wanted.iter().any(is_lost) {
                wanted.retain(|taint| !is_lost(taint) || taint.key == key);
                add(&mut wanted, key, "NoExecute", now);
            }
        }
    }
    (wanted != current).then_some(wanted)
}

fn add(taints: &mut Vec<Taint>, key: &str, effect: &str, now: &Time) {
    if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
        taints.push(Taint {
            key: key.into(),
            effect: effect.into(),
            time_added: Some(now.clone()),
            value: None,
        });
    }
}

/// Whether a node waits for a NoExecute taint that it does not have in either form.
pub(super) fn wants_new_taint(node: &Node) -> bool {
    let lost = matches!(ready(node), Some("False" | "Unknown"));
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    lost && !taints
        .into_iter()
        .any(|taint| taint.effect == "NoExecute" && matches!(taint.key.as_str(), NOT_READY | UNREACHABLE))
}

/// How a zone fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// Most nodes are well.
    Normal,
    /// More than two nodes and more than 55 % are not.
    Partial,
    /// None is well.
    Full,
}

/// From the numbers of nodes that are ready and not.
pub(super) fn zone(ready: usize, not_ready: usize) -> Zone {
    if ready == 0 && not_ready > 0 {
        return Zone::Full;
    }
    let share = not_ready as f64 / (ready + not_ready).max(1) as f64;
    if not_ready > 2 && share >= 0.55 { Zone::Partial } else { Zone::Normal }
}

/// Region and zone of a node, as one word.
pub(super) fn zone_of(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let region = label("topology.kubernetes.io/region").unwrap_or_default();
    let zone = label("topology.kubernetes.io/zone").unwrap_or_default();
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn time(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn node(ready: &str, heartbeat: i64, extra: Value) -> Node {
        let beat = time(heartbeat).0.to_string();
        let mut value = json!({"metadata": {"name": "n", "creationTimestamp": "1970-01-01T00:00:10Z"}, "spec": {},
            "status": {"conditions": [
                {"type": "Ready", "status": ready, "lastHeartbeatTime": beat},
                {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": beat}]}});
        for (key, entry) in extra.as_object().unwrap() {
            value["spec"][key] = entry.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn silence() {
        let grace = SignedDuration::from_secs(40);
        let at = |second| time(second).0;
        let first = observe(None, &node("True", 5, json!({})), None, at(100));
        assert_eq!(first.at, at(100));
        let same = observe(Some(&first), &node("True", 5, json!({})), None, at(140));
        assert!(!is_silent(&same, grace, at(140)));
        assert!(is_silent(&same, grace, at(141)));
        let leased = observe(Some(&same), &node("True", 5, json!({})), Some(at(130)), at(141));
        assert_eq!(leased.at, at(141));
        let older = observe(Some(&leased), &node("True", 5, json!({})), Some(at(129)), at(150));
        assert_eq!(older.at, at(141));
        let beat = observe(Some(&leased), &node("True", 6, json!({})), Some(at(130)), at(160));
        assert_eq!(beat.at, at(160));
        let bare: Node =
            serde_json::from_value(json!({"metadata": {"creationTimestamp": "1970-01-01T00:00:10Z"}}))
                .unwrap();
        assert_eq!(observe(None, &bare, None, at(100)).at, at(10));
    }

    #[test]
    fn silent_nodes_are_unknown() {
        let status = unknown(&node("True", 5, json!({})), &time(99)).unwrap();
        let text: Vec<_> = status
            .conditions
            .iter()
            .flatten()
            .map(|c| format!("{} {} {}", c.type_, c.status, c.reason.as_deref().unwrap()))
            .collect();
        assert_eq!(
            text,
            [
                "Ready Unknown NodeStatusUnknown",
                "MemoryPressure Unknown NodeStatusUnknown",
                "DiskPressure Unknown NodeStatusNeverUpdated",
                "PIDPressure Unknown NodeStatusNeverUpdated",
            ]
        );
        let again = Node { status: Some(status), ..node("True", 5, json!({})) };
        assert!(unknown(&again, &time(100)).is_none());
    }

    #[test]
    fn taints_follow_conditions() {
        let check = |node: &Node, execute: Execute, expect: Option<&[&str]>| {
            let got = taints(node, true, execute, &time(9));
            let got = got.map(|taints| {
                let short = |key: &str| key.trim_start_matches("node.kubernetes.io/").to_owned();
                taints.iter().map(|t| format!("{}:{}", short(&t.key), t.effect)).collect::<Vec<_>>()
            });
            let expect = expect.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(got, expect);
        };
        let follow = Execute::Follow { may_add: true };
        let tainted = |key: &str, effect: &str| json!({"taints": [{"key": key, "effect": effect}]});
        check(&node("True", 1, json!({})), follow, None);
        check(&node("False", 1, json!({})), follow, Some(&["not-ready:NoSchedule", "not-ready:NoExecute"]));
        check(
            &node("Unknown", 1, json!({})),
            follow,
            Some(&["unreachable:NoSchedule", "unreachable:NoExecute"]),
        );
        check(
            &node("False", 1, json!({})),
            Execute::Follow { may_add: false },
            Some(&["not-ready:NoSchedule"]),
        );
        // From one form to the other at once, whatever the rate.
        check(
            &node("Unknown", 1, tainted(NOT_READY, "NoExecute")),
            Execute::Follow { may_add: false },
            Some(&["unreachable:NoSchedule", "unreachable:NoExecute"]),
        );
        check(&node("True", 1, tainted(UNREACHABLE, "NoExecute")), follow, Some(&[]));
        check(
            &node("Unknown", 1, tainted(UNREACHABLE, "NoExecute")),
            Execute::Remove,
            Some(&["unreachable:NoSchedule"]),
        );
        check(&node("True", 1, tainted("mine", "NoSchedule")), follow, None);
        check(&node("True", 1, json!({"unschedulable": true})), follow, Some(&["unschedulable:NoSchedule"]));
        check(&node("True", 1, tainted(UNSCHEDULABLE, "NoSchedule")), Execute::Leave, Some(&[]));
    }

    #[test]
    fn zones() {
        assert_eq!(zone(0, 0), Zone::Normal);
        assert_eq!(zone(0, 1), Zone::Full);
        assert_eq!(zone(1, 2), Zone::Normal);
        assert_eq!(zone(2, 3), Zone::Partial);
        assert_eq!(zone(3, 3), Zone::Normal);
    }
}
