//! Where a webhook is reached: a URL or a service of the cluster (upstream's `apiserver/pkg/util/webhook`).

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{int, present, text};

/// `https://host[:port][/path]` and nothing more.
pub fn url(url: &str, path: &Path<'_>, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let parts = match Parts::of(url) {
        Ok(parts) => parts,
        Err(fault) => {
            let why = format!("url must be a valid URL: parse {url:?}: {fault}{FORM}");
            errors.push(Error::required(path, why));
            return;
        }
    };
    if parts.scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(Error::invalid(path, parts.scheme, why));
    }
    if parts.host.is_empty() {
        errors.push(Error::invalid(path, "", format!("host must be specified{FORM}")));
    }
    for (part, what) in [
        (parts.user, "user information is"),
        (parts.fragment.filter(|fragment| !fragment.is_empty()), "fragments are"),
        (parts.query.filter(|query| !query.is_empty()), "query parameters are"),
    ] {
        if let Some(part) = part {
            errors.push(Error::invalid(path, part, format!("{what} not permitted in the URL")));
        }
    }
}

#[derive(Default)]
struct Parts<'a> {
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl Parts<'_> {
    /// As Go's `url.Parse` takes a URL apart, as far as what is asked here depends on it.
    fn of(url: &str) -> Result<Parts<'_>, String> {
        let (rest, fragment) = url.split_once('#').map_or((url, None), |(rest, after)| (rest, Some(after)));
        if rest.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (scheme, rest) = scheme(rest)?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, after)| (rest, Some(after)));
        let mut parts = Parts { scheme, query, fragment, ..Parts::default() };
        let Some(rest) = rest.strip_prefix("//") else {
            if parts.scheme.is_empty()
                && !rest.starts_with('/')
                && rest.split('/').next().is_some_and(|first| first.contains(':'))
            {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
            return Ok(parts);
        };
        let authority = rest.split('/').next().unwrap_or_default();
        (parts.user, parts.host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if let Some(bad) = parts.host.chars().find(|c| " \"<>\\^`{|}".contains(*c)) {
            return Err(format!("invalid character {:?} in host name", bad.to_string()));
        }
        let after = parts.host.rsplit_once(']').map_or(parts.host, |(_, after)| after);
        if let Some((_, port)) = after.rsplit_once(':')
            && !port.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(format!("invalid port {:?} after host", format!(":{port}")));
        }
        Ok(parts)
    }
}

/// The scheme in lower case and the rest; without one, all is the rest.
fn scheme(url: &str) -> Result<(String, &str), String> {
    for (at, byte) in url.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((url[..at].to_lowercase(), &url[at + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), url))
}

/// A service, with the fields that hold name and namespace, in the order in which they are missed.
pub fn service(service: &Value, told: [&str; 2], path: &Path<'_>, errors: &mut ErrorList) {
    let [for_name, for_namespace] = told;
    // Whichever stands for the name is missed first.
    let missing = |field: &str| text(service, field).is_empty();
    let pairs = [("name", for_name), ("namespace", for_namespace)];
    let mut missed: Vec<&str> =
        pairs.iter().filter(|(field, _)| missing(field)).map(|(_, told)| *told).collect();
    missed.sort_unstable();
    for field in missed {
        errors.push(Error::required(&path.child(field), ""));
    }
    let port = int(service, "port").unwrap_or(0);
    let faults = names::is_port_number(port);
    if !faults.is_empty() {
        let why = format!("port is not valid: {}", faults.join(", "));
        errors.push(Error::invalid(&path.child("port"), port, why));
    }
    let Some(url) = present(service, "path").and_then(Value::as_str) else { return };
    service_path(url, &path.child("path"), errors);
}

/// `/segment/segment`, each a DNS subdomain.
fn service_path(url: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if url.is_empty() || url == "/" {
        return;
    }
    if url == "//" {
        errors.push(Error::invalid(path, url, "segment[0] may not be empty"));
        return;
    }
    if !url.starts_with('/') {
        errors.push(Error::invalid(path, url, "must start with a '/'"));
    }
    // The first character goes, whatever it is.
    let rest = url.get(url.ceil_char_boundary(1)..).unwrap_or_default();
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (index, segment) in rest.split('/').enumerate() {
        if segment.is_empty() {
            errors.push(Error::invalid(path, url, format!("segment[{index}] may not be empty")));
            continue;
        }
        for fault in names::is_dns1123_subdomain(segment) {
            errors.push(Error::invalid(path, url, format!("segment[{index}]: {fault}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bodies(errors: &ErrorList) -> Vec<String> {
        errors
            .iter()
            .map(|error| error.body().split("; desired").next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn urls() {
        let check = |text: &str, expect: &[&str]| {
            let mut errors = ErrorList::new();
            url(text, &Path::new("url"), &mut errors);
            assert_eq!(bodies(&errors), expect, "{text}");
        };
        let (scheme, host) =
            ("'https' is the only allowed URL scheme", "Invalid value: \"\": host must be specified");
        check("https://example.com/a/b", &[]);
        check("https://[::1]:443", &[]);
        check("HTTPS://a", &[]);
        check("http://foo.com", &[&format!("Invalid value: \"http\": {scheme}")]);
        check("", &[&format!("Invalid value: \"\": {scheme}"), host]);
        check("https://", &[host]);
        check("https:///fancy/webhook", &[host]);
        check("https://a@b", &["Invalid value: \"a\": user information is not permitted in the URL"]);
        check("https://b?a=b", &["Invalid value: \"a=b\": query parameters are not permitted in the URL"]);
        check("https://b#c", &["Invalid value: \"c\": fragments are not permitted in the URL"]);
        check(
            "arg#backwards=thisis?html.index/port=none",
            &[
                &format!("Invalid value: \"\": {scheme}"),
                host,
                "Invalid value: \"backwards=thisis?html.index/port=none\": fragments are not permitted in the URL",
            ],
        );
        check(
            "https://b:x",
            &[
                "Required value: url must be a valid URL: parse \"https://b:x\": invalid port \":x\" after host",
            ],
        );
        check(":b", &["Required value: url must be a valid URL: parse \":b\": missing protocol scheme"]);
    }

    #[test]
    fn services() {
        let check = |patch: Value, expect: &[&str]| {
            let mut whole = json!({"name": "n", "namespace": "ns", "port": 443});
            whole.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
            let mut errors = ErrorList::new();
            service(&whole, ["name", "namespace"], &Path::new("s"), &mut errors);
            let got: Vec<String> =
                errors.iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect();
            assert_eq!(got, expect, "{patch}");
        };
        check(json!({}), &[]);
        check(json!({"name": "", "namespace": ""}), &["s.name: Required", "s.namespace: Required"]);
        check(json!({"port": 0}), &["s.port: Invalid"]);
        for good in ["", "/", "/foo", "/foo/", "/foo.bar/x"] {
            check(json!({ "path": good }), &[]);
        }
        for bad in ["//", "/foo//bar/", "/apis/foo.bar//", "/Foo", "foo"] {
            check(json!({ "path": bad }), &["s.path: Invalid"]);
        }
    }
}
