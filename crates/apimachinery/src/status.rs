//! `meta/v1.Status`: what every failed request is answered with, and the one error type at the API boundary.
//!
//! The constructors carry upstream's reasons, codes and wording (`apimachinery/pkg/api/errors`). Where a
//! resource is named, it is given as its group (empty for the core one) and its plural; the text joins them
//! as `deployments.apps`.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::{self, quote};

/// The `reason` values that the server itself gives.
pub mod reason {
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const FORBIDDEN: &str = "Forbidden";
    pub const NOT_FOUND: &str = "NotFound";
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    pub const CONFLICT: &str = "Conflict";
    pub const GONE: &str = "Gone";
    pub const INVALID: &str = "Invalid";
    pub const SERVER_TIMEOUT: &str = "ServerTimeout";
    pub const STORAGE_READ_ERROR: &str = "StorageReadError";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    pub const BAD_REQUEST: &str = "BadRequest";
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "UnsupportedMediaType";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const EXPIRED: &str = "Expired";
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
}

/// The `type` values of causes that are not a field's.
pub mod cause {
    pub const UNEXPECTED_SERVER_RESPONSE: &str = "UnexpectedServerResponse";
    pub const FIELD_MANAGER_CONFLICT: &str = "FieldManagerConflict";
    pub const RESOURCE_VERSION_TOO_LARGE: &str = "ResourceVersionTooLarge";
}

/// The answer to a request that has no object to give. Serialises as `{"kind":"Status","apiVersion":"v1",…}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[serde(default = "kind")]
    pub kind: Cow<'static, str>,
    #[serde(default = "api_version")]
    pub api_version: Cow<'static, str>,
    #[serde(default)]
    pub metadata: ListMeta,
    /// `Success` or `Failure`.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub status: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// One of [`reason`]; empty if unknown.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub reason: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u16,
}

/// Metadata of a list, all of it optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(default, rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<i64>,
}

/// What the failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// A resource's plural, or a kind in `Invalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(default, skip_serializing_if = "is_zero32")]
    pub retry_after_seconds: u32,
}

/// One of several reasons of one failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(default, rename = "reason", skip_serializing_if = "str::is_empty")]
    pub kind: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn kind() -> Cow<'static, str> {
    "Status".into()
}

fn api_version() -> Cow<'static, str> {
    "v1".into()
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

fn is_zero32(seconds: &u32) -> bool {
    *seconds == 0
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `deployments.apps`, or `pods` for the core group.
fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_string() } else { format!("{name}.{group}") }
}

fn of_resource(group: &str, resource: &str, name: &str) -> Option<Details> {
    Some(Details { name: name.into(), group: group.into(), kind: resource.into(), ..Details::default() })
}

impl Status {
    /// A failure with everything given by the caller. Prefer the named constructors.
    pub fn failure(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status {
            kind: kind(),
            api_version: api_version(),
            metadata: ListMeta::default(),
            status: "Failure".into(),
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
        }
    }

    /// What a deletion that left nothing behind is answered with.
    pub fn success(details: Option<Details>) -> Status {
        Status { status: "Success".into(), details, ..Status::failure(0, "", "") }
    }

    /// With these details instead.
    pub fn with_details(mut self, details: Details) -> Status {
        self.details = Some(details);
        self
    }

    /// With this HTTP status instead.
    pub fn with_code(mut self, code: u16) -> Status {
        self.code = code;
        self
    }

    /// With one more cause.
    pub fn with_cause(mut self, cause: Cause) -> Status {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// 404: no object of this name.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} {} not found", qualified(group, resource), quote(name));
        Status {
            details: of_resource(group, resource, name),
            ..Status::failure(404, reason::NOT_FOUND, message)
        }
    }

