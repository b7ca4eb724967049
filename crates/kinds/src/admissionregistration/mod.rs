//! Webhook configurations and admission policies.
//!
//! Policies and match conditions hold expressions in CEL: [`expression`] is what they may name. Whether somebody may
//! use the kind or the object of parameters that a policy names is for the server to ask.

pub mod expression;
mod parts;
mod policy;
pub mod type_checking;
mod webhook;

use apimachinery::field::ErrorList;
use serde_json::Value;

use crate::meta::keep_for_status;
use crate::strategy::{GENERIC, Strategy};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const COMMON: Strategy = Strategy {
        generation: true,
        allow_unconditional_update: false,
        warnings: |new, _, _| warnings(new),
        ..GENERIC
    };
    const VALIDATING_WEBHOOKS: Strategy = Strategy {
        validate: |object, errors| webhook::configuration(object, None, false, errors),
        validate_update: |new, old, _, errors| webhook::configuration(new, Some(old), false, errors),
        ..COMMON
    };
    const MUTATING_WEBHOOKS: Strategy = Strategy {
        validate: |object, errors| webhook::configuration(object, None, true, errors),
        validate_update: |new, old, _, errors| webhook::configuration(new, Some(old), true, errors),
        ..COMMON
    };
    const VALIDATING_POLICY: Strategy = Strategy {
        prepare_for_update,
        validate: |object, errors| policy::validating(object, None, errors),
        validate_update: validating_update,
        ..COMMON
    };
    const MUTATING_POLICY: Strategy = Strategy {
        validate: |object, errors| policy::mutating(object, None, errors),
        validate_update: |new, old, _, errors| policy::mutating(new, Some(old), errors),
        ..COMMON
    };
    const VALIDATING_BINDING: Strategy = Strategy {
        validate: policy::validating_binding,
        validate_update: |new, _, _, errors| policy::validating_binding(new, errors),
        ..COMMON
    };
    const MUTATING_BINDING: Strategy = Strategy {
        validate: policy::mutating_binding,
        validate_update: |new, _, _, errors| policy::mutating_binding(new, errors),
        ..COMMON
    };
    Some(match kind {
        "ValidatingWebhookConfiguration" => &VALIDATING_WEBHOOKS,
        "MutatingWebhookConfiguration" => &MUTATING_WEBHOOKS,
        "ValidatingAdmissionPolicy" => &VALIDATING_POLICY,
        "MutatingAdmissionPolicy" => &MUTATING_POLICY,
        "ValidatingAdmissionPolicyBinding" => &VALIDATING_BINDING,
        "MutatingAdmissionPolicyBinding" => &MUTATING_BINDING,
        _ => return None,
    })
}

fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        keep_for_status(new, old);
    }
}

fn validating_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    match subresource {
        "status" => policy::status(&new["status"], errors),
        _ => policy::validating(new, Some(old), errors),
    }
}

/// Names that objects from files will have.
fn warnings(object: &Value) -> Vec<String> {
    const SUFFIX: &str = ".static.k8s.io";
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !name.ends_with(SUFFIX) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with {SUFFIX:?} are reserved for static manifest-based configurations and cannot \
         be managed via the API"
    )]
}
