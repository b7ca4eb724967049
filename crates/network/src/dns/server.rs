//! Sockets around [`answer`](super::answer).

use super::forward::{Resolvers, Unanswered};
use super::zone::{Answer, Question, Zone, answer};
use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use apimachinery::clock::Entropy;
use client::{Informer, SharedInformers};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use linux::netlink::Prefix;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What we send at most in one datagram, and what we say so to others: fits every path without fragments.
const MAX_UDP: u16 = 1232;
/// Without EDNS (RFC 1035).
const MIN_UDP: u16 = 512;
/// Questions that wait for other servers, and TCP connections, at a time.
const LIMIT: usize = 512;
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Aliases that are followed before we give up: they may go in a circle.
const MAX_ALIASES: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen, over UDP and TCP. Port 0 picks one port for both.
    pub listen: Vec<SocketAddr>,
    /// `cluster.local` by default.
    pub domain: String,
    /// Who to ask for other names; see [`parse_resolv_conf`](super::parse_resolv_conf). With nobody to ask,
    /// such names do not exist (NXDOMAIN), at once.
    pub resolvers: Vec<SocketAddr>,
    /// Ranges of pods and Services, whose reverse names are never asked of others.
    pub reverse: Vec<Prefix>,
    /// Seconds; 5 to 30 is sensible.
    pub ttl: u32,
}

impl Config {
    pub fn new(listen: Vec<SocketAddr>) -> Self {
        Config {
            listen,
            domain: "cluster.local".to_owned(),
            resolvers: Vec::new(),
            reverse: Vec::new(),
            ttl: 5,
        }
    }
}

/// A name server that holds its sockets.
pub struct Server {
    core: Arc<Core>,
    sockets: Vec<(UdpSocket, TcpListener)>,
    addresses: Vec<SocketAddr>,
    informers: SharedInformers,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

struct Core {
    zone: Zone,
    resolvers: Resolvers,
    /// Turns the order of several addresses from answer to answer: most clients take the first.
    turn: AtomicUsize,
    waiting: Semaphore,
    stats: Arc<Stats>,
}

#[derive(Default)]
struct Stats {
    questions: AtomicU64,
    forwarded: AtomicU64,
    failed: AtomicU64,
}

/// Numbers of a running server. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    stats: Arc<Stats>,
}

impl Handle {
    /// In Prometheus' text format.
    pub fn metrics(&self) -> String {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        format!(
            "# TYPE corten_dns_requests_total counter\ncorten_dns_requests_total {}\n\
             # TYPE corten_dns_forwarded_total counter\ncorten_dns_forwarded_total {}\n\
             # TYPE corten_dns_forward_failures_total counter\ncorten_dns_forward_failures_total {}\n",
            get(&self.stats.questions),
            get(&self.stats.forwarded),
            get(&self.stats.failed),
        )
    }
}

#[derive(Debug, thiserror::Error)]
#[error("listening for DNS on {address}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: io::Error,
}

impl Server {
    /// Binds the sockets, within a tokio runtime.
    pub async fn build(
        config: Config,
        informers: &SharedInformers,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, BindError> {
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for address in &config.listen {
            let failed = |source| BindError { address: *address, source };
            let tcp = TcpListener::bind(address).await.map_err(failed)?;
            let bound = tcp.local_addr().map_err(failed)?;
            sockets.push((UdpSocket::bind(bound).await.map_err(failed)?, tcp));
            addresses.push(bound);
        }
        let core = Core {
            zone: Zone::of(&config.domain, config.ttl, config.reverse, informers),
            resolvers: Resolvers::new(config.resolvers, entropy),
            turn: AtomicUsize::new(0),
            waiting: Semaphore::new(LIMIT),
            stats: Arc::default(),
        };
        Ok(Server {
            core: Arc::new(core),
            sockets,
            addresses,
            services: informers.get(),
            slices: informers.get(),
            informers: informers.clone(),
        })
    }

    /// Where it listens, in the order of [`Config::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn handle(&self) -> Handle {
        Handle { stats: self.core.stats.clone() }
    }

