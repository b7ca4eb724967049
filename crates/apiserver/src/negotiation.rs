//! Which form a request's body has and which form its answer takes: `Content-Type`, `Accept`, `pretty`.
//! Rules of upstream's `endpoints/handlers/negotiation`.

use apimachinery::status::Status;
use http::{HeaderMap, header};

use crate::request::Query;

/// A form of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    /// In upstream's envelope, `k8s\0`.
    Protobuf,
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// What an answer is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The object or list itself.
    None,
    /// `meta.k8s.io` Table, with its version (`v1`, `v1beta1`).
    Table(&'static str),
    /// `PartialObjectMetadata`, for one object or the objects of a watch.
    Metadata(&'static str),
    /// `PartialObjectMetadataList`.
    MetadataList(&'static str),
}

/// The negotiated form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub format: Format,
    pub transform: Transform,
    pub pretty: bool,
}

impl Output {
    pub const JSON: Self = Self { format: Format::Json, transform: Transform::None, pretty: false };
}

const MEDIA_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAM_MEDIA_TYPES: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// What a path's routes say that they answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Object,
    /// Or a watch.
    List,
    /// A log.
    Text,
    /// Whatever somebody else sends.
    Anything,
    /// JSON and nothing else.
    Json,
}

/// A first look at `Accept`, before the best form is looked for: one of its media types must be the route's, letter
/// by letter (upstream's go-restful).
///
/// # Errors
/// 406.
pub fn route(headers: &HeaderMap, route: Route) -> Result<(), Status> {
    const FORMS: [&str; 6] = [
        "text/plain",
        "application/json",
        "application/yaml",
        PROTOBUF,
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf;stream=watch",
    ];
    let forms = match route {
        Route::Object => &FORMS[1..4],
        Route::List => &FORMS[1..],
        Route::Text => &FORMS[..4],
        Route::Json => &FORMS[1..2],
        Route::Anything => return Ok(()),
    };
    let accept = accept_header(headers);
    let fits = |clause: &str| {
        let media_type = clause.split(';').next().unwrap_or_default().trim();
        media_type == "*/*" || forms.contains(&media_type)
    };
    if accept.is_empty() || accept.split(',').any(fits) {
        return Ok(());
    }
    let text = format!("406: Not Acceptable\n\nAvailable representations: {}", forms.join(", "));
    Err(Status::generic_server_response(406, "", ("", "", ""), &text, 0, false))
}

/// The form of an answer that is not a stream. 406 if the client takes nothing that we have.
pub fn output(headers: &HeaderMap, query: &Query) -> Result<Output, Status> {
    chosen(headers, query, |_| true)
}

/// The form of an answer that is neither a row nor metadata: reviews, tokens, bindings. Clauses that ask for
/// such a form do not fit (upstream: the storage has no table convertor).
pub fn plain(headers: &HeaderMap, query: &Query) -> Result<Output, Status> {
    chosen(headers, query, |transform| transform == Transform::None)
}

fn chosen(headers: &HeaderMap, query: &Query, fits: fn(Transform) -> bool) -> Result<Output, Status> {
    match negotiate_among(&accept_header(headers), fits) {
        Some((format, transform, by_parameter)) => {
            Ok(Output { format, transform, pretty: by_parameter || pretty(headers, query) })
        }
        None => Err(not_acceptable(MEDIA_TYPES)),
    }
}

/// The form of a watch's frames. YAML has none, and the best clause decides, even if a worse one would do.
pub fn stream(headers: &HeaderMap) -> Result<Output, Status> {
    match negotiate(&accept_header(headers)) {
        Some((format, transform, _)) if format != Format::Yaml => {
            Ok(Output { format, transform, pretty: false })
        }
        _ => Err(not_acceptable(STREAM_MEDIA_TYPES)),
    }
}

/// JSON, whatever the client takes.
pub fn json(headers: &HeaderMap, query: &Query) -> Output {
    Output { pretty: pretty(headers, query), ..Output::JSON }
}

/// The form of an error's body: never fails, JSON when nothing fits.
pub fn for_error(headers: &HeaderMap, query: &Query) -> Output {
    let format = negotiate(&accept_header(headers)).map_or(Format::Json, |(format, ..)| format);
    Output { format, transform: Transform::None, pretty: pretty(headers, query) }
}

/// The form of a request's body; none given means JSON. 415 for anything else.
pub fn input(headers: &HeaderMap) -> Result<Format, Status> {
    let raw = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // A parameter is a name and a value.
    let sound = raw.split(';').skip(1).all(|p| p.trim().is_empty() || p.contains('='));
    match media_type(raw).as_str() {
        _ if !sound => Err(unsupported_media_type(&[MEDIA_TYPES])),
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        PROTOBUF => Ok(Format::Protobuf),
        _ => Err(unsupported_media_type(&[MEDIA_TYPES])),
    }
}

/// The 415 of a body whose form is not among `accepted`.
pub fn unsupported_media_type(accepted: &[&str]) -> Status {
    Status::failure(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        ),
    )
}

/// The forms of custom objects.
pub const UNSTRUCTURED: &str = "application/json, application/yaml";

pub fn not_acceptable(accepted: &str) -> Status {
    Status::failure(406, "NotAcceptable", format!("only the following media types are accepted: {accepted}"))
}

