//! Sets of completion indexes as text: `1,3-5,7`.

use apimachinery::field::quote;

/// An index, or the first and the last of several, of `completions` in all.
fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = text.split('-').collect();
    let index = |text: &str| {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", quote(text)))?;
        if number >= completions { Err(format!("too large index: {}", quote(text))) } else { Ok(number) }
    };
    match limits.as_slice() {
        [one] => index(one).map(|one| (one, one)),
        [first, last] => {
            let (first, last) = (index(first)?, index(last)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by \
             '-'",
            quote(text)
        )),
    }
}

/// How many indexes the text names.
///
/// # Errors
/// Text that is not an increasing list of intervals below `completions`, in upstream's words.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index in both texts, where both can be read.
pub fn overlap(a: &str, b: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (a, b) = (read(a), read(b));
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some((a_first, a_last)), Some((b_first, b_last))) = (a.peek().copied(), b.peek().copied()) {
        if a_first <= b_last && b_first <= a_last {
            return Some(a_first.max(b_first));
        }
        let behind = if a_first <= b_first { &mut a } else { &mut b };
        behind.next();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TestValidateIndexesString`
    #[test]
    fn counts() {
        let check = |text: &str, completions: i64, expect: Result<i64, &str>| {
            assert_eq!(count(text, completions), expect.map_err(str::to_owned), "{text}");
        };
        check("", 6, Ok(0));
        check("1", 6, Ok(1));
        check("1,3", 6, Ok(2));
        check("1-5", 6, Ok(5));
        check("0,2-4,6-7,10", 13, Ok(7));
        check(
            "1-2-3",
            6,
            Err("the fragment \"1-2-3\" violates the requirement that an index interval can have at most \
            two parts separated by '-'"),
        );
        check("1a", 6, Err("cannot convert string to integer for index: \"1a\""));
        check("1,", 6, Err("cannot convert string to integer for index: \"\""));
        check("-1", 6, Err("cannot convert string to integer for index: \"\""));
        check("6", 6, Err("too large index: \"6\""));
        check("1-6", 6, Err("too large index: \"6\""));
        check("3,1", 6, Err("non-increasing order, previous: 3, current: 1"));
        check("2-1", 6, Err("non-increasing order, previous: 2, current: 1"));
        check("1-3,3", 6, Err("non-increasing order, previous: 3, current: 3"));
    }

    /// `TestValidateFailedIndexesNotOverlapCompleted`
    #[test]
    fn overlaps() {
        let check = |a: &str, b: &str, expect: Option<i64>| assert_eq!(overlap(a, b, 50), expect, "{a} {b}");
        check("", "", None);
        check("1,3-5", "2,6", None);
        check("1,3-5", "5", Some(5));
        check("0-9", "2", Some(2));
        check("1-2,a,5", "3-4,5", Some(5));
        check("7", "1-3,5-9", Some(7));
    }
}
