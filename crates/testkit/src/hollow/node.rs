//! One node: its object, its Lease, and the pods that are bound to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use api::coordination::v1::Lease;
use api::core::v1::{Node, Pod};
use api::meta::v1::MicroTime;
use apimachinery::clock::{Clock, Entropy};
use client::{Client, Event, Informer, Key, ListParams, Patch, key_of};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::life::{self, Step};

const LEASES: &str = "kube-node-lease";
/// How often the kubelet renews its Lease, and how often it tells a status in which nothing has changed.
const RENEW: Duration = Duration::from_secs(10);
const REPORT: u32 = 30;
const AGAIN: Duration = Duration::from_secs(1);

/// A node that is kept Ready, and runs what is bound to it.
#[derive(Clone)]
pub struct Hollow {
    /// With the rights of the node.
    pub client: Client,
    /// Of the node.
    pub name: String,
    /// The third number of its pods' addresses, and the last of its own.
    pub number: u8,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// What has been done about a pod.
#[derive(Default)]
struct Known {
    /// The last step that was taken to its end.
    done: BTreeMap<String, Step>,
    busy: BTreeSet<String>,
    address: u8,
}

/// A step that has ended: whose, which, and whether it is done.
type Ended = (Key, String, Step, bool);

impl Hollow {
    /// Runs until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let bound = ListParams::fields(format!("spec.nodeName={}", self.name));
        let informer = Informer::<Pod>::new(self.client.clone(), "", bound, self.entropy.clone());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.beat() => {}
            () = self.pods(&informer) => {}
            () = informer.run(shutdown.clone()) => {}
        }
    }

    /// Registers the node and keeps it alive.
    async fn beat(&self) {
        let mut turn = 0;
        loop {
            if let Err(error) = self.alive(turn).await {
                tracing::warn!(node = self.name, "not told that it is alive: {error:#}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            turn += 1;
            tokio::time::sleep(RENEW).await;
        }
    }

    async fn alive(&self, turn: u32) -> Result<()> {
        if turn == 0 {
            let node: Node = serde_json::from_value(node(&self.name, self.number, self.clock.now()))?;
            match self.client.create(&node).await {
                Err(error) if !error.is_already_exists() => return Err(error.into()),
                _ => {}
            }
        } else if turn.is_multiple_of(REPORT) {
            let mut whole = node(&self.name, self.number, self.clock.now());
            let patch = json!({"status": {"conditions": whole["status"]["conditions"].take()}});
            self.client.patch_status::<Node>("", &self.name, &Patch::Strategic(patch)).await?;
        }
        let now = MicroTime(self.clock.now());
        match self.client.get::<Lease>(LEASES, &self.name).await {
            Ok(mut lease) => {
                lease.spec.get_or_insert_default().renew_time = Some(now);
                self.client.update(&lease).await?;
            }
            Err(error) if error.is_not_found() => {
                let owner = self.client.get::<Node>("", &self.name).await?;
                let lease = json!({
                    "metadata": {"name": self.name, "namespace": LEASES, "ownerReferences": [{
                        "apiVersion": "v1", "kind": "Node", "name": self.name, "uid": owner.metadata.uid,
                    }]},
                    "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now},
                });
                self.client.create(&serde_json::from_value::<Lease>(lease)?).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes pods through their steps as they change.
    async fn pods(&self, informer: &Informer<Pod>) {
        let (changed, mut changes) = mpsc::unbounded_channel();
        let (ended, mut ends) = mpsc::unbounded_channel();
        informer.add_handler(move |event| {
            let gone = matches!(event, Event::Deleted(_));
            let _ =
                changed.send((key_of(event.object().as_ref()), event.object().metadata.uid.clone(), gone));
        });
        let mut known = Known::default();
        loop {
            let key: Key = tokio::select! {
                biased;
                Some((key, uid, step, done)) = ends.recv() => {
                    known.end(uid, step, done);
                    key
                }
                Some((key, uid, gone)) = changes.recv() => {
                    if gone {
                        known.done.remove(&uid.unwrap_or_default());
                    }
                    key
                }
                else => return,
            };
            if let Some(pod) = informer.store().get_key(&key)
                && let Some((step, address)) = known.begin(&pod)
            {
                let (hollow, ended) = (self.clone(), ended.clone());
                tokio::spawn(async move {
                    let _ = ended.send(hollow.take(key, pod, step, address).await);
                });
            }
        }
    }

    async fn take(&self, key: Key, pod: Arc<Pod>, step: Step, address: u8) -> Ended {
        tokio::time::sleep(life::takes(step, &pod)).await;
        let taken = self.act(&key, &pod, step, address).await;
        if let Err(error) = &taken {
            tracing::warn!(node = self.name, pod = %key, ?step, "step not taken: {error:#}");
            tokio::time::sleep(AGAIN).await;
        }
        (key, pod.metadata.uid.clone().unwrap_or_default(), step, taken.is_ok())
    }

    /// A pod that is gone, or another of the same name, needs nothing more.
    async fn act(&self, key: &Key, pod: &Pod, step: Step, address: u8) -> Result<()> {
        let (host, own) = (own_address(self.number), format!("10.244.{}.{address}", self.number));
        if life::tells(step, pod) {
            let own = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or(own);
            let patch = Patch::Strategic(life::status(pod, step, self.clock.now(), &host, &own));
            match self.client.patch_status::<Pod>(&key.namespace, &key.name, &patch).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                _ => {}
            }
        }
        if step == Step::Stop {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let options = client::with_grace(client::with_uid(Default::default(), uid), 0);
            match self.client.delete::<Pod>(&key.namespace, &key.name, &options).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Known {
    /// The step to take now, and an address for it, if one is due and none is under way.
    fn begin(&mut self, pod: &Pod) -> Option<(Step, u8)> {
        let uid = pod.metadata.uid.clone()?;
        let step = life::next(pod)?;
        // What the informer has may be older than what was just told.
        if self.done.get(&uid).is_some_and(|done| *done >= step) || !self.busy.insert(uid) {
            return None;
        }
        self.address = self.address % 254 + 1;
        Some((step, self.address))
    }

    fn end(&mut self, uid: String, step: Step, done: bool) {
        self.busy.remove(&uid);
        if done && step != Step::Stop {
            self.done.insert(uid, step);
        }
    }
}

fn own_address(number: u8) -> String {
    format!("198.51.100.{number}")
}

fn node(name: &str, number: u8, now: Timestamp) -> Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let labels =
        [("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "amd64")];
    let resources = json!({"cpu": "32", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    json!({
        "metadata": {"name": name, "labels": BTreeMap::from(labels)},
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": own_address(number)},
                {"type": "Hostname", "address": name},
            ],
            "capacity": resources,
            "allocatable": resources,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.2",
                "kubeProxyVersion": "", "containerRuntimeVersion": "hollow://1", "osImage": "hollow",
                "kernelVersion": "6.1.0", "machineID": name, "systemUUID": name, "bootID": name,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_once() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"restartPolicy": "Always", "containers": []},
        }))
        .unwrap();
        let mut known = Known::default();
        assert_eq!(known.begin(&pod), Some((Step::Start, 1)));
        assert_eq!(known.begin(&pod), None, "it is under way");
        known.end("u".into(), Step::Start, false);
        assert_eq!(known.begin(&pod), Some((Step::Start, 2)), "it failed");
        known.end("u".into(), Step::Start, true);
        assert_eq!(known.begin(&pod), None, "it is done, though the informer does not know yet");
        let mut deleted = pod.clone();
        deleted.metadata.deletion_timestamp = Some(api::meta::v1::Time(Timestamp::UNIX_EPOCH));
        assert_eq!(known.begin(&deleted), Some((Step::Stop, 3)));
    }

    #[test]
    fn a_node_is_one() {
        let read: Node = serde_json::from_value(node("n", 7, Timestamp::UNIX_EPOCH)).unwrap();
        let ready = read.status.unwrap_or_default().conditions.unwrap_or_default();
        assert!(ready.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
    }
}
