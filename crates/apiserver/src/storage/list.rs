//! Lists: which objects, at which revision, in which pieces.

use std::{sync::Arc, time::Duration};

use apimachinery::{schema::Resource, status::Status};
use bytes::Bytes;
use etcd::{KeyRange, KeyValue, Range};
use tokio::time::timeout;

use super::{Storage, continue_token, store_error};
use crate::handlers::options::{ListOptions, Match};

/// How long a read waits for a revision that is still to come.
const WAIT: Duration = Duration::from_secs(3);

/// What a list found.
#[derive(Debug)]
pub struct Listing {
    pub items: Vec<Arc<KeyValue>>,
    /// The list's resourceVersion.
    pub revision: i64,
    /// Empty when this is the end.
    pub continue_token: String,
    /// How many more there are, where that is known.
    pub remaining: Option<usize>,
}

const EXPIRED: &str = "The resourceVersion for the provided list is too old.";
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You \
     can start a new list without the continue parameter, or use the continue token in this response to retrieve \
     the remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
     that were created, modified, or deleted between the time the first chunk was returned and now may show up in \
     the list.";

impl Storage {
    /// Lists the objects of a resource, of one namespace if one is given, only the one of `name` if given.
    ///
    /// # Errors
    /// 410 for a revision that is compacted, 504 for one that does not come, 400 for a bad token.
    pub async fn list(
        &self,
        resource: &Resource,
        namespace: &str,
        name: Option<&str>,
        options: &ListOptions,
    ) -> Result<Listing, Status> {
        let prefix = super::prefix(resource, namespace)?;
        let mut keys = super::range(resource, namespace, name)?;
        let wanted = options.resource_version.unwrap_or(0);
        let mut revision = 0;
        let paging = !options.continue_token.is_empty();
        let mut start = String::new();
        if paging {
            let token = continue_token::decode(&options.continue_token)?;
            let first = [&prefix, token.start.as_bytes()].concat();
            keys = KeyRange { start: Bytes::from(first), end: keys.end };
            start = token.start;
            revision = token.revision.max(0);
        } else if wanted > 0 {
            let wanted = self.wait_for(wanted).await?;
            // A first page at a given version is that version exactly, as it always was.
            let exact = options.resource_version_match == Some(Match::Exact)
                || (options.limit > 0 && options.resource_version_match.is_none());
            if exact {
                revision = wanted;
            }
        }
        let selects = !(options.labels.is_everything() && options.fields.is_empty());
        // Who takes any version gets all of it (upstream's `computeListLimit`).
        let limit = if options.resource_version == Some(0) { 0 } else { options.limit };
        // Without a selector the store cuts; with one the cut comes after selecting.
        let request = Range::new(keys).revision(revision).limit(if selects { 0 } else { limit });
        let found = self.store.range(&request).map_err(|error| match error {
            etcd::Error::Compacted { .. } if paging => {
                let mut status = Status::expired(INCONSISTENT);
                status.metadata.continue_token = continue_token::encode(&start, -1);
                status
            }
            etcd::Error::Compacted { .. } => Status::expired(EXPIRED),
            error => store_error(&error),
        })?;
        let at = if revision > 0 { revision } else { found.revision };
        let mut listing =
            Listing { items: found.kvs, revision: at, continue_token: String::new(), remaining: None };
        let more = if selects {
            listing.items.retain(|kv| {
                self.matches_labels(kv, &options.labels) && self.matches_fields(resource, kv, &options.fields)
            });
            let more = limit > 0 && listing.items.len() > limit;
            if more {
                listing.items.truncate(limit);
            }
            more
        } else {
            if found.more {
                listing.remaining = Some(found.count.saturating_sub(listing.items.len()));
            }
            found.more
        };
        if more && let Some(last) = listing.items.last() {
            let last =
                std::str::from_utf8(last.key.get(prefix.len()..).unwrap_or_default()).unwrap_or_default();
            listing.continue_token = continue_token::encode_after(last, at);
        }
        Ok(listing)
    }

    /// Waits until the store has reached a version that a client names.
    ///
    /// # Errors
    /// 504 with the cause `ResourceVersionTooLarge`, as upstream.
    pub async fn wait_for(&self, version: u64) -> Result<i64, Status> {
        let too_large =
            || Status::too_large_resource_version(version, self.store.revision().unsigned_abs(), 1);
        let wanted = i64::try_from(version).map_err(|_| too_large())?;
        if wanted > self.store.revision() {
            match timeout(WAIT, self.store.wait_for(wanted)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(store_error(&error)),
                Err(_) => return Err(too_large()),
            }
        }
        Ok(wanted)
    }
}
