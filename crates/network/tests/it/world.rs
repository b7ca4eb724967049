//! A "host" with the pods' bridge and pods with servers, and an API server that is a map.

#![allow(
    clippy::disallowed_methods,
    reason = "the pods' servers are plain threads; nothing here is simulated"
)]

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use bytes::Bytes;
use client::{Body, Client, Transport, TransportError};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, StreamBody};
use linux::netlink::Netlink;
use linux::netns::Namespace;
use network::cni;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const PLUGINS: &str = "/usr/lib/cni";

pub fn root_or_skip(what: &str) -> bool {
    if linux::is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{what}: this test needs root");
    eprintln!("skipped: {what} needs root");
    false
}

pub struct World {
    pub host: Namespace,
    pub pods: Vec<Pod>,
    pub network: cni::Config,
    _dir: tempfile::TempDir,
}

pub struct Pod {
    pub namespace: Namespace,
    pub address: IpAddr,
}

impl World {
    /// `pods` pods, each of which answers with its name on TCP 8080 and UDP 5353. Their interfaces are made by
    /// the real `bridge` plugin, from the configuration that the node would write.
    pub fn new(pods: usize) -> World {
        let dir = tempfile::tempdir().unwrap();
        let network = cni::Config {
            network: "test".into(),
            bridge: "crt0".into(),
            pod_cidrs: vec!["10.244.3.0/24".parse().unwrap()],
            service_cidrs: ["10.96.0.0/16", "10.112.0.0/16"].map(|c| c.parse().unwrap()).to_vec(),
            conf_dir: dir.path().join("net.d"),
            state_dir: dir.path().join("state"),
            mtu: None,
        };
        let host = Namespace::new().unwrap();
        loopback(&host);
        host.run_async(async || cni::setup(&network).await.unwrap()).unwrap();
        let text = std::fs::read(network.conf_dir.join("10-corten.conflist")).unwrap();
        let list: Value = serde_json::from_slice(&text).unwrap();
        let mut plugin = list["plugins"][0].clone();
        plugin["name"] = list["name"].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        let pods = (0..pods)
            .map(|i| {
                let namespace = Namespace::new().unwrap();
                loopback(&namespace);
                let address = attach(&host, &namespace, &format!("pod{i}"), &plugin);
                Answers::serve(&namespace, "0.0.0.0:8080", &format!("pod{i}"));
                answer_udp(&namespace, &format!("pod{i}"));
                Pod { namespace, address }
            })
            .collect();
        World { host, pods, network, _dir: dir }
    }
}

fn loopback(namespace: &Namespace) {
    let up = async || {
        let netlink = Netlink::connect().unwrap();
        let lo = netlink.expect_link("lo").await.unwrap();
        netlink.set_up(lo.index).await.unwrap();
    };
    namespace.run_async(up).unwrap();
}

fn attach(host: &Namespace, pod: &Namespace, name: &str, plugin: &Value) -> IpAddr {
    let handle = format!("/proc/{}/fd/{}", std::process::id(), pod.as_raw_fd());
    let run = || {
        let mut child = Command::new(format!("{PLUGINS}/bridge"))
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", name)
            .env("CNI_NETNS", handle)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the reference plugins (Debian package containernetworking-plugins)");
        child.stdin.take().unwrap().write_all(plugin.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = host.run(run).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_str(&said).unwrap();
    let address = result["ips"][0]["address"].as_str().unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

pub struct Answers;

impl Answers {
    /// Answers every connection with `name`, for as long as the test runs.
    pub fn serve(namespace: &Namespace, on: &str, name: &str) -> SocketAddr {
        let listener = namespace.run(|| TcpListener::bind(on).unwrap()).unwrap();
        let (address, name) = (listener.local_addr().unwrap(), name.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut s| s.write_all(name.as_bytes()));
            }
        });
        address
    }
}

fn answer_udp(namespace: &Namespace, name: &str) {
    let socket = namespace.run(|| UdpSocket::bind("0.0.0.0:5353").unwrap()).unwrap();
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 32];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}

/// One connection, one answer.
pub fn ask(from: &Namespace, to: &str) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
    .unwrap()
}

/// One datagram from a socket of its own, one answer, which must come from where the question went.
pub fn ask_udp(from: &Namespace, to: &str) -> io::Result<String> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send(b"who")?;
        let mut buffer = [0; 32];
        let n = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
    })
    .unwrap()
}

