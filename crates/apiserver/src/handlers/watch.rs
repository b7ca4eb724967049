//! Watches: the state at the start if it is wanted, then the store's events, as frames.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
    vec,
};

use apimachinery::status::Status;
use bytes::Bytes;
use etcd::{KeyValue, Watch};
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    Call,
    frames::View,
    options::ListOptions,
    source::{Fault, Source},
};
use crate::{
    custom,
    negotiation::{self, Format},
    registry::strategy,
    response,
    server::{Body, BoxError},
    storage,
};

/// About how often a watcher that wants bookmarks gets one while nothing happens.
const BOOKMARK: Duration = Duration::from_secs(60);
/// Frames that are there at the same time go out together up to this many bytes.
const CHUNK: usize = 16 << 10;
/// After so many chunks without a pause a watcher looks whether its time is over.
const UNBROKEN: u32 = 64;
/// A `timeoutSeconds` beyond this is no limit; a timer cannot be set for any time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) async fn watch(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let output = negotiation::stream(&call.headers)?;
    let mut options = ListOptions::parse(call.query, true)?;
    strategy::check_fields(call.resource, &options.fields)?;
    options.select_name(&call.info.name)?;
    let name = options.fields.requires_exact_match("metadata.name").map(str::to_owned);
    let keys = storage::range(call.resource, call.namespace(), name.as_deref())?;
    let view = View::new(call, output, options.labels, options.fields)?;
    let storage = &call.server.storage;
    let store = storage.store();
    let from = options.resource_version.unwrap_or(0);
    let with_state = options.send_initial_events == Some(true);
    let mut out = Out::default();
    let mut initial = Vec::new();
    let mut initial_end = false;
    let mut start = i64::try_from(from).unwrap_or(i64::MAX - 1);
    let mut ended = false;
    if with_state {
        // "Not older than".
        if let Err(status) = storage.wait_for(from).await {
            out.push(view.error(&status));
            ended = true;
        } else {
            let found = store.range(&etcd::Range::new(keys.clone())).map_err(|e| storage::store_error(&e))?;
            start = found.revision;
            initial = call.server.all_in_version(call.resource, found.kvs).await?;
            initial_end = options.allow_bookmarks;
        }
    } else if from == 0 {
        start = store.revision();
    }
    let compacted = store.compact_revision();
    if !ended && start.saturating_add(1) < compacted {
        out.push(view.error(&too_old(start, compacted)));
        ended = true;
    }
    let seconds = options.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let lifetime = seconds.map_or_else(|| random_lifetime(call), Duration::from_secs).min(LONGEST);
    let body = WatchBody {
        view,
        out,
        initial: initial.into_iter(),
        initial_end,
        stream: (!ended).then(|| {
            let stream = store.watch(Watch::new(keys).start_revision(start + 1));
            Source::new(call.server, call.resource, stream)
        }),
        start,
        sent: start,
        idle: Idle::new(lifetime, options.allow_bookmarks, end_of(call)),
        unbroken: 0,
        events: call.server.metrics.watch_events(call.resource),
    };
    let media_type = match output.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let mut response = response::bytes(200, media_type, Bytes::new());
    *response.body_mut() = body.boxed_unsync();
    Ok(response)
}

/// What ends a watch besides its own time: the server's end, and that of a custom resource's definition as it is.
fn end_of(call: &Call<'_>) -> CancellationToken {
    let custom = custom::of(call.resource);
    custom.map_or_else(|| call.server.shutdown.clone(), |custom| custom.definition.current.clone())
}

/// Between once and twice the configured time, so that watchers do not come back all at once.
fn random_lifetime(call: &Call<'_>) -> Duration {
    let mut bytes = [0; 4];
    call.server.entropy.fill(&mut bytes);
    let part = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    call.server.settings.min_watch.mul_f64(1.0 + part)
}

fn too_old(wanted: i64, oldest: i64) -> Status {
    Status::expired(format!("too old resource version: {wanted} ({oldest})"))
}

/// Frames to be sent. One alone is sent as it is, shared with the other watchers; several are put together.
#[derive(Default)]
struct Out {
    one: Bytes,
    more: Vec<u8>,
}

