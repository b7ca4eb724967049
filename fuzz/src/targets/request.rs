//! Whole requests to an API server in this process: a line with method and target, headers, an empty line, the
//! body.
//!
//! Writes are dry runs, and where one is not (a deletion whose options are in its body) the next input finds a new
//! server: so that what an input does depends on nothing before it. Store, clock and time are simulated and all is
//! on one thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::clock::{Clock, Entropy};
use apimachinery::codec::protobuf::envelope;
use apiserver::authentication;
use apiserver::request::UserInfo;
use apiserver::server::{ApiServer, Body, Config, Peer, body};
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};

/// How often the store and the clock get their turn before the client hangs up.
const TURNS: usize = 64;
/// How much of an answer is read.
const FRAMES: usize = 16;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

pub fn run(bytes: &[u8]) {
    let Some(request) = parse(bytes) else { return };
    WORLD.with_borrow_mut(|slot| {
        let world = slot.get_or_insert_with(World::new);
        let revision = world.store.revision();
        if let Some((head, bytes)) = world.send(request) {
            judge(&head, &bytes);
        }
        if world.store.revision() != revision {
            *slot = None;
        }
    });
}

/// What a connection would make of these bytes.
fn parse(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, rest) = match end {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[][..]),
    };
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let method: http::Method = method.parse().ok()?;
    let dry = match (matches!(method.as_str(), "GET" | "HEAD"), target.contains('?')) {
        (true, _) => "",
        (false, true) => "&dryRun=All",
        (false, false) => "?dryRun=All",
    };
    let uri: http::Uri = format!("{target}{dry}").parse().ok()?;
    let mut request = Request::new(body(rest.to_vec()));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?);
    }
    Some(request)
}

/// An answer says what it is, and is that.
fn judge(head: &http::response::Parts, bytes: &[u8]) {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let encoded = head.headers.contains_key(header::CONTENT_ENCODING);
    if encoded || bytes.is_empty() {
        return;
    }
    if kind == "application/json" {
        let value: Value = serde_json::from_slice(bytes)
            .unwrap_or_else(|e| panic!("{e} in {}", String::from_utf8_lossy(bytes)));
        if value["kind"] == "Status" && value["apiVersion"] == "v1" && value["status"] == "Failure" {
            assert_eq!(value["code"].as_u64(), Some(u64::from(head.status.as_u16())), "{value}");
        }
        assert!(head.status.is_success() || value["kind"] == "Status", "{} {value}", head.status);
    } else if kind == "application/vnd.kubernetes.protobuf" {
        envelope::unwrap(bytes).expect("protobuf in its envelope");
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap_or_default()
    }
}

impl Entropy for Still {
    fn fill(&self, bytes: &mut [u8]) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (at as u8).wrapping_mul(167).wrapping_add(13);
        }
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    server: Arc<ApiServer>,
    store: etcd::Store,
    writer: etcd::Writer,
}

impl World {
    fn new() -> World {
        let authentication = authentication::Config {
            anonymous: true,
            request_header: None,
            x509: None,
            service_accounts: None,
            token_file: None,
            bootstrap_tokens: true,
            ..authentication::Config::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O");
        let small = etcd::Config {
            segment_bytes: 64 << 10,
            snapshot_bytes: 1 << 20,
            window_bytes: 64 << 10,
            ..etcd::Config::default()
        };
        let disk = Arc::new(etcd::disk::SimDisk::new());
        let (store, writer) = etcd::Store::open(small, disk).expect("an empty disk");
        let _inside = runtime.enter();
        let server =
            ApiServer::build(Config::new(authentication), store.clone(), Arc::new(Still), Arc::new(Still));
        drop(_inside);
        let mut world = World { runtime, server, store, writer };
        for (path, object) in fixtures() {
            let mut request = Request::new(body(object.to_string()));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = path.parse().expect("a path");
            let (head, bytes) = world.send(request).expect("an answer");
            assert_eq!(head.status, 201, "{path}: {}", String::from_utf8_lossy(&bytes));
        }
        world
    }

    /// The answer and the beginning of its body; `None` if none comes.
    fn send(&mut self, request: Request<Body>) -> Option<(http::response::Parts, Vec<u8>)> {
        let admin = UserInfo::new("admin", &["system:masters", "system:authenticated"]);
        let (server, writer) = (&self.server, &mut self.writer);
        self.runtime.block_on(async move {
            let answer = async {
                let response: Response<Body> = server.handle(Peer::Identity(admin), request).await;
                let (head, mut body) = response.into_parts();
                let mut bytes = Vec::new();
                for _ in 0..FRAMES {
                    let Some(Ok(frame)) = body.frame().await else { return (head, bytes) };
                    bytes.extend_from_slice(frame.data_ref().map(|data| &**data).unwrap_or_default());
                }
                // only a part of it, which says nothing
                (head, Vec::new())
            };
            let turns = async {
                for turn in 0..TURNS {
                    writer.step(Duration::from_secs(turn as u64));
                    tokio::task::yield_now().await;
                    tokio::time::advance(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                biased;
                answer = answer => Some(answer),
                () = turns => None,
            }
        })
    }
}

/// What inputs can ask for.
fn fixtures() -> Vec<(&'static str, Value)> {
    let template = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]},
    });
    vec![
        ("/api/v1/namespaces", json!({"metadata": {"name": "default"}})),
        ("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})),
        ("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "a"}, "data": {"k": "v"}})),
        ("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "b", "labels": {"x": "y"}}})),
        ("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "a"}, "spec": template["spec"]})),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}),
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({
                "metadata": {"name": "a"},
                "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
            }),
        ),
    ]
}
