//! Keeps the status of every CustomResourceDefinition, and takes the objects away with a definition that goes. What
//! is to be said is worked out by `apiextensions::status`; this follows the store and writes (upstream's
//! `apiextensions-apiserver/pkg/controller/{status,establish,nonstructuralschema,apiapproval,finalizer}`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apiextensions::status::{self, Deletion};
use apimachinery::{schema::Resource, status::Status};
use etcd::{EventKind, KeyRange, Range, Watch};
use http::Method;
use serde_json::Value;

use crate::{registry::meta, request::UserInfo, server::ApiServer, storage};

/// What holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// How long to wait before trying again what did not work.
const RETRY: Duration = Duration::from_secs(1);
/// How often to look whether the objects of a definition are gone, and how long before it is said that they stay.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// What is kept of every definition: all but its schemas, which are most of it.
#[derive(Default)]
struct Known(BTreeMap<String, Value>);

impl Known {
    fn note(&mut self, definition: &Value) {
        let mut brief = definition.clone();
        brief["spec"]["versions"] = Value::Null;
        self.0.insert(meta::name(definition).to_owned(), brief);
    }

    /// Definitions of the same group whose names were not all to be had.
    fn waiting(&self, group: &Value) -> Vec<String> {
        let waits = |(_, other): &(&String, &Value)| {
            other["spec"]["group"] == *group && !status::is_true(&other["status"], "NamesAccepted")
        };
        self.0.iter().filter(waits).map(|(name, _)| name.clone()).collect()
    }
}

/// Follows the definitions until the server ends.
pub async fn keep(server: Arc<ApiServer>) {
    let crds = api::resource("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let Some((crds, prefix)) = crds.and_then(|crds| Some((crds, storage::prefix(crds, "").ok()?))) else {
        return;
    };
    let going = Arc::<Mutex<BTreeSet<String>>>::default();
    while !server.shutdown.is_cancelled() {
        let store = server.storage.store();
        let mut known = Known::default();
        let mut again = BTreeSet::new();
        let Ok(found) = store.range(&Range::prefix(prefix.clone())) else { return };
        let mut stream =
            store.watch(Watch::new(KeyRange::prefix(prefix.clone())).start_revision(found.revision + 1));
        for kv in &found.kvs {
            if let Ok(definition) = server.storage.decode(crds, kv) {
                known.note(&definition);
                again.insert(meta::name(&definition).to_owned());
            }
        }
        loop {
            let todo = std::mem::take(&mut again);
            for name in todo {
                if let Err(error) = look_after(&server, crds, &name, &mut known, &going).await {
                    tracing::warn!(name, %error, "looking after a custom resource definition");
                    again.insert(name);
                }
            }
            // What is served has an APIService.
            let shown = server.catalog.all();
            let versions = shown.iter().map(|r| (r.group.to_string(), r.version.to_string()));
            server.aggregator.serve_custom(versions.collect());
            let wait = if again.is_empty() { Duration::MAX } else { RETRY };
            let next = tokio::select! {
                biased;
                () = server.shutdown.cancelled() => return,
                next = stream.next() => next,
                () = tokio::time::sleep(wait) => continue,
            };
            let Some(Ok(batch)) = next else { break };
            for event in &batch.events {
                let name = storage::name_in(crds, &event.kv.key).1;
                if event.kind == EventKind::Delete {
                    if let Some(gone) = known.0.remove(name) {
                        again.extend(known.waiting(&gone["spec"]["group"]));
                    }
                } else {
                    again.insert(name.to_owned());
                }
            }
        }
        // Far behind, or the store stops; the shutdown follows then.
        tokio::time::sleep(RETRY).await;
    }
}

