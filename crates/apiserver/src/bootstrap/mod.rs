//! What every cluster has from the start, and has again if somebody takes it away: the system namespaces, the
//! RBAC policy, the `kubernetes` Service and its endpoints, priority classes, flow schemas.
//!
//! [`run`] brings all of it about through the same way as any request. Afterwards a task that ends with the
//! server follows the few objects that must not go, and sums up aggregated cluster roles.

pub(crate) mod flow_control;
pub mod policy;
mod presence;
pub mod reconcile;
mod system;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apimachinery::schema::Resource;
use apimachinery::status::Status;
use etcd::{KeyRange, Watch, WatchStream};
use futures::FutureExt as _;
use futures::future::{join_all, select_all};
use http::Method;
use serde_json::Value;

use self::reconcile::Change;
use crate::registry::core::service::{addresses, repair};
use crate::request::UserInfo;
use crate::server::ApiServer;

/// What to do about an object that is there: `(existing, expected)`.
pub(crate) type Reconcile = fn(&Value, &Value) -> Change;

/// How long to wait before trying again what did not work.
const RETRY: Duration = Duration::from_secs(1);

/// The steps of [`run`], as upstream's post-start hooks: their health checks are named after them.
pub const HOOKS: [&str; 19] = [
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "start-legacy-token-tracking-controller",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "priority-and-fairness-config-consumer",
    "start-kubernetes-service-cidr-controller",
    "bootstrap-controller",
    "start-service-ip-repair-controllers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
];

/// Of these, the aggregator's.
const AGGREGATOR_HOOKS: [&str; 7] = [
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
];

/// Brings everything about, then marks the server ready and leaves tasks behind that keep it so.
///
/// # Errors
/// The first write that was refused.
pub async fn run(server: &Arc<ApiServer>) -> Result<(), Status> {
    let done = |hooks: &[&str]| server.finish_hooks(hooks);
    // From before the first look, so that nothing is missed.
    let watches = watches(server);
    ensure_all(server, system::namespaces(), reconcile::leave).await?;
    done(&["start-system-namespaces-controller"]);
    let (roles, bindings) = policy::objects().into_iter().partition(|o| o.get("roleRef").is_none());
    ensure_all(server, roles, reconcile::role).await?;
    ensure_all(server, bindings, reconcile::binding).await?;
    sum_up_roles(server).await?;
    done(&["rbac/bootstrap-roles"]);
    ensure_all(server, system::priority_classes(), reconcile::leave).await?;
    done(&["scheduling/bootstrap-system-priority-classes"]);
    ensure_all(server, flow_control::objects(), reconcile::automatic).await?;
    judge_flow_schemas(server).await?;
    done(&["priority-and-fairness-config-producer", "priority-and-fairness-config-consumer"]);
    ensure_all(server, system::legacy_tokens(server), reconcile::leave).await?;
    done(&["start-legacy-token-tracking-controller"]);
    let presence = presence::appear(server).await?;
    done(&[
        "start-kube-apiserver-identity-lease-controller",
        "start-kube-apiserver-identity-lease-garbage-collector",
    ]);
    keep(server).await?;
    done(&[
        "start-kubernetes-service-cidr-controller",
        "bootstrap-controller",
        "start-cluster-authentication-info-controller",
    ]);
    crate::aggregator::follow::start(server).await?;
    done(&AGGREGATOR_HOOKS);
    repair::once(server).await?;
    done(&["start-service-ip-repair-controllers"]);
    server.ready.store(true, Ordering::Release);
    tokio::spawn(follow(server.clone(), watches));
    tokio::spawn(presence.keep(server.clone()));
    tokio::spawn(repair::keep(server.clone()));
    tokio::spawn(crate::custom::controller::keep(server.clone()));
    Ok(())
}

/// Before the server ends: nobody finds it any more through the `kubernetes` Service.
///
/// # Errors
/// What the store or the chain refused.
pub async fn leave(server: &Arc<ApiServer>) -> Result<(), Status> {
    server.begin_shutdown();
    presence::disappear(server).await
}

/// What must not go or change while the server runs.
async fn keep(server: &Arc<ApiServer>) -> Result<(), Status> {
    ensure_all(server, system::namespaces(), reconcile::leave).await?;
    ensure_all(server, system::service_cidr(server), reconcile::service_cidr).await?;
    if let (Some(object), Some((_, resource))) = (system::ready_service_cidr(server), addresses::resources())
    {
        match write_to(server, resource, "status", Method::PUT, &object).await {
            // Somebody else was quicker: their write is an event, and we come by again.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            other => other?,
        }
    }
    keep_endpoints(server).await?;
    ensure_all(server, system::authentication(server), reconcile::contain).await
}

/// The `kubernetes` Service leads to every server that lives.
async fn keep_endpoints(server: &Arc<ApiServer>) -> Result<(), Status> {
    ensure_all(server, system::kubernetes_service(server), reconcile::contain).await?;
    match ensure_all(server, system::endpoints(server), reconcile::endpoints).await {
        // Told to be found where nobody else can find it (on a loopback address): as upstream, it serves all the same.
        Err(status) if status.code == 422 => {
            tracing::warn!(error = %status, "the kubernetes Service does not lead here");
            Ok(())
        }
        other => other,
    }
}

