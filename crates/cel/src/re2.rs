//! Regular expressions as Go reads them (RE2's syntax), run by the `regex` crate.
//!
//! The two agree in nearly everything; what differs is rewritten: `\d`, `\s`, `\w` and `\b` are ASCII only, a `[`
//! or `&&` within a class is itself, `\Q…\E` quotes, `\z` ends and `\C` is refused. Repetition is limited to a
//! thousand, as in RE2, and what compiles to more than sixteen megabytes is refused.

use regex::{Regex, RegexBuilder};

/// Most repetitions of one thing: `a{1000}`.
const MOST_REPETITIONS: u32 = 1000;
/// Bytes that one compiled expression may take.
const MOST_BYTES: usize = 16 << 20;

/// Compiles an expression.
///
/// # Errors
/// A text such as Go's: ``error parsing regexp: missing closing ): `a(b` ``.
pub fn compile(expression: &str) -> Result<Regex, String> {
    let translated = translate(expression)?;
    let mut builder = RegexBuilder::new(&translated);
    builder.size_limit(MOST_BYTES).dfa_size_limit(MOST_BYTES).nest_limit(200);
    let compiled = builder.build().map_err(|why| match why {
        regex::Error::CompiledTooBig(_) => format!("expression is too large: `{expression}`"),
        why => format!("error parsing regexp: {}", reason(&why, expression)),
    })?;
    match nested_repetition(expression) {
        Some(part) => Err(fault("invalid nested repetition operator", part)),
        None => Ok(compiled),
    }
}

/// The first repetition of a repetition, `a**`, in an expression that is well-formed otherwise.
fn nested_repetition(expression: &str) -> Option<&str> {
    let bytes = expression.as_bytes();
    let find =
        |text: &str, from: usize| expression.get(from..).and_then(|rest| Some(from + rest.find(text)?));
    let (mut at, mut last) = (0, None);
    while let Some(byte) = bytes.get(at) {
        let end = match byte {
            b'*' | b'+' | b'?' => at + 1,
            b'{' if repetition(&expression[at + 1..], &mut String::new()).is_ok_and(|it| it.1) => {
                find("}", at).map_or(bytes.len(), |end| end + 1)
            }
            _ => {
                last = None;
                at = match (byte, bytes.get(at + 1)) {
                    (b'\\', Some(b'Q')) => find("\\E", at).map_or(bytes.len(), |end| end + 2),
                    (b'\\', Some(b'p' | b'P' | b'x')) if bytes.get(at + 2) == Some(&b'{') => {
                        find("}", at).map_or(bytes.len(), |end| end + 1)
                    }
                    (b'\\', Some(_)) | (b'(', Some(b'?')) => at + 2,
                    (b'[', _) => class_end(bytes, at),
                    _ => at + 1,
                };
                continue;
            }
        };
        let end = end + usize::from(bytes.get(end) == Some(&b'?'));
        if let Some(last) = last {
            return expression.get(last..end);
        }
        (last, at) = (Some(at), end);
    }
    None
}

/// Where a class ends that begins at a bracket.
fn class_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    at += usize::from(bytes.get(at) == Some(&b'^'));
    at += usize::from(bytes.get(at) == Some(&b']'));
    while let Some(byte) = bytes.get(at) {
        at += match (byte, bytes.get(at + 1)) {
            (b']', _) => return at + 1,
            (b'\\', _) => 2,
            (b'[', Some(b':')) => {
                bytes[at..].windows(2).position(|two| two == b":]").map_or(1, |length| length + 2)
            }
            _ => 1,
        };
    }
    at
}

/// Whether an expression is one, without the time and memory that compiling it takes: of thousands of patterns in a
/// schema most are never used. That it would compile to too much is found only then.
///
/// # Errors
/// As those of [`compile`].
pub fn check(expression: &str) -> Result<(), String> {
    let translated = translate(expression)?;
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(200).build();
    if let Err(why) = parser.parse(&translated) {
        let why = regex::Error::Syntax(why.to_string());
        return Err(format!("error parsing regexp: {}", reason(&why, expression)));
    }
    match nested_repetition(expression) {
        Some(part) => Err(fault("invalid nested repetition operator", part)),
        None => Ok(()),
    }
}

fn fault(why: &str, part: &str) -> String {
    format!("error parsing regexp: {why}: `{part}`")
}

