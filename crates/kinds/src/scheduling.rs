//! Priority classes.

use crate::strategy::{GENERIC, Strategy};

const GENERATION: Strategy = Strategy { generation: true, ..GENERIC };

pub fn strategy(_kind: &str) -> Option<&'static Strategy> {
    Some(&GENERATION)
}
