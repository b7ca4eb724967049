//! Kubelets are asked what they see when somebody wants to know it, and not more often than every fifteen seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::status::Status;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use http::{Request, header};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::objects::{self, Summary};
use super::{GROUP, Selection};
use crate::proxy::{Backend, Route, location};
use crate::response;
use crate::server::{ApiServer, body};

/// How long an answer is good, and so is none.
const GOOD: Duration = Duration::from_secs(15);
/// How long a kubelet may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many kubelets are asked at once.
const AT_ONCE: usize = 32;
const LARGEST: usize = 16 << 20;
const PATH: &str = "/stats/summary?only_cpu_and_memory=true";

/// What kubelets said last, by node. One question at a time to each; who asks meanwhile gets the same answer.
#[derive(Default)]
pub struct Scrapes(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Option<Scraped>>>>>);

struct Scraped {
    at: Instant,
    summary: Option<Arc<Summary>>,
}

/// NodeMetrics of these nodes, or of one.
pub(super) async fn nodes(
    server: &ApiServer,
    selection: &Selection,
    named: Option<&str>,
) -> Result<Vec<Value>, Status> {
    let all = stored(server, "nodes", "", named)?;
    if named.is_none() {
        let names: BTreeSet<&str> = all.iter().filter_map(|node| node["metadata"]["name"].as_str()).collect();
        let mut known = server.scrapes.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| names.contains(name.as_str()));
    }
    let chosen: Vec<Value> = all.into_iter().filter(|node| selection.takes(node)).collect();
    let summaries = summaries(server, &chosen).await?;
    let now = apimachinery::time::format(server.clock.now());
    let each = chosen.iter().zip(summaries);
    Ok(each.filter_map(|(node, summary)| objects::node(node, &*summary?, &now)).collect())
}

/// PodMetrics of these running pods, or of one.
pub(super) async fn pods(
    server: &ApiServer,
    selection: &Selection,
    namespace: &str,
    named: Option<&str>,
) -> Result<Vec<Value>, Status> {
    let mut chosen = stored(server, "pods", namespace, named)?;
    chosen.retain(|pod| pod["status"]["phase"] == "Running" && selection.takes(pod));
    let names: BTreeSet<&str> =
        chosen.iter().map(location::node_of).filter(|name| !name.is_empty()).collect();
    let mut nodes = Vec::new();
    for name in names {
        nodes.extend(stored(server, "nodes", "", Some(name)).unwrap_or_default());
    }
    let summaries = summaries(server, &nodes).await?;
    let by_node: BTreeMap<&str, Arc<Summary>> = nodes
        .iter()
        .zip(summaries)
        .filter_map(|(node, summary)| Some((node["metadata"]["name"].as_str()?, summary?)))
        .collect();
    let now = apimachinery::time::format(server.clock.now());
    let of = |pod: &Value| objects::pod(pod, by_node.get(location::node_of(pod))?, &now);
    Ok(chosen.iter().filter_map(of).collect())
}

fn stored(
    server: &ApiServer,
    plural: &str,
    namespace: &str,
    named: Option<&str>,
) -> Result<Vec<Value>, Status> {
    let resource = api::resource("", "v1", plural).ok_or_else(|| Status::not_found(GROUP, plural, ""))?;
    let Some(name) = named else { return Ok(server.storage.read_all(resource, namespace)) };
    let found = server.storage.read(resource, namespace, name)?;
    Ok(vec![found.ok_or_else(|| Status::not_found("", plural, name))?])
}

/// What the kubelets of these nodes say, in their order; `None` for one that says nothing.
async fn summaries(server: &ApiServer, nodes: &[Value]) -> Result<Vec<Option<Arc<Summary>>>, Status> {
    let missing = || Status::service_unavailable("the API server has no credentials for kubelets");
    let kubelets = server.kubelets.as_ref().ok_or_else(missing)?;
    let mut found = Vec::with_capacity(nodes.len());
    for some in nodes.chunks(AT_ONCE) {
        found.extend(join_all(some.iter().map(|node| summary(server, kubelets, node).boxed())).await);
    }
    Ok(found)
}

async fn summary(server: &ApiServer, kubelets: &Backend, node: &Value) -> Option<Arc<Summary>> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let kept = {
        let mut known = server.scrapes.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(name.to_owned()).or_default().clone()
    };
    let mut kept = kept.lock().await;
    if let Some(scraped) = kept.as_ref().filter(|scraped| scraped.at.elapsed() < GOOD) {
        return scraped.summary.clone();
    }
    let asked = timeout(PATIENCE, ask(server, kubelets, node)).await;
    let summary = match asked.unwrap_or_else(|_| Err("it did not answer in time".into())) {
        Ok(summary) => Some(Arc::new(summary)),
        Err(why) => {
            tracing::warn!(node = name, %why, "asking a kubelet what is used");
            None
        }
    };
    *kept = Some(Scraped { at: Instant::now(), summary: summary.clone() });
    summary
}

async fn ask(server: &ApiServer, kubelets: &Backend, node: &Value) -> Result<Summary, String> {
    let settings = &server.settings;
    let at = location::of_node(node, &settings.kubelet_address_types, settings.kubelet_port);
    let (host, port) = at.map_err(|status| status.message)?;
    let route = Route { host, port, path_and_query: PATH.into() };
    let request = Request::get(PATH).header(header::ACCEPT, "application/json").body(body(Bytes::new()));
    let request = request.map_err(|e| e.to_string())?;
    let answer = kubelets.forward(&route, request).await.map_err(|status| status.message)?;
    let code = answer.status();
    let text = response::read(answer.into_body(), LARGEST).await.map_err(|status| status.message)?;
    if !code.is_success() {
        return Err(format!("{code}: {}", String::from_utf8_lossy(&text).trim()));
    }
    serde_json::from_slice(&text).map_err(|e| e.to_string())
}
