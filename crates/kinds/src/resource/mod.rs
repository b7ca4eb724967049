//! Dynamic resource allocation: claims for devices, and the devices that drivers offer.
//!
//! Selectors are expressions in CEL: [`selector`] compiles them. What depends on the namespace or on rights is asked
//! by the server.

mod claim;
mod class;
mod parts;
mod selector;
mod slice;
mod status;
mod taint;

use serde_json::Value;

use crate::strategy::{GENERIC, Strategy};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const COMMON: Strategy = Strategy { returns_deleted: true, ..GENERIC };
    const CLAIM: Strategy = Strategy {
        prepare_for_update: status::prepare_for_update,
        validate: claim::claim,
        validate_update: claim::claim_update,
        ..COMMON
    };
    const TEMPLATE: Strategy =
        Strategy { validate: claim::template, validate_update: claim::template_update, ..COMMON };
    const CLASS: Strategy = Strategy {
        generation: true,
        validate: |object, errors| class::class(object, None, errors),
        validate_update: |new, old, _, errors| class::class(new, Some(old), errors),
        ..COMMON
    };
    const SLICE: Strategy = Strategy {
        generation: true,
        prepare_for_create: |new| slice::prepare(new, &Value::Null),
        prepare_for_update: |new, old, _| slice::prepare(new, old),
        stamp_new: |new, now| slice::stamp(new, &Value::Null, "", now),
        stamp: slice::stamp,
        validate: |object, errors| slice::slice(object, None, errors),
        validate_update: |new, old, _, errors| slice::slice(new, Some(old), errors),
        warnings: |new, _, _| slice::warnings(new),
        selectable: &[("spec.driver", "/spec/driver", ""), ("spec.nodeName", "/spec/nodeName", "")],
        unknown_field: "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {}",
        ..COMMON
    };
    const TAINT_RULE: Strategy = Strategy {
        generation: true,
        prepare_for_update: taint::prepare_for_update,
        stamp_new: |new, now| taint::stamp(new, &Value::Null, "", now),
        stamp: taint::stamp,
        validate: |object, errors| taint::rule(object, None, errors),
        validate_update: taint::rule_update,
        ..COMMON
    };
    const POOL_STATUS_REQUEST: Strategy = Strategy { allow_unconditional_update: false, ..COMMON };
    Some(match kind {
        "ResourceClaim" => &CLAIM,
        "ResourceClaimTemplate" => &TEMPLATE,
        "DeviceClass" => &CLASS,
        "ResourceSlice" => &SLICE,
        "DeviceTaintRule" => &TAINT_RULE,
        "ResourcePoolStatusRequest" => &POOL_STATUS_REQUEST,
        _ => &COMMON,
    })
}
