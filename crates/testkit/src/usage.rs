//! What a process has used, read off `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The processor time of all living threads, to the nanosecond (`schedstat`; the times in `stat` count in
/// hundredths of a second). What ended threads have used is not in it: a server's threads stay.
pub fn processor(pid: u32) -> Result<Duration> {
    let directory = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
        let path = task?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(path) else { continue };
        total += first_number(&text);
    }
    Ok(Duration::from_nanos(total))
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The value below which `share` (0 to 1) of the sorted values lie; zero for none.
pub fn quantile(sorted: &[u32], share: f64) -> u32 {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(0)
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        for (values, share, expect) in
            [(&[][..], 0.5, 0), (&[7], 0.99, 7), (&[1, 2, 3], 0.5, 2), (&[1, 2, 3, 4, 5], 1.0, 5)]
        {
            assert_eq!(quantile(values, share), expect, "{values:?} at {share}");
        }
    }

    #[test]
    fn work_costs_processor_time() {
        let pid = std::process::id();
        let before = processor(pid).unwrap();
        let mut sum = 0u64;
        for number in 0..2_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(number));
        }
        std::thread::yield_now();
        assert!(processor(pid).unwrap() > before, "{sum}");
    }
}
