//! The groups whose kinds have flags but few rules of their own.

use crate::strategy::{GENERIC, Strategy};

const GENERATION: Strategy = Strategy { generation: true, ..GENERIC };

pub fn coordination(_kind: &str) -> Option<&'static Strategy> {
    const LEASE: Strategy =
        Strategy { allow_create_on_update: true, allow_unconditional_update: false, ..GENERIC };
    Some(&LEASE)
}

pub fn generation(_kind: &str) -> Option<&'static Strategy> {
    Some(&GENERATION)
}

pub fn networking(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "Ingress" | "IngressClass" | "NetworkPolicy" => &GENERATION,
        _ => &GENERIC,
    })
}

pub fn policy(_kind: &str) -> Option<&'static Strategy> {
    const BUDGET: Strategy = Strategy { generation: true, allow_unconditional_update: false, ..GENERIC };
    Some(&BUDGET)
}
