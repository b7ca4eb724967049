//! `/debug/api_priority_and_fairness/…`: the levels, queues and waiting requests at the moment, in upstream's tables.

/// The paths, and what each shows.
pub const PREFIX: &str = "/debug/api_priority_and_fairness/";

/// Columns under each other: every cell but the last of a line is filled up to the widest and one more, at least
/// eight.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &[String], at: usize| -> String {
        let text = row.get(at).map(String::as_str).unwrap_or_default();
        if at + 1 < row.len() { format!("{text},") } else { text.to_owned() }
    };
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().map(|row| cell(row, at).chars().count() + 1).max().unwrap_or(0).max(8))
        .collect();
    let mut out = String::new();
    for row in rows {
        for (at, width) in widths.iter().enumerate().take(row.len()) {
            let text = cell(row, at);
            out.push_str(&text);
            if at + 1 < row.len() {
                (text.chars().count()..*width).for_each(|_| out.push(' '));
            }
        }
        out.push('\n');
    }
    out
}

/// The first line of a table.
pub fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let rows = [heads(&["PriorityLevelName", "Index"]), heads(&["exempt", "1"])];
        assert_eq!(table(&rows), "PriorityLevelName, Index\nexempt,            1\n");
        assert_eq!(table(&[heads(&["a", "b", "c"])]), "a,      b,      c\n");
    }
}
