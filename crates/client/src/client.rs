//! Typed requests.

use std::sync::Arc;

use api::meta::v1::{DeleteOptions, ListMeta};
use apimachinery::status::{Status, reason};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::request::{Query, path};
use crate::{
    Body, Dynamic, Error, Gvr, Kind, ListParams, Metrics, Object, Patch, Result, Transport, WatchStream,
};

/// Upstream's REST client tries again this often when the server says when to come back.
const MAX_RETRIES: u32 = 10;

/// JSON, the only content that this client asks for.
pub(crate) const JSON: &str = "application/json";

/// A handle on an API server. Cheap to clone; all clones share one transport.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: HeaderValue,
    /// Where requests are counted, and under which server's name.
    metrics: Option<(Metrics, Arc<str>)>,
}

/// An answered list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct List<T> {
    /// Revision, continue token and how many remain.
    #[serde(default)]
    pub metadata: ListMeta,
    /// In the server's order: by key.
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    pub items: Vec<T>,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

impl Client {
    /// A client over a transport. `user_agent` such as `kube-scheduler/v1.36.2`; text that no header can
    /// carry is left out.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Client {
        let user_agent =
            HeaderValue::from_str(user_agent).unwrap_or_else(|_| HeaderValue::from_static("corten"));
        Client { transport, user_agent, metrics: None }
    }

    /// The same server under another user agent.
    pub fn with_user_agent(&self, user_agent: &str) -> Client {
        Client { metrics: self.metrics.clone(), ..Client::new(self.transport.clone(), user_agent) }
    }

    /// The same, counting its requests; `host` is the server's name in what is counted.
    pub fn with_metrics(self, metrics: &Metrics, host: &str) -> Client {
        Client { metrics: Some((metrics.clone(), Arc::from(host))), ..self }
    }

    /// The same, counting its requests where `other` does.
    pub fn counting_as(self, other: &Client) -> Client {
        Client { metrics: other.metrics.clone(), ..self }
    }

    /// Where its requests are counted.
    pub fn metrics(&self) -> Option<&Metrics> {
        self.metrics.as_ref().map(|(metrics, _)| metrics)
    }

    /// Requests over resources whose kind is not known at compile time.
    pub fn dynamic(&self, gvr: &Gvr) -> Dynamic {
        Dynamic::new(self.clone(), gvr.clone())
    }

    /// Reads one object. `namespace` is empty for cluster-scoped kinds, here and below.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<K> {
        self.call(Method::GET, one(&K::gvr(), namespace, name, "")?, "", Bytes::new()).await
    }

    /// Lists one namespace, or with an empty `namespace` all of them.
    pub async fn list<K: Kind>(&self, namespace: &str, params: &ListParams) -> Result<List<K>> {
        self.list_as(&K::gvr(), namespace, params, JSON).await
    }

    /// Watches one namespace, or with an empty `namespace` all of them. Bookmarks are asked for.
    pub async fn watch<K: Kind>(&self, namespace: &str, params: &ListParams) -> Result<WatchStream<K>> {
        self.watch_as(&K::gvr(), namespace, params, JSON).await
    }

    /// Creates an object in the namespace that it names.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K> {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        self.call(Method::POST, path(&K::gvr(), namespace, "", "")?, JSON, json(object)?).await
    }

    /// Replaces an object; its resourceVersion, if set, must be the current one.
    pub async fn update<K: Kind>(&self, object: &K) -> Result<K> {
        self.update_subresource(object, "").await
    }

    /// Replaces an object's status.
    pub async fn update_status<K: Kind>(&self, object: &K) -> Result<K> {
        self.update_subresource(object, "status").await
    }

    /// Replaces an object through one of its subresources.
    pub async fn update_subresource<K: Kind>(&self, object: &K, subresource: &str) -> Result<K> {
        let meta = object.metadata();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        self.call(Method::PUT, one(&K::gvr(), namespace, name, subresource)?, JSON, json(object)?).await
    }

    /// Changes an object.
    pub async fn patch<K: Kind>(&self, namespace: &str, name: &str, patch: &Patch) -> Result<K> {
        self.patch_subresource(namespace, name, patch, "").await
    }

    /// Changes an object's status.
    pub async fn patch_status<K: Kind>(&self, namespace: &str, name: &str, patch: &Patch) -> Result<K> {
        self.patch_subresource(namespace, name, patch, "status").await
    }

    /// Changes an object through one of its subresources.
    pub async fn patch_subresource<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
        subresource: &str,
    ) -> Result<K> {
        self.patch_as(&K::gvr(), namespace, name, patch, subresource, JSON).await
    }

    /// Deletes an object. The answer (the object while it terminates, or a `Status`) is not returned.
    pub async fn delete<K: Kind>(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<()> {
        self.delete_as(&K::gvr(), namespace, name, options).await
    }

    /// Deletes everything that the parameters select in a namespace.
    pub async fn delete_collection<K: Kind>(
        &self,
        namespace: &str,
        options: &DeleteOptions,
        params: &ListParams,
    ) -> Result<()> {
        self.delete_collection_as(&K::gvr(), namespace, options, params).await
    }

    /// Posts to a subresource: bindings, evictions, tokens. `R` is what the answer reads as
    /// (`serde_json::Value` when it does not matter).
    pub async fn create_subresource<K: Kind, B: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R> {
        self.call(Method::POST, one(&K::gvr(), namespace, name, subresource)?, JSON, json(body)?).await
    }

    /// Sends a request as it is, with the user agent added, and hands back the answer whatever its code.
    /// The URI is path and query only.
    pub async fn raw(&self, mut request: Request<Bytes>) -> Result<Response<Body>> {
        request.headers_mut().insert(header::USER_AGENT, self.user_agent.clone());
        let Some((metrics, host)) = &self.metrics else { return Ok(self.transport.send(request).await?) };
        let (method, begun) = (request.method().clone(), tokio::time::Instant::now());
        let answer = self.transport.send(request).await;
        let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        metrics.request(method.as_str(), host, code, begun.elapsed());
        Ok(answer?)
    }

    /// Reads a path as JSON: `/version`, `/healthz?verbose` and the like need [`Client::raw`].
    pub async fn get_path<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path.into(), "", Bytes::new()).await
    }

    pub(crate) async fn list_as<T: DeserializeOwned>(
        &self,
        gvr: &Gvr,
        namespace: &str,
        params: &ListParams,
        accept: &'static str,
    ) -> Result<List<T>> {
        let mut query = Query::default();
        params.query(&mut query);
        let uri = query.on(path(gvr, namespace, "", "")?);
        self.call_accepting(Method::GET, uri, "", accept, Bytes::new()).await
    }

    pub(crate) async fn watch_as<O: Object>(
        &self,
        gvr: &Gvr,
        namespace: &str,
        params: &ListParams,
        accept: &'static str,
    ) -> Result<WatchStream<O>> {
        let mut query = Query::default();
        query.text("watch", "true");
        query.text("allowWatchBookmarks", "true");
        params.query(&mut query);
        let uri = query.on(path(gvr, namespace, "", "")?);
        let response = self.answer(&Method::GET, &uri, "", accept, &Bytes::new()).await?;
        Ok(WatchStream::new(response.into_body()))
    }

    pub(crate) async fn patch_as<T: DeserializeOwned>(
        &self,
        gvr: &Gvr,
        namespace: &str,
        name: &str,
        patch: &Patch,
        subresource: &str,
        accept: &'static str,
    ) -> Result<T> {
        let mut query = Query::default();
        patch.query(&mut query);
        let uri = query.on(one(gvr, namespace, name, subresource)?);
        self.call_accepting(Method::PATCH, uri, patch.content_type(), accept, json(patch.body())?).await
    }

    pub(crate) async fn delete_as(
        &self,
        gvr: &Gvr,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        let body = delete_body(options)?;
        let uri = one(gvr, namespace, name, "")?;
        self.call::<serde::de::IgnoredAny>(Method::DELETE, uri, JSON, body).await.map(|_| ())
    }

    pub(crate) async fn delete_collection_as(
        &self,
        gvr: &Gvr,
        namespace: &str,
        options: &DeleteOptions,
        params: &ListParams,
    ) -> Result<()> {
        let mut query = Query::default();
        params.query(&mut query);
        let uri = query.on(path(gvr, namespace, "", "")?);
        let body = delete_body(options)?;
        self.call::<serde::de::IgnoredAny>(Method::DELETE, uri, JSON, body).await.map(|_| ())
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        uri: String,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<T> {
        self.call_accepting(method, uri, content_type, JSON, body).await
    }

    pub(crate) async fn call_accepting<T: DeserializeOwned>(
        &self,
        method: Method,
        uri: String,
        content_type: &'static str,
        accept: &'static str,
        body: Bytes,
    ) -> Result<T> {
        let response = self.answer(&method, &uri, content_type, accept, &body).await?;
        let bytes = collect(response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::decode(format!("{method} {uri}: {error}")))
    }

    /// A successful answer, after as many tries as the server asked for with `Retry-After`.
    async fn answer(
        &self,
        method: &Method,
        uri: &str,
        content_type: &'static str,
        accept: &'static str,
        body: &Bytes,
    ) -> Result<Response<Body>> {
        let mut tries = 0;
        loop {
            let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, accept);
            if !content_type.is_empty() {
                request = request.header(header::CONTENT_TYPE, content_type);
            }
            let response = self.raw(request.body(body.clone()).map_err(Error::request)?).await?;
            let code = response.status();
            if code.is_success() {
                return Ok(response);
            }
            let wait = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
                .filter(|_| code.as_u16() == 429 || code.is_server_error());
            match wait {
                Some(seconds) if tries < MAX_RETRIES => {
                    tries += 1;
                    drop(response);
                    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                }
                _ => return Err(failure(code, &collect(response.into_body()).await?)),
            }
        }
    }
}

