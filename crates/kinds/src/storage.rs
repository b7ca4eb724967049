//! Storage classes, volume attachments and what CSI drivers say of themselves.

use crate::strategy::{GENERIC, Strategy};

const CONDITIONAL: Strategy = Strategy { allow_unconditional_update: false, ..GENERIC };
const SHOWS_DELETED: Strategy = Strategy { returns_deleted: true, ..GENERIC };

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const CONDITIONAL_SHOWN: Strategy =
        Strategy { allow_unconditional_update: false, returns_deleted: true, ..GENERIC };
    Some(match kind {
        "StorageClass" | "VolumeAttributesClass" => &SHOWS_DELETED,
        "CSIStorageCapacity" => &CONDITIONAL,
        _ => &CONDITIONAL_SHOWN,
    })
}
