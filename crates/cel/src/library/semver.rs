//! `kubernetes.Semver`: semantic versions 2.0.0.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::library::string;
use crate::library::url::quoted;
use crate::value::{Result, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Major, minor, patch.
    numbers: [u64; 3],
    pre: Vec<Pre>,
    build: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pre {
    Number(u64),
    Text(String),
}

impl fmt::Display for Pre {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pre::Number(it) => write!(out, "{it}"),
            Pre::Text(it) => out.write_str(it),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(out, "{major}.{minor}.{patch}")?;
        for (index, it) in self.pre.iter().enumerate() {
            write!(out, "{}{it}", if index == 0 { '-' } else { '.' })?;
        }
        for (index, it) in self.build.iter().enumerate() {
            write!(out, "{}{it}", if index == 0 { '+' } else { '.' })?;
        }
        Ok(())
    }
}

impl Version {
    /// The order of precedence, to which the build says nothing.
    pub fn order(&self, other: &Version) -> Ordering {
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let each = self.pre.iter().zip(&other.pre).map(|(one, other)| match (one, other) {
                    (Pre::Number(one), Pre::Number(other)) => one.cmp(other),
                    (Pre::Number(_), Pre::Text(_)) => Ordering::Less,
                    (Pre::Text(_), Pre::Number(_)) => Ordering::Greater,
                    (Pre::Text(one), Pre::Text(other)) => one.cmp(other),
                });
                let first = each.into_iter().find(|it| it.is_ne());
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(pre)
    }

    pub fn parse(text: &str) -> std::result::Result<Version, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (*rest, None),
        };
        let (patch, pre) = match rest.split_once('-') {
            Some((patch, pre)) => (patch, Some(pre)),
            None => (rest, None),
        };
        let numbers = [
            number(major, "Major", "major")?,
            number(minor, "Minor", "minor")?,
            number(patch, "Patch", "patch")?,
        ];
        let pre = pre.map(|it| it.split('.').map(read_pre).collect()).transpose()?.unwrap_or_default();
        let build = build.map(|it| it.split('.').map(read_build).collect()).transpose()?.unwrap_or_default();
        Ok(Version { numbers, pre, build })
    }

    /// The same with a leading `v`, leading zeros and missing parts forgiven.
    fn parse_tolerant(text: &str) -> std::result::Result<Version, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in parts.iter_mut().filter(|it| it.len() > 1) {
            let stripped = part.trim_start_matches('0');
            let bare = !stripped.starts_with(|it: char| it.is_ascii_digit());
            *part = if bare { format!("0{stripped}") } else { stripped.to_owned() };
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|it| it.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Version::parse(&parts.join("."))
    }
}

fn number(text: &str, upper: &str, lower: &str) -> std::result::Result<u64, String> {
    if !text.bytes().all(|it| it.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {lower} number {}", quoted(text)));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{upper} number must not contain leading zeroes {}", quoted(text)));
    }
    let reason = if text.is_empty() { "invalid syntax" } else { "value out of range" };
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {}: {reason}", quoted(text)))
}

fn word(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
}

fn read_pre(text: &str) -> std::result::Result<Pre, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if text.bytes().all(|it| it.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {}",
                quoted(text)
            ));
        }
        return text
            .parse()
            .map(Pre::Number)
            .map_err(|_| format!("strconv.ParseUint: parsing {}: value out of range", quoted(text)));
    }
    if word(text) {
        Ok(Pre::Text(text.to_owned()))
    } else {
        Err(format!("Invalid character(s) found in prerelease {}", quoted(text)))
    }
}

fn read_build(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() {
        return Err("Build meta data is empty".to_owned());
    }
    if word(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("Invalid character(s) found in build meta data {}", quoted(text)))
    }
}

fn read(args: &[Value<'_>]) -> Result<std::result::Result<Version, String>> {
    let text = string(args, 0)?;
    Ok(match args.get(1) {
        None | Some(Value::Bool(false)) => Version::parse(text),
        Some(Value::Bool(true)) => Version::parse_tolerant(text),
        Some(_) => return Err(Error::no_such_overload()),
    })
}

pub(super) fn semver<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Semver(Arc::new(read(args)?.map_err(Error::new)?)))
}

pub(super) fn is_semver<'a>(args: &[Value<'a>], _: &str) -> Result<Value<'a>> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

pub(super) fn part<'a>(args: &[Value<'a>], index: usize) -> Result<Value<'a>> {
    match args.first() {
        Some(Value::Semver(it)) => Ok(Value::Int(it.numbers[index] as i64)),
        _ => Err(Error::no_such_overload()),
    }
}
