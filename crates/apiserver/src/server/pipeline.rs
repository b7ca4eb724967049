//! The way of a request, in one function: what is asked → who asks → may they → answer.

use std::{sync::Arc, time::Duration};

use apimachinery::{field, status::Status};
use futures::FutureExt as _;
use http::{HeaderValue, Request, Response, header};
use serde_json::Value;
use tokio::time::timeout;

use super::{ApiServer, Body, Peer, audit, flow, headers};
use crate::{
    aggregator, authentication, authorization, discovery, handlers, health, metrics, metrics_api,
    negotiation, openapi,
    registry::generic::Scope,
    request::{Query, RequestInfo, UserInfo},
    response,
};

impl ApiServer {
    /// Answers one request. Never fails: every fault is an answer.
    pub async fn handle(self: &Arc<Self>, peer: Peer, request: Request<Body>) -> Response<Body> {
        let audit_id = self.audit_ids.of(request.headers());
        let origin = self.settings.headers.origin(request.headers());
        if headers::Extra::is_preflight(origin.as_ref(), request.method()) {
            let mut response = response::text(204, "");
            response.headers_mut().clear();
            self.settings.headers.add(origin, response.headers_mut());
            return response;
        }
        let query = Query::parse(request.uri().query());
        let output = negotiation::for_error(request.headers(), &query);
        let mut response = match RequestInfo::new(request.method(), request.uri(), &query) {
            Ok(info) => {
                let measured = metrics::start(self, &info);
                let response = match self.answer(peer, &info, &query, request, output).await {
                    Ok(response) => response,
                    Err(status) => response::status(&status, output),
                };
                metrics::finish(self, measured, &info, response)
            }
            // Before there is anything to negotiate: upstream's `InternalError`.
            Err(why) => {
                let path = field::quote(request.uri().path());
                response::text(
                    500,
                    &format!("Internal Server Error: {path}: failed to create RequestInfo: {why}"),
                )
            }
        };
        let no_cache = HeaderValue::from_static("no-cache, private");
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_cache);
        response.headers_mut().insert(audit::HEADER, audit_id);
        self.settings.headers.add(origin, response.headers_mut());
        response
    }

    async fn answer(
        self: &Arc<Self>,
        peer: Peer,
        info: &RequestInfo,
        query: &Query,
        request: Request<Body>,
        output: negotiation::Output,
    ) -> Result<Response<Body>, Status> {
        let patience = match info.is_long_running() {
            true => None,
            false => Some(deadline(query, self.settings.request_timeout)?),
        };
        let user = self.authenticate(&peer, info, request.headers()).await?;
        let admitted = match self.flow.admit(self.storage.store(), &user, info, query).await {
            Ok(admitted) => admitted,
            Err((admitted, _)) => return Ok(flow::refused(&admitted)),
        };
        let answer = self.dispatch(&user, info, query, request);
        let answer = match patience {
            None => answer.await,
            Some(patience) => timeout(patience, answer).await.unwrap_or_else(|_| {
                Err(Status::timeout(
                    "request did not complete within the requested timeout - context deadline exceeded",
                    0,
                ))
            }),
        };
        let mut response = answer.unwrap_or_else(|status| response::status(&status, output));
        admitted.mark(response.headers_mut());
        Ok(response)
    }

    async fn dispatch(
        self: &Arc<Self>,
        user: &Arc<UserInfo>,
        info: &RequestInfo,
        query: &Query,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let attributes = authorization::Attributes::from(info);
        let decision = self.authorizer.ask(user, &attributes).await;
        if let (false, Some(why)) = (decision.is_allowed(), decision.reason().failure()) {
            self.metrics.authorized(false);
            let path = field::quote(request.uri().path());
            return Ok(response::text(500, &format!("Internal Server Error: {path}: {why}")));
        }
        self.check(user, &attributes, &decision)?;
        let store = self.storage.store();
        let elsewhere = self.aggregator.elsewhere(store, &info.path);
        if let Some(service) = elsewhere.or_else(|| self.aggregator.document_elsewhere(store, &info.path)) {
            return Ok(aggregator::forward(self, &service, user, info, request).boxed().await);
        }
        if metrics_api::serves(self, &info.path) {
            return metrics_api::handle(self, info, query, request).boxed().await;
        }
        if info.is_resource_request {
            return handlers::resource(self, user, info, query, request).await;
        }
        let special = health::handle(self, info, query, &request)
            .or_else(|| metrics::handle(self, info, query, &request))
            .or_else(|| discovery::handle(self, info, query, &request))
            .or_else(|| openapi::handle(self, info, query, &request))
            .or_else(|| flow::handle(self, info));
        match special {
            Some(answer) => Ok(answer),
            // A route was looked for there.
            None if self.has_routes(&info.path) => Err(response::no_route()),
            None => Ok(response::not_found()),
        }
    }

    /// Whether upstream would look for a route below this path.
    fn has_routes(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["api" | "version", ..] => true,
            ["apis", group, ..] => self.served.iter().any(|r| *r.group == **group),
            _ => false,
        }
    }

    async fn authenticate(
        self: &Arc<Self>,
        peer: &Peer,
        info: &RequestInfo,
        headers: &http::HeaderMap,
    ) -> Result<Arc<UserInfo>, Status> {
        let now = self.clock.now();
        let found = self.authenticator.identify(peer, headers, &info.path, &self.lookup(), now);
        let found = found.await;
        self.metrics.authenticated(found.as_deref().ok());
        let user = found?;
        let request = authorization::Attributes::from(info);
        authentication::impersonation::impersonate(user, headers, &request, &|user, wanted| {
            self.authorize(user, wanted).map_err(Box::new)
        })
    }

    /// 403 in upstream's words, unless the user may.
    pub fn authorize(
        &self,
        user: &UserInfo,
        attributes: &authorization::Attributes<'_>,
    ) -> Result<(), Status> {
        self.check(user, attributes, &self.authorizer.decide(user, attributes))
    }

    fn check(
        &self,
        user: &UserInfo,
        attributes: &authorization::Attributes<'_>,
        decision: &authorization::Decision,
    ) -> Result<(), Status> {
        self.metrics.authorized(decision.is_allowed());
        if decision.is_allowed() {
            return Ok(());
        }
        Err(authorization::forbidden(user, attributes, decision.reason()))
    }

    /// An update that makes the object needs the right to create it, too.
    pub fn authorize_create(&self, scope: &Scope<'_>) -> Result<(), Status> {
        let attributes = authorization::Attributes {
            is_resource: true,
            verb: "create",
            group: &scope.resource.group,
            version: &scope.resource.version,
            resource: &scope.resource.plural,
            subresource: scope.subresource,
            namespace: scope.namespace,
            name: scope.name,
            ..authorization::Attributes::default()
        };
        self.authorize(scope.user, &attributes)
    }

    /// Reads stored objects of the core group by `(resource, namespace, name)`.
    pub(crate) fn lookup(
        self: &Arc<Self>,
    ) -> impl Fn(&str, &str, &str) -> Option<Value> + Send + Sync + 'static {
        let server = self.clone();
        move |plural, namespace, name| {
            let resource = api::resource("", "v1", plural)?;
            server.storage.read(resource, namespace, name).ok().flatten()
        }
    }

    /// A request of the server itself or of its tests: the whole chain, with JSON in and out.
    ///
    /// # Errors
    /// The Status of an answer that is not a success.
    pub async fn call(
        self: &Arc<Self>,
        user: UserInfo,
        method: http::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Status> {
        let bytes = body.map(|b| serde_json::to_vec(b).unwrap_or_default()).unwrap_or_default();
        let content_type =
            if method == http::Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::USER_AGENT, "kube-apiserver/v1.36")
            .body(super::body(bytes))
            .map_err(Status::internal)?;
        let response = self.handle(Peer::Identity(user), request).await;
        let code = response.status();
        let bytes = response::read(response.into_body(), usize::MAX).await?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Status::internal(format_args!("reading the answer to {path}: {e}")))?;
        if code.is_success() {
            return Ok(value);
        }
        Err(serde_json::from_value(value).unwrap_or_else(Status::internal))
    }
}

/// How long a request may take: `?timeout=`, but not longer than the server allows.
fn deadline(query: &Query, most: Duration) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else { return Ok(most) };
    let bad = |why: &dyn std::fmt::Display| {
        Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))
    };
    let asked = apimachinery::time::parse_duration(text)
        .map_err(|_| bad(&format_args!("time: invalid duration {}", field::quote(text))))?;
    match u64::try_from(asked) {
        Ok(0) => Ok(most),
        Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds).min(most)),
        // Upstream lets a time before now pass.
        Err(_) => Ok(most),
    }
}
