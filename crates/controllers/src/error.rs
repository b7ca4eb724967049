//! Why a sync did not come to its end.

/// A sync that must be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{doing}")]
    Client {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: client::Error,
    },
    /// Something is not as it must be to go on, and is expected to become so.
    #[error("{0}")]
    NotYet(String),
    /// The store does not show yet what was written: the next try comes in milliseconds.
    #[error("the informer's store is behind what was written: {0}")]
    Behind(String),
}

/// What a sync answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what a request was for.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for client::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Client { doing: what(), source })
    }
}

impl Error {
    /// The error of the request beneath it.
    pub fn client(&self) -> Option<&client::Error> {
        match self {
            Error::Client { source, .. } => Some(source),
            Error::NotYet(_) | Error::Behind(_) => None,
        }
    }

    /// With its causes, for a log line.
    pub fn chain(&self) -> String {
        match self {
            Error::Client { doing, source } => format!("{doing}: {}", source.chain()),
            other => other.to_string(),
        }
    }

    /// Whether it is an ordinary race, which the next try settles and nobody needs to hear of.
    pub fn is_race(&self) -> bool {
        self.is_conflict() || matches!(self, Error::Behind(_))
    }

    /// Whether another writer was faster.
    pub fn is_conflict(&self) -> bool {
        self.client().is_some_and(|error| error.is_conflict())
    }
}
