//! PEM (RFC 7468) as Go's `encoding/pem` takes it: text around blocks does not matter, nor do blocks that are broken.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One block.
pub struct Block {
    /// What stands in the lines around it: `CERTIFICATE`.
    pub label: String,
    /// It has lines of `Key: value` before the content.
    pub has_headers: bool,
    pub content: Vec<u8>,
}

/// Every block that can be read, in order.
pub fn blocks(text: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let Some(label) = between(line, "-----BEGIN ") else { continue };
        let rest = lines.get(at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|line| line.starts_with("-----")) else { break };
        if rest.get(length).and_then(|line| between(line, "-----END ")) != Some(label) {
            continue;
        }
        let body = rest.get(..length).unwrap_or_default();
        let headers = body.iter().take_while(|line| line.contains(':')).count();
        let content: String = body.iter().skip(headers).flat_map(|line| line.split_whitespace()).collect();
        if let Ok(content) = STANDARD.decode(content) {
            found.push(Block { label: label.to_owned(), has_headers: headers > 0, content });
            at += length + 1;
        }
    }
    found
}

fn between<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem() {
        let check = |text: &str, expect: &[(&str, bool, &str)]| {
            let found = blocks(text.as_bytes());
            let got: Vec<(&str, bool, &str)> = found
                .iter()
                .map(|block| (&*block.label, block.has_headers, std::str::from_utf8(&block.content).unwrap()))
                .collect();
            assert_eq!(got, expect, "{text}");
        };
        let block =
            |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        check("", &[]);
        check("garbage", &[]);
        check(&block("A", "aGk="), &[("A", false, "hi")]);
        check(
            &format!("x\n{}y\n{}", block("A", "aG\nk="), block("B", "")),
            &[("A", false, "hi"), ("B", false, "")],
        );
        check(&block("A", "k: v\nl: w\n\naGk="), &[("A", true, "hi")]);
        check(&format!("{}{}", block("A", "!"), block("B", "aGk=")), &[("B", false, "hi")]);
        check("-----BEGIN A-----\naGk=\n-----END B-----\n", &[]);
        check("-----BEGIN A-----\naGk=\n", &[]);
        check("-----BEGIN A-----\r\naGk=\r\n-----END A-----\r\n", &[("A", false, "hi")]);
    }
}
