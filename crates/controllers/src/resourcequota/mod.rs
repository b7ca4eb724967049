//! Counts what each ResourceQuota limits. Admission charges a quota as objects are made; this controller takes note
//! of new limits and gives back what is deleted.
//!
//! The kinds that some quota limits are followed, no others, and by their metadata alone; what there is of them is
//! asked for when a quota is counted anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::core::v1::{Pod, ResourceQuota, Service};
use client::{
    ApiResource, Client, Event, Key, ListParams, PartialObject, SharedInformers, Store, WorkQueue, key_of,
};
use kinds::quota::{Object, is_ignored, recount};
use serde_json::Value;

use crate::context::{Context, namespace};
use crate::error::Doing;
use crate::{Error, Result, pods};

const WORKERS: usize = 5;
/// Each quota is counted anew this often, whatever has been heard (upstream's `--resource-quota-sync-period`).
const RESYNC: Duration = Duration::from_secs(300);
/// Kinds of which more than the metadata counts.
const READ: [(&str, &str); 4] =
    [("", "pods"), ("", "services"), ("", "persistentvolumeclaims"), ("resource.k8s.io", "resourceclaims")];

pub(crate) fn start(context: &Context) {
    let quotas = context.informers.get::<ResourceQuota>();
    let controller = Arc::new(Controller {
        context: context.clone(),
        client: context.client.clone(),
        quotas: quotas.store().clone(),
        queue: WorkQueue::new(),
        // Their own, since more of them come later.
        informers: SharedInformers::new(context.informers.client().clone(), context.entropy.clone()),
        followed: Mutex::default(),
        served: Mutex::default(),
    });
    let this = controller.clone();
    quotas.add_handler(move |event| match event {
        // The status is this controller's and admission's to write.
        Event::Updated { old, new } if old.spec == new.spec => {}
        event => this.queue.add(key_of(&**event.object())),
    });
    // That a pod has ended, or that a Service is of another type, does not show in the metadata.
    let this = controller.clone();
    context.informers.get::<Pod>().add_handler(move |event| {
        if let Event::Updated { old, new } = event
            && pods::is_terminal(old) != pods::is_terminal(new)
        {
            this.changed("", "pods", namespace(&**new));
        }
    });
    let this = controller.clone();
    context.informers.get::<Service>().add_handler(move |event| {
        if let Event::Updated { old, new } = event
            && old.spec != new.spec
        {
            this.changed("", "services", namespace(&**new));
        }
    });
    let queue = controller.queue.clone();
    context.work("resource_quota_controller_resource_changes", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    context: Context,
    client: Client,
    quotas: Store<ResourceQuota>,
    queue: WorkQueue<Key>,
    informers: SharedInformers,
    followed: Mutex<BTreeSet<(String, String)>>,
    /// By group and resource.
    served: Mutex<BTreeMap<(String, String), ApiResource>>,
}

impl Controller {
    /// Something of a resource has gone or changed in a namespace: its quotas that limit this are counted anew.
    fn changed(&self, group: &str, resource: &str, namespace: &str) {
        for quota in self.quotas.list_namespace(namespace) {
            let value = serde_json::to_value(&*quota).unwrap_or_default();
            if !recount::limits(&value, group, resource).is_empty() {
                self.queue.add(key_of(&*quota));
            }
        }
    }

    async fn sync(self: &Arc<Self>, key: Key) -> Result<()> {
        let Some(quota) = self.quotas.get_key(&key) else { return Ok(()) };
        let value = serde_json::to_value(&*quota).map_err(|error| Error::NotYet(error.to_string()))?;
        let limited = self.limited(&value).await?;
        let mut objects = Vec::new();
        for resource in &limited {
            self.follow(resource);
            let (group, name) = (&*resource.gvr.group, &*resource.gvr.resource);
            let all = self.client.dynamic(&resource.gvr);
            let doing = || format!("counting {name} for quota {key}");
            let params = ListParams::default();
            if READ.contains(&(group, name)) {
                let items = all.list(&key.namespace, &params).await.doing(doing)?.items;
                objects.extend(
                    items
                        .iter()
                        .filter_map(|item| Object::read(group, name, item).ok())
                        .map(Object::into_owned),
                );
            } else {
                let count = all.list_metadata(&key.namespace, &params).await.doing(doing)?.items.len();
                let one = Object::read(group, name, &Value::Null).ok().map(Object::into_owned);
                objects.extend(one.iter().cycle().take(count * usize::from(one.is_some())).cloned());
            }
        }
        let counted: Vec<_> = limited.iter().map(|r| (&*r.gvr.group, &*r.gvr.resource)).collect();
        if let Some(status) = recount::status(&value, &counted, &objects, self.context.clock.now()) {
            let status = serde_json::from_value(status).map_err(|error| Error::NotYet(error.to_string()))?;
            let wanted = ResourceQuota { status: Some(status), ..ResourceQuota::clone(&quota) };
            match self.client.update_status(&wanted).await {
                Err(error) if error.is_not_found() => {}
                answer => drop(answer.doing(|| format!("writing the status of quota {key}"))?),
            }
        }
        self.queue.add_after(key, RESYNC);
        Ok(())
    }

    /// The served resources that a quota limits.
    async fn limited(&self, quota: &Value) -> Result<Vec<ApiResource>> {
        let find = |served: &BTreeMap<_, ApiResource>| -> Vec<ApiResource> {
            let limits = |r: &&ApiResource| !recount::limits(quota, &r.gvr.group, &r.gvr.resource).is_empty();
            served.values().filter(limits).cloned().collect()
        };
        let named: BTreeSet<&str> =
            quota["spec"]["hard"].as_object().into_iter().flatten().map(|(n, _)| &**n).collect();
        let found = find(&self.served());
        let known: BTreeSet<&str> =
            found.iter().flat_map(|r| recount::limits(quota, &r.gvr.group, &r.gvr.resource)).collect();
        if known == named {
            return Ok(found);
        }
        // Perhaps a kind that is new.
        let resources = self.client.discover().await.doing(|| "asking what there is to count".into())?;
        let mut served = self.served();
        *served = resources
            .into_iter()
            .filter(|r| {
                r.preferred
                    && r.namespaced
                    && ["create", "list", "watch", "delete"].iter().all(|verb| r.can(verb))
            })
            .filter(|r| !is_ignored(&r.gvr.group, &r.gvr.resource))
            .map(|r| ((r.gvr.group.to_string(), r.gvr.resource.to_string()), r))
            .collect();
        Ok(find(&served))
    }

    fn served(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), ApiResource>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of deletions from now on.
    fn follow(self: &Arc<Self>, resource: &ApiResource) {
        let (group, name) = (resource.gvr.group.to_string(), resource.gvr.resource.to_string());
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if !followed.insert((group.clone(), name.clone())) {
            return;
        }
        let this = self.clone();
        self.informers.metadata(&resource.gvr).add_handler(move |event: &Event<PartialObject>| {
            if let Event::Deleted(object) = event {
                this.changed(&group, &name, object.metadata.namespace.as_deref().unwrap_or_default());
            }
        });
        self.informers.start(&self.context.shutdown);
    }
}
