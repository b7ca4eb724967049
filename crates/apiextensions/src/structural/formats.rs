//! The string formats that schemas may name, judged as upstream's `kube-openapi/pkg/validation/strfmt` does.
//! Dashes in a format's name do not count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use regex::Regex;

use super::Kind;
use apimachinery::time;

type Judge = fn(&str) -> bool;

const FORMATS: [(&str, Judge); 26] = [
    ("bsonobjectid", |text| text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit())),
    ("byte", |text| matches(&BASE64, text)),
    ("cidr", is_cidr),
    ("creditcard", is_credit_card),
    ("date", is_date),
    ("datetime", is_date_time),
    ("duration", is_duration),
    ("email", is_email),
    ("hexcolor", |text| {
        let digits = text.strip_prefix('#').unwrap_or(text);
        matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    }),
    ("hostname", is_hostname),
    ("ipv4", |text| is_ip(text) && text.contains('.')),
    ("ipv6", |text| text.contains(':') && text.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |text| is_isbn10(text) || is_isbn13(text)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("k8slongname", |text| text.len() <= 253 && text.split('.').all(is_label)),
    ("k8sshortname", |text| text.len() <= 63 && is_label(text)),
    ("mac", is_mac),
    ("password", |_| true),
    ("rgbcolor", |text| matches(&RGB, text)),
    ("ssn", |text| text.len() == 11 && matches(&SSN, text)),
    ("uri", is_uri),
    ("uuid", |text| is_uuid(text, None)),
    ("uuid3", |text| is_uuid(text, Some(b'3'))),
    ("uuid4", |text| is_uuid(text, Some(b'4'))),
    ("uuid5", |text| is_uuid(text, Some(b'5'))),
];

fn judge(format: &str) -> Option<Judge> {
    let format = format.replace('-', "");
    FORMATS.iter().find(|(name, _)| *name == format).map(|(_, judge)| *judge)
}

