//! What carries a request to an API server.

mod http_transport;
mod tls;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Empty, Full};

pub use http_transport::HttpTransport;

/// Any error of a body or of what lies beneath a transport.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Carries requests. The URI of a request is path and query; the transport knows the server and who asks.
/// Implemented over HTTP by [`HttpTransport`] and in process by the binary.
pub trait Transport: Send + Sync {
    /// Sends one request and answers once the head of the response is there. Dropping the future, or the
    /// body of the response, ends the request.
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, TransportError>>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The configuration cannot be used: files that do not read, certificates that do not parse.
    #[error("{what}")]
    Config {
        /// What cannot be used.
        what: String,
        /// Why.
        source: BoxError,
    },
    /// No connection.
    #[error("connecting to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        source: BoxError,
    },
    /// The connection broke, or the peer does not speak HTTP.
    #[error("exchanging messages with the server")]
    Exchange {
        /// Why.
        source: BoxError,
    },
    /// The body of the answer broke off.
    #[error("reading the answer")]
    Body {
        /// Why.
        source: BoxError,
    },
}

impl TransportError {
    pub(crate) fn body(source: BoxError) -> TransportError {
        TransportError::Body { source }
    }

    pub(crate) fn exchange(source: impl Into<BoxError>) -> TransportError {
        TransportError::Exchange { source: source.into() }
    }

    pub(crate) fn config(what: impl Into<String>, source: impl Into<BoxError>) -> TransportError {
        TransportError::Config { what: what.into(), source: source.into() }
    }
}

/// A body with nothing in it.
pub fn empty_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of known bytes.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
