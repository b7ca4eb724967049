//! The three ways to change an object by a patch: [`json`] (RFC 6902), [`merge`] (RFC 7386) and
//! [`strategic`] (Kubernetes' own, which knows how lists merge).
//!
//! All work on values and leave checking and defaulting of the result to the caller. Server-side apply is
//! not a patch in this sense: see [`crate::managed_fields`].

pub mod json;
pub mod merge;
pub mod strategic;

use crate::status::{Status, reason};

/// Why a patch cannot be carried out, sorted by how the server answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the patch itself is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// 413: too many operations.
    #[error("{0}")]
    TooLarge(String),
    /// 422: the patch does not fit the object. The answer does not say why, as upstream's does not.
    #[error("{0}")]
    Unprocessable(String),
    /// 500 without a reason: what upstream does not sort.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// The answer to the request.
    pub fn to_status(&self) -> Status {
        match self {
            Error::BadRequest(message) => Status::bad_request(message.as_str()),
            Error::TooLarge(message) => Status::request_entity_too_large(message),
            Error::Unprocessable(message) => {
                Status::generic_server_response(422, "", ("", "", ""), message, 0, false)
            }
            Error::Other(message) => Status::failure(500, "", message.as_str()),
        }
    }

    /// Whether it is the client's fault.
    pub fn is_client(&self) -> bool {
        !matches!(self, Error::Other(_)) && self.to_status().reason != reason::INTERNAL_ERROR
    }
}
