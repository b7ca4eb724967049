//! Forgetting what only revisions before the compacted one could read, a few keys at a time.

use std::ops::Bound;

use bytes::Bytes;

use super::history::History;
use super::{Load, Older, View};
use crate::error::Error;

/// Trims the history of up to `max` keys after `from`. Gives back the last key seen, to go on from, or `None`
/// when all are done.
///
/// A version that the compacted revision still sees, but that was made before it, is read from the log and
/// kept in memory, so that no old segment has to stay for it: at most one version per key.
pub(crate) fn step(
    view: &mut View,
    from: Bound<&Bytes>,
    max: usize,
    load: Load<'_>,
) -> Result<Option<Bytes>, Error> {
    let start = match from {
        Bound::Included(key) | Bound::Excluded(key) => key.clone(),
        Bound::Unbounded => Bytes::new(),
    };
    let skip = matches!(from, Bound::Excluded(_));
    let mut last = None;
    let mut changes = Vec::new();
    let mut seen = 0;
    for (key, history) in view.history.range(&start, None).filter(|(key, _)| !(skip && **key == start)) {
        seen += 1;
        last = Some(key.clone());
        if let Some(trimmed) = trim(view, key, history, load)? {
            changes.push((key.clone(), trimmed));
        }
        if seen == max {
            break;
        }
    }
    for (key, trimmed) in changes {
        if trimmed.len() == 0 {
            view.history.remove(&key);
        } else {
            view.history.insert(key, trimmed);
        }
    }
    Ok(last.filter(|_| seen == max))
}

/// What is left of one key's history; `None` when all of it.
fn trim(view: &View, key: &Bytes, history: &History, load: Load<'_>) -> Result<Option<History>, Error> {
    let compacted = view.compact_revision;
    if view.keys.get(key).is_some_and(|kv| kv.mod_revision <= compacted) {
        return Ok(Some(History::default()));
    }
    let Some((at, first)) = history.newest(compacted) else { return Ok(None) };
    let first = match first {
        Older::Deleted(_) => None,
        Older::Logged(revision) if *revision < compacted => Some(Older::Kept(load(*revision, key)?)),
        Older::Logged(_) | Older::Kept(_) if at == 0 => return Ok(None),
        other => Some(other.clone()),
    };
    Ok(Some(first.into_iter().chain(history.iter_from(at + 1).cloned()).collect()))
}
