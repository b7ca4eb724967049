//! Extension servers: one of our own over HTTPS, which insists on the front proxy's certificate, and what clients see
//! of it through the API server. It goes, comes back, hangs, lies and talks too much.

use std::convert::Infallible;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::aggregator;
use apiserver::request::UserInfo;
use apiserver::response;
use apiserver::server::{Body, Peer, tls};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::access;
use crate::world::{Answer, Events, World};

const V1: &str = "/apis/ext.test/v1";
const THINGS: &str = "/apis/ext.test/v1/namespaces/default/things";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

type Content = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

fn text(code: u16, kind: &str, text: impl Into<Bytes>) -> Response<Content> {
    let frame = Ok(Frame::data(text.into()));
    let body: Content = StreamBody::new(Box::pin(futures::stream::iter([frame])));
    Response::builder().status(code).header("content-type", kind).body(body).unwrap()
}

/// A request on its way takes much room, and a long test has room for few: all of them wait elsewhere.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

fn boot(world: &World) -> Boxed<'_, ()> {
    Box::pin(async { apiserver::bootstrap::run(&world.server).await.unwrap() })
}

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    Good,
    /// Answers 503 to everything.
    Down,
    /// Never answers.
    Hangs,
    /// Its discovery is no discovery, its specification is a list.
    Lies,
    /// Its discovery is larger than anybody wants.
    Endless,
}

struct Extension {
    world: World,
    authority: Signer,
    port: u16,
    mode: Arc<Mutex<Mode>>,
    /// What was asked of it: method and target, and the headers.
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

/// Signs certificates.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Signer {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (pem, certificate) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    fn sign(&self, common_name: &str, names: &[&str]) -> CertifiedKey {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        CertifiedKey::new(vec![certificate.der().clone()], key)
    }
}

fn resources() -> Value {
    json!([{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
        "verbs": ["get", "list", "watch", "create"], "shortNames": ["th"]},
        {"name": "things/exec", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["create"]}])
}

fn aggregated() -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [
        {"metadata": {"name": "ext.test"}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
            {"resource": "things", "responseKind": {"group": "ext.test", "version": "v1", "kind": "Thing"},
                "scope": "Namespaced", "singularResource": "thing", "verbs": ["list"]}]}]}]})
}

fn specification() -> Value {
    json!({"swagger": "2.0", "paths": {
        format!("{V1}/things"): {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/test.ext.Thing"}}}}},
        "/apis/elsewhere/v1/x": {"get": {}}},
        "definitions": {
            "test.ext.Thing": {"type": "object", "properties": {
                "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}}},
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "description": "another one"},
            "unused": {"type": "string"}}})
}

async fn answer(mut request: Request<Incoming>, mode: Mode) -> Response<Content> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let header = |name: header::HeaderName| {
        request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let json = |value: Value| text(200, "application/json", value.to_string());
    match (mode, path.as_str()) {
        (Mode::Down, _) => return text(503, "text/plain", "not now"),
        (Mode::Hangs, _) => std::future::pending().await,
        (Mode::Lies, "/apis") => return text(200, AGGREGATED, "{\"items\": 7}"),
        (Mode::Lies, "/openapi/v2" | "/openapi/v3") => return json(json!([1, 2])),
        (Mode::Endless, "/apis") => {
            let piece = Bytes::from(vec![b' '; 1 << 20]);
            let body: Content = StreamBody::new(Box::pin(futures::stream::repeat_with(move || {
                Ok(Frame::data(piece.clone()))
            })));
            return Response::builder().header("content-type", AGGREGATED).body(body).unwrap();
        }
        _ => {}
    }
    match path.as_str() {
        "/apis" if header(header::IF_NONE_MATCH) == "\"tag\"" => text(304, AGGREGATED, ""),
        "/apis" => {
            let mut answer = text(200, AGGREGATED, aggregated().to_string());
            answer.headers_mut().insert(header::ETAG, "\"tag\"".parse().unwrap());
            answer
        }
        V1 => {
            json(json!({"kind": "APIResourceList", "groupVersion": "ext.test/v1", "resources": resources()}))
        }
        "/openapi/v2" => json(specification()),
        "/openapi/v3" => json(json!({"paths": {
            "apis/ext.test/v1": {"serverRelativeURL": "/openapi/v3/apis/ext.test/v1?hash=AB"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=mine"}}})),
        "/openapi/v3/apis/ext.test/v1" => json(json!({"openapi": "3.0.0", "query": query})),
        THINGS if query.contains("watch") => {
            let events = (0..).map(|n| Ok(Frame::data(Bytes::from(format!("{{\"n\":{n}}}\n")))));
            let slowly = futures::stream::iter(events).then(|event| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                event
            });
            let body: Content = StreamBody::new(Box::pin(slowly));
            Response::builder().header("content-type", "application/json").body(body).unwrap()
        }
        THINGS if request.method() == "POST" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            text(201, "application/json", body)
        }
        path if path.ends_with("/exec") => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut both = TokioIo::new(upgrade.await.unwrap());
                let mut said = [0; 5];
                both.read_exact(&mut said).await.unwrap();
                said.reverse();
                both.write_all(&said).await.unwrap();
            });
            let mut answer = text(101, "", "");
            *answer.body_mut() = StreamBody::new(Box::pin(futures::stream::empty()));
            answer.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
            answer.headers_mut().insert(header::UPGRADE, "echo".parse().unwrap());
            answer
        }
        path if path.ends_with("/redirect") => {
            let mut answer = text(302, "text/plain", "");
            answer.headers_mut().insert(header::LOCATION, "http://192.0.2.1/".parse().unwrap());
            answer
        }
        path if path.ends_with("/stall") => {
            let some = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"some")))]);
            let body: Content = StreamBody::new(Box::pin(some.chain(futures::stream::pending())));
            Response::new(body)
        }
        _ => {
            let mut answer = text(404, "text/plain", "none of mine");
            answer.headers_mut().insert("access-control-allow-origin", "*".parse().unwrap());
            answer
        }
    }
}

