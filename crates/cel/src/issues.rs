//! What is wrong with an expression, printed with the line and a caret as users know it.

use std::fmt;

/// Faults beyond this many are only counted.
const LIMIT: usize = 100;
/// Lines longer than this (bytes) are not printed.
const LONGEST_SNIPPET: usize = 16_384;

/// A line (from 1) and a column (from 0), both -1 where there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub line: i32,
    pub column: i32,
}

impl Location {
    pub const NONE: Location = Location { line: -1, column: -1 };
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    pub location: Location,
    pub message: String,
}

/// The faults of one expression. `Display` prints them in the order of the text, as
/// `ERROR: <input>:1:5: undeclared reference to 'x' (in container '')`, with the line and a caret below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issues {
    source: String,
    found: Vec<Issue>,
    count: usize,
}

impl Issues {
    pub fn new(source: &str) -> Issues {
        Issues { source: source.to_owned(), found: Vec::new(), count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The faults, at most a hundred.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.found.iter()
    }

    /// Adds a fault at an offset in code points.
    pub fn report(&mut self, offset: u32, message: impl Into<String>) {
        self.report_at(self.locate(offset), message);
    }

    pub fn report_at(&mut self, location: Location, message: impl Into<String>) {
        self.count += 1;
        if self.found.len() < LIMIT {
            self.found.push(Issue { location, message: message.into() });
        }
    }

    fn locate(&self, offset: u32) -> Location {
        if self.source.is_empty() {
            return Location { line: 1, column: -1 };
        }
        let (mut line, mut column) = (1, 0);
        for character in self.source.chars().take(offset as usize) {
            if character == '\n' {
                line += 1;
                column = 0;
            } else {
                column += 1;
            }
        }
        Location { line, column }
    }

    fn print(&self, issue: &Issue, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { line, column } = issue.location;
        write!(out, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
        if line < 1 || self.source.is_empty() {
            return Ok(());
        }
        let Some(text) = self.source.split('\n').nth(line as usize - 1) else { return Ok(()) };
        if text.len() > LONGEST_SNIPPET {
            return Ok(());
        }
        let text = text.replace('\t', " ");
        write!(out, "\n | {text}\n | ")?;
        let mut rest = text.chars();
        for _ in 0..column {
            match rest.next() {
                Some(character) if character.len_utf8() > 1 => out.write_str("\u{ff0e}")?,
                Some(_) => out.write_str(".")?,
                None => break,
            }
        }
        out.write_str(if rest.next().is_some_and(|it| it.len_utf8() > 1) { "\u{ff3e}" } else { "^" })
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Issue> = self.found.iter().collect();
        sorted.sort_by_key(|issue| issue.location);
        for (index, issue) in sorted.into_iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            self.print(issue, out)?;
        }
        if self.count > LIMIT {
            write!(out, "\n{} more errors were truncated", self.count - LIMIT)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}
