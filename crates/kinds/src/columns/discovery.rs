//! `discovery.k8s.io`

use serde_json::Value;

use super::cell::{created, list, name, string, text, text_or, with_more};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[(
    "EndpointSlice",
    Columns::new(
        &[
            NAME,
            Column::text("AddressType", "What the addresses are."),
            Column::text("Ports", "Ports that every endpoint serves."),
            Column::text("Endpoints", "Addresses behind the service."),
            AGE,
        ],
        |o, now| {
            let ports: Vec<String> = list(&o["ports"]).iter().map(port).collect();
            let endpoints = list(&o["endpoints"]).iter().flat_map(|endpoint| list(&endpoint["addresses"]));
            let addresses: Vec<String> = endpoints.map(|address| string(address).to_string()).collect();
            let some = |all: &[String]| text_or(&with_more(all, 3).into(), "<unset>");
            vec![name(o), text(&o["addressType"]), some(&ports), some(&addresses), created(o, now)]
        },
    ),
)];

fn port(port: &Value) -> String {
    match port["port"].as_i64() {
        Some(number) => number.to_string(),
        None => port["name"].as_str().unwrap_or("*").to_string(),
    }
}
