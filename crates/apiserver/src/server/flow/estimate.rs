//! How many seats a request takes: one, but lists and the beginnings of watches by the bytes that they go through, as
//! upstream's `list_work_estimator.go` does it for what comes from its cache.
//!
//! Not here: seats for the watchers of a write. An event is encoded once for all of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::request::{Query, RequestInfo};

/// Bytes that a seat stands for.
const SEAT: usize = 100_000;
/// More is never in memory at once for one list: answers are streamed.
const MOST: usize = 1_000_000;
/// Objects that are measured to know the size of all.
const SAMPLE: usize = 32;
/// Counts may be as old as so many revisions.
const AGE: i64 = 1024;

#[derive(Clone, Copy)]
struct Size {
    revision: i64,
    count: usize,
    /// Of one object, in bytes.
    average: usize,
}

/// What is known of the sizes of resources.
#[derive(Default)]
pub struct Sizes(Mutex<BTreeMap<(String, String), Size>>);

/// The seats of a list of `count` objects.
fn seats(count: usize, average: usize, limit: usize) -> u32 {
    let read = if limit > 0 { count.min(limit) } else { count };
    let bytes = read.saturating_mul(average).min(MOST);
    u32::try_from(bytes.div_ceil(SEAT)).unwrap_or(1).max(1)
}

impl Sizes {
    /// At least 1; a level may give less.
    pub fn estimate(&self, store: &etcd::Store, info: &RequestInfo, query: &Query) -> u32 {
        let begins_with_all = || {
            query.flag("sendInitialEvents") || matches!(query.get("resourceVersion"), None | Some("" | "0"))
        };
        match info.verb.as_str() {
            "list" => {}
            "watch" if begins_with_all() => {}
            _ => return 1,
        }
        if !info.name.is_empty() || !info.is_resource_request {
            return 1;
        }
        let Some(size) = self.size(store, &info.api_group, &info.api_version, &info.resource) else {
            return 1;
        };
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(0);
        seats(size.count, size.average, limit)
    }

    fn size(&self, store: &etcd::Store, group: &str, version: &str, plural: &str) -> Option<Size> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (group.to_owned(), plural.to_owned());
        let revision = store.revision();
        if let Some(size) = known().get(&key)
            && revision - size.revision < AGE
        {
            return Some(*size);
        }
        let resource = api::resource(group, version, plural)?;
        let range =
            etcd::Range { limit: SAMPLE, ..etcd::Range::prefix(crate::storage::prefix(resource, "").ok()?) };
        let found = store.range(&range).ok()?;
        let bytes: usize = found.kvs.iter().map(|kv| kv.value.len()).sum();
        let size = Size { revision, count: found.count, average: bytes / found.kvs.len().max(1) };
        known().insert(key, size);
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seats() {
        for (count, average, limit, expect) in [
            (0, 0, 0, 1),
            (10, 3_000, 0, 1),
            (100, 3_000, 0, 3),
            (5_000, 3_000, 0, 10),
            (5_000, 3_000, 100, 3),
        ] {
            assert_eq!(super::seats(count, average, limit), expect, "{count} {average} {limit}");
        }
    }
}