impl Extension {
    async fn new() -> Self {
        let (authority, front_proxy) = (Signer::new(), Signer::new());
        let mut config = access::config(true);
        let identity = SingleCertAndKey::from(front_proxy.sign("front-proxy-client", &[]));
        config.aggregator = aggregator::Config { identity: Some(Arc::new(identity)), ..Default::default() };
        config.request_timeout = Duration::from_secs(3);
        let world = World::with(config);
        boot(&world).await;

        let mut roots = RootCertStore::empty();
        roots.add(front_proxy.certificate.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build();
        let mut server = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(
                authority.sign("ext", &["ext.default.svc"]),
            )));
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, seen) = (Arc::new(Mutex::new(Mode::Good)), Arc::new(Mutex::new(Vec::new())));
        let (now, log) = (mode.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, now, log) = (acceptor.clone(), now.clone(), log.clone());
                tokio::spawn(async move {
                    // Whoever shows no certificate does not come in.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let mode = *now.lock().unwrap();
                        let target = request.uri().path_and_query().unwrap();
                        let line = format!("{} {target}", request.method());
                        log.lock().unwrap().push((line, request.headers().clone()));
                        async move { Ok::<_, Infallible>(answer(request, mode).await) }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        let extension = Self { world, authority, port, mode, seen };
        let service = json!({"metadata": {"name": "ext"},
            "spec": {"type": "ExternalName", "externalName": "localhost"}});
        extension.post("/api/v1/namespaces/default/services", service).await.ok();
        extension
    }

    fn object(&self, name: &str, authority: &str) -> Value {
        let (version, group) = name.split_once('.').unwrap();
        json!({"metadata": {"name": name}, "spec": {"group": group, "version": version,
            "groupPriorityMinimum": 2000, "versionPriority": 20, "caBundle": STANDARD.encode(authority),
            "service": {"namespace": "default", "name": "ext", "port": self.port}}})
    }

    async fn register(&self) {
        self.post(SERVICES, self.object("v1.ext.test", &self.authority.pem)).await.ok();
    }

    /// Waits until the condition of `v1.ext.test` has this reason.
    async fn until(&self, reason: &str) -> Value {
        let path = format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3Dv1.ext.test");
        let mut events: Events = self.watch(&path).await;
        loop {
            let event = events.next().await.unwrap();
            let condition = &event["object"]["status"]["conditions"][0];
            if condition["reason"] == reason {
                return condition.clone();
            }
        }
    }

    /// From now on it behaves so, and the API server has reason to look.
    async fn be(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
        let change = json!({"metadata": {"annotations": {"mode": format!("{mode:?}")}}});
        self.patch("merge", "/api/v1/namespaces/default/services/ext", change).await.ok();
    }

    async fn discovery(&self) -> (Value, Vec<String>) {
        let list = self.send("GET", "/apis", &[("accept", AGGREGATED)], Vec::new()).await.ok();
        let items = list["items"].as_array().unwrap().clone();
        let names = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        let mine = items.into_iter().find(|item| item["metadata"]["name"] == "ext.test");
        (mine.unwrap_or_default(), names)
    }

    fn get<'a>(&'a self, path: &'a str) -> Boxed<'a, Answer> {
        Box::pin(self.world.get(path))
    }

    fn post<'a>(&'a self, path: &'a str, object: Value) -> Boxed<'a, Answer> {
        Box::pin(self.world.post(path, object))
    }

    fn patch<'a>(&'a self, kind: &'a str, path: &'a str, patch: Value) -> Boxed<'a, Answer> {
        Box::pin(self.world.patch(kind, path, patch))
    }

    fn delete<'a>(&'a self, path: &'a str) -> Boxed<'a, Answer> {
        Box::pin(self.world.delete(path))
    }

    fn send<'a>(
        &'a self,
        method: &'a str,
        path: &'a str,
        headers: &'a [(&'a str, &'a str)],
        bytes: Vec<u8>,
    ) -> Boxed<'a, Answer> {
        Box::pin(self.world.send(method, path, headers, bytes))
    }

    fn raw<'a>(
        &'a self,
        method: &'a str,
        path: &'a str,
        headers: &'a [(&'a str, &'a str)],
        bytes: Vec<u8>,
    ) -> Boxed<'a, Response<Body>> {
        Box::pin(self.world.raw(method, path, headers, bytes))
    }

    fn watch<'a>(&'a self, path: &'a str) -> Boxed<'a, Events> {
        Box::pin(self.world.watch(path))
    }

    fn handle(&self, user: UserInfo, request: Request<Body>) -> Boxed<'_, Response<Body>> {
        Box::pin(self.world.server.handle(Peer::Identity(user), request))
    }

    fn last(&self, beginning: &str) -> HeaderMap {
        let seen = self.seen.lock().unwrap();
        seen.iter().rfind(|(line, _)| line.starts_with(beginning)).unwrap().1.clone()
    }

    /// One request on a connection of its own.
    async fn connection(&self, request: Request<Empty<Bytes>>) -> Response<Incoming> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let server = self.world.server.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let server = server.clone();
                async move {
                    let admin = UserInfo::new("admin", &["system:masters", "system:authenticated"]);
                    let request = request.map(response::incoming);
                    Ok::<_, Infallible>(server.handle(Peer::Identity(admin), request).await)
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(far), service).with_upgrades().await;
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }
}

