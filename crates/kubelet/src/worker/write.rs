//! Writing a pod's status to the API: the newest one, in the background, until it is accepted.

use std::time::Duration;

use api::core::v1::{Pod, PodStatus};
use client::{Client, Patch};
use tokio::sync::watch;

use super::Desired;
use crate::pod::{spec, status};

/// The first and the longest pause after a failed write.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

pub struct Writer {
    wanted: watch::Sender<(u64, Option<PodStatus>)>,
    /// The newest version that needs no writing any more.
    settled: watch::Receiver<u64>,
}

impl Writer {
    pub fn spawn(client: Client, desired: watch::Receiver<Desired>) -> Writer {
        let (wanted, receiver) = watch::channel((0, None));
        let (sender, settled) = watch::channel(0);
        tokio::spawn(run(client, desired, receiver, sender));
        Writer { wanted, settled }
    }

    /// Asks for a status to be written; a newer one replaces it.
    pub fn write(&self, status: PodStatus) {
        self.wanted.send_if_modified(|(version, wanted)| {
            // The same once more: what others changed in between is set right again.
            *version += 1;
            *wanted = Some(status);
            true
        });
    }

    /// Waits until everything asked for is written, or the pod is not there any more.
    pub async fn flush(&self) {
        let version = self.wanted.borrow().0;
        let _ = self.settled.clone().wait_for(|settled| *settled >= version).await;
    }
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

async fn run(
    client: Client,
    desired: watch::Receiver<Desired>,
    mut wanted: watch::Receiver<(u64, Option<PodStatus>)>,
    settled: watch::Sender<u64>,
) {
    // What the API answered to the last write: newer than the informer's, for a moment.
    let mut answered: Option<Pod> = None;
    let mut pause = PAUSES[0];
    while wanted.changed().await.is_ok() {
        loop {
            let (version, status) = wanted.borrow_and_update().clone();
            let Some(status) = status else { break };
            let known = desired.borrow().pod.clone();
            // A pod from a file is shown by its mirror.
            if spec::is_static(&known) || desired.borrow().removed {
                settled.send_replace(version);
                break;
            }
            let newest = answered.as_ref().filter(|a| revision(a) > revision(&known)).unwrap_or(&known);
            let Some(patch) = status::patch(spec::uid(&known), spec::status(newest), &status) else {
                settled.send_replace(version);
                break;
            };
            let (namespace, name) = (spec::namespace(&known), spec::name(&known));
            match client.patch_status::<Pod>(namespace, name, &Patch::Strategic(patch)).await {
                Ok(pod) => {
                    answered = Some(pod);
                    pause = PAUSES[0];
                    settled.send_replace(version);
                    break;
                }
                // Another pod has taken its name, or it is gone.
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    tracing::debug!(pod = spec::full(&known), "the status is not written: {}", error.chain());
                    settled.send_replace(version);
                    break;
                }
                Err(error) => {
                    tracing::warn!(pod = spec::full(&known), "writing the status: {}", error.chain());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
        }
    }
}
