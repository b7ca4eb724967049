//! Headers, one a line: `Accept`, `Content-Type`, `Impersonate-*`, `User-Agent`.

use std::sync::Arc;

use apimachinery::managed_fields::manager_name;
use apiserver::authentication::impersonation::impersonate;
use apiserver::authorization::Attributes;
use apiserver::negotiation::{self, Format};
use apiserver::request::{Query, UserInfo};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::bounded;

pub fn run(bytes: &[u8]) {
    bounded(|| read(bytes));
}

fn read(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|b| *b == b'\n') {
        let Some(at) = line.iter().position(|b| *b == b':') else { continue };
        let value = line[at + 1..].trim_ascii();
        let name = HeaderName::from_bytes(&line[..at]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let query = Query::parse(None);
    let output = negotiation::output(&headers, &query);
    let plain = negotiation::plain(&headers, &query);
    let error = negotiation::for_error(&headers, &query);
    if plain.is_ok() {
        assert!(output.is_ok(), "what is good for a review is good for an object");
    }
    if let Ok(output) = output {
        // the best clause decides for errors, and nothing is better than it
        assert_eq!(error.format, output.format);
    }
    if let Ok(stream) = negotiation::stream(&headers) {
        assert_ne!(stream.format, Format::Yaml);
    }
    let _ = negotiation::input(&headers);

    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(manager_name("", agent).len() <= 128);

    let asker = UserInfo::new("asker", &["system:authenticated"]);
    let attributes = Attributes { verb: "get", ..Attributes::default() };
    let refused = |_: &UserInfo, _: &Attributes<'_>| {
        Err(Box::new(apimachinery::status::Status::forbidden("", "", "", "no")))
    };
    let granted = |_: &UserInfo, _: &Attributes<'_>| Ok(());
    if let Ok(user) = impersonate(Arc::new(asker.clone()), &headers, &attributes, &refused) {
        assert_eq!(*user, asker, "nobody may, and yet");
    }
    if let Ok(user) = impersonate(Arc::new(asker), &headers, &attributes, &granted) {
        assert!(!user.name.is_empty());
    }
}