/// What Go would say of an expression that does not compile, where its words are known.
fn reason(error: &regex::Error, pattern: &str) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let go = match last.as_str() {
        "unclosed group" => "missing closing )",
        "unopened group" => "unexpected )",
        "unclosed character class" => "missing closing ]",
        "repetition operator missing expression" => "missing argument to repetition operator",
        "look-around, including look-ahead and look-behind, is not supported" => {
            return format!("invalid or unsupported Perl syntax: `{}`", perl(pattern));
        }
        _ => return last,
    };
    let shown = match go {
        "missing argument to repetition operator" => {
            pattern.chars().next().map(String::from).unwrap_or_default()
        }
        "missing closing ]" => pattern[pattern.find('[').unwrap_or(0)..].to_owned(),
        _ => pattern.to_owned(),
    };
    format!("{go}: `{shown}`")
}

fn perl(pattern: &str) -> &str {
    let at = pattern.find("(?").unwrap_or(0);
    let end = if pattern[at..].starts_with("(?<") { 4 } else { 3 };
    pattern.get(at..at + end).unwrap_or("(?")
}

/// The same expression in the `regex` crate's syntax.
fn translate(expression: &str) -> Result<String, String> {
    let mut out = String::with_capacity(expression.len() + 16);
    let mut rest = expression;
    // The class that is open, and whether something stands in it already.
    let mut class: Option<bool> = None;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match (c, class) {
            ('\\', _) => escape(after, class.is_some(), &mut out)?,
            ('[', None) => {
                out.push('[');
                let after = after.strip_prefix('^').inspect(|_| out.push('^')).unwrap_or(after);
                class = Some(false);
                // A bracket that comes first is itself.
                after
                    .strip_prefix(']')
                    .inspect(|_| {
                        out.push_str("\\]");
                        class = Some(true);
                    })
                    .unwrap_or(after)
            }
            ('[', Some(_)) => {
                let named = after.starts_with(':').then(|| after.find(":]")).flatten();
                if let Some(end) = named {
                    out.push('[');
                    out.push_str(&after[..end + 2]);
                    &after[end + 2..]
                } else {
                    out.push_str("\\[");
                    after
                }
            }
            (']', Some(_)) => {
                out.push(']');
                class = None;
                after
            }
            ('&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
                after
            }
            ('-', Some(_)) if after.starts_with('-') => {
                out.push_str("\\-");
                after
            }
            ('{', None) => repetition(after, &mut out)?.0,
            _ => {
                out.push(c);
                after
            }
        };
        if class == Some(false) && !out.ends_with(['[', '^']) {
            class = Some(true);
        }
    }
    Ok(out)
}

/// What follows a backslash. Returns what follows that.
fn escape<'a>(rest: &'a str, in_class: bool, out: &mut String) -> Result<&'a str, String> {
    let Some(c) = rest.chars().next() else {
        return Err(fault("trailing backslash at end of expression", ""));
    };
    let after = &rest[c.len_utf8()..];
    match (c, in_class) {
        ('d', true) => out.push_str("0-9"),
        ('d', false) => out.push_str("[0-9]"),
        ('D', _) => out.push_str("[^0-9]"),
        ('w', true) => out.push_str("0-9A-Za-z_"),
        ('w', false) => out.push_str("[0-9A-Za-z_]"),
        ('W', _) => out.push_str("[^0-9A-Za-z_]"),
        ('s', true) => out.push_str("\\t\\n\\f\\r "),
        ('s', false) => out.push_str("[\\t\\n\\f\\r ]"),
        ('S', _) => out.push_str("[^\\t\\n\\f\\r ]"),
        ('b' | 'B', false) => {
            out.push_str("(?-u:\\");
            out.push(c);
            out.push(')');
        }
        ('Q', false) => {
            let (quoted, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(quoted));
            return Ok(after);
        }
        ('0'..='7', _) => {
            // Octal: one to three digits, of which the first alone is no reference.
            let digits: String = rest.chars().take(3).take_while(|c| ('0'..='7').contains(c)).collect();
            let value = u32::from_str_radix(&digits, 8).unwrap_or_default();
            if c != '0' && digits.len() < 2 {
                return Err(fault("invalid escape sequence", &format!("\\{c}")));
            }
            out.push_str(&format!("\\x{{{value:x}}}"));
            return Ok(&rest[digits.len()..]);
        }
        ('A' | 'z' | 'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'x' | 'p' | 'P', _) => {
            out.push('\\');
            out.push(c);
            // The braces of `\p{Greek}` and `\x{10FFFF}` repeat nothing.
            if let (true, Some((name, after))) =
                (after.starts_with('{') && matches!(c, 'x' | 'p' | 'P'), after.split_once('}'))
            {
                out.push_str(name);
                out.push('}');
                return Ok(after);
            }
        }
        (c, _) if c.is_ascii_alphanumeric() || !c.is_ascii() => {
            return Err(fault("invalid escape sequence", &format!("\\{c}")));
        }
        (c, _) => {
            if !matches!(
                c,
                '"' | '\'' | '`' | ' ' | '/' | ',' | ';' | ':' | '!' | '@' | '%' | '=' | '_' | '<' | '>'
            ) {
                out.push('\\');
            }
            out.push(c);
        }
    }
    Ok(after)
}

