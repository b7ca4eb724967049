//! The server itself: what it is built from, who can talk to it, and how a request goes through it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

use crate::request::UserInfo;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bodies in both directions.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of known bytes.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Who is at the other end of a connection, as far as the connection tells.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Over TLS. The certificates are what the client sent, leaf first, in DER and *not verified*: that is the
    /// authenticator's part.
    Tls { address: SocketAddr, certificates: std::sync::Arc<[Vec<u8>]> },
    /// In this process, with an identity given by the wiring; authorization and admission apply as to anybody.
    Identity(UserInfo),
    /// In this process or a test, without an identity: only headers can authenticate it.
    Plain,
}
