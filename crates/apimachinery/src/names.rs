//! What may be a name: DNS labels and subdomains, label keys and values, path segments and the like.
//!
//! Every `is_…` gives the messages that a client sees, none if the text is fine, in upstream's words
//! (`apimachinery/pkg/util/validation` and `pkg/api/validate/content`). Label keys and values count
//! "bytes", the rest "characters", as there.

use crate::clock::Entropy;
use crate::field::{self, Error, ErrorList, Path};

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// The longest DNS label.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// `must be no more than N characters`.
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// `must be between A and B, inclusive`.
pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A message with the examples and the pattern that it stands for.
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn label_1123(text: &str) -> bool {
    between(text, lower_alnum, |b| lower_alnum(b) || b == b'-', lower_alnum)
}

/// Not empty, first and last byte of their classes, the rest of `middle`.
fn between(text: &str, first: fn(u8) -> bool, middle: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [one] => first(*one),
        [a, rest @ .., z] => first(*a) && last(*z) && rest.iter().all(|b| middle(*b)),
    }
}

fn subdomain_1123(text: &str) -> bool {
    text.split('.').all(label_1123)
}

/// A DNS-1123 label: namespaces, container names, most volume names.
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(max_len_error(LABEL_MAX));
    }
    if !label_1123(text) {
        errors.push(match subdomain_1123(text) {
            true => "must not contain dots".to_string(),
            false => regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                 start and end with an alphanumeric character",
                LABEL_1123,
                &["my-name", "123-abc"],
            ),
        });
    }
    errors
}

fn subdomain(text: &str, too_long: fn(usize) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if !subdomain_1123(text) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
             must start and end with an alphanumeric character",
            SUBDOMAIN_1123,
            &["example.com"],
        ));
    }
    errors
}

/// A DNS-1123 subdomain: the name of most objects.
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    subdomain(text, max_len_error)
}

/// A DNS-1123 subdomain whose labels may start with and hold underscores (relaxed DNS search paths).
pub fn is_dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let label = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        between(text, lower_alnum, |b| lower_alnum(b) || b == b'-' || b == b'_', lower_alnum)
    };
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(max_len_error(SUBDOMAIN_MAX));
    }
    if !text.split('.').all(label) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
             and must start and end with an alphanumeric character",
            "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    errors
}

/// `*.` and a DNS-1123 subdomain.
pub fn is_wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(max_len_error(SUBDOMAIN_MAX));
    }
    if !text.strip_prefix("*.").is_some_and(subdomain_1123) {
        errors.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
             consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{SUBDOMAIN_1123}"),
            &["*.example.com"],
        ));
    }
    errors
}

/// A DNS-1035 label: the name of a Service.
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(max_len_error(LABEL_MAX));
    }
    if !between(text, |b| b.is_ascii_lowercase(), |b| lower_alnum(b) || b == b'-', lower_alnum) {
        errors.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            LABEL_1035,
            &["my-name", "abc-123"],
        ));
    }
    errors
}

fn key_name(text: &str) -> bool {
    let middle = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    between(text, |b| b.is_ascii_alphanumeric(), middle, |b| b.is_ascii_alphanumeric())
}

/// A label or annotation key, taint key, condition type: `name` or `example.com/name`.
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let pattern = || regex_error(KEY_TEXT, KEY, &["MyName", "my.name", "123-abc"]);
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {} {tail}", pattern())];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_string());
            } else {
                errors.extend(subdomain(prefix, max_bytes_error).iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_string());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", max_bytes_error(LABEL_MAX)));
    }
    if !key_name(name) {
        errors.push(format!("name part {}", pattern()));
    }
    errors
}

