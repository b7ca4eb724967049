//! `AdmissionReview`, what is asked and what is answered (upstream's `plugin/webhook/request`). Pure.

use std::collections::BTreeMap;

use apimachinery::{
    field::quote,
    gvk::{GroupVersionKind, GroupVersionResource},
    status::Status,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::Operation;

const GROUP: &str = "admission.k8s.io";
const KIND: &str = "AdmissionReview";

/// The versions of the review. They differ in how strictly an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// The first one in a list that is known.
    pub fn first_of<'a>(versions: impl IntoIterator<Item = &'a str>) -> Option<Version> {
        versions.into_iter().find_map(|version| match version {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "admission.k8s.io/v1",
            Version::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// What is asked. Objects are in the version that the webhook wants, `Null` where there is none.
#[derive(Debug)]
pub struct Question<'a> {
    pub uid: &'a str,
    pub kind: &'a GroupVersionKind,
    pub resource: &'a GroupVersionResource,
    pub requested_kind: &'a GroupVersionKind,
    pub requested_resource: &'a GroupVersionResource,
    pub subresource: &'a str,
    pub name: &'a str,
    pub namespace: &'a str,
    pub operation: Operation,
    pub user: &'a Value,
    pub object: &'a Value,
    pub old: &'a Value,
    pub dry_run: bool,
    pub options: &'a Value,
}

#[derive(Serialize)]
struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl<'a> From<&'a GroupVersionKind> for Kind<'a> {
    fn from(it: &'a GroupVersionKind) -> Self {
        Self { group: &it.group, version: &it.version, kind: &it.kind }
    }
}

#[derive(Serialize)]
struct Resource<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

impl<'a> From<&'a GroupVersionResource> for Resource<'a> {
    fn from(it: &'a GroupVersionResource) -> Self {
        Self { group: &it.group, version: &it.version, resource: &it.resource }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: Kind<'a>,
    resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Kind<'a>,
    request_resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'static str,
    user_info: &'a Value,
    object: &'a Value,
    old_object: &'a Value,
    dry_run: bool,
    options: &'a Value,
}

/// An operation as it is written.
pub fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The review as JSON.
///
/// # Errors
/// None that a `Value` could cause.
pub fn write(version: Version, question: &Question<'_>) -> Result<Bytes, serde_json::Error> {
    let q = question;
    let request = Request {
        uid: q.uid,
        kind: q.kind.into(),
        resource: q.resource.into(),
        sub_resource: q.subresource,
        request_kind: q.requested_kind.into(),
        request_resource: q.requested_resource.into(),
        request_sub_resource: q.subresource,
        name: q.name,
        namespace: q.namespace,
        operation: operation(q.operation),
        user_info: q.user,
        object: q.object,
        old_object: q.old,
        dry_run: q.dry_run,
        options: q.options,
    };
    let review = Review { kind: KIND, api_version: version.api_version(), request };
    serde_json::to_vec(&review).map(Bytes::from)
}

/// What was answered, as far as it holds together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    /// JSON of a JSON patch; empty for none.
    pub patch: Vec<u8>,
    /// Of a patch: `JSONPatch`, or something that is not known.
    pub patch_type: String,
    /// Why it was refused, if anything was said.
    pub status: Option<Status>,
    pub warnings: Vec<String>,
    pub audit_annotations: BTreeMap<String, String>,
}

