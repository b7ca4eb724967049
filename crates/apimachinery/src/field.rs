//! Paths to fields and what may be wrong with them, in the words that clients of the API see.
//!
//! A validation collects an [`ErrorList`] and hands it to [`crate::status::Status::invalid`].
//! The texts follow upstream's `apimachinery/pkg/util/validation/field`.

use std::fmt;

use serde_json::Value;

/// Where in an object something is: `spec.containers[0].env[1].name`.
///
/// A path borrows its parent, so that walking an object costs nothing until an error is written:
/// `let spec = Path::new("spec"); check(&spec.child("containers").index(0))`.
/// A child's name may hold dots (`child("template.spec")`); the text is the same as that of two children.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Nil,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The whole object. Alone it prints as `<nil>`; its children print as if they were roots.
    pub const NIL: Path<'static> = Path { parent: None, segment: Segment::Nil };

    /// A root with this name.
    pub const fn new(name: &'a str) -> Path<'a> {
        Path { parent: None, segment: Segment::Name(name) }
    }

    /// The field `name` of what this path leads to.
    pub fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Name(name) }
    }

    /// The element at `index` of the list that this path leads to.
    pub fn index<'b>(&'b self, index: usize) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The value at `key` of the map that this path leads to: `metadata.labels[key]`.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }

    fn is_nil(&self) -> bool {
        matches!(self.segment, Segment::Nil)
    }

    /// The path as errors tell it: cut where it is longer than anybody reads, since a thousand errors may be about one
    /// field with a name of a megabyte.
    pub fn text(&self) -> String {
        cut(self)
    }
}

/// Bytes of a path that are told.
const LONGEST: usize = 8192;

