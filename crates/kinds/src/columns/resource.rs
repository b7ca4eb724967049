//! `resource.k8s.io`

use jiff::Timestamp;
use serde_json::Value;

use super::cell::{created, list, name, number, since, string, text};
use super::{AGE, Column, Columns, Kinds, NAME};

const PLAIN: Columns = Columns::new(&[NAME, AGE], |o, now| vec![name(o), created(o, now)]);

pub(super) static KINDS: Kinds = &[
    ("DeviceClass", PLAIN),
    ("ResourceClaimTemplate", PLAIN),
    (
        "ResourceClaim",
        Columns::new(
            &[NAME, Column::text("State", "Whether it is pending, allocated, reserved or deleted."), AGE],
            |o, now| vec![name(o), claim_state(o).into(), created(o, now)],
        ),
    ),
    (
        "ResourceSlice",
        Columns::new(
            &[
                NAME,
                Column::text("Node", "The node that has the devices."),
                Column::text("Driver", "The driver of the devices."),
                Column::text("Pool", "The pool that the slice is part of."),
                AGE,
            ],
            |o, now| {
                let spec = &o["spec"];
                let (driver, pool) = (text(&spec["driver"]), text(&spec["pool"]["name"]));
                vec![name(o), text(&spec["nodeName"]), driver, pool, created(o, now)]
            },
        ),
    ),
    (
        "DeviceTaintRule",
        Columns::new(
            &[
                NAME,
                Column::text("Key", "Key of the taint."),
                Column::text("Value", "Value of the taint."),
                Column::text("Effect", "What the taint does."),
                Column::text("TimeAdded", "Time since the taint was added."),
                AGE,
            ],
            |o, now| {
                let taint = &o["spec"]["taint"];
                let added = match &taint["timeAdded"] {
                    Value::Null => String::new(),
                    added => since(added, now),
                };
                let [key, value, effect] = ["key", "value", "effect"].map(|field| text(&taint[field]));
                vec![name(o), key, value, effect, added.into(), created(o, now)]
            },
        ),
    ),
    (
        "ResourcePoolStatusRequest",
        Columns::new(
            &[
                NAME,
                Column::text("Driver", "The driver to query pools for."),
                Column::text("Total", "Total number of devices across all pools."),
                Column::text("Available", "Number of available devices across all pools."),
                Column::text("Allocated", "Number of allocated devices across all pools."),
                Column::text("Unavailable", "Number of unavailable devices across all pools."),
                Column::text("Errors", "Number of pools with validation errors."),
                Column::number("Pools", "Total number of matching pools."),
                Column::text("Status", "Processing status."),
                Column::text("Completed", "Time since the observation completed."),
            ],
            pool_status,
        ),
    ),
];

fn claim_state(o: &Value) -> String {
    let (deleted, status) = (!o["metadata"]["deletionTimestamp"].is_null(), &o["status"]);
    let allocated = !status["allocation"].is_null();
    let states = [
        (deleted, "deleted"),
        (!deleted && !allocated, "pending"),
        (allocated, "allocated"),
        (allocated && !list(&status["reservedFor"]).is_empty(), "reserved"),
    ];
    states.iter().filter(|(is, _)| *is).map(|(_, state)| *state).collect::<Vec<_>>().join(",")
}

fn pool_status(o: &Value, now: Timestamp) -> Vec<Value> {
    let status = &o["status"];
    let pools = list(&status["pools"]);
    let done = list(&status["conditions"])
        .iter()
        .find(|c| c["status"] == "True" && (c["type"] == "Complete" || c["type"] == "Failed"));
    let state = done.map_or("Pending", |c| string(&c["type"]));
    let count = number(&status["poolCount"]);
    let known = !status.is_null() && state != "Failed";
    let sum = |field: &str| -> Value {
        match known {
            true => pools.iter().map(|pool| number(&pool[field])).sum::<i64>().to_string().into(),
            false => "-".into(),
        }
    };
    let errors = pools.iter().filter(|pool| !pool["validationError"].is_null()).count();
    let completed = match done {
        Some(c) if state == "Complete" => since(&c["lastTransitionTime"], now),
        _ => "<none>".to_string(),
    };
    let state = match state == "Complete" && count > pools.len() as i64 {
        true => format!("Complete ({}/{count} pools)", pools.len()),
        false => state.to_string(),
    };
    vec![
        name(o),
        text(&o["spec"]["driver"]),
        sum("totalDevices"),
        sum("availableDevices"),
        sum("allocatedDevices"),
        sum("unavailableDevices"),
        if known { errors.to_string().into() } else { "-".into() },
        count.into(),
        state.into(),
        completed.into(),
    ]
}
