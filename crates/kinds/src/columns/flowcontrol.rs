//! `flowcontrol.apiserver.k8s.io`

use std::cmp::Ordering;

use serde_json::Value;

use super::cell::{condition, created, name, number, string, text};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "FlowSchema",
        Columns {
            order: Some(by_precedence),
            ..Columns::new(
                &[
                    NAME,
                    Column::text("PriorityLevel", "The priority level of its requests."),
                    Column::text("MatchingPrecedence", "Lower numbers are tried first."),
                    Column::text("DistinguisherMethod", "What tells flows apart."),
                    AGE,
                    Column::text("MissingPL", "Whether the priority level is missing."),
                ],
                |o, now| {
                    let spec = &o["spec"];
                    let method = match &spec["distinguisherMethod"] {
                        Value::Null => "<none>".into(),
                        method => text(&method["type"]),
                    };
                    vec![
                        name(o),
                        text(&spec["priorityLevelConfiguration"]["name"]),
                        number(&spec["matchingPrecedence"]).into(),
                        method,
                        created(o, now),
                        condition(o, "Dangling").map_or("?".into(), |c| text(&c["status"])),
                    ]
                },
            )
        },
    ),
    (
        "PriorityLevelConfiguration",
        Columns::new(
            &[
                NAME,
                Column::text("Type", "Limited or Exempt."),
                Column::text("NominalConcurrencyShares", "Its share of the seats."),
                Column::text("Queues", "How many queues it has."),
                Column::text("HandSize", "How many queues a flow may use."),
                Column::text("QueueLengthLimit", "How many requests a queue holds."),
                AGE,
            ],
            |o, now| {
                let limited = &o["spec"]["limited"];
                let queuing = &limited["limitResponse"]["queuing"];
                let some = |holder: &Value, field: &str| match holder {
                    Value::Null => "<none>".into(),
                    holder => number(&holder[field]).into(),
                };
                vec![
                    name(o),
                    text(&o["spec"]["type"]),
                    some(limited, "nominalConcurrencyShares"),
                    some(queuing, "queues"),
                    some(queuing, "handSize"),
                    some(queuing, "queueLengthLimit"),
                    created(o, now),
                ]
            },
        ),
    ),
];

fn by_precedence(a: &Value, b: &Value) -> Ordering {
    fn key(o: &Value) -> (i64, &str) {
        (number(&o["spec"]["matchingPrecedence"]), string(&o["metadata"]["name"]))
    }
    key(a).cmp(&key(b))
}