/// What something prints as, up to [`LONGEST`] bytes and with `…` in place of the rest.
pub fn cut(shown: &dyn fmt::Display) -> String {
    use fmt::Write;
    struct Cut(String);
    impl Write for Cut {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = LONGEST.saturating_sub(self.0.len());
            let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            self.0.push_str(&text[..end.unwrap_or(0)]);
            if text.len() > room { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut out = Cut(String::new());
    if write!(out, "{shown}").is_err() {
        out.0.push('…');
    }
    out.0
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.filter(|p| !p.is_nil());
        if let Some(parent) = parent {
            write!(f, "{parent}")?;
        }
        match self.segment {
            Segment::Nil => f.write_str("<nil>"),
            // Upstream's `field.NewPath("")`: a part without a name prints as a subscript.
            Segment::Name("") => f.write_str("[]"),
            Segment::Name(name) => {
                if parent.is_some() {
                    f.write_str(".")?;
                }
                f.write_str(name)
            }
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sort of fault. [`ErrorType::reason`] is what stands in a Status cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
    TooShort,
}

impl ErrorType {
    /// The machine-readable cause: `FieldValueInvalid`.
    pub const fn reason(self) -> &'static str {
        match self {
            ErrorType::NotFound => "FieldValueNotFound",
            ErrorType::Required => "FieldValueRequired",
            ErrorType::Duplicate => "FieldValueDuplicate",
            ErrorType::Invalid => "FieldValueInvalid",
            ErrorType::NotSupported => "FieldValueNotSupported",
            ErrorType::Forbidden => "FieldValueForbidden",
            ErrorType::TooLong => "FieldValueTooLong",
            ErrorType::TooMany => "FieldValueTooMany",
            ErrorType::TooFew => "FieldValueTooFew",
            ErrorType::Internal => "InternalError",
            ErrorType::TypeInvalid => "FieldValueTypeInvalid",
            ErrorType::TooShort => "FieldValueTooShort",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            ErrorType::NotFound => "Not found",
            ErrorType::Required => "Required value",
            ErrorType::Duplicate => "Duplicate value",
            ErrorType::Invalid | ErrorType::TypeInvalid => "Invalid value",
            ErrorType::NotSupported => "Unsupported value",
            ErrorType::Forbidden => "Forbidden",
            ErrorType::TooLong => "Too long",
            ErrorType::TooMany => "Too many",
            ErrorType::TooFew => "Too few",
            ErrorType::Internal => "Internal error",
            ErrorType::TooShort => "Too short",
        }
    }
}

/// One fault of one field. `Display` is `path: body`.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub kind: ErrorType,
    /// The path as text.
    pub field: String,
    /// The offending value where the text names it.
    pub bad_value: Option<Value>,
    pub detail: String,
}

/// Every fault found, in the order of finding.
pub type ErrorList = Vec<Error>;

impl Error {
    fn new(kind: ErrorType, path: &Path<'_>, bad_value: Option<Value>, detail: impl Into<String>) -> Error {
        Error { kind, field: path.text(), bad_value, detail: detail.into() }
    }

    /// A value that must be given is missing (absent, empty text, empty list). The detail may be empty.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Error {
        Error::new(ErrorType::Required, path, None, detail)
    }

    /// A malformed value.
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Error {
        Error::new(ErrorType::Invalid, path, Some(value.into()), detail)
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Error {
        Error::new(ErrorType::TypeInvalid, path, Some(value.into()), detail)
    }

    /// A value outside a closed set.
    pub fn not_supported<S: AsRef<str>>(
        path: &Path<'_>,
        value: impl Into<Value>,
        supported: impl IntoIterator<Item = S>,
    ) -> Error {
        let values: Vec<String> = supported.into_iter().map(|v| quote(v.as_ref())).collect();
        let detail = match values.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", values.join(", ")),
        };
        Error::new(ErrorType::NotSupported, path, Some(value.into()), detail)
    }

    /// A well-formed value that may not be given here and now.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Error {
        Error::new(ErrorType::Forbidden, path, None, detail)
    }

    /// A value that must be unique and is not.
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Error {
        Error::new(ErrorType::Duplicate, path, Some(value.into()), "")
    }

    /// A reference that leads nowhere.
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Error {
        Error::new(ErrorType::NotFound, path, Some(value.into()), "")
    }

    /// More than `max` bytes. The value is not repeated.
    pub fn too_long(path: &Path<'_>, max: usize) -> Error {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Error::new(ErrorType::TooLong, path, None, format!("may not be more than {max} {unit}"))
    }

    /// More than `max` characters. The value is not repeated.
    pub fn too_long_characters(path: &Path<'_>, max: usize) -> Error {
        let unit = if max == 1 { "character" } else { "characters" };
        Error::new(ErrorType::TooLong, path, None, format!("may not be more than {max} {unit}"))
    }

    /// Fewer than `min` characters.
    pub fn too_short(path: &Path<'_>, min: usize) -> Error {
        let unit = if min == 1 { "character" } else { "characters" };
        Error::new(ErrorType::TooShort, path, None, format!("must be at least {min} {unit}"))
    }

    /// A list of `actual` items where at most `max` may be.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Error {
        let unit = if max == 1 { "item" } else { "items" };
        Error::new(ErrorType::TooMany, path, Some(actual.into()), format!("must have at most {max} {unit}"))
    }

    /// A list of `actual` items where at least `min` must be.
    pub fn too_few(path: &Path<'_>, actual: usize, min: usize) -> Error {
        let unit = if min == 1 { "item" } else { "items" };
        Error::new(ErrorType::TooFew, path, Some(actual.into()), format!("must have at least {min} {unit}"))
    }

    /// Something failed that is not the client's fault.
    pub fn internal(path: &Path<'_>, detail: impl fmt::Display) -> Error {
        Error::new(ErrorType::Internal, path, None, detail.to_string())
    }

    /// The message without the path, as a Status cause carries it.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_string();
        if let Some(value) = &self.bad_value {
            out.push_str(": ");
            match value {
                Value::String(text) => out.push_str(&quote(text)),
                other => out.push_str(&go_json(other)),
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

/// All messages as one: nothing for none, the message for one, `[a, b]` for several; equal ones count once.
pub fn aggregate(errors: &[Error]) -> Option<String> {
    aggregate_messages(errors.iter().map(Error::to_string))
}

/// [`aggregate`] over messages that are already text.
pub fn aggregate_messages(messages: impl IntoIterator<Item = String>) -> Option<String> {
    let mut distinct: Vec<String> = Vec::new();
    for message in messages {
        if !distinct.contains(&message) {
            distinct.push(message);
        }
    }
    match distinct.len() {
        0 => None,
        1 => distinct.pop(),
        _ => Some(format!("[{}]", distinct.join(", "))),
    }
}

/// JSON text as Go's encoder writes it: `<`, `>`, `&` and the line separators escaped.
pub fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Text in double quotes as Go's `%q` writes it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_print(c) => out.push(c),
            c if (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Whether a character shows on paper, as Go's `unicode.IsPrint` says (format, private and control
/// characters and spaces other than U+0020 do not).
pub fn is_print(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c if c.is_control() || c.is_whitespace() => false,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => false,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => false,
        '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' => false,
        c => (c as u32) < 0xe0000,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        for (path, expect) in [
            (spec, "spec"),
            (first.child("env"), "spec.containers[0].env"),
            (spec.child("a.b"), "spec.a.b"),
            (Path::new("metadata").child("labels").key("x/y"), "metadata.labels[x/y]"),
            (Path::NIL, "<nil>"),
            (Path::NIL.child("values").index(0).key("k"), "values[0][k]"),
            (Path::NIL.index(3), "[3]"),
        ] {
            assert_eq!(path.to_string(), expect);
        }
    }

    #[test]
    fn long_paths_are_cut() {
        let name = "ä".repeat(5000);
        let path = Path::new("spec");
        let text = Error::required(&path.key(&name), "").field;
        assert_eq!(text, format!("spec[{}…", "ä".repeat(4093)));
    }

    #[test]
    fn texts() {
        let f = &Path::new("f");
        let check = |error: Error, kind: &str, expect: &str| {
            assert_eq!(error.to_string(), expect);
            assert_eq!(error.kind.reason(), kind);
        };
        check(Error::required(f, ""), "FieldValueRequired", "f: Required value");
        check(Error::required(f, "why"), "FieldValueRequired", "f: Required value: why");
        check(Error::invalid(f, "a\"b\n", "d"), "FieldValueInvalid", r#"f: Invalid value: "a\"b\n": d"#);
        check(Error::invalid(f, 3, "d"), "FieldValueInvalid", "f: Invalid value: 3: d");
        check(
            Error::invalid(f, json!({"a": "<"}), "d"),
            "FieldValueInvalid",
            "f: Invalid value: {\"a\":\"\\u003c\"}: d",
        );
        check(Error::invalid(f, Value::Null, ""), "FieldValueInvalid", "f: Invalid value: null");
        check(
            Error::not_supported(f, "x", ["A", "B"]),
            "FieldValueNotSupported",
            r#"f: Unsupported value: "x": supported values: "A", "B""#,
        );
        check(
            Error::not_supported(f, "x", [""; 0]),
            "FieldValueNotSupported",
            r#"f: Unsupported value: "x""#,
        );
        check(Error::forbidden(f, "no"), "FieldValueForbidden", "f: Forbidden: no");
        check(Error::duplicate(f, "x"), "FieldValueDuplicate", r#"f: Duplicate value: "x""#);
        check(Error::not_found(f, "x"), "FieldValueNotFound", r#"f: Not found: "x""#);
        check(Error::too_long(f, 63), "FieldValueTooLong", "f: Too long: may not be more than 63 bytes");
        check(Error::too_long(f, 1), "FieldValueTooLong", "f: Too long: may not be more than 1 byte");
        check(Error::too_many(f, 9, 8), "FieldValueTooMany", "f: Too many: 9: must have at most 8 items");
        check(Error::internal(f, "boom"), "InternalError", "f: Internal error: boom");
        check(Error::type_invalid(f, true, "d"), "FieldValueTypeInvalid", "f: Invalid value: true: d");
    }

    #[test]
    fn aggregates() {
        let f = Path::new("f");
        let (a, b) = (Error::required(&f, "a"), Error::required(&f, "b"));
        for (errors, expect) in [
            (vec![], None),
            (vec![a.clone()], Some("f: Required value: a")),
            (vec![a.clone(), a.clone()], Some("f: Required value: a")),
            (vec![a.clone(), b.clone(), a.clone()], Some("[f: Required value: a, f: Required value: b]")),
        ] {
            assert_eq!(aggregate(&errors).as_deref(), expect);
        }
    }

    #[test]
    fn quoting() {
        for (text, expect) in [
            ("ü", "\"ü\""),
            ("a\u{1}", "\"a\\x01\""),
            ("\u{feff}", "\"\\ufeff\""),
            ("\u{7f}", "\"\\x7f\""),
            ("\u{85}", "\"\\u0085\""),
            ("\\", "\"\\\\\""),
        ] {
            assert_eq!(quote(text), expect);
        }
    }
}
