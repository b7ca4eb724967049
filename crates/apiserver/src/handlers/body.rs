//! Reading the object out of a request's body. Texts of upstream's `handlers/rest.go`.

use apimachinery::{
    codec::{self, Decoded},
    field::{self, quote},
    gvk,
    schema::{Resource, TypeId},
    status::Status,
};
use bytes::Bytes;
use serde_json::Value;

use super::{Call, options::FieldValidation};
use crate::{
    custom::{self, Custom},
    negotiation::{self, Format},
    registry::generic::Warnings,
    response,
    server::Body,
};

/// The kind that a body must have.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub object: TypeId,
}

impl Expected<'_> {
    /// The resource's own kind, not that of a subresource.
    pub(super) fn is_of(&self, resource: &Resource) -> bool {
        self.kind == resource.kind && self.group == resource.group
    }
}

/// Reads the whole body, within the server's limit.
pub(super) async fn read(call: &Call<'_>, body: Body) -> Result<Bytes, Status> {
    response::read(body, call.server.settings.max_body).await
}

impl Call<'_> {
    /// The kind of this request's bodies.
    pub(super) fn expected(&self) -> Result<Expected<'_>, Status> {
        if let Some(sub) = self.subresource {
            let object = sub.object.ok_or_else(|| Status::internal("a subresource without a type"))?;
            return Ok(Expected {
                group: &sub.kind.group,
                version: &sub.kind.version,
                kind: &sub.kind.kind,
                object,
            });
        }
        Ok(Expected {
            group: &self.resource.group,
            version: &self.resource.version,
            kind: &self.resource.kind,
            object: self.resource.object,
        })
    }

    /// The object in a body, in normal form and with defaults.
    pub(super) fn decode(
        &self,
        bytes: &Bytes,
        expected: Expected<'_>,
        validation: FieldValidation,
    ) -> Result<Value, Status> {
        let format = negotiation::input(&self.headers)?;
        if let Some(custom) = custom::of(self.resource).filter(|_| expected.is_of(self.resource)) {
            return decode_custom(custom, bytes, format, expected, validation, &self.warnings);
        }
        let mut value = decode(bytes, format, expected, validation, &self.warnings)?;
        crate::conversion::agree(expected.group, expected.kind, &mut value);
        kinds::defaults::apply(expected.object, &mut value);
        let may_reset = self.subresource.is_none() && self.resource.storage.is_some();
        if may_reset && value["metadata"].get("managedFields").is_none() && resets_owners(bytes, format) {
            crate::registry::meta::set(&mut value, "managedFields", Some(Value::Array(Vec::new())));
        }
        Ok(value)
    }
}

/// Whether the body has an empty list of managed fields, which normal form drops and which says that they are to
/// be forgotten. Protobuf cannot say so.
fn resets_owners(bytes: &[u8], format: Format) -> bool {
    let named = || memchr::memmem::find(bytes, b"managedFields").is_some();
    let parsed = match format {
        Format::Json if named() => codec::json::parse(bytes).ok().map(|(value, _)| value),
        Format::Yaml if named() => codec::yaml::parse(bytes).ok().map(|(value, _)| value),
        _ => None,
    };
    parsed.is_some_and(|value| value["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty))
}

/// The same for a custom object: its schema says what is unknown.
fn decode_custom(
    custom: &Custom,
    bytes: &[u8],
    format: Format,
    expected: Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Value, Status> {
    let Expected { group, version, kind, .. } = expected;
    let refuse = |why: &str| {
        Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {kind}: {why}",
            quote(version)
        ))
    };
    let (mut value, strict) = match format {
        Format::Json => codec::json::parse(bytes).map_err(|e| refuse(&e.to_string()))?,
        Format::Yaml => {
            let (value, duplicate) = codec::yaml::parse(bytes).map_err(|e| refuse(&e.to_string()))?;
            (value, duplicate.into_iter().collect())
        }
        Format::Protobuf => {
            return Err(negotiation::unsupported_media_type(&["application/json", "application/yaml"]));
        }
    };
    if !value.is_object() {
        return Err(refuse("json: cannot unmarshal the body into Go value of type map[string]interface {}"));
    }
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (given_version, given_kind) = (text("apiVersion"), text("kind"));
    for (name, given) in [("Kind", &given_kind), ("apiVersion", &given_version)] {
        if given.is_empty() {
            return Err(Status::bad_request(format!("Object '{name}' is missing in '{value}'")));
        }
    }
    let ours = gvk::api_version(group, version);
    let given_group = gvk::split(&given_version).map_err(|e| Status::bad_request(e.to_string()))?.0;
    if given_group != group || given_version != ours {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({ours})"
        )));
    }
    if given_kind != kind {
        let error =
            field::Error::invalid(&field::Path::new("kind"), given_kind.as_str(), format!("must be {kind}"));
        return Err(Status::invalid(
            group,
            kind,
            value["metadata"]["name"].as_str().unwrap_or_default(),
            &[error],
        ));
    }
    let resets = value["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty);
    let mut decoded = Decoded { strict, ..Decoded::default() };
    decoded.strict.extend(custom.coerce(&mut value).map_err(|why| refuse(&why))?);
    decoded.value = value;
    let mut value = self::strict(decoded, validation, warnings, |why| refuse(&why))?;
    custom.default(&mut value)?;
    if resets {
        crate::registry::meta::set(&mut value, "managedFields", Some(Value::Array(Vec::new())));
    }
    Ok(value)
}

