//! Dynamic resource allocation.

use crate::strategy::{GENERIC, Strategy};

const SHOWS_DELETED: Strategy = Strategy { returns_deleted: true, ..GENERIC };

pub fn strategy(_kind: &str) -> Option<&'static Strategy> {
    Some(&SHOWS_DELETED)
}