/// A label's value; may be empty.
pub fn is_label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(max_bytes_error(LABEL_MAX));
    }
    if !text.is_empty() && !key_name(text) {
        errors.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
             must start and end with an alphanumeric character",
            &format!("({KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A name that may stand in a URL path: RBAC objects and others with free names.
pub fn is_path_segment_name(text: &str) -> Vec<String> {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => is_path_segment_prefix(text),
    }
}

/// The beginning of [`is_path_segment_name`], for `generateName`.
pub fn is_path_segment_prefix(text: &str) -> Vec<String> {
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn change_dir(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        t if t.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

fn config_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
}

/// A key of a ConfigMap or Secret.
pub fn is_config_map_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(max_len_error(SUBDOMAIN_MAX));
    }
    if text.is_empty() || !text.bytes().all(config_byte) {
        errors.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    errors.extend(change_dir(text));
    errors
}

/// An environment variable's name, in the older, narrower sense.
pub fn is_env_var_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let first = text.bytes().next().is_some_and(|b| config_byte(b) && !b.is_ascii_digit());
    if !first || !text.bytes().all(config_byte) {
        errors.push(regex_error(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', \
             and must not start with a digit",
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    errors.extend(change_dir(text));
    errors
}

/// An environment variable's name: printable ASCII without `=` (KEP-4369).
pub fn is_relaxed_env_var_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.is_empty() {
        errors.push("environment variable name must be non-empty".to_string());
    }
    if text.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_string(),
        );
    }
    errors
}

/// A C identifier.
pub fn is_c_identifier(text: &str) -> Vec<String> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
         characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The name of a port (RFC 6335).
pub fn is_port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(max_len_error(15));
    }
    if text.is_empty() || !text.bytes().all(|b| lower_alnum(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_string());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_string());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_string());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_string());
    }
    errors
}

/// The number of a port: 1 to 65535.
pub fn is_port_number(port: i64) -> Vec<String> {
    is_in_range(port, 1, 65535)
}

/// `low <= value <= high`.
pub fn is_in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) { Vec::new() } else { vec![inclusive_range_error(low, high)] }
}

/// A user or group id: 0 to 2^31 - 1.
pub fn is_user_or_group_id(id: i64) -> Vec<String> {
    is_in_range(id, 0, i64::from(i32::MAX))
}

/// `50%`.
pub fn is_percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_error(message, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn is_http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// A DNS name of at least three labels (finalizers of old, signer names).
pub fn is_fully_qualified_name(path: &Path<'_>, name: &str) -> ErrorList {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let messages = is_dns1123_subdomain(name);
    if !messages.is_empty() {
        return vec![Error::invalid(path, name, messages.join(","))];
    }
    if name.split('.').count() < 3 {
        return vec![Error::invalid(
            path,
            name,
            "should be a domain with at least three segments separated by dots",
        )];
    }
    Vec::new()
}

/// `acme.io/foo`, a domain and a path (signer and attribute names).
pub fn is_domain_prefixed_path(path: &Path<'_>, text: &str) -> ErrorList {
    if text.is_empty() {
        return vec![Error::required(path, "")];
    }
    let (host, rest) = match text.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => (host, rest),
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return vec![Error::invalid(path, text, detail)];
        }
    };
    let mut errors: ErrorList =
        is_dns1123_subdomain(host).into_iter().map(|m| Error::invalid(path, host, m)).collect();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(allowed) {
        let detail = regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
        errors.push(Error::invalid(path, rest, detail));
    }
    errors
}

/// Every character of the generated part of a name: no vowels, no lookalikes.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How long the generated part is.
pub const SUFFIX_LENGTH: usize = 5;

/// `N` random characters of [`SUFFIX_ALPHABET`].
pub fn random_suffix(length: usize, entropy: &dyn Entropy) -> String {
    let mut bytes = vec![0u8; length * 4];
    entropy.fill(&mut bytes);
    let pick = |chunk: &[u8]| {
        let number = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        char::from(SUFFIX_ALPHABET[number as usize % SUFFIX_ALPHABET.len()])
    };
    bytes.chunks(4).map(pick).collect()
}

/// A name from `metadata.generateName`: the base, cut so that the whole fits in 63 bytes, and a suffix.
pub fn generate_name(base: &str, entropy: &dyn Entropy) -> String {
    let base = &base[..base.floor_char_boundary(LABEL_MAX - SUFFIX_LENGTH)];
    format!("{base}{}", random_suffix(SUFFIX_LENGTH, entropy))
}

