//! Puts the certificates by which pods know the API server into every namespace, as `kube-root-ca.crt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{ConfigMap, Namespace};
use api::meta::v1::ObjectMeta;
use client::{Client, Event, Key, ListParams, Store, WorkQueue, key_of};

use crate::Result;
use crate::context::{Context, name, namespace};
use crate::error::Doing;

const WORKERS: usize = 1;
const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const ABOUT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                     guaranteed across distributions of Kubernetes clusters.";

pub(crate) fn start(context: &Context) {
    if context.config.root_ca.is_empty() {
        tracing::info!("no root certificates are given; kube-root-ca.crt is not published");
        return;
    }
    let namespaces = context.informers.get::<Namespace>();
    // There may be thousands of others.
    let maps = context.informers.select::<ConfigMap>(ListParams::fields(format!("metadata.name={NAME}")));
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        namespaces: namespaces.store().clone(),
        maps: maps.store().clone(),
        root_ca: context.config.root_ca.clone(),
    });
    let queue = WorkQueue::new();
    let handler_queue = queue.clone();
    namespaces.add_handler(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            handler_queue.add(key_of(&**event.object()));
        }
    });
    let handler_queue = queue.clone();
    maps.add_handler(move |event| {
        let map = event.object();
        if name(&**map) == NAME && !matches!(event, Event::Added(_)) {
            handler_queue.add(Key::new("", namespace(&**map)));
        }
    });
    context.work("root_ca_cert_publisher", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    client: Client,
    namespaces: Store<Namespace>,
    maps: Store<ConfigMap>,
    root_ca: String,
}

/// The map to write; `None` if `current` is right.
fn plan(space: &str, root_ca: &str, current: Option<&ConfigMap>) -> Option<ConfigMap> {
    let data = BTreeMap::from([("ca.crt".to_owned(), root_ca.to_owned())]);
    let mut wanted = current.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(space.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    wanted.data = Some(data);
    wanted.metadata.annotations.get_or_insert_default().insert(DESCRIPTION.into(), ABOUT.into());
    (current != Some(&wanted)).then_some(wanted)
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<()> {
        let Some(found) = self.namespaces.get_key(&key) else { return Ok(()) };
        if found.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Active") {
            return Ok(());
        }
        let current = self.maps.get(&key.name, NAME);
        let Some(wanted) = plan(&key.name, &self.root_ca, current.as_deref()) else { return Ok(()) };
        let answer = match current {
            Some(_) => self.client.update(&wanted).await,
            None => self.client.create(&wanted).await,
        };
        match answer {
            Err(error) if error.is_namespace_terminating() || error.is_already_exists() => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_| ()).doing(|| format!("publishing root certificates to {key}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map() {
        let made = plan("n", "PEM", None).unwrap();
        assert_eq!(made.data.as_ref().unwrap()["ca.crt"], "PEM");
        assert!(plan("n", "PEM", Some(&made)).is_none());
        let changed = plan("n", "NEW", Some(&made)).unwrap();
        assert_eq!(changed.data.unwrap()["ca.crt"], "NEW");
    }
}
