//! Headers for browsers: which other origins' pages may read answers (CORS), and that this host speaks TLS only (HSTS).

use http::{HeaderMap, HeaderValue, Method, header};

const PINNED: &str = "List of allowed origins for CORS, comma separated. An allowed origin can be a regular expression to \
    support subdomain matching. If this list is empty CORS will not be enabled. Please ensure each expression matches the \
    entire hostname by anchoring to the start with '^' or including the '//' prefix, and by anchoring to the end with '$' \
    or including the ':' port separator suffix. Examples of valid expressions are '//example\\.com(:|$)' and \
    '^https://example\\.com(:|$)'";

/// What upstream's `WithCORS` says of everything.
const ALLOWED: [(header::HeaderName, &str); 4] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE, PATCH"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since",
    ),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
];

/// Headers that every answer gets.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    origins: Vec<regex::Regex>,
    strict_transport: Option<HeaderValue>,
}

impl Extra {
    /// From the values of `--cors-allowed-origins`, regular expressions, and
    /// `--strict-transport-security-directives`.
    ///
    /// # Errors
    /// The first value that is none, in upstream's words.
    pub fn new(origins: &[String], directives: &[String]) -> Result<Self, String> {
        let mut extra = Self::default();
        for origin in origins {
            if origin.is_empty() {
                return Err(format!("empty value in --cors-allowed-origins, help: {PINNED}"));
            }
            let wrong = |why: &str| {
                format!("--cors-allowed-origins has an invalid regular expression: {why}, help: {PINNED}")
            };
            extra.origins.push(cel::re2::compile(origin).map_err(|e| wrong(&e))?);
            let pinned = |marks: [&str; 2]| marks.iter().any(|mark| origin.contains(mark));
            if !pinned(["^", "//"]) || !pinned(["$", ":"]) {
                return Err(wrong(
                    "regular expression does not pin to start/end of host in the origin header",
                ));
            }
        }
        for directive in directives {
            if directive.trim().is_empty() {
                return Err("empty value in strict-transport-security-directives".into());
            }
            let age = directive.strip_prefix("max-age=").is_some_and(|age| !age.contains('='));
            if !age && directive != "includeSubDomains" && directive != "preload" {
                return Err("--strict-transport-security-directives invalid, allowed values: max-age=expireTime, \
                            includeSubDomains, preload. see https://tools.ietf.org/html/rfc6797#section-6.1 for more \
                            information"
                    .into());
            }
        }
        if !directives.is_empty() {
            let value = HeaderValue::from_str(&directives.join("; "));
            extra.strict_transport =
                Some(value.map_err(|e| format!("--strict-transport-security-directives: {e}"))?);
        }
        Ok(extra)
    }

    /// The request's origin, if its pages may read answers.
    pub fn origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN).filter(|_| !self.origins.is_empty())?;
        let text = origin.to_str().ok().filter(|text| !text.is_empty())?;
        self.origins.iter().any(|allowed| allowed.is_match(text)).then(|| origin.clone())
    }

    /// Whether it only asks what it might ask for: then these headers are all of the answer.
    pub fn is_preflight(origin: Option<&HeaderValue>, method: &Method) -> bool {
        origin.is_some() && method == Method::OPTIONS
    }

    /// Adds them to an answer.
    pub fn add(&self, origin: Option<HeaderValue>, answer: &mut HeaderMap) {
        if let Some(origin) = origin {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            for (name, value) in ALLOWED {
                answer.insert(name, HeaderValue::from_static(value));
            }
        }
        if let Some(value) = &self.strict_transport {
            answer.entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn origins() {
        let extra = Extra::new(&strings(&[r"//example\.com(:|$)", r"^https://.*\.corp$"]), &[]).unwrap();
        for (origin, allowed) in [
            ("https://example.com", true),
            ("http://example.com:8080", true),
            ("https://example.com.evil.org", false),
            ("https://notexample.com", false),
            ("https://a.corp", true),
            ("http://a.corp", false),
            ("", false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(header::ORIGIN, origin.parse().unwrap());
            let found = extra.origin(&request);
            assert_eq!(found.is_some(), allowed, "{origin}");
            let mut answer = HeaderMap::new();
            extra.add(found, &mut answer);
            assert_eq!(answer.len(), if allowed { 5 } else { 0 }, "{origin}");
        }
        assert!(extra.origin(&HeaderMap::new()).is_none());
        for (origin, why) in [
            ("", "empty value"),
            ("example.com", "does not pin"),
            ("^https://example.com", ""),
            ("//(", "invalid regular expression"),
        ] {
            match Extra::new(&strings(&[origin]), &[]) {
                Err(text) => assert!(!why.is_empty() && text.contains(why), "{origin}: {text}"),
                Ok(_) => assert_eq!(why, "", "{origin}"),
            }
        }
    }

    #[test]
    fn directives() {
        for (directives, expect) in [
            (&[][..], Ok(None)),
            (&["max-age=31536000", "includeSubDomains"][..], Ok(Some("max-age=31536000; includeSubDomains"))),
            (&["max-age"][..], Err("allowed values")),
            (&["max-age=1=2"][..], Err("allowed values")),
            (&[" "][..], Err("empty value")),
        ] {
            match (Extra::new(&[], &strings(directives)), expect) {
                (Ok(extra), Ok(expect)) => {
                    let mut answer = HeaderMap::new();
                    extra.add(None, &mut answer);
                    let found = answer.get(header::STRICT_TRANSPORT_SECURITY).map(|v| v.to_str().unwrap());
                    assert_eq!(found, expect);
                }
                (Err(text), Err(why)) => assert!(text.contains(why), "{text}"),
                (got, expect) => panic!("{directives:?}: {got:?} for {expect:?}"),
            }
        }
    }
}
