//! `PodLogOptions`, as the query of `pods/log` has them, are checked before a kubelet is asked.

use apimachinery::field::{Error, ErrorList, Path, quote};
use apimachinery::{status::Status, time};

use crate::request::Query;

const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// # Errors
/// 400 for what is no number or no time, 422 for what may not be, in upstream's words (`ValidatePodLogOptions`).
pub fn check(pod: &str, query: &Query) -> Result<(), Status> {
    let given = |key: &str| query.get(key).filter(|value| !value.is_empty());
    let number = |key: &str| -> Result<Option<i64>, Status> {
        let Some(text) = given(key) else { return Ok(None) };
        let wrong = |e: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match e.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", quote(text)))
        };
        text.parse().map(Some).map_err(wrong)
    };
    let (lines, bytes, seconds) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let since = given("sinceTime");
    if let Some(text) = since
        && time::timestamp(text).is_none()
    {
        let text = quote(text);
        return Err(Status::bad_request(format!(
            "parsing time {text} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text} as \"2006\""
        )));
    }
    let mut errors = ErrorList::new();
    if let Some(lines) = lines.filter(|lines| *lines < 0) {
        errors.push(Error::invalid(&Path::new("tailLines"), lines, "must be greater than or equal to 0"));
    }
    if let Some(bytes) = bytes.filter(|bytes| *bytes < 1) {
        errors.push(Error::invalid(&Path::new("limitBytes"), bytes, "must be greater than 0"));
    }
    match seconds {
        Some(_) if since.is_some() => {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(Error::forbidden(&Path::new(""), why));
        }
        Some(seconds) if seconds < 1 => {
            errors.push(Error::invalid(&Path::new("sinceSeconds"), seconds, "must be greater than 0"));
        }
        _ => {}
    }
    let stream = given("stream").unwrap_or("All");
    if !STREAMS.contains(&stream) {
        errors.push(Error::not_supported(&Path::new("stream"), stream, STREAMS));
    }
    if stream != "All" && lines.is_some() {
        let why = "`tailLines` and specific `stream` are mutually exclusive for now";
        errors.push(Error::forbidden(&Path::new(""), why));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid("", "PodLogOptions", pod, &errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        for (query, expect) in [
            ("", None),
            (
                "tailLines=0&limitBytes=1&sinceSeconds=1&stream=Stdout&follow=true",
                Some((422, "mutually exclusive for now")),
            ),
            ("tailLines=0&limitBytes=1&sinceTime=2026-01-02T03:04:05Z", None),
            ("tailLines=-1", Some((422, "tailLines: Invalid value: -1: must be greater than or equal to 0"))),
            ("limitBytes=0", Some((422, "limitBytes: Invalid value: 0: must be greater than 0"))),
            ("sinceSeconds=0", Some((422, "sinceSeconds: Invalid value: 0: must be greater than 0"))),
            (
                "sinceSeconds=5&sinceTime=2026-01-02T03:04:05Z",
                Some((
                    422,
                    "PodLogOptions \"p\" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds`",
                )),
            ),
            ("stream=stdout", Some((422, "stream: Unsupported value: \"stdout\": supported values:"))),
            ("tailLines=x", Some((400, "strconv.ParseInt: parsing \"x\": invalid syntax"))),
            ("sinceTime=yesterday", Some((400, "parsing time \"yesterday\""))),
        ] {
            match (check("p", &Query::parse(Some(query))), expect) {
                (Ok(()), None) => {}
                (Err(status), Some((code, words))) => {
                    assert!(
                        status.code == code && status.message.contains(words),
                        "{query}: {}",
                        status.message
                    );
                }
                (got, _) => panic!("{query}: {got:?}"),
            }
        }
    }
}
