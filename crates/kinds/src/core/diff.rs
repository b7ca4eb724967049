//! How two values differ, for people: the text that stands behind "spec is immutable".

use serde_json::Value;

/// Lines around a change that are shown with it.
const CONTEXT: usize = 3;
/// Above this many pairs of lines the whole middle counts as changed: the search for what is common takes time
/// and memory in proportion.
const MOST_PAIRS: usize = 4_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Same,
    Removed,
    Added,
}

/// A unified diff of the values as indented JSON, without file names; empty when they are equal.
pub fn diff(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let ops = compare(&old, &new);
    let mut out = String::new();
    let mut start = 0;
    while let Some(first) = ops[start..].iter().position(|(op, ..)| *op != Op::Same) {
        let from = (start + first).saturating_sub(CONTEXT).max(start);
        let mut last = start + first;
        // Changes with little between them share a hunk.
        while let Some(next) = ops[last + 1..].iter().position(|(op, ..)| *op != Op::Same) {
            if next > 2 * CONTEXT {
                break;
            }
            last += next + 1;
        }
        let to = (last + CONTEXT + 1).min(ops.len());
        hunk(&ops[from..to], &old, &new, &mut out);
        start = to;
    }
    out
}

fn pretty(value: &Value) -> String {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let mut out = serde_json::Serializer::with_formatter(
        &mut bytes,
        serde_json::ser::PrettyFormatter::with_indent(b" "),
    );
    // Writing a value into memory does not fail.
    match value.serialize(&mut out) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// `(operation, index in old, index in new)` of every line in order.
fn compare(old: &[&str], new: &[&str]) -> Vec<(Op, usize, usize)> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = old[head..].iter().rev().zip(new[head..].iter().rev());
    let tail = rest.take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut ops: Vec<(Op, usize, usize)> = (0..head).map(|line| (Op::Same, line, line)).collect();
    let (mut i, mut j) = (0, 0);
    if a.len() * b.len() <= MOST_PAIRS {
        // common[i][j]: how many lines a[i..] and b[j..] share in order.
        let width = b.len() + 1;
        let mut common = vec![0u32; (a.len() + 1) * width];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                common[i * width + j] = match a[i] == b[j] {
                    true => common[(i + 1) * width + j + 1] + 1,
                    false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
                };
            }
        }
        while i < a.len() && j < b.len() {
            if a[i] == b[j] {
                ops.push((Op::Same, head + i, head + j));
                (i, j) = (i + 1, j + 1);
            } else if common[(i + 1) * width + j] >= common[i * width + j + 1] {
                ops.push((Op::Removed, head + i, head + j));
                i += 1;
            } else {
                ops.push((Op::Added, head + i, head + j));
                j += 1;
            }
        }
    }
    ops.extend((i..a.len()).map(|line| (Op::Removed, head + line, head + j)));
    ops.extend((j..b.len()).map(|line| (Op::Added, head + a.len(), head + line)));
    let (a, b) = (old.len() - tail, new.len() - tail);
    ops.extend((0..tail).map(|line| (Op::Same, a + line, b + line)));
    ops
}

fn hunk(ops: &[(Op, usize, usize)], old: &[&str], new: &[&str], out: &mut String) {
    let Some((_, first_old, first_new)) = ops.first() else { return };
    let range = |start: usize, length: usize| match length {
        1 => format!("{}", start + 1),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    };
    let count = |without: Op| ops.iter().filter(|(op, ..)| *op != without).count();
    out.push_str(&format!(
        "@@ -{} +{} @@\n",
        range(*first_old, count(Op::Added)),
        range(*first_new, count(Op::Removed))
    ));
    for (op, i, j) in ops {
        let (sign, line) = match op {
            Op::Same => (' ', old[*i]),
            Op::Removed => ('-', old[*i]),
            Op::Added => ('+', new[*j]),
        };
        out.push(sign);
        out.push_str(line);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn diffs() {
        let check = |old: Value, new: Value, expect: &str| assert_eq!(diff(&old, &new), expect);
        check(json!({"a": 1}), json!({"a": 1}), "");
        check(
            json!({"a": 1, "b": 2}),
            json!({"a": 1, "b": 3}),
            "@@ -1,4 +1,4 @@\n {\n  \"a\": 1,\n- \"b\": 2\n+ \"b\": 3\n }\n",
        );
        check(json!(1), json!(2), "@@ -1 +1 @@\n-1\n+2\n");
        // Far apart: two hunks.
        let long = |first: i32, last: i32| {
            let mut list: Vec<i32> = (0..30).collect();
            (list[0], list[29]) = (first, last);
            json!(list)
        };
        let text = diff(&long(0, 29), &long(-1, -2));
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
        assert!(text.contains("- 0,\n+ -1,\n") && text.contains("- 29\n+ -2\n"), "{text}");
    }

    #[test]
    fn large_values_are_compared_in_bounds() {
        let list = |start: usize| json!((start..start + 3000).collect::<Vec<_>>());
        let text = diff(&list(0), &list(10_000));
        assert_eq!(text.lines().count(), 6003);
    }
}
