//! PATCH: JSON patch, merge patch, strategic merge patch. Apply comes with server-side apply.

use apimachinery::{
    codec, field,
    field::Path,
    patch::{json, merge, strategic},
    status::Status,
};
use bytes::Bytes;
use http::{Response, header};
use serde_json::Value;

use super::{
    Call, body,
    body::Expected,
    options::{FieldValidation, WriteOptions},
};
use crate::{negotiation, registry::generic::Warnings, server::Body};

const MEDIA_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

pub(super) async fn patch(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let patch_type = patch_type(call)?;
    let output = negotiation::output(&call.headers, call.query)?;
    let bytes = body::read(call, body).await?;
    let options = WriteOptions::parse(call.query, "PatchOptions")?;
    let expected = call.expected()?;
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| call.not_found())?;
        apply(patch_type, &bytes, old, expected, options.field_validation, &call.warnings)
    };
    let exists = call.server.storage.get(call.resource, call.namespace(), &call.info.name)?;
    if exists.is_none() {
        return Err(call.not_found());
    }
    let (outcome, created) = call.scope().update(&options, &change).await?;
    call.respond(if created { 201 } else { 200 }, outcome, output)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchType {
    Json,
    Merge,
    Strategic,
}

/// The patch's form.
///
/// # Errors
/// 415 with the forms that there are.
pub(super) fn patch_type(call: &Call<'_>) -> Result<PatchType, Status> {
    let raw = call.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let given = negotiation::media_type(raw);
    match MEDIA_TYPES.iter().position(|t| *t == given) {
        Some(0) => Ok(PatchType::Json),
        Some(1) => Ok(PatchType::Merge),
        Some(_) => Ok(PatchType::Strategic),
        None => Err(Status::unsupported_media_type(&MEDIA_TYPES)),
    }
}

/// The object after the patch, in normal form and with defaults.
pub(super) fn apply(
    patch_type: PatchType,
    bytes: &Bytes,
    old: &Value,
    expected: Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Value, Status> {
    let schema = api::schema();
    let mut complaints = Vec::new();
    let fault = |e: apimachinery::patch::Error| e.to_status();
    let patched = match patch_type {
        PatchType::Json => {
            let patch = json::Patch::parse(bytes).map_err(fault)?;
            if validation != FieldValidation::Ignore {
                complaints = patch.unknown_fields();
            }
            patch.apply(old.clone()).map_err(fault)?
        }
        PatchType::Merge => merge::apply_bytes(old.clone(), bytes).map_err(fault)?,
        PatchType::Strategic => {
            strategic::apply_bytes(schema, expected.object, old.clone(), bytes).map_err(fault)?
        }
    };
    let shown = patched.clone();
    let invalid = |why: String| {
        let error = field::Error::invalid(&Path::new("patch"), shown.to_string(), why);
        Status::invalid("", "", "", &[error])
    };
    let mut decoded =
        codec::normal::conform(schema, expected.object, patched).map_err(|e| invalid(e.to_string()))?;
    complaints.append(&mut decoded.strict);
    decoded.strict = complaints;
    let mut value = body::strict(decoded, validation, warnings, invalid)?;
    let api_version = apimachinery::gvk::api_version(expected.group, expected.version);
    let same = value["apiVersion"] == api_version.as_str() && value["kind"] == expected.kind;
    if !same {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({api_version})",
            value["apiVersion"].as_str().unwrap_or_default()
        )));
    }
    crate::conversion::agree(expected.group, expected.kind, &mut value);
    kinds::defaults::apply(expected.object, &mut value);
    Ok(value)
}
