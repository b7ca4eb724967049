//! Runtime classes.

use crate::strategy::{GENERIC, Strategy};

pub fn strategy(_kind: &str) -> Option<&'static Strategy> {
    const RUNTIME_CLASS: Strategy =
        Strategy { allow_create_on_update: true, allow_unconditional_update: false, ..GENERIC };
    Some(&RUNTIME_CLASS)
}