/// `application/json; charset=utf-8` → `application/json`.
pub fn media_type(raw: &str) -> String {
    raw.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn accept_header(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let first = values.next().unwrap_or_default().to_owned();
    values.fold(first, |all, next| all + "," + next)
}

/// `pretty=…` decides; without it, agents with a person behind them get indented JSON.
fn pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(value) = query.get("pretty").filter(|v| !v.is_empty()) {
        return matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    agent.starts_with("curl") || agent.starts_with("Wget") || agent.starts_with("Mozilla/5.0")
}

/// The best clause of an `Accept` header, and whether it asks for indentation itself.
fn negotiate(accept: &str) -> Option<(Format, Transform, bool)> {
    negotiate_among(accept, |_| true)
}

fn negotiate_among(accept: &str, fits: fn(Transform) -> bool) -> Option<(Format, Transform, bool)> {
    if accept.is_empty() {
        return Some((Format::Json, Transform::None, false));
    }
    let mut clauses: Vec<(f32, &str)> = accept
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .map(|clause| (quality(clause), clause))
        .collect();
    // Higher quality first; among equals the more exact type, then the client's order.
    let rank = |clause: &str| match media_type(clause).as_str() {
        "*/*" => 2,
        t if t.ends_with("/*") => 1,
        _ => 0,
    };
    clauses.sort_by(|(qa, a), (qb, b)| qb.total_cmp(qa).then(rank(a).cmp(&rank(b))));
    clauses.into_iter().filter_map(|(_, clause)| clause_output(clause)).find(|(_, form, _)| fits(*form))
}

fn quality(clause: &str) -> f32 {
    parameters(clause).find(|(k, _)| k == "q").and_then(|(_, v)| v.parse().ok()).unwrap_or(1.0)
}

fn parameters(clause: &str) -> impl Iterator<Item = (String, String)> {
    clause.split(';').skip(1).filter_map(|p| {
        let (key, value) = p.split_once('=')?;
        Some((key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
    })
}

fn clause_output(clause: &str) -> Option<(Format, Transform, bool)> {
    let format = match media_type(clause).as_str() {
        "application/json" | "application/*" | "*/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        PROTOBUF => Format::Protobuf,
        _ => return None,
    };
    let (mut kind, mut group, mut version, mut pretty) = (String::new(), String::new(), String::new(), false);
    for (key, value) in parameters(clause) {
        match key.as_str() {
            "as" => kind = value,
            "g" => group = value,
            "v" => version = value,
            "stream" if !value.is_empty() && (value != "watch" || format == Format::Yaml) => return None,
            "sv" if !matches!(&*value, "" | "v1") => return None,
            "pretty" => pretty = value == "1",
            _ => {}
        }
    }
    if kind.is_empty() && group.is_empty() && version.is_empty() {
        return Some((format, Transform::None, pretty));
    }
    let version = match (group.as_str(), version.as_str()) {
        ("meta.k8s.io", "v1") => "v1",
        ("meta.k8s.io", "v1beta1") => "v1beta1",
        _ => return None,
    };
    let transform = match kind.as_str() {
        // A cell holds any JSON value, for which protobuf has no form.
        "Table" if format == Format::Protobuf => return None,
        "Table" => Transform::Table(version),
        "PartialObjectMetadata" => Transform::Metadata(version),
        "PartialObjectMetadataList" => Transform::MetadataList(version),
        _ => return None,
    };
    Some((format, transform, pretty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_no_row_of_a_table() {
        for (accept, fits) in [
            ("application/json;as=Table;v=v1;g=meta.k8s.io", false),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", true),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", false),
            ("*/*", true),
        ] {
            let found = negotiate_among(accept, |form| form == Transform::None);
            assert_eq!(found.is_some(), fits, "{accept}");
        }
    }

    #[test]
    fn accept() {
        use Format::*;
        use Transform::*;
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        let table = [
            ("", Some((Json, None))),
            ("*/*", Some((Json, None))),
            ("application/*", Some((Json, None))),
            ("application/json", Some((Json, None))),
            ("application/json; charset=utf-8", Some((Json, None))),
            ("application/yaml", Some((Yaml, None))),
            ("application/yaml,*/*", Some((Yaml, None))),
            ("application/yaml;q=0.5, application/json", Some((Json, None))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Protobuf, None))),
            ("text/html", Option::None),
            ("text/html, */*;q=0.1", Some((Json, None))),
            (kubectl, Some((Json, Table("v1")))),
            (metadata, Some((Protobuf, MetadataList("v1")))),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", Option::None),
            ("application/yaml;as=Table;g=meta.k8s.io;v=v1", Some((Yaml, Table("v1")))),
            ("application/json;q=0.1,application/vnd.kubernetes.protobuf;q=0.9", Some((Protobuf, None))),
            ("application/yaml;stream=watch", Option::None),
            ("application/json;sv=v1", Some((Json, None))),
            ("application/json;sv=v2", Option::None),
            ("application/json;as=Bogus;g=meta.k8s.io;v=v1", Option::None),
            ("application/json;as=Bogus;g=meta.k8s.io;v=v1,application/json", Some((Json, None))),
            ("application/json;stream=watch", Some((Json, None))),
            ("application/json;stream=other", Option::None),
        ];
        for (accept, expect) in table {
            assert_eq!(negotiate(accept).map(|(f, t, _)| (f, t)), expect, "{accept}");
        }
        for (accept, expect) in [
            (
                "application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch",
                Some(Protobuf),
            ),
            ("application/json", Some(Json)),
            ("application/yaml, application/json", Option::None),
            ("application/yaml;q=0.5, application/json", Some(Json)),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(stream(&headers).ok().map(|output| output.format), expect, "{accept}");
        }
    }
}
