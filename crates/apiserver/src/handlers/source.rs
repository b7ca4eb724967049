//! Where a watch gets its events: from the store, or, for custom resources that a webhook converts, from a task that
//! has them converted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use apimachinery::{schema::ResourceRef, status::Status};
use etcd::{Batch, WatchStream};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{custom, server::ApiServer};

/// Batches that are converted ahead of a watcher.
const AHEAD: usize = 16;
/// How often the task of an idle watch says how far the store has come.
const IDLE: Duration = Duration::from_secs(10);

/// What ends a watch.
pub(super) enum Fault {
    Store(etcd::Error),
    Conversion(Box<Status>),
}

pub(super) enum Source {
    Store(WatchStream),
    Converted {
        batches: mpsc::Receiver<Result<Arc<Batch>, Fault>>,
        seen: Arc<AtomicI64>,
        _task: AbortOnDropHandle<()>,
    },
}

impl Source {
    pub(super) fn new(server: &Arc<ApiServer>, resource: &ResourceRef, stream: WatchStream) -> Self {
        if !custom::needs_webhook(resource) {
            return Self::Store(stream);
        }
        let (sender, batches) = mpsc::channel(AHEAD);
        let seen = Arc::new(AtomicI64::new(0));
        let task = tokio::spawn(convert(server.clone(), resource.clone(), stream, sender, seen.clone()));
        Self::Converted { batches, seen, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Arc<Batch>, Fault>>> {
        match self {
            Self::Store(stream) => {
                stream.poll_next_unpin(cx).map(|next| next.map(|batch| batch.map_err(Fault::Store)))
            }
            Self::Converted { batches, .. } => batches.poll_recv(cx),
        }
    }

    /// The next poll yields a batch without looking further.
    pub(super) fn has_more(&self) -> bool {
        match self {
            Self::Store(stream) => stream.has_more(),
            Self::Converted { batches, .. } => !batches.is_empty(),
        }
    }

    /// Every event through this revision has been yielded.
    pub(super) fn progress(&mut self) -> i64 {
        match self {
            Self::Store(stream) => stream.progress(),
            Self::Converted { batches, seen, .. } => {
                // What was sent before it was said is in the queue.
                let seen = seen.load(Ordering::Acquire);
                if batches.is_empty() { seen } else { 0 }
            }
        }
    }
}

async fn convert(
    server: Arc<ApiServer>,
    resource: ResourceRef,
    mut stream: WatchStream,
    sender: mpsc::Sender<Result<Arc<Batch>, Fault>>,
    seen: Arc<AtomicI64>,
) {
    loop {
        let Ok(next) = tokio::time::timeout(IDLE, stream.next()).await else {
            seen.store(stream.progress(), Ordering::Release);
            continue;
        };
        let converted = match next {
            None => return,
            Some(Err(error)) => Err(Fault::Store(error)),
            Some(Ok(batch)) => server
                .events_in_version(&resource, &batch)
                .await
                .map_err(|why| Fault::Conversion(Box::new(why))),
        };
        let over = converted.is_err();
        if sender.send(converted).await.is_err() || over {
            return;
        }
    }
}
