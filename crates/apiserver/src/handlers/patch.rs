//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply. Texts of upstream's
//! `handlers/patch.go`.

use apimachinery::{
    codec, field,
    field::Path,
    managed_fields,
    patch::{json, merge, strategic},
    status::Status,
};
use bytes::Bytes;
use http::{Response, header};
use serde_json::{Number, Value, json};

use super::{
    Call, body,
    body::Expected,
    options::{FieldValidation, WriteOptions},
};
use crate::{
    conversion,
    custom::{self, Custom},
    negotiation,
    registry::{generic::Warnings, meta},
    server::Body,
};

const MEDIA_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

pub(super) async fn patch(call: &Call<'_>, body: Body) -> Result<Response<Body>, Status> {
    let patch_type = patch_type(call)?;
    let output = negotiation::output(&call.headers, call.query)?;
    let bytes = body::read(call, body).await?;
    let options = options(call, patch_type)?;
    let expected = call.expected()?;
    let scope = call.scope();
    let (outcome, created) = if patch_type == PatchType::Apply {
        let config = Configuration::parse(&bytes)?;
        let change = |old: Option<&Value>| {
            let (mut object, changed) = scope.apply_to(old, &config.value, &options)?;
            config.complain(options.field_validation, &call.warnings)?;
            let uid = meta::text(&object, "uid");
            if old.is_none() && !uid.is_empty() {
                return Err(scope.conflict(format_args!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                )));
            }
            if changed {
                settle(custom::of(call.resource), expected, &mut object)?;
            }
            fits(call, object)
        };
        scope.apply(&options, &change).await?
    } else {
        let exists = call.server.storage.get(call.resource, call.namespace(), &call.info.name)?;
        if exists.is_none() {
            return Err(call.not_found());
        }
        let change = |old: Option<&Value>| {
            let old = old.ok_or_else(|| call.not_found())?;
            let validation = options.field_validation;
            let custom = custom::of(call.resource);
            fits(call, apply(patch_type, &bytes, old, expected, custom, validation, &call.warnings)?)
        };
        scope.update(&options, &change).await?
    };
    call.respond(if created { 201 } else { 200 }, outcome, output)
}

/// What follows from the fields of a changed object.
fn settle(custom: Option<&Custom>, expected: Expected<'_>, object: &mut Value) -> Result<(), Status> {
    match custom {
        Some(custom) => custom.default(object),
        None => {
            conversion::agree(expected.group, expected.kind, object);
            kinds::defaults::apply(expected.object, object);
            Ok(())
        }
    }
}

/// The patched object if it is still the one that the request names.
fn fits(call: &Call<'_>, mut object: Value) -> Result<Value, Status> {
    meta::match_namespace(&mut object, call.namespace())?;
    meta::match_name(&object, &call.info.name)?;
    Ok(object)
}

pub(super) fn options(call: &Call<'_>, patch_type: PatchType) -> Result<WriteOptions, Status> {
    match patch_type {
        PatchType::Apply => WriteOptions::parse_apply(call.query),
        _ => WriteOptions::parse(call.query, "PatchOptions"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
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
        Some(2) if custom::of(call.resource).is_some() && call.info.subresource != "scale" => {
            Err(negotiation::unsupported_media_type(&[MEDIA_TYPES[0], MEDIA_TYPES[1], MEDIA_TYPES[3]]))
        }
        Some(2) => Ok(PatchType::Strategic),
        Some(_) => Ok(PatchType::Apply),
        None => Err(Status::generic_server_response(
            415,
            "",
            ("", "", ""),
            "415: Unsupported Media Type",
            0,
            false,
        )),
    }
}

/// What a client applies, as it wrote it.
pub(super) struct Configuration {
    pub value: Value,
    /// What is to be said of a key that is there twice.
    duplicate: Option<String>,
}

impl Configuration {
    /// Reads YAML, of which JSON is a part.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Status> {
        let json = match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{') => codec::json::parse(bytes).ok().filter(|(_, duplicates)| duplicates.is_empty()),
            _ => None,
        };
        let bad = |why: &str| Status::bad_request(format!("error decoding YAML: {why}"));
        let (mut value, duplicate) = match json {
            Some((value, _)) => (value, None),
            None => {
                codec::yaml::parse(bytes).map_err(|e| bad(&format!("error converting YAML to JSON: {e}")))?
            }
        };
        match &value {
            Value::Object(_) => {}
            Value::Null => value = json!({}),
            other => {
                return Err(bad(&format!(
                    "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type \
                     map[string]interface {{}}",
                    json_name(other)
                )));
            }
        }
        whole(&mut value);
        Ok(Self { value, duplicate })
    }

    pub(super) fn complain(&self, validation: FieldValidation, warnings: &Warnings) -> Result<(), Status> {
        let Some(said) = &self.duplicate else { return Ok(()) };
        let said = format!("error converting YAML to JSON: {said}");
        match validation {
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                warnings.add(said);
                Ok(())
            }
            FieldValidation::Strict => {
                Err(Status::bad_request(format!("error strict decoding YAML: {said}")))
            }
        }
    }
}

