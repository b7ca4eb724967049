//! Why an evaluation gives no value.

use std::sync::Arc;

use crate::library::authz::Check;

/// Cheap to copy: an error is a value to `||`, `&&` and the quantifiers until something else decides.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The expression failed, in words for its author.
    #[error("{0}")]
    Evaluation(Arc<str>),
    /// It cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    /// A decision is not known yet: the caller finds it out and evaluates again.
    #[error("waiting for an authorization decision")]
    Undecided(Arc<Check>),
}

impl Error {
    pub fn new(text: impl AsRef<str>) -> Error {
        Error::Evaluation(text.as_ref().into())
    }

    pub fn no_such_overload() -> Error {
        Error::new("no such overload")
    }

    /// Whether evaluation must end here, whatever `||` and `&&` make of errors.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Error::Evaluation(_))
    }
}