fn watches(server: &ApiServer) -> Vec<WatchStream> {
    let store = server.storage.store();
    let from = store.revision() + 1;
    let resource = |group, plural| api::resource(group, "v1", plural);
    let whole = [
        resource(policy::GROUP, "clusterroles"),
        resource("", "namespaces"),
        resource(flow_control::GROUP, "flowschemas"),
        resource(flow_control::GROUP, "prioritylevelconfigurations"),
    ];
    let mut ranges: Vec<KeyRange> =
        whole.into_iter().flatten().filter_map(|r| crate::storage::range(r, "", None).ok()).collect();
    ranges.extend(
        addresses::resources()
            .and_then(|(_, cidrs)| crate::storage::range(cidrs, "", Some(addresses::DEFAULT)).ok()),
    );
    for (group, plural) in [("", "services"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices")] {
        let range = resource(group, plural)
            .and_then(|r| crate::storage::range(r, "default", Some("kubernetes")).ok());
        ranges.extend(range);
    }
    ranges.push(presence::range());
    ranges.into_iter().map(|range| store.watch(Watch::new(range).start_revision(from))).collect()
}

/// Puts right what changes, until the server ends.
async fn follow(server: Arc<ApiServer>, mut watches: Vec<WatchStream>) {
    loop {
        let next = select_all(watches.iter_mut().map(|w| w.next().boxed()));
        let broken = tokio::select! {
            biased;
            () = server.shutdown.cancelled() => return,
            (event, ..) = next => !matches!(event, Some(Ok(_))),
        };
        if broken {
            // Far behind, or the store stops; the shutdown follows then.
            tokio::time::sleep(RETRY).await;
            watches = self::watches(&server);
        }
        // What else has come by now is done with the same.
        for watch in &mut watches {
            while let Some(Some(Ok(_))) = watch.next().now_or_never() {}
        }
        for result in [sum_up_roles(&server).await, judge_flow_schemas(&server).await, keep(&server).await] {
            if let Err(status) = result {
                if server.shutdown.is_cancelled() {
                    return;
                }
                tracing::warn!(error = %status, "keeping the cluster's own objects");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Writes the rules of aggregated cluster roles where they are not what their parts say.
async fn sum_up_roles(server: &Arc<ApiServer>) -> Result<(), Status> {
    let Some(resource) = api::resource(policy::GROUP, "v1", "clusterroles") else { return Ok(()) };
    let roles = server.storage.read_all(resource, "");
    for role in reconcile::aggregate(&roles) {
        match write(server, resource, Method::PUT, &role).await {
            // Somebody else was quicker: their write is an event, and we come by again.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Writes on flow schemas whether the priority level that they name is there.
async fn judge_flow_schemas(server: &Arc<ApiServer>) -> Result<(), Status> {
    let resource = |plural| api::resource(flow_control::GROUP, "v1", plural);
    let (Some(schemas), Some(levels)) = (resource("flowschemas"), resource("prioritylevelconfigurations"))
    else {
        return Ok(());
    };
    let all = |resource| server.storage.read_all(resource, "");
    let now = apimachinery::time::format(server.clock.now());
    for schema in flow_control::judged(&all(schemas), &all(levels), &now) {
        match write_to(server, schemas, "status", Method::PUT, &schema).await {
            // Somebody else was quicker: their write is an event, and we come by again.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Makes each object, or changes it as `reconcile` says. All at once, so that the store writes them together.
pub(crate) async fn ensure_all(
    server: &Arc<ApiServer>,
    objects: Vec<Value>,
    reconcile: Reconcile,
) -> Result<(), Status> {
    let all = objects.iter().map(|object| ensure(server, object, reconcile));
    join_all(all).await.into_iter().collect()
}

async fn ensure(server: &Arc<ApiServer>, expected: &Value, reconcile: Reconcile) -> Result<(), Status> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&expected["apiVersion"]), text(&expected["kind"]));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let Some(resource) = api::resources().by_kind(group, version, &kind) else {
        return Err(Status::internal(format_args!("no kind {kind} in version {api_version}")));
    };
    let namespace = text(&expected["metadata"]["namespace"]);
    let name = text(&expected["metadata"]["name"]);
    // Others may write at the same time; a lost race is looked at again.
    for _ in 0..5 {
        let result = match server.storage.read(resource, &namespace, &name)? {
            None => write(server, resource, Method::POST, expected).await,
            Some(existing) => match reconcile(&existing, expected) {
                Change::Nothing => return Ok(()),
                Change::Update(object) => write(server, resource, Method::PUT, &object).await,
                Change::Recreate => match write(server, resource, Method::DELETE, expected).await {
                    Ok(()) => write(server, resource, Method::POST, expected).await,
                    refused => refused,
                },
            },
        };
        match result {
            Err(s) if s.is_conflict() || s.is_already_exists() || s.is_not_found() => {}
            other => return other,
        }
    }
    Err(Status::internal(format_args!("writing {kind} {name}: too many writers")))
}

async fn write(
    server: &Arc<ApiServer>,
    resource: &Resource,
    method: Method,
    object: &Value,
) -> Result<(), Status> {
    write_to(server, resource, "", method, object).await
}

async fn write_to(
    server: &Arc<ApiServer>,
    resource: &Resource,
    subresource: &str,
    method: Method,
    object: &Value,
) -> Result<(), Status> {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let mut path = match &*resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    if resource.namespaced {
        path.push_str(&format!("/namespaces/{}", text("namespace")));
    }
    path.push_str(&format!("/{}", resource.plural));
    if method != Method::POST {
        path.push_str(&format!("/{}", text("name")));
    }
    if !subresource.is_empty() {
        path.push_str(&format!("/{subresource}"));
    }
    let body = (method != Method::DELETE).then_some(object);
    server.call(UserInfo::loopback(), method, &path, body).await.map(|_| ())
}