/// The addresses of `name`, asked over UDP and then over TCP.
pub fn look_up(server: &str, name: &str) -> Vec<String> {
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name.parse::<Name>().unwrap(), RecordType::A));
    let query = query.to_vec().unwrap();
    let patience = Some(Duration::from_secs(5));
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(patience).unwrap();
    socket.send(&query).unwrap();
    let mut datagram = vec![0; 512];
    let length = socket.recv(&mut datagram).unwrap();
    datagram.truncate(length);
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(patience).unwrap();
    stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&query).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    let messages = [datagram, answer].map(|bytes| Message::from_vec(&bytes).unwrap());
    messages.iter().flat_map(|m| m.answers.iter().map(|r| r.data.to_string())).collect()
}

pub fn service(namespace: &str, name: &str, spec: Value) -> Arc<Service> {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Ready endpoints for the ports `http` and `dns` that the pods here serve.
pub fn slice(namespace: &str, service: &str, addresses: &[String]) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> =
        addresses.iter().map(|a| json!({"addresses": [a], "nodeName": "here"})).collect();
    let object = json!({
        "metadata": {
            "namespace": namespace, "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "dns", "port": 5353, "protocol": "UDP"},
        ],
        "endpoints": endpoints,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Lists and watches, for informers.
#[derive(Clone)]
pub struct Api {
    /// Every change so far; its place is its resourceVersion.
    log: Arc<watch::Sender<Vec<Change>>>,
    objects: Arc<Mutex<BTreeMap<(String, String), Value>>>,
}

#[derive(Clone)]
struct Change {
    resource: String,
    kind: &'static str,
    object: Value,
}

impl Default for Api {
    fn default() -> Self {
        Api { log: Arc::new(watch::Sender::new(Vec::new())), objects: Arc::default() }
    }
}

impl Api {
    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test")
    }

    pub fn set<T: Serialize>(&self, resource: &str, object: &T) {
        self.change(resource, serde_json::to_value(object).unwrap(), None);
    }

    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let object = json!({"metadata": {"namespace": namespace, "name": name}});
        self.change(resource, object, Some("DELETED"));
    }

    fn change(&self, resource: &str, mut object: Value, kind: Option<&'static str>) {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = (resource.to_owned(), format!("{}/{}", text("namespace"), text("name")));
        let mut objects = self.objects.lock().unwrap();
        self.log.send_modify(|log| {
            object["metadata"]["resourceVersion"] = json!((log.len() + 1).to_string());
            let kind = kind.unwrap_or(if objects.contains_key(&key) { "MODIFIED" } else { "ADDED" });
            match kind {
                "DELETED" => objects.remove(&key),
                _ => objects.insert(key.clone(), object.clone()),
            };
            log.push(Change { resource: resource.to_owned(), kind, object });
        });
    }

    fn list(&self, resource: &str) -> String {
        let objects = self.objects.lock().unwrap();
        let items: Vec<&Value> = objects.iter().filter(|((r, _), _)| r == resource).map(|(_, o)| o).collect();
        json!({"metadata": {"resourceVersion": self.log.borrow().len().to_string()}, "items": items})
            .to_string()
    }

    fn watch(&self, resource: String, from: usize) -> Body {
        let log = self.log.subscribe();
        let stream = futures::stream::unfold((log, from), move |(mut log, from)| {
            let resource = resource.clone();
            async move {
                log.wait_for(|log| log.len() > from).await.ok()?;
                let (lines, to) = {
                    let log = log.borrow();
                    let new = log.iter().skip(from).filter(|c| c.resource == resource);
                    let lines: String =
                        new.map(|c| json!({"type": c.kind, "object": c.object}).to_string() + "\n").collect();
                    (lines, log.len())
                };
                Some((Ok(http_body::Frame::data(Bytes::from(lines))), (log, to)))
            }
        });
        StreamBody::new(stream).boxed_unsync()
    }
}

impl Transport for Api {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, TransportError>> {
        let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
        let body = match parameter("watch") {
            Some("true" | "1") => {
                let from = parameter("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
                self.watch(resource, from)
            }
            _ => client::full_body(self.list(&resource)),
        };
        Box::pin(async move { Ok(http::Response::new(body)) })
    }
}
