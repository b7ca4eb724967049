//! `autoscaling/v1` knows one metric, the use of CPU. All else is in annotations: metrics in a form of their own,
//! the behaviour under the names of upstream's internal type (upstream: `pkg/apis/autoscaling/v1/conversion.go`).

use serde_json::{Map, Value, json};

use crate::check::present;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Of a field in `v1`: its name, where it is in `v2`, and whether it is always written.
type Field = (&'static str, &'static [&'static str], bool);
/// The fields of each type of metric.
type Fields = &'static [(&'static str, &'static [Field])];

const SOURCES: Fields = &[
    (
        "object",
        &[
            ("target", &["describedObject"], true),
            ("metricName", &["metric", "name"], true),
            ("selector", &["metric", "selector"], false),
            ("targetValue", &["target", "value"], true),
            ("averageValue", &["target", "averageValue"], false),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"], true),
            ("selector", &["metric", "selector"], false),
            ("targetAverageValue", &["target", "averageValue"], true),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"], true),
            ("targetAverageUtilization", &["target", "averageUtilization"], false),
            ("targetAverageValue", &["target", "averageValue"], false),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"], true),
            ("container", &["container"], true),
            ("targetAverageUtilization", &["target", "averageUtilization"], false),
            ("targetAverageValue", &["target", "averageValue"], false),
        ],
    ),
    (
        "external",
        &[
            ("metricName", &["metric", "name"], true),
            ("metricSelector", &["metric", "selector"], false),
            ("targetValue", &["target", "value"], false),
            ("targetAverageValue", &["target", "averageValue"], false),
        ],
    ),
];

const STATUSES: Fields = &[
    (
        "object",
        &[
            ("target", &["describedObject"], true),
            ("metricName", &["metric", "name"], true),
            ("selector", &["metric", "selector"], false),
            ("currentValue", &["current", "value"], true),
            ("averageValue", &["current", "averageValue"], false),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"], true),
            ("selector", &["metric", "selector"], false),
            ("currentAverageValue", &["current", "averageValue"], true),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"], true),
            ("currentAverageUtilization", &["current", "averageUtilization"], false),
            ("currentAverageValue", &["current", "averageValue"], true),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"], true),
            ("container", &["container"], true),
            ("currentAverageUtilization", &["current", "averageUtilization"], false),
            ("currentAverageValue", &["current", "averageValue"], true),
        ],
    ),
    (
        "external",
        &[
            ("metricName", &["metric", "name"], true),
            ("metricSelector", &["metric", "selector"], false),
            ("currentValue", &["current", "value"], true),
            ("currentAverageValue", &["current", "averageValue"], false),
        ],
    ),
];

/// Rewrites an object of `v2` as one of `v1`; `apiVersion` is left to the caller.
pub fn to_v1(object: &mut Value) {
    drop_annotations(object);
    let mut annotations = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let (cpu, others): (Vec<Value>, Vec<Value>) =
            list(spec.remove("metrics")).into_iter().partition(is_cpu_target);
        if let Some(metric) = cpu.first() {
            let percent = metric["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
        }
        note(&mut annotations, METRICS, metrics_to_v1(&others, SOURCES));
        let behavior = spec.remove("behavior").filter(|behavior| !behavior.is_null());
        note(
            &mut annotations,
            BEHAVIOR,
            behavior.map(|behavior| behavior_names(&behavior, str::to_ascii_uppercase)),
        );
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let current = list(status.remove("currentMetrics"));
        let mut cpu = current.iter().filter(|metric| is_cpu(metric));
        let percent = cpu.find_map(|metric| present(&metric["resource"]["current"], "averageUtilization"));
        if let Some(percent) = percent {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percent.clone());
        }
        note(&mut annotations, CURRENT, metrics_to_v1(&current, STATUSES));
        let conditions = list(status.remove("conditions"));
        note(&mut annotations, CONDITIONS, (!conditions.is_empty()).then(|| conditions.into()));
    }
    for (key, text) in annotations {
        object["metadata"]["annotations"][key] = text;
    }
}

/// Rewrites an object of `v1` as one of `v2`; `apiVersion` is left to the caller.
pub fn to_v2(object: &mut Value) {
    let read = |key: &str| -> Option<Value> {
        serde_json::from_str(object["metadata"]["annotations"][key].as_str()?).ok()
    };
    let (metrics, current, behavior) = (read(METRICS), read(CURRENT), read(BEHAVIOR));
    let conditions = list(read(CONDITIONS));
    drop_annotations(object);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut all: Vec<Value> = list(metrics).iter().map(|metric| metric_to_v2(metric, SOURCES)).collect();
        let percent = spec.remove("targetCPUUtilizationPercentage").filter(Value::is_number);
        // Upstream puts the default here too, since only here all metrics are known.
        if let Some(percent) = percent.or_else(|| all.is_empty().then(|| json!(80))) {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        spec.insert("metrics".to_owned(), all.into());
        let behavior = behavior.filter(|b| b.as_object().is_some_and(|b| b.values().any(Value::is_object)));
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), behavior_names(&behavior, str::to_ascii_lowercase));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let percent = status.remove("currentCPUUtilizationPercentage").filter(Value::is_number);
        let mut all: Vec<Value> = list(current).iter().map(|metric| metric_to_v2(metric, STATUSES)).collect();
        if let Some(percent) = percent
            && all.is_empty()
        {
            let current = json!({"averageUtilization": percent});
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": current}}));
        }
        if !all.is_empty() {
            status.insert("currentMetrics".to_owned(), all.into());
        }
        if !conditions.is_empty() {
            status.insert("conditions".to_owned(), conditions.into());
        }
    }
}

