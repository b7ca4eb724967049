//! Streams: a client on an HTTP/1.1 connection to the server, a kubelet on the other side, and what each gets of the
//! other.

use std::{convert::Infallible, sync::Arc};

use apiserver::{
    authentication,
    request::UserInfo,
    response,
    server::{Config, Peer, tls},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use client::streaming::spdy::{Decoder, Encoder, Frame};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::{tls::Authority, world::World};

const EXEC: &str = "/api/v1/namespaces/default/pods/p/exec";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";

type Socket = TokioIo<Upgraded>;

/// A request as the kubelet got it, and the connection if it was upgraded.
struct Got {
    line: String,
    headers: HeaderMap,
    io: Option<Socket>,
}

struct Streams {
    world: World,
    kubelet: mpsc::Receiver<Got>,
}

/// `POST` with SPDY is switched to the first protocol that is offered, WebSocket to anything; a pod's log is two
/// lines; a container named `none` is not there.
async fn answer(mut request: Request<Incoming>, got: mpsc::Sender<Got>) -> Response<Full<Bytes>> {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let mut answer = Response::new(Full::default());
    let mut io = None;
    if line.contains("none") {
        *answer.status_mut() = StatusCode::NOT_FOUND;
        *answer.body_mut() = Full::from("container not found (\"none\")\n");
    } else if line.contains("containerLogs") {
        *answer.body_mut() = Full::from("one\ntwo\n");
    } else if let Some(upgrade) = headers.get(header::UPGRADE) {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
        answer.headers_mut().insert(header::UPGRADE, upgrade.clone());
        if let Some(protocol) = headers.get("x-stream-protocol-version") {
            answer.headers_mut().insert("x-stream-protocol-version", protocol.clone());
        }
        io = Some(hyper::upgrade::on(&mut request));
    }
    tokio::spawn(async move {
        let io = match io {
            Some(upgrade) => Some(TokioIo::new(upgrade.await.unwrap())),
            None => None,
        };
        let _ = got.send(Got { line, headers, io }).await;
    });
    answer
}

impl Streams {
    async fn new() -> Self {
        let authority = Authority::new();
        let (chain, key) = authority.certificate();
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (got, kubelet) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, got) = (acceptor.clone(), got.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = service_fn(move |request| {
                        let got = got.clone();
                        async move { Ok::<_, Infallible>(answer(request, got).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        let mut config = Config::new(authentication::Config {
            anonymous: true,
            request_header: None,
            x509: None,
            service_accounts: None,
            token_file: None,
            bootstrap_tokens: false,
            ..authentication::Config::default()
        });
        config.kubelet_tls = Some(Arc::new(authority.client(&[])));
        let world = World::with(config);
        let namespace = json!({"metadata": {"name": "default"}});
        world.post("/api/v1/namespaces", namespace.clone()).await.ok();
        world.post("/api/v1/namespaces/default/serviceaccounts", namespace).await.ok();
        let node = |name: &str, port: u16, features: &[&str]| {
            json!({"metadata": {"name": name}, "status": {"declaredFeatures": features,
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}})
        };
        // A port that was free a moment ago: nobody is there.
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for (pod, port, features) in
            [("p", port, &[][..]), ("able", port, &["ExtendWebSocketsToKubelet"]), ("lost", nobody, &[])]
        {
            world.post("/api/v1/nodes", node(pod, port, features)).await.ok();
            let names = ["c", "none"].map(|name| json!({"name": name, "image": "i"}));
            let spec = json!({"nodeName": pod, "containers": names});
            let object = json!({"metadata": {"name": pod}, "spec": spec});
            world.post("/api/v1/namespaces/default/pods", object).await.ok();
        }
        Self { world, kubelet }
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
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
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades()
                .await;
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "server");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    }

    async fn websocket(&self, path: &str, protocols: &str) -> Response<Incoming> {
        let mut headers = vec![
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
            ("origin", "http://127.0.0.1"),
            ("authorization", "Bearer secret"),
        ];
        if !protocols.is_empty() {
            headers.push(("sec-websocket-protocol", protocols));
        }
        self.ask("GET", path, &headers).await
    }
}

/// The client's end, once the server has switched.
async fn connected(answer: Response<Incoming>, protocol: &str) -> WebSocketStream<Socket> {
    assert_eq!(answer.status(), 101);
    let agreed = answer.headers().get("sec-websocket-protocol").map_or("", |v| v.to_str().unwrap());
    assert_eq!(agreed, protocol);
    let io = hyper::upgrade::on(answer).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Client, None).await
}

async fn refused(answer: Response<Incoming>) -> (u16, String) {
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

async fn hear(client: &mut WebSocketStream<Socket>) -> Vec<u8> {
    match client.next().await.unwrap().unwrap() {
        Message::Binary(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// What the kubelet writes and reads of SPDY.
struct Spdy(Socket, Decoder, Encoder);

impl Spdy {
    async fn hear(&mut self) -> Frame {
        loop {
            match self.1.next_frame().unwrap() {
                Some(Frame::Ping { .. }) => {}
                Some(frame) => return frame,
                None => {
                    let mut block = [0; 4096];
                    let length = self.0.read(&mut block).await.unwrap();
                    assert!(length > 0, "the server has gone");
                    self.1.push(&block[..length]);
                }
            }
        }
    }

    async fn say(&mut self, frame: Frame) {
        let mut out = Vec::new();
        self.2.encode(&frame, &mut out);
        self.0.write_all(&out).await.unwrap();
        self.0.flush().await.unwrap();
    }
}

#[tokio::test]
async fn commands_are_translated() {
    let mut s = Streams::new().await;
    let path = format!("{EXEC}?container=c&command=cat&command=-&stdin=true&stdout=true");
    let answer = s.websocket(&path, "v9.channel.k8s.io, v5.channel.k8s.io, v4.channel.k8s.io").await;
    let mut client = connected(answer, V5).await;
    assert_eq!(hear(&mut client).await, [1]);
    let got = s.kubelet.recv().await.unwrap();
    assert_eq!(got.line, "POST /exec/default/p/c?input=1&output=1&command=cat&command=-");
    let offered: Vec<_> = got.headers.get_all("x-stream-protocol-version").iter().collect();
    assert_eq!(offered.len(), 5);
    let about_client = ["authorization", "sec-websocket-key", "origin"];
    assert!(about_client.iter().all(|name| !got.headers.contains_key(*name)), "{:?}", got.headers);
    let mut kubelet = Spdy(got.io.unwrap(), Decoder::default(), Encoder::default());
    for (id, name) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        let headers = vec![("streamtype".to_owned(), name.to_owned())];
        assert_eq!(kubelet.hear().await, Frame::SynStream { stream: id, fin: false, headers });
        kubelet.say(Frame::SynReply { stream: id, fin: false, headers: vec![] }).await;
    }
    for message in [&b"\0hi"[..], &[255, 0]] {
        client.send(Message::binary(message.to_vec())).await.unwrap();
    }
    let data = |stream, fin, text: &str| Frame::Data { stream, fin, bytes: text.to_owned().into() };
    assert_eq!(kubelet.hear().await, data(3, false, "hi"));
    assert_eq!(kubelet.hear().await, data(3, true, ""));
    kubelet.say(data(5, true, "hi")).await;
    assert_eq!(hear(&mut client).await, b"\x01hi");
    let status = json!({"status": "Failure", "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}});
    kubelet.say(data(1, true, &status.to_string())).await;
    let last = hear(&mut client).await;
    let told: Value = serde_json::from_slice(&last[1..]).unwrap();
    assert_eq!((last[0], &told["details"]["causes"][0]["message"]), (3, &json!("7")));
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    while client.next().await.is_some_and(|last| last.is_ok()) {}
    while !matches!(kubelet.hear().await, Frame::GoAway { .. }) {}
    // Counted once the client is off.
    let metrics = async || s.world.get("/metrics").await.text;
    while !metrics().await.contains("apiserver_stream_translator_requests_total{code=\"200\"} 1") {
        tokio::task::yield_now().await;
    }
    let routed = "apiserver_websocket_streaming_requests_total{proxy_type=\"translated_at_apiserver\",subresource=\"exec\"} 1";
    assert!(metrics().await.contains(routed));
}

/// Before the upgrade a refusal is an answer, after it a message.
#[tokio::test]
async fn kubelets_that_refuse() {
    let s = Streams::new().await;
    for (pod, container, expect) in [
        (
            "p",
            "none",
            "Internal error occurred: unable to upgrade connection: container not found (\"none\")",
        ),
        ("lost", "c", "Internal error occurred: error sending request: Post \"https://127.0.0.1:"),
    ] {
        let path = format!("/api/v1/namespaces/default/pods/{pod}/attach?container={container}&stderr=1");
        let mut client = connected(s.websocket(&path, V5).await, V5).await;
        assert_eq!(hear(&mut client).await, [2]);
        let last = hear(&mut client).await;
        let told: Value = serde_json::from_slice(&last[1..]).unwrap();
        let message = told["message"].as_str().unwrap();
        assert!(last[0] == 3 && told["code"] == 500 && message.starts_with(expect), "{told}");
    }
    let message = |text: &str| {
        let status: Value = serde_json::from_str(text).unwrap_or_default();
        status["message"].as_str().unwrap_or(text).to_owned()
    };
    let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", V4)];
    let get = |path: &str| format!("/api/v1/namespaces/default/pods/{path}");
    for (answer, expect) in [
        (s.ask("POST", &get("p/exec?container=c&command=x"), &[]).await, (400, "Upgrade request required")),
        (s.ask("GET", &get("p/portforward?ports=80"), &[]).await, (400, "Upgrade request required")),
        (
            s.ask("POST", &get("p/exec?container=none"), &spdy).await,
            (404, "container not found (\"none\")\n"),
        ),
        (
            s.ask("POST", &get("lost/portforward"), &spdy).await,
            (500, "error dialing backend: dial tcp 127.0.0.1:"),
        ),
        (
            s.websocket(&get("lost/portforward"), "SPDY/3.1+portforward.k8s.io").await,
            (500, "error dialing backend: dial tcp 127.0.0.1:"),
        ),
        (s.websocket(&get("p/exec?container=x"), V5).await, (400, "container x is not valid for pod p")),
        (s.websocket(&get("q/exec"), V5).await, (404, "pods \"q\" not found")),
        (s.websocket(&get("lost/log?container=c"), "").await, (500, "Get \"https://127.0.0.1:")),
        (s.websocket(&get("p/log?container=c"), V4).await, (403, "")),
    ] {
        let (code, text) = refused(answer).await;
        let text = message(&text);
        assert!(code == expect.0 && text.starts_with(expect.1), "{code} {text:?}, not {expect:?}");
    }
}

/// What is not translated goes on as it is, without the client's token.
#[tokio::test]
async fn older_protocols_pass() {
    let mut s = Streams::new().await;
    let token = format!("base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode("secret"));
    let query = "container=c&command=x&stdout=1";
    let spdy = [("connection", "upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", V4)];
    let able = "/api/v1/namespaces/default/pods/able";
    for (answer, method, kind, protocols) in [
        (s.websocket(&format!("{EXEC}?{query}"), &format!("{token}, {V4}")).await, "GET", "websocket", V4),
        (
            s.websocket(&format!("{able}/exec?{query}"), &format!("{V5},{V4}")).await,
            "GET",
            "websocket",
            "v5.channel.k8s.io, v4.channel.k8s.io",
        ),
        (
            s.websocket(&format!("{able}/portforward?ports=1"), "SPDY/3.1+portforward.k8s.io").await,
            "GET",
            "websocket",
            "SPDY/3.1+portforward.k8s.io",
        ),
        (s.ask("POST", &format!("{EXEC}?{query}"), &spdy).await, "POST", "SPDY/3.1", ""),
    ] {
        assert_eq!(answer.status(), 101);
        let got = s.kubelet.recv().await.unwrap();
        assert!(got.line.starts_with(method) && !got.headers.contains_key(header::AUTHORIZATION));
        let header = |name: &str| got.headers.get(name).map_or("", |v| v.to_str().unwrap());
        assert_eq!((header("upgrade"), header("sec-websocket-protocol")), (kind, protocols));
        let (mut client, mut kubelet) =
            (TokioIo::new(hyper::upgrade::on(answer).await.unwrap()), got.io.unwrap());
        let mut word = [0; 3];
        client.write_all(b"abc").await.unwrap();
        kubelet.read_exact(&mut word).await.unwrap();
        kubelet.write_all(&word).await.unwrap();
        client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"abc");
        drop(client);
        assert_eq!(kubelet.read(&mut word).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn port_forward_in_a_websocket() {
    let mut s = Streams::new().await;
    let path = "/api/v1/namespaces/default/pods/p/portforward?ports=80";
    let tunnel = "SPDY/3.1+portforward.k8s.io";
    let mut client = connected(s.websocket(path, &format!("x, {tunnel}")).await, tunnel).await;
    let got = s.kubelet.recv().await.unwrap();
    assert_eq!(got.line, "POST /portForward/default/p?port=80");
    assert_eq!(got.headers["x-stream-protocol-version"], "portforward.k8s.io");
    assert!(!got.headers.contains_key("sec-websocket-key"));
    let mut kubelet = got.io.unwrap();
    client.send(Message::binary(&b"anything"[..])).await.unwrap();
    let mut word = [0; 8];
    kubelet.read_exact(&mut word).await.unwrap();
    kubelet.write_all(&word).await.unwrap();
    kubelet.flush().await.unwrap();
    assert_eq!(hear(&mut client).await, b"anything");
    kubelet.shutdown().await.unwrap();
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn logs_in_messages() {
    let mut s = Streams::new().await;
    for protocol in ["", "binary.k8s.io", "base64.binary.k8s.io"] {
        let path = "/api/v1/namespaces/default/pods/p/log?container=c";
        let mut client = connected(s.websocket(path, protocol).await, protocol).await;
        let got = s.kubelet.recv().await.unwrap();
        assert_eq!(got.line, "GET /containerLogs/default/p/c?stream=All");
        assert!(!got.headers.contains_key(header::UPGRADE));
        let mut all = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            match (protocol, message) {
                (_, Message::Close(_)) => {}
                ("base64.binary.k8s.io", Message::Text(text)) => {
                    all.push(String::from_utf8(STANDARD.decode(text.as_str()).unwrap()).unwrap());
                }
                (_, Message::Binary(bytes)) => all.push(String::from_utf8(bytes.to_vec()).unwrap()),
                (_, other) => panic!("{other:?}"),
            }
        }
        // An empty one says that there is a connection.
        assert_eq!((all[0].as_str(), all[1..].concat().as_str()), ("", "one\ntwo\n"), "{protocol}");
    }
}

#[tokio::test]
async fn watches_in_messages() {
    let s = Streams::new().await;
    let path = "/api/v1/namespaces/default/configmaps?watch=1";
    let ask = |accept: &'static str, origin: &'static str| {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
            ("accept", accept),
            ("origin", origin),
        ];
        let s = &s;
        async move { s.ask("GET", path, &headers[..6 - usize::from(origin.is_empty())]).await }
    };
    assert_eq!(refused(ask("application/json", "").await).await.0, 403);
    assert_eq!(refused(s.websocket(path, "a, b").await).await.0, 400);
    let (status, text) = refused(s.websocket(&format!("{path}&fieldSelector=x%3Dy"), "").await).await;
    assert!(status == 400 && text.contains("is not a known field selector"), "{text}");

    let protobuf = "application/vnd.kubernetes.protobuf;stream=watch, application/vnd.kubernetes.protobuf";
    let mut json = connected(ask("application/json", "http://x").await, "").await;
    let mut packed = connected(ask(protobuf, "http://x").await, "").await;
    for name in ["a", "b"] {
        s.world.post("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": name}})).await.ok();
    }
    for name in ["a", "b"] {
        let Message::Text(text) = json.next().await.unwrap().unwrap() else { panic!("no text") };
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!(name)));
        // A WatchEvent: its type, then the object in its envelope.
        let bytes = hear(&mut packed).await;
        assert!(bytes.starts_with(b"\x0a\x05ADDED"), "{bytes:?}");
    }
    // The client goes: so does the watch. The server goes: so does the other.
    json.send(Message::Close(None)).await.unwrap();
    assert!(matches!(json.next().await, Some(Ok(Message::Close(_))) | None));
    s.world.server.stop();
    assert!(matches!(packed.next().await, Some(Ok(Message::Close(_)))));
}
