//! The name server over real sockets on loopback.

use crate::world::{Api, service, slice};
use client::SharedInformers;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use linux::time::SystemEntropy;
use network::dns::{Config, Server};
use serde_json::json;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

const MANY: usize = 40;

async fn server(resolvers: Vec<SocketAddr>, shutdown: &CancellationToken) -> SocketAddr {
    let api = Api::default();
    api.set("services", &*service("n", "web", json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]})));
    api.set("services", &*service("n", "many", json!({"clusterIP": "None", "ports": [{"port": 80}]})));
    api.set(
        "services",
        &*service("n", "out", json!({"type": "ExternalName", "externalName": "out.example"})),
    );
    api.set(
        "services",
        &*service("n", "in", json!({"type": "ExternalName", "externalName": "web.n.svc.cluster.local"})),
    );
    api.set(
        "services",
        &*service("n", "loop", json!({"type": "ExternalName", "externalName": "loop.n.svc.cluster.local"})),
    );
    let addresses: Vec<String> = (0..MANY).map(|i| format!("10.244.0.{}", i + 2)).collect();
    api.set("endpointslices", &*slice("n", "many", &addresses));
    let entropy = Arc::new(SystemEntropy::new());
    let informers = SharedInformers::new(api.client(), entropy.clone());
    let config = Config { resolvers, ..Config::new(vec!["127.0.0.1:0".parse().unwrap()]) };
    let server = Server::build(config, &informers, entropy).await.unwrap();
    let address = server.addresses()[0];
    tokio::spawn(server.run(shutdown.clone()));
    address
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

async fn udp(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap()
}

async fn tcp(stream: &mut TcpStream, query: &Message) -> Message {
    let bytes = query.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn show(message: &Message) -> Vec<String> {
    assert_eq!((message.metadata.id, message.metadata.message_type), (4711, MessageType::Response));
    let code = (message.metadata.response_code != ResponseCode::NoError)
        .then(|| format!("{:?}", message.metadata.response_code));
    code.into_iter().chain(message.answers.iter().map(|r| format!("{} {}", r.name, r.data))).collect()
}

async fn ask(server: SocketAddr, name: &str) -> Vec<String> {
    show(&udp(server, &question(name, RecordType::A).to_vec().unwrap()).await)
}

#[tokio::test]
async fn own_names() {
    let shutdown = CancellationToken::new();
    let server = server(vec![], &shutdown).await;
    assert_eq!(ask(server, "web.n.svc.cluster.local.").await, ["web.n.svc.cluster.local. 10.96.0.9"]);
    assert_eq!(ask(server, "gone.n.svc.cluster.local.").await, ["NXDomain"]);
    let alias = ["in.n.svc.cluster.local. web.n.svc.cluster.local.", "web.n.svc.cluster.local. 10.96.0.9"];
    assert_eq!(ask(server, "in.n.svc.cluster.local.").await, alias);
    assert_eq!(ask(server, "loop.n.svc.cluster.local.").await[0], "ServFail");
    // Nobody to ask: a name that does not exist, at once.
    assert_eq!(ask(server, "www.example.").await, ["NXDomain"]);

    let no_data =
        udp(server, &question("web.n.svc.cluster.local.", RecordType::AAAA).to_vec().unwrap()).await;
    assert_eq!((show(&no_data), no_data.authorities.len()), (vec![], 1));
    assert!(no_data.metadata.authoritative && no_data.metadata.recursion_available);
    assert_eq!(no_data.queries, question("web.n.svc.cluster.local.", RecordType::AAAA).queries);
    shutdown.cancel();
}

#[tokio::test]
async fn what_does_not_fit_is_asked_over_tcp() {
    let shutdown = CancellationToken::new();
    let server = server(vec![], &shutdown).await;
    let mut query = question("many.n.svc.cluster.local.", RecordType::A);
    let short = udp(server, &query.to_vec().unwrap()).await;
    assert!(short.metadata.truncation && short.answers.is_empty());
    assert!(short.to_vec().unwrap().len() <= 512);
    // With EDNS it fits; and the order turns, so that clients spread.
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns);
    let first = udp(server, &query.to_vec().unwrap()).await;
    let second = udp(server, &query.to_vec().unwrap()).await;
    assert_eq!((first.answers.len(), first.metadata.truncation), (MANY, false));
    assert_eq!(first.edns.as_ref().map(Edns::max_payload), Some(1232));
    assert_ne!(first.answers[0], second.answers[0]);
    // Several questions on one connection.
    let mut stream = TcpStream::connect(server).await.unwrap();
    for _ in 0..2 {
        let whole = tcp(&mut stream, &question("many.n.svc.cluster.local.", RecordType::A)).await;
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (MANY, false));
    }
    shutdown.cancel();
}