    /// Runs until `shutdown`. Questions that come before the first list is there wait in the sockets: a wrong
    /// "no such name" would be remembered.
    pub async fn run(self, shutdown: CancellationToken) {
        self.informers.start(&shutdown);
        if !self.services.wait_for_sync(&shutdown).await || !self.slices.wait_for_sync(&shutdown).await {
            return;
        }
        let mut tasks = JoinSet::new();
        for (udp, tcp) in self.sockets {
            let (core, stop) = (self.core.clone(), shutdown.clone());
            tasks.spawn(async move { serve_udp(core, Arc::new(udp), stop).await });
            let (core, stop) = (self.core.clone(), shutdown.clone());
            tasks.spawn(async move { serve_tcp(core, tcp, stop).await });
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn serve_udp(core: Arc<Core>, socket: Arc<UdpSocket>, shutdown: CancellationToken) {
    let mut buffer = vec![0; 4096];
    let mut asking = JoinSet::new();
    loop {
        let received = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        while asking.try_join_next().is_some() {}
        // An error here is about an earlier answer that could not be delivered.
        let Ok((length, from)) = received else { continue };
        let Some(Ok(query)) = buffer.get(..length).map(parse) else { continue };
        match core.local(&query) {
            Reply::Done(reply) => send(&socket, from, &query, &reply).await,
            Reply::Ask { reply, next } => {
                let (core, socket) = (core.clone(), socket.clone());
                asking.spawn(async move {
                    let reply = core.complete(&query, reply, next, false).await;
                    send(&socket, from, &query, &reply).await;
                });
            }
            Reply::Nothing => {}
        }
    }
}

async fn send(socket: &UdpSocket, to: SocketAddr, query: &Message, reply: &Message) {
    if let Some(bytes) = fit(query, reply)
        && let Err(error) = socket.send_to(&bytes, to).await
    {
        tracing::debug!(%to, %error, "a DNS answer could not be sent");
    }
}

/// Encodes for a datagram: what is too long is left out and marked, and the client asks again over TCP.
fn fit(query: &Message, reply: &Message) -> Option<Vec<u8>> {
    let limit = query.edns.as_ref().map_or(MIN_UDP, |e| e.max_payload().clamp(MIN_UDP, MAX_UDP));
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    // The additional records are a courtesy; without them it may fit.
    let mut shorter = reply.clone();
    shorter.additionals.clear();
    match shorter.to_vec() {
        Ok(bytes) if bytes.len() <= usize::from(limit) => Some(bytes),
        _ => reply.truncate().to_vec().ok(),
    }
}

async fn serve_tcp(core: Arc<Core>, listener: TcpListener, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept(), if connections.len() < LIMIT => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let core = core.clone();
                connections.spawn(async move { serve_connection(&core, stream).await });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a DNS connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One question after the other, until the client closes or is silent for too long.
async fn serve_connection(core: &Core, mut stream: TcpStream) {
    loop {
        let read = timeout(TCP_IDLE, async {
            let length = stream.read_u16().await?;
            let mut buffer = vec![0; usize::from(length)];
            stream.read_exact(&mut buffer).await?;
            Ok::<_, io::Error>(buffer)
        });
        let Ok(Ok(buffer)) = read.await else { return };
        let Ok(query) = parse(&buffer) else { return };
        let reply = match core.local(&query) {
            Reply::Done(reply) => reply,
            Reply::Ask { reply, next } => core.complete(&query, reply, next, true).await,
            Reply::Nothing => return,
        };
        let Ok(bytes) = reply.to_vec() else { return };
        let Ok(length) = u16::try_from(bytes.len()) else { return };
        let whole = [&length.to_be_bytes(), bytes.as_slice()].concat();
        if !matches!(timeout(TCP_IDLE, stream.write_all(&whole)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// A message, or when it is none, one that stands for it if it can be answered at all: with FORMERR.
fn parse(bytes: &[u8]) -> Result<Message, ()> {
    if let Ok(message) = Message::from_vec(bytes) {
        return Ok(message);
    }
    let (Some([a, b]), Some(flags)) = (bytes.first_chunk::<2>(), bytes.get(2)) else { return Err(()) };
    let is_response = flags & 0x80 != 0;
    if is_response || bytes.len() < 12 {
        return Err(());
    }
    // No question: that is answered with FORMERR.
    Ok(Message::new(u16::from_be_bytes([*a, *b]), MessageType::Query, OpCode::Query))
}

enum Reply {
    Done(Box<Message>),
    /// Ask others for `next`, and add it to what is there.
    Ask {
        reply: Box<Message>,
        next: Question,
    },
    Nothing,
}

impl Core {
    /// What can be said without asking anybody.
    fn local(&self, query: &Message) -> Reply {
        // Answering an answer could go on for ever.
        if query.metadata.message_type != MessageType::Query {
            return Reply::Nothing;
        }
        self.stats.questions.fetch_add(1, Ordering::Relaxed);
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_queries(query.queries.iter().cloned());
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP);
            reply.set_edns(edns);
        }
        let mut done = |code: ResponseCode| {
            let mut reply = std::mem::replace(&mut reply, Message::response(0, OpCode::Query));
            reply.metadata.response_code = code;
            Reply::Done(Box::new(reply))
        };
        if query.metadata.op_code != OpCode::Query {
            return done(ResponseCode::NotImp);
        }
        let [asked] = query.queries.as_slice() else { return done(ResponseCode::FormErr) };
        if asked.query_class != DNSClass::IN {
            return done(ResponseCode::Refused);
        }
        if matches!(asked.query_type, RecordType::AXFR | RecordType::IXFR) {
            return done(ResponseCode::Refused);
        }
        let mut question = Question { name: asked.name.clone(), kind: asked.query_type };
        for _ in 0..MAX_ALIASES {
            match answer(&self.zone, &question) {
                Answer::Records { mut answers, additionals } => {
                    if answers.len() > 1 {
                        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % answers.len();
                        answers.rotate_left(turn);
                    }
                    reply.metadata.authoritative = true;
                    reply.add_answers(answers);
                    reply.add_additionals(additionals);
                    return Reply::Done(Box::new(reply));
                }
                Answer::Alias { record, target } => {
                    reply.metadata.authoritative = true;
                    reply.add_answer(*record);
                    question.name = target;
                }
                Answer::NoData(soa) => {
                    reply.metadata.authoritative = true;
                    reply.add_authority(*soa);
                    return Reply::Done(Box::new(reply));
                }
                Answer::NoSuchName(soa) => {
                    reply.metadata.authoritative = true;
                    reply.metadata.response_code = ResponseCode::NXDomain;
                    reply.add_authority(*soa);
                    return Reply::Done(Box::new(reply));
                }
                Answer::Foreign => return Reply::Ask { reply: Box::new(reply), next: question },
            }
        }
        reply.metadata.response_code = ResponseCode::ServFail;
        Reply::Done(Box::new(reply))
    }

    /// Adds what other servers say about `next`.
    async fn complete(
        &self,
        query: &Message,
        mut reply: Box<Message>,
        next: Question,
        tcp: bool,
    ) -> Box<Message> {
        self.stats.forwarded.fetch_add(1, Ordering::Relaxed);
        let Ok(_permit) = self.waiting.try_acquire() else {
            reply.metadata.response_code = ResponseCode::ServFail;
            return reply;
        };
        let mut onward = query.clone();
        for asked in &mut onward.queries {
            asked.name = next.name.clone();
        }
        match self.resolvers.ask(&onward, tcp).await {
            Ok(answer) => {
                reply.metadata.response_code = answer.metadata.response_code;
                reply.metadata.truncation = answer.metadata.truncation;
                reply.metadata.authentic_data = answer.metadata.authentic_data;
                reply.add_answers(answer.answers);
                reply.add_authorities(answer.authorities);
                reply.add_additionals(answer.additionals);
            }
            Err(why) => {
                self.stats.failed.fetch_add(1, Ordering::Relaxed);
                reply.metadata.response_code = match why {
                    Unanswered::NoServers => ResponseCode::NXDomain,
                    Unanswered::AllFailed => ResponseCode::ServFail,
                };
            }
        }
        reply
    }
}