impl Out {
    fn push(&mut self, frame: Bytes) {
        if self.is_empty() {
            self.one = frame;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.more.extend_from_slice(&frame);
    }

    fn is_empty(&self) -> bool {
        self.one.is_empty() && self.more.is_empty()
    }

    fn length(&self) -> usize {
        self.one.len() + self.more.len()
    }

    fn take(&mut self) -> Bytes {
        if self.more.is_empty() {
            std::mem::take(&mut self.one)
        } else {
            std::mem::take(&mut self.more).into()
        }
    }
}

/// What may happen to a watcher besides events.
enum Occasion {
    Shutdown,
    Deadline,
    Bookmark,
}

/// One timer for the deadline and the bookmarks, and the server's end. An event comes a thousand times more often
/// than any of these, so after an event they are only looked at: who waits is registered once.
struct Idle {
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
    bookmarks: bool,
    shutdown: CancellationToken,
    shut_down: Pin<Box<WaitForCancellationFutureOwned>>,
    registered: Option<Waker>,
}

impl Idle {
    fn new(lifetime: Duration, bookmarks: bool, shutdown: CancellationToken) -> Self {
        let deadline = Instant::now() + lifetime;
        Self {
            timer: Box::pin(sleep_until(next(deadline, bookmarks))),
            deadline,
            bookmarks,
            shut_down: Box::pin(shutdown.clone().cancelled_owned()),
            shutdown,
            registered: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Occasion> {
        let registered = self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        let (over, due) = if registered {
            (self.shutdown.is_cancelled(), self.timer.is_elapsed())
        } else {
            self.registered = Some(cx.waker().clone());
            (self.shut_down.as_mut().poll(cx).is_ready(), self.timer.as_mut().poll(cx).is_ready())
        };
        if over {
            return Poll::Ready(Occasion::Shutdown);
        }
        if !due {
            return Poll::Pending;
        }
        self.registered = None;
        if Instant::now() >= self.deadline {
            return Poll::Ready(Occasion::Deadline);
        }
        let next = next(self.deadline, self.bookmarks);
        self.timer.as_mut().reset(next);
        Poll::Ready(Occasion::Bookmark)
    }
}

fn next(deadline: Instant, bookmarks: bool) -> Instant {
    if bookmarks { deadline.min(Instant::now() + BOOKMARK) } else { deadline }
}

struct WatchBody {
    view: View,
    out: Out,
    /// The state at the start, as far as it is not sent yet.
    initial: vec::IntoIter<Arc<KeyValue>>,
    /// The end of the state is to be told.
    initial_end: bool,
    /// `None`: over, once everything before is sent.
    stream: Option<Source>,
    start: i64,
    /// The newest version that the client knows of.
    sent: i64,
    idle: Idle,
    /// Sent since anything but the stream was looked at.
    unbroken: u32,
    /// How many went out, of all watches of the resource.
    events: Counter,
}

impl WatchBody {
    /// Ends the watch with what went wrong.
    fn fail(&mut self, status: &Status) {
        self.out.push(self.view.error(status));
        self.stream = None;
    }

    fn bookmark(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        self.sent = stream.progress().max(self.sent);
        self.out.push(self.view.bookmark(self.sent, false));
    }

    /// Puts the next object of the initial state into `out`, or what tells of its end.
    ///
    /// # Returns
    /// False when that is behind.
    fn start(&mut self) -> bool {
        if let Some(kv) = self.initial.next() {
            if self.view.selects(&kv) {
                match self.view.initial(&kv) {
                    Ok(frame) => {
                        self.events.inc();
                        self.out.push(frame);
                    }
                    Err(status) => {
                        self.initial = Vec::new().into_iter();
                        self.initial_end = false;
                        self.fail(&status);
                    }
                }
            }
            return true;
        }
        if std::mem::take(&mut self.initial_end) {
            self.out.push(self.view.bookmark(self.start, true));
            return true;
        }
        false
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
                    self.events.inc();
                    self.out.push(frame);
                }
                Ok(None) => {}
                Err(status) => return self.fail(&status),
            }
        }
    }

    /// Looks at everything but the stream.
    fn look_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.unbroken = 0;
        match ready!(self.idle.poll(cx)) {
            Occasion::Shutdown => self.stream = None,
            Occasion::Bookmark => self.bookmark(),
            Occasion::Deadline => {
                // The last word tells where to go on from.
                if self.idle.bookmarks {
                    self.bookmark();
                }
                self.stream = None;
            }
        }
        Poll::Ready(())
    }

    /// Takes from the stream what it has at hand.
    ///
    /// # Returns
    /// Pending when nothing is there and `out` is empty.
    fn follow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(stream) = &mut self.stream {
            match stream.poll_next(cx) {
                Poll::Ready(Some(Ok(batch))) => self.take(&batch),
                Poll::Ready(Some(Err(Fault::Conversion(status)))) => self.fail(&status),
                Poll::Ready(Some(Err(Fault::Store(etcd::Error::Compacted { compact_revision })))) => {
                    self.fail(&too_old(self.sent, compact_revision));
                }
                Poll::Ready(Some(Err(Fault::Store(etcd::Error::Stopped))) | None) => self.stream = None,
                Poll::Ready(Some(Err(Fault::Store(error)))) => self.fail(&storage::store_error(&error)),
                Poll::Pending => return Poll::Pending,
            }
            let more = self.stream.as_ref().is_some_and(Source::has_more);
            if !self.out.is_empty() && (!more || self.out.length() >= CHUNK) {
                break;
            }
        }
        Poll::Ready(())
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
        while this.out.length() < CHUNK && this.start() {}
        // A watcher with a backlog ends in time, too.
        if this.out.is_empty() && this.unbroken >= UNBROKEN {
            let _ = this.look_up(cx);
        }
        while this.out.is_empty() {
            if this.follow(cx).is_ready() {
                if this.out.is_empty() && this.stream.is_none() {
                    return Poll::Ready(None);
                }
            } else if this.look_up(cx).is_pending() {
                return Poll::Pending;
            }
        }
        this.unbroken += 1;
        Poll::Ready(Some(Ok(Frame::data(this.out.take()))))
    }
}
