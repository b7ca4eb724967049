//! The server's side of WebSocket (RFC 6455): the handshake over HTTP/1.1, and streams that only send.

use std::pin::{Pin, pin};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

pub use tokio_tungstenite::tungstenite::{Error, Message};

/// How a browser, which cannot set headers, hands over its bearer token: among the protocols. Never for anybody
/// but the authenticator.
pub const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// How long a message may be, as in Go's server. A client that streams a file sends far less at a time.
pub(super) const LONGEST_MESSAGE: usize = 32 << 20;
/// The same from clients that have nothing to say.
const LONGEST_IGNORED: usize = 64 << 10;
/// After our last word the client has this long to close. Closed at once, what is on its way could be lost.
const CLOSING: Duration = Duration::from_secs(5);

/// Whether a request asks for WebSocket.
pub fn is_request(headers: &HeaderMap) -> bool {
    let upgrade =
        headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let mut connection = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    upgrade && connection.any(|v| v.to_ascii_lowercase().contains("upgrade"))
}

/// The protocols that a client offers, best first, without its token.
pub fn protocols(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(BEARER_PROTOCOL))
        .collect()
}

/// Whether a request asks for WebSocket with this protocol inside, maybe among others.
pub fn offers(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> bool {
    is_request(headers) && protocols(headers).into_iter().any(wanted)
}

/// Which protocol is spoken: `None` for none at all, or the status of the refusal.
pub type Choice = Result<Option<String>, StatusCode>;

/// The first one that the client offers of those `served`. A client that offers none gets the protocol `""`, if
/// that is served.
pub fn choose(offered: &[&str], served: &[&str]) -> Choice {
    if offered.is_empty() && served.contains(&"") {
        return Ok(None);
    }
    let found = offered.iter().find(|protocol| served.contains(protocol));
    found.map(|protocol| Some((*protocol).to_owned())).ok_or(StatusCode::FORBIDDEN)
}

/// Answers a request for WebSocket: with 101, after which the connection is for [`accept`], or with a refusal, whose
/// body is its reason. Codes and texts are those of Go's `x/net/websocket`.
///
/// # Errors
/// The refusal.
pub fn handshake(
    method: &Method,
    headers: &HeaderMap,
    choose: impl FnOnce(&[&str]) -> Choice,
) -> Result<Response<()>, Box<Response<&'static str>>> {
    let refuse = |code: StatusCode, why: &'static str| {
        let mut refusal = Response::new(why);
        *refusal.status_mut() = code;
        Box::new(refusal)
    };
    if method != Method::GET {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "bad method"));
    }
    if !is_request(headers) {
        return Err(refuse(StatusCode::BAD_REQUEST, "not websocket protocol"));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty()) else {
        return Err(refuse(StatusCode::BAD_REQUEST, "mismatch challenge/response"));
    };
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut refusal = refuse(StatusCode::BAD_REQUEST, "missing or bad WebSocket Version");
        refusal.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(refusal);
    }
    let chosen = choose(&protocols(headers)).map_err(|code| refuse(code, ""))?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let invalid = |_| refuse(StatusCode::BAD_REQUEST, "bad protocol");
    out.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        HeaderValue::from_str(&answer_to(key.as_bytes())).map_err(invalid)?,
    );
    if let Some(protocol) = chosen {
        out.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&protocol).map_err(invalid)?);
    }
    Ok(response)
}

/// RFC 6455, section 4.2.2. SHA-1 is no secret here, it shows that the server has understood.
fn answer_to(key: &[u8]) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finish())
}

