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
mod source;
mod subresource;
mod table;
mod transform;
mod update;
mod watch;

use std::sync::Arc;

use apimachinery::{
    schema::{Resource, ResourceRef, Subresource},
    status::Status,
};
use client::streaming::websocket;
use http::{HeaderMap, Method, Request, Response, header};
use hyper::upgrade::OnUpgrade;

use crate::{
    custom, negotiation,
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
    pub resource: &'a ResourceRef,
    pub subresource: Option<&'a Subresource>,
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
    let found = found.filter(|r| server.served.has(r)).map(ResourceRef::from);
    let custom = || server.catalog.find(&info.api_group, &info.api_version, &info.resource);
    let Some(resource) = found.or_else(custom) else {
        // Under a served group somebody looked for a route, under no group nobody did.
        let group = &info.api_group;
        let known = group.is_empty()
            || server.served.iter().any(|r| *r.group == **group)
            || server.catalog.has_group(group);
        return if known { Err(response::no_route()) } else { Ok(response::not_found()) };
    };
    let resource = &resource;
    let subresource = match &*info.subresource {
        "" => None,
        name => match resource.subresource(name) {
            Some(found) => Some(found),
            None => return Err(response::no_route()),
        },
    };
    if !path_exists(resource, info) {
        return Err(response::no_route());
    }
    let verbs = subresource.map_or(&resource.verbs, |s| &s.verbs);
    // What is proxied may be asked with any of these; OPTIONS is no verb of ours.
    let proxied = &*info.subresource == "proxy" && *request.method() == http::Method::OPTIONS;
    let named = info.parts.len() > 1;
    let everywhere = resource.namespaced && info.namespace.is_empty();
    let misplaced = match &*info.verb {
        "create" => named && subresource.is_none() || everywhere,
        "update" | "patch" => !named,
        "deletecollection" => everywhere,
        // Routes are there for GET, and HEAD is another method to them.
        _ => *request.method() == Method::HEAD && info.subresource != "proxy",
    };
    if !proxied && (misplaced || !verbs.iter().any(|verb| *verb == info.verb)) {
        return Err(response::wrong_method());
    }
    if info.subresource != "proxy" {
        negotiation::route(request.headers(), streams(info))?;
    }
    let (mut parts, body) = request.into_parts();
    let connects = matches!(&*info.subresource, "log" | "exec" | "attach" | "portforward" | "proxy");
    let headers = if connects { parts.headers.clone() } else { std::mem::take(&mut parts.headers) };
    let method = parts.method.clone();
    let warnings = Warnings::default();
    if let Some((.., said)) = DEPRECATED.iter().find(|(group, version, kind, _)| {
        *resource.group == **group && *resource.version == **version && *resource.kind == **kind
    }) {
        warnings.add(*said);
    }
    if let Some(said) = custom::of(resource).and_then(|custom| custom.facts().warning.as_deref()) {
        warnings.add(said);
    }
    let call = Call { server, user, info, query, headers, method, resource, subresource, warnings };
    if connects {
        return connect::connect(&call, Request::from_parts(parts, body)).await;
    }
    let mut response = match (&*info.verb, &*info.subresource) {
        ("get", "scale") => subresource::get_scale(&call).await,
        ("get", _) if resource.storage.is_none() => Err(call.not_found()),
        ("get", _) => get::get(&call).await,
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
                let output = negotiation::for_error(&call.headers, query);
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

/// Versions of kinds that are on their way out, and what every request for them is told.
const DEPRECATED: [(&str, &str, &str, &str); 2] = [
    ("", "v1", "ComponentStatus", "v1 ComponentStatus is deprecated in v1.19+"),
    ("", "v1", "Endpoints", "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
];

/// The forms that a path's answers may have besides the usual ones.
fn streams(info: &RequestInfo) -> negotiation::Route {
    match (&*info.verb, &*info.subresource) {
        (_, "exec" | "attach" | "portforward" | "proxy") => negotiation::Route::Anything,
        (_, "log") => negotiation::Route::Text,
        ("list" | "watch", _) => negotiation::Route::List,
        _ => negotiation::Route::Object,
    }
}

/// Upstream registers these paths and no others.
fn path_exists(resource: &Resource, info: &RequestInfo) -> bool {
    let proxies = matches!(&*info.subresource, "proxy");
    if info.parts.len() > 3 && !proxies {
        return false;
    }
    // `/api/v1/namespaces/x` names the object x, not a namespace for it.
    let itself = resource.plural == "namespaces"
        && resource.group.is_empty()
        && info.parts.get(1).is_some_and(|name| *name == info.namespace);
    let in_namespace = !info.namespace.is_empty() && !itself;
    match (resource.namespaced, in_namespace) {
        (true, false) => info.parts.len() == 1 && resource.has_verb("list"),
        (false, true) => false,
        _ => true,
    }
}
