//! Watches: the store's events as frames, most of them bytes that are there already.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apimachinery::{clock::Clock, fields, labels, schema::Resource, status::Status};
use bytes::Bytes;
use etcd::{Event, EventKind, KeyValue, Watch, WatchStream};
use futures::Stream;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{Call, options::ListOptions, table, transform};
use crate::{
    negotiation::{self, Transform},
    registry::strategy,
    response,
    server::{Body, BoxError},
    storage::{self, Storage, codec},
};

/// About how often a watcher that wants bookmarks gets one while nothing happens.
const BOOKMARK: Duration = Duration::from_secs(60);

pub(super) async fn watch(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let output = negotiation::stream(&call.headers)?;
    let options = ListOptions::parse(call.query, true)?;
    strategy::check_fields(call.resource, &options.fields)?;
    let table = match output.transform {
        Transform::Table(_) => Some(table::Options::parse(call.query)?),
        _ => None,
    };
    let name = options.fields.requires_exact_match("metadata.name").map(str::to_owned).or_else(|| {
        // `/api/v1/watch/namespaces/n/pods/x`
        (!call.info.name.is_empty()).then(|| call.info.name.clone())
    });
    let keys = storage::range(call.resource, call.namespace(), name.as_deref())?;
    let store = call.server.storage.store();
    let from = options.resource_version.unwrap_or(0);
    let with_state = options.send_initial_events.unwrap_or(from == 0);
    let mut view = View {
        storage: call.server.storage.clone(),
        clock: call.server.clock.clone(),
        resource: call.resource,
        labels: options.labels,
        fields: options.fields,
        transform: output.transform,
        table,
    };
    let mut frames = VecDeque::new();
    let start;
    if with_state {
        if from > 0 {
            call.server.storage.wait_for(from).await?;
        }
        let found = store.range(&etcd::Range::new(keys.clone())).map_err(|e| storage::store_error(&e))?;
        start = found.revision;
        for kv in &found.kvs {
            if view.selects(kv) {
                frames.push_back(view.put("ADDED", kv)?);
            }
        }
        if options.send_initial_events == Some(true) && options.allow_bookmarks {
            frames.push_back(view.bookmark(start, true));
        }
    } else if from == 0 {
        start = store.revision();
    } else {
        start = i64::try_from(from)
            .map_err(|_| Status::too_large_resource_version(from, store.revision().unsigned_abs(), 1))?;
    }
    let compacted = store.compact_revision();
    let stream = if start + 1 < compacted {
        frames.push_back(too_old(start, compacted));
        None
    } else {
        Some(store.watch(Watch::new(keys).start_revision(start + 1)))
    };
    let seconds = options.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let lifetime = seconds.map_or_else(|| random_lifetime(call), Duration::from_secs);
    let body = WatchBody {
        view,
        frames,
        stream,
        start,
        bookmark: options.allow_bookmarks.then(|| Box::pin(sleep(BOOKMARK))),
        sent: start,
        deadline: Box::pin(sleep(lifetime)),
        shutdown: Box::pin(call.server.shutdown.clone().cancelled_owned()),
    };
    let mut response = response::bytes(200, "application/json", Bytes::new());
    *response.body_mut() = body.boxed_unsync();
    Ok(response)
}

/// Between once and twice the configured time, so that watchers do not come back all at once.
fn random_lifetime(call: &Call<'_>) -> Duration {
    let mut bytes = [0; 4];
    call.server.entropy.fill(&mut bytes);
    let part = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    call.server.settings.min_watch.mul_f64(1.0 + part)
}

fn too_old(wanted: i64, oldest: i64) -> Bytes {
    error_frame(&Status::expired(format!("too old resource version: {wanted} ({oldest})")))
}

fn error_frame(status: &Status) -> Bytes {
    frame("ERROR", &serde_json::to_value(status).unwrap_or_default())
}

fn frame(event: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n").into()
}

/// What a watcher sees of the store.
struct View {
    storage: Storage,
    clock: Arc<dyn Clock>,
    resource: &'static Resource,
    labels: labels::Selector,
    fields: fields::Selector,
    transform: Transform,
    /// Options of a watch of Tables. The columns are told once.
    table: Option<table::Options>,
}

impl View {
    fn selects(&self, kv: &KeyValue) -> bool {
        self.storage.matches_labels(kv, &self.labels)
            && self.storage.matches_fields(self.resource, kv, &self.fields)
    }

    /// The frame of an event, if the watcher is to see it: an object that comes to match is added, one that
    /// ceases to match is deleted.
    fn event(&mut self, event: &Event) -> Result<Option<Bytes>, Status> {
        let before = event.prev.as_ref().filter(|prev| self.selects(prev));
        if event.kind == EventKind::Delete {
            return before.map(|prev| self.deleted(&event.kv, prev)).transpose();
        }
        match (before, self.selects(&event.kv)) {
            (Some(_), true) => self.put("MODIFIED", &event.kv).map(Some),
            // A version whose predecessor is no longer known.
            (None, true) if event.prev.is_none() && event.kv.version > 1 => {
                self.put("MODIFIED", &event.kv).map(Some)
            }
            (None, true) => self.put("ADDED", &event.kv).map(Some),
            (Some(prev), false) => {
                let mut last =
                    self.storage.frame(self.resource, prev)?.derive("DELETED", Some(event.kv.mod_revision));
                Ok(Some(self.shape("DELETED", &mut last)?))
            }
            (None, false) => Ok(None),
        }
    }

