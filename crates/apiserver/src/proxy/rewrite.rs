//! Links of pages that come through a proxy, so that they lead back through it. Rules of upstream's
//! `apimachinery/pkg/util/proxy/transport.go`; only the links are touched, all else stays as it came. Pure.

use std::borrow::Cow;

/// The page that links are on.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The path up to `/proxy`.
    pub prefix: &'a str,
    /// Where the request went: `10.0.0.7:8080`.
    pub backend: &'a str,
    /// The `Host` that the client asked for.
    pub host: &'a str,
}

/// Which attributes of which elements are links.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is no markup.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"];

impl Page<'_> {
    /// A link as it must be; relative ones and those to other hosts stay.
    pub fn link<'a>(&self, link: &'a str) -> Cow<'a, str> {
        let (before, after) = match link.find("//") {
            Some(at) if at == 0 || is_scheme(&link[..at]) => (at, &link[at + 2..]),
            _ if link.starts_with('/') => return self.path("", link),
            _ => return link.into(),
        };
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (host, path) = after.split_at(end);
        let own = host.is_empty() || host == self.backend || host == self.host;
        if !own || !path.starts_with('/') {
            return link.into();
        }
        let kept = if host == self.host { &link[..before + 2 + end] } else { "" };
        match self.path(kept, path) {
            Cow::Owned(new) => new.into(),
            Cow::Borrowed(_) if kept.is_empty() => path.to_owned().into(),
            Cow::Borrowed(_) => link.into(),
        }
    }

    fn path<'a>(&self, before: &str, path: &'a str) -> Cow<'a, str> {
        if path.starts_with(self.prefix) {
            return path.into();
        }
        format!("{before}{}{path}", self.prefix).into()
    }

    /// A whole page. What is not markup, or broken markup, stays.
    pub fn html(&self, page: &str) -> String {
        let mut out = String::with_capacity(page.len() + page.len() / 8);
        let mut rest = page;
        while let Some(at) = rest.find('<') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("<!--") {
                let end = rest.find("-->").map_or(rest.len(), |end| end + 3);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            } else if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
                let (length, name) = self.tag(rest, &mut out);
                rest = &rest[length..];
                if RAW.contains(&name.as_str()) {
                    let end = end_of(rest, &name);
                    out.push_str(&rest[..end]);
                    rest = &rest[end..];
                }
            } else {
                out.push('<');
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        out
    }

    /// Writes one start tag; its length and the element's name.
    fn tag(&self, text: &str, out: &mut String) -> (usize, String) {
        let name_end = 1 + text[1..].find(is_tag_end).unwrap_or(text.len() - 1);
        let name = text[1..name_end].to_ascii_lowercase();
        let links = LINKS.iter().find(|(element, _)| *element == name).map_or(&[][..], |(_, links)| links);
        out.push_str(&text[..name_end]);
        let mut at = name_end;
        while let Some(next) = text[at..].chars().next() {
            if next == '>' {
                out.push('>');
                return (at + 1, name);
            }
            if next == '/' || next.is_ascii_whitespace() {
                out.push(next);
                at += 1;
                continue;
            }
            let key_end = at + text[at..].find(|c| is_tag_end(c) || c == '=').unwrap_or(text.len() - at);
            // An equals sign may begin a name; then it is part of it.
            let key_end = if key_end == at { at + next.len_utf8() } else { key_end };
            let key = text[at..key_end].to_ascii_lowercase();
            let space = |from: usize| from + (text.len() - from - text[from..].trim_start().len());
            let equals = space(key_end);
            if !text[equals..].starts_with('=') {
                out.push_str(&text[at..key_end]);
                at = key_end;
                continue;
            }
            let start = space(equals + 1);
            let quote = text[start..].chars().next().filter(|c| matches!(c, '"' | '\''));
            let (start, end) = match quote {
                Some(quote) => (start + 1, text[start + 1..].find(quote).map(|end| start + 1 + end)),
                None => {
                    let end = text[start..].find(|c: char| c.is_ascii_whitespace() || c == '>');
                    (start, end.map(|end| start + end))
                }
            };
            let end = end.unwrap_or(text.len());
            out.push_str(&text[at..start]);
            let value = &text[start..end];
            out.push_str(&if links.contains(&&*key) { self.link(value) } else { value.into() });
            at = end;
            if let (Some(quote), true) = (quote, end < text.len()) {
                out.push(quote);
                at += 1;
            }
        }
        (text.len(), name)
    }
}

fn is_tag_end(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, '/' | '>')
}

/// `http:` and the like.
fn is_scheme(text: &str) -> bool {
    text.strip_suffix(':').is_some_and(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

/// Where the end tag of a raw element begins.
fn end_of(text: &str, name: &str) -> usize {
    let lower = text.to_ascii_lowercase();
    lower.find(&format!("</{name}")).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page<'static> =
        Page { prefix: "/api/v1/x/proxy", backend: "10.0.0.7:8080", host: "example.org:6443" };

    #[test]
    fn links() {
        for (link, expect) in [
            ("/a", "/api/v1/x/proxy/a"),
            ("/", "/api/v1/x/proxy/"),
            ("/a?b=/c#d", "/api/v1/x/proxy/a?b=/c#d"),
            ("a/b", "a/b"),
            ("#a", "#a"),
            ("?a=//b", "?a=//b"),
            ("mailto:a@b", "mailto:a@b"),
            ("/api/v1/x/proxy/a", "/api/v1/x/proxy/a"),
            ("http://10.0.0.7:8080/a", "/api/v1/x/proxy/a"),
            ("//10.0.0.7:8080/a", "/api/v1/x/proxy/a"),
            ("http://10.0.0.7:8080/api/v1/x/proxy/a", "/api/v1/x/proxy/a"),
            ("https://example.org:6443/a", "https://example.org:6443/api/v1/x/proxy/a"),
            ("http://elsewhere/a", "http://elsewhere/a"),
            ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
        ] {
            assert_eq!(PAGE.link(link), expect, "{link}");
        }
    }

    #[test]
    fn pages() {
        for (page, expect) in [
            (r#"<a href="/b">t</a>"#, r#"<a href="/api/v1/x/proxy/b">t</a>"#),
            ("<A class=x HREF = '/b'>", "<A class=x HREF = '/api/v1/x/proxy/b'>"),
            ("<img src=/b/>", "<img src=/api/v1/x/proxy/b/>"),
            (r#"<img alt="/b" src="/c" />"#, r#"<img alt="/b" src="/api/v1/x/proxy/c" />"#),
            (r#"<script>a="<a href='/b'>"</script>"#, r#"<script>a="<a href='/b'>"</script>"#),
            (r#"<!-- <a href="/b"> -->"#, r#"<!-- <a href="/b"> -->"#),
            (r#"1 < 2 <p title="/b"><a"#, r#"1 < 2 <p title="/b"><a"#),
            (r#"<a href="/b"#, r#"<a href="/api/v1/x/proxy/b"#),
            ("<a ü=/b =x href=/ü>", "<a ü=/b =x href=/api/v1/x/proxy/ü>"),
            ("", ""),
        ] {
            assert_eq!(PAGE.html(page), expect, "{page}");
        }
    }
}
