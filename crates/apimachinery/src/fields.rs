//! Field selectors: `spec.nodeName=a,status.phase!=Running`.
//!
//! Which fields a kind offers is not known here; the caller checks them with [`Selector::transform`].

use std::fmt;

/// Why a field selector cannot be read. The texts are upstream's, as clients see them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(u32),
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    /// `!=` instead of `=`.
    pub not: bool,
    pub value: String,
}

/// All terms must hold. Without terms it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

impl Selector {
    /// Matches everything.
    pub fn everything() -> Selector {
        Selector::default()
    }

    /// `field=value`.
    pub fn equals(field: &str, value: &str) -> Selector {
        Selector { terms: vec![Term { field: field.into(), not: false, value: value.into() }] }
    }

    /// Reads `a=b,c==d,e!=f`; commas, equal signs and backslashes in values are escaped with a backslash.
    pub fn parse(text: &str) -> Result<Selector, Error> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, not, value)) = split_term(part) else {
                return Err(Error::Term { selector: text.into(), term: part.into() });
            };
            terms.push(Term { field: field.into(), not, value: unescape(value)? });
        }
        Ok(Selector { terms })
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether an object matches. `get` gives a field's text; a field that is not there counts as empty text.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (get(&term.field).unwrap_or("") == term.value) != term.not)
    }

    /// The value that a match must have in `field`, if the selector fixes it: for lookups by name or index.
    pub fn requires_exact_match(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.field == field && !term.not).map(|term| term.value.as_str())
    }

    /// Rewrites or refuses each term's field and value. A term of which both become empty is dropped.
    pub fn transform<E>(
        self,
        mut change: impl FnMut(String, String) -> Result<(String, String), E>,
    ) -> Result<Selector, E> {
        let mut terms = Vec::with_capacity(self.terms.len());
        for term in self.terms {
            let (field, value) = change(term.field, term.value)?;
            if !field.is_empty() || !value.is_empty() {
                terms.push(Term { field, not: term.not, value });
            }
        }
        Ok(Selector { terms })
    }

    /// Both selectors must match.
    pub fn and(mut self, other: Selector) -> Selector {
        self.terms.extend(other.terms);
        self
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let op = if term.not { "!=" } else { "=" };
            write!(f, "{comma}{}{op}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// A value as it stands in a selector.
pub fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

fn unescape(text: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(Error::Escape(format!("\\{c}"))),
                None => return Err(Error::Escape("\\".into())),
            },
            ',' | '=' => return Err(Error::Unescaped(c as u32)),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| match (escaped, c) {
        (true, _) => {
            escaped = false;
            false
        }
        (false, '\\') => {
            escaped = true;
            false
        }
        (false, c) => c == ',',
    })
    .collect()
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.char_indices() {
        let (field, rest) = term.split_at(at);
        for (op, not) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = rest.strip_prefix(op) {
                return Some((field, not, value));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_print() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let got = Selector::parse(text).map(|s| s.to_string()).map_err(|e| e.to_string());
            assert_eq!(got, expect.map(str::to_string).map_err(str::to_string), "{text}");
        };
        check("", Ok(""));
        check("a=b", Ok("a=b"));
        check("c==d,a!=b,", Ok("a!=b,c=d"));
        check("a=", Ok("a="));
        check("=b", Ok("=b"));
        check(r"a=b\,c\=\\", Ok(r"a=b\,c\=\\"));
        check("a", Err("invalid selector: 'a'; can't understand 'a'"));
        check("a=b,c", Err("invalid selector: 'a=b,c'; can't understand 'c'"));
        check(r"a=\x", Err(r"invalid field selector: invalid escape sequence: \x"));
        check(r"a=\", Err(r"invalid field selector: invalid escape sequence: \"));
        check("a=b=c", Err("invalid field selector: unescaped character in value: 61"));
    }

    #[test]
    fn matching() {
        let object = |field: &str| match field {
            "a" => Some("1"),
            "b" => Some(""),
            _ => None,
        };
        for (text, expect) in [
            ("", true),
            ("a=1", true),
            ("a=2", false),
            ("a!=2", true),
            ("a!=1", false),
            ("b=", true),
            ("z=", true),
            ("z!=", false),
            ("a=1,z!=q", true),
            ("a=1,z=q", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(object), expect, "{text}");
        }
        let selector = Selector::parse("metadata.name=x,a!=b").unwrap();
        assert_eq!(selector.requires_exact_match("metadata.name"), Some("x"));
        assert_eq!(selector.requires_exact_match("a"), None);
        let refused = selector.transform(|f, v| if f == "a" { Err("no") } else { Ok((f, v)) });
        assert_eq!(refused, Err("no"));
    }
}
