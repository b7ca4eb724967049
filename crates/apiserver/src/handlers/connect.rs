//! Requests that a node answers: `pods/{log,exec,attach,portforward}`; what is proxied is in [`super::proxied`].

use apimachinery::status::Status;
use client::streaming::{NODE_SPEAKS_WEBSOCKET, remote_command, tunnel, websocket};
use http::{Request, Response, header};
use serde_json::{Value, json};

use super::Call;
use crate::{
    authorization,
    proxy::{Backend, Route, backend::is_upgrade, location, log_options},
    request::{Operation, Options},
    response,
    server::Body,
    streaming,
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
        let mut options = connect_options(call);
        scope.admit(Operation::Connect, &mut options, None, Options::None).await?;
        scope.check(Operation::Connect, &options, None, Options::None).await?;
    }
    if subresource == "proxy" {
        return super::proxied::proxy(call, request).await;
    }
    if subresource == "log" {
        log_options::check(&call.info.name, call.query)?;
    }
    let pod = call.server.storage.read(call.resource, call.namespace(), &call.info.name)?;
    let pod = pod.ok_or_else(|| call.not_found())?;
    let Some(path_and_query) = location::of_pod(&pod, subresource, call.query)? else {
        // No node, no log: an empty answer, as upstream's.
        return Ok(response::empty(204));
    };
    let node = node(call, location::node_of(&pod))?;
    let (host, port) = kubelet_at(call, &node)?;
    let route = Route { host, port, path_and_query };
    if subresource == "log" {
        return log(call, &route, request).await;
    }
    stream(call, &node, route, request).await
}

/// What is asked of the connection, as the object that admission looks at: `PodExecOptions` and the like.
fn connect_options(call: &Call<'_>) -> Value {
    let Some(sub) = call.subresource else { return Value::Null };
    let mut options = json!({"kind": *sub.kind.kind, "apiVersion": sub.kind.group_version().to_string()});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if matches!(&*sub.name, "exec" | "attach") && call.query.flag(flag) {
            options[flag] = true.into();
        }
    }
    for key in ["container", "path"] {
        if let Some(value) = call.query.get(key).filter(|value| !value.is_empty()) {
            options[key] = value.into();
        }
    }
    let command: Vec<&str> = call.query.all("command").collect();
    if !command.is_empty() {
        options["command"] = json!(command);
    }
    let ports: Vec<i64> = call.query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = json!(ports);
    }
    options
}

/// exec, attach and port-forward. Newer clients' WebSockets are turned into SPDY here, unless the kubelet says that
/// it does that (KEP-4006); everything older goes on as it is.
async fn stream(
    call: &Call<'_>,
    node: &Value,
    route: Route,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let kubelet = kubelets(call)?;
    let subresource = &*call.info.subresource;
    let headers = request.headers();
    let tunnelled = subresource == "portforward"
        && websocket::offers(headers, |protocol| tunnel::inner(protocol).is_some());
    let translated = subresource != "portforward"
        && websocket::offers(headers, |protocol| protocol == remote_command::WEBSOCKET_PROTOCOL);
    let features = node["status"]["declaredFeatures"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kubelet_can = features.iter().any(|feature| feature == NODE_SPEAKS_WEBSOCKET);
    if tunnelled || translated {
        call.server.metrics.websocket(subresource, kubelet_can);
    }
    if translated && !kubelet_can {
        let flag = |name: &str| call.query.flag(name);
        let streams = remote_command::Streams {
            stdin: flag("stdin"),
            stdout: flag("stdout"),
            stderr: flag("stderr"),
            tty: flag("tty"),
        };
        return Ok(streaming::command(call.server, kubelet, route, streams, request));
    }
    if tunnelled && !kubelet_can {
        return streaming::port_forward(call.server, kubelet, &route, request).await;
    }
    if !is_upgrade(headers) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    kubelet.forward(&route, request).await
}

/// A container's log, over WebSocket if that is asked for.
async fn log(call: &Call<'_>, route: &Route, mut request: Request<Body>) -> Result<Response<Body>, Status> {
    let upgrade = websocket::is_request(request.headers()).then(|| hyper::upgrade::on(&mut request));
    for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_PROTOCOL] {
        request.headers_mut().remove(name);
    }
    let answer = kubelets(call)?.forward(route, request).await?;
    if !answer.status().is_success() {
        return Err(log_failure(call, answer).await);
    }
    match upgrade {
        Some(upgrade) => Ok(streaming::log(&call.method, &call.headers, upgrade, answer)),
        None => Ok(answer),
    }
}

fn node(call: &Call<'_>, name: &str) -> Result<Value, Status> {
    let nodes = api::resource("", "v1", "nodes").ok_or_else(|| Status::internal("nodes are not served"))?;
    let found = call.server.storage.read(nodes, "", name)?;
    found.ok_or_else(|| Status::not_found("", "nodes", name))
}

fn kubelet_at(call: &Call<'_>, node: &Value) -> Result<(String, u16), Status> {
    let settings = &call.server.settings;
    location::of_node(node, &settings.kubelet_address_types, settings.kubelet_port)
}

/// Address and port of a node's kubelet.
pub(super) fn kubelet_of(call: &Call<'_>, name: &str) -> Result<(String, u16), Status> {
    kubelet_at(call, &node(call, name)?)
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
