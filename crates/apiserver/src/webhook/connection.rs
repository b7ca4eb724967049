//! The connections to one webhook server.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apimachinery::status::Status;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use super::tls;

/// Go's: idle connections to one host, and how long they stay.
const IDLE: usize = 25;
const IDLE_TIME: Duration = Duration::from_secs(90);

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    Host { host: String, port: u16 },
    Service { namespace: String, name: String, port: u16 },
}

/// What went wrong: before an answer began, or within it.
pub enum Fault {
    Before(String),
    Within(String),
}

type Own = http1::SendRequest<Full<Bytes>>;
type Shared = http2::SendRequest<Full<Bytes>>;

/// A server, and the connections to it.
pub struct Peer {
    /// Host and port as they stand in addresses and errors.
    pub authority: String,
    pub at: At,
    name: ServerName<'static>,
    tls: TlsConnector,
    idle: Mutex<Vec<(Own, Instant)>>,
    shared: Mutex<Option<Shared>>,
}

enum Connection {
    Own(Own),
    Shared(Shared),
}

/// How a service's endpoint is found.
pub type Locate<'a> = &'a (dyn Fn() -> Result<(String, u16), Status> + Sync);

impl Peer {
    /// `host` is whom the certificate must be for.
    ///
    /// # Errors
    /// A bundle or a host that is none.
    pub fn new(authority: String, host: &str, at: At, bundle: &[u8]) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let is_here = match &name {
            ServerName::DnsName(name) => name.as_ref().eq_ignore_ascii_case("localhost"),
            ServerName::IpAddress(ip) => std::net::IpAddr::from(*ip).is_loopback(),
            _ => false,
        };
        let tls = TlsConnector::from(tls::client_config(bundle, is_here)?);
        Ok(Self { authority, at, name, tls, idle: Mutex::default(), shared: Mutex::default() })
    }

    /// Posts, and reads the whole answer if it is no larger than `largest`.
    pub async fn post(
        self: &Arc<Self>,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
        largest: usize,
        locate: Locate<'_>,
    ) -> Result<Response<Bytes>, Fault> {
        loop {
            let (connection, used) = match self.waiting() {
                Some(waiting) => (waiting, true),
                None => (self.dial(locate).await.map_err(Fault::Before)?, false),
            };
            let request =
                self.request(path_and_query, &headers, &body, &connection).map_err(Fault::Before)?;
            let sent = match connection {
                Connection::Own(mut own) => match own.ready().await {
                    Ok(()) => own.send_request(request).await.map(|answer| (answer, Some(own))),
                    Err(error) => Err(error),
                },
                Connection::Shared(mut shared) => match shared.ready().await {
                    Ok(()) => shared.send_request(request).await.map(|answer| (answer, None)),
                    Err(error) => Err(error),
                },
            };
            match sent {
                Ok((answer, own)) => return self.read(answer, own, largest).await,
                // It was closed while it waited, before the request left.
                Err(error) if used && (error.is_canceled() || error.is_closed()) => {}
                Err(error) => return Err(Fault::Before(why(&error))),
            }
        }
    }

    async fn read(
        &self,
        answer: Response<Incoming>,
        own: Option<Own>,
        largest: usize,
    ) -> Result<Response<Bytes>, Fault> {
        let (parts, mut incoming) = answer.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| Fault::Within(why(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if body.len() + data.len() > largest {
                return Err(Fault::Within(format!("the body is larger than {largest} bytes")));
            }
            body.extend_from_slice(&data);
        }
        if let Some(own) = own {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
                idle.push((own, Instant::now()));
            }
        }
        Ok(Response::from_parts(parts, body.freeze()))
    }

    fn waiting(&self) -> Option<Connection> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(open) if !open.is_closed() => return Some(Connection::Shared(open.clone())),
            Some(_) => *shared = None,
            None => {}
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(own, since)| !own.is_closed() && since.elapsed() < IDLE_TIME);
        idle.pop().map(|(own, _)| Connection::Own(own))
    }

    async fn dial(&self, locate: Locate<'_>) -> Result<Connection, String> {
        let (host, port) = locate().map_err(|status| status.message)?;
        let stream = TcpStream::connect((&*host, port)).await.map_err(|e| undialled(&host, port, &e))?;
        let _ = stream.set_nodelay(true);
        let stream = self.tls.connect(self.name.clone(), stream).await.map_err(|e| tls::fault(&e))?;
        let ended = |error: hyper::Error| tracing::debug!(%error, "a connection to a webhook ended");
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| why(&error))?;
            tokio::spawn(async move { connection.await.unwrap_or_else(ended) });
            *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
            return Ok(Connection::Shared(sender));
        }
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| why(&error))?;
        tokio::spawn(async move { connection.await.unwrap_or_else(ended) });
        Ok(Connection::Own(sender))
    }

    fn request(
        &self,
        path_and_query: &str,
        headers: &HeaderMap,
        body: &Bytes,
        connection: &Connection,
    ) -> Result<Request<Full<Bytes>>, String> {
        let uri = match connection {
            Connection::Own(_) => path_and_query.parse::<Uri>(),
            Connection::Shared(_) => format!("https://{}{path_and_query}", self.authority).parse(),
        };
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri.map_err(|e| e.to_string())?;
        *request.headers_mut() = headers.clone();
        if matches!(connection, Connection::Own(_)) {
            let host = HeaderValue::from_str(&self.authority).map_err(|e| e.to_string())?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }
}

/// In Go's words.
fn undialled(host: &str, port: u16, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let at = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let why = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        ErrorKind::ConnectionReset => "connect: connection reset by peer".to_owned(),
        _ if error.raw_os_error().is_none() => return format!("dial tcp: lookup {host}: no such host"),
        _ => error.to_string(),
    };
    format!("dial tcp {at}: {why}")
}

/// In Go's words, as far as there are any.
fn why(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