async fn look_after(
    server: &Arc<ApiServer>,
    crds: &'static Resource,
    name: &str,
    known: &mut Known,
    going: &Arc<Mutex<BTreeSet<String>>>,
) -> Result<(), Status> {
    let Some(mut definition) = server.storage.read(crds, "", name)? else { return Ok(()) };
    let now = apimachinery::time::format(server.clock.now());
    if let Some(status) = status::plan(&definition, known.0.values(), &now) {
        definition["status"] = status;
        match put_status(server, &definition).await {
            // Somebody was faster: theirs is an event, and we come by again.
            Err(status) if status.is_conflict() || status.is_not_found() => return Ok(()),
            other => definition = other?,
        }
    }
    known.note(&definition);
    let held = meta::finalizers(&definition).contains(&FINALIZER);
    if meta::is_being_deleted(&definition) && held {
        let mut all = going.lock().unwrap_or_else(PoisonError::into_inner);
        if all.insert(name.to_owned()) {
            tokio::spawn(empty(server.clone(), crds, name.to_owned(), going.clone()));
        }
    }
    Ok(())
}

async fn put_status(server: &Arc<ApiServer>, definition: &Value) -> Result<Value, Status> {
    let name = meta::name(definition);
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}/status");
    server.call(UserInfo::loopback(), Method::PUT, &path, Some(definition)).await
}

/// Deletes every object of a definition, then lets go of it.
async fn empty(
    server: Arc<ApiServer>,
    crds: &'static Resource,
    name: String,
    going: Arc<Mutex<BTreeSet<String>>>,
) {
    loop {
        match try_empty(&server, crds, &name).await {
            Ok(()) => break,
            Err(error) if error.is_not_found() => break,
            Err(error) => {
                tracing::warn!(name, %error, "deleting the objects of a custom resource definition")
            }
        }
        tokio::select! {
            biased;
            () = server.shutdown.cancelled() => break,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    going.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
}

async fn try_empty(server: &Arc<ApiServer>, crds: &'static Resource, name: &str) -> Result<(), Status> {
    let Some(definition) = server.storage.read(crds, "", name)? else { return Ok(()) };
    if !status::is_true(&definition["status"], "Established") {
        return say(server, crds, name, Deletion::NeverEstablished).await;
    }
    say(server, crds, name, Deletion::Running).await?;
    let (group, plural) = (&definition["spec"]["group"], &definition["spec"]["names"]["plural"]);
    let (group, plural) = (group.as_str().unwrap_or_default(), plural.as_str().unwrap_or_default());
    // A definition that serves no version has objects that nobody can reach.
    if let Some(resource) = server.catalog.preferred(group, plural) {
        let began = tokio::time::Instant::now();
        while server.storage.has_any(&resource, "") {
            delete_all(server, &resource).await?;
            if began.elapsed() > PATIENCE {
                let why = "timed out waiting for the condition";
                say(server, crds, name, Deletion::Failed(why.into())).await?;
                return Err(Status::internal(why));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    say(server, crds, name, Deletion::Done).await
}

/// Says how far the deletion has come, and lets go at its end.
async fn say(
    server: &Arc<ApiServer>,
    crds: &'static Resource,
    name: &str,
    progress: Deletion,
) -> Result<(), Status> {
    let Some(mut definition) = server.storage.read(crds, "", name)? else { return Ok(()) };
    let now = apimachinery::time::format(server.clock.now());
    definition["status"] = status::terminating(&definition, &progress, &now);
    if matches!(progress, Deletion::Done | Deletion::NeverEstablished) {
        let rest = meta::finalizers(&definition).into_iter().filter(|held| *held != FINALIZER);
        let rest = rest.map(str::to_owned).collect();
        meta::set_finalizers(&mut definition, rest);
    }
    put_status(server, &definition).await.map(drop)
}

/// Deletes every object that is not going yet, through the chain as anybody would.
async fn delete_all(server: &Arc<ApiServer>, resource: &Resource) -> Result<(), Status> {
    let all = server.storage.all(resource, "");
    let namespaces: BTreeSet<&str> = all.iter().map(|kv| storage::name_in(resource, &kv.key).0).collect();
    for namespace in namespaces {
        let base = format!("/apis/{}/{}", resource.group, resource.version);
        let path = match namespace {
            "" => format!("{base}/{}", resource.plural),
            namespace => format!("{base}/namespaces/{namespace}/{}", resource.plural),
        };
        server.call(UserInfo::loopback(), Method::DELETE, &path, None).await?;
    }
    Ok(())
}
