//! `kubernetes.URL`: URLs as Go's `net/url` reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::library::string;
use crate::value::{Result, Value};

#[derive(Debug, Default)]
pub struct Url {
    pub scheme: String,
    opaque: String,
    user: Option<String>,
    /// With the port.
    pub host: String,
    path: String,
    raw_path: String,
    query: Option<String>,
    fragment: String,
}

type Fault = String;

/// Reads a URL of a request: absolute, or an absolute path; a fragment belongs to the path.
pub(crate) fn parse_request_uri(text: &str) -> std::result::Result<Url, Fault> {
    parse(text, true).map_err(|fault| format!("parse {}: {fault}", quoted(text)))
}

fn parse_any(text: &str) -> std::result::Result<Url, Fault> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let mut url = parse(rest, false).map_err(|fault| format!("parse {}: {fault}", quoted(rest)))?;
    url.fragment =
        unescape(fragment, Part::Fragment).map_err(|fault| format!("parse {}: {fault}", quoted(text)))?;
    Ok(url)
}

/// As Go's `%q`.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            it if (it as u32) < 0x20 || it as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", it as u32)),
            it => out.push(it),
        }
    }
    out.push('"');
    out
}

fn parse(text: &str, request: bool) -> std::result::Result<Url, Fault> {
    if text.bytes().any(|it| it < 0x20 || it == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() && request {
        return Err("empty url".to_owned());
    }
    let mut url = Url::default();
    if text == "*" {
        url.path = "*".to_owned();
        return Ok(url);
    }
    let (scheme, mut rest) = split_scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    if let Some((path, query)) = rest.split_once('?') {
        rest = path;
        url.query = Some(query.to_owned());
    }
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            url.opaque = rest.to_owned();
            return Ok(url);
        }
        if request {
            return Err("invalid URI for request".to_owned());
        }
        if rest.split('/').next().is_some_and(|it| it.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let authority = !url.scheme.is_empty() || (!request && !rest.starts_with("///"));
    if let Some(after) = rest.strip_prefix("//").filter(|_| authority) {
        let end = after.find('/').unwrap_or(after.len());
        set_authority(&mut url, &after[..end])?;
        rest = &after[end..];
    }
    url.path = unescape(rest, Part::Path)?;
    if escape(&url.path) != rest {
        url.raw_path = rest.to_owned();
    }
    Ok(url)
}

fn split_scheme(text: &str) -> std::result::Result<(&str, &str), Fault> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn set_authority(url: &mut Url, authority: &str) -> std::result::Result<(), Fault> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    url.host = host_of(host)?;
    if let Some(user) = user {
        let allowed = |it: u8| it.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&it);
        if !user.bytes().all(allowed) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        unescape(user, Part::User)?;
        url.user = Some(user.to_owned());
    }
    Ok(())
}

fn host_of(host: &str) -> std::result::Result<String, Fault> {
    let port = if host.starts_with('[') {
        let close = host.rfind(']').ok_or("missing ']' in host")?;
        &host[close + 1..]
    } else {
        host.find(':').map_or("", |_| &host[host.rfind(':').unwrap_or(0)..])
    };
    let valid = port.is_empty() || (port.starts_with(':') && port[1..].bytes().all(|it| it.is_ascii_digit()));
    if !valid {
        return Err(format!("invalid port {} after host", quoted(port)));
    }
    unescape(host, Part::Host)
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Path,
    Host,
    User,
    Query,
    Fragment,
}

fn unescape(text: &str, part: Part) -> std::result::Result<String, Fault> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).filter(|it| it.iter().all(u8::is_ascii_hexdigit));
                let value = digits.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok());
                let Some(value) = value else {
                    let end =
                        (at + 3..=text.len()).find(|it| text.is_char_boundary(*it)).unwrap_or(text.len());
                    return Err(format!("invalid URL escape {}", quoted(&text[at..end])));
                };
                // Only what is not ASCII may be escaped in a host, but for the sign itself.
                if part == Part::Host && value < 0x80 && &bytes[at..at + 3] != b"%25" {
                    return Err(format!("invalid URL escape {}", quoted(&text[at..at + 3])));
                }
                out.push(value);
                at += 3;
            }
            b'+' if part == Part::Query => {
                out.push(b' ');
                at += 1;
            }
            byte => {
                if part == Part::Host && byte < 0x80 && !host_may_hold(byte) {
                    let shown = quoted(&(byte as char).to_string());
                    return Err(format!("invalid character {shown} in host name"));
                }
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn host_may_hold(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte)
}

/// A path with what must be escaped escaped.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Url {
    pub fn hostname(&self) -> String {
        let host = self.without_port();
        host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host).to_owned()
    }

    fn without_port(&self) -> &str {
        match self.host.rfind(':') {
            Some(at) if self.host[at + 1..].bytes().all(|it| it.is_ascii_digit()) => &self.host[..at],
            _ => &self.host,
        }
    }

    pub fn port(&self) -> String {
        let port = &self.host[self.without_port().len()..];
        port.strip_prefix(':').unwrap_or("").to_owned()
    }

    pub fn escaped_path(&self) -> String {
        let encoded = |it: u8| it.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]%/".contains(&it);
        if !self.raw_path.is_empty() && self.raw_path.bytes().all(encoded) {
            return self.raw_path.clone();
        }
        if self.path == "*" { self.path.clone() } else { escape(&self.path) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme.is_empty() {
            write!(out, "{}:", self.scheme)?;
        }
        if !self.opaque.is_empty() {
            out.write_str(&self.opaque)?;
        } else {
            if !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some() {
                if !self.host.is_empty() || !self.path.is_empty() || self.user.is_some() {
                    out.write_str("//")?;
                }
                if let Some(user) = &self.user {
                    write!(out, "{user}@")?;
                }
                out.write_str(&self.host)?;
            }
            let path = self.escaped_path();
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                out.write_str("/")?;
            }
            out.write_str(&path)?;
        }
        if let Some(query) = &self.query {
            write!(out, "?{query}")?;
        }
        if !self.fragment.is_empty() {
            write!(out, "#{}", escape(&self.fragment))?;
        }
        Ok(())
    }
}

pub(super) fn url<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let text = string(args, 0)?;
    let failed = |fault| Error::new(format!("URL parse error during conversion from string: {fault}"));
    parse_request_uri(text).map_err(failed)?;
    Ok(Value::Url(Arc::new(parse_any(text).map_err(failed)?)))
}

pub(super) fn is_url<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Bool(parse_request_uri(string(args, 0)?).is_ok()))
}

fn this<'v>(args: &'v [Value<'_>]) -> Result<&'v Url> {
    match args.first() {
        Some(Value::Url(url)) => Ok(url),
        _ => Err(Error::no_such_overload()),
    }
}

pub(super) fn part<'a>(args: &[Value<'a>], part: fn(&Url) -> String) -> Result<Value<'a>> {
    Ok(Value::string(part(this(args)?)))
}

pub(super) fn query<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in this(args)?.query.iter().flat_map(|it| it.split('&')) {
        if pair.is_empty() || pair.contains(';') {
            continue;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Ok(key), Ok(value)) = (unescape(key, Part::Query), unescape(value, Part::Query)) {
            found.entry(key).or_default().push(value);
        }
    }
    Ok(Value::map(found.into_iter().map(|(key, values)| (Value::string(key), Value::strings(values)))))
}
