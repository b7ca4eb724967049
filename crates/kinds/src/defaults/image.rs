//! Names of images, as far as a default depends on them.

/// `Always` for the tag `latest` and for no tag at all, else `IfNotPresent`; so too for what is no image's name
/// (upstream's `parsers.ParseImageName`, whose errors its defaults ignore).
pub fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// The tag, `latest` if neither tag nor digest is given. `None`: a digest alone, or no name of an image.
///
/// The grammar is that of `distribution/reference`: `[host[:port]/]path[:tag][@digest]`, the path in lower case.
fn tag(image: &str) -> Option<&str> {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if image.len() == 64 && hex(image) {
        return None;
    }
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let first = rest.split('/').next().unwrap_or_default();
    let hosted = first.len() < rest.len()
        && (first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase());
    let path = if hosted { &rest[first.len() + 1..] } else { rest };
    let (path, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
    let fits = (!hosted || is_host(first))
        && path.split('/').all(is_component)
        && path.len() + if hosted { first.len() } else { 0 } < 255
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if !fits {
        return None;
    }
    tag.or((digest.is_none()).then_some("latest"))
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').map_or((text, "0"), |(name, port)| (name, port));
    let label = |label: &str| {
        label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address = address.is_some_and(|inner| inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'));
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && (address || name.split('.').all(label))
}

/// Lower-case words with one `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.as_bytes().first().is_some_and(word) && text.as_bytes().last().is_some_and(word);
    let mut between = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && between.all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-') && text.len() <= 128
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
            && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[test]
fn tags() {
    let sha = format!("@sha256:{}", "0a".repeat(32));
    let check = |image: &str, expect| assert_eq!(tag(image), expect, "{image}");
    for (image, expect) in [
        ("nginx", Some("latest")),
        ("nginx:latest", Some("latest")),
        ("nginx:1.27", Some("1.27")),
        ("localhost/a/b__c", Some("latest")),
        ("localhost:5000/a-b:1", Some("1")),
        ("Host.example:5000/a", Some("latest")),
        ("Host/a", Some("latest")),
        ("[::1]:5000/a", Some("latest")),
        ("host.example/a:b_c.D-1", Some("b_c.D-1")),
        // no names
        ("", None),
        ("Nginx", None),
        ("a/B", None),
        ("a b", None),
        (" a", None),
        ("a:", None),
        ("a: b", None),
        ("a:b:c", None),
        ("a//b", None),
        ("a..b", None),
        ("a___b", None),
        ("-a", None),
        ("a/", None),
        ("a\n", None),
        ("a@sha256:12", None),
        ("host:x/a", None),
    ] {
        check(image, expect);
    }
    check(&format!("nginx{sha}"), None);
    check(&format!("nginx:latest{sha}"), Some("latest"));
    check(&"0a".repeat(32), None);
}
