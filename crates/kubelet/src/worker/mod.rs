//! One task per pod, from its first sight to its last trace. It looks at the pod in the runtime, says what it
//! sees, plans, acts, and sleeps until something changes.
//!
//! A pod is *running* (containers may be started), then *terminating* (they are being stopped), then
//! *terminated*. It never goes back.

mod start;
mod stop;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::core::v1::{Pod, PodStatus};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use crate::context::Context;
use crate::pod::backoff::Backoff;
use crate::pod::observed::Observed;
use crate::pod::status::{self, Reasons, Verdict};
use crate::pod::{plan, spec};
use write::Writer;

/// A sync that failed is repeated after this time.
const RETRY: Duration = Duration::from_secs(2);

/// What is wanted of a pod.
#[derive(Debug, Clone)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// Its source does not have it any more.
    pub removed: bool,
}

impl Desired {
    fn is_ending(&self) -> bool {
        self.removed || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Seconds until SIGKILL.
    fn grace(&self) -> i64 {
        // A pod deleted by force is still given what it asks for, unless the deletion said otherwise.
        spec::grace_seconds(&self.pod)
    }
}

/// What others see of a worker.
#[derive(Clone)]
pub struct Handle {
    pub desired: watch::Sender<Desired>,
    /// Makes the worker look again.
    pub wake: Arc<Notify>,
    /// What was said last.
    pub status: Arc<Mutex<PodStatus>>,
}

impl Handle {
    pub fn status(&self) -> PodStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn pod(&self) -> Arc<Pod> {
        self.desired.borrow().pod.clone()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Terminating,
    Terminated,
}

/// What to do after a step.
enum Step {
    /// At once.
    Again,
    /// Sleep until something happens, at most this long.
    Wait(Duration),
    /// Nothing is left of the pod.
    Gone,
}

pub struct Worker {
    context: Arc<Context>,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    stage: Stage,
    writer: Writer,
    shown: Arc<Mutex<PodStatus>>,
    /// Why containers do not start.
    reasons: Reasons,
    backoff: Backoff,
    verdict: Option<Verdict>,
    /// Where the pod's volumes lie, once they are made.
    volumes: BTreeMap<String, PathBuf>,
    /// The earliest time at which a container may be tried again, or a token has to be renewed.
    next: Option<Timestamp>,
    /// What the events said last about volumes, so as not to repeat it.
    complaint: String,
    cleaned: bool,
}

/// Starts a worker; `done` is called when nothing is left of the pod.
pub fn spawn(context: Arc<Context>, pod: Arc<Pod>, done: impl FnOnce() + Send + 'static) -> Handle {
    let desired = Desired { pod: pod.clone(), removed: false };
    let (sender, receiver) = watch::channel(desired);
    let wake = Arc::new(Notify::new());
    let shown = Arc::new(Mutex::new(spec::status(&pod).clone()));
    let handle = Handle { desired: sender, wake: wake.clone(), status: shown.clone() };
    let worker = Worker {
        writer: Writer::spawn(context.client.clone(), receiver.clone()),
        context,
        desired: receiver,
        wake,
        stage: Stage::Running,
        shown,
        reasons: Reasons::new(),
        backoff: Backoff::for_containers(),
        verdict: None,
        volumes: BTreeMap::new(),
        next: None,
        complaint: String::new(),
        cleaned: false,
    };
    tokio::spawn(async move {
        worker.run().await;
        done();
    });
    handle
}

impl Worker {
    async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if self.stage == Stage::Running && (desired.is_ending() || self.verdict.is_some()) {
                self.stage = Stage::Terminating;
            }
            let step = match self.stage {
                Stage::Running => self.sync(&desired).await,
                Stage::Terminating => self.terminate(&desired).await,
                Stage::Terminated => self.finish(&desired).await,
            };
            let wait = match step {
                Step::Again => continue,
                Step::Gone => break,
                Step::Wait(wait) => wait,
            };
            let wake = self.wake.clone();
            tokio::select! {
                biased;
                changed = self.desired.changed() => if changed.is_err() { break },
                () = wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks at the pod in the runtime.
    async fn observe(&self, pod: &Pod) -> Result<Observed, Step> {
        self.context.runtime.observe(spec::uid(pod)).await.map_err(|error| {
            tracing::warn!(pod = spec::full(pod), "looking at the pod: {error}");
            Step::Wait(RETRY)
        })
    }

    /// Works out the status and shows it.
    fn show(&self, pod: &Pod, observed: &Observed, terminal: bool) -> PodStatus {
        let old = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let probed = self.context.probes.probed(spec::uid(pod));
        let new = status::status(&status::Input {
            pod,
            old: &old,
            observed,
            reasons: &self.reasons,
            probed: &probed,
            host_ips: &self.context.host_ips,
            runtime: "containerd",
            terminal,
            verdict: self.verdict.as_ref(),
            now: self.context.clock.now(),
        });
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = new.clone();
        self.writer.write(new.clone());
        new
    }

    /// One look, one plan, its deeds.
    async fn sync(&mut self, desired: &Desired) -> Step {
        let pod = &desired.pod;
        let uid = spec::uid(pod);
        let observed = match self.observe(pod).await {
            Ok(observed) => observed,
            Err(step) => return step,
        };
        self.context.objects.register(pod, &self.wake);
        let known = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_ready = |id: &str| {
            let all = known.container_statuses.iter().chain(&known.init_container_statuses).flatten();
            all.filter(|s| s.ready).any(|s| s.container_id.as_deref().is_some_and(|i| i.ends_with(id)))
        };
        self.context.probes.sync(pod, &observed, was_ready, &self.wake);
        let status = self.show(pod, &observed, false);
        if spec::is_terminal(status.phase.as_deref()) {
            self.stage = Stage::Terminating;
            return Step::Again;
        }
        let until_deadline = match self.deadline(pod, &status) {
            Ok(left) => left,
            Err(verdict) => {
                self.context.events.pod(pod, false, &verdict.reason, &verdict.message);
                self.verdict = Some(verdict);
                self.stage = Stage::Terminating;
                return Step::Again;
            }
        };

        let plan = plan::plan(pod, &observed, &self.context.probes.healths(uid));
        self.next = None;
        let mut ended = self.desired.clone();
        let acted = tokio::select! {
            biased;
            // Deletion does not wait for an image.
            _ = ended.wait_for(Desired::is_ending) => return Step::Again,
            acted = self.act(pod, &observed, &plan) => acted,
        };
        match acted {
            Ok(true) => return Step::Again,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(pod = spec::full(pod), "{error}");
                return Step::Wait(RETRY);
            }
        }
        self.collect(&observed).await;
        let now = self.context.clock.now();
        let mut wait = self.context.config.sync_frequency;
        let until = |t: Timestamp| Duration::try_from(t.duration_since(now)).unwrap_or_default();
        if let Some(next) = self.next {
            wait = wait.min(until(next));
        }
        if let Some(left) = until_deadline {
            wait = wait.min(left);
        }
        // Not at once, whatever the clock says.
        Step::Wait(wait.max(Duration::from_millis(100)))
    }

    /// How long the pod may still be active, or the verdict.
    fn deadline(&self, pod: &Pod, status: &PodStatus) -> Result<Option<Duration>, Verdict> {
        let Some(seconds) = spec::spec(pod).active_deadline_seconds else { return Ok(None) };
        let Some(started) = status.start_time.as_ref().map(|t| t.0) else { return Ok(None) };
        let end = started.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(started);
        let left = end.duration_since(self.context.clock.now());
        if left > SignedDuration::ZERO {
            return Ok(Some(Duration::try_from(left).unwrap_or_default()));
        }
        Err(Verdict {
            reason: "DeadlineExceeded".into(),
            message: "Pod was active on the node longer than the specified deadline".into(),
        })
    }
}
