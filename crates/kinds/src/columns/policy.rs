//! `policy`

use serde_json::Value;

use super::cell::{created, name, number};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[(
    "PodDisruptionBudget",
    Columns::new(
        &[
            NAME,
            Column::text("Min Available", "The minimum number of pods that must be available."),
            Column::text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            Column::number("Allowed Disruptions", "How many pods may be disrupted now."),
            AGE,
        ],
        |o, now| {
            let spec = &o["spec"];
            let amount = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => "N/A".to_string(),
            };
            vec![
                name(o),
                amount(&spec["minAvailable"]).into(),
                amount(&spec["maxUnavailable"]).into(),
                number(&o["status"]["disruptionsAllowed"]).into(),
                created(o, now),
            ]
        },
    ),
)];
