//! Asking other servers what is not ours.

use apimachinery::clock::Entropy;
use hickory_proto::op::Message;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a server that did not answer is left alone.
const REST: Duration = Duration::from_secs(10);
const MAX_UDP: usize = 4096;

/// The node's resolvers, in order. One that does not answer rests for a while, so that only the first of many
/// questions waits for it.
pub struct Resolvers {
    servers: Vec<Server>,
    entropy: Arc<dyn Entropy>,
}

struct Server {
    address: SocketAddr,
    resting_until: Mutex<Option<Instant>>,
}

/// Why there is no answer from anybody.
#[derive(Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody to ask.
    NoServers,
    /// All that were asked failed, or rest.
    AllFailed,
}

/// The `nameserver` lines of a resolv.conf (resolv.conf(5)), without those that lead back to ourselves.
/// Whatever does not parse is passed over.
pub fn parse_resolv_conf(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        // A zone index (fe80::1%eth0) names an interface; such servers cannot be told apart without it.
        address.parse::<IpAddr>().ok()
    });
    servers.filter(|a| !own.contains(a)).map(|a| SocketAddr::new(a, 53)).collect()
}

impl Resolvers {
    pub fn new(servers: Vec<SocketAddr>, entropy: Arc<dyn Entropy>) -> Self {
        let servers =
            servers.into_iter().map(|address| Server { address, resting_until: Mutex::new(None) }).collect();
        Resolvers { servers, entropy }
    }

    /// Asks one server after the other. The answer has the identifier of `query`.
    pub async fn ask(&self, query: &Message, tcp: bool) -> Result<Message, Unanswered> {
        if self.servers.is_empty() {
            return Err(Unanswered::NoServers);
        }
        for server in &self.servers {
            if !server.may_be_asked() {
                continue;
            }
            // An identifier of our own: the client's could be guessed by whoever forges answers.
            let mut id = [0; 2];
            self.entropy.fill(&mut id);
            let mut question = query.clone();
            question.metadata.id = u16::from_ne_bytes(id);
            let asked = timeout(PATIENCE, async {
                if tcp {
                    ask_tcp(server.address, &question).await
                } else {
                    ask_udp(server.address, &question).await
                }
            });
            match asked.await {
                Ok(Ok(mut answer)) => {
                    server.recovered();
                    answer.metadata.id = query.metadata.id;
                    return Ok(answer);
                }
                Ok(Err(error)) => tracing::debug!(server = %server.address, %error, "a resolver failed"),
                Err(_) => tracing::debug!(server = %server.address, "a resolver did not answer"),
            }
            server.rest();
        }
        Err(Unanswered::AllFailed)
    }
}

impl Server {
    /// When a rest is over, one question tries the server; the others go on without it until that is answered.
    fn may_be_asked(&self) -> bool {
        let now = Instant::now();
        let mut until = self.resting_until.lock().unwrap_or_else(|e| e.into_inner());
        match *until {
            None => true,
            Some(end) if now < end => false,
            Some(_) => {
                *until = Some(now + REST);
                true
            }
        }
    }

    fn recovered(&self) {
        *self.resting_until.lock().unwrap_or_else(|e| e.into_inner()) = None;
    }

    fn rest(&self) {
        *self.resting_until.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now() + REST);
    }
}

/// Whether `answer` belongs to `question`: anybody can send datagrams.
fn fits(question: &Message, answer: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == hickory_proto::op::MessageType::Response
        && answer.queries == question.queries
}

fn encode(message: &Message) -> io::Result<Vec<u8>> {
    message.to_vec().map_err(io::Error::other)
}

async fn ask_udp(server: SocketAddr, question: &Message) -> io::Result<Message> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket, and so a source port, per question; connected, so that refusals are heard at once.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&encode(question)?).await?;
    let mut buffer = vec![0; MAX_UDP];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match buffer.get(..length).map(Message::from_vec) {
            Some(Ok(answer)) if fits(question, &answer) => return Ok(answer),
            _ => continue,
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let bytes = encode(question)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if fits(question, &answer) { Ok(answer) } else { Err(io::Error::other("an answer to another question")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_rests_and_is_tried_by_one() {
        let resolvers = Resolvers::new(vec!["127.0.0.1:1".parse().unwrap()], Arc::new(Zeros));
        let server = &resolvers.servers[0];
        assert!(server.may_be_asked() && server.may_be_asked());
        server.rest();
        assert!(!server.may_be_asked());
        tokio::time::advance(REST).await;
        assert!(server.may_be_asked() && !server.may_be_asked());
        server.recovered();
        assert!(server.may_be_asked() && server.may_be_asked());
        let none = Resolvers::new(vec![], Arc::new(Zeros));
        let query = Message::query();
        assert_eq!(none.ask(&query, false).await.unwrap_err(), Unanswered::NoServers);
    }

    #[test]
    fn resolv_conf() {
        let text = "# x\nsearch a b\nnameserver 10.0.0.1\n nameserver  fd00::1 # y\nnameserver 10.244.0.1\nnameserver\nnameserver x\nnameserver fe80::1%eth0\noptions ndots:5\n";
        let own = ["10.244.0.1".parse().unwrap()];
        let want: Vec<SocketAddr> = ["10.0.0.1:53", "[fd00::1]:53"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(parse_resolv_conf(text, &own), want);
    }
}
