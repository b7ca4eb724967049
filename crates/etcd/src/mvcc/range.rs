//! Reading a view, at its newest or at an older revision.

use std::sync::Arc;

use bytes::Bytes;

use super::history::History;
use super::{Load, Older, View};
use crate::error::Error;
use crate::kv::KeyValue;
use crate::txn::{Range, RangeResponse};

/// Refuses revisions that the view cannot answer.
pub(crate) fn check_revision(view: &View, revision: i64) -> Result<(), Error> {
    if revision > view.revision {
        return Err(Error::FutureRevision { revision });
    }
    if revision > 0 && revision < view.compact_revision {
        return Err(Error::Compacted { compact_revision: view.compact_revision });
    }
    Ok(())
}

pub(crate) fn range(view: &View, range: &Range, load: Load<'_>) -> Result<RangeResponse, Error> {
    check_revision(view, range.revision)?;
    let limit = match (range.count_only, range.limit) {
        (true, _) => 0,
        (false, 0) => usize::MAX,
        (false, limit) => limit,
    };
    let mut response = RangeResponse { revision: view.revision, ..RangeResponse::default() };
    if range.revision <= 0 || range.revision == view.revision {
        let (start, end) = (&range.keys.start, range.keys.end());
        response.count = view.keys.count(start, end);
        response.kvs.reserve_exact(response.count.min(limit));
        for (_, kv) in view.keys.range(start, end).take(limit) {
            response.kvs.push(if range.keys_only { without_value(kv) } else { Arc::clone(kv) });
        }
    } else {
        for (key, version) in AtRevision::new(view, range) {
            response.count += 1;
            if response.kvs.len() < limit {
                let kv = match version {
                    Version::Here(kv) => Arc::clone(kv),
                    Version::Logged(revision) => load(revision, key)?,
                };
                response.kvs.push(if range.keys_only { without_value(&kv) } else { kv });
            }
        }
    }
    response.more = !range.count_only && response.count > response.kvs.len();
    Ok(response)
}

fn without_value(kv: &KeyValue) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
        ..KeyValue::default()
    })
}

/// The version of `key` just before `revision`, as far as it is remembered.
pub(crate) fn before(
    view: &View,
    key: &Bytes,
    revision: i64,
    load: Load<'_>,
) -> Result<Option<Arc<KeyValue>>, Error> {
    if let Some(kv) = view.keys.get(key)
        && kv.mod_revision < revision
    {
        return Ok(Some(Arc::clone(kv)));
    }
    match view.history.get(key).and_then(|history| newest(history, revision - 1)) {
        Some(Version::Here(kv)) => Ok(Some(Arc::clone(kv))),
        Some(Version::Logged(revision)) => load(revision, key).map(Some),
        None => Ok(None),
    }
}

enum Version<'a> {
    Here(&'a Arc<KeyValue>),
    Logged(i64),
}

/// The version that was current at `revision`; `None` if the key was not there.
fn newest(history: &History, revision: i64) -> Option<Version<'_>> {
    match history.newest(revision)?.1 {
        Older::Logged(revision) => Some(Version::Logged(*revision)),
        Older::Kept(kv) => Some(Version::Here(kv)),
        Older::Deleted(_) => None,
    }
}

/// Walks keys and history side by side.
struct AtRevision<'a> {
    revision: i64,
    keys: std::iter::Peekable<super::tree::Iter<'a, Arc<KeyValue>>>,
    history: std::iter::Peekable<super::tree::Iter<'a, History>>,
}

impl<'a> AtRevision<'a> {
    fn new(view: &'a View, range: &'a Range) -> Self {
        let (start, end) = (&range.keys.start, range.keys.end());
        AtRevision {
            revision: range.revision,
            keys: view.keys.range(start, end).peekable(),
            history: view.history.range(start, end).peekable(),
        }
    }
}

impl<'a> Iterator for AtRevision<'a> {
    type Item = (&'a Bytes, Version<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (live, older) = match (self.keys.peek(), self.history.peek()) {
                (None, None) => return None,
                (Some(_), None) => (self.keys.next(), None),
                (None, Some(_)) => (None, self.history.next()),
                (Some((live, _)), Some((older, _))) => match live.cmp(older) {
                    std::cmp::Ordering::Less => (self.keys.next(), None),
                    std::cmp::Ordering::Greater => (None, self.history.next()),
                    std::cmp::Ordering::Equal => (self.keys.next(), self.history.next()),
                },
            };
            if let Some((key, kv)) = live
                && kv.mod_revision <= self.revision
            {
                return Some((key, Version::Here(kv)));
            }
            if let Some((key, history)) = older
                && let Some(version) = newest(history, self.revision)
            {
                return Some((key, version));
            }
        }
    }
}
