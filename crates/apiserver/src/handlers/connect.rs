//! Requests that a node answers: `pods/{log,exec,attach,portforward}`; what is proxied is in [`super::proxied`].

use apimachinery::status::Status;
use http::{Request, Response};
use serde_json::Value;

use super::Call;
use crate::{
    authorization,
    proxy::{Backend, Route, location},
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
    if subresource == "proxy" {
        return super::proxied::proxy(call, request).await;
    }
    let pod = call.server.storage.read(call.resource, call.namespace(), &call.info.name)?;
    let pod = pod.ok_or_else(|| call.not_found())?;
    let Some(path_and_query) = location::of_pod(&pod, subresource, call.query)? else {
        // No node, no log: an empty answer, as upstream's.
        return Ok(response::empty(204));
    };
    let (host, port) = kubelet_of(call, location::node_of(&pod))?;
    let answer = kubelets(call)?.forward(&Route { host, port, path_and_query }, request).await?;
    if subresource == "log" && !answer.status().is_success() {
        return Err(log_failure(call, answer).await);
    }
    Ok(answer)
}

/// Address and port of a node's kubelet.
pub(super) fn kubelet_of(call: &Call<'_>, node: &str) -> Result<(String, u16), Status> {
    let nodes = api::resource("", "v1", "nodes").ok_or_else(|| Status::internal("nodes are not served"))?;
    let found = call.server.storage.read(nodes, "", node)?;
    let found = found.ok_or_else(|| Status::not_found("", "nodes", node))?;
    let settings = &call.server.settings;
    location::of_node(&found, &settings.kubelet_address_types, settings.kubelet_port)
}

pub(super) fn kubelets<'a>(call: &'a Call<'_>) -> Result<&'a Backend, Status> {
    let missing = || Status::service_unavailable("the API server has no credentials for kubelets");
    call.server.kubelets.as_ref().ok_or_else(missing)
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