/// Whether values of a type are held to this format; other formats are ignored (with a warning when a definition
/// names them).
pub fn is_known(kind: Option<Kind>, format: &str) -> bool {
    match kind {
        None | Some(Kind::String) => judge(format).is_some(),
        Some(Kind::Integer) => matches!(format, "int32" | "int64"),
        Some(Kind::Number) => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a string is of the format; always for a format that is not known.
pub fn is_valid(format: &str, text: &str) -> bool {
    judge(format).is_none_or(|judge| judge(text))
}

/// An expression that is compiled when it is first needed.
struct Lazy(OnceLock<Option<Regex>>, &'static str);

static BASE64: Lazy =
    lazy(r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$");
static RGB: Lazy = lazy(
    r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
);
static SSN: Lazy = lazy(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$");
static CREDIT_CARD: Lazy = lazy(
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$",
);
static NAME_CHARACTER: Lazy = lazy(r"^[a-zA-Z0-9\p{S}\p{L}]$");
static DURATION: Lazy = lazy(r"(\d+)\s*([A-Za-zµ]+)");
static DATE_TIME: Lazy = lazy(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$");

const fn lazy(expression: &'static str) -> Lazy {
    Lazy(OnceLock::new(), expression)
}

impl Lazy {
    fn get(&self) -> Option<&Regex> {
        self.0.get_or_init(|| cel::re2::compile(self.1).ok()).as_ref()
    }
}

fn matches(expression: &Lazy, text: &str) -> bool {
    expression.get().is_some_and(|expression| expression.is_match(text))
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty()
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Also with zeros in front, as Go's parser once allowed.
fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || sloppy(text).is_some()
}

fn sloppy(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.trim_start_matches('0').parse::<u8>().or(part.parse()).ok() } else { None }
    });
    let octets = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match (sloppy(address), address.parse::<IpAddr>()) {
        (Some(_), _) | (_, Ok(IpAddr::V4(_))) => 32,
        (_, Ok(IpAddr::V6(_))) => 128,
        _ => return false,
    };
    bits.bytes().all(|byte| byte.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn is_mac(text: &str) -> bool {
    let (separator, width) = match text.as_bytes() {
        [_, _, b':', ..] => (':', 2),
        [_, _, b'-', ..] => ('-', 2),
        [_, _, _, _, b'.', ..] => ('.', 4),
        _ => return false,
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let well = |group: &str| group.len() == width && group.bytes().all(|byte| byte.is_ascii_hexdigit());
    groups.iter().all(|group| well(group)) && matches!(groups.len() * width, 12 | 16 | 40)
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut rest = text;
    for (index, width) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some((group, after)) = rest.split_at_checked(width) else { return false };
        let first = group.as_bytes().first().copied().unwrap_or_default();
        let good = match (index, version) {
            (2, Some(version)) => first == version,
            (3, Some(b'4' | b'5')) => matches!(first.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'),
            _ => true,
        };
        if !good || !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

fn compact(text: &str, keep: fn(char) -> bool) -> String {
    text.chars().filter(|c| keep(*c)).collect()
}

fn digits(text: &str) -> impl DoubleEndedIterator<Item = u32> + '_ {
    text.chars().map(|c| c.to_digit(10).unwrap_or(10))
}

fn is_isbn10(text: &str) -> bool {
    let text = compact(text, |c| !c.is_ascii_whitespace() && c != '-');
    let body = text.strip_suffix('X').unwrap_or(&text);
    text.len() == 10
        && body.len() >= 9
        && body.bytes().all(|byte| byte.is_ascii_digit())
        && digits(&text).zip(1..).map(|(digit, place)| digit * place).sum::<u32>().is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let text = compact(text, |c| !c.is_ascii_whitespace() && c != '-');
    text.len() == 13
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && digits(&text).zip([1, 3].into_iter().cycle()).map(|(d, w)| d * w).sum::<u32>().is_multiple_of(10)
}

/// Luhn's sum over one of the known ranges of numbers.
fn is_credit_card(text: &str) -> bool {
    let text = compact(text, |c| c.is_ascii_digit());
    let doubled = |digit: u32| if digit * 2 >= 10 { digit * 2 % 10 + 1 } else { digit * 2 };
    matches(&CREDIT_CARD, &text)
        && digits(&text)
            .rev()
            .enumerate()
            .map(|(index, digit)| if index % 2 == 1 { doubled(digit) } else { digit })
            .sum::<u32>()
            .is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.is_ascii() && time::parse(&format!("{text}T00:00:00Z")).is_ok()
}

fn is_date_time(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut parts = text.split('t');
    let (Some(date), Some(clock)) = (parts.next(), parts.next()) else { return false };
    is_date(date)
        && DATE_TIME.get().and_then(|expression| expression.captures(clock)).is_some_and(|found| {
            let at_most =
                |group: usize, most: &str| found.get(group).is_some_and(|part| part.as_str() <= most);
            at_most(1, "23") && at_most(2, "59") && at_most(3, "59")
        })
}

const UNITS: [&[&str]; 8] = [
    &["ns", "nano"],
    &["us", "µs", "micro"],
    &["ms", "milli"],
    &["s", "sec"],
    &["m", "min"],
    &["h", "hr", "hour"],
    &["d", "day"],
    &["w", "wk", "week"],
];

/// Go's notation, or numbers with words: "3 days and 2 hours".
fn is_duration(text: &str) -> bool {
    if time::parse_duration(text).is_ok() {
        return true;
    }
    let Some(expression) = DURATION.get() else { return false };
    let mut found = false;
    for part in expression.captures_iter(text) {
        let group = |index: usize| part.get(index).map_or("", |group| group.as_str());
        if group(1).parse::<i64>().is_err() {
            return false;
        }
        let unit = group(2).to_lowercase();
        found |= UNITS.iter().any(|names| {
            names.contains(&&*unit) || names.last().is_some_and(|longest| unit.starts_with(longest))
        });
    }
    found
}

/// Labels of letters, digits, symbols and dashes, and a last one of letters; or one label alone, which may have a dash
/// in the second place only. Written out, since as an expression it takes megabytes.
fn is_hostname(text: &str) -> bool {
    let named = |c: char| matches(&NAME_CHARACTER, c.encode_utf8(&mut [0; 4]));
    let label = |part: &str| {
        let mut inner = part.chars();
        let ends = [inner.next(), inner.next_back()].into_iter().flatten();
        !part.is_empty() && ends.into_iter().all(named) && inner.all(|c| c == '-' || named(c))
    };
    if text.len() > 255 || text.split('.').any(|part| part.len() > 63) {
        return false;
    }
    match text.rsplit_once('.') {
        Some((labels, last)) => {
            let letters = |c: char| c.is_alphabetic() && (!c.is_ascii() || c.is_ascii_alphabetic());
            labels.split('.').all(label) && last.chars().count() >= 2 && last.chars().all(letters)
        }
        None => {
            let mut characters = text.chars();
            let first = characters.next().is_some_and(named);
            let rest = characters.as_str();
            first && rest.strip_prefix('-').unwrap_or(rest).chars().all(named)
        }
    }
}

/// An absolute URI or an absolute path (Go's `url.ParseRequestURI`).
fn is_uri(text: &str) -> bool {
    let printable = |text: &str| !text.is_empty() && !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f);
    if !printable(text) || !escapes_are_whole(text) {
        return false;
    }
    if text == "*" || text.starts_with('/') {
        return !text.starts_with("//") || authority_is_good(&text[2..]);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let begins = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    begins && scheme.bytes().all(known) && rest.strip_prefix("//").is_none_or(authority_is_good)
}

fn escapes_are_whole(text: &str) -> bool {
    let path = text.split_once('?').map_or(text, |(path, _)| path);
    path.match_indices('%').all(|(at, _)| {
        path.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}

fn authority_is_good(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '}', '|']) {
        return false;
    }
    let port = match host.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((_, after)) => after,
            None => return false,
        },
        None if host.contains([']', '[']) => return false,
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// An address as in a message's header: `a@b.c` or `Some One <a@b.c>`.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(inner) => match inner.rsplit_once('<') {
            Some((name, address)) if !name.contains(['@', '<', '>', ',']) => address,
            _ => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
    let dotted = |text: &str| text.split('.').all(|part| !part.is_empty() && part.chars().all(atom));
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    (quoted || dotted(local)) && literal.map_or_else(|| dotted(domain), is_ip)
}
