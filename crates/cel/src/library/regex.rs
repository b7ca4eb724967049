//! Regular expressions with RE2's syntax, on the regex crate, which is linear in time as RE2 is. What the two syntaxes
//! read differently is rewritten.

use regex::Regex;

use crate::error::Error;
use crate::library::{Implementation, int, string};
use crate::value::{Result, Value};

/// Bytes of a compiled pattern.
const LARGEST: usize = 4 << 20;

pub(super) fn implementation(name: &str) -> Option<Implementation> {
    Some(match name {
        "matches" => |args, _| {
            let pattern = compile(string(args, 1)?).map_err(Error::new)?;
            Ok(Value::Bool(pattern.is_match(string(args, 0)?)))
        },
        "find" => |args, _| {
            let pattern =
                compile(string(args, 1)?).map_err(|it| Error::new(format!("Illegal regex: {it}")))?;
            find(&pattern, args)
        },
        "findAll" => |args, _| {
            let pattern =
                compile(string(args, 1)?).map_err(|it| Error::new(format!("Illegal regex: {it}")))?;
            find_all(&pattern, args)
        },
        _ => return None,
    })
}

/// Whether the second argument is a pattern, so that a constant is compiled once.
pub(crate) fn takes_pattern(function: &str) -> bool {
    matches!(function, "matches" | "find" | "findAll")
}

/// The same functions with their pattern compiled.
pub(crate) fn apply<'a>(function: &str, pattern: &Regex, args: &[Value<'a>]) -> Result<Value<'a>> {
    match function {
        "matches" => Ok(Value::Bool(pattern.is_match(string(args, 0)?))),
        "find" => find(pattern, args),
        _ => find_all(pattern, args),
    }
}

fn find<'a>(pattern: &Regex, args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(Value::string(pattern.find(string(args, 0)?).map_or("", |it| it.as_str())))
}

fn find_all<'a>(pattern: &Regex, args: &[Value<'a>]) -> Result<Value<'a>> {
    let most = if args.len() > 2 { usize::try_from(int(args, 2)?).unwrap_or(usize::MAX) } else { usize::MAX };
    let found = pattern.find_iter(string(args, 0)?).take(most).map(|it| it.as_str().to_owned());
    Ok(Value::strings(found))
}

/// Compiles a pattern.
///
/// # Errors
/// In the reference's words where it has some.
pub(crate) fn compile(pattern: &str) -> std::result::Result<Regex, String> {
    let translated = translate(pattern).map_err(|it| format!("error parsing regexp: {it}"))?;
    let built = regex::RegexBuilder::new(&translated).size_limit(LARGEST).nest_limit(200).build();
    built.map_err(|error| format!("error parsing regexp: {}", reason(&error, pattern)))
}

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

/// RE2's classes `\d`, `\s` and `\w` are of ASCII; brackets and doubled signs within a class are themselves; `\Q…\E`
/// quotes; octal escapes exist.
fn translate(pattern: &str) -> std::result::Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut class = false;
    // Right after the opening of a class a bracket is itself.
    let mut opening = false;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        let was_opening = std::mem::take(&mut opening);
        match first {
            '\\' => {
                let escaped = rest[1..].chars().next();
                length = 1 + escaped.map_or(0, char::len_utf8);
                match escaped {
                    Some('d') => out.push_str(if class { "0-9" } else { "[0-9]" }),
                    Some('w') => out.push_str(if class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                    Some('s') => out.push_str(if class { "\\t\\n\\x0C\\r " } else { "[\\t\\n\\x0C\\r ]" }),
                    Some('D') => out.push_str("[^0-9]"),
                    Some('W') => out.push_str("[^0-9A-Za-z_]"),
                    Some('S') => out.push_str("[^\\t\\n\\x0C\\r ]"),
                    Some('b') if !class => out.push_str("(?-u:\\b)"),
                    Some('Q') => {
                        let quoted = &rest[2..];
                        let end = quoted.find("\\E");
                        out.push_str(&regex::escape(&quoted[..end.unwrap_or(quoted.len())]));
                        length = 2 + end.map_or(quoted.len(), |at| at + 2);
                    }
                    Some('0'..='7') => {
                        let digits =
                            rest[1..].bytes().take(3).take_while(|it| (b'0'..=b'7').contains(it)).count();
                        if digits == 1 && escaped != Some('0') {
                            return Err(format!("invalid escape sequence: `{}`", &rest[..2]));
                        }
                        let value = u32::from_str_radix(&rest[1..=digits], 8).unwrap_or(0);
                        out.push_str(&format!("\\x{{{value:x}}}"));
                        length = 1 + digits;
                    }
                    // Forms that only the other syntax has.
                    Some(it @ ('u' | 'U' | 'h' | 'H' | 'R' | 'Z' | 'G' | 'X' | 'e' | 'c' | 'k' | 'o')) => {
                        return Err(format!("invalid escape sequence: `\\{it}`"));
                    }
                    Some('<' | '>') => out.push_str(&rest[1..2]),
                    None => return Err("trailing backslash at end of expression: ``".to_owned()),
                    Some(_) => out.push_str(&rest[..length]),
                }
            }
            '[' if class && !rest.starts_with("[:") => out.push_str("\\["),
            '[' if !class => {
                class = true;
                opening = true;
                out.push('[');
                if rest[1..].starts_with('^') {
                    out.push('^');
                    length = 2;
                }
            }
            '[' => {
                let end = rest.find(":]").map_or(1, |at| at + 2);
                out.push_str(&rest[..end]);
                length = end;
            }
            ']' if class && was_opening => out.push_str("\\]"),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '&' | '~' if class => {
                out.push('\\');
                out.push(first);
            }
            '-' if class && rest.starts_with("--") && !was_opening => out.push_str("\\-"),
            other => out.push(other),
        }
        rest = &rest[length..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns() {
        for (pattern, text, expect) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "\u{663}", false),
            (r"^[\w.]+$", "a.b_c", true),
            (r"^[[a]+$", "[a", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[[:alpha:]-]+$", "a-b", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"(?i)ABC", "xabc", true),
            (r"^a\.b$", "a.b", true),
        ] {
            assert_eq!(super::compile(pattern).unwrap().is_match(text), expect, "{pattern} on {text}");
        }
        for (pattern, message) in [
            ("(", "error parsing regexp: missing closing ): `(`"),
            ("a)", "error parsing regexp: unexpected ): `a)`"),
            ("*a", "error parsing regexp: missing argument to repetition operator: `*`"),
            ("[a", "error parsing regexp: missing closing ]: `[a`"),
            ("(?=a)", "error parsing regexp: invalid or unsupported Perl syntax: `(?=`"),
        ] {
            assert_eq!(super::compile(pattern).unwrap_err(), message);
        }
    }
}