    fn put(&mut self, event: &'static str, kv: &KeyValue) -> Result<Bytes, Status> {
        let mut frame = self.storage.frame(self.resource, kv)?;
        let kept_as = if kv.version == 1 { "ADDED" } else { "MODIFIED" };
        if kept_as != event && self.transform == Transform::None {
            frame = frame.derive(event, None);
        }
        self.shape(event, &mut frame)
    }

    fn deleted(&mut self, tombstone: &KeyValue, last: &KeyValue) -> Result<Bytes, Status> {
        let mut frame = self.storage.deleted_frame(self.resource, tombstone, last)?;
        self.shape("DELETED", &mut frame)
    }

    /// The frame's bytes, or what the client wants to see instead of the object.
    fn shape(&mut self, event: &str, plain: &mut storage::encoding::Frame) -> Result<Bytes, Status> {
        if self.transform == Transform::None {
            return Ok(plain.bytes());
        }
        let object = serde_json::from_slice(&plain.object()).map_err(Status::internal)?;
        Ok(self.transformed(event, object))
    }

    fn transformed(&mut self, event: &str, object: Value) -> Bytes {
        match (self.transform, &mut self.table) {
            (Transform::Table(version), Some(options)) => {
                let list = transform::ListMeta {
                    resource_version: object["metadata"]["resourceVersion"]
                        .as_str()
                        .unwrap_or_default()
                        .into(),
                    ..transform::ListMeta::default()
                };
                let now = self.clock.now();
                let table = table::build(self.resource, version, *options, vec![object], &list, now);
                options.headers = false;
                frame(event, &table)
            }
            (Transform::Metadata(version) | Transform::MetadataList(version), _) => {
                frame(event, &transform::metadata(object, version))
            }
            _ => frame(event, &object),
        }
    }

    /// Says how far the watcher has come; `initial`: that the state at the start is complete (KEP-3157).
    fn bookmark(&mut self, revision: i64, initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        // The rest of the object as Go writes an empty one. The schema always fits a value this small.
        let _ = codec::normalize(self.resource.object, &mut object);
        self.transformed("BOOKMARK", object)
    }
}

struct WatchBody {
    view: View,
    /// Made already.
    frames: VecDeque<Bytes>,
    /// `None`: over, once the frames are sent.
    stream: Option<WatchStream>,
    start: i64,
    bookmark: Option<Pin<Box<Sleep>>>,
    /// The newest version that the client knows of.
    sent: i64,
    deadline: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl WatchBody {
    fn bookmark(&mut self) -> Option<Bytes> {
        let revision = self.stream.as_mut()?.progress().max(self.sent);
        self.sent = revision;
        Some(self.view.bookmark(revision, false))
    }

    fn take(&mut self, batch: &etcd::Batch) {
        for event in &batch.events {
            // A client may name a version that is still to come.
            if event.kv.mod_revision <= self.start {
                continue;
            }
            match self.view.event(event) {
                Ok(Some(frame)) => {
                    self.sent = event.kv.mod_revision;
                    self.frames.push_back(frame);
                }
                Ok(None) => {}
                Err(status) => {
                    self.frames.push_back(error_frame(&status));
                    self.stream = None;
                    return;
                }
            }
        }
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.frames.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
            match Pin::new(stream).poll_next(cx) {
                Poll::Ready(Some(Ok(batch))) => {
                    this.take(&batch);
                    continue;
                }
                Poll::Ready(Some(Err(etcd::Error::Compacted { compact_revision }))) => {
                    this.frames.push_back(too_old(this.sent, compact_revision));
                    this.stream = None;
                    continue;
                }
                Poll::Ready(Some(Err(etcd::Error::Stopped)) | None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    this.frames.push_back(error_frame(&storage::store_error(&error)));
                    this.stream = None;
                    continue;
                }
                Poll::Pending => {}
            }
            if this.shutdown.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if this.deadline.as_mut().poll(cx).is_ready() {
                // The last word tells where to go on from.
                let last = if this.bookmark.is_some() { this.bookmark() } else { None };
                this.frames.extend(last);
                this.stream = None;
                continue;
            }
            let due = this.bookmark.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
            if due {
                let bookmark = this.bookmark();
                this.frames.extend(bookmark);
                if let Some(timer) = &mut this.bookmark {
                    timer.as_mut().reset(Instant::now() + BOOKMARK);
                }
                continue;
            }
            return Poll::Pending;
        }
    }
}