/// Takes the annotations away in which `v1` says what it has no fields for.
pub fn drop_annotations(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    for key in [METRICS, CURRENT, CONDITIONS, BEHAVIOR] {
        annotations.remove(key);
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn is_cpu_target(metric: &Value) -> bool {
    is_cpu(metric) && metric["resource"]["target"]["averageUtilization"].is_number()
}

fn metrics_to_v1(metrics: &[Value], fields: Fields) -> Option<Value> {
    (!metrics.is_empty()).then(|| metrics.iter().map(|metric| metric_to_v1(metric, fields)).collect())
}

fn metric_to_v1(metric: &Value, fields: Fields) -> Value {
    let mut out = json!({"type": metric["type"]});
    for (source, fields) in fields {
        let Some(from) = present(metric, source) else { continue };
        for (name, path, always) in *fields {
            let value = path.iter().fold(from, |at, key| &at[*key]);
            match value {
                // What is always there are texts and quantities.
                Value::Null if *always => {
                    out[source][name] = if name.ends_with("Value") { "0".into() } else { "".into() };
                }
                Value::Null => {}
                value => out[source][name] = value.clone(),
            }
        }
    }
    out
}

fn metric_to_v2(metric: &Value, fields: Fields) -> Value {
    let mut out = json!({"type": metric["type"]});
    for (source, fields) in fields {
        let Some(from) = present(metric, source) else { continue };
        let to = &mut out[source];
        *to = json!({});
        for (name, path, _) in *fields {
            if let Some(value) = present(from, name) {
                *path.iter().fold(&mut *to, |at, key| &mut at[*key]) = value.clone();
            }
        }
        if fields.iter().any(|(_, path, _)| path.first() == Some(&"target")) {
            target_type(source, to);
        }
    }
    out
}

/// The type of a target follows from what it sets.
fn target_type(source: &str, to: &mut Value) {
    let target = &mut to["target"];
    let has = |field: &str| present(target, field).is_some();
    let (value, average) = (has("value"), has("averageValue"));
    let kind = match source {
        "object" if !average => "Value",
        "external" if value => "Value",
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        _ => "AverageValue",
    };
    // A value of zero beside an average stands for none.
    if source == "object" && average && target["value"] == "0" {
        target.as_object_mut().map(|target| target.remove("value"));
    }
    target["type"] = kind.into();
}

/// The behaviour with the first letter of each name changed: `scaleUp`, `ScaleUp`.
fn behavior_names(value: &Value, letter: fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let renamed = fields.map(|(name, value)| {
                let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
                (format!("{}{rest}", letter(first)), behavior_names(value, letter))
            });
            Value::Object(renamed.collect())
        }
        Value::Array(items) => items.iter().map(|item| behavior_names(item, letter)).collect(),
        other => other.clone(),
    }
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
