//! Errors of the store.

use std::fmt;
use std::sync::Arc;

use c3_types::Invalid;

use crate::availability::Unavailable;

/// A failed read or write of a stored object. Cheap to clone, since callers that share one read share its error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("{object} is missing")]
    Missing {
        /// Key of the object.
        object: String,
    },
    /// The object is not as it was written: a checksum, length or field is wrong.
    #[error("{object} is damaged: {problem}")]
    Damaged {
        /// Key of the object.
        object: String,
        /// The check that failed.
        problem: String,
    },
    /// Garbage collection claimed an object while a document that refers to it was being stored.
    #[error("{object} was garbage-collected while the text was stored: put it again")]
    Collected {
        /// Key of the object.
        object: String,
    },
    /// The gateway is shutting down.
    #[error("the gateway is shutting down: put the text again")]
    ShuttingDown,
    /// The backend cannot serve the request at the moment.
    #[error("{reason} ({source})")]
    Unavailable {
        /// The cause, as far as a caller can act on it.
        reason: Unavailable,
        /// The backend's own error; may contain paths and addresses.
        source: Arc<object_store::Error>,
    },
    /// Any other error of the backend.
    #[error("store: {0}")]
    Io(Arc<object_store::Error>),
}

impl Error {
    /// Returns the error for an object that fails a check.
    pub(crate) fn damaged(key: &impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Damaged { object: key.to_string(), problem: problem.into() }
    }

    /// Returns the error for an object whose payload does not decode.
    pub(crate) fn invalid(key: &impl fmt::Display, invalid: &Invalid) -> Self {
        Self::damaged(key, invalid.to_string())
    }

    /// Returns the error for a failed request about one object.
    pub(crate) fn from_backend(key: &impl fmt::Display, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { object: key.to_string() },
            error => Self::from(error),
        }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        match Unavailable::classify(&error) {
            Some(reason) => Self::Unavailable { reason, source: Arc::new(error) },
            None => Self::Io(Arc::new(error)),
        }
    }
}

/// A store or cache that cannot be opened. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder or object store cannot be written.
    #[error("data folder {folder} is not writable ({reason}): give another with --data, or change its permissions")]
    Data {
        /// The folder, or the URL of the object store.
        folder: String,
        /// The error of the system or of the object store.
        reason: String,
    },
    /// The Redis URL is not valid.
    #[error("--redis: {0}")]
    Redis(String),
}
