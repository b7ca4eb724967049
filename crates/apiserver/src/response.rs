//! Answers: Status bodies, objects in the negotiated form, compression.

use std::io::Write;

use apimachinery::status::Status;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{
    negotiation::{Format, Output},
    server::{Body, body},
    storage,
};

/// Bodies from here on are compressed for clients that ask (upstream's `defaultGzipThresholdBytes`).
pub const GZIP_FROM: usize = 128 * 1024;

/// A connection's body as ours.
pub fn incoming(incoming: hyper::body::Incoming) -> Body {
    crate::server::drained(incoming.map_err(Into::into).boxed_unsync())
}

/// Reads a request's body, up to `limit` bytes.
///
/// # Errors
/// 413 beyond the limit, 400 when the client breaks off.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, Status> {
    let mut first = Bytes::new();
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Status::bad_request(format!("reading the request body: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(Status::request_entity_too_large(format_args!("limit is {limit}")));
        }
        // Most bodies are one frame: those are not copied.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all = std::mem::take(&mut first).to_vec();
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// An answer with a body in one piece.
pub fn bytes(code: u16, content_type: &'static str, data: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body(data));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer without a body.
pub fn empty(code: u16) -> Response<Body> {
    let mut response = Response::new(body(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Plain text, as Go's `http.Error` writes it.
pub fn text(code: u16, text: &str) -> Response<Body> {
    let mut response = bytes(code, "text/plain; charset=utf-8", format!("{text}\n"));
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// A Status as the answer.
pub fn status(status: &Status, output: Output) -> Response<Body> {
    let code = if status.code == 0 { 500 } else { status.code };
    let json = serde_json::to_vec(status).unwrap_or_default();
    let mut response = json_text(code, json.into(), output);
    if let Some(seconds) = status.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Upstream's answer to a path that nothing serves.
pub fn not_found() -> Response<Body> {
    text(404, "404 page not found")
}

/// Upstream's answer to a path that no route of a served version fits.
pub fn no_route() -> Status {
    Status::generic_server_response(404, "", ("", "", ""), "", 0, false)
}

/// Upstream's answer to a method that a path's routes do not take.
pub fn wrong_method() -> Status {
    Status::generic_server_response(405, "", ("", "", ""), "405: Method Not Allowed", 0, false)
}

/// An object or list as the answer.
pub fn value(code: u16, value: &Value, output: Output) -> Response<Body> {
    json_text(code, serde_json::to_vec(value).unwrap_or_default().into(), output)
}

/// JSON text as the answer, turned into the negotiated form.
pub fn json_text(code: u16, json: Bytes, output: Output) -> Response<Body> {
    match (output.format, output.pretty) {
        (Format::Json, false) => bytes(code, "application/json", json),
        (Format::Json, true) => bytes(code, "application/json", indent(&json)),
        (Format::Yaml, _) => bytes(code, "application/yaml", yaml(&json)),
        (Format::Protobuf, _) => match protobuf(&json) {
            Some(packed) => bytes(code, Format::Protobuf.media_type(), packed),
            None => bytes(code, "application/json", json),
        },
    }
}

fn yaml(json: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(json) {
        Ok(value) => apimachinery::codec::yaml::to_string(&value).into_bytes(),
        Err(_) => json.to_vec(),
    }
}

/// An object or list in upstream's envelope; `None` for what has no message.
fn protobuf(json: &[u8]) -> Option<Bytes> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let (api_version, kind) = (value["apiVersion"].as_str()?, value["kind"].as_str()?);
    let ty = storage::type_of(api_version, kind)?;
    storage::codec::encode(ty, api_version, kind, &value).ok()
}

/// The client takes gzip.
pub fn wants_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|token| token.trim() == "gzip")
}

/// A gzip stream that is fed piece by piece.
pub struct Gzip(GzEncoder<Vec<u8>>);

impl Default for Gzip {
    fn default() -> Self {
        // The fastest level, as upstream: nearly as small, at a third of the time.
        Self(GzEncoder::new(Vec::new(), Compression::new(1)))
    }
}

impl Gzip {
    /// Compressed bytes that are ready after this piece; may be none.
    pub fn push(&mut self, piece: &[u8]) -> Bytes {
        // Writing to a Vec cannot fail.
        let _ = self.0.write_all(piece);
        std::mem::take(self.0.get_mut()).into()
    }

    pub fn finish(self) -> Bytes {
        self.0.finish().unwrap_or_default().into()
    }
}

/// Compresses an answer whose body is at hand, if it is long and the client wants that. `length`: of the body.
pub fn compress(headers: &HeaderMap, response: &mut Response<Body>, length: usize) {
    if length < GZIP_FROM || !wants_gzip(headers) {
        return;
    }
    let plain = std::mem::replace(response.body_mut(), body(Bytes::new()));
    // The body is one piece that is there: collecting it never waits.
    let Some(Ok(collected)) = plain.collect().now_or_never() else { return };
    let mut gzip = Gzip::default();
    let mut packed = gzip.push(&collected.to_bytes()).to_vec();
    packed.extend_from_slice(&gzip.finish());
    *response.body_mut() = body(packed);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    set_gzip(response.headers_mut());
}

/// Marks an answer as compressed.
pub fn set_gzip(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// Characters of all warnings of an answer, and of each where all of them would be more (upstream's
/// `filters/warning.go`).
const MOST_WARNED: usize = 4096;
const LONGEST_WARNING: usize = 256;

/// `Warning: 299 - "text"`, one header each; what a header cannot hold is escaped or dropped, and so is what is too
/// much: some of it is said by strangers.
pub fn add_warnings(headers: &mut HeaderMap, warnings: &[String]) {
    let total: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let longest = if total > MOST_WARNED { LONGEST_WARNING } else { MOST_WARNED };
    let mut written = 0;
    for warning in warnings {
        if written >= MOST_WARNED {
            break;
        }
        written += warning.chars().take(longest).count();
        let mut text = String::with_capacity(warning.len().min(longest) + 8);
        text.push_str("299 - \"");
        for c in warning.chars().take(longest) {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => {}
                c => text.push(c),
            }
        }
        text.push('"');
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.append(HeaderName::from_static("warning"), value);
        }
    }
}

/// JSON text indented by two spaces, as Go's `json.MarshalIndent`. The text must be valid JSON.
pub fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let newline = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    let mut bytes = json.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        if in_string {
            out.push(b);
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match b {
            b'"' => {
                in_string = true;
                out.push(b);
            }
            b'{' | b'[' => {
                out.push(b);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                if let Some(close) = bytes.next_if(|b| matches!(b, b'}' | b']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(b);
            }
            b',' => {
                out.push(b);
                newline(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b if b.is_ascii_whitespace() => {}
            b => out.push(b),
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation() {
        let json = br#"{"a":[1,{"b":"x,:{\"y"}],"c":{},"d":[ ],"e":null}"#;
        let expect = "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x,:{\\\"y\"\n    }\n  ],\n  \"c\": {},\n  \"d\": [],\n  \"e\": null\n}\n";
        assert_eq!(String::from_utf8(indent(json)).unwrap(), expect);
    }

    #[test]
    fn warnings() {
        let mut headers = HeaderMap::new();
        add_warnings(&mut headers, &["unknown field \"spec.x\"".into(), "two\nlines".into()]);
        let got: Vec<_> = headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(got, [r#"299 - "unknown field \"spec.x\"""#, r#"299 - "twolines""#]);
        // Cut, and then dropped, where it is too much.
        for (count, length, expect) in [(2, 2000, (2, 2008)), (3, 2000, (3, 264)), (100, 2000, (16, 264))] {
            let mut headers = HeaderMap::new();
            add_warnings(&mut headers, &vec!["w".repeat(length); count]);
            let got: Vec<usize> = headers.get_all("warning").iter().map(HeaderValue::len).collect();
            assert_eq!((got.len(), got.first().copied().unwrap_or(0)), expect);
        }
    }
}