/// What follows a brace: a repetition, or else the brace is itself. Returns what follows it, and whether it is one.
fn repetition<'a>(rest: &'a str, out: &mut String) -> Result<(&'a str, bool), String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let inner = rest.split_once('}').map(|(inner, _)| inner);
    let counts = inner.map(|inner| inner.split_once(',').unwrap_or((inner, inner)));
    match (inner, counts) {
        (Some(inner), Some((least, most))) if number(least) && (most.is_empty() || number(most)) => {
            let within =
                |text: &str| text.is_empty() || text.parse().is_ok_and(|n: u32| n <= MOST_REPETITIONS);
            let ordered = most.is_empty() || least.parse::<u32>().ok() <= most.parse::<u32>().ok();
            if !within(least) || !within(most) || !ordered {
                return Err(fault("invalid repeat count", &format!("{{{inner}}}")));
            }
            out.push('{');
            Ok((rest, true))
        }
        _ => {
            out.push_str("\\{");
            Ok((rest, false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn differences() {
        let check = |expression: &str, text: &str, expect: bool| {
            let compiled = compile(expression).unwrap_or_else(|why| panic!("{expression}: {why}"));
            assert_eq!(super::check(expression), Ok(()));
            assert_eq!(compiled.is_match(text), expect, "{expression} on {text:?}");
        };
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "١٢", false);
        check(r"^[\w.]+$", "a_1.b", true);
        check(r"^[\w]+$", "é", false);
        check(r"^[[a]+$", "[a", true);
        check(r"^[a&&b]+$", "a&b", true);
        check(r"^[]a]+$", "]a", true);
        check(r"^[^]a]+$", "b", true);
        check(r"^[[:alpha:]\d-]+$", "ab1-", true);
        check(r"^[a--]$", "-", true);
        check(r"\bfoo\b", "a foo b", true);
        check(r"^\Qa.b\E$", "a.b", true);
        check(r"^\Qa.b\E$", "axb", false);
        check(r"^a{2,3}$", "aaa", true);
        check(r"^{a}$", "{a}", true);
        check(r"^a{,2}$", "a{,2}", true);
        check(r"^\x41\101$", "AA", true);
        check(r"^\/a\-b$", "/a-b", true);
        check(r"(?i)^ABC$", "abc", true);
        check(r"^(?P<n>a)$", "a", true);
        check(r"^\p{Greek}+$", "αβ", true);
        check(r"^[[:alpha:]-]+$", "a-b", true);
        check(r"^a\.b$", "a.b", true);
        check(r"^(?:a+)*?[*+]+\*+(?i:b)?\Q**\E$", "a*+***", true);
    }

    #[test]
    fn faults() {
        let check = |expression: &str, expect: &str| {
            assert_eq!(compile(expression).err().as_deref(), Some(expect), "{expression}");
            assert_eq!(super::check(expression).err().as_deref(), Some(expect), "{expression}");
        };
        check("a(b", "error parsing regexp: missing closing ): `a(b`");
        check("a)b", "error parsing regexp: unexpected ): `a)b`");
        check("a[b", "error parsing regexp: missing closing ]: `[b`");
        check("a\\", "error parsing regexp: trailing backslash at end of expression: ``");
        check("*a", "error parsing regexp: missing argument to repetition operator: `*`");
        check("a{2000}", "error parsing regexp: invalid repeat count: `{2000}`");
        check("a{3,2}", "error parsing regexp: invalid repeat count: `{3,2}`");
        check("(?=a)", "error parsing regexp: invalid or unsupported Perl syntax: `(?=`");
        check("\\y", "error parsing regexp: invalid escape sequence: `\\y`");
        check("\\1", "error parsing regexp: invalid escape sequence: `\\1`");
        check("ax++", "error parsing regexp: invalid nested repetition operator: `++`");
        check("a*?{2}", "error parsing regexp: invalid nested repetition operator: `*?{2}`");
        assert!(compile("(((a{1000}){1000}){1000})").is_err());
    }
}
