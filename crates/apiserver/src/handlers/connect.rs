//! Requests that a node answers: `pods/{log,exec,attach,portforward}`, `nodes/proxy`.

use apimachinery::status::Status;
use http::{Request, Response};
use serde_json::Value;

use super::Call;
use crate::{
    authorization,
    proxy::{Route, location},
    request::Operation,
    response,
    server::Body,
};

pub(super) async fn connect(call: &Call<'_>, request: Request<Body>) -> Result<Response<Body>, Status> {
    if call.query.get("dryRun").is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    let subresource = &*call.info.subresource;
    if matches!(subresource, "exec" | "attach" | "portforward") {
        // A WebSocket comes as a GET; it does what a POST does (kubernetes issue 133515).
        let attributes =
            authorization::Attributes { verb: "create", ..authorization::Attributes::from(call.info) };
        call.server.authorize(call.user, &attributes)?;
    }
    if subresource != "log" {
        let scope = call.scope();
        scope.admit(Operation::Connect, &mut Value::Null, None, false).await?;
        scope.check(Operation::Connect, &Value::Null, None, false).await?;
    }
    let (node, path_and_query) = if call.resource.plural == "nodes" {
        (call.info.name.clone(), node_path(call))
    } else if subresource == "proxy" {
        return Ok(response::not_found());
    } else {
        let pod = call.server.storage.read(call.resource, call.namespace(), &call.info.name)?;
        let pod = pod.ok_or_else(|| call.not_found())?;
        let Some(path) = location::of_pod(&pod, subresource, call.query)? else {
            // No node, no log: an empty answer, as upstream's.
            return Ok(response::empty(204));
        };
        (location::node_of(&pod).to_owned(), path)
    };
    let route = route(call, &node, path_and_query)?;
    let Some(kubelets) = &call.server.kubelets else {
        return Err(Status::service_unavailable("the API server has no credentials for kubelets"));
    };
    let answer = kubelets.forward(&route, request).await?;
    if subresource == "log" && !answer.status().is_success() {
        return Err(log_failure(call, answer).await);
    }
    Ok(answer)
}

fn route(call: &Call<'_>, node: &str, path_and_query: String) -> Result<Route, Status> {
    let nodes = api::resource("", "v1", "nodes").ok_or_else(|| Status::internal("nodes are not served"))?;
    // `name:port` and `scheme:name:port` name other ports of the node; only its kubelet is reached here.
    let name = node.split(':').find(|part| !matches!(*part, "http" | "https")).unwrap_or(node);
    let found = call.server.storage.read(nodes, "", name)?;
    let found = found.ok_or_else(|| Status::not_found("", "nodes", name))?;
    let settings = &call.server.settings;
    let (host, port) = location::of_node(&found, &settings.kubelet_address_types, settings.kubelet_port)?;
    Ok(Route { host, port, path_and_query })
}

/// What follows `/proxy` in the path, with the query as it came.
fn node_path(call: &Call<'_>) -> String {
    let mut path = String::new();
    for part in call.info.parts.iter().skip(3) {
        path.push('/');
        path.push_str(&location::escape(part));
    }
    if path.is_empty() {
        path.push('/');
    }
    let query: Vec<String> = call
        .query
        .iter()
        .map(|(key, value)| format!("{}={}", location::escape(key), location::escape(value)))
        .collect();
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query.join("&"));
    }
    path
}

/// The kubelet's complaint as a Status.
async fn log_failure(call: &Call<'_>, answer: Response<Body>) -> Status {
    let code = answer.status().as_u16();
    let text = response::read(answer.into_body(), 50 * 1024).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let about = (&*call.resource.group, "pods/log", &*call.info.name);
    if code == 500 {
        return Status::internal(text.trim());
    }
    Status::generic_server_response(code, call.method.as_str(), about, text.trim(), 0, false)
}
