//! Gives every namespace its `default` service account.

use std::sync::Arc;

use api::core::v1::{Namespace, ServiceAccount};
use api::meta::v1::ObjectMeta;
use client::{Client, Event, Key, ListParams, Store, WorkQueue, key_of};

use crate::Result;
use crate::context::{Context, name, namespace};
use crate::error::Doing;

const WORKERS: usize = 1;
const DEFAULT: &str = "default";

pub(crate) fn start(context: &Context) {
    let namespaces = context.informers.get::<Namespace>();
    let accounts = context.informers.select::<ServiceAccount>(ListParams::fields("metadata.name=default"));
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        namespaces: namespaces.store().clone(),
        accounts: accounts.store().clone(),
    });
    let queue = WorkQueue::new();
    let handler_queue = queue.clone();
    namespaces.add_handler(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            handler_queue.add(key_of(&**event.object()));
        }
    });
    let handler_queue = queue.clone();
    accounts.add_handler(move |event| {
        if let Event::Deleted(account) = event
            && name(&**account) == DEFAULT
        {
            handler_queue.add(Key::new("", namespace(&**account)));
        }
    });
    context.work("serviceaccount", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    client: Client,
    namespaces: Store<Namespace>,
    accounts: Store<ServiceAccount>,
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<()> {
        let Some(found) = self.namespaces.get_key(&key) else { return Ok(()) };
        let phase = found.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase != Some("Active") || self.accounts.get(&key.name, DEFAULT).is_some() {
            return Ok(());
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.into()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match self.client.create(&account).await {
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_| ()).doing(|| format!("creating the default service account of {key}")),
        }
    }
}
