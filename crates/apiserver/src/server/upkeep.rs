//! What a server does on its own while it runs.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::ApiServer;

/// How far back watches and chunked lists can reach, at least (upstream's `--etcd-compaction-interval`).
const COMPACTION: Duration = Duration::from_secs(300);

/// Forgets, every five minutes, what was superseded more than five minutes ago. Until `shutdown`.
pub(super) async fn compact(server: Arc<ApiServer>, shutdown: CancellationToken) {
    let store = server.storage.store();
    let mut known = store.revision();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(COMPACTION) => {}
        }
        match store.compact(known).await {
            Ok(_) | Err(etcd::Error::Compacted { .. }) => {}
            Err(etcd::Error::Stopped) => return,
            Err(error) => tracing::warn!(%error, "compacting the store"),
        }
        known = store.revision();
    }
}
