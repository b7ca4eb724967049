//! Webhook configurations and admission policies.

use crate::strategy::{GENERIC, Strategy};

pub fn strategy(_kind: &str) -> Option<&'static Strategy> {
    const STRATEGY: Strategy = Strategy { generation: true, allow_unconditional_update: false, ..GENERIC };
    Some(&STRATEGY)
}