/// The `fieldManager` parameter and the manager of an entry: at most 128 bytes, printable.
pub fn validate_field_manager(manager: &str, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    if manager.len() > 128 {
        errors.push(Error::too_long(path, 128));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| !field::is_print(*c)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", c as u32);
        errors.push(Error::invalid(path, manager, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Vec<String>, text: &str, expect: &[&str]) {
        assert_eq!(rule(text), expect, "{text:?}");
    }

    const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
        and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
        validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
        characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
        used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

    #[test]
    fn dns() {
        for good in ["a", "0", "a-b", "a1", "a--b"] {
            check(is_dns1123_label, good, &[]);
            check(is_dns1123_subdomain, good, &[]);
        }
        check(is_dns1123_label, "a.b", &["must not contain dots"]);
        for bad in ["", "-a", "a-", "A", "a_b", "ä"] {
            check(is_dns1123_label, bad, &[LABEL_TEXT]);
        }
        check(is_dns1123_label, &"a".repeat(63), &[]);
        check(is_dns1123_label, &"a".repeat(64), &["must be no more than 63 characters"]);
        for bad in ["", ".", "a.", ".a", "a..b", "a.-b", "A"] {
            check(is_dns1123_subdomain, bad, &[SUBDOMAIN_TEXT]);
        }
        check(is_dns1035_label, "a1", &[]);
        assert_eq!(is_dns1035_label("1a").len(), 1);
        check(is_wildcard_dns1123_subdomain, "*.a.b", &[]);
        assert_eq!(is_wildcard_dns1123_subdomain("a.b").len(), 1);
        check(is_dns1123_subdomain_with_underscore, "_tcp.a_b.c", &[]);
    }

    #[test]
    fn keys() {
        let name = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
            an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
            '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        for good in ["a", "A.b_c-D", "example.com/a", "1"] {
            check(is_qualified_name, good, &[]);
        }
        check(is_qualified_name, "", &["name part must be non-empty", name]);
        check(is_qualified_name, "/a", &["prefix part must be non-empty"]);
        check(is_qualified_name, "a/", &["name part must be non-empty", name]);
        check(is_qualified_name, "-a", &[name]);
        check(is_qualified_name, &"a".repeat(64), &["name part must be no more than 63 bytes"]);
        check(is_qualified_name, "A/b", &[&format!("prefix part {SUBDOMAIN_TEXT}")]);
        let twice = is_qualified_name("a/b/c").remove(0);
        assert!(twice.starts_with("a valid label key must consist of"), "{twice:?}");
        assert!(
            twice.ends_with("') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")
        );
        for good in ["", "a", "A_b.c"] {
            check(is_label_value, good, &[]);
        }
        let value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
            and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
            used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        for bad in ["a b", "a/b", "-", "a."] {
            check(is_label_value, bad, &[value]);
        }
        check(is_label_value, &"a".repeat(64), &["must be no more than 63 bytes"]);
    }

    #[test]
    fn the_rest() {
        check(is_path_segment_name, "system:node", &[]);
        check(is_path_segment_name, "..", &["may not be '..'"]);
        check(is_path_segment_name, "a/b%", &["may not contain '/'", "may not contain '%'"]);
        check(is_config_map_key, "a.b_C-1", &[]);
        check(is_config_map_key, "..a", &["must not start with '..'"]);
        assert_eq!(is_config_map_key("").len(), 1);
        check(is_env_var_name, "A_b", &[]);
        assert_eq!(is_env_var_name("1a").len(), 1);
        check(is_relaxed_env_var_name, "1 a", &[]);
        assert_eq!(is_relaxed_env_var_name("a=b").len(), 1);
        check(is_port_name, "http-1", &[]);
        check(is_port_name, "1", &["must contain at least one letter (a-z)"]);
        check(is_port_name, "a--b", &["must not contain consecutive hyphens"]);
        check(is_port_name, "-a", &["must not begin or end with a hyphen"]);
        check(is_port_name, &"a".repeat(16), &["must be no more than 15 characters"]);
        assert_eq!(is_port_number(0), ["must be between 1 and 65535, inclusive"]);
        check(is_percent, "5%", &[]);
        assert_eq!(is_percent("5").len(), 1);
        check(is_c_identifier, "_a1", &[]);
        assert_eq!(is_c_identifier("1a").len(), 1);
    }

    #[test]
    fn generated() {
        struct Zero;
        impl Entropy for Zero {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(1);
            }
        }
        let name = generate_name("web-", &Zero);
        assert_eq!(name.len(), 9);
        assert!(name[4..].bytes().all(|b| SUFFIX_ALPHABET.contains(&b)));
        assert_eq!(generate_name(&"a".repeat(100), &Zero).len(), 63);
    }
}