fn failure(answer: &Answer) -> (u16, &str) {
    (answer.code, answer.text.trim_end())
}

#[tokio::test]
async fn an_extension_server() {
    let e = Extension::new().await;
    assert_eq!(e.get(THINGS).await.code, 404);
    e.register().await;
    let condition = e.until("Passed").await;
    assert_eq!((&condition["status"], &condition["message"]), (&json!("True"), &json!("all checks passed")));

    // Who asks is told, and nothing that the client says of that.
    let mut user = UserInfo::new("jane", &["dev", "system:authenticated", "system:masters"]);
    user.uid = "u-1".into();
    user.extra.insert("example.com/scopes".into(), vec!["a".into(), "b".into()]);
    let request = Request::post(THINGS)
        .header("authorization", "Bearer secret")
        .header("x-remote-user", "root")
        .header("x-remote-extra-more", "x")
        .header("content-type", "application/json")
        .body(apiserver::server::body("{\"a\":1}"))
        .unwrap();
    let answer = e.handle(user, request).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{\"a\":1}");
    let headers = e.last(&format!("POST {THINGS}"));
    let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(all("x-remote-user"), ["jane"]);
    assert_eq!(all("x-remote-uid"), ["u-1"]);
    assert_eq!(all("x-remote-group"), ["dev", "system:authenticated", "system:masters"]);
    assert_eq!(all("x-remote-extra-example.com%2fscopes"), ["a", "b"]);
    assert_eq!(all("x-forwarded-uri"), [THINGS]);
    assert!(all("authorization").is_empty() && all("x-remote-extra-more").is_empty());

    // Authorized here, before anything goes there.
    let before = e.seen.lock().unwrap().len();
    let nobody = UserInfo::new("nobody", &["system:authenticated"]);
    let request = Request::get(THINGS).body(apiserver::server::body("")).unwrap();
    let answer = e.handle(nobody, request).await;
    assert_eq!(answer.status(), 403);
    let asked = e.seen.lock().unwrap()[before..].iter().filter(|(line, _)| line.contains(THINGS)).count();
    assert_eq!(asked, 0);

    // A watch is a stream, a faulty path is theirs to refuse, a redirect leads nowhere.
    let mut events = e.watch(&format!("{THINGS}?watch=true")).await;
    for n in 0..3 {
        assert_eq!(events.next().await.unwrap(), json!({ "n": n }));
    }
    drop(events);
    let answer = e.get(&format!("{V1}/other")).await;
    assert_eq!(failure(&answer), (404, "none of mine"));
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    let refusal = "the backend attempted to redirect this request, which is not permitted";
    assert_eq!(failure(&e.get(&format!("{V1}/redirect")).await), (502, refusal));

    // Another protocol.
    let request = Request::post(format!("{THINGS}/x/exec")).header(header::HOST, "h");
    let request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "echo");
    let answer = e.connection(request.body(Empty::new()).unwrap()).await;
    assert_eq!(
        (answer.status(), &answer.headers()["upgrade"]),
        (StatusCode::SWITCHING_PROTOCOLS, &"echo".parse().unwrap())
    );
    let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    io.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"olleh");
    assert_eq!(e.last(&format!("POST {THINGS}/x/exec"))["x-remote-user"], "admin");

    // Discovery, in each form and in its place: after what is built in, before custom kinds and metrics.
    assert_eq!(e.get(V1).await.ok()["resources"], resources());
    let (mine, names) = e.discovery().await;
    assert_eq!((names[0].as_str(), names.len() > 20), ("apiregistration.k8s.io", true));
    assert_eq!(names[names.len() - 2..], ["ext.test", "metrics.k8s.io"]);
    let version = &mine["versions"][0];
    assert_eq!((&version["version"], &version["freshness"]), (&json!("v1"), &json!("Current")));
    assert_eq!(version["resources"][0]["resource"], "things");
    let groups = e.get("/apis").await.ok();
    let groups: Vec<&Value> =
        groups["groups"].as_array().unwrap().iter().map(|group| &group["name"]).collect();
    assert_eq!(groups, names.iter().collect::<Vec<_>>());
    let group = e.get("/apis/ext.test").await.ok();
    assert_eq!(group["preferredVersion"]["groupVersion"], "ext.test/v1");

    // OpenAPI: of v3 the index here and the document there, v2 in one.
    let index = e.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/ext.test/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_ne!(index["paths"]["apis/apps/v1"]["serverRelativeURL"], "/openapi/v3/apis/apps/v1?hash=mine");
    assert_eq!(e.get(url).await.ok()["query"], "hash=AB");
    let older = loop {
        let answer = e.send("GET", "/openapi/v2", &[("accept", "application/json")], Vec::new()).await;
        if answer.text.contains("test.ext.Thing") {
            break answer.ok();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        older["paths"][format!("{V1}/things")].is_object()
            && older["paths"]["/apis/elsewhere/v1/x"].is_null()
    );
    let definitions = &older["definitions"];
    let other = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta_v2";
    assert_eq!(definitions["test.ext.Thing"]["properties"]["metadata"]["$ref"], other);
    assert!(definitions["unused"].is_null() && definitions["io.k8s.api.core.v1.Pod"].is_object());
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let forms = [("accept", protobuf), ("accept-encoding", "gzip")];
    let packed = e.raw("GET", "/openapi/v2", &forms, Vec::new()).await;
    let packed = packed.into_body().collect().await.unwrap().to_bytes();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes).unwrap();
    assert!(bytes.windows(14).any(|w| w == b"test.ext.Thing"));

    // It goes: clients are told, and the group stays in its place. It comes back.
    e.be(Mode::Down).await;
    let condition = e.until("FailedDiscoveryCheck").await;
    let message = condition["message"].as_str().unwrap();
    let url = format!("https://localhost:{}{V1}", e.port);
    assert_eq!(message, format!("failing or missing response from {url}: bad status from {url}: 503"));
    assert_eq!(failure(&e.get(THINGS).await), (503, "service unavailable"));
    assert_eq!(failure(&e.get(V1).await), (503, "service unavailable"));
    assert_eq!(e.discovery().await.0["versions"][0]["freshness"], "Stale");
    for line in [
        "aggregator_unavailable_apiservice{name=\"v1.ext.test\"} 1",
        "aggregator_unavailable_apiservice{name=\"v1.apps\"} 0",
        "aggregator_unavailable_apiservice_total{name=\"v1.ext.test\",reason=\"FailedDiscoveryCheck\"} 1",
    ] {
        // Counted when it has been written.
        while !e.get("/metrics").await.text.contains(line) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    e.be(Mode::Good).await;
    e.until("Passed").await;
    assert_eq!(e.get(V1).await.ok()["resources"], resources());

    // Without its Service, and without its APIService.
    e.delete("/api/v1/namespaces/default/services/ext").await.ok();
    let condition = e.until("ServiceNotFound").await;
    assert_eq!(condition["message"], "service/ext in \"default\" is not present");
    e.delete(&format!("{SERVICES}/v1.ext.test")).await.ok();
    assert_eq!(e.get(THINGS).await.code, 404);
    assert_eq!(e.discovery().await.0, Value::Null);
}

