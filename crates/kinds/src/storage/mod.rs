//! Storage classes, volume attachments and what CSI drivers say of themselves.

mod attachment;
mod class;
mod csi;

use crate::strategy::{GENERIC, Strategy};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const CONDITIONAL: Strategy =
        Strategy { allow_unconditional_update: false, returns_deleted: true, ..GENERIC };
    const STORAGE_CLASS: Strategy = Strategy {
        returns_deleted: true,
        validate: class::storage_class,
        validate_update: class::storage_class_update,
        warnings: |new, _, _| class::storage_class_warnings(new),
        ..GENERIC
    };
    const VOLUME_ATTRIBUTES_CLASS: Strategy = Strategy {
        returns_deleted: true,
        validate: class::volume_attributes_class,
        validate_update: class::volume_attributes_class_update,
        ..GENERIC
    };
    const VOLUME_ATTACHMENT: Strategy = Strategy {
        prepare_for_update: attachment::prepare_for_update,
        validate: attachment::attachment,
        validate_update: attachment::attachment_update,
        ..CONDITIONAL
    };
    const CSI_DRIVER: Strategy = Strategy {
        prepare_for_create: csi::prepare_driver,
        prepare_for_update: csi::prepare_driver_update,
        validate: csi::driver,
        validate_update: csi::driver_update,
        warnings: csi::driver_warnings,
        ..CONDITIONAL
    };
    const CSI_NODE: Strategy =
        Strategy { validate: csi::node, validate_update: csi::node_update, ..CONDITIONAL };
    const CSI_STORAGE_CAPACITY: Strategy = Strategy {
        returns_deleted: false,
        validate: |object, errors| csi::capacity(object, false, errors),
        validate_update: csi::capacity_update,
        warnings: |new, _, _| csi::capacity_warnings(new),
        ..CONDITIONAL
    };
    Some(match kind {
        "StorageClass" => &STORAGE_CLASS,
        "VolumeAttributesClass" => &VOLUME_ATTRIBUTES_CLASS,
        "VolumeAttachment" => &VOLUME_ATTACHMENT,
        "CSIDriver" => &CSI_DRIVER,
        "CSINode" => &CSI_NODE,
        "CSIStorageCapacity" => &CSI_STORAGE_CAPACITY,
        _ => return None,
    })
}
