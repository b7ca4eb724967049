//! Back-off by key, as client-go's `flowcontrol.Backoff`: doubling, and forgotten after twice the longest delay.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// Delays by key. Pure: every call is given the time.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, entries: BTreeMap::new() }
    }

    /// 10 s to 5 min, for containers that crash and images that cannot be pulled.
    pub fn for_containers() -> Backoff {
        Backoff::new(Duration::from_secs(10), Duration::from_secs(300))
    }

    /// Until when to wait, when something happened at `event`: `None` means no waiting.
    pub fn until(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<(Timestamp, Duration)> {
        let entry = self.entries.get(key)?;
        if self.expired(event, entry.updated) {
            return None;
        }
        let until = event.checked_add(entry.delay).ok()?;
        (now < until).then_some((until, entry.delay))
    }

    /// Until when to wait after the last [`Backoff::next`].
    pub fn until_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        if self.expired(now, entry.updated) {
            return None;
        }
        let until = entry.updated.checked_add(entry.delay).ok()?;
        (now < until).then_some(until)
    }

    /// Lengthens the delay: it failed again, at `event`.
    pub fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.expired(event, entry.updated) => (entry.delay * 2).min(self.longest),
            _ => self.first,
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }

    fn expired(&self, event: Timestamp, updated: Timestamp) -> bool {
        event.duration_since(updated) > jiff::SignedDuration::try_from(self.longest * 2).unwrap_or_default()
    }
}

/// Prints a whole number of seconds as Go does: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(d: Duration) -> String {
    let seconds = d.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn it_doubles_up_to_a_limit_and_forgets() {
        let mut b = Backoff::for_containers();
        let mut now = 1_000_000;
        assert_eq!(b.until("k", at(now), at(now)), None, "the first restart is at once");
        for expect in [10, 20, 40, 80, 160, 300, 300] {
            b.next("k", at(now), at(now));
            let (until, delay) = b.until("k", at(now), at(now)).expect("waits");
            assert_eq!((until, delay.as_secs()), (at(now + expect), expect as u64));
            assert_eq!(b.until("k", at(now), at(now + expect)), None);
            now += expect;
        }
        now += 601;
        assert_eq!(b.until("k", at(now), at(now)), None, "it ran for ten minutes");
        b.next("k", at(now), at(now));
        assert_eq!(b.until("k", at(now), at(now)).map(|(_, d)| d.as_secs()), Some(10));
        assert_eq!(b.until("other", at(now), at(now)), None);
    }

    #[test]
    fn durations_print_as_in_go() {
        for (seconds, expect) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3661, "1h1m1s")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), expect);
        }
    }
}
