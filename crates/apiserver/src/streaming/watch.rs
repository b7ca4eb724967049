//! Watches over WebSocket: each event is a message, text for JSON, binary for protobuf (upstream's
//! `WatchServer.HandleWS`).

use bytes::{Buf as _, Bytes, BytesMut};
use client::streaming::websocket::{self, Message};
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;

use super::take_over;
use crate::{
    negotiation::Format,
    server::{Body, body},
};

/// A watch that a client asked for over WebSocket: `answer` is the watch over HTTP.
pub(crate) fn watch(
    method: &Method,
    headers: &HeaderMap,
    upgrade: OnUpgrade,
    answer: Response<Body>,
) -> Response<Body> {
    if !answer.status().is_success() {
        return answer;
    }
    let choose = |offered: &[&str]| match offered {
        // Only browsers are thought of, and they say where they come from.
        _ if !has_origin(headers) => Err(StatusCode::FORBIDDEN),
        [] => Ok(None),
        // Whatever it is called.
        [one] => Ok(Some((*one).to_owned())),
        _ => Err(StatusCode::BAD_REQUEST),
    };
    let switched = match websocket::handshake(method, headers, choose) {
        Ok(switched) => switched,
        Err(refusal) => return refusal.map(body),
    };
    let kind = answer.headers().get(header::CONTENT_TYPE).map(|v| v.as_bytes()).unwrap_or_default();
    let protobuf = kind.starts_with(Format::Protobuf.media_type().as_bytes());
    let mut frames = Frames { buffer: BytesMut::new(), protobuf };
    let message = move |frame: Bytes| match (protobuf, frame) {
        (true, frame) => Some(Message::Binary(frame)),
        (false, frame) => websocket::text(frame),
    };
    let messages = super::bytes_of(answer.into_body())
        .flat_map(move |bytes| {
            frames.buffer.extend_from_slice(&bytes);
            stream::iter(std::iter::from_fn(|| frames.next()).collect::<Vec<_>>())
        })
        .filter_map(move |frame| std::future::ready(message(frame)));
    take_over(upgrade, async move |connection| websocket::send(connection, messages).await);
    switched.map(|()| body(Bytes::new()))
}

/// Go's check: an address, or at least a path.
fn has_origin(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|v| v.to_str().ok());
    origin.is_some_and(|origin| {
        origin.starts_with('/') || origin.parse::<Uri>().is_ok_and(|uri| uri.scheme().is_some())
    })
}

/// Finds the events in what a watch over HTTP sends.
struct Frames {
    buffer: BytesMut,
    /// A length in four bytes before each; else a line each.
    protobuf: bool,
}

impl Frames {
    fn next(&mut self) -> Option<Bytes> {
        if self.protobuf {
            let length = u32::from_be_bytes(*self.buffer.first_chunk()?) as usize;
            if self.buffer.len() < 4 + length {
                return None;
            }
            self.buffer.advance(4);
            return Some(self.buffer.split_to(length).freeze());
        }
        let end = memchr::memchr(b'\n', &self.buffer)?;
        Some(self.buffer.split_to(end + 1).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_a_stream() {
        for (protobuf, stream, expect) in [
            (false, &b"{\"a\":1}\n{\"b\":2}\n{\"c"[..], &[&b"{\"a\":1}\n"[..], b"{\"b\":2}\n"][..]),
            (true, b"\0\0\0\x02hi\0\0\0\0\0\0\0\x05late", &[b"hi", b""]),
        ] {
            for size in [1, 3, stream.len()] {
                let mut frames = Frames { buffer: BytesMut::new(), protobuf };
                let mut got = Vec::new();
                for part in stream.chunks(size) {
                    frames.buffer.extend_from_slice(part);
                    got.extend(std::iter::from_fn(|| frames.next()));
                }
                assert_eq!(got, expect, "{size}");
            }
        }
    }

    #[test]
    fn origins() {
        for (origin, expect) in [
            (None, false),
            (Some("null"), false),
            (Some("http://127.0.0.1"), true),
            (Some("https://example.org:8443"), true),
            (Some("/"), true),
            (Some("example"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
            assert_eq!(has_origin(&headers), expect, "{origin:?}");
        }
    }
}