/// `1.0` is 1: upstream reads all numbers of a configuration alike.
fn whole(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= EXACT);
            if let Some(float) = float {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(whole),
        Value::Object(map) => map.values_mut().for_each(whole),
        _ => {}
    }
}

fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Reads a patch that is an object, and what strict reading has to say about it.
fn object_patch(bytes: &[u8], prefix: &str) -> Result<(Value, Vec<String>), Status> {
    let bad = |why: String| Status::bad_request(format!("{prefix}{why}"));
    let (value, duplicates) = codec::json::parse(bytes).map_err(|e| bad(e.to_string()))?;
    match value {
        Value::Object(_) | Value::Null => Ok((value, duplicates)),
        other => Err(bad(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_name(&other)
        ))),
    }
}

/// What strict reading of a JSON patch has to say.
fn json_patch_complaints(bytes: &[u8], patch: &json::Patch) -> Vec<String> {
    let duplicates = codec::json::parse(bytes).map(|(_, duplicates)| duplicates).unwrap_or_default();
    let duplicates = duplicates.into_iter().map(|text| format!("json patch {text}"));
    patch.unknown_fields().into_iter().chain(duplicates).collect()
}

/// The object after the patch, in normal form and with defaults.
pub(super) fn apply(
    patch_type: PatchType,
    bytes: &Bytes,
    old: &Value,
    expected: Expected<'_>,
    custom: Option<&Custom>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Value, Status> {
    let schema = api::schema();
    let lenient = validation == FieldValidation::Ignore;
    let (patched, mut complaints) = patched(patch_type, bytes, old, expected, lenient)?;
    let resets = patched["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty);
    let invalid = |why: String| {
        // made again rather than kept: nearly always nobody asks
        let mut shown =
            self::patched(patch_type, bytes, old, expected, lenient).map_or(Value::Null, |it| it.0);
        managed_fields::unfold(&mut shown);
        let error = field::Error::invalid(&Path::new("patch"), shown.to_string(), why);
        Status::invalid("", "", "", &[error])
    };
    let mut decoded = match custom {
        Some(custom) => {
            let mut value = patched;
            let strict = custom.coerce(&mut value).map_err(invalid)?;
            codec::Decoded { value, strict, ..codec::Decoded::default() }
        }
        None => {
            codec::normal::conform(schema, expected.object, patched).map_err(|e| invalid(e.to_string()))?
        }
    };
    complaints.append(&mut decoded.strict);
    decoded.strict = complaints;
    let mut value = body::strict(decoded, validation, warnings, invalid)?;
    let api_version = apimachinery::gvk::api_version(expected.group, expected.version);
    let top = |key: &str| value[key].as_str().unwrap_or_default();
    let (given, kind) = (top("apiVersion"), top("kind"));
    let same = given == api_version && kind == expected.kind;
    if !(same || given.is_empty() && kind.is_empty()) {
        // Upstream reads the result as what it says it is.
        return Err(invalid(match kind == expected.kind {
            true => format!("no kind {kind:?} is registered for version {given:?}"),
            false => format!("{given}, Kind={kind} is not {api_version}, Kind={}", expected.kind),
        }));
    }
    settle(custom, expected, &mut value)?;
    if resets {
        meta::set(&mut value, "managedFields", Some(json!([])));
    }
    Ok(value)
}

/// The object after the patch, as the patch leaves it, and what strict reading has to say of the patch.
fn patched(
    patch_type: PatchType,
    bytes: &Bytes,
    old: &Value,
    expected: Expected<'_>,
    lenient: bool,
) -> Result<(Value, Vec<String>), Status> {
    let mut complaints = Vec::new();
    let fault = |e: apimachinery::patch::Error| e.to_status();
    let patched = match patch_type {
        PatchType::Json => {
            let patch = json::Patch::parse(bytes).map_err(|e| match (lenient, e) {
                (false, apimachinery::patch::Error::BadRequest(why)) => {
                    Status::bad_request(format!("error decoding patch: {why}"))
                }
                (_, e) => fault(e),
            })?;
            if !lenient {
                complaints = json_patch_complaints(bytes, &patch);
            }
            let mut target = old.clone();
            if memchr::memmem::find(bytes, b"fieldsV1").is_some() {
                managed_fields::unfold(&mut target);
            }
            patch.apply(target).map_err(fault)?
        }
        PatchType::Merge if lenient => merge::apply_bytes(old.clone(), bytes).map_err(fault)?,
        PatchType::Merge => {
            let patch;
            (patch, complaints) = object_patch(bytes, "error decoding patch: ")?;
            merge::apply(old.clone(), patch).map_err(fault)?
        }
        PatchType::Strategic => {
            let (patch, duplicates) = object_patch(bytes, "")?;
            if !lenient {
                complaints = duplicates;
            }
            let patch = if patch.is_null() { json!({}) } else { patch };
            strategic::apply(api::schema(), expected.object, old.clone(), patch).map_err(fault)?
        }
        PatchType::Apply => return Err(Status::internal("an apply is no patch of this kind")),
    };
    Ok((patched, complaints))
}
