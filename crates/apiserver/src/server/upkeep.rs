//! What a server does on its own while it runs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::ApiServer;

/// Forgets, every `--etcd-compaction-interval`, what was superseded longer ago than that. Until `shutdown`.
pub(super) async fn compact(server: Arc<ApiServer>, shutdown: CancellationToken) {
    let interval = server.settings.compaction;
    if interval.is_zero() {
        return;
    }
    let store = server.storage.store();
    let mut known = store.revision();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match store.compact(known).await {
            Ok(_) | Err(etcd::Error::Compacted { .. }) => {}
            Err(etcd::Error::Stopped) => return,
            Err(error) => tracing::warn!(%error, "compacting the store"),
        }
        known = store.revision();
    }
}
