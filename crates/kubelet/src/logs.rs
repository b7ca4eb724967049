//! Container logs as the runtime writes them (`TIME STREAM TAG TEXT`): reading, selecting, following.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;

/// Which part of a log is wanted: the options of `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<usize>,
    /// `stdout` or `stderr`; both when `None`.
    pub stream: Option<String>,
}

/// One line of a log file. `text` has its newline unless it is only part of a longer line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a str,
    pub stream: &'a str,
    pub text: &'a [u8],
    pub partial: bool,
}

/// Parses a line without its newline; `None` for what is no log line.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok().filter(|s| matches!(*s, "stdout" | "stderr"))?;
    let tags = parts.next()?;
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    Some(Line { time, stream, text: parts.next().unwrap_or_default(), partial })
}

/// Turns file content into what a client gets, piece by piece.
#[derive(Debug)]
pub struct Formatter {
    options: Options,
    left: Option<usize>,
    /// A line of which only the beginning is written so far.
    rest: Vec<u8>,
    /// Whether the next text begins a line.
    begin: bool,
}

impl Formatter {
    pub fn new(options: Options) -> Formatter {
        Formatter { left: options.limit_bytes, options, rest: Vec::new(), begin: true }
    }

    /// Whether the limit of bytes is reached.
    pub fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// Formats more of the file.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut out = Vec::new();
        let rest = std::mem::take(&mut self.rest);
        let lines = rest.split_inclusive(|b| *b == b'\n');
        for line in lines {
            let Some(complete) = line.strip_suffix(b"\n") else {
                self.rest = line.to_vec();
                break;
            };
            self.line(complete, &mut out);
        }
        if let Some(left) = &mut self.left {
            out.truncate(*left);
            *left -= out.len();
        }
        out
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse(line) else { return };
        if self.options.stream.as_deref().is_some_and(|s| s != line.stream) {
            return;
        }
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|t| t < since)
        {
            return;
        }
        if self.options.timestamps && self.begin {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.begin = !line.partial;
    }
}

/// Where in a file its last `lines` whole lines begin. A line in several parts counts once.
pub fn tail_offset(file: &mut fs::File, lines: usize) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let (mut position, mut tail): (u64, Vec<u8>) = (length, Vec::new());
    loop {
        let starts = full_line_starts(&tail, position == 0);
        if starts.len() >= lines || position == 0 {
            let from = starts.get(starts.len().saturating_sub(lines)).copied().unwrap_or_default();
            return Ok(position + from as u64);
        }
        let step = position.min(64 << 10);
        position -= step;
        file.seek(SeekFrom::Start(position))?;
        let mut block = vec![0; step as usize];
        file.read_exact(&mut block)?;
        block.extend_from_slice(&tail);
        tail = block;
    }
}

/// Offsets at which whole lines begin. Unless `bytes` begin the file, what stands before the first newline is cut
/// off.
fn full_line_starts(bytes: &[u8], from_start: bool) -> Vec<usize> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut usable = from_start;
    let mut begin = true;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if usable {
            if begin {
                out.push(at);
            }
            let partial = parse(line.strip_suffix(b"\n").unwrap_or(line)).is_some_and(|l| l.partial);
            begin = !partial;
        }
        usable = true;
        at += line.len();
    }
    out
}

/// The text of a log's last lines, of at most so many bytes.
pub fn tail_text(path: &Path, lines: usize, bytes: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let from = tail_offset(&mut file, lines)?;
        file.seek(SeekFrom::Start(from))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(Formatter::new(Options::default()).push(&content))
    };
    let text = read().unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(bytes)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2024-01-01T00:00:01.5Z stdout F one\n2024-01-01T00:00:02Z stderr P tw\n2024-01-01T00:00:02Z stderr F o\n2024-01-01T00:00:03Z stdout F three\n";

    fn text(options: Options) -> String {
        let mut f = Formatter::new(options);
        // In two pieces, cut within a line.
        let mut out = f.push(&LOG.as_bytes()[..50]);
        out.extend(f.push(&LOG.as_bytes()[50..]));
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn selections() {
        let since = Some("2024-01-01T00:00:02Z".parse().expect("a time"));
        for (options, expect) in [
            (Options::default(), "one\ntwo\nthree\n"),
            (Options { since, ..Options::default() }, "two\nthree\n"),
            (Options { stream: Some("stderr".into()), ..Options::default() }, "two\n"),
            (Options { limit_bytes: Some(5), ..Options::default() }, "one\nt"),
            (
                Options { timestamps: true, ..Options::default() },
                "2024-01-01T00:00:01.5Z one\n2024-01-01T00:00:02Z two\n2024-01-01T00:00:03Z three\n",
            ),
        ] {
            assert_eq!(text(options.clone()), expect, "{options:?}");
        }
    }

    #[test]
    fn tails() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).expect("write");
        for (lines, expect) in
            [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (3, "one\ntwo\nthree\n"), (9, "one\ntwo\nthree\n")]
        {
            assert_eq!(tail_text(&path, lines, 100), expect, "{lines}");
        }
        assert_eq!(tail_text(&path, 9, 4), "ree\n");
        let long: String = (0..5000)
            .map(|i| format!("2024-01-01T00:00:03Z stdout F line {i} {}\n", "x".repeat(50)))
            .collect();
        std::fs::write(&path, long).expect("write");
        let got = tail_text(&path, 1500, 1 << 20);
        assert_eq!(got.lines().count(), 1500);
        assert!(got.starts_with("line 3500 "), "{}", &got[..20]);
    }
}