/// Decodes and checks what it is.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    expected: Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Value, Status> {
    let schema = api::schema();
    // What the body calls itself decides the words of any complaint.
    let own = own_kind(bytes, format).map_err(|why| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
             {why} ({})",
            expected.kind,
            summary(bytes)
        ))
    })?;
    let (api_version, kind) = own;
    let ours = gvk::api_version(expected.group, expected.version);
    let api_version = if api_version.is_empty() { ours.clone() } else { api_version };
    let kind = if kind.is_empty() { expected.kind.to_owned() } else { kind };
    let (group, version) = gvk::split(&api_version).map_err(|e| Status::bad_request(e.to_string()))?;
    let refuse = |why: &str| {
        Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {}: {why}",
            quote(version),
            expected.kind
        ))
    };
    let same = group == expected.group
        && kind == expected.kind
        && (version == expected.version || crate::registry::accepts(group, &kind, version));
    let ty = if same { Some(expected.object) } else { api::object_type(group, version, &kind) };
    let Some(ty) = ty else {
        return Err(refuse(&format!(
            "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            quote(&kind),
            quote(&api_version)
        )));
    };
    let decoded = match format {
        Format::Json => codec::json::decode(schema, ty, bytes),
        Format::Yaml => codec::yaml::decode(schema, ty, bytes),
        Format::Protobuf => from_protobuf(ty, bytes),
    };
    let decoded = decoded.map_err(|e| refuse(&e.to_string()))?;
    if kind != expected.kind {
        let internal = match expected.group.split('.').next() {
            Some("") | None => "core",
            Some(first) => first,
        };
        return Err(refuse(&format!(
            "converting ({}) to ({internal}.{}): unknown conversion",
            schema[ty].go_name(),
            expected.kind
        )));
    }
    if !same {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({ours})"
        )));
    }
    let mut value = strict(decoded, validation, warnings, |why| refuse(&why))?;
    crate::storage::codec::set_type_meta(&mut value, &ours, expected.kind);
    Ok(value)
}

/// Out of the envelope. Protobuf has no names, so nothing in it is unknown or there twice.
pub(super) fn from_protobuf(ty: TypeId, bytes: &[u8]) -> Result<Decoded, codec::Error> {
    let broken = |e: codec::protobuf::Error| codec::Error::Type(e.to_string());
    let envelope = codec::protobuf::envelope::unwrap(bytes).map_err(broken)?;
    let value = codec::protobuf::decode(api::schema(), ty, envelope.raw).map_err(broken)?;
    Ok(Decoded { value, ..Decoded::default() })
}

/// What becomes of unknown and duplicate fields.
pub(super) fn strict(
    decoded: Decoded,
    validation: FieldValidation,
    warnings: &Warnings,
    refuse: impl FnOnce(String) -> Status,
) -> Result<Value, Status> {
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => decoded.strict.iter().for_each(|text| warnings.add(text.as_str())),
        FieldValidation::Strict => {
            if let Some(why) = decoded.strict_error() {
                return Err(refuse(why));
            }
        }
    }
    Ok(decoded.value)
}

/// `(apiVersion, kind)` as the body says, empty where it does not.
fn own_kind(bytes: &[u8], format: Format) -> Result<(String, String), codec::Error> {
    match format {
        Format::Json => codec::json::type_meta(bytes),
        Format::Protobuf => {
            let envelope = codec::protobuf::envelope::unwrap(bytes);
            let envelope = envelope.map_err(|e| codec::Error::Type(e.to_string()))?;
            Ok((envelope.api_version.to_owned(), envelope.kind.to_owned()))
        }
        Format::Yaml => {
            let (value, _) = codec::yaml::parse(bytes)?;
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
            Ok((text("apiVersion"), text("kind")))
        }
    }
}

/// The first bytes of a body, for a complaint.
fn summary(bytes: &[u8]) -> String {
    const LENGTH: usize = 30;
    let Some(first) = bytes.first() else { return "<empty>".into() };
    let (part, more) = if bytes.len() > LENGTH { (&bytes[..LENGTH], " ...") } else { (bytes, "") };
    let text = if *first == b'{' {
        String::from_utf8_lossy(part).into_owned()
    } else {
        part.iter().map(|b| format!("{b:02x}")).collect()
    };
    text + more
}
