//! What a kubelet says it sees (`/stats/summary`) as NodeMetrics and PodMetrics. Pure.

use apimachinery::quantity::{Format, Quantity};
use apimachinery::time;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Over which time kubelets take the average of what is used.
const WINDOW: &str = "10s";

/// The parts of a summary that are looked at; what is missing was not measured.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    node: Usage,
    pods: Vec<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    name: String,
    cpu: Cpu,
    memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cpu {
    time: String,
    usage_nano_cores: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Memory {
    working_set_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pod {
    pod_ref: PodRef,
    containers: Vec<Usage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodRef {
    name: String,
    namespace: String,
}

impl Usage {
    /// When, and how much; `None`: not measured (yet).
    fn measured(&self) -> Option<(String, Value)> {
        let (cpu, memory) = (self.cpu.usage_nano_cores?, self.memory.working_set_bytes?);
        let at = self.cpu.time.parse::<Timestamp>().ok().map(time::format)?;
        let cpu = Quantity::parse(&format!("{cpu}n")).ok()?.canonical();
        let memory = Quantity::new(i64::try_from(memory).ok()?, Format::BinarySI).canonical();
        Some((at, json!({"cpu": cpu, "memory": memory})))
    }
}

fn metadata(of: &Value, now: &str) -> Value {
    let mut metadata = Map::new();
    for key in ["name", "namespace", "labels"] {
        if let Some(value) = of["metadata"].get(key) {
            metadata.insert(key.into(), value.clone());
        }
    }
    metadata.insert("creationTimestamp".into(), now.into());
    Value::Object(metadata)
}

/// A node's NodeMetrics, without kind.
pub fn node(node: &Value, summary: &Summary, now: &str) -> Option<Value> {
    let (at, usage) = summary.node.measured()?;
    Some(json!({"metadata": metadata(node, now), "timestamp": at, "window": WINDOW, "usage": usage}))
}

/// A pod's PodMetrics, without kind; none while nothing of it is measured.
pub fn pod(pod: &Value, summary: &Summary, now: &str) -> Option<Value> {
    let of = &pod["metadata"];
    let found = summary
        .pods
        .iter()
        .find(|p| of["name"] == p.pod_ref.name && of["namespace"] == p.pod_ref.namespace)?;
    let measured = found.containers.iter().filter_map(|c| Some((c.name.as_str(), c.measured()?)));
    let mut measured: Vec<(&str, (String, Value))> = measured.collect();
    measured.sort_by_key(|(name, _)| *name);
    let at = measured.iter().map(|(_, (at, _))| at.clone()).min()?;
    let containers: Vec<Value> =
        measured.into_iter().map(|(name, (_, usage))| json!({"name": name, "usage": usage})).collect();
    Some(json!({"metadata": metadata(pod, now), "timestamp": at, "window": WINDOW, "containers": containers}))
}

/// What an object says is used, of all containers together.
pub fn usage(object: &Value) -> Value {
    if let Some(usage) = object.get("usage") {
        return usage.clone();
    }
    let sum = |resource: &str| {
        let containers = object["containers"].as_array().into_iter().flatten();
        let mut quantities = containers.filter_map(|c| Quantity::from_value(&c["usage"][resource]).ok());
        let first = quantities.next().unwrap_or_else(Quantity::zero);
        quantities
            .fold(first, |mut sum, one| {
                sum.add(&one);
                sum
            })
            .canonical()
    };
    json!({"cpu": sum("cpu"), "memory": sum("memory")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kubelet_says() {
        let used = |cpu: u64, memory: u64| {
            json!({"name": "x", "cpu": {"time": "2026-01-02T03:04:05.678Z", "usageNanoCores": cpu},
                "memory": {"workingSetBytes": memory}})
        };
        let mut two = used(1_500_000_000, 3 << 20);
        two["name"] = "b".into();
        let summary = json!({"node": used(123_456_789, 10 << 30),
        "pods": [
            {"podRef": {"name": "p", "namespace": "n"}, "containers": [two, used(500_000_000, 1000)]},
            {"podRef": {"name": "new", "namespace": "n"}, "containers": [{"name": "c", "cpu": {"time": "x"}}]},
        ]});
        let summary: Summary = serde_json::from_value(summary).unwrap();
        let object = |name: &str| json!({"metadata": {"name": name, "namespace": "n", "labels": {"a": "b"}, "uid": "u"}});
        let got = node(&object("m"), &summary, "now").unwrap();
        assert_eq!(
            got,
            json!({"metadata": {"name": "m", "namespace": "n", "labels": {"a": "b"}, "creationTimestamp": "now"},
                "timestamp": "2026-01-02T03:04:05Z", "window": "10s",
                "usage": {"cpu": "123456789n", "memory": "10Gi"}})
        );
        let got = pod(&object("p"), &summary, "now").unwrap();
        assert_eq!(
            got["containers"],
            json!([{"name": "b", "usage": {"cpu": "1500m", "memory": "3Mi"}},
                {"name": "x", "usage": {"cpu": "500m", "memory": "1k"}}])
        );
        assert_eq!(usage(&got), json!({"cpu": "2", "memory": "3146728"}));
        for absent in ["new", "other"] {
            assert_eq!(pod(&object(absent), &summary, "now"), None, "{absent}");
        }
    }
}