/// Why an answer is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read as a review.
    #[error("failed to call webhook: {0}")]
    Syntax(String),
    /// It is a review that says too little or too much.
    #[error("received invalid webhook response: {0}")]
    Content(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    allowed: Option<bool>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    patch: Option<String>,
    #[serde(default)]
    patch_type: Option<String>,
    #[serde(default)]
    audit_annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// Reads an answer to the question `uid`.
///
/// # Errors
/// In upstream's words where it does not hold together.
pub fn read(version: Version, mutating: bool, uid: &str, body: &[u8]) -> Result<Answer, Error> {
    let content = |why: String| Error::Content(why);
    let syntax = |why: &dyn std::fmt::Display| {
        Error::Syntax(format!("couldn't get version/kind; json parse error: {why}"))
    };
    // A list would pass for an object that says nothing.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(syntax(&"json: cannot unmarshal array into Go value of type struct"));
    }
    let answered: Answered = serde_json::from_slice(body).map_err(|e| syntax(&e))?;
    let kind = answered.kind.unwrap_or_default();
    let api_version = answered.api_version.unwrap_or_default();
    let other_version = match version {
        Version::V1 => Version::V1beta1,
        Version::V1beta1 => Version::V1,
    };
    if !matches!(&*kind, "" | KIND) {
        return Err(Error::Syntax(format!(
            "no kind {} is registered for version {} in scheme",
            quote(&kind),
            quote(&api_version)
        )));
    }
    if kind == KIND && api_version == other_version.api_version() {
        let name = |version: Version| version.api_version().rsplit('/').next().unwrap_or_default();
        return Err(Error::Syntax(format!(
            "converting ({}.{KIND}) to ({}.{KIND}): unknown conversion",
            name(other_version),
            name(version)
        )));
    }
    let response = answered.response.ok_or_else(|| content("webhook response was absent".to_owned()))?;
    let patch = response.patch.unwrap_or_default();
    let patch = STANDARD.decode(patch.as_bytes()).map_err(|e| Error::Syntax(e.to_string()))?;
    let mut patch_type = response.patch_type;
    if version == Version::V1 {
        let given = response.uid.unwrap_or_default();
        if given != uid {
            return Err(content(format!("expected response.uid={}, got {}", quote(uid), quote(&given))));
        }
        if api_version != version.api_version() || kind != KIND {
            let wanted = GroupVersionKind::new(GROUP, "v1", KIND);
            let got = match GroupVersionKind::parse(&api_version, &kind) {
                Ok(got) if got.version.is_empty() => format!("/, Kind={kind}"),
                Ok(got) if got.group.is_empty() => format!("/{}, Kind={kind}", got.version),
                Ok(got) => got.to_string(),
                Err(_) => format!("{api_version}, Kind={kind}"),
            };
            return Err(content(format!("expected webhook response of {wanted}, got {got}")));
        }
        let wrong = match (mutating, patch.is_empty(), &patch_type) {
            (true, false, None) => Some("webhook returned response.patch but not response.patchType"),
            (true, true, Some(_)) => Some("webhook returned response.patchType but not response.patch"),
            (true, false, Some(kind)) if kind.is_empty() => {
                Some("webhook returned invalid response.patchType of \"\"")
            }
            (false, false, _) => Some("validating webhook may not return response.patch"),
            (false, true, Some(_)) => Some("validating webhook may not return response.patchType"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(content(wrong.to_owned()));
        }
    } else {
        // What an older review says of its patch was never looked at.
        patch_type = Some("JSONPatch".to_owned());
    }
    Ok(Answer {
        allowed: response.allowed.unwrap_or(false),
        patch: if mutating { patch } else { Vec::new() },
        patch_type: patch_type.unwrap_or_default(),
        status: response.status,
        warnings: response.warnings.unwrap_or_default(),
        audit_annotations: response.audit_annotations.unwrap_or_default(),
    })
}

/// The refusal that goes to the client (upstream's `ToStatusErr`).
pub fn refusal(webhook: &str, status: Option<Status>) -> Status {
    let mut status = status.unwrap_or_else(|| Status::failure(0, "", ""));
    let by = format!("admission webhook {} denied the request", quote(webhook));
    // A refusal is no success, and no HTTP status either that nobody could send.
    status.code = match status.code {
        0..400 => 400,
        1000.. => 500,
        code => code,
    };
    if matches!(&*status.status, "" | "Success") {
        status.status = "Failure".into();
    }
    (status.kind, status.api_version) = ("Status".into(), "v1".into());
    status.message = match (&*status.message, &*status.reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn questions() {
        let kind = GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler");
        let old_kind = GroupVersionKind::new("autoscaling", "v1", "HorizontalPodAutoscaler");
        let resource = kind.group_version().with_resource("horizontalpodautoscalers");
        let old_resource = old_kind.group_version().with_resource("horizontalpodautoscalers");
        let question = Question {
            uid: "u",
            kind: &kind,
            resource: &resource,
            requested_kind: &old_kind,
            requested_resource: &old_resource,
            subresource: "status",
            name: "h",
            namespace: "ns",
            operation: Operation::Update,
            user: &json!({"username": "jane"}),
            object: &json!({"a": 1}),
            old: &Value::Null,
            dry_run: true,
            options: &json!({"kind": "UpdateOptions"}),
        };
        let written: Value = serde_json::from_slice(&write(Version::V1beta1, &question).unwrap()).unwrap();
        assert_eq!(
            written,
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "request": {
                "uid": "u",
                "kind": {"group": "autoscaling", "version": "v2", "kind": "HorizontalPodAutoscaler"},
                "resource": {"group": "autoscaling", "version": "v2", "resource": "horizontalpodautoscalers"},
                "subResource": "status",
                "requestKind": {"group": "autoscaling", "version": "v1", "kind": "HorizontalPodAutoscaler"},
                "requestResource": {"group": "autoscaling", "version": "v1", "resource": "horizontalpodautoscalers"},
                "requestSubResource": "status",
                "name": "h",
                "namespace": "ns",
                "operation": "UPDATE",
                "userInfo": {"username": "jane"},
                "object": {"a": 1},
                "oldObject": null,
                "dryRun": true,
                "options": {"kind": "UpdateOptions"},
            }})
        );
    }

    #[test]
    fn answers() {
        let check = |version: Version, mutating: bool, body: Value, expect: Result<&str, &str>| {
            let got = read(version, mutating, "u", body.to_string().as_bytes());
            let got = got
                .map(|answer| {
                    format!(
                        "{} {} {}",
                        answer.allowed,
                        answer.patch_type,
                        String::from_utf8_lossy(&answer.patch)
                    )
                })
                .map_err(|e| e.to_string());
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{body}");
        };
        let review = |version: &str, response: Value| json!({"kind": KIND, "apiVersion": version, "response": response});
        let v1 = |response: Value| review("admission.k8s.io/v1", response);
        let beta = |response: Value| review("admission.k8s.io/v1beta1", response);
        use Version::{V1, V1beta1};
        check(V1, true, v1(json!({"uid": "u", "allowed": true})), Ok("true  "));
        check(V1, true, v1(json!({"uid": "u"})), Ok("false  "));
        check(
            V1,
            true,
            v1(json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"})),
            Ok("true JSONPatch []"),
        );
        check(V1beta1, true, beta(json!({"allowed": true, "patch": "W10="})), Ok("true JSONPatch []"));
        check(
            V1beta1,
            false,
            beta(json!({"uid": "other", "allowed": true, "patch": "W10="})),
            Ok("true JSONPatch "),
        );
        check(V1beta1, false, json!({"response": {"allowed": true}}), Ok("true JSONPatch "));
        check(
            V1,
            true,
            v1(Value::Null),
            Err("received invalid webhook response: webhook response was absent"),
        );
        check(V1, true, json!({}), Err("received invalid webhook response: webhook response was absent"));
        check(
            V1,
            true,
            v1(json!({"uid": "x"})),
            Err("received invalid webhook response: expected response.uid=\"u\", got \"x\""),
        );
        check(
            V1,
            true,
            json!({"response": {"uid": "u"}}),
            Err(
                "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
            ),
        );
        check(
            V1,
            true,
            beta(json!({"uid": "u"})),
            Err(
                "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion",
            ),
        );
        check(
            V1,
            true,
            json!({"kind": "Pod", "apiVersion": "v1"}),
            Err("failed to call webhook: no kind \"Pod\" is registered for version \"v1\" in scheme"),
        );
        for (mutating, response, why) in [
            (true, json!({"patch": "W10="}), "webhook returned response.patch but not response.patchType"),
            (
                true,
                json!({"patchType": "JSONPatch"}),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                true,
                json!({"patch": "W10=", "patchType": ""}),
                "webhook returned invalid response.patchType of \"\"",
            ),
            (false, json!({"patch": "W10="}), "validating webhook may not return response.patch"),
            (
                false,
                json!({"patchType": "JSONPatch"}),
                "validating webhook may not return response.patchType",
            ),
        ] {
            let mut response = response;
            response["uid"] = json!("u");
            check(V1, mutating, v1(response), Err(&format!("received invalid webhook response: {why}")));
        }
        for garbage in
            ["", "[", "7", "[]", r#"{"response":7}"#, r#"{"response":{"uid":"u","status":{"code":-1}}}"#]
        {
            assert!(matches!(read(V1, true, "u", garbage.as_bytes()), Err(Error::Syntax(_))), "{garbage}");
        }
    }

    #[test]
    fn refusals() {
        let status = |value: Value| serde_json::from_value::<Status>(value).unwrap();
        let check = |given: Option<Status>, code: u16, message: &str| {
            let got = refusal("w", given);
            assert_eq!((got.code, &*got.message, &*got.status), (code, message, "Failure"));
        };
        check(None, 400, "admission webhook \"w\" denied the request without explanation");
        check(
            Some(status(json!({"code": 200, "status": "Success"}))),
            400,
            "admission webhook \"w\" denied the request without explanation",
        );
        check(
            Some(status(json!({"message": "no", "code": 418}))),
            418,
            "admission webhook \"w\" denied the request: no",
        );
        check(
            Some(status(json!({"reason": "NotFound"}))),
            400,
            "admission webhook \"w\" denied the request: NotFound",
        );
        check(
            Some(status(json!({"code": 60000}))),
            500,
            "admission webhook \"w\" denied the request without explanation",
        );
    }
}
