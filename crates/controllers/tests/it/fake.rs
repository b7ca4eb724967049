//! A small API server in memory: enough of the real one's behaviour for controllers to meet over it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use client::{Body, Client, Transport, TransportError};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Group, version, plural, kind, namespaced.
const KINDS: &[(&str, &str, &str, &str, bool)] = &[
    ("", "v1", "namespaces", "Namespace", false),
    ("", "v1", "nodes", "Node", false),
    ("", "v1", "pods", "Pod", true),
    ("", "v1", "services", "Service", true),
    ("", "v1", "endpoints", "Endpoints", true),
    ("", "v1", "events", "Event", true),
    ("", "v1", "configmaps", "ConfigMap", true),
    ("", "v1", "serviceaccounts", "ServiceAccount", true),
    ("", "v1", "replicationcontrollers", "ReplicationController", true),
    ("", "v1", "resourcequotas", "ResourceQuota", true),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("", "v1", "secrets", "Secret", true),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", false),
    ("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", false),
    ("networking.k8s.io", "v1", "ipaddresses", "IPAddress", false),
    ("apps", "v1", "deployments", "Deployment", true),
    ("apps", "v1", "replicasets", "ReplicaSet", true),
    ("coordination.k8s.io", "v1", "leases", "Lease", true),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false),
];

#[derive(Clone, Default)]
pub struct Fake {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    revision: u64,
    /// By plural, namespace, name.
    objects: BTreeMap<(String, String, String), Value>,
    watchers: Vec<(String, String, mpsc::UnboundedSender<Bytes>)>,
    pub log: Vec<String>,
}

struct Failure(u16, &'static str, String);

type Answer = Result<Value, Failure>;

impl Fake {
    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test")
    }

    pub fn put(&self, plural: &str, object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let made = self.inner.lock().unwrap().create(plural, &namespace, object);
        assert!(made.is_ok(), "object is there already");
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.inner.lock().unwrap().objects.get(&(plural.into(), namespace.into(), name.into())).cloned()
    }

    pub fn list(&self, plural: &str) -> Vec<Value> {
        let inner = self.inner.lock().unwrap();
        inner.objects.iter().filter(|(key, _)| key.0 == plural).map(|(_, value)| value.clone()).collect()
    }

    pub fn edit(&self, plural: &str, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut inner = self.inner.lock().unwrap();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut value = inner.objects[&key].clone();
        edit(&mut value);
        inner.store(key, value);
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str, options: Value) {
        assert!(self.inner.lock().unwrap().delete(plural, namespace, name, &options).is_ok());
    }

    /// Every write, `VERB plural/name`.
    pub fn log(&self) -> Vec<String> {
        self.inner.lock().unwrap().log.clone()
    }
}

impl Inner {
    fn emit(&mut self, plural: &str, kind: &str, object: &Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.watchers.retain(|(p, ns, sender)| {
            p != plural || !(ns.is_empty() || *ns == namespace) || sender.send(line.clone()).is_ok()
        });
    }

