//! Requests on their way to the writer. What comes in while it syncs forms its next batch.

use std::collections::VecDeque;
use std::sync::{Condvar, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::error::Error;
use crate::mvcc::sequence::{Reply, Request};

pub(crate) struct Proposal {
    pub request: Request,
    pub reply: oneshot::Sender<Result<Reply, Error>>,
}

pub(crate) struct Queue {
    state: std::sync::Mutex<State>,
    /// For a writer that blocks, and for one that is a task.
    arrived: Condvar,
    notify: Notify,
    max: usize,
}

#[derive(Default)]
struct State {
    proposals: VecDeque<Proposal>,
    closed: Option<Error>,
    /// The writer waits.
    waiting: bool,
    stopping: bool,
}

impl Queue {
    pub(crate) fn new(max: usize) -> Self {
        Queue { state: Default::default(), arrived: Condvar::new(), notify: Notify::new(), max }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn propose(&self, request: Request) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            if let Some(error) = &state.closed {
                return Err(error.clone());
            }
            if state.proposals.len() >= self.max {
                return Err(Error::TooManyRequests);
            }
            state.proposals.push_back(Proposal { request, reply });
            if std::mem::take(&mut state.waiting) {
                self.arrived.notify_one();
                self.notify.notify_one();
            }
        }
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Moves up to `max` proposals to `into`, or fewer when they have more than `max_bytes`.
    pub(crate) fn take(&self, max: usize, max_bytes: usize, into: &mut Vec<Proposal>) {
        let mut state = self.lock();
        let mut bytes = 0;
        while bytes <= max_bytes
            && into.len() < max
            && let Some(proposal) = state.proposals.pop_front()
        {
            bytes += proposal.request.size();
            into.push(proposal);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().proposals.is_empty()
    }

    /// Blocks until something is there, or for `timeout`. False when the writer is to stop.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut state = self.lock();
        if state.proposals.is_empty() && !state.stopping && timeout != Some(Duration::ZERO) {
            state.waiting = true;
            state = match timeout {
                Some(timeout) => {
                    self.arrived.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.waiting = false;
        }
        !state.stopping
    }

    /// As [`Queue::wait`], for a writer that is a task.
    pub(crate) async fn arrived(&self) -> bool {
        loop {
            {
                let mut state = self.lock();
                if state.stopping {
                    return false;
                }
                if !state.proposals.is_empty() {
                    return true;
                }
                state.waiting = true;
            }
            self.notify.notified().await;
        }
    }

    /// Lets the writer finish what is queued and end.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        self.arrived.notify_one();
        self.notify.notify_one();
    }

    /// Refuses everything that comes from now on.
    pub(crate) fn refuse(&self, error: Error) {
        self.lock().closed.get_or_insert(error);
    }

    /// Refuses everything from now on, also what is queued.
    pub(crate) fn close(&self, error: Error) {
        self.refuse(error.clone());
        let refused = std::mem::take(&mut self.lock().proposals);
        for proposal in refused {
            // The asker may have gone.
            let _ = proposal.reply.send(Err(error.clone()));
        }
    }
}