#[tokio::test]
async fn hostile_servers() {
    let e = Extension::new().await;
    // Lies and torrents: it is there, and nobody else suffers.
    *e.mode.lock().unwrap() = Mode::Lies;
    e.register().await;
    e.until("Passed").await;
    let (mine, names) = e.discovery().await;
    assert_eq!(mine["versions"], json!([{"version": "v1", "freshness": "Current"}]));
    assert!(names.len() > 20);
    assert!(e.get("/openapi/v3").await.ok()["paths"]["apis/ext.test/v1"].is_null());
    assert!(e.get("/openapi/v2").await.ok()["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    e.delete(&format!("{SERVICES}/v1.ext.test")).await.ok();

    *e.mode.lock().unwrap() = Mode::Endless;
    e.register().await;
    e.until("Passed").await;
    assert_eq!(e.discovery().await.0["versions"][0]["freshness"], "Stale");
    // An answer that stops in the middle is broken off.
    let stalled = e.raw("GET", &format!("{V1}/stall"), &[], Vec::new()).await;
    assert_eq!(stalled.status(), 200);
    assert!(stalled.into_body().collect().await.is_err());

    // It hangs: discovery is given up soon, a request after its time.
    *e.mode.lock().unwrap() = Mode::Hangs;
    let answer = e.get(THINGS).await;
    assert_eq!((answer.code, answer.json()["reason"].clone()), (504, json!("Timeout")));
    e.be(Mode::Hangs).await;
    e.until("FailedDiscoveryCheck").await;
    assert_eq!(failure(&e.get(THINGS).await), (503, "service unavailable"));

    // Not the server that its certificate should speak for.
    e.be(Mode::Good).await;
    let stranger = Signer::new();
    e.delete(&format!("{SERVICES}/v1.ext.test")).await.ok();
    e.post(SERVICES, e.object("v1.ext.test", &stranger.pem)).await.ok();
    let condition = e.until("FailedDiscoveryCheck").await;
    assert!(condition["message"].as_str().unwrap().contains("tls: "), "{condition}");
    // No certificate at all in the bundle.
    e.delete(&format!("{SERVICES}/v1.ext.test")).await.ok();
    e.post(SERVICES, e.object("v1.ext.test", "nonsense")).await.ok();
    let condition = e.until("FailedDiscoveryCheck").await;
    assert!(
        condition["message"].as_str().unwrap().contains("unable to load root certificates"),
        "{condition}"
    );
}

#[tokio::test]
async fn what_is_served_here_is_registered() {
    let world = access::cluster(true).await;
    let services = world.get(SERVICES).await.ok();
    let names: Vec<&str> = services["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"v1.") && names.contains(&"v1.apps") && names.contains(&"v2.autoscaling"),
        "{names:?}"
    );
    assert!(!names.contains(&"v1.apiregistration.k8s.io"));
    let apps = world.get(&format!("{SERVICES}/v1.apps")).await.ok();
    assert_eq!(
        apps["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15})
    );
    assert_eq!(apps["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"}));
    assert_eq!(apps["status"]["conditions"][0]["reason"], "Local");

    // Custom versions are kept for as long as they are served.
    let names = json!({"plural": "things", "kind": "Thing"});
    let version = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object"}}});
    let definition = json!({"metadata": {"name": "things.c.test"}, "spec": {"group": "c.test", "scope": "Cluster",
        "names": names, "versions": [version]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.post(definitions, definition).await.ok();
    let path = format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3Dv1.c.test");
    let mut events = world.watch(&path).await;
    let added = events.next().await.unwrap()["object"].clone();
    assert_eq!(added["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    let spec = &added["spec"];
    assert_eq!((&spec["groupPriorityMinimum"], &spec["versionPriority"]), (&json!(1000), &json!(100)));
    world.delete(&format!("{SERVICES}/v1.c.test")).await.ok();
    for expect in ["DELETED", "ADDED"] {
        assert_eq!(events.brief().await.0, expect);
    }
    let change = json!({"spec": {"versionPriority": 7}});
    world.patch("merge", &format!("{SERVICES}/v1.c.test"), change).await.ok();
    assert_eq!(events.next().await.unwrap()["object"]["spec"]["versionPriority"], 7);
    assert_eq!(events.next().await.unwrap()["object"]["spec"]["versionPriority"], 100);
    world.delete(&format!("{definitions}/things.c.test")).await.ok();
    assert_eq!(events.brief().await.0, "DELETED");
}
