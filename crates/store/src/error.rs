//! Errors of the store.

use std::fmt;
use std::io;
use std::sync::Arc;

use c3_types::Invalid;

use crate::availability::{FOLDER, Unavailable};
use crate::encryption::KeyError;

/// Error of an operation of the store. Cheap to clone, so that each of several callers that wait for the same read can
/// return the error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("{object} is missing")]
    Missing {
        /// Key of the object.
        object: String,
    },
    /// The object differs from what was written: a checksum, length or field is wrong.
    #[error("{object} is damaged: {problem}")]
    Damaged {
        /// Key of the object.
        object: String,
        /// The check that failed.
        problem: String,
    },
    /// While a document was being stored, garbage collection removed an object to which the document refers, or
    /// scheduled its removal.
    #[error("{object} was garbage-collected while the text was being stored: put the text again")]
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
        /// Cause on which a caller or an operator can act.
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

    /// Converts an error of this crate's own operations on a local folder.
    pub(crate) fn from_io(source: io::Error) -> Self {
        object_store::Error::Generic { store: FOLDER, source: source.into() }.into()
    }

    /// Returns the error for a store that is unavailable for `reason`. Only the log contains `details`.
    pub(crate) fn unavailable(reason: Unavailable, details: String) -> Self {
        let source = object_store::Error::Generic { store: FOLDER, source: details.into() };
        Self::Unavailable { reason, source: Arc::new(source) }
    }

    /// Returns the innermost error's message, on one line.
    pub(crate) fn root_cause(&self) -> String {
        let outermost: &(dyn std::error::Error + 'static) = match self {
            Self::Unavailable { source, .. } | Self::Io(source) => source.as_ref(),
            error => error,
        };
        let last = std::iter::successors(Some(outermost), |error| error.source()).last();
        let message = last.map_or_else(String::new, ToString::to_string);
        message.lines().collect::<Vec<_>>().join(" ")
    }

    /// Returns whether the disk or a quota is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Unavailable { reason: Unavailable::Full, .. })
    }

    /// Converts a backend's error of a request for one object. "Not found" becomes [`Error::Missing`].
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

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Backend(error) => match Unavailable::classify(&error) {
                Some(reason) => Self::Unavailable { reason, source: error },
                None => Self::Io(error),
            },
            KeyError::Destroyed => Self::unavailable(Unavailable::Shredded, error.to_string()),
            error => Self::unavailable(Unavailable::NoKey, error.to_string()),
        }
    }
}

/// Error of opening the store or the Redis cache. Its message is a single line.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder or object store cannot be opened or written.
    #[error("data folder {folder} is not writable ({reason}): give another with --data, or change its permissions")]
    Data {
        /// The folder, or the URL of the object store.
        folder: String,
        /// Error of the operating system or of the object store.
        reason: String,
    },
    /// The store's keys cannot be loaded.
    #[error("store {folder}: {reason}")]
    Encrypted {
        /// The folder, or the URL of the object store.
        folder: String,
        /// The fault of the keys.
        reason: String,
    },
    /// The master key cannot be used.
    #[error("{0}")]
    MasterKey(String),
    /// The Redis URL is not valid.
    #[error("--redis: {0}")]
    Redis(String),
}
