//! Keeps each Service's EndpointSlices: at most a hundred endpoints in each, with their conditions.

mod plan;

use std::sync::Arc;

use api::core::v1::{Node, Pod, Service};
use api::discovery::v1::EndpointSlice;
use api::meta::v1::DeleteOptions;
use client::{Client, Event, EventType, Key, Recorder, Store, WorkQueue, key_of};

use crate::context::{Context, name, namespace};
use crate::error::Doing;
use crate::written::Written;
use crate::{Error, Result, service_pods};
use plan::{MANAGED_BY, MANAGER, SERVICE_NAME};

const WORKERS: usize = 5;
const BY_SERVICE: &str = "service";

pub(crate) fn start(context: &Context) {
    let services = context.informers.get::<Service>();
    let pods = context.informers.get::<Pod>();
    let nodes = context.informers.get::<Node>();
    let slices = context.informers.get::<EndpointSlice>();
    slices
        .store()
        .add_index(BY_SERVICE, |slice| service_key(slice).map(|key| key.to_string()).into_iter().collect());
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        recorder: context.recorder("endpoint-slice-controller"),
        services: services.store().clone(),
        pods: pods.store().clone(),
        nodes: nodes.store().clone(),
        slices: slices.store().clone(),
        queue: WorkQueue::new(),
        written: Written::default(),
    });
    service_pods::follow(&services, &pods, &controller.queue);
    let this = controller.clone();
    slices.add_handler(move |event| this.slice_changed(event));
    let this = controller.clone();
    nodes.add_handler(move |event| {
        // Pods may have waited for their node; its zone may show in many slices.
        let zone = |node: &Node| node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned();
        let concerns = match event {
            Event::Updated { old, new } => zone(old) != zone(new),
            _ => true,
        };
        if concerns {
            this.services.keys().into_iter().for_each(|key| this.queue.add(key));
        }
    });
    let queue = controller.queue.clone();
    context.work("endpoint_slice", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// The Service whose slice this is, if this controller manages it.
fn service_key(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let managed = labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    managed.then(|| Some(Key::new(namespace(slice), labels.get(SERVICE_NAME)?))).flatten()
}

struct Controller {
    client: Client,
    recorder: Recorder,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    queue: WorkQueue<Key>,
    written: Written,
}

impl Controller {
    fn slice_changed(&self, event: &Event<EndpointSlice>) {
        let slice = event.object();
        if matches!(event, Event::Deleted(_)) {
            self.written.gone(&key_of(&**slice));
        } else if self.written.is_own(&**slice) {
            return;
        }
        let before = match event {
            Event::Updated { old, .. } => service_key(old),
            _ => None,
        };
        before.into_iter().chain(service_key(slice)).for_each(|key| self.queue.add(key));
    }

    async fn sync(&self, key: Key) -> Result<()> {
        // Slices of a Service that is gone are the garbage collector's.
        let Some(service) = self.services.get_key(&key) else { return Ok(()) };
        let Some(pods) = service_pods::selected(&service, &self.pods) else { return Ok(()) };
        let prefix = format!("{}-", key.name);
        let ours = |slice: &Key| slice.namespace == key.namespace && slice.name.starts_with(&prefix);
        if self.written.behind(&self.slices, ours) {
            return Err(Error::Behind(format!("EndpointSlices of {key}")));
        }
        let existing = self.slices.by_index(BY_SERVICE, &key.to_string());
        let plan = plan::plan(&service, &pods, |node| self.nodes.get("", node), &existing);
        let left_out = plan.left_out.clone();
        if let Err(error) = self.apply(&service, plan).await {
            if !error.is_conflict() {
                let message = format!("Error updating Endpoint Slices for Service {key}: {}", error.chain());
                self.recorder.event(&*service, EventType::Warning, "FailedToUpdateEndpointSlices", message);
            }
            return Err(error);
        }
        if left_out.is_empty() {
            return Ok(());
        }
        let pods = left_out.join(", ");
        Err(Error::NotYet(format!("skipping pods {pods} for Service {key}: their nodes are not known")))
    }

    async fn apply(&self, service: &Service, plan: plan::Plan) -> Result<()> {
        for slice in plan.create {
            match self.client.create(&slice).await {
                Ok(made) => self.written.note(&made),
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                Err(error) => {
                    return Err(error).doing(|| format!("creating an EndpointSlice of {}", name(service)));
                }
            }
        }
        for slice in plan.update {
            let changed = self.client.update(&slice).await;
            self.written.note(&changed.doing(|| format!("updating EndpointSlice {}", name(&slice)))?);
        }
        for slice in plan.delete {
            let options = DeleteOptions::default();
            match self.client.delete::<EndpointSlice>(namespace(&*slice), name(&*slice), &options).await {
                Err(error) if !error.is_not_found() => {
                    return Err(error).doing(|| format!("deleting EndpointSlice {}", name(&*slice)));
                }
                _ => self.written.gone(&key_of(&*slice)),
            }
        }
        Ok(())
    }
}
