//! A connection and all its HTTP/2 streams in one task.
//!
//! With a task for each stream an event that a hundred watches of a connection wait for wakes a hundred tasks,
//! on any thread, and each wakes the connection again. Here it wakes one task, once; that takes a turn: every
//! stream with something to do, then the connection, and then the bytes go out together. What a stream computes
//! keeps its neighbours waiting, so long work is to be spawned.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::{FutureExt, Stream, stream::FuturesUnordered, task::AtomicWaker};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{BoxError, wire::Wire};

/// After so many rounds in one turn the bytes go out and others get the thread.
const ROUNDS: usize = 8;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// hyper's executor: keeps the streams that hyper begins until the connection's task takes them.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<Work>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, future: F) {
        // As in a task of its own, a panic ends the request and not its neighbours.
        let caught = AssertUnwindSafe(future).catch_unwind().map(|ended| {
            if ended.is_err() {
                tracing::error!("a request panicked");
            }
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(caught));
    }
}

impl Begun {
    fn take(&self) -> Vec<Work> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says that a part has something to do. While the task is taking its turn it looks by itself, so nobody wakes
/// it.
struct Bell {
    rung: AtomicBool,
    task: Arc<Task>,
}

#[derive(Default)]
struct Task {
    in_turn: AtomicBool,
    waker: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, SeqCst);
        if !self.task.in_turn.load(SeqCst) {
            self.task.waker.wake();
        }
    }
}

impl Bell {
    fn new(task: &Arc<Task>) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(true), task: task.clone() })
    }

    fn answer(&self) -> bool {
        self.rung.swap(false, SeqCst)
    }

    fn rings(&self) -> bool {
        self.rung.load(SeqCst)
    }
}

/// The task of a connection. `C` is hyper's connection over the [`Wire`], with the [`Begun`] as its executor.
pub(super) struct Turns<C, S> {
    connection: Pin<Box<C>>,
    wire: Wire<S>,
    begun: Begun,
    streams: FuturesUnordered<Work>,
    task: Arc<Task>,
    connection_bell: Arc<Bell>,
    streams_bell: Arc<Bell>,
    /// The connection has ended so; its last bytes are on their way.
    ended: Option<Result<(), BoxError>>,
}

impl<C, S> Turns<C, S>
where
    C: Future<Output = Result<(), BoxError>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(connection: C, wire: Wire<S>, begun: Begun) -> Self {
        let task = Arc::<Task>::default();
        Self {
            connection: Box::pin(connection),
            wire,
            begun,
            streams: FuturesUnordered::new(),
            connection_bell: Bell::new(&task),
            streams_bell: Bell::new(&task),
            task,
            ended: None,
        }
    }

    /// Hands the connection out, to be told something; it takes its turn afterwards.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection_bell.rung.store(true, SeqCst);
        self.connection.as_mut()
    }

    fn turn(&mut self, connection_waker: &Waker) {
        let streams_waker = Waker::from(self.streams_bell.clone());
        for _ in 0..ROUNDS {
            if self.streams_bell.answer() {
                let cx = &mut Context::from_waker(&streams_waker);
                while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(cx) {}
            }
            if self.connection_bell.answer() {
                let cx = &mut Context::from_waker(connection_waker);
                if let Poll::Ready(ended) = self.connection.as_mut().poll(cx) {
                    self.ended = Some(ended);
                    return;
                }
                for stream in self.begun.take() {
                    self.streams.push(stream);
                    self.streams_bell.rung.store(true, SeqCst);
                }
            }
            if !self.streams_bell.rings() && !self.connection_bell.rings() {
                return;
            }
        }
    }
}

impl<C, S> Future for Turns<C, S>
where
    C: Future<Output = Result<(), BoxError>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.task.waker.register(cx.waker());
        this.task.in_turn.store(true, SeqCst);
        let waker = Waker::from(this.connection_bell.clone());
        if this.ended.is_none() {
            this.turn(&waker);
            if this.ended.is_some() {
                // An upgraded connection goes on without us.
                this.wire.stop_gathering();
                this.streams.clear();
            }
        }
        let sent = this.wire.poll_send(&mut Context::from_waker(&waker));
        this.task.in_turn.store(false, SeqCst);
        if let Poll::Ready(Err(error)) = sent {
            return Poll::Ready(Err(error.into()));
        }
        // After a fault nobody waits for a peer that may be gone.
        if let Some(ended) = this.ended.take_if(|ended| ended.is_err() || sent.is_ready()) {
            return Poll::Ready(ended);
        }
        // Rung too late for this turn, or in more rounds than one turn has.
        if this.streams_bell.rings() || this.connection_bell.rings() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
