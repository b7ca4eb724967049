//! `autoscaling/v1` knows one metric, CPU use. The others, the behaviour and the conditions travel in
//! annotations (upstream: `pkg/apis/autoscaling/v1/conversion.go`).

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub fn to_v1(object: &mut Value) {
    let mut annotations = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut others = list(spec.remove("metrics"));
        if let Some(at) =
            others.iter().position(|m| is_cpu(m) && m["resource"]["target"]["averageUtilization"].is_number())
        {
            let cpu = others.remove(at);
            let percent = cpu["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), percent);
        }
        note(&mut annotations, METRICS, (!others.is_empty()).then(|| Value::from(others)));
        note(&mut annotations, BEHAVIOR, spec.remove("behavior").filter(|b| !b.is_null()));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let current = list(status.remove("currentMetrics"));
        let cpu = current.iter().find(|m| is_cpu(m));
        if let Some(percent) =
            cpu.map(|m| m["resource"]["current"]["averageUtilization"].clone()).filter(Value::is_number)
        {
            status.insert("currentCPUUtilizationPercentage".into(), percent);
        }
        note(&mut annotations, CURRENT, (!current.is_empty()).then(|| Value::from(current)));
        let conditions = list(status.remove("conditions"));
        note(&mut annotations, CONDITIONS, (!conditions.is_empty()).then(|| Value::from(conditions)));
    }
    if annotations.is_empty() {
        return;
    }
    let metadata = crate::registry::meta::of(object);
    match metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        Some(own) => own.extend(annotations),
        None => drop(metadata.insert("annotations".into(), annotations.into())),
    }
}

pub fn to_v2(object: &mut Value) {
    let mut take = |key: &str| {
        let annotations = object.pointer_mut("/metadata/annotations")?.as_object_mut()?;
        let text = annotations.remove(key)?;
        serde_json::from_str::<Value>(text.as_str()?).ok()
    };
    let (metrics, current) = (list(take(METRICS)), list(take(CURRENT)));
    let (conditions, behavior) = (list(take(CONDITIONS)), take(BEHAVIOR));
    if object["metadata"]["annotations"].as_object().is_some_and(Map::is_empty) {
        crate::registry::meta::of(object).remove("annotations");
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut all = Vec::new();
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(Value::is_number) {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        all.extend(metrics);
        if !all.is_empty() {
            spec.insert("metrics".into(), all.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let percent = status.remove("currentCPUUtilizationPercentage").filter(Value::is_number);
        let mut all = current;
        if let Some(percent) = percent
            && !all.iter().any(is_cpu)
        {
            let value = json!({"averageUtilization": percent});
            all.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "current": value}}));
        }
        if !all.is_empty() {
            status.insert("currentMetrics".into(), all.into());
        }
        if !conditions.is_empty() {
            status.insert("conditions".into(), conditions.into());
        }
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn note(annotations: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        annotations.insert(key.to_owned(), value.to_string().into());
    }
}
