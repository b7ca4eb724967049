//! Text to tokens, with the messages of the reference lexer for what is none.

use crate::issues::Issues;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// An operator or bracket, and the words `in`, `true`, `false` and `null`.
    Symbol(&'static str),
    Ident,
    /// A name between backquotes.
    Escaped,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    End,
}

/// A token, its text, and its offset in code points.
#[derive(Debug, Clone, Copy)]
pub struct Lexeme<'s> {
    pub token: Token,
    pub text: &'s str,
    pub offset: u32,
}

/// Longest first, since the longest match wins.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%",
];
const WORDS: &[&str] = &["in", "true", "false", "null"];

/// The tokens of an expression; what is no token is reported and skipped. The last token is [`Token::End`].
pub fn lex<'s>(source: &'s str, issues: &mut Issues) -> Vec<Lexeme<'s>> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut offset) = (0, 0u32);
    while at < bytes.len() {
        let rest = &source[at..];
        let (length, token) = match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' | 0x0c => (1, None),
            b'/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            _ => match token(rest) {
                Ok((length, token)) => (length, Some(token)),
                Err(failed) => {
                    // The character on which matching failed is part of the message, and skipped with the rest.
                    let length = failed + rest[failed..].chars().next().map_or(0, char::len_utf8);
                    let shown = &rest[..length];
                    issues.report(offset, format!("Syntax error: token recognition error at: '{shown}'"));
                    (length, None)
                }
            },
        };
        if let Some(token) = token {
            found.push(Lexeme { token, text: &rest[..length], offset });
        }
        offset += rest[..length].chars().count() as u32;
        at += length;
    }
    found.push(Lexeme { token: Token::End, text: "<EOF>", offset });
    found
}

/// The length in bytes of the token at the start, or where matching it failed.
fn token(rest: &str) -> Result<(usize, Token), usize> {
    let bytes = rest.as_bytes();
    let first = bytes[0];
    if first.is_ascii_digit() || (first == b'.' && bytes.get(1).is_some_and(u8::is_ascii_digit)) {
        return Ok(number(bytes));
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        if let Some(token) = prefixed_string(rest) {
            return Ok(token);
        }
        let length =
            bytes.iter().position(|it| !it.is_ascii_alphanumeric() && *it != b'_').unwrap_or(bytes.len());
        let word = WORDS.iter().find(|word| **word == &rest[..length]);
        return Ok((length, word.map_or(Token::Ident, |word| Token::Symbol(word))));
    }
    if first == b'"' || first == b'\'' {
        return string(rest, false).map(|length| (length, Token::String));
    }
    if first == b'`' {
        let length = 1 + bytes[1..]
            .iter()
            .position(|it| !it.is_ascii_alphanumeric() && !b"_.-/ ".contains(it))
            .unwrap_or(bytes.len() - 1);
        return match bytes.get(length) {
            Some(b'`') if length > 1 => Ok((length + 1, Token::Escaped)),
            _ => Err(length),
        };
    }
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        return Ok((symbol.len(), Token::Symbol(symbol)));
    }
    // A single one of these could have been the start of a longer symbol.
    Err(if matches!(first, b'=' | b'&' | b'|') { 1 } else { 0 })
}

fn number(bytes: &[u8]) -> (usize, Token) {
    let digits = |from: usize| bytes[from..].iter().take_while(|it| it.is_ascii_digit()).count();
    if bytes.starts_with(b"0x") {
        let hex = bytes[2..].iter().take_while(|it| it.is_ascii_hexdigit()).count();
        if hex > 0 {
            return match bytes.get(2 + hex) {
                Some(b'u' | b'U') => (3 + hex, Token::Uint),
                _ => (2 + hex, Token::Int),
            };
        }
    }
    let mut length = digits(0);
    let mut double = false;
    if bytes.get(length) == Some(&b'.') {
        let fraction = digits(length + 1);
        if fraction > 0 {
            length += 1 + fraction;
            double = true;
        }
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let from = length + 1 + sign;
        if from <= bytes.len() && digits(from) > 0 {
            length = from + digits(from);
            double = true;
        }
    }
    match bytes.get(length) {
        _ if double => (length, Token::Double),
        Some(b'u' | b'U') => (length + 1, Token::Uint),
        _ => (length, Token::Int),
    }
}