/// The server's side of a connection that was answered with 101. Takes messages up to `longest` bytes; answers pings
/// and closes while it is read.
pub(super) async fn accept<C: AsyncRead + AsyncWrite + Unpin>(
    connection: C,
    longest: usize,
) -> WebSocketStream<C> {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(16 << 10)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

/// A message of text; `None` for what is none.
pub fn text(bytes: Bytes) -> Option<Message> {
    Utf8Bytes::try_from(bytes).ok().map(Message::Text)
}

/// The last message.
pub(super) fn close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Lets the client, who was sent [`close`], close. `rest` reads and drops what it still says.
pub(super) async fn wait_for_close(rest: Pin<&mut impl Future<Output = ()>>) {
    let _ = timeout(CLOSING, rest).await;
}

/// Sends messages to a client until there are no more or it goes. What it says is dropped. A slow client is waited
/// for: nothing is taken of `messages` meanwhile.
pub async fn send<C, S>(connection: C, messages: S)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Stream<Item = Message>,
{
    let (mut sink, mut source) = accept(connection, LONGEST_IGNORED).await.split();
    let mut reading = pin!(async { while let Some(Ok(_)) = source.next().await {} });
    let sending = async {
        let mut messages = pin!(messages.map(Ok));
        sink.send_all(&mut messages).await?;
        sink.send(close()).await
    };
    let sent = tokio::select! {
        biased;
        () = &mut reading => return,
        sent = sending => sent,
    };
    if sent.is_ok() {
        wait_for_close(reading).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let line = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
        };
        let mut out = HeaderMap::new();
        text.split("; ").map(line).for_each(|(name, value)| {
            out.append(name, value);
        });
        out
    }

    const GOOD: &str = "upgrade: WebSocket; connection: keep-alive, Upgrade; sec-websocket-version: 13; \
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn handshakes() {
        let v5 = |offered: &[&str]| choose(offered, &["v5.channel.k8s.io"]);
        let ask = |method: &str, text: &str| match handshake(&method.parse().unwrap(), &headers(text), v5) {
            Ok(good) => {
                let header = |name: &str| good.headers()[name].to_str().unwrap().to_owned();
                (101, format!("{} {}", header("sec-websocket-accept"), header("sec-websocket-protocol")))
            }
            Err(refusal) => (refusal.status().as_u16(), (*refusal.body()).to_owned()),
        };
        let with = |more: &str| format!("{GOOD}; sec-websocket-protocol: {more}");
        let without = |name: &str| {
            let kept: Vec<&str> = GOOD.split("; ").filter(|line| !line.starts_with(name)).collect();
            kept.join("; ")
        };
        let good = (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo= v5.channel.k8s.io".to_owned());
        let bad = |code: u16, why: &str| (code, why.to_owned());
        for (method, text, expect) in [
            // The example of the RFC.
            ("GET", with("v5.channel.k8s.io"), good.clone()),
            ("GET", with("v9.channel.k8s.io, v5.channel.k8s.io, v4.channel.k8s.io"), good.clone()),
            ("GET", with("base64url.bearer.authorization.k8s.io.eA, v5.channel.k8s.io"), good),
            ("GET", with("base64url.bearer.authorization.k8s.io.eA"), bad(403, "")),
            ("GET", with("v4.channel.k8s.io"), bad(403, "")),
            ("GET", GOOD.to_owned(), bad(403, "")),
            ("POST", with("v5.channel.k8s.io"), bad(405, "bad method")),
            ("GET", without("sec-websocket-key"), bad(400, "mismatch challenge/response")),
            ("GET", without("sec-websocket-version"), bad(400, "missing or bad WebSocket Version")),
            ("GET", without("connection"), bad(400, "not websocket protocol")),
            ("GET", without("upgrade"), bad(400, "not websocket protocol")),
        ] {
            assert_eq!(ask(method, &text), expect, "{method} {text}");
        }
    }

    #[test]
    fn which_protocol() {
        let reader = ["", "binary.k8s.io", "base64.binary.k8s.io"];
        for (offered, expect) in [
            (&[][..], Ok(None)),
            (&["x", "base64.binary.k8s.io", "binary.k8s.io"], Ok(Some("base64.binary.k8s.io".to_owned()))),
            (&["x"], Err(StatusCode::FORBIDDEN)),
        ] {
            assert_eq!(choose(offered, &reader), expect, "{offered:?}");
        }
    }
}
