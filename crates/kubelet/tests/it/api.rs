//! A small API server in memory, as much as a kubelet needs of one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use client::{Body, Transport, TransportError};
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Cheap to clone.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
    log: Vec<Change>,
}

#[derive(Clone)]
struct Change {
    revision: u64,
    kind: &'static str,
    path: String,
    object: Value,
}

/// A path taken apart.
#[derive(Debug, Clone, Default)]
struct Target {
    prefix: String,
    namespace: String,
    resource: String,
    name: String,
    sub: String,
}

fn target(path: &str) -> Target {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let split = if parts[0] == "api" { 2 } else { 3 };
    let mut out = Target { prefix: parts[..split].join("/"), ..Target::default() };
    let mut rest = &parts[split..];
    if rest.len() > 2 && rest[0] == "namespaces" {
        out.namespace = rest[1].into();
        rest = &rest[2..];
    }
    let mut rest = rest.iter().map(|s| (*s).to_owned());
    out.resource = rest.next().unwrap_or_default();
    out.name = rest.next().unwrap_or_default();
    out.sub = rest.next().unwrap_or_default();
    out
}

impl Target {
    fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}/{namespace}/{name}", self.prefix, self.resource)
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Api {
    pub fn new() -> Api {
        Api { state: Arc::default(), changes: Arc::new(watch::Sender::new(0)) }
    }

    fn change(&self, kind: &'static str, path: &str, mut object: Value) -> Value {
        let mut state = self.state.lock().expect("lock");
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        if kind == "DELETED" {
            state.objects.remove(path);
        } else {
            state.objects.insert(path.into(), object.clone());
        }
        state.log.push(Change { revision, kind, path: path.into(), object: object.clone() });
        drop(state);
        self.changes.send_replace(revision);
        object
    }

    /// Creates or replaces an object: `put("api/v1", "pods", object)`.
    pub fn put(&self, prefix: &str, resource: &str, mut object: Value) -> Value {
        let path = format!(
            "{prefix}/{resource}/{}/{}",
            text(&object, "/metadata/namespace"),
            text(&object, "/metadata/name")
        );
        let existed = self.state.lock().expect("lock").objects.contains_key(&path);
        if text(&object, "/metadata/uid").is_empty() {
            let revision = self.state.lock().expect("lock").revision;
            object["metadata"]["uid"] = json!(format!("uid-{revision}-{}", std::process::id()));
        }
        self.change(if existed { "MODIFIED" } else { "ADDED" }, &path, object)
    }

    pub fn get(&self, prefix: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state
            .lock()
            .expect("lock")
            .objects
            .get(&format!("{prefix}/{resource}/{namespace}/{name}"))
            .cloned()
    }

    pub fn pod(&self, name: &str) -> Option<Value> {
        self.get("api/v1", "pods", "default", name)
    }

    /// Begins a graceful deletion, as a client's DELETE does.
    pub fn delete_pod(&self, name: &str, grace: i64) {
        let mut pod = self.pod(name).expect("a pod");
        pod["metadata"]["deletionTimestamp"] = json!(now().to_string());
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.change("MODIFIED", &format!("api/v1/pods/default/{name}"), pod);
    }

    /// Deletes a pod at once.
    pub fn forget_pod(&self, name: &str) {
        let pod = self.pod(name).expect("a pod");
        self.change("DELETED", &format!("api/v1/pods/default/{name}"), pod);
    }

    /// Events about an object: reason and message.
    pub fn events(&self, name: &str) -> Vec<(String, String)> {
        let state = self.state.lock().expect("lock");
        let events = state.objects.iter().filter(|(path, _)| path.starts_with("api/v1/events/"));
        let about = events.filter(|(_, e)| text(e, "/involvedObject/name") == name);
        about.map(|(_, e)| (text(e, "/reason").to_owned(), text(e, "/message").to_owned())).collect()
    }

    /// Waits until a pod is as wanted; `None` is a pod that is not there.
    pub async fn until<T>(&self, what: &str, mut wanted: impl FnMut(&Api) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = wanted(self) {
                    return found;
                }
                let again = tokio::time::timeout(std::time::Duration::from_millis(200), changes.changed());
                let _ = again.await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await {
            Ok(found) => found,
            Err(_) => {
                let state = self.state.lock().expect("lock");
                let pods: Vec<&Value> = state
                    .objects
                    .iter()
                    .filter(|(p, _)| p.starts_with("api/v1/pods/"))
                    .map(|(_, v)| v)
                    .collect();
                let events: Vec<String> = state
                    .objects
                    .iter()
                    .filter(|(p, _)| p.starts_with("api/v1/events/"))
                    .map(|(_, e)| {
                        format!(
                            "{} {}: {}",
                            text(e, "/involvedObject/name"),
                            text(e, "/reason"),
                            text(e, "/message")
                        )
                    })
                    .collect();
                panic!("never came: {what}\n{pods:#?}\n{events:#?}");
            }
        }
    }

    fn answer(&self, request: Request<Bytes>) -> Response<Body> {
        let uri = request.uri().clone();
        let at = target(uri.path());
        let query: BTreeMap<String, String> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|p| p.split_once('='))
            .map(|(k, v)| (k.into(), v.replace("%3D", "=")))
            .collect();
        let selector = query.get("fieldSelector").cloned().unwrap_or_default();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let key = at.key(&at.namespace, &at.name);
        match *request.method() {
            Method::GET if at.name.is_empty() && query.contains_key("watch") => {
                let from = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or_default();
                self.watch(at, selector, from)
            }
            Method::GET if at.name.is_empty() => {
                let state = self.state.lock().expect("lock");
                let items: Vec<&Value> = state
                    .objects
                    .iter()
                    .filter(|(path, o)| matches(&at, &selector, path, o))
                    .map(|(_, o)| o)
                    .collect();
                reply(
                    200,
                    &json!({"kind": "List", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items}),
                )
            }
            Method::GET => match self.state.lock().expect("lock").objects.get(&key) {
                Some(object) => reply(200, object),
                None => not_found(&at),
            },
            Method::POST if at.resource == "tokenreviews" => {
                let known = text(&body, "/spec/token") == "good";
                reply(
                    201,
                    &json!({"metadata": {}, "spec": body["spec"], "status": {"authenticated": known, "user": {"username": "u"}}}),
                )
            }
            Method::POST if at.resource == "subjectaccessreviews" => {
                let allowed = text(&body, "/spec/user") == "u";
                reply(201, &json!({"metadata": {}, "spec": body["spec"], "status": {"allowed": allowed}}))
            }
            Method::POST if at.sub == "token" => {
                let expires = now() + jiff::SignedDuration::from_hours(1);
                let status = json!({"token": format!("token-of-{}", at.name), "expirationTimestamp": expires.to_string()});
                reply(201, &json!({"metadata": {}, "spec": body["spec"], "status": status}))
            }
            Method::POST => {
                let mut object = body;
                let name = text(&object, "/metadata/name").to_owned();
                let key = at.key(&at.namespace, &name);
                if self.state.lock().expect("lock").objects.contains_key(&key) {
                    return reply(
                        409,
                        &json!({"kind": "Status", "status": "Failure", "reason": "AlreadyExists", "code": 409, "message": "exists"}),
                    );
                }
                object["metadata"]["uid"] = json!(format!("made-{name}"));
                reply(201, &self.change("ADDED", &key, object))
            }
            Method::PUT => reply(200, &self.change("MODIFIED", &key, body)),
            Method::PATCH => {
                let Some(mut object) = self.state.lock().expect("lock").objects.get(&key).cloned() else {
                    return not_found(&at);
                };
                let uid = text(&body, "/metadata/uid");
                if !uid.is_empty() && uid != text(&object, "/metadata/uid") {
                    return reply(
                        409,
                        &json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "uid"}),
                    );
                }
                merge(&mut object, &body);
                reply(200, &self.change("MODIFIED", &key, object))
            }
            Method::DELETE => {
                let found = self.state.lock().expect("lock").objects.get(&key).cloned();
                match found {
                    Some(object) => reply(200, &self.change("DELETED", &key, object)),
                    None => not_found(&at),
                }
            }
            _ => reply(405, &json!({})),
        }
    }

    fn watch(&self, at: Target, selector: String, from: u64) -> Response<Body> {
        let (this, changes) = (self.clone(), self.changes.subscribe());
        let stream = futures::stream::unfold((from, changes), move |(mut from, mut changes)| {
            let (this, at, selector) = (this.clone(), at.clone(), selector.clone());
            async move {
                loop {
                    changes.borrow_and_update();
                    let next =
                        this.state.lock().expect("lock").log.iter().find(|c| c.revision > from).cloned();
                    match next {
                        Some(change) => {
                            from = change.revision;
                            if matches(&at, &selector, &change.path, &change.object) {
                                let line =
                                    json!({"type": change.kind, "object": change.object}).to_string() + "\n";
                                return Some((Ok(Frame::data(Bytes::from(line))), (from, changes)));
                            }
                        }
                        None => {
                            if changes.changed().await.is_err() {
                                return None;
                            }
                        }
                    }
                }
            }
        });
        Response::new(StreamBody::new(stream).boxed_unsync())
    }
}

