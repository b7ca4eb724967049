//! Requests about resources: which handler answers, one file per verb.

mod body;
mod connect;
mod create;
mod delete;
mod frames;
mod get;
mod list;
pub mod options;
mod patch;
mod proxied;
mod respond;
mod subresource;
mod table;
mod transform;
mod update;
mod watch;

use std::sync::Arc;

use apimachinery::{
    schema::{Resource, Subresource},
    status::Status,
};
use client::streaming::websocket;
use http::{HeaderMap, Method, Request, Response, header};
use hyper::upgrade::OnUpgrade;

use crate::{
    registry::generic::{Scope, Warnings},
    request::{Query, RequestInfo, UserInfo},
    response,
    server::{ApiServer, Body},
    streaming,
};

/// A request about a resource, all but its body.
pub(crate) struct Call<'a> {
    pub server: &'a Arc<ApiServer>,
    pub user: &'a Arc<UserInfo>,
    pub info: &'a RequestInfo,
    pub query: &'a Query,
    pub headers: HeaderMap,
    pub method: Method,
    pub resource: &'static Resource,
    pub subresource: Option<&'static Subresource>,
    pub warnings: Warnings,
}

impl Call<'_> {
    fn user_agent(&self) -> &str {
        self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The request's scope for the engine.
    fn scope(&self) -> Scope<'_> {
        self.scope_of(&self.info.name)
    }

    fn scope_of<'b>(&'b self, name: &'b str) -> Scope<'b> {
        Scope {
            server: self.server,
            user: self.user,
            user_agent: self.user_agent(),
            verb: &self.info.verb,
            resource: self.resource,
            subresource: &self.info.subresource,
            kind: self.subresource.map_or(&*self.resource.kind, |s| &*s.kind.kind),
            namespace: self.namespace(),
            name,
            warnings: &self.warnings,
        }
    }

    /// The namespace of the object: a Namespace itself has none.
    fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.info.namespace } else { "" }
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, &self.info.name)
    }
}

/// Finds the resource and lets the verb's handler answer.
pub(crate) async fn resource(
    server: &Arc<ApiServer>,
    user: &Arc<UserInfo>,
    info: &RequestInfo,
    query: &Query,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let found = api::resource(&info.api_group, &info.api_version, &info.resource);
    let found = found.filter(|r| server.served.has(r));
    let Some(resource) = found else { return Ok(response::not_found()) };
    let subresource = match &*info.subresource {
        "" => None,
        name => match resource.subresource(name) {
            Some(found) => Some(found),
            None => return Ok(response::not_found()),
        },
    };
    if !path_exists(resource, info) {
        return Ok(response::not_found());
    }
    let verbs = subresource.map_or(&resource.verbs, |s| &s.verbs);
    // What is proxied may be asked with any of these; OPTIONS is no verb of ours.
    let proxied = &*info.subresource == "proxy" && *request.method() == http::Method::OPTIONS;
    let named = info.parts.len() > 1;
    let misplaced = match &*info.verb {
        "create" => named && subresource.is_none(),
        "update" | "patch" => !named,
        _ => false,
    };
    if !proxied && (misplaced || !verbs.iter().any(|verb| *verb == info.verb)) {
        return Err(Status::generic_server_response(
            405,
            "",
            ("", "", ""),
            "405: Method Not Allowed",
            0,
            false,
        ));
    }
    let (mut parts, body) = request.into_parts();
    let connects = matches!(&*info.subresource, "log" | "exec" | "attach" | "portforward" | "proxy");
    let headers = if connects { parts.headers.clone() } else { std::mem::take(&mut parts.headers) };
    let method = parts.method.clone();
    let warnings = Warnings::default();
    let call = Call { server, user, info, query, headers, method, resource, subresource, warnings };
    if connects {
        return connect::connect(&call, Request::from_parts(parts, body)).await;
    }
    let mut response = match (&*info.verb, &*info.subresource) {
        ("get", "scale") => subresource::get_scale(&call),
        ("get", _) if resource.storage.is_none() => Err(call.not_found()),
        ("get", _) => get::get(&call),
        // Nothing of it is stored, so there is nothing to show (ComponentStatus).
        ("list", "") if resource.storage.is_none() => list::empty(&call),
        ("list", "") => list::list(&call).await,
        ("watch", "") => match parts.extensions.remove::<OnUpgrade>() {
            Some(upgrade) if websocket::is_request(&call.headers) => watch::watch(&call)
                .await
                .map(|answer| streaming::watch(&call.method, &call.headers, upgrade, answer)),
            _ => watch::watch(&call).await,
        },
        ("create", "") => create::create(&call, body).await,
        ("create", _) => subresource::create(&call, body).await,
        ("update", "scale") => subresource::update_scale(&call, body).await,
        ("update", _) => update::update(&call, body).await,
        ("patch", "scale") => subresource::patch_scale(&call, body).await,
        ("patch", _) => patch::patch(&call, body).await,
        ("delete", "") => delete::delete(&call, body).await,
        ("deletecollection", "") => delete::delete_collection(&call, body).await,
        _ => Ok(response::not_found()),
    };
    let warnings = call.warnings.take();
    if !warnings.is_empty() {
        let response = match &mut response {
            Ok(response) => response,
            Err(status) => {
                let output = crate::negotiation::for_error(&call.headers, query);
                response = Ok(response::status(status, output));
                match &mut response {
                    Ok(response) => response,
                    Err(_) => unreachable!("just set"),
                }
            }
        };
        response::add_warnings(response.headers_mut(), &warnings);
    }
    response
}

/// Upstream registers these paths and no others.
fn path_exists(resource: &Resource, info: &RequestInfo) -> bool {
    let proxies = matches!(&*info.subresource, "proxy");
    if info.parts.len() > 3 && !proxies {
        return false;
    }
    // `/api/v1/namespaces/x` names the object x, not a namespace for it.
    let in_namespace =
        !(info.namespace.is_empty() || resource.plural == "namespaces" && resource.group.is_empty());
    match (resource.namespaced, in_namespace) {
        (true, false) => info.parts.len() == 1 && matches!(&*info.verb, "list" | "watch"),
        (false, true) => false,
        _ => true,
    }
}
