//! Which events are written, which are counted onto earlier ones, and which are dropped: the rules of
//! client-go's event correlator.

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::Event;
use api::meta::v1::Time;
use jiff::Timestamp;

/// Entries of each memory; past it the ones longest unused go.
const REMEMBERED: usize = 4096;
/// So many different messages for one reason are written one by one; further ones share one event.
const DIFFERENT: usize = 10;
/// Similar events further apart than this are not similar any more.
const SIMILAR_SECONDS: i64 = 600;
/// Tokens of one source about one object, and how many seconds it takes to get one back.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What to write.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) event: Event,
    /// Write it as a change to the event of that name.
    pub(super) again: bool,
}

#[derive(Default)]
pub(super) struct Correlator {
    spam: Memory<Bucket>,
    similar: Memory<Similar>,
    written: Memory<Written>,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

struct Similar {
    messages: BTreeSet<String>,
    at: Timestamp,
}

struct Written {
    name: String,
    count: i32,
    first: Option<Time>,
}

impl Correlator {
    /// Takes an event in; `None` drops it.
    pub(super) fn see(&mut self, event: Event, now: Timestamp) -> Option<Outcome> {
        let message = event.message.clone().unwrap_or_default();
        let about = about(&event);
        let reason = format!("{about}\0{}", event.reason.as_deref().unwrap_or_default());
        let (mut event, key) = self.aggregate(event, message, reason, now);
        let before = self.written.get(&key);
        let again = before.is_some();
        if let Some(before) = before {
            event.metadata.name = Some(before.name.clone());
            event.count = Some(before.count + 1);
            event.first_timestamp = before.first.clone();
        }
        let written = Written {
            name: event.metadata.name.clone().unwrap_or_default(),
            count: event.count.unwrap_or(1),
            first: event.first_timestamp.clone(),
        };
        self.written.put(key, written);
        self.allowed(about, now).then_some(Outcome { event, again })
    }

    fn aggregate(
        &mut self,
        event: Event,
        message: String,
        reason: String,
        now: Timestamp,
    ) -> (Event, String) {
        let own = format!("{reason}\0{message}");
        let similar = self.similar.get_or(&reason, || Similar { messages: BTreeSet::new(), at: now });
        if now.as_second() - similar.at.as_second() > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.at = now;
        similar.messages.insert(message.clone());
        if similar.messages.len() < DIFFERENT {
            return (event, own);
        }
        similar.messages.pop_first();
        let combined = Event { message: Some(format!("(combined from similar events): {message}")), ..event };
        (combined, reason)
    }

    fn allowed(&mut self, about: String, now: Timestamp) -> bool {
        let bucket = self.spam.get_or(&about, || Bucket { tokens: BURST, at: now });
        let passed = (now.as_millisecond() - bucket.at.as_millisecond()).max(0) as f64 / 1000.0;
        bucket.tokens = (bucket.tokens + passed / REFILL_SECONDS).min(BURST);
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

fn about(event: &Event) -> String {
    let object = &event.involved_object;
    let source = event.source.as_ref();
    let parts = [
        source.and_then(|s| s.component.as_deref()),
        source.and_then(|s| s.host.as_deref()),
        object.kind.as_deref(),
        object.namespace.as_deref(),
        object.name.as_deref(),
        object.field_path.as_deref(),
        object.uid.as_deref(),
        object.api_version.as_deref(),
        event.type_.as_deref(),
    ];
    parts.map(Option::unwrap_or_default).join("\0")
}

/// A map that forgets what was longest unused.
struct Memory<V> {
    entries: BTreeMap<String, (u64, V)>,
    order: BTreeMap<u64, String>,
    turn: u64,
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Memory { entries: BTreeMap::new(), order: BTreeMap::new(), turn: 0 }
    }
}

impl<V> Memory<V> {
    fn touch(&mut self, key: &str) {
        self.turn += 1;
        if let Some((turn, _)) = self.entries.get_mut(key) {
            self.order.remove(turn);
            *turn = self.turn;
            self.order.insert(self.turn, key.to_owned());
        }
    }

    fn get(&mut self, key: &str) -> Option<&V> {
        self.touch(key);
        self.entries.get(key).map(|(_, value)| value)
    }

    fn put(&mut self, key: String, value: V) {
        self.turn += 1;
        if let Some((before, _)) = self.entries.insert(key.clone(), (self.turn, value)) {
            self.order.remove(&before);
        }
        self.order.insert(self.turn, key);
        while self.entries.len() > REMEMBERED
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    fn get_or(&mut self, key: &str, make: impl Fn() -> V) -> &mut V {
        if self.entries.contains_key(key) {
            self.touch(key);
        } else {
            self.put(key.to_owned(), make());
        }
        let turn = self.turn;
        &mut self.entries.entry(key.to_owned()).or_insert_with(|| (turn, make())).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn event(name: &str, reason: &str, message: &str) -> Event {
        let mut event =
            Event { reason: Some(reason.into()), message: Some(message.into()), ..Event::default() };
        event.metadata.name = Some(name.into());
        event.count = Some(1);
        event
    }

    #[test]
    fn the_same_again_is_counted() {
        let mut correlator = Correlator::default();
        let first = correlator.see(event("a", "R", "m"), at(0)).unwrap();
        assert_eq!((first.event.count, first.again), (Some(1), false));
        let second = correlator.see(event("b", "R", "m"), at(1)).unwrap();
        assert_eq!((second.event.count, second.again), (Some(2), true));
        assert_eq!(second.event.metadata.name.as_deref(), Some("a"));
    }

    #[test]
    fn similar_ones_are_combined() {
        let mut correlator = Correlator::default();
        for i in 0..9 {
            let one = correlator.see(event(&format!("e{i}"), "R", &format!("m{i}")), at(i)).unwrap();
            assert!(!one.again);
        }
        let tenth = correlator.see(event("x", "R", "m9"), at(9)).unwrap();
        assert_eq!(tenth.event.message.as_deref(), Some("(combined from similar events): m9"));
        let next = correlator.see(event("y", "R", "m10"), at(10)).unwrap();
        assert_eq!((next.again, next.event.count), (true, Some(2)));
        let later = correlator.see(event("z", "R", "m11"), at(2000)).unwrap();
        assert_eq!(later.event.message.as_deref(), Some("m11"));
    }

    #[test]
    fn spam_is_dropped() {
        let mut correlator = Correlator::default();
        let seen =
            (0..40).filter(|i| correlator.see(event("a", "R", &i.to_string()), at(0)).is_some()).count();
        assert_eq!(seen, 25);
        assert!(correlator.see(event("a", "R", "x"), at(299)).is_none());
        assert!(correlator.see(event("a", "R", "x"), at(301)).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        for i in 0..REMEMBERED + 10 {
            memory.put(i.to_string(), i);
            memory.get("0");
        }
        assert_eq!(memory.entries.len(), REMEMBERED);
        assert!(memory.get("0").is_some());
        assert!(memory.get("1").is_none());
    }
}