fn matches(at: &Target, selector: &str, path: &str, object: &Value) -> bool {
    let mut prefix = format!("{}/{}/", at.prefix, at.resource);
    if !at.namespace.is_empty() {
        prefix.push_str(&format!("{}/", at.namespace));
    }
    let selected = match selector.split_once('=') {
        Some((field, value)) => text(object, &format!("/{}", field.replace('.', "/"))) == value,
        None => true,
    };
    path.starts_with(&prefix) && selected
}

fn merge(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return };
    for (key, change) in patch {
        if key.starts_with('$') || key == "uid" {
            continue;
        }
        let merge_key = match key.as_str() {
            "conditions" | "addresses" => "type",
            "podIPs" | "hostIPs" => "ip",
            _ => "",
        };
        match (change, merge_key) {
            (Value::Null, _) => {
                if let Some(object) = object.as_object_mut() {
                    object.remove(key);
                }
            }
            (Value::Array(changes), merge_key) if !merge_key.is_empty() => {
                let mut list = object[key].as_array().cloned().unwrap_or_default();
                for item in changes.iter().filter(|i| i.get(merge_key).is_some()) {
                    let deleted = item.get("$patch").is_some();
                    let position = list.iter().position(|i| i[merge_key] == item[merge_key]);
                    match position {
                        Some(at) if deleted => {
                            list.remove(at);
                        }
                        Some(at) => merge(&mut list[at], item),
                        None if !deleted => list.push(item.clone()),
                        None => {}
                    }
                }
                object[key] = Value::Array(list);
            }
            (Value::Object(_), _) if matches!(key.as_str(), "metadata" | "status" | "labels") => {
                if object[key].is_null() {
                    object[key] = json!({});
                }
                merge(&mut object[key], change);
            }
            _ => object[key] = change.clone(),
        }
    }
}

fn reply(code: u16, value: &Value) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(value.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .expect("a response")
}

fn not_found(at: &Target) -> Response<Body> {
    let message = format!("{} {:?} not found", at.resource, at.name);
    reply(
        404,
        &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": message}),
    )
}

impl Transport for Api {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let answer = self.answer(request);
        Box::pin(async move { Ok(answer) })
    }
}

fn now() -> jiff::Timestamp {
    apimachinery::clock::Clock::now(&linux::time::SystemClock)
}
