//! `autoscaling`

use serde_json::Value;

use super::cell::{created, list, name, number, string, text_or};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "HorizontalPodAutoscaler",
        Columns::new(
            &[
                NAME,
                Column::text("Reference", "What is scaled."),
                Column::text("Targets", "Metrics as they are and as they should be."),
                Column::text("MinPods", "Fewest replicas."),
                Column::text("MaxPods", "Most replicas."),
                Column::text("Replicas", "Replicas there are."),
                AGE,
            ],
            |o, now| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let target = &spec["scaleTargetRef"];
                let reference = format!("{}/{}", string(&target["kind"]), string(&target["name"]));
                let least = spec["minReplicas"].as_i64().map_or("<unset>".to_string(), |n| n.to_string());
                vec![
                    name(o),
                    reference.into(),
                    metrics(spec, status).into(),
                    least.into(),
                    number(&spec["maxReplicas"]).into(),
                    number(&status["currentReplicas"]).into(),
                    created(o, now),
                ]
            },
        ),
    ),
    ("Scale", super::meta::SCALE),
];

fn metrics(spec: &Value, status: &Value) -> String {
    let current = list(&status["currentMetrics"]);
    let mut all: Vec<String> = list(&spec["metrics"])
        .iter()
        .enumerate()
        .map(|(at, metric)| one(metric, current.get(at).unwrap_or(&Value::Null)))
        .collect();
    // version 1 of the kind knows the cpu only
    if let Some(target) = spec["targetCPUUtilizationPercentage"].as_i64() {
        let current = percent(&status["currentCPUUtilizationPercentage"], "<unknown>");
        all.insert(0, format!("cpu: {current}/{target}%"));
    }
    match all.len() {
        0 => "<none>".to_string(),
        1 | 2 => all.join(", "),
        count => format!("{} + {} more...", all[..2].join(", "), count - 2),
    }
}

fn percent(value: &Value, other: &str) -> String {
    value.as_i64().map_or(other.to_string(), |percent| format!("{percent}%"))
}

/// A quantity that may be absent while what holds it is there.
fn quantity(holder: &Value, field: &str) -> String {
    match holder {
        Value::Null => "<unknown>".to_string(),
        holder => string(&text_or(&holder["current"][field], "0")).to_string(),
    }
}

fn one(metric: &Value, current: &Value) -> String {
    let kind = string(&metric["type"]);
    let field = match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_string(),
    };
    let (wanted, current) = (&metric[field], &current[field]);
    let target = &wanted["target"];
    let average = string(&target["averageValue"]);
    match kind {
        "Pods" => format!("{}/{average}", quantity(current, "averageValue")),
        "External" | "Object" if average.is_empty() => {
            format!("{}/{}", quantity(current, "value"), string(&text_or(&target["value"], "0")))
        }
        "External" | "Object" => {
            let now = text_or(&current["current"]["averageValue"], "<unknown>");
            format!("{}/{average} (avg)", string(&now))
        }
        _ if average.is_empty() => {
            let now = percent(&current["current"]["averageUtilization"], "<unknown>");
            let target = percent(&target["averageUtilization"], "<auto>");
            format!("{}: {now}/{target}", string(&wanted["name"]))
        }
        _ => format!("{}: {}/{average}", string(&wanted["name"]), quantity(current, "averageValue")),
    }
}
