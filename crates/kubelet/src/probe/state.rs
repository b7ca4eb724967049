//! What a series of outcomes means.

use std::time::Duration;

use api::core::v1::Probe;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// It could not be carried out; counts as a failure, in a series of its own.
    Unknown,
}

/// Counts equal outcomes until they reach a threshold.
#[derive(Debug, Clone)]
pub struct Series {
    delay: Duration,
    period: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<Outcome>,
    run: u32,
}

impl Series {
    /// Thresholds of a probe: 1 success or 3 failures, every 10 s, unless it says otherwise.
    pub fn new(probe: &Probe) -> Series {
        let positive = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        Series {
            delay: Duration::from_secs(u64::from(positive(probe.initial_delay_seconds, 0))),
            period: Duration::from_secs(u64::from(positive(probe.period_seconds, 10))),
            success_threshold: positive(probe.success_threshold, 1),
            failure_threshold: positive(probe.failure_threshold, 3),
            last: None,
            run: 0,
        }
    }

    pub fn delay(&self) -> Duration {
        self.delay
    }

    pub fn period(&self) -> Duration {
        self.period
    }

    /// Adds an outcome; answers with the result once the series is long enough.
    pub fn push(&mut self, outcome: Outcome) -> Option<bool> {
        self.run = if self.last == Some(outcome) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(outcome);
        let good = outcome == Outcome::Success;
        let threshold = if good { self.success_threshold } else { self.failure_threshold };
        (self.run >= threshold).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        for (success, failure, outcomes, expect) in [
            (1, 3, "s", "s"),
            (1, 3, "ffs", "--s"),
            (1, 3, "fff", "--f"),
            (1, 3, "ffsff", "--s--"),
            (2, 1, "sfss", "-f-s"),
            (1, 2, "fufu", "----"),
            (1, 2, "uu", "-f"),
        ] {
            let probe = Probe {
                success_threshold: Some(success),
                failure_threshold: Some(failure),
                ..Probe::default()
            };
            let mut series = Series::new(&probe);
            let got: String = outcomes
                .chars()
                .map(|c| match c {
                    's' => Outcome::Success,
                    'f' => Outcome::Failure,
                    _ => Outcome::Unknown,
                })
                .map(|o| match series.push(o) {
                    None => '-',
                    Some(true) => 's',
                    Some(false) => 'f',
                })
                .collect();
            assert_eq!(got, expect, "{success} {failure} {outcomes}");
        }
    }
}
