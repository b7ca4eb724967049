//! The functions over regular expressions; [`crate::re2`] compiles them.

use regex::Regex;

use crate::error::Error;
use crate::library::{Implementation, int, string};
pub(crate) use crate::re2::compile;
use crate::value::{Result, Value};

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
