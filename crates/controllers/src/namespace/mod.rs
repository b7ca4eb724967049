//! Empties a namespace that is being deleted, then lets go of it: pods first, so that nothing that they need
//! goes before them (KEP-5080), then everything that discovery names.

mod conditions;

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Namespace, Pod};
use client::{ApiResource, Client, Event, Gvr, Key, ListParams, Store, WorkQueue, background, key_of};

use crate::context::{Context, name, namespace};
use crate::error::Doing;
use crate::{Error, Result, pods};
use conditions::Findings;

const WORKERS: usize = 10;
/// The finalizer in `spec.finalizers` that is this controller's.
const OURS: &str = "kubernetes";
/// What waits for a finalizer is looked at again after about this many seconds.
const FINALIZERS: u64 = 15;

pub(crate) fn start(context: &Context) {
    let namespaces = context.informers.get::<Namespace>();
    let all_pods = context.informers.get::<Pod>();
    let controller = Arc::new(Controller {
        context: context.clone(),
        client: context.client.clone(),
        namespaces: namespaces.store().clone(),
        pods: all_pods.store().clone(),
        queue: WorkQueue::new(),
    });
    let this = controller.clone();
    namespaces.add_handler(move |event| {
        let found = event.object();
        if found.metadata.deletion_timestamp.is_some() && !matches!(event, Event::Deleted(_)) {
            this.queue.add_after(key_of(&**found), this.context.config.namespace_deletion_delay);
        }
    });
    let this = controller.clone();
    all_pods.add_handler(move |event| {
        // The last pod is what most deletions wait for.
        if let Event::Deleted(pod) = event
            && let Some(found) = this.namespaces.get("", namespace(&**pod))
            && found.metadata.deletion_timestamp.is_some()
            && this.pods.list_namespace(namespace(&**pod)).is_empty()
        {
            this.queue.add(key_of(&*found));
        }
    });
    let queue = controller.queue.clone();
    context.work("namespace", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    context: Context,
    client: Client,
    namespaces: Store<Namespace>,
    pods: Store<Pod>,
    queue: WorkQueue<Key>,
}

/// What is left of one resource.
#[derive(Default)]
struct Left {
    number: usize,
    finalizers: Vec<String>,
    seconds: u64,
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<()> {
        let found = match self.client.get::<Namespace>("", &key.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            found => found.doing(|| format!("looking at namespace {key}"))?,
        };
        let finalizers = found.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if found.metadata.deletion_timestamp.is_none() || finalizers.is_empty() {
            return Ok(());
        }
        let mut found = found;
        if found.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
            found.status.get_or_insert_default().phase = Some("Terminating".into());
            found = match self.client.update_status(&found).await {
                Err(error) if error.is_not_found() => return Ok(()),
                written => written.doing(|| format!("marking namespace {key} as terminating"))?,
            };
        }
        let mut findings = Findings::default();
        let seconds = self.empty(&found, &mut findings).await;
        let now = self.context.now();
        if conditions::update(found.status.get_or_insert_default(), &findings, &now) {
            match self.client.update_status(&found).await {
                Ok(written) => found = written,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => {
                    tracing::debug!(namespace = %key, error = %error.chain(), "conditions not written")
                }
            }
        }
        if let Some(error) = findings.discovery_error.or_else(|| findings.content_errors.into_iter().next()) {
            return Err(Error::NotYet(error));
        }
        if seconds > 0 {
            self.queue.add_after(key, Duration::from_secs(seconds / 2 + 1));
            return Ok(());
        }
        self.finalize(&key, found).await
    }

    /// Deletes everything; answers after how many seconds what is left may be gone, 0 if nothing is left.
    async fn empty(&self, found: &Namespace, findings: &mut Findings) -> u64 {
        let resources = match self.client.discover().await {
            Ok(resources) => resources,
            Err(error) => {
                findings.discovery_error = Some(error.chain());
                return 0;
            }
        };
        let mut resources: Vec<ApiResource> =
            resources.into_iter().filter(|r| r.namespaced && r.preferred && r.can("delete")).collect();
        let pods = resources.iter().position(|r| r.gvr == Gvr::new("", "v1", "pods"));
        let mut seconds = 0;
        if let Some(place) = pods {
            let pods = resources.remove(place);
            seconds = self.empty_resource(found, &pods, findings).await;
            if findings.remaining.contains_key(&pods.gvr) || !findings.content_errors.is_empty() {
                // Upstream reports only errors while it waits for the pods.
                findings.remaining.clear();
                findings.finalizers.clear();
                return seconds.max(1);
            }
        }
        for resource in &resources {
            seconds = seconds.max(self.empty_resource(found, resource, findings).await);
        }
        seconds
    }

    async fn empty_resource(
        &self,
        found: &Namespace,
        resource: &ApiResource,
        findings: &mut Findings,
    ) -> u64 {
        match self.try_empty(found, resource).await {
            Ok(left) => {
                if left.number > 0 {
                    findings.remaining.insert(resource.gvr.clone(), left.number);
                }
                for finalizer in left.finalizers {
                    *findings.finalizers.entry(finalizer).or_default() += 1;
                }
                left.seconds
            }
            Err(error) => {
                findings.content_errors.push(error);
                0
            }
        }
    }

    async fn try_empty(&self, found: &Namespace, resource: &ApiResource) -> Result<Left, String> {
        let space = name(found);
        let dynamic = self.client.dynamic(&resource.gvr);
        let grace = if resource.gvr.group.is_empty() && resource.gvr.resource == "pods" {
            self.grace(found)
        } else {
            0
        };
        let absent = |error: &client::Error| error.is_not_found() || error.code() == 405;
        let all = ListParams::default();
        let mut deleted = false;
        if resource.can("deletecollection") {
            match dynamic.delete_collection(space, &background(), &all).await {
                Ok(()) => deleted = true,
                Err(error) if absent(&error) => {}
                Err(error) => return Err(error.chain()),
            }
        }
        if !resource.can("list") {
            return Ok(Left::default());
        }
        let mut items = match dynamic.list_metadata(space, &all).await {
            Ok(list) => list.items,
            Err(error) if absent(&error) => return Ok(Left::default()),
            Err(error) => return Err(error.chain()),
        };
        if !deleted && !items.is_empty() {
            for item in &items {
                let name = item.metadata.name.as_deref().unwrap_or_default();
                match dynamic.delete(space, name, &background()).await {
                    Err(error) if !absent(&error) => return Err(error.chain()),
                    _ => {}
                }
            }
            items = dynamic.list_metadata(space, &all).await.map_err(|error| error.chain())?.items;
        }
        let finalizers: Vec<String> =
            items.iter().flat_map(|item| item.metadata.finalizers.clone().unwrap_or_default()).collect();
        let left =
            Left { number: items.len(), seconds: if items.is_empty() { 0 } else { grace }, finalizers };
        match left {
            Left { number: 0, .. } => Ok(left),
            Left { seconds: 1.., .. } => Ok(left),
            Left { ref finalizers, .. } if !finalizers.is_empty() => Ok(Left { seconds: FINALIZERS, ..left }),
            _ => {
                Err(format!("unexpected items still remain in namespace: {space} for gvr: {}", resource.gvr))
            }
        }
    }

    /// The longest grace period of the pods, unless it is over.
    fn grace(&self, found: &Namespace) -> u64 {
        let pods = self.pods.list_namespace(name(found));
        let graces = pods.iter().filter(|pod| !pods::is_terminal(pod));
        let longest = graces
            .filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds)
            .max()
            .unwrap_or_default();
        let deleted = found.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let passed = deleted.map_or(0, |at| self.context.clock.now().duration_since(at).as_secs());
        if passed >= longest { 0 } else { u64::try_from(longest).unwrap_or_default() }
    }

    async fn finalize(&self, key: &Key, mut found: Namespace) -> Result<()> {
        if let Some(finalizers) = found.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != OURS);
        }
        match self.client.update_subresource(&found, "finalize").await {
            Err(error) if !error.is_not_found() => Err(error).doing(|| format!("finalizing namespace {key}")),
            _ => Ok(()),
        }
    }
}
