//! A server with its store, a clock that stands still, and randomness from a counter.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use apimachinery::clock::{Clock, Entropy};
use apiserver::{
    authentication,
    request::UserInfo,
    server::{ApiServer, Body, Config, Peer, body},
};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};

pub struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z ^= z >> 27;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

pub struct World {
    pub server: Arc<ApiServer>,
    pub store: etcd::Store,
    pub clock: Arc<Hand>,
    writer: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

/// What came back.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The object of a success.
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.text);
        self.json()
    }

    /// Code, reason and message of a failure.
    pub fn fault(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{}", self.text);
        assert_eq!(status["code"].as_u64(), Some(u64::from(self.code)), "{}", self.text);
        let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
        (self.code, text("reason"), text("message"))
    }
}

impl World {
    /// A server with two objects that tests need: the namespace `default` and its service account.
    pub async fn new() -> Self {
        let authentication = authentication::Config {
            anonymous: true,
            request_header: None,
            x509: None,
            service_accounts: None,
            token_file: None,
            bootstrap_tokens: false,
            ..authentication::Config::default()
        };
        let mut config = Config::new(authentication);
        config.service_cidrs = vec!["10.96.0.0/24".parse().unwrap()];
        let world = Self::with(config);
        world.post("/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await.ok();
        world
            .post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}))
            .await
            .ok();
        world
    }

    /// An empty server.
    pub fn with(config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(etcd::disk::RealDisk::new(directory.path()));
        let (store, writer) = etcd::Store::open(etcd::Config::default(), disk).unwrap();
        #[allow(
            clippy::disallowed_methods,
            reason = "a test is its own binary and gives the writer its thread"
        )]
        let writer = std::thread::spawn(move || {
            let begin = std::time::Instant::now();
            writer.run(|| begin.elapsed());
        });
        let clock = Arc::new(Hand(AtomicI64::new(1_700_000_000)));
        let server =
            ApiServer::build(config, store.clone(), clock.clone(), Arc::new(Counter(AtomicU64::new(1))));
        Self { server, store, clock, writer: Some(writer), _directory: directory }
    }

    /// Another server on the same store.
    pub fn another(&self, config: Config) -> Arc<ApiServer> {
        let random = Arc::new(Counter(AtomicU64::new(2)));
        ApiServer::build(config, self.store.clone(), self.clock.clone(), random)
    }

    pub fn advance(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        bytes: Vec<u8>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let admin = UserInfo::new("admin", &["system:masters", "system:authenticated"]);
        self.server.handle(Peer::Identity(admin), request.body(body(bytes)).unwrap()).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], bytes: Vec<u8>) -> Answer {
        let response = self.raw(method, path, headers, bytes).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new()).await
    }

    pub async fn post(&self, path: &str, object: Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], object.to_string().into_bytes())
            .await
    }

    pub async fn put(&self, path: &str, object: Value) -> Answer {
        self.send("PUT", path, &[("content-type", "application/json")], object.to_string().into_bytes()).await
    }

    pub async fn patch(&self, kind: &str, path: &str, patch: Value) -> Answer {
        let content_type = format!("application/{kind}-patch+json");
        self.send("PATCH", path, &[("content-type", &content_type)], patch.to_string().into_bytes()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Vec::new()).await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Events {
        self.watch_as(path, "application/json").await
    }

    /// Opens a watch whose frames are lines of JSON.
    pub async fn watch_as(&self, path: &str, accept: &str) -> Events {
        let response = self.raw("GET", path, &[("accept", accept)], Vec::new()).await;
        assert_eq!(response.status(), 200);
        Events { body: response.into_body(), rest: String::new() }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.store.stop();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The frames of a watch.
pub struct Events {
    body: Body,
    rest: String,
}

impl Events {
    /// The next frame; `None` at the end. Panics when none comes for a long while.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let value = serde_json::from_str(line).unwrap();
                self.rest = rest.to_owned();
                return Some(value);
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(120), self.body.frame());
            let frame = frame.await.expect("an event")?.unwrap();
            self.rest += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
    }

    /// Type and name of the next event.
    pub async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

/// The decoded value of a key, with the envelope checked.
pub fn stored(world: &World, key: &str) -> Option<Vec<u8>> {
    let kv = world.store.get(key.as_bytes())?;
    assert!(kv.value.starts_with(b"k8s\0"), "{key} is not in upstream's envelope");
    Some(kv.value.to_vec())
}

pub fn config_map(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(k, v)| (k.to_string(), json!(v))).collect();
    json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}})
}