    fn store(&mut self, key: (String, String, String), mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let before = self.objects.get(&key).cloned();
        if let Some(before) = &before {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
            let changed = before["spec"] != object["spec"];
            object["metadata"]["generation"] = json!(generation + i64::from(changed));
            let done = !object["metadata"]["deletionTimestamp"].is_null()
                && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
                && object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
            if done {
                self.objects.remove(&key);
                return self.emit(&key.0, "DELETED", &object);
            }
        }
        self.objects.insert(key.clone(), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.emit(&key.0, kind, &object);
    }

    fn create(&mut self, plural: &str, namespace: &str, mut object: Value) -> Answer {
        let meta = &mut object["metadata"];
        if let Some(prefix) = meta["generateName"].as_str().filter(|_| meta["name"].is_null()) {
            meta["name"] = json!(format!("{prefix}{}", self.revision + 1));
        }
        let name = meta["name"].as_str().unwrap().to_owned();
        let key = (plural.to_owned(), namespace.to_owned(), name.clone());
        if self.objects.contains_key(&key) {
            return Err(Failure(409, "AlreadyExists", format!("{plural} {name:?} already exists")));
        }
        meta["uid"] = json!(format!("uid-{}", self.revision + 1));
        meta["generation"] = json!(1);
        meta["creationTimestamp"] = json!("2023-11-14T22:13:20Z");
        if plural == "namespaces" {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"]["phase"] = json!("Active");
        }
        self.log.push(format!("create {plural}/{name}"));
        self.store(key.clone(), object);
        Ok(self.objects[&key].clone())
    }

    fn update(&mut self, key: (String, String, String), subresource: &str, mut object: Value) -> Answer {
        let Some(before) = self.objects.get(&key).cloned() else { return Err(missing(&key)) };
        let version = &object["metadata"]["resourceVersion"];
        if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
            return Err(Failure(409, "Conflict", "the object has been modified".into()));
        }
        match subresource {
            "status" => object["spec"] = before["spec"].clone(),
            "finalize" => object["status"] = before["status"].clone(),
            _ => object["status"] = before["status"].clone(),
        }
        for field in ["uid", "creationTimestamp", "deletionTimestamp"] {
            if !before["metadata"][field].is_null() {
                object["metadata"][field] = before["metadata"][field].clone();
            }
        }
        self.log.push(format!("update {}/{} {subresource}", key.0, key.2).trim().to_owned());
        self.store(key, object.clone());
        Ok(object)
    }

