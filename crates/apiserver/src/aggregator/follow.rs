//! What the aggregator does on its own: it registers what is served here, and watches over the servers that are
//! not (upstream's `autoregister`, `apiservice-status-*-available-controller`). Woken by what changes; only extension
//! servers are asked every half minute whether they are there, as upstream does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use etcd::{Watch, WatchStream};
use futures::future::select_all;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use http::Method;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::availability::{Verdict, obstacle, with_verdict};
use super::documents::{self, Question, ask};
use super::forward::behind;
use super::registration::{self, Step};
use super::service::{Description, OWN_GROUP, Reference};
use super::{Remote, Service};
use crate::bootstrap;
use crate::request::UserInfo;
use crate::server::ApiServer;

/// What did not work is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// How often a server that is there is asked whether it still is.
const LOOK: Duration = Duration::from_secs(30);
/// How long its documents are good.
const FRESH: Duration = Duration::from_secs(60);
/// A server that is not there is asked again after this, and then after twice as long each time, up to [`LOOK`].
const SOON: Duration = Duration::from_millis(50);
/// How long it may take to answer, and how often it is asked before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 5;

const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Registers what is built in, and goes on in the background.
///
/// # Errors
/// The first write that was refused.
pub(crate) async fn start(server: &Arc<ApiServer>) -> Result<(), Status> {
    let watch = watch(server);
    let served = server.served.iter().map(|resource| (&*resource.group, &*resource.version));
    let wanted = registration::built_in(served);
    // Versions that were served before and are no longer.
    for service in server.aggregator.services(server.storage.store()) {
        let of = &service.description;
        if of.managed == "onstart" && !wanted.iter().any(|object| object["metadata"]["name"] == of.name) {
            write(server, Method::DELETE, &of.name, "", None).await?;
        }
    }
    bootstrap::ensure_all(server, wanted, registration::put_right).await?;
    tokio::spawn(run(server.clone(), watch));
    Ok(())
}

fn watch(server: &ApiServer) -> Option<WatchStream> {
    let store = server.storage.store();
    let resource = api::resource(OWN_GROUP, "v1", "apiservices")?;
    let range = crate::storage::range(resource, "", None).ok()?;
    Some(store.watch(Watch::new(range).start_revision(store.revision() + 1)))
}

/// The next event. Without a stream, or when it breaks, false after a while.
async fn woken(stream: &mut Option<WatchStream>) -> bool {
    let next = match stream {
        Some(stream) => stream.next().await,
        None => None,
    };
    if !matches!(next, Some(Ok(_))) {
        tokio::time::sleep(RETRY).await;
        return false;
    }
    // What else has come by now is done with the same.
    while let Some(Some(Ok(_))) = stream.as_mut().and_then(|stream| stream.next().now_or_never()) {}
    true
}

/// Who watches over a server, until this is dropped.
struct Watched {
    remote: Arc<Remote>,
    _until: DropGuard,
}

async fn run(server: Arc<ApiServer>, mut stream: Option<WatchStream>) {
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    loop {
        let services = server.aggregator.services(server.storage.store());
        watched.retain(|name, of| {
            let same = |service: &&Arc<Service>| service.description.name == *name;
            let now = services.iter().find(same).and_then(|service| service.remote.as_ref());
            now.is_some_and(|now| Arc::ptr_eq(now, &of.remote))
        });
        for service in &services {
            let name = &service.description.name;
            let Some(remote) = service.remote.as_ref().filter(|_| !watched.contains_key(name)) else {
                continue;
            };
            let until = CancellationToken::new();
            tokio::spawn(watch_over(server.clone(), name.clone(), remote.clone(), until.clone()));
            watched.insert(name.clone(), Watched { remote: remote.clone(), _until: until.drop_guard() });
        }
        let kept = keep(&server, &services).await;
        if let Err(error) = kept {
            if server.shutdown.is_cancelled() {
                return;
            }
            tracing::warn!(%error, "keeping APIServices");
            tokio::time::sleep(RETRY).await;
            continue;
        }
        tokio::select! {
            biased;
            () = server.shutdown.cancelled() => return,
            () = server.aggregator.changed.notified() => {}
            good = woken(&mut stream) => {
                if !good {
                    stream = watch(&server);
                }
            }
        }
    }
}

/// Does what [`registration::plan`] says, and says of what is served here that it is available.
async fn keep(server: &Arc<ApiServer>, services: &[Arc<Service>]) -> Result<(), Status> {
    let wanted = server.aggregator.custom().clone();
    let existing = services.iter().map(|service| &service.description);
    let steps = wanted.map(|wanted| registration::plan(existing, &wanted)).unwrap_or_default();
    for step in steps {
        let done = match step {
            Step::Create(object) => write(server, Method::POST, "", "", Some(&object)).await,
            Step::Delete(name) => write(server, Method::DELETE, &name, "", None).await,
            Step::Update(expected) => {
                let name = expected["metadata"]["name"].as_str().unwrap_or_default();
                let Some(mut object) = stored(server, name)? else { continue };
                object["spec"] = expected["spec"].clone();
                write(server, Method::PUT, name, "", Some(&object)).await
            }
        };
        settled(done)?;
    }
    for service in services.iter().filter(|service| service.remote.is_none()) {
        if !service.description.says_local {
            settled(judge(server, &service.description.name, &Verdict::local()).await)?;
        }
    }
    Ok(())
}

