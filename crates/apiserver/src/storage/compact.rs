//! Finding things in compact JSON as we write it, without parsing it.

use std::ops::Range;

/// Where the value of a key begins; `at` is where a key of the same object begins.
fn find(json: &[u8], mut at: usize, wanted: &[u8]) -> Option<usize> {
    loop {
        let (key, value) = key_at(json, at)?;
        if &json[key] == wanted {
            return Some(value);
        }
        at = skip_comma(json, skip_value(json, value)?)?;
    }
}

/// Where the digits of `metadata.resourceVersion` lie. `from` is inside the object, before `metadata`.
pub(super) fn version_in(json: &[u8], from: usize) -> Option<Range<usize>> {
    let metadata = find(json, from, b"metadata")?;
    let version = find(json, metadata + 1, b"resourceVersion")?;
    let end = skip_value(json, version)?;
    Some(version + 1..end - 1)
}

/// Where the value of `metadata` lies; empty if there is none.
pub(super) fn metadata_in(json: &[u8], from: usize) -> Range<usize> {
    let found = find(json, from, b"metadata").and_then(|start| Some(start..skip_value(json, start)?));
    found.unwrap_or(0..0)
}

/// The key that begins at `at`, without quotes, and where its value begins.
fn key_at(json: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    if json.get(at) != Some(&b'"') {
        return None;
    }
    let end = skip_value(json, at)?;
    (json.get(end) == Some(&b':')).then_some((at + 1..end - 1, end + 1))
}

fn skip_comma(json: &[u8], at: usize) -> Option<usize> {
    (json.get(at) == Some(&b',')).then_some(at + 1)
}

/// The first byte after the value that begins at `at`. The text is compact JSON.
fn skip_value(json: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = at;
    loop {
        match *json.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    match *json.get(at)? {
                        b'\\' => at += 2,
                        b'"' => break,
                        _ => at += 1,
                    }
                }
                at += 1;
            }
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ => {
                at += 1;
                if depth == 0 {
                    while !matches!(json.get(at), None | Some(b',' | b'}' | b']')) {
                        at += 1;
                    }
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The labels of an object that is stored as JSON, in stored order. Keys and values of labels need no escapes.
pub(super) fn labels(json: &[u8]) -> Vec<(&str, &str)> {
    let mut all = Vec::new();
    let place = || find(json, find(json, 1, b"metadata")? + 1, b"labels");
    let Some(start) = place().filter(|at| json.get(*at) == Some(&b'{')) else { return all };
    let mut at = start + 1;
    while let Some((key, value)) = key_at(json, at) {
        let Some(end) = skip_value(json, value) else { break };
        let text = |range: Range<usize>| std::str::from_utf8(json.get(range)?).ok();
        // Without the quotes.
        if let (Some(key), Some(value)) = (text(key), text(value + 1..end.saturating_sub(1))) {
            all.push((key, value));
        }
        let Some(next) = skip_comma(json, end) else { break };
        at = next;
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn labels() {
        let json = br#"{"apiVersion":"a/v1","kind":"K","metadata":{"annotations":{"labels":"{}"},"labels":{"a":"b","c/d":""},"name":"n"},"spec":{"labels":{"x":"y"}}}"#;
        assert_eq!(super::labels(json), [("a", "b"), ("c/d", "")]);
        // Broken in any place: fewer labels, no panic.
        for cut in 0..json.len() {
            super::labels(&json[..cut]);
        }
        assert_eq!(super::labels(br#"{"metadata":{"labels":{}}}"#), []);
        assert_eq!(super::labels(br#"{"metadata":{"labels":null}}"#), []);
    }
}