#[tokio::test]
async fn foreign_names_are_asked_of_others() {
    let shutdown = CancellationToken::new();
    // The first resolver refuses at once, since nobody listens; the second knows two names.
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolvers = vec![closed, other.local_addr().unwrap()];
    let server = server(resolvers, &shutdown).await;
    tokio::spawn(async move {
        let mut buffer = vec![0; 512];
        loop {
            let (length, from) = other.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            assert_ne!(query.metadata.id, 4711, "the client's identifier must not be passed on");
            let mut reply = Message::response(query.metadata.id, OpCode::Query);
            reply.add_queries(query.queries.iter().cloned());
            match query.queries[0].name.to_string().as_str() {
                "www.example." | "out.example." => {
                    let data = RData::A(A::new(198, 51, 100, 1));
                    reply.add_answer(Record::from_rdata(query.queries[0].name.clone(), 60, data));
                }
                _ => reply.metadata.response_code = ResponseCode::NXDomain,
            }
            // A forged answer first: it must be passed over.
            let mut forged = reply.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.answers.clear();
            other.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
            other.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    assert_eq!(ask(server, "www.example.").await, ["www.example. 198.51.100.1"]);
    assert_eq!(ask(server, "gone.example.").await, ["NXDomain"]);
    let alias = ["out.n.svc.cluster.local. out.example.", "out.example. 198.51.100.1"];
    assert_eq!(ask(server, "out.n.svc.cluster.local.").await, alias);
    shutdown.cancel();
}

#[tokio::test]
async fn nobody_answers() {
    let shutdown = CancellationToken::new();
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = server(vec![closed], &shutdown).await;
    for _ in 0..3 {
        assert_eq!(ask(server, "www.example.").await, ["ServFail"]);
    }
    assert_eq!(ask(server, "web.n.svc.cluster.local.").await, ["web.n.svc.cluster.local. 10.96.0.9"]);
    shutdown.cancel();
}

#[tokio::test]
async fn bad_questions() {
    let shutdown = CancellationToken::new();
    let server = server(vec![], &shutdown).await;
    let good = question("web.n.svc.cluster.local.", RecordType::A);
    // A name that runs out of the message.
    let mut cut = good.to_vec().unwrap();
    cut.truncate(20);
    assert_eq!(show(&udp(server, &cut).await), ["FormErr"]);
    let mut none = good.clone();
    none.queries.clear();
    assert_eq!(show(&udp(server, &none.to_vec().unwrap()).await), ["FormErr"]);
    let mut status = good.clone();
    status.metadata.op_code = OpCode::Status;
    assert_eq!(show(&udp(server, &status.to_vec().unwrap()).await), ["NotImp"]);
    let transfer = question("cluster.local.", RecordType::AXFR);
    assert_eq!(show(&udp(server, &transfer.to_vec().unwrap()).await), ["Refused"]);
    // Rubbish and answers are passed over in silence; the server goes on.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = good.clone();
    answer.metadata.message_type = MessageType::Response;
    for bytes in [vec![], vec![1, 2, 3], answer.to_vec().unwrap()] {
        socket.send_to(&bytes, server).await.unwrap();
    }
    assert_eq!(ask(server, "web.n.svc.cluster.local.").await.len(), 1);
    shutdown.cancel();
}
