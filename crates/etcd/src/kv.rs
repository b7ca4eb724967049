//! What the store holds: key-values with their revisions, and ranges of keys.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// One version of one key, as etcd's `mvccpb.KeyValue`. Shared by the map, the watchers and the readers.
///
/// A deletion is told as a `KeyValue` with only `key` and `mod_revision` set, as in etcd.
#[derive(Debug, Default)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of the put that created the key, or recreated it after a deletion.
    pub create_revision: i64,
    /// Revision of the put that made this version.
    pub mod_revision: i64,
    /// 1 for the put that created the key, one more with each put.
    pub version: i64,
    /// The lease that the key hangs on; 0 is none.
    pub lease: i64,
    /// What a reader worked out from the bytes; not stored.
    pub derived: Derived,
}

impl KeyValue {
    pub(crate) fn tombstone(key: Bytes, revision: i64) -> Arc<KeyValue> {
        Arc::new(KeyValue { key, mod_revision: revision, ..KeyValue::default() })
    }

    /// Roughly what this version takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.key.len() + self.value.len() + size_of::<KeyValue>() + 16
    }
}

/// Two versions are equal when everything stored is; `derived` does not count.
impl PartialEq for KeyValue {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && self.value == other.value
            && self.create_revision == other.create_revision
            && self.mod_revision == other.mod_revision
            && self.version == other.version
            && self.lease == other.lease
    }
}

impl Eq for KeyValue {}

/// A once-cell where a reader keeps what it works out from the bytes, so that it dies with the version.
#[derive(Default)]
pub struct Derived(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Derived {
    /// The kept value, made by `make` on first use. When the cell already holds something of another type,
    /// a fresh value that is not kept: so use one type per store.
    pub fn get_or_init<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut make = Some(make);
        let cell = self.0.get_or_init(|| match make.take() {
            Some(make) => Arc::new(make()),
            None => Arc::new(()),
        });
        match (Arc::clone(cell).downcast::<T>(), make) {
            (Ok(kept), _) => kept,
            (Err(_), Some(make)) => Arc::new(make()),
            (Err(_), None) => unreachable!("the cell was just filled with a T"),
        }
    }

    /// The kept value, if there is one of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.get().and_then(|cell| Arc::clone(cell).downcast::<T>().ok())
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Derived(kept)" } else { "Derived(empty)" })
    }
}

/// The keys from `start` (inclusive) to `end` (exclusive; `None` is no bound).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Exactly one key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let mut end = Vec::with_capacity(start.len() + 1);
        end.extend_from_slice(&start);
        end.push(0);
        KeyRange { start, end: Some(end.into()) }
    }

    /// All keys that begin with `prefix`; the empty prefix is all keys.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        KeyRange { start, end }
    }

    /// `start <= key < end`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }

    /// From `start` to the last key.
    pub fn from(start: impl Into<Bytes>) -> Self {
        KeyRange { start: start.into(), end: None }
    }

    pub fn all() -> Self {
        Self::from(Bytes::new())
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// The range is one key, made by [`KeyRange::key`] or equal to it.
    pub fn is_key(&self) -> bool {
        self.end.as_ref().is_some_and(|end| {
            end.len() == self.start.len() + 1 && end.ends_with(&[0]) && end.starts_with(&self.start)
        })
    }

    pub(crate) fn is_prefix(&self) -> bool {
        self.end == prefix_end(&self.start)
    }

    pub(crate) fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }
}

/// The first key after all keys with this prefix; `None` when there is none.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |range: KeyRange, inside: &[&[u8]], outside: &[&[u8]]| {
            for key in inside {
                assert!(range.contains(key), "{range:?} {key:?}");
            }
            for key in outside {
                assert!(!range.contains(key), "{range:?} {key:?}");
            }
        };
        check(KeyRange::key("a"), &[b"a"], &[b"", b"a\0", b"b"]);
        check(KeyRange::prefix("a/"), &[b"a/", b"a/b", b"a/\xff\xff"], &[b"a", b"a0", b"b"]);
        check(KeyRange::prefix(&b"a\xff"[..]), &[b"a\xff", b"a\xff\xff"], &[b"a", b"b"]);
        check(KeyRange::prefix(&b"\xff"[..]), &[b"\xff", b"\xff\xff"], &[b"a"]);
        check(KeyRange::all(), &[b"", b"\xff"], &[]);
        check(KeyRange::new("a", "c"), &[b"a", b"b\xff"], &[b"c"]);
        assert!(KeyRange::key("a").is_key() && !KeyRange::prefix("a").is_key());
        assert!(KeyRange::prefix("a").is_prefix() && !KeyRange::key("a").is_prefix());
    }

    #[test]
    fn derived_keeps_one_type() {
        let derived = Derived::default();
        assert_eq!(*derived.get_or_init(|| 1u32), 1);
        assert_eq!(*derived.get_or_init(|| 2u32), 1);
        assert_eq!(*derived.get_or_init(|| "other"), "other");
        assert_eq!(derived.get::<u32>().as_deref(), Some(&1));
        assert_eq!(derived.get::<String>(), None);
    }
}
