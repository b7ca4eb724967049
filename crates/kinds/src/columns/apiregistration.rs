//! `apiregistration.k8s.io`

use serde_json::Value;

use super::cell::{condition, created, name, string};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[(
    "APIService",
    Columns::new(
        &[
            NAME,
            Column::text("Service", "The reference to the service that hosts this API endpoint."),
            Column::text("Available", "Whether this service is available."),
            AGE,
        ],
        |o, now| {
            let service = match &o["spec"]["service"] {
                Value::Null => "Local".to_string(),
                service => format!("{}/{}", string(&service["namespace"]), string(&service["name"])),
            };
            let available = match condition(o, "Available") {
                None => "Unknown".to_string(),
                Some(c) => match (string(&c["status"]), string(&c["reason"])) {
                    (status @ "True", _) | (status, "") => status.to_string(),
                    (status, reason) => format!("{status} ({reason})"),
                },
            };
            vec![name(o), service.into(), available.into(), created(o, now)]
        },
    ),
)];