    /// 404 for a path that names no resource at all.
    pub fn path_not_found() -> Status {
        let message = "the server could not find the requested resource";
        Status::failure(404, reason::NOT_FOUND, message).with_details(Details::default())
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} {} already exists", qualified(group, resource), quote(name));
        Status {
            details: of_resource(group, resource, name),
            ..Status::failure(409, reason::ALREADY_EXISTS, message)
        }
    }

    /// 409: every generated name that was tried is taken.
    pub fn generate_name_conflict(group: &str, resource: &str, name: &str, retry_after: u32) -> Status {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource),
            quote(name)
        );
        let mut status = Status::failure(409, reason::ALREADY_EXISTS, message);
        status.details = of_resource(group, resource, name)
            .map(|details| Details { retry_after_seconds: retry_after, ..details });
        status
    }

    /// 401. An empty message becomes `not authorized`; a rejected request is answered with `Unauthorized`.
    pub fn unauthorized(message: &str) -> Status {
        let message = if message.is_empty() { "not authorized" } else { message };
        Status::failure(401, reason::UNAUTHORIZED, message)
    }

    /// 403. Resource and name may be empty.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Status {
        let message = match (group.is_empty() && resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{} is forbidden: {why}", qualified(group, resource)),
            (false, false) => format!("{} {} is forbidden: {why}", qualified(group, resource), quote(name)),
        };
        Status {
            details: of_resource(group, resource, name),
            ..Status::failure(403, reason::FORBIDDEN, message)
        }
    }

    /// 409: the object is not as the writer believes.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Status {
        let message =
            format!("Operation cannot be fulfilled on {} {}: {why}", qualified(group, resource), quote(name));
        Status {
            details: of_resource(group, resource, name),
            ..Status::failure(409, reason::CONFLICT, message)
        }
    }

    /// 409 of an update whose resourceVersion is no longer the newest, in the registry's words.
    pub fn modified(group: &str, resource: &str, name: &str) -> Status {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }

    /// 409: an apply would take fields that others own.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Status {
        Status::failure(409, reason::CONFLICT, message).with_details(Details { causes, ..Details::default() })
    }

    /// 410 with the reason `Gone`.
    pub fn gone(message: impl Into<String>) -> Status {
        Status::failure(410, reason::GONE, message)
    }

    /// 410 with the reason `Expired`: the resourceVersion or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::failure(410, reason::EXPIRED, message)
    }

    /// 422: validation found these faults. `kind` is the kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Status {
        let mut message = format!("{} {} is invalid", qualified(group, kind), quote(name));
        if let Some(all) = field::aggregate(errors) {
            message.push_str(": ");
            message.push_str(&all);
        }
        let causes = errors
            .iter()
            .map(|e| Cause { kind: e.kind.reason().into(), message: e.body(), field: e.field.clone() })
            .collect();
        let details = Details {
            causes,
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            ..Details::default()
        };
        Status::failure(422, reason::INVALID, message).with_details(details)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::failure(400, reason::BAD_REQUEST, message)
    }

    /// 429 with a time to wait, in seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Status {
        Status::failure(429, reason::TOO_MANY_REQUESTS, message)
            .with_details(Details { retry_after_seconds: retry_after, ..Details::default() })
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Status {
        Status::failure(503, reason::SERVICE_UNAVAILABLE, message)
    }

    /// 405: the resource has no such verb.
    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Status {
        let message =
            format!("{action} is not supported on resources of kind {}", quote(&qualified(group, resource)));
        Status {
            details: of_resource(group, resource, ""),
            ..Status::failure(405, reason::METHOD_NOT_ALLOWED, message)
        }
    }

    /// 406: nothing that the client accepts can be produced.
    pub fn not_acceptable(accepted: &[&str]) -> Status {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Status::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    /// 406 of a conversion (`as=Table` and the like).
    pub fn not_acceptable_conversion(target: &str, accepted: &[&str]) -> Status {
        let message = format!(
            "only the following media types are accepted when converting to {target}: {}",
            accepted.join(", ")
        );
        Status::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    /// 415: the request body's type is unknown here.
    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Status::failure(415, reason::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// 500: try again.
    pub fn server_timeout(group: &str, resource: &str, operation: &str, retry_after: u32) -> Status {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            qualified(group, resource)
        );
        let mut status = Status::failure(500, reason::SERVER_TIMEOUT, message);
        status.details = of_resource(group, resource, operation)
            .map(|details| Details { retry_after_seconds: retry_after, ..details });
        status
    }

    /// 504: the request took too long and may still be carried out.
    pub fn timeout(message: impl fmt::Display, retry_after: u32) -> Status {
        Status::failure(504, reason::TIMEOUT, format!("Timeout: {message}"))
            .with_details(Details { retry_after_seconds: retry_after, ..Details::default() })
    }

    /// 504 of a read at a resourceVersion that the server has not reached.
    pub fn too_large_resource_version(wanted: u64, current: u64, retry_after: u32) -> Status {
        Status::timeout(format!("Too large resource version: {wanted}, current: {current}"), retry_after)
            .with_cause(Cause {
                kind: cause::RESOURCE_VERSION_TOO_LARGE.into(),
                message: "Too large resource version".into(),
                field: String::new(),
            })
    }

    /// 413.
    pub fn request_entity_too_large(message: impl fmt::Display) -> Status {
        Status::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, format!("Request entity too large: {message}"))
    }

    /// 500.
    pub fn internal(why: impl fmt::Display) -> Status {
        let why = why.to_string();
        Status::failure(500, reason::INTERNAL_ERROR, format!("Internal error occurred: {why}"))
            .with_cause(Cause { message: why, ..Cause::default() })
    }

    /// A plain HTTP answer with no Status in it, put into one. `verb` is the HTTP method; `unexpected` keeps
    /// the body as a cause.
    pub fn generic_server_response(
        code: u16,
        verb: &str,
        (group, resource, name): (&str, &str, &str),
        body: &str,
        retry_after: u32,
        unexpected: bool,
    ) -> Status {
        let (reason, text): (&'static str, Cow<'_, str>) = match code {
            409 if verb == "POST" => (reason::ALREADY_EXISTS, "the server reported a conflict".into()),
            409 => (reason::CONFLICT, "the server reported a conflict".into()),
            404 => (reason::NOT_FOUND, "the server could not find the requested resource".into()),
            400 => (reason::BAD_REQUEST, "the server rejected our request for an unknown reason".into()),
            401 => (reason::UNAUTHORIZED, "the server has asked for the client to provide credentials".into()),
            403 => (reason::FORBIDDEN, body.into()),
            406 if body.is_empty() || body == "unknown" => (
                reason::NOT_ACCEPTABLE,
                "the server was unable to respond with a content type that the client supports".into(),
            ),
            406 => (reason::NOT_ACCEPTABLE, body.into()),
            415 => (reason::UNSUPPORTED_MEDIA_TYPE, body.into()),
            405 => (
                reason::METHOD_NOT_ALLOWED,
                "the server does not allow this method on the requested resource".into(),
            ),
            422 => (reason::INVALID, "the server rejected our request due to an error in our request".into()),
            503 => {
                (reason::SERVICE_UNAVAILABLE, "the server is currently unable to handle the request".into())
            }
            504 => (
                reason::TIMEOUT,
                "the server was unable to return a response in the time allotted, but may still be processing \
                 the request"
                    .into(),
            ),
            429 => (
                reason::TOO_MANY_REQUESTS,
                "the server has received too many requests and has asked us to try again later".into(),
            ),
            500.. => (
                reason::INTERNAL_ERROR,
                format!("an error on the server ({}) has prevented the request from succeeding", quote(body)).into(),
            ),
            _ => (
                "",
                format!("the server responded with the status code {code} but did not return more information")
                    .into(),
            ),
        };
        let verb = verb.to_lowercase();
        let message = match (group.is_empty() && resource.is_empty(), name.is_empty()) {
            (true, _) => text.into_owned(),
            (false, true) => format!("{text} ({verb} {})", qualified(group, resource)),
            (false, false) => format!("{text} ({verb} {} {name})", qualified(group, resource)),
        };
        let causes = match unexpected {
            true => vec![Cause {
                kind: cause::UNEXPECTED_SERVER_RESPONSE.into(),
                message: body.into(),
                field: String::new(),
            }],
            false => Vec::new(),
        };
        Status::failure(code, reason, message).with_details(Details {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            uid: String::new(),
            causes,
            retry_after_seconds: retry_after,
        })
    }

    /// Whether the server gave this reason.
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// Whether there is no such object (by reason, or by code where the reason is unknown).
    pub fn is_not_found(&self) -> bool {
        self.is(reason::NOT_FOUND) || (self.reason.is_empty() && self.code == 404)
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        self.is(reason::ALREADY_EXISTS)
    }

    /// Whether the object was not as the writer believed.
    pub fn is_conflict(&self) -> bool {
        self.is(reason::CONFLICT) || (self.reason.is_empty() && self.code == 409)
    }

    /// Whether the resourceVersion is too old to serve (`Expired` or `Gone`).
    pub fn is_expired(&self) -> bool {
        self.is(reason::EXPIRED) || self.is(reason::GONE) || (self.reason.is_empty() && self.code == 410)
    }

    /// How long the server asks to wait before the next attempt, in seconds.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::{Error, Path};

    #[test]
    fn constructors() {
        let check = |status: Status, code: u16, reason: &str, message: &str| {
            assert_eq!((status.code, &*status.reason, &*status.message), (code, reason, message));
        };
        check(Status::not_found("", "pods", "x"), 404, "NotFound", "pods \"x\" not found");
        check(
            Status::not_found("apps", "deployments", "x"),
            404,
            "NotFound",
            "deployments.apps \"x\" not found",
        );
        check(Status::already_exists("", "pods", "x"), 409, "AlreadyExists", "pods \"x\" already exists");
        check(
            Status::modified("", "pods", "x"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes \
             to the latest version and try again",
        );
        check(Status::unauthorized("Unauthorized"), 401, "Unauthorized", "Unauthorized");
        check(Status::unauthorized(""), 401, "Unauthorized", "not authorized");
        check(Status::forbidden("", "pods", "x", "why"), 403, "Forbidden", "pods \"x\" is forbidden: why");
        check(Status::forbidden("", "pods", "", "why"), 403, "Forbidden", "pods is forbidden: why");
        check(Status::forbidden("", "", "", "why"), 403, "Forbidden", "forbidden: why");
        check(
            Status::method_not_supported("", "pods", "delete"),
            405,
            "MethodNotAllowed",
            "delete is not supported on resources of kind \"pods\"",
        );
        check(
            Status::not_acceptable(&["application/json", "application/yaml"]),
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        );
        check(Status::expired("too old"), 410, "Expired", "too old");
        check(Status::timeout("late", 1), 504, "Timeout", "Timeout: late");
        check(Status::internal("boom"), 500, "InternalError", "Internal error occurred: boom");
        check(
            Status::generic_server_response(500, "GET", ("apps", "deployments", "x"), "oops", 0, true),
            500,
            "InternalError",
            "an error on the server (\"oops\") has prevented the request from succeeding (get deployments.apps x)",
        );
    }

    #[test]
    fn serialised() {
        let path = Path::new("spec.containers");
        let errors = vec![Error::required(&path, ""), Error::invalid(&path, 1, "d")];
        let check = |status: Status, expect: serde_json::Value| {
            assert_eq!(serde_json::to_value(&status).unwrap(), expect);
            assert_eq!(serde_json::from_value::<Status>(expect).unwrap(), status);
        };
        check(
            Status::invalid("", "Pod", "x", &errors),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422,
                "message": "Pod \"x\" is invalid: [spec.containers: Required value, spec.containers: Invalid value: 1: d]",
                "reason": "Invalid",
                "details": {"name": "x", "kind": "Pod", "causes": [
                    {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"},
                    {"reason": "FieldValueInvalid", "message": "Invalid value: 1: d", "field": "spec.containers"}]}}),
        );
        check(
            Status::unauthorized("Unauthorized"),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Unauthorized", "reason": "Unauthorized", "code": 401}),
        );
        let text = serde_json::to_string(&Status::success(None)).unwrap();
        assert_eq!(text, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#);
    }
}
