//! Keeps each Service's Endpoints object, which EndpointSlices have replaced for all but old clients.

mod plan;

use std::sync::Arc;

use api::core::v1::{Endpoints, Pod, Service};
use api::meta::v1::DeleteOptions;
use client::{Client, Event, EventType, Key, Recorder, Store, WorkQueue, key_of};

use crate::context::Context;
use crate::error::Doing;
use crate::written::Written;
use crate::{Error, Result, service_pods};

const WORKERS: usize = 5;

pub(crate) fn start(context: &Context) {
    let services = context.informers.get::<Service>();
    let pods = context.informers.get::<Pod>();
    let endpoints = context.informers.get::<Endpoints>();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        recorder: context.recorder("endpoint-controller"),
        services: services.store().clone(),
        pods: pods.store().clone(),
        endpoints: endpoints.store().clone(),
        queue: WorkQueue::new(),
        written: Written::default(),
    });
    service_pods::follow(&services, &pods, &controller.queue);
    let this = controller.clone();
    endpoints.add_handler(move |event| {
        let key = key_of(&**event.object());
        if matches!(event, Event::Deleted(_)) {
            this.written.gone(&key);
            this.queue.add(key);
        }
    });
    let queue = controller.queue.clone();
    context.work("endpoint", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    client: Client,
    recorder: Recorder,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
    queue: WorkQueue<Key>,
    written: Written,
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<()> {
        let Some(service) = self.services.get_key(&key) else {
            if self.endpoints.get_key(&key).is_none() {
                return Ok(());
            }
            let options = DeleteOptions::default();
            return match self.client.delete::<Endpoints>(&key.namespace, &key.name, &options).await {
                Err(error) if !error.is_not_found() => {
                    Err(error).doing(|| format!("deleting Endpoints {key}"))
                }
                _ => Ok(()),
            };
        };
        let Some(pods) = service_pods::selected(&service, &self.pods) else { return Ok(()) };
        if self.written.behind(&self.endpoints, |written| *written == key) {
            return Err(Error::Behind(format!("Endpoints {key}")));
        }
        let current = self.endpoints.get_key(&key);
        let Some(wanted) = plan::plan(&service, &pods, current.as_deref()) else { return Ok(()) };
        let (answer, verb) = match current {
            Some(_) => (self.client.update(&wanted).await, "update"),
            None => (self.client.create(&wanted).await, "create"),
        };
        match answer {
            Ok(written) => {
                self.written.note(&written);
                Ok(())
            }
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                if !error.is_conflict() {
                    let reason =
                        if verb == "create" { "FailedToCreateEndpoint" } else { "FailedToUpdateEndpoint" };
                    let message = format!("Failed to {verb} endpoint {key}: {}", error.chain());
                    self.recorder.event(&*service, EventType::Warning, reason, message);
                }
                Err(error).doing(|| format!("{verb} of Endpoints {key}"))
            }
        }
    }
}
