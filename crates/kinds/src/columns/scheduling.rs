//! `scheduling.k8s.io`

use serde_json::Value;

use super::cell::{condition, created, given_or, name, number, string, text};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "PriorityClass",
        Columns::new(
            &[
                NAME,
                Column::number("Value", "Higher numbers go first."),
                Column::flag("Global-Default", "Whether pods without a class get this one."),
                AGE,
                Column::text("PreemptionPolicy", "Whether it may push out others."),
            ],
            |o, now| {
                vec![
                    name(o),
                    number(&o["value"]).into(),
                    (o["globalDefault"] == true).into(),
                    created(o, now),
                    text(&o["preemptionPolicy"]),
                ]
            },
        ),
    ),
    ("Workload", Columns::new(&[NAME, AGE], |o, now| vec![name(o), created(o, now)])),
    (
        "PodGroup",
        Columns::new(
            &[
                NAME,
                Column::text("Policy", "How its pods are scheduled."),
                Column::text("Workload", "Name of the referenced Workload object"),
                Column::text("Status", "Status of the PodGroup"),
                AGE,
            ],
            |o, now| {
                let spec = &o["spec"];
                let policy = if spec["schedulingPolicy"]["gang"].is_null() { "Basic" } else { "Gang" };
                let workload = match &spec["podGroupTemplateRef"] {
                    Value::Null => "<none>".into(),
                    reference => given_or(&reference["workload"]["workloadName"], ""),
                };
                vec![name(o), policy.into(), workload, group_state(o).into(), created(o, now)]
            },
        ),
    ),
];

fn group_state(o: &Value) -> &str {
    if let Some(disrupted) = condition(o, "DisruptionTarget") {
        return string(&disrupted["reason"]);
    }
    match condition(o, "PodGroupScheduled").map(|c| string(&c["status"])) {
        None => "Pending",
        Some("True") => "Scheduled",
        Some(_) => "Unschedulable",
    }
}
