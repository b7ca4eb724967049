//! Events about objects, as `kubectl describe` shows them.

mod correlate;

use std::sync::Arc;

use api::core::v1::{self, EventSource, ObjectReference};
use api::meta::v1::{MicroTime, ObjectMeta, Time};
use apimachinery::clock::Clock;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Client, Kind, Patch, reference};
use correlate::{Correlator, Outcome};

/// Events that wait to be written; what comes when so many wait is dropped, as in client-go.
const WAITING: usize = 1000;
/// How often one event is tried, and how long between tries (client-go: 12 times, 10 s).
const TRIES: u32 = 12;
const BETWEEN: std::time::Duration = std::time::Duration::from_secs(10);

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Something went wrong.
    Warning,
}

impl EventType {
    fn text(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Records events without ever waiting. Cheap to clone; a task of its own writes them.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<v1::Event>,
    clock: Arc<dyn Clock>,
    source: Arc<EventSource>,
}

impl Recorder {
    /// Starts the writing task, which ends with `shutdown`. `component` such as `deployment-controller`;
    /// `host` is empty for what does not belong to a node.
    pub fn start(
        client: Client,
        component: &str,
        host: &str,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Recorder {
        let (sender, receiver) = mpsc::channel(WAITING);
        let source =
            EventSource { component: Some(component.into()), host: (!host.is_empty()).then(|| host.into()) };
        tokio::spawn(write(client, clock.clone(), receiver, shutdown));
        Recorder { sender, clock, source: Arc::new(source) }
    }

    /// Records that something happened to a typed object.
    pub fn event<K: Kind>(
        &self,
        object: &K,
        event_type: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(reference(object), event_type, reason, message);
    }

    /// The same for a reference, which may carry a field path (`spec.containers{web}`).
    pub fn record(
        &self,
        about: ObjectReference,
        event_type: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let now = self.clock.now();
        let namespace = about.namespace.clone().filter(|ns| !ns.is_empty()).unwrap_or("default".into());
        let name = about.name.clone().unwrap_or_default();
        let event = v1::Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: about,
            reason: Some(reason.into()),
            message: Some(message.into()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            event_time: None::<MicroTime>,
            count: Some(1),
            type_: Some(event_type.text().into()),
            source: Some(self.source.as_ref().clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.source.host.clone().unwrap_or_default()),
            ..v1::Event::default()
        };
        if self.sender.try_send(event).is_err() {
            tracing::debug!(reason, "too many events wait; one is dropped");
        }
    }
}

async fn write(
    client: Client,
    clock: Arc<dyn Clock>,
    mut receiver: mpsc::Receiver<v1::Event>,
    shutdown: CancellationToken,
) {
    let mut correlator = Correlator::default();
    loop {
        let event = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            event = receiver.recv() => event,
        };
        let Some(event) = event else { return };
        let Some(outcome) = correlator.see(event, clock.now()) else { continue };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = deliver(&client, outcome) => {}
        }
    }
}

async fn deliver(client: &Client, outcome: Outcome) {
    let Outcome { mut event, mut again } = outcome;
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    for _ in 0..TRIES {
        let name = event.metadata.name.clone().unwrap_or_default();
        let answer = if again {
            let change = Patch::Strategic(json!({
                "count": event.count,
                "lastTimestamp": event.last_timestamp,
                "message": event.message,
            }));
            client.patch::<v1::Event>(&namespace, &name, &change).await
        } else {
            client.create(&event).await
        };
        match answer {
            Ok(_) => return,
            // It has expired in the meantime: begin anew.
            Err(error) if again && error.is_not_found() => {
                again = false;
                event.metadata.resource_version = None;
            }
            Err(error) if error.status().is_some() => {
                if !error.is_already_exists() && !error.is_namespace_terminating() {
                    tracing::debug!(error = %error.chain(), reason = ?event.reason, "event was refused");
                }
                return;
            }
            Err(error) => {
                tracing::debug!(error = %error.chain(), "event could not be written; trying again");
                tokio::time::sleep(BETWEEN).await;
            }
        }
    }
}
