//! `kubernetes.NamedFormat`: checks of text by the name of its format.

use std::sync::OnceLock;

use apimachinery::names;

use crate::error::Error;
use crate::library::{regex, string, url};
use crate::value::{Result, Value};

/// A format that text can be checked against.
pub struct NamedFormat {
    /// As functions name it: `format.dns1123Label()`.
    key: &'static str,
    pub name: &'static str,
    check: fn(&str) -> Vec<String>,
    /// What the cost rules take for the length of its regular expression.
    pub regex_size: u64,
}

static FORMATS: &[NamedFormat] = &[
    format("dns1123Label", "DNS1123Label", names::is_dns1123_label, 30),
    format("dns1123Subdomain", "DNS1123Subdomain", names::is_dns1123_subdomain, 60),
    format("dns1035Label", "DNS1035Label", names::is_dns1035_label, 30),
    format("qualifiedName", "QualifiedName", names::is_qualified_name, 60),
    format("dns1123LabelPrefix", "DNS1123LabelPrefix", |it| names::is_dns1123_label(&prefix(it)), 30),
    format(
        "dns1123SubdomainPrefix",
        "DNS1123SubdomainPrefix",
        |it| names::is_dns1123_subdomain(&prefix(it)),
        60,
    ),
    format("dns1035LabelPrefix", "DNS1035LabelPrefix", |it| names::is_dns1035_label(&prefix(it)), 30),
    format("labelValue", "LabelValue", names::is_label_value, 40),
    format("uri", "URI", |it| url::parse_request_uri(it).err().into_iter().collect(), 1103),
    format("uuid", "uuid", |it| fault(is_uuid(it), "does not match the UUID format"), 70),
    format("byte", "byte", |it| fault(is_base64(it), "invalid base64"), 84),
    format("date", "date", |it| fault(is_date(it), "invalid date"), 71),
    format("datetime", "datetime", |it| fault(is_date_time(it), "invalid datetime"), 71),
];

const fn format(
    key: &'static str,
    name: &'static str,
    check: fn(&str) -> Vec<String>,
    regex_size: u64,
) -> NamedFormat {
    NamedFormat { key, name, check, regex_size }
}

fn fault(good: bool, otherwise: &str) -> Vec<String> {
    if good { Vec::new() } else { vec![otherwise.to_owned()] }
}

/// What may end in a dash, since something will be appended.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if text.len() > 1 => {
            let mut kept: Vec<char> = rest.chars().collect();
            kept.pop();
            kept.into_iter().chain(['a']).collect()
        }
        _ => text.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    static PATTERN: OnceLock<Option<::regex::Regex>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        regex::compile("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").ok()
    });
    pattern.as_ref().is_some_and(|it| it.is_match(text))
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'/'))
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && crate::time::Time::parse(&format!("{text}T00:00:00Z")).is_some()
}

fn is_date_time(text: &str) -> bool {
    static PATTERN: OnceLock<Option<::regex::Regex>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        regex::compile("^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$").ok()
    });
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time), Some(pattern)) = (parts.next(), parts.next(), pattern) else { return false };
    is_date(date)
        && pattern.captures(time).is_some_and(|it| &it[1] <= "23" && &it[2] <= "59" && &it[3] <= "59")
}

fn by_key(key: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|it| it.key == key)
}

/// `format.dns1123Label()` and the like.
pub(crate) fn constant(function: &str) -> Option<Value<'static>> {
    function.strip_prefix("format.").and_then(by_key).map(Value::Format)
}

pub(super) fn named<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(match by_key(string(args, 0)?) {
        Some(format) => Value::some(Value::Format(format)),
        None => Value::Optional(None),
    })
}

pub(super) fn validate<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    let Some(Value::Format(format)) = args.first() else { return Err(Error::no_such_overload()) };
    let faults = (format.check)(string(args, 1)?);
    Ok(if faults.is_empty() { Value::Optional(None) } else { Value::some(Value::strings(faults)) })
}
