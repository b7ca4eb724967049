//! Why a request did not give what it was asked for.

use apimachinery::status::{Status, reason};

use crate::TransportError;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `Status` (or with something else that is not a success; then the status is
    /// made from the HTTP code and `message` holds the start of the body).
    #[error("{0}")]
    Status(Box<Status>),
    /// No answer: connection, TLS, timeouts.
    #[error("sending the request")]
    Transport(#[from] TransportError),
    /// An answer, but not one that reads as the kind asked for.
    #[error("decoding the answer: {what}")]
    Decode {
        /// What was wrong with it.
        what: String,
    },
    /// The request itself could not be made (an object without a name, a value that has no JSON form).
    #[error("making the request: {what}")]
    Request {
        /// What was wrong with it.
        what: String,
    },
}

impl Error {
    pub(crate) fn decode(error: impl std::fmt::Display) -> Error {
        Error::Decode { what: error.to_string() }
    }

    pub(crate) fn request(error: impl std::fmt::Display) -> Error {
        Error::Request { what: error.to_string() }
    }

    /// The `Status` that the server answered with, if it did.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Status(status) => Some(status),
            _ => None,
        }
    }

    /// `Status.reason`, empty if there is none.
    pub fn reason(&self) -> &str {
        self.status().map(|s| s.reason.as_ref()).unwrap_or_default()
    }

    /// `Status.code`, 0 if there is none.
    pub fn code(&self) -> u16 {
        self.status().map(|s| s.code).unwrap_or_default()
    }

    /// 404: the object, or the kind, is not there.
    pub fn is_not_found(&self) -> bool {
        self.reason() == reason::NOT_FOUND || (self.reason().is_empty() && self.code() == 404)
    }

    /// 409 because the resourceVersion or a precondition no longer holds.
    pub fn is_conflict(&self) -> bool {
        self.reason() == reason::CONFLICT
    }

    /// 409 because an object of that name is there.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == reason::ALREADY_EXISTS
    }

    /// 410: the resourceVersion or the continue token is too old.
    pub fn is_gone(&self) -> bool {
        self.code() == 410 || matches!(self.reason(), reason::GONE | reason::EXPIRED)
    }

    /// 422.
    pub fn is_invalid(&self) -> bool {
        self.reason() == reason::INVALID
    }

    /// 403.
    pub fn is_forbidden(&self) -> bool {
        self.reason() == reason::FORBIDDEN
    }

    /// 403 because the namespace is being deleted (cause `NamespaceTerminating`): retrying is pointless.
    pub fn is_namespace_terminating(&self) -> bool {
        self.is_forbidden() && self.has_cause("NamespaceTerminating")
    }

    /// Whether `Status.details.causes` names this reason.
    pub fn has_cause(&self, reason: &str) -> bool {
        self.status()
            .and_then(|s| s.details.as_ref())
            .is_some_and(|details| details.causes.iter().any(|cause| cause.kind == reason))
    }

    /// The error with the causes beneath it, for a log line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}