/// The path of one object; an empty name is a fault of the caller, since it would address the collection.
pub(crate) fn one(gvr: &Gvr, namespace: &str, name: &str, subresource: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::request(format!("{} without a name", gvr.resource)));
    }
    path(gvr, namespace, name, subresource)
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Error::request)
}

fn delete_body(options: &DeleteOptions) -> Result<Bytes> {
    let named = DeleteOptions {
        api_version: Some("v1".into()),
        kind: Some("DeleteOptions".into()),
        ..options.clone()
    };
    json(&named)
}

async fn collect(body: Body) -> Result<Bytes> {
    let collected = body.collect().await.map_err(crate::TransportError::body)?;
    Ok(collected.to_bytes())
}

/// The error of an answer that is no success.
pub(crate) fn failure(code: http::StatusCode, body: &[u8]) -> Error {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        kind: String,
    }
    if serde_json::from_slice::<Head>(body).is_ok_and(|head| head.kind == "Status")
        && let Ok(status) = serde_json::from_slice::<Status>(body)
    {
        return Error::Status(Box::new(status));
    }
    let reason = match code.as_u16() {
        401 => reason::UNAUTHORIZED,
        403 => reason::FORBIDDEN,
        404 => reason::NOT_FOUND,
        410 => reason::GONE,
        429 => reason::TOO_MANY_REQUESTS,
        500 => reason::INTERNAL_ERROR,
        503 => reason::SERVICE_UNAVAILABLE,
        504 => reason::TIMEOUT,
        _ => "Unknown",
    };
    let text: String = String::from_utf8_lossy(body).chars().take(2048).collect();
    let message = if text.trim().is_empty() { format!("the server answered {code}") } else { text };
    Error::Status(Box::new(Status::failure(code.as_u16(), reason, message)))
}
