//! How entries and key-values are written: tags, LEB128 numbers, length-prefixed bytes.
//!
//! Reading takes whatever bytes come: it gives `None` where they make no sense, and never panics.

use std::sync::Arc;

use bytes::Bytes;

use crate::kv::KeyValue;
use crate::mvcc::{Effect, Entry};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const GRANT: u8 = 3;
const REVOKE: u8 = 4;
const COMPACT: u8 = 5;

pub(crate) fn put_number(into: &mut Vec<u8>, number: i64) {
    let mut rest = number.cast_unsigned();
    while rest >= 0x80 {
        into.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

pub(crate) fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_number(into, bytes.len() as i64);
    into.extend_from_slice(bytes);
}

pub(crate) fn put_kv(into: &mut Vec<u8>, kv: &KeyValue) {
    put_bytes(into, &kv.key);
    put_bytes(into, &kv.value);
    for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
        put_number(into, number);
    }
}

pub(crate) fn put_entry(into: &mut Vec<u8>, entry: &Entry) {
    put_number(into, entry.revision);
    put_number(into, entry.effects.len() as i64);
    for effect in &entry.effects {
        match effect {
            Effect::Put(kv) => {
                into.push(PUT);
                put_kv(into, kv);
            }
            Effect::Delete(key) => {
                into.push(DELETE);
                put_bytes(into, key);
            }
            Effect::Grant { id, ttl, chosen } => {
                into.extend([GRANT, u8::from(*chosen)]);
                put_number(into, *id);
                put_number(into, *ttl);
            }
            Effect::Revoke { id } => {
                into.push(REVOKE);
                put_number(into, *id);
            }
            Effect::Compact { revision } => {
                into.push(COMPACT);
                put_number(into, *revision);
            }
        }
    }
}

/// Takes values off the front of some bytes.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<i64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number.cast_signed());
            }
        }
        None
    }

    /// A count of things that take at least one byte each, so that a wrong one reserves no memory.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len())
    }

    /// A copy, so that it keeps nothing else alive.
    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let len = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(bytes))
    }

    pub(crate) fn kv(&mut self) -> Option<Arc<KeyValue>> {
        Some(Arc::new(KeyValue {
            key: self.bytes()?,
            value: self.bytes()?,
            create_revision: self.number()?,
            mod_revision: self.number()?,
            version: self.number()?,
            lease: self.number()?,
            ..KeyValue::default()
        }))
    }

    pub(crate) fn entry(&mut self) -> Option<Entry> {
        let revision = self.number()?;
        let count = self.count()?;
        let mut effects = Vec::with_capacity(count);
        for _ in 0..count {
            effects.push(match self.byte()? {
                PUT => Effect::Put(self.kv()?),
                DELETE => Effect::Delete(self.bytes()?),
                GRANT => {
                    let chosen = self.byte()? != 0;
                    Effect::Grant { id: self.number()?, ttl: self.number()?, chosen }
                }
                REVOKE => Effect::Revoke { id: self.number()? },
                COMPACT => Effect::Compact { revision: self.number()? },
                _ => return None,
            });
        }
        Some(Entry { revision, effects })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_back() {
        let kv = |key: &'static str, value: &'static str, n: i64| {
            let (key, value) = (key.into(), value.into());
            Arc::new(KeyValue {
                key,
                value,
                create_revision: n,
                mod_revision: i64::MAX,
                version: 1,
                lease: -n,
                ..KeyValue::default()
            })
        };
        let entry = Entry {
            revision: 1 << 40,
            effects: vec![
                Effect::Put(kv("a", "", 0)),
                Effect::Put(kv("", "value", 300)),
                Effect::Delete("gone".into()),
                Effect::Grant { id: -5, ttl: 10, chosen: true },
                Effect::Revoke { id: i64::MIN },
                Effect::Compact { revision: 77 },
            ],
        };
        let mut bytes = Vec::new();
        put_entry(&mut bytes, &entry);
        let mut reader = Reader(&bytes);
        assert_eq!(reader.entry(), Some(entry));
        assert!(reader.is_empty());
        for len in 0..bytes.len() {
            assert_eq!(Reader(&bytes[..len]).entry(), None, "cut to {len}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Reader(&bytes).entry();
            let _ = Reader(&bytes).kv();
        }
    }
}
