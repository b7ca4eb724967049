//! A pull parser for JSON with the words of Go's scanner for what is wrong.

use std::borrow::Cow;

use super::super::budget::{Budget, Exhausted};
use super::super::{Error, MAX_DEPTH};

/// Reads one document from front to back.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// For whoever builds values of what is read.
    pub(super) budget: Budget,
}

impl From<Exhausted> for Error {
    fn from(why: Exhausted) -> Error {
        Error::Syntax(format!("object {why}"))
    }
}

/// What comes next.
pub(super) enum Token<'a> {
    /// `{`: call [`Lexer::key`] until it returns `None`.
    Object,
    /// `[`: call [`Lexer::element`] until it returns `false`.
    Array,
    String(Cow<'a, str>),
    /// As written.
    Number(&'a str),
    Bool(bool),
    Null,
}

impl<'a> Lexer<'a> {
    /// Invalid UTF-8 is refused. (Go replaces it silently, which loses data.)
    pub(super) fn new(bytes: &'a [u8]) -> Result<Lexer<'a>, Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Lexer { text, at: 0, depth: 0, budget: Budget::new(text.len()) }),
            Err(error) => {
                Err(Error::Syntax(format!("invalid UTF-8 in JSON at byte {}", error.valid_up_to())))
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Go's complaint about the character at hand.
    fn wrong(&self, context: &str) -> Error {
        let Some(c) = self.text.get(self.at..).and_then(|rest| rest.chars().next()) else {
            return Error::Syntax("unexpected end of JSON input".into());
        };
        // Go looks at one byte; its quoting of a byte is that of a Latin-1 character
        let c = if c.is_ascii() { c } else { self.text.as_bytes()[self.at] as char };
        let quoted = match c {
            '\'' => r"'\''".to_owned(),
            '"' => "'\"'".to_owned(),
            '\\' => r"'\\'".to_owned(),
            '\n' => r"'\n'".to_owned(),
            '\r' => r"'\r'".to_owned(),
            '\t' => r"'\t'".to_owned(),
            '\u{8}' => r"'\b'".to_owned(),
            '\u{c}' => r"'\f'".to_owned(),
            '\u{7}' => r"'\a'".to_owned(),
            '\u{b}' => r"'\v'".to_owned(),
            c if c.is_control() && c.is_ascii() => format!("'\\x{:02x}'", c as u32),
            c if c.is_control() || c == '\u{a0}' || c == '\u{ad}' => format!("'\\u{:04x}'", c as u32),
            c => format!("'{c}'"),
        };
        Error::Syntax(format!("invalid character {quoted} {context}"))
    }

    /// The next value, or the beginning of one.
    pub(super) fn value(&mut self) -> Result<Token<'a>, Error> {
        self.space();
        match self.peek() {
            Some(b'{') => {
                self.enter()?;
                Ok(Token::Object)
            }
            Some(b'[') => {
                self.enter()?;
                Ok(Token::Array)
            }
            Some(b'"') => Ok(Token::String(self.string()?)),
            Some(b't') => self.literal("true", Token::Bool(true)),
            Some(b'f') => self.literal("false", Token::Bool(false)),
            Some(b'n') => self.literal("null", Token::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Token::Number(self.number()?)),
            _ => Err(self.wrong("looking for beginning of value")),
        }
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::Syntax("exceeded max depth".into()));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// In an object: the next key with its colon, or `None` and the object is over.
    pub(super) fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, Error> {
        self.space();
        match (self.peek(), first) {
            (Some(b'}'), _) => {
                self.leave();
                return Ok(None);
            }
            (_, true) => {}
            (Some(b','), false) => {
                self.at += 1;
                self.space();
            }
            _ => return Err(self.wrong("after object key:value pair")),
        }
        if self.peek() != Some(b'"') {
            return Err(self.wrong("looking for beginning of object key string"));
        }
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.wrong("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// In a list: whether another value follows; if not, the list is over.
    pub(super) fn element(&mut self, first: bool) -> Result<bool, Error> {
        self.space();
        match (self.peek(), first) {
            (Some(b']'), _) => {
                self.leave();
                Ok(false)
            }
            (_, true) => Ok(true),
            (Some(b','), false) => {
                self.at += 1;
                self.space();
                if self.peek() == Some(b']') {
                    return Err(self.wrong("looking for beginning of value"));
                }
                Ok(true)
            }
            _ => Err(self.wrong("after array element")),
        }
    }

    /// Nothing but space may follow.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        self.space();
        if self.peek().is_some() { Err(self.wrong("after top-level value")) } else { Ok(()) }
    }

    /// Passes over the rest of a value that began with `token`.
    pub(super) fn skip(&mut self, token: &Token) -> Result<(), Error> {
        match token {
            Token::Object => {
                let mut first = true;
                while self.key(first)?.is_some() {
                    first = false;
                    let inner = self.value()?;
                    self.skip(&inner)?;
                }
            }
            Token::Array => {
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    let inner = self.value()?;
                    self.skip(&inner)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The object that has just begun, if it is [`settled`]: then it is passed over.
    pub(super) fn settled_object(&mut self) -> Option<&'a str> {
        let begin = self.at.checked_sub(1)?;
        let end = begin + settled(self.text.as_bytes().get(begin..)?)?;
        (self.at, self.depth) = (end, self.depth - 1);
        self.text.get(begin..end)
    }

    fn literal(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, Error> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return Err(self.wrong(&format!("in literal {word} (expecting '{}')", expected as char)));
            }
            self.at += 1;
        }
        Ok(token)
    }

    fn digits(&mut self) -> usize {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - begin
    }

    fn number(&mut self) -> Result<&'a str, Error> {
        let begin = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else if self.digits() == 0 {
            return Err(self.wrong("in numeric literal"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.wrong("after decimal point in numeric literal"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.wrong("in exponent of numeric literal"));
            }
        }
        Ok(&self.text[begin..self.at])
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        self.at += 1;
        let begin = self.at;
        let rest = &self.text.as_bytes()[begin..];
        let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
        self.at = begin + plain;
        if self.peek() == Some(b'"') {
            let text = &self.text[begin..self.at];
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(plain + 16);
        out.push_str(&self.text[begin..self.at]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                None | Some(0..0x20) => return Err(self.wrong("in string literal")),
                Some(_) => {
                    let begin = self.at;
                    let rest = &self.text.as_bytes()[begin..];
                    let plain =
                        rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
                    self.at += plain;
                    out.push_str(&self.text[begin..self.at]);
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Error> {
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => c as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex()?;
                out.push(self.surrogate(unit)?);
                return Ok(());
            }
            _ => return Err(self.wrong("in string escape code")),
        };
        out.push(c);
        self.at += 1;
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| (b as char).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.wrong("in \\u hexadecimal character escape"));
            };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// A half without its other half is U+FFFD, as in Go.
    fn surrogate(&mut self, unit: u32) -> Result<char, Error> {
        if (0xd800..0xdc00).contains(&unit) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// How long the object is that stands in front of these bytes, if it holds nothing but objects and is written as
/// Go writes it: no spaces, no escapes but `\"` and `\\`, nothing beyond ASCII. That is what FieldsV1 look like, and
/// what need not be looked at twice.
pub(super) fn settled(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0);
    loop {
        // an object begins
        if *bytes.get(at)? != b'{' || depth == MAX_DEPTH {
            return None;
        }
        (at, depth) = (at + 1, depth + 1);
        let mut closed = false;
        loop {
            match (*bytes.get(at)?, closed) {
                (b'}', _) => {
                    (at, depth, closed) = (at + 1, depth - 1, true);
                    if depth == 0 {
                        return Some(at);
                    }
                }
                (b',', true) if bytes.get(at + 1) == Some(&b'"') => (at, closed) = (at + 1, false),
                (b'"', false) if bytes.get(at.wrapping_sub(1)) != Some(&b'}') => break,
                _ => return None,
            }
        }
        at += 1;
        loop {
            let byte = *bytes.get(at)?;
            match byte {
                b'"' => break,
                b'\\' if matches!(bytes.get(at + 1), Some(b'"' | b'\\')) => at += 2,
                _ if SETTLED[byte as usize] => at += 1,
                _ => return None,
            }
        }
        if *bytes.get(at + 1)? != b':' {
            return None;
        }
        at += 2;
    }
}

/// Bytes of a text that stand for themselves in what Go writes.
static SETTLED: [bool; 256] = {
    let mut plain = [false; 256];
    let mut at = 0x20;
    while at < 0x7f {
        plain[at] = !matches!(at as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        at += 1;
    }
    plain
};