    fn patch(
        &mut self,
        key: (String, String, String),
        subresource: &str,
        strategic: bool,
        patch: &Value,
    ) -> Answer {
        let Some(mut object) = self.objects.get(&key).cloned() else { return Err(missing(&key)) };
        for field in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return Err(Failure(409, "Conflict", format!("{field} differs")));
            }
        }
        merge(&mut object, patch, strategic);
        self.log.push(format!("patch {}/{} {subresource}", key.0, key.2).trim().to_owned());
        self.store(key, object.clone());
        Ok(object)
    }

    fn delete(&mut self, plural: &str, namespace: &str, name: &str, options: &Value) -> Answer {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(mut object) = self.objects.get(&key).cloned() else { return Err(missing(&key)) };
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return Err(Failure(409, "Conflict", "uid differs".into()));
        }
        self.log.push(format!("delete {plural}/{name}"));
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => finalizers.push(json!("foregroundDeletion")),
            Some("Orphan") => finalizers.push(json!("orphan")),
            _ => {}
        }
        finalizers.dedup();
        object["metadata"]["finalizers"] = json!(finalizers);
        object["metadata"]["deletionTimestamp"] = json!("2023-11-14T22:13:21Z");
        self.store(key, object);
        Ok(json!({"kind": "Status", "status": "Success"}))
    }

    fn handle(
        &mut self,
        request: &http::Request<Bytes>,
    ) -> Result<Result<Value, mpsc::UnboundedReceiver<Bytes>>, Failure> {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        if path == "/api" || path == "/apis" {
            return Ok(Ok(discovery(path == "/api")));
        }
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        parts.drain(..if parts[0] == "api" { 2 } else { 3 });
        let mut namespace = "";
        if parts[0] == "namespaces" && parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
            namespace = parts[1];
            parts.drain(..2);
        }
        let plural = parts[0];
        if !KINDS.iter().any(|kind| kind.2 == plural) {
            return Err(Failure(404, "NotFound", "the server could not find the requested resource".into()));
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let key = |name: &str| (plural.to_owned(), namespace.to_owned(), name.to_owned());
        match (request.method().as_str(), parts.get(1), parts.get(2).copied().unwrap_or_default()) {
            ("GET", None, _) if query.contains("watch=true") => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let from: u64 = query
                    .split('&')
                    .find_map(|p| p.strip_prefix("resourceVersion="))
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(from, self.revision, "the fake has no history");
                self.watchers.push((plural.to_owned(), namespace.to_owned(), sender));
                Ok(Err(receiver))
            }
            ("GET", None, _) => {
                let mut items = Vec::new();
                for ((p, ns, _), object) in &self.objects {
                    if p == plural && (namespace.is_empty() || ns == namespace) {
                        items.push(object.clone());
                    }
                }
                Ok(Ok(json!({"metadata": {"resourceVersion": self.revision.to_string()}, "items": items})))
            }
            ("GET", Some(name), _) => {
                self.objects.get(&key(name)).cloned().map(Ok).ok_or_else(|| missing(&key(name)))
            }
            ("POST", None, _) => self.create(plural, namespace, body).map(Ok),
            ("PUT", Some(name), subresource) => self.update(key(name), subresource, body).map(Ok),
            ("PATCH", Some(name), subresource) => {
                let kind = request.headers()["content-type"].to_str().unwrap();
                self.patch(key(name), subresource, kind.contains("strategic"), &body).map(Ok)
            }
            ("DELETE", Some(name), _) => self.delete(plural, namespace, name, &body).map(Ok),
            ("DELETE", None, _) => {
                let keys = self.objects.keys().filter(|key| key.0 == plural && key.1 == namespace);
                for key in keys.cloned().collect::<Vec<_>>() {
                    self.delete(plural, namespace, &key.2, &body)?;
                }
                Ok(Ok(json!({"kind": "Status"})))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn missing(key: &(String, String, String)) -> Failure {
    Failure(404, "NotFound", format!("{} {:?} not found", key.0, key.2))
}

fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, change) in fields {
        let entry = &mut target[name];
        let key = match name.as_str() {
            "conditions" => "type",
            "ownerReferences" => "uid",
            _ => "",
        };
        match change {
            Value::Null => {
                target.as_object_mut().unwrap().remove(name);
            }
            Value::Array(items) if strategic && !key.is_empty() => {
                let mut list = entry.as_array().cloned().unwrap_or_default();
                for item in items {
                    list.retain(|old| old[key] != item[key]);
                    if item["$patch"] != "delete" {
                        list.push(item.clone());
                    }
                }
                *entry = json!(list);
            }
            change => merge(entry, change, strategic),
        }
    }
}

fn discovery(core: bool) -> Value {
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let groups: std::collections::BTreeSet<&str> =
        KINDS.iter().map(|k| k.0).filter(|g| g.is_empty() == core).collect();
    let items: Vec<Value> = groups
        .into_iter()
        .map(|group| {
            let resources: Vec<Value> = KINDS
                .iter()
                .filter(|kind| kind.0 == group)
                .map(|kind| {
                    json!({"resource": kind.2, "responseKind": {"kind": kind.3}, "verbs": verbs,
                        "scope": if kind.4 { "Namespaced" } else { "Cluster" }})
                })
                .collect();
            json!({"metadata": {"name": group}, "versions": [{"version": "v1", "resources": resources}]})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "items": items})
}

impl Transport for Fake {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, TransportError>> {
        let answer = self.inner.lock().unwrap().handle(&request);
        Box::pin(async move {
            let (code, body) = match answer {
                Ok(Ok(value)) => (200, client::full_body(value.to_string())),
                Ok(Err(receiver)) => {
                    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
                        let bytes = receiver.recv().await?;
                        Some((Ok(http_body::Frame::data(bytes)), receiver))
                    });
                    (200, StreamBody::new(stream).boxed_unsync())
                }
                Err(Failure(code, reason, message)) => {
                    let status =
                        json!({"kind": "Status", "code": code, "reason": reason, "message": message});
                    (code, client::full_body(status.to_string()))
                }
            };
            Ok(http::Response::builder().status(code).body(body).unwrap())
        })
    }
}