/// Somebody else was quicker: their write is an event, and we come by again.
fn settled(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.is_conflict() || status.is_not_found() || status.is_already_exists() => Ok(()),
        other => other,
    }
}

fn stored(server: &ApiServer, name: &str) -> Result<Option<Value>, Status> {
    let resource = api::resource(OWN_GROUP, "v1", "apiservices");
    resource.map_or(Ok(None), |resource| server.storage.read(resource, "", name))
}

async fn write(
    server: &Arc<ApiServer>,
    method: Method,
    name: &str,
    subresource: &str,
    object: Option<&Value>,
) -> Result<(), Status> {
    let path =
        [PATH, name, subresource].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    server.call(UserInfo::loopback(), method, &path, object).await.map(|_| ())
}

/// Writes a verdict into the status, where it is not there yet.
async fn judge(server: &Arc<ApiServer>, name: &str, verdict: &Verdict) -> Result<(), Status> {
    let Some(object) = stored(server, name)? else { return Ok(()) };
    let now = apimachinery::time::format(server.clock.now());
    let Some(new) = with_verdict(&object, verdict, &now) else { return Ok(()) };
    write(server, Method::PUT, name, "status", Some(&new)).await?;
    if Description::new(&object).available && !verdict.available {
        server.aggregator.count_loss(name, verdict.reason);
    }
    Ok(())
}

/// Looks after one extension server until `until`.
async fn watch_over(server: Arc<ApiServer>, name: String, remote: Arc<Remote>, until: CancellationToken) {
    let until = until.cancelled();
    let watching = async {
        let mut streams = changes(&server, &remote.reference);
        let mut delay = SOON;
        let mut read: Option<Instant> = None;
        loop {
            let Some(service) = server.aggregator.service(server.storage.store(), &name) else { return };
            let seen = behind(&server, &remote.reference, true);
            let verdict = verdict(&server, &service, &remote, &seen).await;
            let stale = read.is_none_or(|read| read.elapsed() >= FRESH);
            if verdict.available && stale {
                // Before anybody hears that it is there.
                documents::refresh(&server, &service).await;
            }
            let written = judge(&server, &name, &verdict).await;
            if verdict.available && stale && written.is_ok() {
                documents::refresh_older(&server, &service).await;
                read = Some(Instant::now());
            }
            let mut pause = LOOK;
            match (&written, verdict.available) {
                (Ok(()), true) => delay = SOON,
                (Ok(()), false) if verdict.reason != "FailedDiscoveryCheck" => delay = SOON,
                _ => (pause, delay) = (delay, (delay * 2).min(LOOK)),
            }
            if let Err(error) = written.as_ref().map_err(|status| &status.message) {
                tracing::debug!(apiservice = %name, %error, "writing whether an extension server is there");
            }
            let end = Instant::now() + pause;
            // Until the time is over, or what leads there changes.
            loop {
                let next = select_all(streams.iter_mut().map(|stream| woken(stream).boxed()));
                let good = tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(end) => break,
                    (good, ..) = next => good,
                };
                if !good {
                    streams = changes(&server, &remote.reference);
                }
                if behind(&server, &remote.reference, true) != seen {
                    delay = SOON;
                    break;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = until => {}
        () = server.shutdown.cancelled() => {}
        () = watching => {}
    }
}

/// Streams of what may change where a Service leads.
fn changes(server: &ApiServer, reference: &Reference) -> [Option<WatchStream>; 2] {
    let store = server.storage.store();
    let from = store.revision() + 1;
    let stream = |group, plural, name| {
        let resource = api::resource(group, "v1", plural)?;
        let range = crate::storage::range(resource, &reference.namespace, name).ok()?;
        Some(store.watch(Watch::new(range).start_revision(from)))
    };
    [
        stream("", "services", Some(reference.name.as_str())),
        stream("discovery.k8s.io", "endpointslices", None),
    ]
}

async fn verdict(
    server: &Arc<ApiServer>,
    service: &Service,
    remote: &Arc<Remote>,
    (behind, slices): &(Option<Value>, Vec<Value>),
) -> Verdict {
    if let Some(verdict) = obstacle(&remote.reference, behind.as_ref(), slices) {
        return verdict;
    }
    let of = &service.description;
    let path = match of.group.as_str() {
        "" => format!("/api/{}", of.version),
        group => format!("/apis/{group}/{}", of.version),
    };
    // Some of the endpoints may be gone without anybody knowing; one that answers is enough.
    let Err(why) = probe(server, remote, &path).await else { return Verdict::passed() };
    let mut others: FuturesUnordered<_> =
        (1..ATTEMPTS).map(|_| probe(server, remote, &path).boxed()).collect();
    while let Some(result) = others.next().await {
        if result.is_ok() {
            return Verdict::passed();
        }
    }
    Verdict::failed(why)
}

async fn probe(server: &ApiServer, remote: &Arc<Remote>, path: &str) -> Result<(), String> {
    let address = server.aggregator.resolve(server, &remote.reference)?;
    let url = format!("https://{}{path}", address.authority());
    let user = UserInfo::new("system:kube-aggregator", &["system:masters"]);
    let question = Question { path, ..Question::default() };
    let answer = ask(server, remote, &user, question, PATIENCE).await;
    let failure = match answer {
        Ok(got) if (200..300).contains(&got.code) => return Ok(()),
        Ok(got) => format!("bad status from {url}: {}", got.code),
        Err(why) => format!("Get {url:?}: {why}"),
    };
    Err(format!("failing or missing response from {url}: {failure}"))
}
