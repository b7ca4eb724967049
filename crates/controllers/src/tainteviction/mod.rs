//! Evicts pods from nodes with NoExecute taints that they do not tolerate, or not for longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::core::v1::{Node, ObjectReference, Pod, Taint, Toleration};
use api::meta::v1::DeleteOptions;
use client::{Client, Event, EventType, Key, Recorder, Store, WorkQueue, key_of};
use kinds::pod::scheduling::tolerates;
use tokio::time::Instant;

use crate::context::{Context, name, uid};
use crate::disruption::{self, Disruption};
use crate::error::Doing;
use crate::pods::BY_NODE;
use crate::{Result, pods};

const WORKERS: usize = 4;

pub(crate) fn start(context: &Context) {
    let nodes = context.informers.get::<Node>();
    let all_pods = context.informers.get::<Pod>();
    pods::index_by_node(&all_pods);
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        context: context.clone(),
        recorder: context.recorder("taint-eviction-controller"),
        nodes: nodes.store().clone(),
        pods: all_pods.store().clone(),
        queue: WorkQueue::new(),
        waiting: Mutex::default(),
    });
    let this = controller.clone();
    nodes.add_handler(move |event| {
        let same = match event {
            Event::Updated { old, new } => no_execute(old) == no_execute(new),
            Event::Added(node) => no_execute(node).is_empty(),
            Event::Deleted(_) => true,
        };
        if !same {
            for pod in this.pods.by_index(BY_NODE, name(&**event.object())) {
                this.queue.add(key_of(&*pod));
            }
        }
    });
    let this = controller.clone();
    all_pods.add_handler(move |event| {
        let place = |pod: &Pod| (pods::node_name(pod).to_owned(), tolerations(pod).to_vec());
        let same = matches!(event, Event::Updated { old, new } if place(old) == place(new));
        if !same && !pods::node_name(event.object()).is_empty() {
            this.queue.add(key_of(&**event.object()));
        }
    });
    let queue = controller.queue.clone();
    context.work("noexec_taint_pod", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// How long a pod may stay.
#[derive(Debug, PartialEq, Eq)]
enum Stay {
    Forever,
    /// From when the taints were first seen.
    For(Duration),
}

/// The shortest time of all tolerations that are needed; no time at all if a taint is not tolerated.
fn plan(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    if taints.is_empty() {
        return Stay::Forever;
    }
    let mut used = Vec::new();
    for taint in taints {
        match tolerations.iter().find(|toleration| tolerates(toleration, taint)) {
            Some(toleration) => used.push(toleration),
            None => return Stay::For(Duration::ZERO),
        }
    }
    let shortest = used.iter().filter_map(|toleration| toleration.toleration_seconds).min();
    shortest.map_or(Stay::Forever, |seconds| {
        Stay::For(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
    })
}

struct Controller {
    client: Client,
    context: Context,
    recorder: Recorder,
    nodes: Store<Node>,
    pods: Store<Pod>,
    queue: WorkQueue<Key>,
    /// Pods that will be evicted: which object, since when they wait.
    waiting: Mutex<BTreeMap<Key, (String, Instant)>>,
}

impl Controller {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Key, (String, Instant)>> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn sync(&self, key: Key) -> Result<()> {
        let Some(pod) = self.pods.get_key(&key).filter(|pod| pod.metadata.deletion_timestamp.is_none())
        else {
            self.waiting().remove(&key);
            return Ok(());
        };
        let taints =
            self.nodes.get("", pods::node_name(&pod)).map(|node| no_execute(&node)).unwrap_or_default();
        let time = match plan(&taints, tolerations(&pod)) {
            Stay::Forever => {
                if self.waiting().remove(&key).is_some() {
                    self.event(&pod, format!("Cancelling deletion of Pod {key}"));
                }
                return Ok(());
            }
            Stay::For(time) => time,
        };
        let since = {
            let mut waiting = self.waiting();
            let fresh = (uid(&*pod).to_owned(), Instant::now());
            let entry = waiting.entry(key.clone()).or_insert_with(|| fresh.clone());
            if entry.0 != fresh.0 {
                *entry = fresh;
            }
            entry.1
        };
        let left = time.saturating_sub(since.elapsed());
        if !left.is_zero() {
            self.queue.add_after(key, left);
            return Ok(());
        }
        self.event(&pod, format!("Marking for deletion Pod {key}"));
        let why = Disruption {
            reason: "DeletionByTaintManager",
            message: "Taint manager: deleting due to NoExecute taint",
        };
        disruption::mark(&self.client, &pod, Some(why), false, self.context.now()).await?;
        let options = client::with_uid(DeleteOptions::default(), uid(&*pod));
        match self.client.delete::<Pod>(&key.namespace, &key.name, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(error).doing(|| format!("evicting pod {key}"))
            }
            _ => {
                self.waiting().remove(&key);
                Ok(())
            }
        }
    }

    fn event(&self, pod: &Pod, message: String) {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.recorder.record(about, EventType::Normal, "TaintManagerEviction", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn stays() {
        let check = |taints: Value, tolerations: Value, expect: Stay| {
            let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
            let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
            assert_eq!(plan(&taints, &tolerations), expect);
        };
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute"});
        let bears = |key: &str, seconds: Value| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let seconds = |n| Stay::For(Duration::from_secs(n));
        check(json!([]), json!([]), Stay::Forever);
        check(json!([taint("a")]), json!([]), seconds(0));
        check(json!([taint("a")]), json!([bears("a", json!(300))]), seconds(300));
        check(json!([taint("a")]), json!([bears("a", Value::Null)]), Stay::Forever);
        check(json!([taint("a")]), json!([bears("a", json!(-1))]), seconds(0));
        check(json!([taint("a"), taint("b")]), json!([bears("a", json!(300))]), seconds(0));
        check(
            json!([taint("a"), taint("b")]),
            json!([bears("a", json!(300)), bears("b", json!(60))]),
            seconds(60),
        );
        check(json!([taint("a")]), json!([{"operator": "Exists"}]), Stay::Forever);
    }
}