/// `r"…"`, `b"…"`, `br"…"`.
fn prefixed_string(rest: &str) -> Option<(usize, Token)> {
    let lower = |at: usize| rest.as_bytes().get(at).map(u8::to_ascii_lowercase);
    let (prefix, raw, token) = match (lower(0), lower(1)) {
        (Some(b'b'), Some(b'r')) => (2, true, Token::Bytes),
        (Some(b'b'), _) => (1, false, Token::Bytes),
        (Some(b'r'), _) => (1, true, Token::String),
        _ => return None,
    };
    if !matches!(rest.as_bytes().get(prefix), Some(b'"' | b'\'')) {
        return None;
    }
    string(&rest[prefix..], raw).ok().map(|length| (prefix + length, token))
}

/// The length of a quoted string, or where it fails to be one.
fn string(rest: &str, raw: bool) -> Result<usize, usize> {
    let bytes = rest.as_bytes();
    let quote = bytes[0];
    if bytes.len() >= 3 && bytes[1] == quote && bytes[2] == quote {
        // Without its end it is an empty string, and something else after it.
        return Ok(body(bytes, 3, quote, true, raw).unwrap_or(2));
    }
    body(bytes, 1, quote, false, raw)
}

fn body(bytes: &[u8], mut at: usize, quote: u8, triple: bool, raw: bool) -> Result<usize, usize> {
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == quote {
            if !triple {
                return Ok(at + 1);
            }
            if bytes[at..].starts_with(&[quote; 3]) {
                return Ok(at + 3);
            }
            at += 1;
        } else if byte == b'\\' && !raw {
            at = escape(bytes, at)?;
        } else if !triple && (byte == b'\n' || byte == b'\r') {
            return Err(at);
        } else {
            at += 1;
        }
    }
    Err(bytes.len())
}

/// Past the escape sequence at `at`, or where it is none.
fn escape(bytes: &[u8], at: usize) -> Result<usize, usize> {
    let check = |count: usize, good: fn(&u8) -> bool| {
        for index in at + 2..at + 2 + count {
            if !bytes.get(index).is_some_and(good) {
                return Err(index.min(bytes.len()));
            }
        }
        Ok(at + 2 + count)
    };
    match bytes.get(at + 1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => {
            Ok(at + 2)
        }
        Some(b'x' | b'X') => check(2, u8::is_ascii_hexdigit),
        Some(b'u') => check(4, u8::is_ascii_hexdigit),
        Some(b'U') => check(8, u8::is_ascii_hexdigit),
        Some(b'0'..=b'3') => check(2, |it| (b'0'..=b'7').contains(it)),
        _ => Err((at + 1).min(bytes.len())),
    }
}

/// A quoted string's value. The lexer has accepted its form.
pub fn unquote(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, text) = match text.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest.to_owned()),
        None => (false, text),
    };
    let marks =
        if text.len() >= 6 && (text.starts_with("'''") || text.starts_with("\"\"\"")) { 3 } else { 1 };
    let inner = text.get(marks..text.len().saturating_sub(marks)).ok_or("unable to unescape string")?;
    if raw || !inner.contains('\\') {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        rest = unescape(rest, bytes, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Appends what the sequence after a backslash means, and returns what follows it.
fn unescape<'t>(rest: &'t str, bytes: bool, out: &mut Vec<u8>) -> Result<&'t str, &'static str> {
    const BAD: &str = "unable to unescape string";
    let first = rest.chars().next().ok_or("unable to unescape string, found '\\' as last character")?;
    let simple = match first {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '\'' | '"' | '`' | '?' => first as u8,
        _ => 0,
    };
    if simple != 0 {
        out.push(simple);
        return Ok(&rest[1..]);
    }
    let (from, count, radix) = match first {
        'x' | 'X' => (1, 2, 16),
        'u' if !bytes => (1, 4, 16),
        'U' if !bytes => (1, 8, 16),
        '0'..='3' => (0, 3, 8),
        _ => return Err(BAD),
    };
    let digits = rest.get(from..from + count).ok_or(BAD)?;
    let value = u32::from_str_radix(digits, radix).map_err(|_| BAD)?;
    if bytes {
        out.push(value as u8);
    } else {
        let character = char::from_u32(value).ok_or("invalid unicode code point")?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(&rest[from + count..])
}
